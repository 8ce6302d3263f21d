"""The one beginning of every training: of `fit`, of a warm start and of `partial_fit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from skminibatch.backends.arrays import is_sparse
from skminibatch.contract.coordinates import RoundCoordinates
from skminibatch.contract.kinds import SIZE_CHOICE, declaration_of, declared
from skminibatch.contract.typing import AnyPart
from skminibatch.contract.verbs import identity
from skminibatch.models.data import Data
from skminibatch.models.linear import LinearModel
from skminibatch.models.protocol import Model, Predictor
from skminibatch.preparation.batch_size import any_size, chosen_size, derived_size, open_size
from skminibatch.preparation.dual import with_dual
from skminibatch.preparation.present import Present
from skminibatch.preparation.second_stage import staged, with_second_stage
from skminibatch.preparation.smoothness import (
    choose_coordinates,
    first_statistic,
    stream_smoothness,
)
from skminibatch.preparation.start import Start
from skminibatch.preparation.visits import Visits, visits_of
from skminibatch.schedules import ConstantSize
from skminibatch.schedules.auto import PILOT
from skminibatch.schedules.choice import SizeChoice
from skminibatch.statistics.features import Moments
from skminibatch.statistics.random import EXAMINED, OF_EVALUATION, OF_SCALE, OF_SKETCH, sample_rows, stream
from skminibatch.statistics.sketch import Sketch
from skminibatch.statistics.smoothness import SmoothnessConstants, unevenness
from skminibatch.training.drift import forgetful
from skminibatch.training.online_diagonal import OnlineDiagonal
from skminibatch.training.online_newton import OnlineNewton
from skminibatch.training.state import History, Recipe, TrainState, Validated

EVALUATED = 10_000  # rows on which the objective is measured
STREAM_ROWS = 1 << 40  # a stream has no end: its batches are drawn as from far more rows
STREAM_WARMUP = 20.0  # updates; a stream has no first pass of which to take a share
MOST_STEPS = 1_000_000  # for which the rows of `fit` count in an average
STREAM_PERIOD = 1000.0  # rows of a stream that count as a pass, where all count the same
WARMUP_SHARE = 0.05  # of the first pass
LONGEST_WARMUP = 100.0  # updates


@dataclass
class Settings:
    """What an estimator asks for, resolved: the parts of a training, where it starts and when it stops.

    Attributes
    ----------
    target, class_counts
        How y is encoded, and how often each class occurred where class weights need it. They are kept for later calls.
    model
        The model with its optimizer, in the coordinates of the features as given.
    sampler, strata
        The sampler, and the stratum of each row where the sampler needs it.
    sizes
        The schedule of batch sizes.
    schedule : callable
        ``schedule(optimizer=, horizon=, warmup=)`` gives the schedule of rates; the horizon, in samples, is None on a stream.
    scaling, scaled_optimizer
        The rule by which the rate follows the batch size, or None, and ``scaled_optimizer(optimizer, sizes)``, the optimizer
        with the hyper-parameters that this rule changes.
    start : callable
        ``start(model, data, predictor)`` gives the predictor at the start; `predictor` is that of the call before which a warm
        start continues from, or None.
    assigned : tuple or None
        The predictor that a user has assigned since the call before: training goes on from there, its optimizer fresh.
    coordinates : {'given', 'gentle', 'standard', 'centered'}
        How features are moved and stretched in training, see `choose_coordinates`.
    follows_smoothness : bool
        Whether the rate is automatic and follows from the smoothness of a batch.
    measures_objective : bool
        Whether the objective is measured on a sample of the rows; otherwise it is the mean over the batches of an epoch.
    seed
        Of all random numbers.
    epochs
        Passes over the rows at most; None: one pass over the next rows of a stream.
    follows_newton : type or None
        The form of Newton's method by which a stream may be followed, see `preparation.online`.
    second_solver
        The optimizer with a stored residual for each row that takes over after the first epoch; None: none does.
    goal
        What a batch size is chosen for, 'time' or 'rows', where nothing but the choice is asked for; its noise is measured
        then even if the choice does not depend on it. None: 'auto' of a training, by time.
    validation, keep_best, tol, patience, max_seconds, clip_norm, base_batch_size
        As in `Recipe`.
    """

    target: Any
    model: Model
    sampler: AnyPart
    sizes: AnyPart
    schedule: Callable[..., AnyPart]
    scaled_optimizer: Callable[[AnyPart, AnyPart], AnyPart]
    start: Callable[[Model, Data, Predictor | None], Predictor]
    seed: int
    epochs: int | None
    assigned: tuple | None = None
    coordinates: str = "given"
    follows_smoothness: bool = False
    measures_objective: bool = True
    strata: np.ndarray | None = None
    class_counts: np.ndarray | None = None
    scaling: AnyPart | None = None
    base_batch_size: int = 64
    clip_norm: float = np.inf
    tol: float | None = None
    patience: int = 3
    max_seconds: float | None = None
    validation: Callable[..., Validated] | None = None
    keep_best: bool = False
    follows_newton: type[OnlineNewton] | type[OnlineDiagonal] | None = None
    second_solver: AnyPart | None = None
    goal: str | None = None

    @property
    def on_stream(self) -> bool:
        """Whether the rows are a part of a stream."""
        return self.epochs is None

    def rates(self, optimizer: AnyPart, n_rows: int, updates_per_epoch: float, noisy: bool = True) -> AnyPart:
        """The schedule of rates for an optimizer, where an epoch has that many rows and updates.

        `noisy`: batches have noise, since they are not all rows.
        """
        if self.epochs is None:
            return self.schedule(optimizer=optimizer, horizon=None, warmup=STREAM_WARMUP)
        warmup = min(max(WARMUP_SHARE * updates_per_epoch, 1.0), LONGEST_WARMUP)
        return self.schedule(optimizer=optimizer, horizon=self.epochs * n_rows, warmup=warmup, noisy=noisy)


@dataclass
class Fitted:
    """What outlives a call: all that later training continues from, and no device handle."""

    target: Any
    model: Model
    params: Any  # an array; None: those that the predictor gives, the optimizer fresh
    state: TrainState
    seed: int
    moments: Moments
    sketch: Sketch | None  # of the rows of a stream
    smoothness: SmoothnessConstants | None
    history: History
    predictor: tuple  # as it was published: attributes that differ have been assigned by the user
    class_counts: np.ndarray | None = None
    chosen: SizeChoice | None = None  # the batch size of 'auto', kept on a stream
    newton: OnlineNewton | OnlineDiagonal | None = None  # of a stream that is followed by Newton's method
    present: Present | None = None  # the features that all of this is about, where `fit` left out those that no row has

    def of_all_features(self) -> Fitted:
        """The same about all features, for rows that may have others."""
        present, params = self.present, self.params
        if present is None:
            return self
        assert isinstance(self.model, LinearModel)
        coef, intercept = self.predictor
        spread: dict[str, Any] = {"model": present.model(self.model), "moments": present.moments(self.moments)}
        spread |= {"params": None if params is None else present.spread(params)}
        return replace(self, predictor=(present.spread(coef), intercept), present=None, **spread)

    def copied(self) -> Fitted:
        """The same, so that a stream that goes on from it changes nothing in this one."""
        return replace(self, newton=self.newton.copied()) if isinstance(self.newton, OnlineDiagonal) else self


def begin(settings: Settings, data: Data, previous: Fitted | None = None) -> tuple[Fitted, Data, Recipe]:
    """The state of training before its first step, the rows with their repetitions, and the recipe that training follows.

    Parameters
    ----------
    previous : Fitted or None
        The call before: a stream continues from its state, a warm start from its predictor alone.
    """
    if declared(settings.model.optimizer).dual and data.rows is not None:
        data = data.in_use_alone()
    stream_so_far = previous if settings.on_stream else None
    epoch = stream_so_far.state.epoch if stream_so_far else 0
    model, asked_for = staged(settings.model)
    sampled = sample_rows(data.X.shape[0], EXAMINED, stream(settings.seed, OF_SCALE, epoch), data.rows)
    model, moments = in_coordinates(settings.coordinates, model, data, sampled, stream_so_far)
    start = Start(model, _first_params(settings, model, data, previous), data, sampled, settings.seed)
    smoothness, sketch = None, None
    if settings.follows_smoothness and model.has_smoothness:
        smoothness, sketch = _smoothness(settings, start, stream_so_far, moments)
    second_solver, sizes, chosen = asked_for or settings.second_solver, settings.sizes, None
    if declared(sizes).kind is SIZE_CHOICE and declared(model.optimizer).dual:
        chosen = any_size(data.n_rows, "dual coordinate ascent takes one after another", settings.goal or "time")
    elif declared(sizes).kind is SIZE_CHOICE:
        memory = settings.sampler.start(data.X.shape[0], data.rows, settings.seed, epoch, settings.strata)
        fewest = declared(settings.sampler).smallest_batch(memory)
        chosen = _chosen_size(settings, start, smoothness, stream_so_far, second_solver is not None, fewest)
    if chosen is not None:
        sizes = ConstantSize(float(chosen.batch_size))
    start = start._replace(model=model.with_optimizer(settings.scaled_optimizer(model.optimizer, sizes)))
    population = float(STREAM_ROWS if settings.on_stream else data.n_rows)
    visits = visits_of(start, smoothness, sizes.start, population)
    recipe = _recipe(settings, start, sizes, smoothness, visits)
    if settings.measures_objective and not settings.on_stream:
        recipe = replace(recipe, constant=settings.start(start.model, data, None))
    if declared(start.model.optimizer).dual:
        start, rows, recipe = with_dual(recipe, start)
        visits = visits._replace(data=rows)
    if second_solver is not None:
        rates = settings.rates(second_solver, data.n_rows, 0.0)
        recipe = with_second_stage(
            recipe,
            start.model,
            second_solver,
            rates,
            data,
            settings.seed,
            by_full_steps=asked_for is None and declared(sizes).constant,
        )
    memory = settings.sampler.start(data.X.shape[0], visits.data.rows, settings.seed, epoch, settings.strata)
    if stream_so_far:
        state = stream_so_far.state
        if not _goes_on(settings, model, stream_so_far):
            state = state._replace(coefficients=None, optimizer_memory=None)
        if settings.assigned is None and state.optimizer_memory is None and state.population < STREAM_ROWS:
            state = state._replace(optimizer_memory=_as_after(recipe, start.model.optimizer, state))
        state = forgetful(start.model, data, start.params, state)
    else:
        state = TrainState(**first_statistic(start, recipe.scaling, population))
    history = History.of_stream(stream_so_far.history if stream_so_far else None) if settings.on_stream else History()
    period = population
    if settings.on_stream:
        period = STREAM_PERIOD * (smoothness.unevenness if smoothness else 1.0)
    state = state._replace(population=population, period=period, sampler_memory=memory)
    kept: dict[str, Any] = {"moments": moments, "sketch": sketch, "smoothness": smoothness, "chosen": chosen}
    kept |= {"seed": settings.seed, "target": settings.target, "class_counts": settings.class_counts}
    kept |= {"history": history, "predictor": start.model.unset}
    fitted = Fitted(model=start.model, params=start.params, state=state, **kept)
    return fitted, visits.data, recipe


def in_coordinates(
    kind: str, model: Model, data: Data, sampled: np.ndarray, stream_so_far: Fitted | None = None
) -> tuple[Model, Moments]:
    """The model in the coordinates of training, and the statistics of the features so far."""
    moments = stream_so_far.moments if stream_so_far else Moments.none(data.X.shape[1])
    if kind == "given" or not isinstance(model, LinearModel):
        return model, moments
    old = stream_so_far.model.coordinates if stream_so_far else None
    assert not isinstance(old, RoundCoordinates)  # of one fit, whose rows were written out
    return choose_coordinates(kind, model, data, sampled, moments, old)


def _as_after(recipe: Recipe, optimizer: AnyPart, state: TrainState) -> Any:
    """The memory of an average of iterates, as if it had been taken over the rows of `fit`: they count as much as new ones.

    Training that ends with another optimizer leaves none. Without it, an average begins anew, with the noise of a few steps.
    """
    if not declared(optimizer).brings("forget"):
        return None
    size = max(1.0, recipe.sizes.start)
    if recipe.smoothness is not None:
        state = state._replace(smoothness=recipe.smoothness.of_batch(size, float(STREAM_ROWS)))
    rate = np.asarray(recipe.schedule.rates(np.array([float(state.samples)]), state), float)
    n_steps = int(np.clip(state.population // size, 1, MOST_STEPS))
    return optimizer.coefficients(np.repeat(rate, n_steps), np.full(n_steps, round(size)), None)[1]


def _first_params(settings: Settings, model: Model, data: Data, previous: Fitted | None) -> np.ndarray:
    """The parameters before the first step, those of the optimizer included."""
    if settings.assigned is not None:
        return model.start(settings.start(model, data, settings.assigned))
    if previous is None or not settings.on_stream:
        predictor = _predictor_of(previous) if previous else None
        return model.start(settings.start(model, data, predictor))
    if _goes_on(settings, model, previous) and previous.params is not None:
        return previous.model.in_coordinates_of(model, previous.params)
    return model.start(_predictor_of(previous, previous.state.coefficients))


def _predictor_of(before: Fitted, coefficients: np.ndarray | None = None) -> Predictor:
    """The predictor that the call before has come to."""
    return before.predictor if before.params is None else before.model.predictor(before.params, coefficients)


def _goes_on(settings: Settings, model: Model, before: Fitted) -> bool:
    """Whether the optimizer of the call before goes on: nothing was assigned since, and it is of one class, and so inside."""
    same_class = declaration_of(before.model.optimizer) is declaration_of(model.optimizer)
    return settings.assigned is None and same_class


def _smoothness(
    settings: Settings, start: Start, stream_so_far: Fitted | None, moments: Moments
) -> tuple[SmoothnessConstants | None, Sketch | None]:
    """The smoothness of the rows, and of a stream the sketch of its rows."""
    if not settings.on_stream:
        smoothness, bounds = start.gradients.smoothness(), start.gradients.on(start.data.rows_in_use).loss_bounds()
        if smoothness is None or bounds is None:
            return None, None
        return smoothness.of_uneven(unevenness(bounds)), None
    assert isinstance(start.model, LinearModel)
    axes, loss, kind = (
        start.model.plain_axes,
        identity(start.model.loss),
        (start.data.X.shape[1], is_sparse(start.data.X)),
    )
    known, sketch, turn = None, None, 0
    if stream_so_far and identity(stream_so_far.model.loss) == loss:
        assert isinstance(stream_so_far.model, LinearModel)
        axes, turn, moments = stream_so_far.model.plain_axes, stream_so_far.state.epoch, stream_so_far.moments
        sketch = stream_so_far.sketch or Sketch.none(axes, *kind, stream_so_far.state.population)
        if identity(stream_so_far.model.penalty) == identity(start.model.penalty):
            known = stream_so_far.smoothness
    rng = stream(settings.seed, OF_SKETCH, turn)
    return stream_smoothness(start, sketch or Sketch.none(axes, *kind), known, moments, rng)


def _chosen_size(
    settings: Settings,
    start: Start,
    smoothness: SmoothnessConstants | None,
    stream_so_far: Fitted | None,
    has_table: bool,
    fewest: int,
) -> SizeChoice:
    """The choice of 'auto'."""
    if stream_so_far and stream_so_far.chosen:
        return stream_so_far.chosen
    rates = settings.rates(start.model.optimizer, start.data.n_rows, start.sampled.size / PILOT)
    population = STREAM_ROWS if settings.on_stream else start.data.n_rows
    by_noise = partial(chosen_size, settings.sizes, start, rates, smoothness, population, fewest, settings.goal)
    goal, is_open = settings.goal or "time", settings.second_solver is not None
    if not has_table or smoothness is None or (is_open and goal == "rows"):
        return by_noise()
    if is_open:
        choice = open_size(settings.sizes, start, population, goal)
    else:
        choice = derived_size(settings.sizes, start, smoothness, goal)
    return choice if settings.goal is None else by_noise().but_with(choice)


def _recipe(
    settings: Settings, start: Start, sizes: AnyPart, smoothness: SmoothnessConstants | None, visits: Visits
) -> Recipe:
    data, evaluation_rows = start.data, None
    noisy = sizes.start < data.n_rows or not declared(sizes).constant
    if settings.measures_objective:
        rng = stream(settings.seed, OF_EVALUATION)
        evaluation_rows = sample_rows(data.X.shape[0], EVALUATED, rng, data.rows)
    return Recipe(
        sampler=settings.sampler,
        schedule=settings.rates(start.model.optimizer, data.n_rows, data.n_rows / min(sizes.start, data.n_rows), noisy),
        sizes=sizes,
        smoothness=None
        if smoothness is None
        else declared(settings.sampler).tempered(smoothness.scaled(visits.factor)),
        n_rows=data.n_rows,
        repeats=visits.repeats,
        most_rows=visits.most_rows,
        clip_norm=settings.clip_norm,
        scaling=settings.scaling,
        base_batch_size=settings.base_batch_size,
        max_epochs=settings.epochs or 1,
        tol=None if settings.on_stream else settings.tol,
        patience=settings.patience,
        max_seconds=settings.max_seconds,
        evaluation_rows=evaluation_rows,
        seed=settings.seed,
        validation=settings.validation,
        keep_best=settings.keep_best,
    )
