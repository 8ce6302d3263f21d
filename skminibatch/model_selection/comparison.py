"""Whether one candidate of a cross-validation is better than another: differences of scores that share their folds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats


class Differences(NamedTuple):
    """Of the scores of n candidates from those of a reference, by the folds of a cross-validation.

    Attributes
    ----------
    mean : ndarray of shape (n,)
        Mean difference; negative where a candidate is worse.
    standard_error : ndarray of shape (n,)
        Corrected for the rows that training sets share; NaN with one fold.
    low, high : ndarray of shape (n,)
        The ends of the interval.
    """

    mean: np.ndarray
    standard_error: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def indistinguishable(self) -> np.ndarray:
        """Which candidates cannot be told from the reference: their interval has zero in it, or there is none."""
        return ~((self.low > 0) | (self.high < 0))


def differences_from(
    scores: np.ndarray, reference: int, test_share: float, confidence_level: float = 0.95
) -> Differences:
    """Differences of scores from those of one candidate, with intervals.

    The folds are the same for all candidates, so that their differences are compared. Training sets overlap, which makes these
    dependent: the variance of their mean is taken as ``(1 / J + n_test / n_train) s^2`` with J folds, where ``s^2`` is the
    sample variance of the differences, and intervals are those of Student's t with J - 1 degrees of freedom.

    Parameters
    ----------
    scores : ndarray of shape (n_candidates, n_folds)
        Scores; folds in which a candidate has none are NaN, and left out.
    reference : int
        The candidate to compare with.
    test_share : float
        ``n_test / n_train``.
    confidence_level : float, default=0.95
        Level of the intervals.

    Returns
    -------
    differences : Differences

    References
    ----------
    Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from skminibatch.model_selection.comparison import differences_from
    >>> scores = np.array([[0.81, 0.79, 0.80, 0.82, 0.80], [0.71, 0.70, 0.69, 0.72, 0.70], [0.80, 0.80, 0.79, 0.82, 0.81]])
    >>> found = differences_from(scores, reference=0, test_share=1 / 4)
    >>> found.mean.round(3)
    array([ 0. , -0.1,  0. ])
    >>> found.indistinguishable
    array([ True, False,  True])
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        each = scores - scores[reference]
        count = np.sum(~np.isnan(each), axis=1)
        mean = np.where(count > 0, np.nansum(each, axis=1) / count, np.nan)
        squares = np.nansum((each - mean[:, None]) ** 2, axis=1) / (count - 1)
        error = np.sqrt((1.0 / count + test_share) * np.where(count > 1, squares, np.nan))
        margin = stats.t.ppf(0.5 + 0.5 * confidence_level, np.maximum(count - 1, 1)) * error
    return Differences(mean, error, mean - margin, mean + margin)
