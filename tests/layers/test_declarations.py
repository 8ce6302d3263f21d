"""What layers declare holds: for every part of the registries, and for custom ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from skminibatch import MiniBatchMLPRegressor
from skminibatch.contract.kinds import InvalidPart, declared, domains_of
from skminibatch.layers import BatchNorm, LayerNorm
from skminibatch.layers.blocks import flat, named
from skminibatch.layers.pooling import BOTH, ROWS, UNITS, Pooling, pooling_of
from tests.backends.network_chunks import Centered, Halved, RootMeanSquare
from tests.layers.layer_parts import (
    ACTIVATION_PARTS,
    N_ROWS,
    N_UNITS,
    NORMALIZATION_PARTS,
    activations,
    learnt,
    normalizations,
    poolings,
)


def standardized_by_definition(pooling: Pooling, X, weights, alpha) -> np.ndarray:
    """What is declared, entry by entry, from the moments of all the numbers that are pooled with it."""
    moments = {}
    for row, unit in np.ndindex(X.shape):
        group = np.searchsorted(pooling.bounds(len(X)), row, side="right") - 1
        rows = slice(*pooling.bounds(len(X))[group : group + 2])
        width = X.shape[1] // pooling.n_blocks
        block = X[row, unit // width * width : (unit // width + 1) * width]
        of_rows, of_units = (
            (np.average(numbers, weights=shares), np.average(numbers**2, weights=shares))
            for numbers, shares in ((X[rows, unit], weights[rows]), (block, None))
        )
        mixed = alpha * np.array(of_rows) + (1 - alpha) * np.array(of_units)
        variances = [square - mean**2 for mean, square in (of_rows, of_units)]
        moments[row, unit] = {
            ROWS: (of_rows[0], variances[0]),
            UNITS: (of_units[0], variances[1]),
            BOTH: (mixed[0], alpha * variances[0] + (1 - alpha) * variances[1]),
        }[pooling.over]
        if not pooling.centred:
            moments[row, unit] = 0.0, of_units[1]
    mean, variance = (np.reshape([moment[k] for moment in moments.values()], X.shape) for k in range(2))
    return (X - mean) / np.sqrt(variance + pooling.epsilon)


@pytest.mark.parametrize("weighted", [False, True])
@poolings
def test_a_normalization_pools_what_it_declares(normalization, weighted, rng):
    X, weights = rng.standard_normal((N_ROWS, N_UNITS)), np.ones(N_ROWS)
    weights = rng.uniform(0.2, 3.0, N_ROWS) if weighted else weights
    parameters, _ = learnt(normalization, N_UNITS, rng)
    numbers = named(normalization, N_UNITS, np.concatenate([parameters, normalization.start(N_UNITS)[1]]))
    scales = [numbers[name] if name in numbers else np.zeros(1) for name in ("gamma", "beta")]
    gamma, beta = (np.repeat(scale, N_UNITS // scale.size) for scale in scales)
    pooling = pooling_of(normalization, N_UNITS)
    z = standardized_by_definition(pooling, X, weights, numbers.get("alpha", np.zeros(1))[0])
    y, _ = normalization.forward(X, parameters, None, weights, True)
    np.testing.assert_allclose(y, gamma * z + beta, rtol=1e-10, atol=1e-12)
    assert (pooling.over in (ROWS, BOTH)) == normalization.couples_rows


@normalizations
def test_a_normalization_has_the_sizes_that_it_declares(normalization):
    parameters, running = normalization.start(N_UNITS)
    sizes = declared(normalization).sizes(N_UNITS)
    assert sum(sizes.values()) == parameters.size + running.size
    assert np.cumsum([0, *sizes.values()]).tolist().count(parameters.size) == 1  # no name has numbers of both kinds
    assert declared(normalization).rates(N_UNITS).shape == parameters.shape
    derived = declared(normalization).derived(named(normalization, N_UNITS, np.concatenate([parameters, running])))
    assert not set(derived) & set(sizes)


@normalizations
def test_an_affine_normalization_is_affine_in_predictions(normalization, rng):
    X = rng.standard_normal((N_ROWS, N_UNITS))
    parameters, running = learnt(normalization, N_UNITS, rng)
    if (pooling := pooling_of(normalization, N_UNITS)) is not None and pooling.over == BOTH:
        parameters[-1] = 45.0  # alpha is one
    numbers = named(normalization, N_UNITS, np.concatenate([parameters, running]))
    affine = declared(normalization).affine(numbers)
    assert (affine is None) == (not normalization.couples_rows)
    if affine is not None:
        y, _ = normalization.forward(X, parameters, running, None, False)
        np.testing.assert_allclose(affine[0] * X + affine[1], y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("part", [*ACTIVATION_PARTS, *NORMALIZATION_PARTS], ids=repr)
def test_every_hyper_parameter_has_a_domain(part):
    assert set(domains_of(type(part))) == set(part._fields)


@activations
def test_the_initial_weights_of_an_activation_are_declared(activation):
    assert declared(activation).brings("spread")
    assert declared(activation).brings("balanced")


# -- custom parts


def test_what_a_custom_normalization_leaves_out_has_a_default():
    part = declared(RootMeanSquare())
    assert (part.absorbs_intercept, part.exact, part.sizes(4), part.derived({})) == (
        False,
        False,
        {"parameters": 1},
        {},
    )
    assert pooling_of(RootMeanSquare(), 4) is None
    np.testing.assert_array_equal(part.rates(4), [1.0])


def test_a_class_that_overrides_the_formula_declares_its_pooling_anew():
    class Narrow(LayerNorm):
        """Overrides both."""

        def forward(self, X, parameters, running, weights, train):
            return LayerNorm.forward(self, X, parameters, running, weights, train)

        def pooling(self, n):
            return Pooling(UNITS, self.epsilon)

    class Renamed(BatchNorm):
        """Overrides nothing."""

    assert pooling_of(Halved(), 4) is None
    assert pooling_of(Narrow(), 4) == LayerNorm().pooling(4)
    assert pooling_of(Renamed(), 4) == BatchNorm().pooling(4)


@pytest.mark.parametrize(
    "pooling",
    [Pooling(UNITS, 1e-5), Pooling(ROWS, 1e-5), Pooling(BOTH, 1e-5)],
    ids=repr,
)
def test_parameters_that_do_not_belong_to_the_pooling_are_refused(pooling):
    class Odd(Centered):
        """One parameter for all units."""

        def forward(self, X, parameters, running, weights, train):
            return Centered.forward(self, X, parameters, running, weights, train)

        def pooling(self, n):
            return pooling

    with pytest.raises(
        InvalidPart, match=f"Odd declares a pooling over '{pooling.over}' of 5 units, to which its 1 parameters"
    ):
        pooling_of(Odd(), 5)


class Forgetful(NamedTuple):
    """A normalization without a declaration of what it couples."""

    def start(self, n):
        return np.ones(1), np.empty(0)

    def forward(self, X, parameters, running, weights, train):
        return X, lambda dy: (dy, np.zeros((len(dy), 1)))


def test_a_missing_declaration_is_named(regression):
    with pytest.raises(ValueError, match="Forgetful in the 'normalization' parameter has no 'couples_rows'"):
        MiniBatchMLPRegressor(normalization=Forgetful(), max_iter=1).fit(*regression)


@pytest.mark.parametrize("device", ["base", "cpu"])
def test_custom_parts_are_fitted_and_shown_by_name(device, regression):
    """A normalization with one parameter, and an activation without the spread of initial weights."""

    class Plain(NamedTuple):
        """Swish at the defaults of an activation."""

        def activate(self, z):
            return z / (1.0 + np.exp(-z))

        def slope(self, z, a):
            share = 1.0 / (1.0 + np.exp(-z))
            return share + a * (1.0 - share)

    settings = {"max_iter": 3, "tol": None, "random_state": 0, "device": device, "hidden_layer_sizes": (5,)}
    model = MiniBatchMLPRegressor(normalization=RootMeanSquare(), activation=Plain(), **settings).fit(*regression)
    numbers = model.normalizations_[1]
    assert list(numbers) == ["parameters"]
    assert numbers["parameters"].shape == (1,)
    before = model.predict(regression.X)
    numbers["parameters"] *= 2.0
    assert np.all(model.predict(regression.X) != before)


def test_numbers_come_back_from_their_names(rng):
    for part in (RootMeanSquare(), Centered(), Halved()):
        numbers = np.concatenate(learnt(part, N_UNITS, rng))
        np.testing.assert_array_equal(flat(part, N_UNITS, named(part, N_UNITS, numbers)), numbers)
