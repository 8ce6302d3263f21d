"""Compile the kernels of the usual settings ahead of time: ``python -m skminibatch.warmup``.

numba keeps them on disk, beside the package or, where that cannot be written, in a cache of the user. Other settings compile
what they need at their first fit.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from skminibatch.backends import compilation
from skminibatch.linear_model import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.neural_network import MiniBatchMLPClassifier, MiniBatchMLPRegressor

N_ROWS, N_FEATURES = 3000, 8
SHORT = {"max_iter": 2, "random_state": 0}


class Setting(NamedTuple):
    """An estimator, the rows and targets that it is fitted to, and whether as a stream."""

    estimator: Any
    rows: str = "float64"
    target: str = "two classes"
    on_stream: bool = False

    def __str__(self) -> str:
        verb = "partial_fit" if self.on_stream else "fit"
        return f"{self.estimator}, {verb} on {self.rows} rows, {self.target}"

    def fit(self, rows: dict[str, Any], targets: dict[str, np.ndarray]) -> None:
        """Fit to the rows and targets of these names."""
        X, y = rows[self.rows], targets[self.target]
        self.estimator.set_params(**SHORT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            if not self.on_stream:
                self.estimator.fit(X, y)
            elif self.target == "numbers":
                self.estimator.partial_fit(X, y)
            else:
                self.estimator.partial_fit(X, y, classes=np.unique(y))


def usual_settings() -> list[Setting]:
    """The settings whose kernels are compiled."""
    classifier, regressor = MiniBatchSGDClassifier, MiniBatchSGDRegressor
    tasks = ((classifier, "two classes"), (classifier, "three classes"), (regressor, "numbers"))
    defaults = [Setting(make(), rows, target) for make, target in tasks for rows in ("float64", "float32", "CSR")]
    streams = [Setting(make(), "CSR", target, on_stream=True) for make, target in tasks]
    others = [
        Setting(classifier(loss="hinge")),
        Setting(classifier(loss="hinge"), "CSR"),
        Setting(classifier(loss="modified_huber")),
        Setting(classifier(penalty="l1")),
        Setting(classifier(penalty="elasticnet"), "CSR"),
        Setting(classifier(solver="adam")),
        Setting(classifier(solver="sgd", learning_rate="invscaling"), "float64"),
        Setting(regressor(loss="huber"), target="numbers"),
        Setting(regressor(loss="quantile"), target="numbers"),
        Setting(regressor(loss="poisson"), target="counts"),
    ]
    networks = [
        Setting(MiniBatchMLPClassifier()),
        Setting(MiniBatchMLPClassifier(), "float32"),
        Setting(MiniBatchMLPClassifier(normalization="batch")),
        Setting(MiniBatchMLPRegressor(), target="numbers"),
    ]
    return [*defaults, *streams, *others, *networks]


def data() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Rows and targets by their names."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N_ROWS, N_FEATURES))
    numbers = X[:, 0] + rng.standard_normal(N_ROWS)
    rare = sparse.random_array((N_ROWS, 16 * N_FEATURES), density=0.05, format="csr", rng=rng)
    rows = {"float64": X, "float32": X.astype(np.float32), "CSR": rare}
    targets = {"numbers": numbers, "counts": rng.poisson(np.exp(0.5 * X[:, 0])).astype(float)}
    targets |= {"two classes": (numbers > 0).astype(int), "three classes": np.digitize(numbers, [-0.5, 0.5])}
    return rows, targets


def main(arguments=None) -> None:
    """Compile, and say how long each setting took."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(
        arguments
    )
    rows, targets = data()
    settings, start, began = usual_settings(), time.perf_counter(), compilation.spent()
    for setting in settings:
        name, before = str(setting), compilation.spent()
        setting.fit(rows, targets)
        print(f"{compilation.spent() - before:6.2f} s  {name}", flush=True)
    seconds, total = compilation.spent() - began, time.perf_counter() - start
    print(f"Compiling or loading the kernels of {len(settings)} settings took {seconds:.1f} s of {total:.1f} s.")


if __name__ == "__main__":
    main()
