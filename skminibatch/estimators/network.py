"""What the multilayer perceptrons share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from skminibatch import backends
from skminibatch.backends import threads
from skminibatch.backends.arrays import is_sparse, on_gpu
from skminibatch.contract.kinds import declared
from skminibatch.contract.verbs import identity
from skminibatch.estimators import pairs, parts
from skminibatch.estimators.attributes import shaped, untouched
from skminibatch.estimators.base import BaseMiniBatchEstimator
from skminibatch.estimators.checks import rows_to_predict
from skminibatch.estimators.targets import RegressionTarget
from skminibatch.layers import ACTIVATIONS, NORMALIZATIONS, Dense, Identity, Stack
from skminibatch.models.network import MLPModel
from skminibatch.schedules import SCHEDULES
from skminibatch.statistics.random import OF_START, stream

_SHARE = Interval(Real, 0, 1, closed="left")
# scikit-learn's words for what turns raw outputs into predictions, by the link of the loss
OUTPUT_ACTIVATIONS = {"identity": "identity", "log": "exp", "logit": "logistic", "multinomial logit": "softmax"}


class MLPEstimator(BaseMiniBatchEstimator):
    """What the regressor and the classifier share."""

    _parameter_constraints: dict = {
        **BaseMiniBatchEstimator._parameter_constraints,
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS)), tuple, list],
        "solver": [StrOptions({"auto", *parts.NETWORK_SOLVERS}), tuple],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "learning_rate": [StrOptions(set(SCHEDULES) - {"optimal"}), tuple],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "momentum": [_SHARE],
        "nesterovs_momentum": ["boolean"],
        "beta_1": [_SHARE],
        "beta_2": [_SHARE],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "normalization": [StrOptions(set(NORMALIZATIONS)), tuple, None],
        "normalize_input": ["boolean"],
        "dropout": [_SHARE, list],
        "average": [Interval(Integral, 0, None, closed="left"), "boolean"],
    }

    _remedy = "solver='adam', or clip_norm"
    _measures_objective = False  # a pass over rows of its own would cost a third of a step for each row

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _validate_params(self):
        """Check every parameter, and each entry of those that may be a list with one for each hidden layer."""
        super()._validate_params()
        for name in ("activation", "dropout"):
            constraints = [constraint for constraint in self._parameter_constraints[name] if constraint is not list]
            entries = getattr(self, name)
            for number, entry in enumerate(entries if isinstance(entries, list) else []):
                place = f"{name}[{number}]"
                validate_parameter_constraints({place: constraints}, {place: entry}, caller_name=type(self).__name__)

    def _pointwise_loss(self):
        return parts.loss(self.loss)

    def _stack(self, target, n_features: int) -> Stack:
        """The layers, for a target and a number of features."""
        hidden = parts.hidden_layers(self.hidden_layer_sizes)
        normalization = parts.normalization(self.normalization)
        if self.normalize_input and normalization is None:
            raise ValueError(
                "normalize_input=True has no effect with normalization=None: say which normalization it is."
            )
        widths = [n_features, *hidden]
        activations = parts.activations(self.activation, len(hidden))
        dropouts = parts.dropouts(self.dropout, len(hidden))
        layers = [
            Dense(n_in, n_out, activation, normalization, dropout)
            for (n_in, n_out), activation, dropout in zip(pairwise(widths), activations, dropouts, strict=True)
        ]
        layers.append(Dense(widths[-1], target.n_outputs, Identity()))
        return Stack(tuple(layers), normalization if self.normalize_input else None)

    def _model(self, target, X, device: str) -> MLPModel:
        if is_sparse(X) and self.normalize_input:
            raise ValueError("normalize_input=True would make sparse data dense: scale X by MaxAbsScaler instead.")
        return MLPModel(
            stack=self._stack(target, X.shape[1]),
            loss=target.loss(self._pointwise_loss()),
            penalty=parts.penalty("l2", self.alpha, 0.0),
            optimizer=parts.network_optimizer(self),
            device=device,
            dtype=np.dtype(X.dtype),
            n_threads=self._n_threads(),
        )

    def _n_threads(self) -> int:
        return threads.of_blas() if self.n_jobs is None else parts.threads(self.n_jobs)

    def _fit(self, *given):
        with threads.one_of_blas():
            return super()._fit(*given)

    @contextmanager
    def _begun(self, *given, **keywords):
        with threads.one_of_blas(), super()._begun(*given, **keywords) as begun:
            yield begun

    def _partial_fit(self, *given):
        with threads.one_of_blas():
            return super()._partial_fit(*given)

    def _checked_model(self, target, X, device: str, sampler, partial: bool = False) -> MLPModel:
        """The model, if its parts go together and with what training goes on from."""
        model = cast(MLPModel, super()._checked_model(target, X, device, sampler, partial))
        pairs.check_rate_of_network(model, self.learning_rate, self.solver)
        fitted = getattr(self, "_fitted", None) if partial or self.warm_start else None
        if fitted is None:
            return model
        before = cast(MLPModel, fitted.model).stack
        if identity((before.layers, before.entry)) == identity((model.stack.layers, model.stack.entry)):
            return replace(model, stack=before)  # with what was prepared of it
        if before.places != model.stack.places:
            raise ValueError(
                f"{'partial_fit' if partial else 'warm_start'} goes on with the layers of the last call: hidden_layer_sizes="
                f"{self.hidden_layer_sizes!r} and normalization={self.normalization!r} make others."
            )
        return model

    def _first_rate(self):
        if self.learning_rate == "auto" or isinstance(self.learning_rate, tuple):
            parts.refuse_unused(self, ["learning_rate_init"], "learning_rate")
            return None
        return self.learning_rate_init

    def _start(self, model, target, data, init, seed):
        """Random weights where nothing is given (None, or NaN of some numbers); the outputs start at the best constant."""
        (given,) = init
        if given is not None and not np.isnan(given).any():
            return (given,)
        theta = model.stack.start(stream(seed, OF_START))
        theta[model.stack.places[-1].intercept] = target.baseline(*data.targets, self._pointwise_loss())
        return (theta if given is None else np.where(np.isnan(given), theta, given),)

    def _assigned(self, model, published):
        stack, names = model.stack, ("coefs_", "intercepts_", "normalizations_")
        given = {name: vars(self)[name] for name in names if vars(self).get(name) is not None}
        if not given:
            return None
        theta = np.full(stack.n_numbers, np.nan, model.dtype) if published is None else published[0]
        pieces = list(_pieces(stack, **given))
        if published is not None and all(untouched(array, theta[place]) for _, array, place, _ in pieces):
            return None
        theta = theta.astype(model.dtype)
        for name, array, place, shape in pieces:
            theta[place] = shaped(array, shape, name, theta.dtype).ravel()
        return (theta,)

    def _completed(self, progress, data):
        """With exact statistics, where a normalization asks for them."""
        model = progress.model
        theta = model.with_exact_statistics(*progress.predictor, data)
        if progress.params is not None:
            progress.params[0, model.stack.n_parameters :] = theta[model.stack.n_parameters :]
        return replace(progress, predictor=(theta,))

    def _attributes(self, theta, target) -> dict:
        stack = self._stack(target, self.n_features_in_)
        places = stack.places[1:]
        coefs = [stack.weights(theta, number).copy() for number in range(len(stack.layers))]
        intercepts = [
            theta[place.intercept].copy() if layer.has_intercept else np.zeros(layer.n_out, theta.dtype)
            for layer, place in zip(stack.layers, places, strict=True)
        ]
        pointwise = self._pointwise_loss()
        attributes = {
            "coefs_": coefs,
            "intercepts_": intercepts,
            "normalizations_": stack.normalizations_of(theta),
            "n_layers_": len(stack.layers) + 1,
            "n_outputs_": target.n_outputs,
            "noise_estimator_": "micro-batches" if stack.couples_rows else "rows",
            "out_activation_": _output_activation(target.loss(pointwise)),
            "_layers": stack,
            "_target": target,
        }
        if not isinstance(target, RegressionTarget):
            attributes["classes_"] = target.classes
        return attributes

    @property
    def loss_(self) -> float:
        """Objective of the last epoch."""
        return float(self.loss_curve_[-1])

    def _predictor(self):
        return (self._theta(),)

    def _theta(self) -> np.ndarray:
        """The flat parameters and running statistics of the fitted attributes."""
        return self._layers.flat(self.coefs_, self.intercepts_, self.normalizations_)

    def __sklearn_is_fitted__(self):
        return "coefs_" in vars(self) and "_target" in vars(self)

    def _raw(self, X) -> np.ndarray:
        """Raw outputs (n, K), on the host."""
        check_is_fitted(self)
        X = rows_to_predict(self, X)
        if on_gpu(X):
            return backends.choose("cuda").network_outputs(self._layers, self._theta(), X)
        return self._layers.raw(self._theta(), X, partial(threads.mapped, n_threads=self._n_threads()))


def _output_activation(loss) -> str:
    """scikit-learn's word for what turns raw outputs into predictions."""
    return OUTPUT_ACTIVATIONS[declared(loss).link]


def _pieces(stack: Stack, coefs_=(), intercepts_=(), normalizations_=()) -> Iterator[tuple[str, Any, slice, tuple]]:
    """The name, the array, the place in the parameters and the shape of all that attributes have of a network."""
    given = {"coefs_": coefs_, "intercepts_": intercepts_, "normalizations_": normalizations_}
    for name, arrays in given.items():
        n_arrays = len(stack.layers) + (name == "normalizations_")
        if len(arrays) not in (0, n_arrays):
            raise ValueError(f"Provided {name} does not match dataset: expected {n_arrays} arrays, got {len(arrays)}.")
    for number, (layer, place) in enumerate(zip(stack.layers, stack.places[1:], strict=True)):
        if len(coefs_):
            yield f"coefs_[{number}]", coefs_[number], place.weights, (layer.n_in, layer.n_out)
        if len(intercepts_) and layer.has_intercept:
            yield f"intercepts_[{number}]", intercepts_[number], place.intercept, (layer.n_out,)
        elif len(intercepts_) and np.any(intercepts_[number]):
            raise ValueError(
                f"intercepts_[{number}] has to be zero: beta of normalizations_[{number + 1}] is in its place."
            )
    for number, by_name in enumerate(normalizations_):
        part, place = stack.normalizations[number], stack.places[number]
        if (by_name is None) != (part is None):
            raise ValueError(
                f"Provided normalizations_[{number}] does not match dataset: got {by_name!r} for {part!r}."
            )
        if part is None:
            continue
        start = place.normalization.start
        for name, size in declared(part).sizes(stack.widths[number]).items():
            if start == place.normalization.stop:
                start = place.running.start
            yield f"normalizations_[{number}][{name!r}]", by_name.get(name), slice(start, start + size), (size,)
            start += size
