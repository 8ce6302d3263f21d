"""The peers: how each is asked for the same objective, and the cheapest setting that reaches an accuracy."""

import importlib.util
import time
import warnings
from dataclasses import dataclass

import numpy as np
import problems
from sklearn.linear_model import LogisticRegression, Ridge
from smoke import sized

MODULES = {"scikit-learn-intelex": "sklearnex", "snapml": "snapml", "torch": "torch"}
TOLERANCES = [10.0**k for k in range(4, -13, -1)]
UNREACHABLE_TOL = 1e-14
SEARCH_SECONDS = sized(60, 0.1)  # of each search; a solver that needs longer than this to reach the goal is left out


def available(package):
    return importlib.util.find_spec(MODULES[package]) is not None


@dataclass(frozen=True)
class Solver:
    """A logistic regression: its name, how to make it, and its defaults."""

    name: str
    family: str
    make: object  # (max_iter, tol, n_samples) -> an estimator, unfitted
    max_iter: int = 1000

    def fit(self, X, y, max_iter, tol):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # stopping early is what is asked for here
            return self.make(max_iter, tol, len(y)).fit(X, y)


def sklearn_solver(solver):
    # C = 1 / (n alpha) makes scikit-learn's sum of losses + |w|^2 / (2 C) n times our mean + alpha/2 |w|^2.
    # liblinear penalises the intercept, a little: with C = 1/(n alpha) by alpha/2 b^2.
    def make(max_iter, tol, n_samples):
        C = 1 / (n_samples * problems.ALPHA)
        return LogisticRegression(C=C, solver=solver, max_iter=max_iter, tol=tol, random_state=0)

    return Solver(f"LogisticRegression(solver={solver!r})", "scikit-learn", make)


def intelex_solver():
    # Of the solvers, lbfgs alone runs accelerated on a CPU; the others fall back to scikit-learn's own code.
    def make(max_iter, tol, n_samples):
        from sklearnex.linear_model import LogisticRegression as AcceleratedLogisticRegression

        C = 1 / (n_samples * problems.ALPHA)
        return AcceleratedLogisticRegression(C=C, solver="lbfgs", max_iter=max_iter, tol=tol)

    return Solver("LogisticRegression(solver='lbfgs')", "scikit-learn-intelex", make)


def snapml_solver(n_jobs):
    # The dual solver is the faster one here, and the primal one leaves the intercept at zero. The intercept
    # is a column of ones that is penalised like the others, which costs about 4e-5 of the decrease here.
    def make(max_iter, tol, n_samples):
        from snapml import LogisticRegression as SnapLogisticRegression

        regularizer = n_samples * problems.ALPHA
        return SnapLogisticRegression(
            regularizer=regularizer,
            fit_intercept=True,
            max_iter=max_iter,
            tol=tol,
            n_jobs=n_jobs,
            random_state=0,
        )

    return Solver(f"LogisticRegression(dual=True, n_jobs={n_jobs})", "Snap ML", make)


def logistic_solvers(thread_counts):
    """Every peer that is installed."""
    names = ["lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga"]
    solvers = [sklearn_solver(name) for name in names]
    if available("scikit-learn-intelex"):
        solvers.append(intelex_solver())
    if available("snapml"):
        solvers += [snapml_solver(n_jobs) for n_jobs in thread_counts]
    return solvers


def ridge_solvers():
    """Those of least squares: Ridge's sum of squares + alpha |w|^2 is 2 n times our mean / 2 + alpha/2 |w|^2."""

    def of(solver):
        def make(max_iter, tol, n_samples):
            return Ridge(n_samples * problems.ALPHA, solver=solver, max_iter=max_iter, tol=tol, random_state=0)

        return Solver(f"Ridge(solver={solver!r})", "scikit-learn", make)

    return [of(solver) for solver in ["svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga"]]


def cheapest(solver, X, y, excess, goal, limit=SEARCH_SECONDS):
    """The settings (max_iter, tol) that just reach the goal, by name: {how: setting, or None if none does}.

    The loosest tolerance is a solver's own stopping rule, tuned; the smallest max_iter stops it at the first
    iterate that is good enough, which takes knowing the optimum, and is the harder test for us.
    """
    ladders = {
        "loosest tol": ((solver.max_iter, tol) for tol in TOLERANCES),
        "smallest max_iter": ((k, UNREACHABLE_TOL) for k in range(1, solver.max_iter)),
    }
    return {how: first_to_reach(solver, X, y, excess, goal, ladder, limit) for how, ladder in ladders.items()}


def described(setting):
    """A setting in the words of the parameters."""
    max_iter, tol = setting
    return f"max_iter={max_iter}" if tol == UNREACHABLE_TOL else f"tol={tol:g}"


def first_to_reach(solver, X, y, excess, goal, settings, limit):
    """The first setting whose model reaches the goal, or None."""
    start = time.perf_counter()
    for setting in settings:
        if excess(solver.fit(X, y, *setting)) <= goal:
            return setting
        if time.perf_counter() - start > limit:
            return None
    return None


def torch_logistic(X, y, batch_size, alpha, n_threads):
    """A callable fit(n_epochs) of PyTorch's logistic regression on tensors that share the memory of X."""
    import torch

    X, target = torch.from_numpy(X), torch.from_numpy(y.astype(X.dtype))[:, None]

    def fit(n_epochs):
        torch.set_num_threads(n_threads)
        generator = torch.Generator().manual_seed(0)
        model = torch.nn.Linear(X.shape[1], 1, dtype=X.dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=alpha)
        for _ in range(n_epochs):
            for rows in torch.randperm(len(X), generator=generator).split(batch_size):
                optimizer.zero_grad()
                loss = torch.nn.functional.binary_cross_entropy_with_logits(model(X[rows]), target[rows])
                loss.backward()
                optimizer.step()

    return fit


def coefficients(model):
    """coef (n_features,) and intercept of a fitted binary model."""
    return np.ravel(model.coef_), float(np.ravel(model.intercept_)[0])
