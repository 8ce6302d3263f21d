"""Data and objectives: what the benchmarks fit, and how good a fit is."""

import importlib.util
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler
from smoke import sized

N_SAMPLES = sized(200_000, 400)
ALPHA = 1e-4  # the default of the estimators, and the same objective for every peer


def loader(folder):
    """The module load.py of a data folder: load(name) -> dict(X, y, task, ...), NAMES."""
    spec = importlib.util.spec_from_file_location("benchmark_data", Path(folder) / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def has_data(folder):
    return folder is not None and (Path(folder) / "load.py").is_file()


def load(folder, name, dtype=np.float64):
    """X of this dtype (dense without missing values, or CSR) and y of a data set."""
    stored = loader(folder).load(name)
    X = stored["X"].astype(dtype)
    if not sparse.issparse(X) and np.isnan(X).any():
        X = SimpleImputer(strategy="median").fit_transform(X)
    return X, stored["y"]


def scale(X):
    """Standardised features; sparse ones are scaled, not centred."""
    return StandardScaler(with_mean=not sparse.issparse(X)).fit_transform(X)


def encode(y, is_regression):
    """Standardised targets, so that alpha means the same everywhere, or the numbers of the classes."""
    return (y - y.mean()) / y.std() if is_regression else np.unique(y, return_inverse=True)[1]


def logistic_data(n_samples=N_SAMPLES, n_features=100, dtype=np.float64):
    """Standard normal features and labels from a logistic model."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_samples, n_features))
    w = rng.standard_normal(n_features) / np.sqrt(n_features)
    y = (rng.random(n_samples) < 1 / (1 + np.exp(-X @ w))).astype(np.int64)
    return X.astype(dtype), y


def penalty(coef, alpha=ALPHA):
    return alpha / 2 * float(np.sum(np.square(coef, dtype=np.float64)))


def log_loss(raw, y):
    """Mean log-loss of decision values, (n,) or (n, k), for the labels 0, 1, ... of y."""
    raw = np.asarray(raw, dtype=np.float64)
    if raw.ndim == 1:
        return float(np.mean(np.logaddexp(0, np.where(y == 1, -raw, raw))))
    shifted = raw - raw.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]))


def log_loss_of_constant(y):
    """Mean log-loss of the best constant: the entropy of the labels."""
    share = np.bincount(y) / len(y)
    share = share[share > 0]
    return float(-np.sum(share * np.log(share)))


def half_squared_error(raw, y):
    return float(np.mean(np.square(np.asarray(raw, dtype=np.float64) - y)) / 2)


def classifier_objective(coef, intercept, X, y, alpha=ALPHA):
    """F(w) = mean log-loss + alpha/2 |w|^2 of a binary or multinomial linear model."""
    coef = np.atleast_2d(np.asarray(coef, dtype=np.float64))
    raw = X @ coef.T + np.ravel(np.asarray(intercept, dtype=np.float64))
    return log_loss(raw[:, 0] if raw.shape[1] == 1 else raw, y) + penalty(coef, alpha)


def regressor_objective(coef, intercept, X, y, alpha=ALPHA):
    """F(w) = mean (y - x w - b)^2 / 2 + alpha/2 |w|^2."""
    coef = np.ravel(np.asarray(coef, dtype=np.float64))
    return half_squared_error(X @ coef + float(np.ravel(intercept)[0]), y) + penalty(coef, alpha)


def least_squares_optimum(X, y, alpha=ALPHA):
    """The least value of `regressor_objective` on dense X, in closed form.

    It is solved in standardised coordinates v = w * scale, where the normal equations are well conditioned
    however the features are scaled: (Z'Z/n + alpha diag(scale^-2)) v = Z'(y - mean y)/n.
    """
    scale = X.std(axis=0)
    scale[scale == 0] = 1.0
    Z = (X - X.mean(axis=0)) / scale
    # eigh of the equilibrated matrix would do as well; lstsq survives exactly collinear one-hot columns.
    A = Z.T @ Z / len(y) + alpha * np.diag(scale**-2.0)
    v = np.linalg.lstsq(A, Z.T @ (y - y.mean()) / len(y), rcond=None)[0]
    w = v / scale
    return regressor_objective(w, y.mean() - X.mean(axis=0) @ w, X, y, alpha)
