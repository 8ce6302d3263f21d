"""What all estimators share: fit and partial_fit around one call of the training loop."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight

from skminibatch import backends
from skminibatch.backends.arrays import is_sparse, on_host
from skminibatch.contract.kinds import declared
from skminibatch.estimators import pairs, parts
from skminibatch.estimators.attributes import continued, training_attributes
from skminibatch.estimators.callbacks import EpochTasks
from skminibatch.estimators.checks import FitRows, active_rows, advice_on_divergence, one_of_all, seed_of
from skminibatch.estimators.held_out import validation_rows, validator
from skminibatch.estimators.report import Report
from skminibatch.models.data import Data
from skminibatch.models.gradients import Gradients
from skminibatch.models.protocol import Model
from skminibatch.models.view import gradients_of
from skminibatch.preparation import online
from skminibatch.preparation.begin import Fitted, Settings, begin, in_coordinates
from skminibatch.preparation.present import Present
from skminibatch.samplers import SAMPLERS
from skminibatch.schedules import SCALING_RULES, SCHEDULES, SIZE_SCHEDULES
from skminibatch.statistics.random import EXAMINED, OF_SCALE, sample_rows, stream
from skminibatch.training.loop import training
from skminibatch.training.state import Progress, Recipe, Verdict
from skminibatch.training.work import Training, carried_out


def of_mean_one(weights: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """The weights over their mean in the rows in use."""
    return weights / weights[slice(None) if rows is None else rows].mean() if weights.size else weights


class BaseMiniBatchEstimator(CallbackSupportMixin, BaseEstimator):
    """Fit and partial_fit of a model by mini-batches; subclasses supply the target and the model."""

    _parameter_constraints: dict = {
        "learning_rate": [StrOptions(set(SCHEDULES)), tuple],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            StrOptions({"full", *SIZE_SCHEDULES}),
            tuple,
        ],
        "lr_scaling": [StrOptions(set(SCALING_RULES)), None],
        "base_batch_size": [Interval(Integral, 1, None, closed="left")],
        "sampler": [StrOptions(set(SAMPLERS)), tuple],
        "shuffle": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "scoring": [str, callable, None],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "warm_start": ["boolean"],
        "n_jobs": [Integral, None],
        "device": [StrOptions({"auto", "cpu", "cuda", "base"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _remedy = "learning_rate='auto'"  # of a divergence
    _measures_objective = True  # after each epoch, on a sample of the rows; otherwise it is the mean over the batches

    @classmethod
    @cache  # a constructor does not change, and reading its signature takes longer than a step of training
    def _get_param_names(cls) -> list[str]:
        """The parameters of the constructor, as scikit-learn finds them."""
        return super()._get_param_names()

    def _store(self, parameters: dict[str, Any]) -> None:
        """Store the parameters of the constructor, unchanged."""
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def __copy__(self) -> Self:
        """A shallow copy whose stream goes on by itself."""
        estimator = type(self).__new__(type(self))
        estimator.__dict__.update(self.__dict__)
        if "_fitted" in vars(self):
            estimator._fitted = self._fitted.copied()
        return estimator

    @property
    def _before(self) -> Fitted | None:
        """What the call before has left, about all features."""
        fitted = getattr(self, "_fitted", None)
        return None if fitted is None else fitted.of_all_features()

    # What a subclass supplies

    @abstractmethod
    def _target_of(self, y, classes=None) -> Any:
        """The target of some labels."""

    @abstractmethod
    def _check_X_y(self, X, y, reset: bool) -> tuple:
        """Validated X and y."""

    @abstractmethod
    def _model(self, target, X, device: str) -> Model:
        """The model for rows like these on a device, its optimizer included, without coordinates."""

    @abstractmethod
    def _start(self, model, target, data: Data, init: tuple, seed: int) -> tuple:
        """The predictor at the start: `init`, with the default in place of each None."""

    @abstractmethod
    def _first_rate(self) -> float | None:
        """The rate that schedules start from."""

    @abstractmethod
    def _attributes(self, *predictor_and_target) -> dict[str, Any]:
        """Fitted attributes of the predictor, for a target."""

    @abstractmethod
    def _predictor(self) -> tuple:
        """The predictor, from the fitted attributes."""

    @abstractmethod
    def _assigned(self, model, published: tuple | None) -> tuple | None:
        """The predictor in the attributes where a user has assigned them; None where they are as they were published.

        `published` is None before the first call: then what is not assigned is left to `_start`.
        """

    def _unpacked(self, X, previous: Fitted | None = None):
        """Rows as they are read best: those in CSR that have few zeros as dense ones, but of a stream of sparse ones."""
        return X

    def _for_rows(self, target, model, sampler, sizes, data: Data) -> Model:
        """The model with the optimizer that suits the rows best, where the choice is free and training starts afresh."""
        return model

    def _coordinates(self, model) -> str:
        """The kind of coordinates that training uses, see `Settings`."""
        return "given"

    def _follows_smoothness(self, model) -> bool:
        """Whether the rate is automatic and follows from the smoothness."""
        optimizer = declared(model.optimizer)
        return self.learning_rate == "auto" and optimizer.auto_rate is None and not optimizer.dual

    def _follows_newton(self, model, sampler, sizes, data: Data) -> type | None:
        """The form of Newton's method by which a stream may be followed."""
        return None

    def _second_solver(self, model, sampler, data: Data) -> Any:
        """The optimizer with a table that takes over after the first epoch of `fit`, or None."""
        return None

    def _completed(self, progress: Progress, data: Data) -> Progress:
        """The progress at the end of `fit`, with what a model computes from all rows."""
        return progress

    def _class_weights(self, target, y, counts) -> np.ndarray | None:
        """Weight of each row by its class, or None; `counts` of the classes so far."""
        return None

    def _counts(self, target, y) -> np.ndarray | None:
        """How often each class occurs, where class weights need it."""
        return None

    def _checked_classes(self, target, classes) -> Any:
        """The `classes` of partial_fit, checked against the target so far, None in the first call."""

    # fit

    def _fit(self, X, y, sample_weight, init: tuple, separate: tuple, strata) -> Self:
        """Fit; `init` is the predictor that the user wants to start from, `separate` validation rows (X, y, weights)."""
        with self._all_or_nothing():
            self._validate_params()
            previous, given = self._before if self.warm_start else None, (X, y, sample_weight)
            checked = self._checked(X, y, on_host(sample_weight), previous)
            carried_out(self._fitting(checked, given, previous, init, separate, strata))
        return self

    def _checked(self, X, y, sample_weight, previous: Fitted | None = None) -> FitRows:
        """The rows of a fit, checked and encoded."""
        X, y = self._check_X_y(X, y, reset=previous is None)
        target = self._target_of(y) if previous is None else previous.target
        counts = self._counts(target, y)
        weights = self._weights(target, y, sample_weight, counts)
        encoded = target.encode(y, np.dtype(X.dtype))
        return FitRows(X, y, sample_weight, target, encoded, counts, weights, active_rows(weights, "fit"))

    def _fitting(self, checked: FitRows, given: tuple, *begins) -> Training[None]:
        """The fit on rows that are checked; `given` are X, y and the sample weights as they came, `begins` as in `_begun`."""
        report = Report(self.verbose > 0, self.max_iter)
        with self._begun(checked, given[0], *begins) as begun:
            yield from self._training(*begun, given, report)

    @contextmanager
    def _begun(
        self, checked: FitRows, given, previous: Fitted | None = None, init: tuple = (),
        separate: tuple = (None, None, None), strata=None, goal: str | None = None,
    ) -> Iterator[tuple[Fitted, Data, Recipe]]:  # fmt: skip
        """What `fit` trains, as before its first step: what outlives the call, the rows on their device, and the recipe."""
        X, y, sample_weight, target, encoded, counts, weights, rows, memory = checked
        rng, device = check_random_state(self.random_state), backends.device_of(self.device, X, self.batch_size)
        with backends.rows_on_device(device, X) as X:
            validation, rows = validation_rows(self, target, (X, y, sample_weight), rows, rng, separate)
            X, present = self._of_present_features(one_of_all(self._unpacked(X), memory), init, memory)
            data = Data(X, encoded, of_mean_one(weights, rows), rows, memory=memory)
            settings = self._settings(target, data, device, (given, strata), seed_of(rng), init, self.max_iter)
            settings.class_counts, settings.goal = counts, goal
            if validation is not None:
                settings.validation = validator(self, validation, settings, present)
            keeps_predictor = all(array is None for array in init)
            fitted, data, recipe = begin(settings, data, previous if keeps_predictor else None)
            fitted.present = present
            yield fitted, data, recipe

    def _with_predictor(self, *predictor_and_target) -> Self:
        """A copy of the estimator that predicts by a predictor, without names of features."""
        estimator = copy.copy(self)
        estimator.__dict__.pop("feature_names_in_", None)
        for name, attribute in self._attributes(*predictor_and_target).items():
            setattr(estimator, name, attribute)
        return estimator

    def _training(self, fitted: Fitted, data: Data, recipe: Recipe, given: tuple, report: Report) -> Training[None]:
        """Train with scikit-learn's callbacks; an interrupt keeps the completed epochs."""
        X, y, sample_weight = given
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        root = self._init_callback_context(max_subtasks=recipe.max_epochs)
        facts = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        tasks = EpochTasks(root, facts, recipe.max_epochs, lambda learnt: self._learnt(fitted, learnt))

        def on_epoch(progress: Progress) -> bool:
            report.epoch(progress)
            return tasks.completed(progress)

        try:
            with advice_on_divergence(self, data.X, self._remedy, fitted.present):
                start = fitted.model, data, fitted.params, recipe, fitted.state, fitted.history
                progress = yield from training(*start, on_epoch)
        except KeyboardInterrupt:
            if tasks.last is not None:
                n_epochs = tasks.last.state.epoch
                tasks.last.verdict = Verdict(f"interrupted; the {n_epochs} completed epochs are kept")
                self._publish(fitted, tasks.last)
            raise
        progress = self._completed(progress, data)
        self._publish(fitted, progress)
        report.end(self.stop_reason_)
        tasks.end(progress)
        if not progress.verdict.converged and recipe.tol is not None:
            warnings.warn(
                "Maximum number of iteration reached before convergence. Consider increasing max_iter to improve the fit.",
                ConvergenceWarning,
                stacklevel=6,
            )

    # partial_fit

    def _partial_fit(self, X, y, classes, sample_weight, strata) -> Self:
        with self._all_or_nothing():
            self._validate_params()
            report = Report(self.verbose >= 2)
            if self.early_stopping:
                raise ValueError("early_stopping should be False with partial_fit: there is no epoch to stop after.")
            previous, given = self._before, X
            X, y = self._check_X_y(X, y, reset=previous is None)
            classes = self._checked_classes(previous.target if previous else None, classes)
            target = previous.target if previous else self._target_of(y, classes)
            y_encoded = target.encode(y, np.dtype(X.dtype))
            counts = self._counts(target, y)
            if counts is not None and previous is not None and previous.class_counts is not None:
                counts = counts + previous.class_counts
            weights = self._weights(target, y, on_host(sample_weight), counts)
            rows = active_rows(weights, "partial_fit")
            if rows is not None and rows.size == 0:
                if previous is None:
                    raise ValueError(
                        "All sample weights are zero: the first call of partial_fit needs a row that counts."
                    )
                return self
            seed = previous.seed if previous else seed_of(self.random_state)
            device = backends.device_of(self.device, X, self.batch_size)
            with backends.rows_on_device(device, X) as X:
                data = Data(self._unpacked(X, previous), y_encoded, weights, rows)
                settings = self._settings(target, data, device, (given, strata), seed, None, None)
                settings.class_counts = counts
                with advice_on_divergence(self, X, self._remedy):
                    fitted, progress = online.next_rows(settings, data, previous)
            progress.verdict = Verdict("partial_fit makes one pass over the data it is given")
            self._publish(fitted, progress)
            report.epoch(progress)
        return self

    # What both share

    def _settings(
        self, target, data: Data, device: str, given: tuple, seed: int, init: tuple | None, epochs: int | None
    ) -> Settings:
        """What the parameters of the constructor ask for; `given` are X and the strata as the user passed them."""
        sampler = parts.sampler(self.sampler, self.shuffle)
        strata = parts.strata(sampler, given[1], given[0], data.y, target)
        model = self._checked_model(target, data.X, device, sampler, partial=epochs is None)
        sizes = parts.batch_sizes(self.batch_size, data.n_rows)
        pairs.check_batch_sizes(sizes, self.batch_size, data.n_rows, sampler, model)
        scaling = parts.scaling_rule(self.lr_scaling, self.learning_rate, model.optimizer)
        pairs.check_growth(sizes, self.batch_size, scaling)
        assigned = None
        if (epochs is None or self.warm_start) and all(array is None for array in init or ()):
            fitted = self._before
            assigned = self._assigned(model, fitted.predictor if fitted else None)

        continues = self.warm_start and hasattr(self, "_fitted")
        if epochs is not None and not continues and all(array is None for array in init or ()):
            model = self._for_rows(target, model, sampler, sizes, data)

        def start(model, data: Data, predictor: tuple | None) -> tuple:
            return self._start(model, target, data, predictor or init or model.unset, seed)

        return Settings(
            target=target,
            model=model,
            sampler=sampler,
            strata=strata,
            sizes=sizes,
            schedule=partial(
                parts.schedule,
                self.learning_rate,
                loss=model.loss,
                alpha=self.alpha,
                eta0=self._first_rate(),
                power_t=self.power_t,
            ),
            scaling=scaling,
            scaled_optimizer=lambda optimizer, sizes: parts.scaled_optimizer(
                optimizer, self.lr_scaling, sizes, self.base_batch_size
            ),
            start=start,
            assigned=assigned,
            coordinates=self._coordinates(model),
            follows_smoothness=self._follows_smoothness(model),
            measures_objective=self._measures_objective,
            seed=seed,
            epochs=epochs,
            base_batch_size=self.base_batch_size,
            clip_norm=np.inf if self.clip_norm is None else float(self.clip_norm),
            tol=self.tol,
            patience=self.n_iter_no_change,
            max_seconds=self.max_time,
            keep_best=bool(self.early_stopping),
            follows_newton=self._follows_newton(model, sampler, sizes, data) if epochs is None else None,
            second_solver=None if epochs is None else self._second_solver(model, sampler, data),
        )

    def _checked_model(self, target, X, device: str, sampler, partial: bool = False) -> Model:
        """The model, if its parts go together."""
        model = self._model(target, X, device)
        pairs.check_table(model, sampler, sparse=is_sparse(X), clip_norm=self.clip_norm, partial=partial)
        pairs.check_dual(model, self.get_params(deep=False))
        pairs.check_rows(model, sampler)
        return model

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Leave the estimator as it was if anything fails, except for what an interrupted `fit` has saved."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            if self.__dict__.get("_fitted") is before.get("_fitted"):
                kept = {k: v for k, v in self.__dict__.items() if k.startswith(("_callback", "_skl_callbacks"))}
                self.__dict__.clear()
                self.__dict__.update({**before, **kept})
            raise

    def _of_present_features(self, X, init: tuple, memory: dict | None = None) -> tuple[Any, Present | None]:
        """The rows without features that none of them has, where these are most; which are left (None: all)."""
        return X, None

    def _weights(self, target, y, sample_weight, counts) -> np.ndarray:
        """Sample weights times class weights, float64; empty if every row counts the same."""
        weights = np.empty(0)
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, y, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=True
            )
        by_class = self._class_weights(target, y, counts)
        if by_class is not None:
            weights = by_class if not weights.size else weights * by_class
        return weights

    def _learnt(self, fitted: Fitted, predictor: tuple) -> dict[str, Any]:
        """The fitted attributes that a predictor is published as."""
        attributes = self._attributes(*predictor, fitted.target)
        if fitted.present is not None:
            attributes["coef_"] = fitted.present.spread(attributes["coef_"])
        return attributes

    def _publish(self, fitted: Fitted, progress: Progress) -> None:
        """Write every fitted attribute."""
        attributes = self._learnt(fitted, progress.predictor) | training_attributes(fitted, progress)
        for name, attribute in attributes.items():
            setattr(self, name, attribute)
        self._fitted = continued(fitted, progress)

    def _examined(self, X, y, sample_weight) -> Gradients:
        """The gradients of these rows, as fitted or as `fit` would start; see `contract.typing.Examinable`."""
        fitted = self._before
        estimator = clone(self) if fitted is None else self
        estimator._validate_params()
        X, y = map(on_host, estimator._check_X_y(X, y, reset=fitted is None))
        target = estimator._target_of(y) if fitted is None else fitted.target
        weights = estimator._weights(target, y, on_host(sample_weight), estimator._counts(target, y))
        rows = active_rows(weights, "fit")
        data = Data(self._unpacked(X), target.encode(y, np.dtype(X.dtype)), of_mean_one(weights, rows), rows)
        if fitted is not None:
            device = "cpu" if fitted.model.device == "cuda" else fitted.model.device  # a few rows, on the host
            return gradients_of(fitted.model.with_device(device), data, self._predictor())
        seed = 0 if estimator.random_state is None else seed_of(estimator.random_state)
        sampled = sample_rows(X.shape[0], EXAMINED, stream(seed, OF_SCALE), rows)
        model = estimator._model(target, X, backends.device_of(estimator.device))
        model, _ = in_coordinates(estimator._coordinates(model), model, data, sampled)
        return gradients_of(model, data, estimator._start(model, target, data, model.unset, seed))
