"""What is predicted: encoding y for the kernels and decoding raw outputs, for regression and classification."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import minimize_scalar
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from skminibatch.contract.kinds import LOSS, declared
from skminibatch.contract.verbs import value
from skminibatch.losses import EachOutput, OneVsRest
from skminibatch.statistics.random import EXAMINED

FARTHEST = 3.0  # raw output of a margin loss: beyond its kinks
STRATA = 10  # ranges of a regression's target


class RegressionTarget(NamedTuple):
    """Numbers: one column, or several (`multi_output`: y had two dimensions)."""

    n_outputs: int
    multi_output: bool

    @property
    def has_classes(self) -> bool:
        """Whether each row belongs to one of several classes."""
        return False

    @classmethod
    def of(cls, y: np.ndarray) -> RegressionTarget:
        return cls(1 if y.ndim == 1 else y.shape[1], y.ndim == 2)

    def loss(self, pointwise):
        """The loss of all outputs from that of one."""
        return pointwise if self.n_outputs == 1 else EachOutput(pointwise)

    def encode(self, y, dtype) -> np.ndarray:
        """(n,) for one output, (n, n_outputs) for several."""
        if self.multi_output != (y.ndim == 2) or (y.ndim == 2 and y.shape[1] != self.n_outputs):
            expected = f"{self.n_outputs} columns" if self.multi_output else "one dimension"
            raise ValueError(f"y has the shape {y.shape}, but the estimator was fitted with y of {expected}.")
        y = y.ravel() if self.n_outputs == 1 else y
        return np.ascontiguousarray(y, dtype)

    def baseline(self, y, weights, loss) -> np.ndarray:
        """The best constant raw outputs; weights of None: all rows count the same."""
        columns = y.reshape(len(y), -1).T
        if declared(loss).brings("baseline"):
            return np.array([loss.baseline(column, weights) for column in columns])
        if declared(loss).kind is not LOSS or declared(loss).link != "identity":
            return np.zeros(self.n_outputs)
        return np.array([_best_target(loss, column, weights) for column in columns])

    def strata(self, y) -> np.ndarray | None:
        """Ten ranges of one column, with about as many rows each; None for several columns."""
        if y.ndim == 2:
            return None
        return np.searchsorted(np.quantile(y, np.arange(1, STRATA) / STRATA), y, side="right")


def _best_target(loss, y: np.ndarray, weights) -> float:
    """The constant raw output of the least mean loss of some rows, between the least and the largest target."""
    few = slice(None, None, -(-len(y) // EXAMINED))
    y, weights = y[few].astype(np.float64), None if weights is None else weights[few]

    def mean(raw):
        return float(np.average(value(loss, np.full_like(y, raw), y), weights=weights))

    low, high = float(y.min()), float(y.max())
    return float(minimize_scalar(mean, bounds=(low, high), method="bounded").x) if low < high else low


def _best_constant(loss, share: float) -> float:
    """The constant raw output of the least mean loss, where that share of the labels is +1 and the others are -1."""

    def mean(raw):
        return float(share * value(loss, raw, 1.0) + (1.0 - share) * value(loss, raw, -1.0))

    return float(minimize_scalar(mean, bounds=(-FARTHEST, FARTHEST), method="bounded").x)


def _labels(y: np.ndarray) -> np.ndarray:
    """The distinct labels, sorted; an error for what are no labels, such as fractions."""
    if y.dtype.kind in "biu":  # these are labels, and sorted ten times as soon as looked up twice
        labels = np.unique(y, return_counts=True)[0]
        if 2 * len(labels) <= len(y):  # else scikit-learn warns of numbers that may be no labels
            return labels
    check_classification_targets(y)
    return np.unique(column_or_1d(y))  # labels of several kinds at once are an error


class ClassificationTarget(NamedTuple):
    """Labels: two classes (-1 and +1), several (their index), or several independent ones (-1 and +1 each)."""

    classes: np.ndarray
    multilabel: bool

    @classmethod
    def of(cls, y, classes=None) -> ClassificationTarget:
        """From the labels themselves, or from all classes that will come."""
        if y is not None and y.ndim == 2:
            check_classification_targets(y)
            if type_of_target(y, input_name="y") == "multilabel-indicator":
                return cls(np.arange(y.shape[1]) if classes is None else np.unique(classes), True)
        labels = None if y is None else _labels(y)
        classes = labels if classes is None else np.unique(classes)
        if len(classes) < 2:
            raise ValueError(f"The number of classes has to be greater than one; got {len(classes)} class")
        return cls(classes, False)

    @property
    def has_classes(self) -> bool:
        """Whether each row belongs to one class."""
        return not self.multilabel

    @property
    def n_outputs(self) -> int:
        return 1 if len(self.classes) == 2 and not self.multilabel else len(self.classes)

    @property
    def in_classes(self) -> bool:
        """Whether a row is of one among more than two classes, so that its loss is a row-wise one."""
        return self.n_outputs > 1 and not self.multilabel

    def loss(self, pointwise):
        """The loss of all outputs from that of one: softmax for several classes, else one-vs-rest."""
        if self.n_outputs == 1:
            return pointwise
        if self.multilabel:
            return EachOutput(pointwise)
        return pointwise.of_classes() if declared(pointwise).brings("of_classes") else OneVsRest(pointwise)

    def indices(self, y: np.ndarray) -> np.ndarray:
        """Positions of the labels in `classes`; an unknown label is an error that names it."""
        positions = np.minimum(np.searchsorted(self.classes, y), len(self.classes) - 1)
        unknown = self.classes[positions] != y
        if unknown.any():
            check_classification_targets(y)
            row = int(np.argmax(unknown))
            raise ValueError(
                f"y contains the label {y[row : row + 1].tolist()[0]!r} in row {row}, which is not among the classes "
                f"{self.classes.tolist()}."
            )
        return positions

    def encode(self, y, dtype) -> np.ndarray:
        """(n,) of -1 and +1; (n, 1) of class indices; or (n, n_labels) of -1 and +1."""
        if self.multilabel:
            y = y.toarray() if sparse.issparse(y) else np.asarray(y)
            if y.ndim != 2 or y.shape[1] != len(self.classes):
                raise ValueError(f"y has the shape {y.shape}, but there are {len(self.classes)} labels.")
            neither = (y != 0) & (y != 1)
            if neither.any():
                row = int(np.argmax(neither.any(axis=1)))
                raise ValueError(f"y of several labels must be a matrix of 0 and 1; row {row} is {y[row].tolist()}.")
            y = np.ascontiguousarray(np.where(y != 0, 1, -1), dtype)
            return y if self.n_outputs > 1 else y.ravel()
        column_or_1d(y)
        if self.n_outputs > 1:
            return self.indices(y)[:, None].astype(dtype)
        positive = y == self.classes[1]
        if np.count_nonzero(positive) + np.count_nonzero(y == self.classes[0]) < len(y):
            self.indices(y)
        return np.where(positive, dtype.type(1), dtype.type(-1))

    @staticmethod
    def column(y) -> np.ndarray:
        """Labels as one column, with scikit-learn's warning for a column of two dimensions."""
        return column_or_1d(y, warn=True)

    def baseline(self, y, weights, loss) -> np.ndarray:
        """The best constant raw outputs, no class being rarer than one row; weights of None: all rows count the same."""
        if self.in_classes:
            whole = declared(self.loss(loss))
            if whole.brings("baseline"):
                return whole.baseline(y, weights, self.n_outputs)
        elif declared(loss).task == "classification" and declared(loss).brings("baseline"):
            return loss.baseline(y, weights)
        if declared(loss).kind is not LOSS or declared(loss).task != "classification":
            return np.zeros(self.n_outputs)
        labels = y.reshape(len(y), -1) if not self.in_classes else np.where(y == np.arange(self.n_outputs), 1.0, -1.0)
        return np.array([_best_constant(loss, np.average(column > 0, weights=weights)) for column in labels.T])

    def strata(self, y) -> np.ndarray:
        """The classes, or the combinations of several labels."""
        return y.ravel() if self.n_outputs == 1 or not self.multilabel else np.unique(y, axis=0, return_inverse=True)[1]

    def log_probabilities(self, raw: np.ndarray, loss) -> np.ndarray:
        """Logarithms of the probabilities, exact where these underflow."""
        if self.in_classes and declared(self.loss(loss)).brings("log_probabilities"):
            return declared(self.loss(loss)).log_probabilities(raw)
        if self.in_classes or not declared(loss).brings("log_probability"):
            with np.errstate(divide="ignore"):
                return np.log(self.probabilities(raw, loss))
        if self.multilabel:
            return loss.log_probability(raw)
        return np.column_stack([loss.log_probability(-raw[:, 0]), loss.log_probability(raw[:, 0])])

    def decode(self, raw: np.ndarray) -> np.ndarray:
        """Labels from raw outputs (n, n_outputs)."""
        if self.multilabel:
            return (raw > 0).astype(int)
        if self.n_outputs == 1:
            return self.classes[(raw[:, 0] > 0).astype(int)]
        return self.classes[raw.argmax(axis=1)]

    def probabilities(self, raw: np.ndarray, loss) -> np.ndarray:
        """Probabilities of the classes (n, n_classes) from raw outputs; `loss` is that of one output."""
        if self.in_classes and declared(self.loss(loss)).brings("probabilities"):
            return declared(self.loss(loss)).probabilities(raw)
        positive = loss.probability(raw)
        if self.multilabel:
            return positive
        if self.n_outputs == 1:
            return np.column_stack([1 - positive[:, 0], positive[:, 0]])
        total = positive.sum(axis=1, keepdims=True)
        uniform = np.full_like(positive, 1 / positive.shape[1])  # no class has a score above zero
        return np.divide(positive, total, out=uniform, where=total > 0)
