"""What the linear regressor and the linear classifier share."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skminibatch.backends.arrays import is_sparse, on_gpu, stays_on_gpu
from skminibatch.contract.kinds import declared
from skminibatch.estimators import pairs, parts
from skminibatch.estimators.attributes import shaped, untouched
from skminibatch.estimators.base import BaseMiniBatchEstimator
from skminibatch.estimators.checks import rows_to_predict
from skminibatch.estimators.targets import RegressionTarget
from skminibatch.models.curvature import has_kink, is_steep
from skminibatch.models.data import Data, outputs_of_all, raw_outputs
from skminibatch.models.linear import LinearModel
from skminibatch.models.smoothed import RowLosses
from skminibatch.optimizers import OPTIMIZERS, SAGA, SDCA
from skminibatch.penalties import PENALTIES
from skminibatch.preparation.present import Present
from skminibatch.training.online_diagonal import OnlineDiagonal
from skminibatch.training.online_newton import OnlineNewton

# numbers: a table of residuals that is not larger, or not larger than the rows, is made without asking
SMALL_TABLE = 1 << 23
FULL = 1 / 3  # of the entries are stored: written out, the rows take about as much memory


class LinearEstimator(BaseMiniBatchEstimator):
    """What the linear regressor and the linear classifier share."""

    coef_: Any
    intercept_: np.ndarray

    _parameter_constraints: dict = {
        **BaseMiniBatchEstimator._parameter_constraints,
        "eta0": [Interval(Real, 0, None, closed="neither"), None],
        "penalty": [StrOptions({name for name in PENALTIES if name}), None, tuple],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
        "epsilon": [Interval(Real, 0, None, closed="left")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
        "fit_intercept": ["boolean"],
        "solver": [StrOptions({"auto", *OPTIMIZERS}), tuple],
        "average": [Interval(Integral, 0, None, closed="left"), "boolean"],
        "standardize": ["boolean"],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _pointwise_loss(self):
        return parts.loss(self.loss, epsilon=self.epsilon, quantile=self.quantile)

    def _model(self, target, X, device: str) -> LinearModel:
        optimizer = parts.optimizer(self.solver, self.average, default="schedule_free")
        in_double = is_sparse(X) or declared(optimizer).dual
        return LinearModel(
            loss=target.loss(self._pointwise_loss()),
            penalty=parts.penalty(self.penalty, self.alpha, self.l1_ratio),
            optimizer=optimizer,
            device=device,
            n_features=X.shape[1],
            n_outputs=target.n_outputs,
            fit_intercept=self.fit_intercept,
            dtype=np.dtype(np.float64) if in_double else X.dtype,
            coef_dtype=X.dtype,
            n_threads=parts.threads(self.n_jobs),
        )

    def _takes_any_solver(self) -> bool:
        """Whether solver and rate are left open."""
        return self.solver == "auto" and self.learning_rate == "auto" and not self.average

    def _is_free(self) -> bool:
        """Whether the coordinates are left open too."""
        return self._takes_any_solver() and not self.standardize

    def _unpacked(self, X, previous=None):
        is_full = sparse.issparse(X) and X.nnz >= FULL * X.shape[0] * X.shape[1]
        goes_on_sparse = previous is not None and isinstance(previous.newton, OnlineDiagonal)
        return X.toarray() if is_full and self._is_free() and not goes_on_sparse else X

    def _of_present_features(self, X, init, memory=None):
        is_first = not self.warm_start and all(array is None for array in init)
        if not (is_first and sparse.issparse(X)):
            return X, None
        return Present.of(X) if memory is None else Data.found(memory, ("present", id(X)), lambda: Present.of(X))

    def _for_rows(self, target, model, sampler, sizes, data):
        if not self._is_free() or not self._has_small_table(model, data):
            return model
        suited = replace(model, optimizer=SDCA(), dtype=np.dtype(np.float64))
        obstacle = pairs.table_obstacle(suited, sampler, sparse=is_sparse(data.X), clip_norm=self.clip_norm)
        baseline = partial(target.baseline, loss=self._pointwise_loss())
        return suited if not obstacle and pairs.suits_dual(suited, sizes, data, baseline) else model

    def _has_small_table(self, model, data) -> bool:
        numbers = len(data.y) * (1 + model.n_outputs)
        return numbers <= max(SMALL_TABLE, data.row_length * len(data.y))

    def _coordinates(self, model) -> str:
        if declared(model.optimizer).dual:
            return "centered"
        if self.standardize:
            return "standard"
        return "gentle" if self.learning_rate == "auto" else "given"

    def _second_solver(self, model, sampler, data):
        if not self._takes_any_solver() or declared(model.optimizer).dual:
            return None
        if has_kink(model.loss) and data.n_rows < pairs.FEWEST_AT_A_KINK:
            return None
        solver = SAGA()
        obstacle = pairs.table_obstacle(
            model.with_optimizer(solver), sampler, sparse=is_sparse(data.X), clip_norm=self.clip_norm
        )
        rows_fit = not stays_on_gpu(data.X) or data.X.fits
        return solver if rows_fit and not obstacle and self._has_small_table(model, data) else None

    def _follows_newton(self, model, sampler, sizes, data):
        if not self._is_free() or self.clip_norm is not None or self.lr_scaling is not None:
            return None
        if pairs.suits_newton(model, sampler, sizes, data):
            return OnlineNewton
        return OnlineDiagonal if pairs.suits_diagonal(model, sampler, sizes, data) else None

    def _completed(self, progress, data):
        """With the intercepts that are best for the coefficients, where they are known: so that means of counts are met."""
        model = progress.model
        if not (self._takes_any_solver() and self.fit_intercept and is_steep(model.loss)):
            return progress
        losses = RowLosses.of(model.loss, data.y, model.n_outputs)
        if not losses.are_exponential():
            return progress
        coef, intercept = progress.predictor
        raw, weights = outputs_of_all(data, coef, intercept).astype(np.float64), data.weights_in_use
        shift = losses.best_shift(raw, weights if weights.size else np.ones(len(raw)))
        return replace(progress, predictor=(coef, (intercept + shift).astype(intercept.dtype)), params=None)

    def _first_rate(self):
        return self.eta0

    def _start(self, model, target, data, init, seed):
        coef_init, intercept_init = init
        coef = np.zeros((model.n_outputs, model.n_features), model.dtype)
        intercept = np.zeros(model.n_outputs, model.dtype)
        if coef_init is not None:
            coef = shaped(coef_init, coef.shape, "coef_init", model.dtype)
        if intercept_init is not None:
            intercept = shaped(intercept_init, intercept.shape, "intercept_init", model.dtype)
        elif coef_init is None and self.learning_rate == "auto" and self.fit_intercept:
            intercept[:] = target.baseline(*data.targets, self._pointwise_loss())
        return coef, intercept

    def _assigned(self, model, published):
        names, shapes = ("coef_", "intercept_"), ((model.n_outputs, model.n_features), (model.n_outputs,))
        given = [vars(self).get(name) for name in names]
        if published is not None and all(g is None or untouched(g, p) for g, p in zip(given, published, strict=True)):
            return None
        each = zip(given, shapes, names, published or model.unset, strict=True)
        assigned = [old if g is None else shaped(g, shape, name, model.coef_dtype) for g, shape, name, old in each]
        return None if all(array is None for array in assigned) else tuple(assigned)

    def _attributes(self, coef, intercept, target) -> dict:
        dtype = np.float32 if coef.dtype == np.float32 else np.float64
        coef, intercept = coef.astype(dtype), intercept.astype(dtype)
        if isinstance(target, RegressionTarget):
            return {"coef_": coef if target.multi_output else coef[0], "intercept_": intercept, "_target": target}
        return {"coef_": coef, "intercept_": intercept, "classes_": target.classes, "_target": target}

    def _predictor(self):
        coef = self.coef_.toarray() if sparse.issparse(self.coef_) else np.atleast_2d(self.coef_)
        return coef, np.atleast_1d(self.intercept_)

    def __sklearn_is_fitted__(self):
        return "coef_" in vars(self) and "_target" in vars(self)

    def _raw(self, X) -> np.ndarray:
        """Raw outputs (n, K), on the host."""
        check_is_fitted(self)
        X = rows_to_predict(self, X)
        if sparse.issparse(self.coef_) and not on_gpu(X):
            return raw_outputs(X, self.coef_, self.intercept_)
        return raw_outputs(X, *self._predictor())

    def sparsify(self) -> Self:
        """Store `coef_` as a SciPy sparse matrix, smaller and faster to predict with where most of it is zero.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        self.coef_ = sparse.csr_matrix(np.atleast_2d(self.coef_) if not sparse.issparse(self.coef_) else self.coef_)
        return self

    def densify(self) -> Self:
        """Store `coef_` as an array again.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        if sparse.issparse(self.coef_):
            coef = self.coef_.toarray()
            single = isinstance(self._target, RegressionTarget) and not self._target.multi_output
            self.coef_ = coef[0] if single else coef
        return self
