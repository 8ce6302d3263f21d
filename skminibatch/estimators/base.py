"""What all estimators share: fit and partial_fit around one call of the training loop."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight

from skminibatch import backends
from skminibatch.backends.arrays import is_sparse, on_host
from skminibatch.estimators import parts
from skminibatch.estimators.checks import seed_of
from skminibatch.estimators.held_out import validation_score
from skminibatch.models.data import Data
from skminibatch.preparation.batch_size import chosen_size, derived_size
from skminibatch.preparation.begin import Fitted
from skminibatch.preparation.saga import staged, with_table
from skminibatch.preparation.smoothness import first_smoothness, first_statistic, stiffness_of, stream_smoothness
from skminibatch.samplers import SAMPLERS
from skminibatch.schedules import SCALING_RULES, SCHEDULES, SIZE_SCHEDULES
from skminibatch.schedules.auto import PILOT
from skminibatch.statistics.features import Moments
from skminibatch.statistics.random import EXAMINED, OF_EVALUATION, OF_SCALE, sample_rows, stream
from skminibatch.training.loop import train
from skminibatch.training.state import Diverged, History, Progress, Recipe, TrainState

EVALUATED = 10_000  # rows on which the objective is measured
STREAM_ROWS = 1 << 40  # a stream has no end: a batch is as one drawn from far more rows
STREAM_WARMUP = 20.0  # updates; a stream has no first pass of which to take a share
WARMUP_SHARE = 0.05  # of the first pass
LONGEST_WARMUP = 100.0  # updates


def of_mean_one(weights: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """The weights over their mean in the rows in use."""
    return weights / weights[slice(None) if rows is None else rows].mean() if weights.size else weights


class BaseMiniBatchEstimator(CallbackSupportMixin, BaseEstimator):
    """Fit and partial_fit of a model by mini-batches; subclasses say what the target and the model are."""

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

    def _store(self, parameters: dict) -> None:
        """Store the parameters of the constructor, unchanged."""
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # -- what a subclass says ------------------------------------------------------------------------------------

    @abstractmethod
    def _target_of(self, y, classes=None):
        """The target of some labels."""

    @abstractmethod
    def _check_X_y(self, X, y, reset):
        """Validated X and y."""

    @abstractmethod
    def _model(self, target, X):
        """The model, its optimizer included, without coordinates."""

    @abstractmethod
    def _start(self, model, target, data, init: tuple, seed: int) -> tuple:
        """The predictor at the start: `init`, or what stands for each None in it."""

    @abstractmethod
    def _first_rate(self) -> float | None:
        """The rate that schedules start from."""

    @abstractmethod
    def _attributes(self, *predictor_and_target) -> dict:
        """Fitted attributes of the predictor, for a target."""

    @abstractmethod
    def _predictor(self) -> tuple:
        """The predictor, from the fitted attributes."""

    def _in_coordinates(self, model, data, sampled, moments, old):
        """The model in coordinates that suit the features of the rows in `sampled`, and the statistics of these.

        `old` is the model so far, None at the start.
        """
        return model, moments

    def _completed(self, progress: Progress, data: Data) -> Progress:
        """The progress at the end of `fit`, with what a model wants to know of all rows."""
        return progress

    def _class_weights(self, target, y, counts):
        """Weight of each row by its class, or None; `counts` of the classes so far."""
        return None

    # -- fit -----------------------------------------------------------------------------------------------------

    def _fit(self, X, y, sample_weight, init: tuple, separate: tuple, strata):
        """Fit; `init` is what the user wants to start from, `separate` his validation rows (X, y, weights)."""
        with self._all_or_nothing():
            self._validate_params()
            given, sample_weight = (X, y, sample_weight), on_host(sample_weight)
            previous = getattr(self, "_fitted", None) if self.warm_start else None
            X, y = self._check_X_y(X, y, reset=previous is None)
            target = self._target_of(y) if previous is None else previous.target
            rng = check_random_state(self.random_state)
            counts = self._counts(target, y)
            weights = self._weights(target, y, sample_weight, counts)
            rows = self._active_rows(weights, "fit")
            with self._rows_on_device(X) as X:
                validation, rows = validation_score(self, target, (X, y, sample_weight), rows, rng, separate)
                seed = seed_of(rng)
                sampler = parts.sampler(self.sampler, self.shuffle)
                data = Data(X, target.encode(y, np.dtype(X.dtype)), of_mean_one(weights, rows), rows)
                strata = parts.strata(sampler, strata, given[0], data.y, target)
                fitted, recipe = self._begun(previous, target, data, init, seed, counts, sampler, strata, validation)
                self._train(fitted, data, recipe, given, epochs=self.max_iter)
        return self

    def _rows_on_device(self, X):
        """A context with the rows where training reads them."""
        return backends.rows_on_device(backends.device_of(self.device, X, self.batch_size), X)

    def _begun(self, previous: Fitted | None, target, data: Data, init, seed, counts, sampler, strata, validation):
        """What training needs to begin: (Fitted, Recipe)."""
        X = data.X
        model, solver = staged(self._checked_model(target, X, sampler))
        sizes = parts.batch_sizes(self.batch_size, data.n_rows, sampler, model)
        sampled = sample_rows(X.shape[0], EXAMINED, stream(seed, OF_SCALE), data.rows)
        model, moments = self._in_coordinates(model, data, sampled, Moments.none(X.shape[1]), None)
        if previous is not None and all(given is None for given in init):
            init = previous.model.predictor(previous.params, None)
        params = model.start(*self._start(model, target, data, init, seed))
        smooth, reservoir, chosen, memory = None, None, None, sampler.start(X.shape[0], data.rows, seed, 0, strata)
        if self._follows_smoothness(model):
            smooth, reservoir = first_smoothness(model, data, sampled, params, seed)
        if hasattr(sizes, "chosen") and solver is not None and smooth is not None:
            sizes, _ = chosen = derived_size(sizes, model, data, smooth)
        elif hasattr(sizes, "chosen"):
            rates = self._schedule(model, self.max_iter * data.n_rows, sampled.size / PILOT)
            settings = (sizes, model, data, sampled, params, rates, smooth, data.n_rows, seed, memory)
            sizes, _ = chosen = chosen_size(*settings)
        model = replace(model, optimizer=self._scaled_optimizer(model.optimizer, sizes))
        rates = self._schedule(model, self.max_iter * data.n_rows, data.n_rows / min(sizes.start, data.n_rows))
        recipe = self._recipe(model, data, (sampler, rates, sizes), smooth, validation, seed, self.max_iter)
        if solver is not None:
            rates = self._schedule(replace(model, optimizer=solver), self.max_iter * data.n_rows, 0.0)
            recipe = with_table(recipe, solver, rates, data, seed)
        state = TrainState(
            **stiffness_of(recipe.smoothness),
            population=float(data.n_rows),
            **first_statistic(model, data, sampled, params, recipe.scaling),
            sampler_memory=memory,
        )
        return Fitted(target, model, params, state, seed, moments, reservoir, smooth, History(), counts, chosen), recipe

    def _train(self, fitted: Fitted, data: Data, recipe: Recipe, given, epochs: int) -> None:
        """Train with scikit-learn's callbacks, one task an epoch; an interrupt keeps the epochs that were done."""
        X, y, sample_weight = given
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        facts = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        root = self._init_callback_context(max_subtasks=epochs)
        root.call_on_fit_task_begin(**facts)
        tasks, done = [], []

        def begin():
            task = root.subcontext(task_name="epoch")
            task.call_on_fit_task_begin(**facts)
            tasks.append(task)

        def end(task, progress: Progress) -> bool:
            def attributes():
                return self._attributes(*progress.predictor, fitted.target)

            return task.call_on_fit_task_end(**facts, reconstruction_attributes=attributes)

        def on_epoch(progress: Progress) -> bool:
            # the parameters of an epoch that is done, should the next one be interrupted
            done[:] = [replace(progress, params=progress.params.copy())]
            if self.verbose:
                print(
                    f"-- Epoch {progress.state.epoch}: objective {progress.objective:.6g}, rate "
                    f"{progress.history['rate'][-1]:.3g}, {progress.history['seconds'][-1]:.2f} s"
                )
            stop = end(tasks[-1], progress)
            if len(tasks) < epochs and not (stop or progress.reason):
                begin()
            return stop

        begin()
        try:
            progress = self._trained(fitted, data, recipe, on_epoch)
        except KeyboardInterrupt:
            if done:
                done[0].reason = f"interrupted; the {done[0].state.epoch} epochs before are kept"
                self._publish(fitted, done[0], recipe)
            raise
        progress = self._completed(progress, data)
        self._publish(fitted, progress, recipe)
        end(root, progress)
        if not progress.converged and recipe.tol is not None:
            warnings.warn(
                "Maximum number of iteration reached before convergence. Consider increasing max_iter to improve the fit.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _trained(self, fitted: Fitted, data: Data, recipe: Recipe, *on_epoch) -> Progress:
        """The progress after training; a divergence is an error that says what to do."""
        try:
            return train(fitted.model, data, fitted.params, recipe, fitted.state, fitted.history, *on_epoch)
        except Diverged as failure:
            raise ValueError(f"{failure} {self._advice(failure, data)}") from None

    def _advice(self, failure: Diverged, data: Data) -> str:
        """What to do about a divergence: the rate, and the features whose scale is the likely cause."""
        X = data.X[:1000]
        sizes = np.asarray(abs(X).max(axis=0).todense() if sparse.issparse(X) else np.abs(X).max(axis=0)).ravel()
        names = getattr(self, "feature_names_in_", None)
        largest = np.argsort(sizes)[::-1][:3]
        named = ", ".join(f"{j if names is None else names[j]} (up to {sizes[j]:.3g})" for j in largest)
        return (
            "Scaling input data with StandardScaler or MinMaxScaler might help, or a smaller rate than "
            f"{failure.rate:.3g}, or {self._remedy}. Largest features: {named}."
        )

    # -- partial_fit ---------------------------------------------------------------------------------------------

    def _partial_fit(self, X, y, classes, sample_weight, strata):
        with self._all_or_nothing():
            self._validate_params()
            if self.early_stopping:
                raise ValueError("early_stopping should be False with partial_fit: there is no epoch to stop after.")
            old, given = getattr(self, "_fitted", None), X
            X, y = self._check_X_y(X, y, reset=old is None)
            self._check_classes(old.target if old else None, classes)
            target = old.target if old else self._target_of(y, classes)
            y_encoded = target.encode(y, np.dtype(X.dtype))
            counts = self._counts(target, y)
            if counts is not None and old is not None and old.class_counts is not None:
                counts = counts + old.class_counts
            weights = self._weights(target, y, on_host(sample_weight), counts)
            rows = self._active_rows(weights, "partial_fit")
            if rows is not None and rows.size == 0:
                if old is None:
                    raise ValueError(
                        "All sample weights are zero: the first call of partial_fit needs a row that counts."
                    )
                return self
            seed = old.seed if old else seed_of(self.random_state)
            sampler = parts.sampler(self.sampler, self.shuffle)
            strata = parts.strata(sampler, strata, given, y_encoded, target)
            with self._rows_on_device(X) as X:
                data = Data(X, y_encoded, weights, rows)
                fitted, data, recipe = self._resumed(old, target, data, seed, counts, sampler, strata)
                progress = self._trained(fitted, data, recipe)
            progress.reason = "partial_fit does one pass"
            self._publish(fitted, progress, recipe)
        return self

    def _resumed(self, old: Fitted | None, target, data: Data, seed: int, counts, sampler, strata):
        """What training needs to go on with new rows: (Fitted, the rows as it sees them, Recipe)."""
        X = data.X
        model = self._checked_model(target, X, sampler, partial=True)
        epoch = old.state.epoch if old else 0
        sampled = sample_rows(X.shape[0], EXAMINED, stream(seed, OF_SCALE, epoch), data.rows)
        moments = old.moments if old else Moments.none(X.shape[1])
        model, moments = self._in_coordinates(model, data, sampled, moments, old.model if old else None)
        if old is None:
            params = model.start(*self._start(model, target, data, model.unset, seed))
        elif type(old.model.optimizer) is type(model.optimizer) and old.params is not None:
            params = old.model.in_coordinates_of(model, old.params)
        else:
            params = model.start(*old.model.predictor(old.params, old.state.coefficients))
        reservoir, smooth = None, None
        if self._follows_smoothness(model):
            reservoir, smooth = stream_smoothness(model, data, params, old, seed, epoch)
        sizes = parts.batch_sizes(self.batch_size, data.n_rows, sampler, model)
        chosen, memory = None, sampler.start(X.shape[0], data.rows, seed, epoch, strata)
        if hasattr(sizes, "chosen"):
            rates = self._schedule(model, None, None)
            settings = (sizes, model, data, sampled, params, rates, smooth, STREAM_ROWS, seed, memory)
            sizes, _ = chosen = (old.chosen if old else None) or chosen_size(*settings)
        model = replace(model, optimizer=self._scaled_optimizer(model.optimizer, sizes))
        rates = self._schedule(model, None, None)
        recipe = self._recipe(model, data, (sampler, rates, sizes), smooth, None, seed, None)
        state = old.state if old else TrainState(**first_statistic(model, data, sampled, params, recipe.scaling))
        state = state._replace(
            **stiffness_of(recipe.smoothness),
            population=float(STREAM_ROWS),
            sampler_memory=memory,
        )
        history = History({name: list(numbers) for name, numbers in old.history.items()}) if old else History()
        fitted = Fitted(target, model, params, state, seed, moments, reservoir, smooth, history, counts, chosen)
        return fitted, data, recipe

    def _checked_model(self, target, X, sampler, partial: bool = False):
        """The model, if its parts go together."""
        model = self._model(target, X)
        parts.check_table(model, sampler, sparse=is_sparse(X), clip_norm=self.clip_norm, partial=partial)
        parts.check_rows(model, sampler)
        return model

    def _check_classes(self, target, classes):
        """Check the `classes` of partial_fit against the target so far, None in the first call."""

    # -- shared steps --------------------------------------------------------------------------------------------

    @contextmanager
    def _all_or_nothing(self):
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

    @staticmethod
    def _active_rows(weights: np.ndarray, method: str) -> np.ndarray | None:
        """Rows of positive weight, None for all."""
        if not weights.size or np.all(weights > 0):
            return None
        rows = np.flatnonzero(weights)
        if method == "fit" and not rows.size:
            raise ValueError("Sample weights must contain at least one non-zero number: all rows have weight zero.")
        return rows

    def _counts(self, target, y):
        """How often each class occurs, where class weights need it."""
        return None

    def _schedule(self, model, horizon, updates_a_pass):
        warmup = STREAM_WARMUP
        if updates_a_pass is not None:
            warmup = min(max(WARMUP_SHARE * updates_a_pass, 1.0), LONGEST_WARMUP)
        return parts.schedule(
            self.learning_rate,
            optimizer=model.optimizer,
            loss=model.loss,
            alpha=self.alpha,
            eta0=self._first_rate(),
            power_t=self.power_t,
            horizon=horizon,
            warmup=warmup,
        )

    def _scaled_optimizer(self, optimizer, sizes):
        """The optimizer with the hyper-parameters of a batch size, where a scaling rule moves them."""
        return parts.scaled_optimizer(optimizer, self.lr_scaling, sizes, self.base_batch_size)

    def _follows_smoothness(self, model) -> bool:
        """Whether the rate is automatic and follows from the smoothness."""
        return self.learning_rate == "auto" and model.optimizer.auto_rate is None

    def _recipe(self, model, data: Data, learners, smooth, validation, seed, epochs) -> Recipe:
        """`learners`: the sampler, the schedule of rates and that of batch sizes."""
        tempered = getattr(learners[0], "tempered", None)
        return Recipe(
            *learners,
            smoothness=smooth if smooth is None or tempered is None else tempered(smooth),
            clip_norm=np.inf if self.clip_norm is None else float(self.clip_norm),
            scaling=parts.scaling_rule(self.lr_scaling, self.learning_rate, model.optimizer),
            base_batch_size=self.base_batch_size,
            max_epochs=epochs or 1,
            tol=self.tol if epochs else None,
            patience=self.n_iter_no_change,
            max_seconds=self.max_time,
            evaluation_rows=self._evaluation_rows(data, seed),
            seed=seed,
            validation=validation,
            keep_best=bool(self.early_stopping),
        )

    def _evaluation_rows(self, data: Data, seed: int) -> np.ndarray | None:
        """Rows on which the objective is measured, see `Recipe`."""
        return sample_rows(data.X.shape[0], EVALUATED, stream(seed, OF_EVALUATION), data.rows)

    def _examined(self, X, y, sample_weight):
        """(model, the predictor, data) for a diagnostic: as fitted, or as `fit` would start."""
        fitted = getattr(self, "_fitted", None)
        one = clone(self) if fitted is None else self
        one._validate_params()
        X, y = map(on_host, one._check_X_y(X, y, reset=fitted is None))
        target = one._target_of(y) if fitted is None else fitted.target
        weights = one._weights(target, y, on_host(sample_weight), one._counts(target, y))
        rows = one._active_rows(weights, "fit")
        data = Data(X, target.encode(y, np.dtype(X.dtype)), of_mean_one(weights, rows), rows)
        if fitted is not None:
            device = "cpu" if fitted.model.device == "cuda" else fitted.model.device  # a few rows, on the host
            return replace(fitted.model, device=device), *self._predictor(), data
        seed = 0 if one.random_state is None else seed_of(one.random_state)
        model, sampled = one._model(target, X), sample_rows(X.shape[0], EXAMINED, stream(seed, OF_SCALE), rows)
        model, _ = one._in_coordinates(model, data, sampled, Moments.none(X.shape[1]), None)
        return model, *one._start(model, target, data, model.unset, seed), data

    def _publish(self, fitted: Fitted, progress: Progress, recipe: Recipe) -> None:
        """Write every fitted attribute."""
        params = progress.params
        if params is None:  # the best epoch was restored: go on from there
            params = progress.model.start(*progress.predictor)
        state = progress.state._replace(sampler_memory=None)
        history = progress.history.arrays()
        attributes = {
            **self._attributes(*progress.predictor, fitted.target),
            "n_iter_": max(1, progress.state.epoch - fitted.state.epoch),
            "t_": progress.state.samples,
            "n_updates_": progress.state.step,
            "batch_size_": progress.state.batch_size,
            "history_": history,
            "loss_curve_": history["loss"] + history["penalty"],
            "stop_reason_": progress.reason if fitted.chosen is None else f"{progress.reason}; {fitted.chosen[1]}",
            "device_": fitted.model.device,
        }
        attributes["best_loss_"] = float(attributes["loss_curve_"].min())
        scored = np.isfinite(history["validation_score"]).any()
        attributes["validation_scores_"] = history["validation_score"] if scored else None
        attributes["best_validation_score_"] = float(np.nanmax(history["validation_score"])) if scored else None
        fitted.model, fitted.params, fitted.state, fitted.history = progress.model, params, state, progress.history
        attributes["_fitted"] = fitted
        for name, attribute in attributes.items():
            setattr(self, name, attribute)
