"""Data and objectives: what the benchmarks fit, and how good a fit is."""

import importlib.util
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler, normalize
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


# Generated problems: each returns X, y, the task ("classification" or "regression") and weights of the rows or None.


def logistic_labels(rng, raw):
    return (rng.random(len(raw)) < 1 / (1 + np.exp(-raw))).astype(np.int64)


def balanced(ratio=1000, n_samples=40_000, n_features=20, shift=1.95):
    """One positive in `ratio`, a normal cloud beside the other one, and weights with which both classes weigh the same."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(1)
    n_positive = max(n_samples // ratio, 4)
    y = np.zeros(n_samples, dtype=np.int64)
    y[rng.choice(n_samples, n_positive, replace=False)] = 1
    X = rng.standard_normal((n_samples, n_features))
    X[:, 0] += shift * y
    return X, y, "classification", balanced_weights(y)


def balanced_weights(y):
    counts = np.bincount(y)
    return (len(y) / (len(counts) * counts))[y]


def imbalanced(n_samples=40_000):
    """One positive in 100, without weights."""
    n_samples = sized(n_samples, 300)
    X, y, task, _ = balanced(100, n_samples)
    return X, y, task, None


def leverage(n_samples=20_000, n_features=10, n_long=20, length=30, noise=2.0):
    """Some rows are long, and follow another model than the others."""
    n_samples = sized(n_samples, 200)
    rng = np.random.default_rng(2)
    X = rng.standard_normal((n_samples, n_features))
    w, other = rng.standard_normal((2, n_features)) / np.sqrt(n_features)
    y = X @ w + noise * rng.standard_normal(n_samples)
    long = rng.choice(n_samples, n_long, replace=False)
    X[long] *= length
    y[long] = X[long] @ (w + other) / 2
    return X, y, "regression", None


def heavy_tailed(n_samples=45_000, n_features=6, longest=1500):
    """Labels of a logistic model; one row has `longest` times the mean squared length."""
    n_samples = sized(n_samples, 2_000)
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n_samples, n_features)) * np.exp(0.7 * rng.standard_normal((n_samples, 1)))
    y = logistic_labels(rng, X @ rng.standard_normal(n_features) / np.sqrt(n_features))
    lengths = np.square(X).sum(axis=1)
    others = lengths.sum() - lengths[n_samples // 3]
    X[n_samples // 3] *= np.sqrt(longest * others / (n_samples - longest) / lengths[n_samples // 3])
    return X, y, "classification", None


def ill_conditioned(n_samples=46_000, n_features=9, condition=4000):
    """Features whose covariance has this condition number, and a signal in every direction."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(4)
    Q = np.linalg.qr(rng.standard_normal((n_features, n_features)))[0]
    deviations = np.geomspace(1, condition**-0.5, n_features)
    parts = rng.standard_normal((n_samples, n_features))
    X = (parts * deviations) @ Q.T
    y = parts @ rng.choice([-1.0, 1.0], n_features) / np.sqrt(n_features) + rng.standard_normal(n_samples)
    return X, y, "regression", None


def rare_counts(n_samples=50_000, n_features=5, mean=0.0009, zeros_first=False):
    """Counts that are hardly ever above zero; on demand in an order in which the first half is all zeros."""
    n_samples = sized(n_samples, 400)
    rng = np.random.default_rng(5)
    mean = max(mean, 20 / n_samples)
    X = rng.standard_normal((n_samples, n_features))
    raw = 0.5 * X @ rng.standard_normal(n_features)
    y = rng.poisson(mean * np.exp(raw) / np.mean(np.exp(raw))).astype(np.float64)
    if zeros_first:
        half = np.flatnonzero(y == 0)[: n_samples // 2]
        order = np.append(half, np.setdiff1d(np.arange(n_samples), half))
        X, y = X[order], y[order]
    return X, y, "regression", None


def quantile_noise(noise="normal", n_samples=20_000, n_features=5):
    """A linear model with normal or log-normal noise."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(6)
    X = rng.standard_normal((n_samples, n_features))
    added = rng.standard_normal(n_samples)
    y = X @ rng.standard_normal(n_features) + (np.exp(added) if noise == "lognormal" else added)
    return X, y, "regression", None


def gross_errors(n_samples=5_000, n_features=8, n_wrong=10, size=1e6):
    """A linear model, and some targets that are wrong by far."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(7)
    X = rng.standard_normal((n_samples, n_features))
    y = X @ rng.standard_normal(n_features) + 0.5 * rng.standard_normal(n_samples)
    y[rng.choice(n_samples, n_wrong, replace=False)] = size
    return X, y, "regression", None


def two_units(n_samples=20_000, n_features=8, unit=1e4):
    """Two outputs, the second one in another unit."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(8)
    X = rng.standard_normal((n_samples, n_features))
    y = X @ rng.standard_normal((n_features, 2)) + rng.standard_normal((n_samples, 2))
    return X, y * [1.0, unit], "regression", None


def far_units(n_samples=20_000, n_features=8, unit=1e3):
    """Targets of a deviation 10,000 times the default epsilon of the losses that have one."""
    n_samples = sized(n_samples, 300)
    X, y, task, weights = two_units(n_samples, n_features)
    return X, y[:, 0] * unit / y[:, 0].std(), task, weights


def flip(n_samples=40_000, n_features=20):
    """Labels of a logistic model whose sign changes in the middle."""
    n_samples = sized(n_samples, 400)
    rng = np.random.default_rng(9)
    X = rng.standard_normal((n_samples, n_features))
    raw = 8 * X @ rng.standard_normal(n_features) / np.sqrt(n_features)
    raw[n_samples // 2 :] *= -1
    return X, logistic_labels(rng, raw), "classification", None


def bag_of_words(n_samples, n_features, entries, n_classes):
    """Rows of length one with counts of words whose frequencies follow Zipf's law; each class has words of its own."""
    rng = np.random.default_rng(10)
    y = rng.integers(0, n_classes, n_samples)
    y[:n_classes] = np.arange(n_classes)
    frequency = 1 / np.arange(1, n_features + 1)
    # A third of the words of a text are those of its class: the same law, in an order of its own.
    orders = np.array([rng.permutation(n_features) for _ in range(n_classes)])
    n_drawn = int(entries * 1.3)  # words come again, more often the more frequent they are
    ranks = rng.choice(n_features, (n_samples, n_drawn), p=frequency / frequency.sum())
    own = rng.random((n_samples, n_drawn)) < 1 / 3
    words = np.where(own, orders[y[:, None], ranks], ranks)
    rows = np.repeat(np.arange(n_samples), n_drawn)
    X = sparse.csr_matrix((np.ones(words.size), (rows, words.ravel())), shape=(n_samples, n_features))
    return normalize(X), y, "classification", None


def rare_dummies(n_samples=20_000, n_features=10, n_rare=30):
    """Dense columns, and some that are one in one to five rows and zero in all others."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(11)
    X = np.hstack([rng.standard_normal((n_samples, n_features)), np.zeros((n_samples, n_rare))])
    for k in range(n_rare):
        X[rng.choice(n_samples, 1 + k % 5, replace=False), n_features + k] = 1
    y = logistic_labels(rng, X @ rng.standard_normal(n_features + n_rare))
    return X, y, "classification", None


def one_outlier(n_samples=25_000, n_features=10, size=1e4):
    """One value of a feature is wrong by far."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(12)
    X = rng.standard_normal((n_samples, n_features))
    y = X @ rng.standard_normal(n_features) + rng.standard_normal(n_samples)
    X[n_samples // 4, 0] = size
    return X, y, "regression", None


def two_halves(n_samples=20_000, n_features=10):
    """Two classes of equal size that overlap: the plain case that the others are measured against."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(13)
    X = rng.standard_normal((n_samples, n_features))
    return (
        X,
        logistic_labels(rng, 2 * X @ rng.standard_normal(n_features) / np.sqrt(n_features)),
        "classification",
        None,
    )


def several_classes(n_samples=20_000, n_features=10, n_classes=5):
    """Labels of a multinomial model."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(14)
    X = rng.standard_normal((n_samples, n_features))
    raw = 3 * X @ rng.standard_normal((n_features, n_classes)) / np.sqrt(n_features)
    return X, np.argmax(raw + rng.gumbel(size=raw.shape), axis=1), "classification", None


def few_relevant(task="regression", n_samples=20_000, n_features=50, n_relevant=5):
    """Targets, or labels, of a linear model with few coefficients that are not zero."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(15)
    X = rng.standard_normal((n_samples, n_features))
    raw = X[:, :n_relevant] @ rng.choice([-1.0, 1.0], n_relevant)
    y = raw + rng.standard_normal(n_samples) if task == "regression" else logistic_labels(rng, raw)
    return X, y, task, None


def poisson_counts(n_samples=20_000, n_features=8):
    """Counts of mean about two."""
    n_samples = sized(n_samples, 300)
    rng = np.random.default_rng(16)
    X = rng.standard_normal((n_samples, n_features))
    return X, rng.poisson(np.exp(0.5 + 0.2 * X @ rng.standard_normal(n_features))).astype(float), "regression", None
