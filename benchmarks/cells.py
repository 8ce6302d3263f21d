"""What `optimum.py` fits: problems, and the cells of problem x loss x penalty x weights x batch size x rows x call."""

import hashlib
import itertools
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import optima
import problems
from scipy import sparse
from smoke import sized

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor

# Constants of the package may be tuned on the problems of the first half only: the second one shows what that is worth.
CHOSEN, REPORTED = "chosen", "reported"
SAME = 1e-3  # the hinge loss of rare positives has an optimum that is constant: nothing to be relative to


def of_data(name, is_scaled, n_rows, folder):
    """A data set: targets of deviation 1, features standardised or as they are."""
    X, y = problems.load(folder, name)
    is_regression = problems.loader(folder).load(name)["task"] == "regression"
    # evenly spaced rows: files may be in the order of time or of the classes
    rows = np.arange(0, X.shape[0], max(1, X.shape[0] // n_rows))
    X, y = X[rows], problems.encode(np.asarray(y[rows]), is_regression)
    return problems.scale(X) if is_scaled else X, y, "regression" if is_regression else "classification", None


def text(n_samples, n_features, entries, n_classes):
    return partial(
        problems.bag_of_words, sized(n_samples, 60), sized(n_features, 50), sized(entries, 5), sized(n_classes, 3)
    )


def stored(name, is_scaled=True, n_rows=60_000):
    return partial(of_data, name, is_scaled, n_rows)


# name: (half, function of nothing, or of the folder with the data sets where the name begins with "data")
PROBLEMS = {
    "two_halves": (CHOSEN, problems.two_halves),
    "several_classes": (REPORTED, problems.several_classes),
    "balanced 1:10": (REPORTED, partial(problems.balanced, 10)),
    "balanced 1:100": (CHOSEN, partial(problems.balanced, 100)),
    "balanced 1:1000": (REPORTED, partial(problems.balanced, 1000)),
    "balanced 1:2000": (CHOSEN, partial(problems.balanced, 2000)),
    "imbalanced": (REPORTED, problems.imbalanced),
    "leverage": (CHOSEN, problems.leverage),
    "heavy_tailed": (REPORTED, problems.heavy_tailed),
    "ill_conditioned": (CHOSEN, problems.ill_conditioned),
    "rare_counts": (REPORTED, problems.rare_counts),
    "rare_counts zeros first": (CHOSEN, partial(problems.rare_counts, zeros_first=True)),
    "poisson_counts": (CHOSEN, problems.poisson_counts),
    "quantile_noise normal": (CHOSEN, partial(problems.quantile_noise, "normal")),
    "quantile_noise lognormal": (REPORTED, partial(problems.quantile_noise, "lognormal")),
    "gross_errors": (REPORTED, problems.gross_errors),
    "two_units": (CHOSEN, problems.two_units),
    "far_units": (REPORTED, problems.far_units),
    "rare_dummies": (CHOSEN, problems.rare_dummies),
    "one_outlier": (REPORTED, problems.one_outlier),
    "few_relevant regression": (CHOSEN, partial(problems.few_relevant, "regression")),
    "few_relevant classification": (REPORTED, partial(problems.few_relevant, "classification")),
    "text 20": (CHOSEN, text(7_000, 40_000, 156, 20)),
    "text 150": (REPORTED, text(3_000, 20_000, 156, 150)),
    "data california_housing": (CHOSEN, stored("california_housing")),
    "data california_housing raw": (CHOSEN, stored("california_housing", is_scaled=False)),
    "data bike_hour": (REPORTED, stored("bike_hour")),
    "data blog_feedback": (REPORTED, stored("blog_feedback")),
    "data blog_feedback raw": (REPORTED, stored("blog_feedback", is_scaled=False)),
    "data higgs_7500": (CHOSEN, stored("higgs_7500")),
    "data hflights": (REPORTED, stored("hflights")),
    "data hflights raw": (REPORTED, stored("hflights", is_scaled=False)),
    "data mnist": (CHOSEN, stored("mnist", n_rows=7_000)),
    "data a9a": (CHOSEN, stored("a9a", is_scaled=False)),
    "data hflights_onehot": (REPORTED, stored("hflights_onehot", is_scaled=False)),
    "data clickbait": (REPORTED, stored("clickbait", is_scaled=False)),
}


@cache
def problem(name, folder):
    """X, y, task and weights."""
    make = PROBLEMS[name][1]
    return make(folder) if name.startswith("data") else make()


@dataclass(frozen=True)
class Cell:
    """One fit. `loss` None is that of the task; `rows` is dense (CSR for text), csr or float32; `call` fit or chunks."""

    group: str
    problem: str
    loss: str | None = None
    penalty: str = "l2"
    weights: str | None = None
    batch_size: int = 64
    rows: str | None = None
    call: str = "fit"
    alpha: float = problems.ALPHA
    quantile: float = 0.5
    epsilon: float = 0.1

    @property
    def name(self):
        shown = [self.problem, self.loss, *([self.penalty] if self.penalty != "l2" else [])]
        shown += [f"alpha={self.alpha:g}"] if self.alpha != problems.ALPHA else []
        shown += [f"q={self.quantile:g}"] if self.loss == "quantile" else []
        shown += [self.weights] if self.weights else []
        shown += [f"b={self.batch_size}"] if self.batch_size != 64 else []
        shown += [self.rows] if self.rows else []
        return ", ".join([*shown, *(["chunks"] if self.call == "chunks" else [])])

    @property
    def half(self):
        return PROBLEMS[self.problem][0]

    @property
    def is_smooth(self):
        return self.loss not in optima.KINKED and self.penalty == "l2"

    @property
    def options(self):
        return {"quantile": self.quantile, "epsilon": self.epsilon}

    def data(self, folder):
        """X as it is fitted, y, and the weights of the rows or None."""
        X, y, _, weights = problem(self.problem, folder)
        if self.rows == "csr":
            X = sparse.csr_matrix(X)
        elif self.rows == "float32":
            X = X.astype(np.float32)
        if self.weights == "balanced":
            weights = problems.balanced_weights(y)
        elif self.weights == "pareto":
            weights = np.random.default_rng(0).pareto(1.5, len(y)) + 0.1
        return X, y, weights

    def model(self, **settings):
        make = MiniBatchSGDRegressor if self.loss in optima.REGRESSORS else MiniBatchSGDClassifier
        parameters = {"loss": self.loss, "penalty": self.penalty, "batch_size": self.batch_size, "alpha": self.alpha}
        return make(**parameters, **self.options, **settings)


def cross(group, names, **axes):
    """The cells of every combination; a value that is no list holds for all of them."""
    lists = {key: value if isinstance(value, list) else [value] for key, value in axes.items()}
    cells = []
    for name, *values in itertools.product(names, *lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        chosen.setdefault("loss", usual_loss(name))
        cells.append(Cell(group, name, **chosen))
    return cells


def usual_loss(name):
    if "counts" in name:
        return "poisson"
    regression = ("leverage", "ill", "quantile", "gross", "two_units", "far", "one_", "california", "bike", "blog")
    return "squared_error" if any(word in name for word in regression) or name.endswith("regression") else "log_loss"


BATCH_SIZES = [1, 16, 64, 256, 1024]
GENERATED = [name for name in PROBLEMS if not name.startswith(("data", "text"))]
DATA = [name for name in PROBLEMS if name.startswith("data")]
QUANTILES = [0.01, 0.05, 0.5, 0.95, 0.99]
LARGE_MARGIN = ["hinge", "squared_hinge", "modified_huber"]
RESIDUAL = ["huber", "epsilon_insensitive", "squared_epsilon_insensitive", "quantile"]

ALL = [
    *cross("problems", GENERATED),
    *cross("data", DATA),
    *cross("batch", ["two_halves", "balanced 1:1000", "leverage", "heavy_tailed"], batch_size=BATCH_SIZES),
    *cross("batch", ["ill_conditioned", "poisson_counts", "several_classes"], batch_size=[1, 16, 256, 1024]),
    *cross("batch", ["two_halves", "balanced 1:100"], loss="hinge", batch_size=[1, 256, 1024]),
    *cross("batch", ["quantile_noise normal"], loss="quantile", batch_size=[1, 256, 1024]),
    *cross("batch", ["data california_housing", "data hflights", "data higgs_7500"], batch_size=[1, 16, 256, 1024]),
    *cross("losses", ["two_halves", "imbalanced", "several_classes", "data a9a"], loss=LARGE_MARGIN),
    *cross("losses", ["leverage", "gross_errors", "data california_housing", "data bike_hour"], loss=RESIDUAL),
    *cross("losses", ["far_units", "one_outlier"], loss=["huber", "epsilon_insensitive", "quantile"]),
    *cross("quantiles", ["quantile_noise normal", "quantile_noise lognormal"], loss="quantile", quantile=QUANTILES),
    *cross("weights", ["balanced 1:1000", "imbalanced"], loss=["log_loss", *LARGE_MARGIN], weights="balanced"),
    *cross("weights", ["two_halves", "several_classes", "data hflights", "data a9a"], weights=["balanced", "pareto"]),
    *cross("weights", ["two_halves", "several_classes"], loss="hinge", weights="pareto"),
    *cross("weights", ["leverage", "ill_conditioned", "poisson_counts", "data bike_hour"], weights="pareto"),
    *cross("weights", ["quantile_noise lognormal"], loss="quantile", weights="pareto"),
    *cross("weights", ["two_halves", "leverage"], weights="pareto", batch_size=[1, 256]),
    *cross("penalty", ["two_halves", "leverage", "data california_housing"], penalty=["l1", "elasticnet"]),
    *cross("penalty", ["few_relevant regression", "few_relevant classification"], penalty="l1", alpha=[1e-4, 1e-2]),
    *cross("penalty", ["data a9a", "several_classes", "poisson_counts"], penalty="l1"),
    *cross("penalty", ["few_relevant classification"], loss="hinge", penalty=["l1", "elasticnet"], alpha=1e-2),
    *cross("rows", ["two_halves", "leverage", "ill_conditioned", "heavy_tailed"], rows=["csr", "float32"]),
    *cross("rows", ["balanced 1:1000", "poisson_counts", "rare_dummies"], rows=["csr", "float32"]),
    *cross("rows", ["several_classes", "data california_housing", "data hflights raw"], rows=["csr", "float32"]),
    *cross("rows", ["two_halves"], loss="hinge", rows=["csr", "float32"]),
    *cross("rows", ["two_halves", "leverage"], rows=["csr", "float32"], batch_size=[1, 256]),
    *cross("text", ["text 20", "text 150"]),
    *cross("text", ["text 20"], batch_size=[1, 16, 256]),
    *cross("text", ["text 20"], loss=["squared_hinge", "modified_huber"]),
    *cross("text", ["text 20", "data clickbait"], rows="float32"),
    *cross("chunks", ["two_halves", "balanced 1:1000", "leverage", "heavy_tailed", "ill_conditioned"], call="chunks"),
    *cross("chunks", ["rare_counts", "rare_counts zeros first", "poisson_counts", "two_units"], call="chunks"),
    *cross("chunks", ["several_classes", "one_outlier", "rare_dummies"], call="chunks"),
    *cross("chunks", ["data california_housing", "data bike_hour", "data hflights", "data a9a"], call="chunks"),
    *cross("chunks", ["two_halves", "leverage"], batch_size=[1, 16, 256], call="chunks"),
    *cross("chunks", ["two_halves", "balanced 1:100"], loss="hinge", call="chunks"),
    *cross("chunks", ["quantile_noise normal"], loss="quantile", call="chunks", quantile=[0.05, 0.5]),
    *cross("chunks", ["two_halves", "leverage"], rows=["csr", "float32"], call="chunks"),
    *cross("chunks", ["two_halves", "leverage"], weights="pareto", call="chunks"),
    *cross("chunks", ["data hflights_onehot", "data clickbait", "text 20"], call="chunks"),
    *cross("chunks", ["data a9a", "two_halves"], rows="csr", penalty="l1", call="chunks"),
]
CELLS = {cell.name: cell for cell in reversed(ALL)}
CELLS = dict(reversed(CELLS.items()))  # the first of two of one name, in the order of the list

QUICK = [
    "two_halves, log_loss",
    "two_halves, log_loss, b=1",
    "two_halves, log_loss, b=256",
    "two_halves, log_loss, pareto",
    "two_halves, log_loss, csr",
    "two_halves, log_loss, float32",
    "two_halves, log_loss, chunks",
    "two_halves, hinge",
    "two_halves, log_loss, l1",
    "several_classes, log_loss",
    "several_classes, squared_hinge",
    "balanced 1:1000, log_loss",
    "balanced 1:1000, log_loss, chunks",
    "heavy_tailed, log_loss",
    "leverage, squared_error",
    "leverage, squared_error, b=1024",
    "leverage, huber",
    "ill_conditioned, squared_error",
    "rare_counts, poisson",
    "rare_counts zeros first, poisson, chunks",
    "quantile_noise lognormal, quantile, q=0.05",
    "quantile_noise normal, quantile, q=0.5",
    "gross_errors, huber",
    "two_units, squared_error",
    "far_units, huber",
    "one_outlier, squared_error",
    "text 20, log_loss",
    "data california_housing, squared_error",
    "data a9a, log_loss",
]
SMOKE = ["two_halves, log_loss", "leverage, squared_error, chunks", "quantile_noise normal, quantile, q=0.5"]


def selected(only=None, group=None, is_quick=False, half=None):
    """The cells that the options of the command line name."""
    cells = [CELLS[name] for name in QUICK] if is_quick else list(CELLS.values())
    cells = [cell for cell in cells if not only or any(word in cell.name for word in only)]
    return [cell for cell in cells if (not group or cell.group in group) and (not half or cell.half == half)]


def key(X, y, weights, *facts):
    """A name for the reference of a problem, of its numbers."""
    digest = hashlib.sha256(repr(facts).encode())
    arrays = [X.data, X.indices, X.indptr] if sparse.issparse(X) else [X]
    for array in [*arrays, y, np.zeros(0) if weights is None else weights]:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:24]


@dataclass(frozen=True)
class Reference:
    """The optimum of a cell, and the objective of the best constant."""

    coef: np.ndarray
    intercept: np.ndarray
    best: float
    constant: float

    def excess(self, value):
        """How far from the optimum, relative to the best constant, or to a thousandth of it where it is as good."""
        return (value - self.best) / max(self.constant - self.best, SAME * self.constant)


def reference(cell, X, y, weights, folder):
    """The reference of a cell, from the folder if it was found before."""
    # CSR and dense rows of one problem have one optimum, and dense ones are found sooner.
    X = X.toarray() if sparse.issparse(X) and X.shape[1] <= 200 else X
    facts = {"loss": cell.loss, "penalty": cell.penalty, "alpha": cell.alpha, "l1_ratio": 0.15, **cell.options}
    path = folder / f"{key(X, y, weights, sorted(facts.items()))}.npz"
    if path.exists():
        with np.load(path) as found:
            return Reference(found["coef"], found["intercept"], float(found["best"]), float(found["constant"]))
    coef, intercept, best = optima.optimum(X, y, weights=weights, **facts)
    constant = optima.best_constant(X, y, cell.loss, weights=weights, **cell.options)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, coef=coef, intercept=intercept, best=best, constant=constant)
    return Reference(coef, intercept, best, constant)
