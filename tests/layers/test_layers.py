"""Properties of every layer in the registries, and of a stack of them."""

from __future__ import annotations

import inspect
import pickle
from itertools import combinations

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import chi2

from skminibatch import layers
from skminibatch.contract.kinds import declared
from skminibatch.contract.verbs import activate, slope, value, value_gradient
from skminibatch.layers import (
    ACTIVATIONS,
    NORMALIZATIONS,
    BatchNorm,
    Dense,
    GhostNorm,
    GroupNorm,
    HybridNorm,
    Identity,
    InstanceNorm,
    LayerNorm,
    Stack,
)
from skminibatch.layers.blocks import Running, flat, named
from skminibatch.layers.dropout import kept
from skminibatch.losses import LOSSES, ROWWISE_LOSSES, EachOutput, OneVsRest, Softmax
from tests.layers.layer_parts import (
    ACTIVATION_PARTS,
    N_ROWS,
    N_UNITS,
    NORMALIZATION_PARTS,
    POOLING_PARTS,
    activations,
    learnt,
    made,
    normalizations,
    poolings,
)

N_OUTPUTS = 3
KEY = (7, 3)


POINTWISE = [cls() for cls in LOSSES.values()]
ROWWISE = (
    [cls() for cls in ROWWISE_LOSSES.values()]
    + [OneVsRest(cls()) for cls in LOSSES.values() if cls.task == "classification"]
    + [EachOutput(cls()) for cls in LOSSES.values()]
)

normalizations_or_none = pytest.mark.parametrize("normalization", [None, *NORMALIZATION_PARTS], ids=repr)
by_batch = pytest.mark.parametrize(
    "normalization", [part for part in NORMALIZATION_PARTS if part.couples_rows], ids=repr
)
by_row = pytest.mark.parametrize(
    "normalization", [part for part in NORMALIZATION_PARTS if not part.couples_rows], ids=repr
)


def a_third_of(parts, others) -> list:
    """Pairs in which every part comes with every third of the others: neither knows of the other."""
    return [
        pytest.param(part, other, id=f"{part!r}-{other!r}")
        for i, part in enumerate(parts)
        for j, other in enumerate(others)
        if (i + j) % 3 == 0
    ]


def network(activation, normalization, n_outputs=N_OUTPUTS, dropout=0.0, entry=None, n_in=N_UNITS) -> Stack:
    """Two hidden layers."""
    hidden = [Dense(n, N_UNITS, activation, normalization, dropout) for n in (n_in, N_UNITS)]
    return Stack((*hidden, Dense(N_UNITS, n_outputs, Identity())), entry)


def learnt_network(stack: Stack, rng, dtype=np.float64) -> np.ndarray:
    """Parameters and running statistics away from their start."""
    theta = stack.start(rng)
    return (theta + 0.2 * np.abs(rng.standard_normal(theta.size))).astype(dtype)


def targets(loss, rng) -> np.ndarray:
    if isinstance(loss, (Softmax, OneVsRest)):
        return rng.integers(N_OUTPUTS, size=(N_ROWS, 1)).astype(float)
    pointwise = getattr(loss, "loss", loss)
    shape = N_ROWS if loss is pointwise else (N_ROWS, N_OUTPUTS)
    if type(pointwise).task == "classification":
        return rng.choice([-1.0, 1.0], size=shape)
    return rng.poisson(1.5, size=shape).astype(float)


def values_residuals(loss, raw, y) -> tuple[np.ndarray, np.ndarray]:
    """Losses of rows and their derivatives by the raw outputs."""
    if not hasattr(loss, "value_gradient"):
        return value(loss, raw[:, 0], y), loss.gradient(raw[:, 0], y)[:, None]
    residuals = np.empty_like(raw)
    return np.array([value_gradient(loss, *row) for row in zip(raw, y, residuals, strict=True)]), residuals


def assert_gradient_is_difference(stack, loss, X, theta, rng, key=KEY, h=1e-7):
    """The gradient of the weighted mean loss in training mode is that of central differences."""
    y, weights = targets(loss, rng), rng.uniform(0.2, 3.0, N_ROWS)

    def mean_loss(parameters) -> float:
        raw, _ = stack.forward(parameters, X, weights, train=True, key=key)
        return float(weights @ values_residuals(loss, raw, y)[0] / N_ROWS)

    raw, backward = stack.forward(theta, X, weights, train=True, key=key)
    gradient, _ = backward(weights[:, None] * values_residuals(loss, raw, y)[1] / N_ROWS)

    def difference(number: int, h: float) -> float:
        step = h * (np.arange(theta.size) == number)
        return (mean_loss(theta + step) - mean_loss(theta - step)) / (2 * h)

    numerical = np.array([difference(number, h) for number in range(stack.n_parameters)])
    for number in np.flatnonzero(np.abs(gradient - numerical) > 1e-6 * np.linalg.norm(gradient)):
        numerical[number] = difference(number, h / 100)  # there may have been a kink in between
    assert np.linalg.norm(gradient) > 1e-3
    assert np.linalg.norm(gradient - numerical) <= 1e-6 * np.linalg.norm(numerical)


# -- gradients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "normalization"), a_third_of(ACTIVATION_PARTS, [None, *NORMALIZATION_PARTS]))
def test_gradient_is_the_difference_of_the_loss(activation, normalization, rng):
    """Through the whole network: weights, dropout, the normalization of the input and of each layer."""
    stack = network(activation, normalization, dropout=0.3, entry=normalization)
    X = rng.standard_normal((N_ROWS, N_UNITS))
    assert_gradient_is_difference(stack, Softmax(), X, learnt_network(stack, rng), rng)


@pytest.mark.parametrize(("loss", "normalization"), a_third_of(POINTWISE + ROWWISE, [None, BatchNorm(), LayerNorm()]))
def test_gradient_of_every_loss(loss, normalization, rng):
    stack = network(made(ACTIVATIONS["tanh"]), normalization, n_outputs=1 if hasattr(loss, "value") else N_OUTPUTS)
    X = rng.standard_normal((N_ROWS, N_UNITS))
    assert_gradient_is_difference(stack, loss, X, learnt_network(stack, rng), rng)


@normalizations_or_none
def test_gradient_on_sparse_rows(normalization, rng):
    stack = network(made(ACTIVATIONS["relu"]), normalization, dropout=0.3)
    dense = rng.standard_normal((N_ROWS, N_UNITS)) * (rng.random((N_ROWS, N_UNITS)) < 0.5)
    theta = learnt_network(stack, rng)
    assert_gradient_is_difference(stack, Softmax(), sparse.csr_array(dense), theta, rng)
    outputs = [stack.forward(theta, X, train=True, key=KEY) for X in (dense, sparse.csr_array(dense))]
    residuals = rng.standard_normal((N_ROWS, N_OUTPUTS))
    np.testing.assert_allclose(outputs[0][0], outputs[1][0], atol=1e-13)
    for one, other in zip(outputs[0][1](residuals), outputs[1][1](residuals), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@activations
@normalizations_or_none
def test_derivatives_along_the_imaginary_axis(activation, normalization, rng):
    """A complex step gives the derivative of the outputs, and that of the gradient, without any cancellation."""
    stack = network(activation, normalization, dropout=0.3, entry=normalization)
    X, residuals = rng.standard_normal((N_ROWS, N_UNITS)), rng.standard_normal((N_ROWS, N_OUTPUTS))
    theta, weights = learnt_network(stack, rng), rng.uniform(0.2, 3.0, N_ROWS)
    direction = np.append(rng.standard_normal(stack.n_parameters), np.zeros(theta.size - stack.n_parameters))

    def both(parameters):
        raw, backward = stack.forward(parameters, X, weights, train=True, key=KEY)
        return raw, backward(residuals.astype(raw.dtype))[0]

    _, gradient = both(theta)
    raw_along, gradient_along = (part.imag / 1e-20 for part in both(theta + 1e-20j * direction))
    np.testing.assert_allclose(np.sum(residuals * raw_along), gradient @ direction[: gradient.size], rtol=1e-11)
    h = 1e-7
    numerical = (both(theta + h * direction)[1] - both(theta - h * direction)[1]) / (2 * h)
    assert np.linalg.norm(gradient_along - numerical) <= 1e-6 * np.linalg.norm(gradient_along)


@activations
def test_slope_is_the_difference_of_the_activation(activation):
    z, h = np.arange(-400, 400) * 0.05 + 0.0031, 1e-6
    numerical = (activate(activation, z + h) - activate(activation, z - h)) / (2 * h)
    np.testing.assert_allclose(slope(activation, z, activate(activation, z)) + 0.0 * z, numerical, atol=1e-8)


@by_row
def test_squared_norms_of_the_gradients_of_rows(normalization, rng):
    """What the backward map tells of each row is what it tells of that row alone."""
    stack = network(made(ACTIVATIONS["tanh"]), normalization, entry=normalization)
    X, residuals = rng.standard_normal((N_ROWS, N_UNITS)), rng.standard_normal((N_ROWS, N_OUTPUTS))
    theta = learnt_network(stack, rng)
    gradient, squares = stack.forward(theta, X, train=True)[1](residuals)
    alone = [stack.forward(theta, X[[i]], train=True)[1](residuals[[i]])[0] for i in range(N_ROWS)]
    np.testing.assert_allclose(squares, np.sum(np.square(alone), axis=1), rtol=1e-12)
    np.testing.assert_allclose(gradient, np.sum(alone, axis=0), rtol=1e-10, atol=1e-13)


# -- numbers of any size and type ----------------------------------------------------------------------------------


@activations
def test_nan_stays_visible(activation):
    z = np.array([np.nan, 1.0])
    assert np.isnan(activate(activation, z)).tolist() == [True, False]


@activations
def test_large_numbers_overflow_nowhere(activation):
    z = np.array([-1e4, -800.0, 0.0, 800.0, 1e4])
    a = activate(activation, z)
    assert np.isfinite(a).all()
    assert np.isfinite(slope(activation, z, a)).all()


@normalizations
def test_nan_stays_visible_through_a_normalization(normalization, rng):
    X = rng.standard_normal((N_ROWS, N_UNITS))
    X[4, 2] = np.nan
    y, _ = normalization.forward(X, *learnt(normalization, N_UNITS, rng), None, True)
    assert np.isnan(y[4, 2])


@activations
@normalizations_or_none
@pytest.mark.parametrize("train", [True, False])
def test_float32_stays_float32(activation, normalization, train, rng):
    stack = network(activation, normalization, dropout=0.3, entry=normalization)
    theta, X = learnt_network(stack, rng, np.float32), rng.standard_normal((N_ROWS, N_UNITS)).astype(np.float32)
    raw, backward = stack.forward(theta, X, rng.uniform(0.2, 3.0, N_ROWS), theta.copy(), train=train, key=KEY)
    gradient, _ = backward(raw)
    assert raw.dtype == gradient.dtype == np.float32
    exact, _ = stack.forward(theta.astype(float), X.astype(float), train=False)
    if not train:
        np.testing.assert_allclose(raw, exact, rtol=1e-3, atol=1e-4)


# -- normalizations ------------------------------------------------------------------------------------------------


def groups_of(part, array) -> list[np.ndarray]:
    """Rows of a batch that are normalised together."""
    return np.split(array, part.pooling(N_UNITS).bounds(len(array))[1:-1])


def both_ways(part, X, parameters, dy, weights=None, running=None, train=True):
    """(y, dx, gradient of the parameters) of a normalization."""
    y, backward = part.forward(X, parameters, running, weights, train)
    dX, gradient = backward(dy)
    return y, dX, gradient.sum(axis=0)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def identities(rng):
    """Pairs of normalizations that do the same, with parameters for N_UNITS units each."""
    own = rng.uniform(0.5, 2.0, 2 * N_UNITS)
    channels = rng.uniform(0.5, 2.0, 2 * 3)
    return {
        "ghost of one group is batch": (GhostNorm(float(N_ROWS)), own, BatchNorm(), own),
        "one group of units is layer": (GroupNorm(1.0), own, LayerNorm(), own),
        "channels are groups": (GroupNorm(3.0), np.repeat(channels, N_UNITS // 3), InstanceNorm(3.0), channels),
        "hybrid of alpha one is batch": (HybridNorm(), np.append(own, 45.0), BatchNorm(), own),
        "hybrid of alpha zero is layer": (HybridNorm(), np.append(own, -45.0), LayerNorm(), own),
    }


@pytest.mark.parametrize("name", identities(np.random.default_rng(0)))
@pytest.mark.parametrize("weighted", [False, True])
def test_identities(name, weighted, rng):
    one, of_one, other, of_other = identities(rng)[name]
    X, dy = rng.standard_normal((2, N_ROWS, N_UNITS)) + 1.0
    weights = rng.uniform(0.2, 3.0, N_ROWS) if weighted else None
    first = both_ways(one, X, of_one, dy, weights)
    second = both_ways(other, X, of_other, dy, weights)
    assert_same(first[:2], second[:2])
    shared = (
        second[2].size if isinstance(one, HybridNorm) else 0
    )  # q has no counterpart, and channels share what groups do not
    np.testing.assert_allclose(first[2][:shared], second[2][:shared], rtol=1e-12, atol=1e-12)
    assert_same([first[2][: 2 * N_UNITS].sum()], [second[2].sum()])


@pytest.mark.parametrize(
    "normalization", [part for part in POOLING_PARTS if not isinstance(part, HybridNorm)], ids=repr
)
def test_every_block_has_mean_zero_and_variance_one(normalization, rng):
    """Of a block of rows by units that a part pools, whatever the scale and the offset of the numbers in it.

    Where the mean is not taken away, the mean square is one.
    """
    pooling = normalization.pooling(N_UNITS)
    X, weights = 30.0 + 5.0 * rng.standard_normal((N_ROWS, N_UNITS)), rng.uniform(0.2, 3.0, N_ROWS)
    y, _ = normalization.forward(X, normalization.start(N_UNITS)[0], None, weights, True)
    if normalization.couples_rows:
        pairs = zip(groups_of(normalization, y), groups_of(normalization, weights), strict=True)
        blocks = [(block.T, shares) for block, shares in pairs]
    else:
        blocks = [(y.reshape(-1, N_UNITS // pooling.n_blocks), None)]
    for block, shares in blocks:
        means = np.average(block, axis=1, weights=shares)
        assert np.allclose(means, 0.0, atol=1e-12) == pooling.centred
        np.testing.assert_allclose(np.average(block**2, axis=1, weights=shares), 1.0, rtol=1e-3)


@by_row
def test_a_row_does_not_depend_on_the_batch(normalization, rng):
    X, dy = rng.standard_normal((2, N_ROWS, N_UNITS))
    parameters, _ = learnt(normalization, N_UNITS, rng)
    y, dX, _ = both_ways(normalization, X, parameters, dy)
    for i in range(N_ROWS):
        assert_same((y[[i]], dX[[i]]), both_ways(normalization, X[[i]], parameters, dy[[i]])[:2])


@by_batch
def test_a_row_depends_on_its_batch_in_training(normalization, rng):
    X = rng.standard_normal((N_ROWS, N_UNITS))
    parameters, _ = learnt(normalization, N_UNITS, rng)
    moved = np.vstack([X[:-1], X[-1:] + 1.0])
    before, after = (normalization.forward(Z, parameters, None, None, True)[0] for Z in (X, moved))
    # the first row stands in the group of the last only where there is one group
    assert np.all(before[-2] != after[-2])


@normalizations
def test_predictions_are_the_same_alone_and_in_a_batch(normalization, rng):
    stack = network(made(ACTIVATIONS["relu"]), normalization, dropout=0.5, entry=normalization)
    X, theta = rng.standard_normal((N_ROWS, N_UNITS)), learnt_network(stack, rng)
    raw, before = stack.raw(theta, X), theta.copy()
    np.testing.assert_array_equal(raw, stack.raw(theta, X))
    order = rng.permutation(N_ROWS)
    np.testing.assert_allclose(stack.raw(theta, X[order]), raw[order], rtol=1e-12, atol=1e-14)
    for i in range(N_ROWS):
        np.testing.assert_allclose(stack.raw(theta, X[[i]])[0], raw[i], rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(theta, before)


@by_batch
def test_weights_count_as_repeated_rows(normalization, rng):
    """Statistics, outputs and gradients; Ghost in one group, whose bounds do not depend on the number of rows."""
    normalization = normalization._replace(size=100.0) if isinstance(normalization, GhostNorm) else normalization
    X, dy = rng.standard_normal((2, N_ROWS, N_UNITS))
    weights, (parameters, running) = rng.integers(1, 4, N_ROWS), learnt(normalization, N_UNITS, rng)
    often = np.repeat(np.arange(N_ROWS), weights)
    means = running.copy(), running.copy()
    y, dX, gradient = both_ways(normalization, X, parameters, weights[:, None] * dy, weights.astype(float), means[0])
    repeated = both_ways(normalization, X[often], parameters, dy[often], None, means[1])
    summed = np.array([repeated[1][often == i].sum(axis=0) for i in range(N_ROWS)])
    assert_same((y[often], dX, gradient), (repeated[0], summed, repeated[2]))
    assert_same(*[[Running.moments(one)[0]] for one in means])


def test_a_variance_of_weighted_rows_is_corrected_by_their_effective_number(rng):
    """Unbiased, as sum(p (x - mean)^2) / (1 - sum(p^2)); equal weights give the divisor n - 1."""
    X = rng.standard_normal((N_ROWS, N_UNITS))
    for weights in (None, rng.uniform(0.2, 3.0, N_ROWS)):
        running = Running.start(N_UNITS)
        BatchNorm(momentum=1.0).forward(X, BatchNorm().start(N_UNITS)[0], running, weights, True)
        expected = [np.cov(x, aweights=weights) for x in X.T]
        np.testing.assert_allclose(Running.moments(running)[1], expected, rtol=1e-12)


# -- statistics of ghost batches -----------------------------------------------------------------------------------


def test_ghost_batches_are_consecutive_rows_of_nearly_equal_number():
    """As many as the running statistics have taken in, whose last one is made of the last rows."""
    for n_rows in range(2, 100):
        X, running = np.arange(float(n_rows))[:, None], Running.start(1)
        part = GhostNorm(8.0, momentum=1.0)
        part.forward(X, part.start(1)[0], running, None, True)
        sizes = np.array([len(group) for group in groups_of(part, X)])
        assert running[0] == sizes.size == max(1, n_rows // 8)
        assert sizes.max() - sizes.min() <= 1
        np.testing.assert_allclose(Running.moments(running)[0], np.mean(X[-sizes[-1] :]))


def test_running_statistics_take_in_one_group_after_the_other(rng):
    """r <- (1 - share) r + share m, group by group, as the closed form of Hoffer, Hubara and Soudry has it."""
    share, X, part = 0.1, rng.standard_normal((N_ROWS, N_UNITS)), GhostNorm(3.0, momentum=0.1)
    running = learnt(part, N_UNITS, rng)[1]
    running[0] = 1e6
    expected = 0.9**3 * running[1:]
    for i, group in enumerate(groups_of(part, X)):
        expected += 0.9 ** (2 - i) * share * np.concatenate([group.mean(axis=0), group.var(axis=0, ddof=1)])
    part.forward(X, part.start(N_UNITS)[0], running, None, True)
    np.testing.assert_allclose(running[1:], expected, rtol=1e-12)
    assert running[0] == 1e6 + 3


def test_the_first_batches_count_alike(rng):
    """Ten batches of share 0.1: their mean, with no trace of where the statistics started."""
    batches, running = rng.standard_normal((10, N_ROWS, N_UNITS)), Running.start(N_UNITS)
    for X in batches:
        BatchNorm().forward(X, BatchNorm().start(N_UNITS)[0], running, None, True)
    mean, variance = Running.moments(running)
    np.testing.assert_allclose(mean, batches.mean(axis=(0, 1)), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(variance, batches.var(axis=1, ddof=1).mean(axis=0), rtol=1e-12)


def last_group(part, X) -> tuple[np.ndarray, np.ndarray]:
    """(mean, unbiased variance) of the units of X in the last group of a batch."""
    running = Running.start(X.shape[1])
    part._replace(momentum=1.0).forward(X, part.start(X.shape[1])[0], running, None, True)
    return Running.moments(running)


@pytest.mark.parametrize("groups", [2, 4])
def test_variances_of_ghost_statistics(groups, rng):
    """Over independent rows, that of the mean is `groups` times as large, that of the variance (b - 1) / (b / g - 1)."""
    b, units = 32, 40_000
    X = rng.standard_normal((b, units))
    full, ghost = last_group(BatchNorm(), X), last_group(GhostNorm(b / groups), X)
    for moment, expected in enumerate([groups, (b - 1) / (b / groups - 1)]):
        ratio = ghost[moment].var() / full[moment].var()
        assert abs(ratio / expected - 1.0) < 4.5 * np.sqrt(6.0 / units)  # of two dependent variances, kurtosis included


def test_the_mean_of_a_group_within_a_given_batch(rng):
    """Over all choices of m of b rows it varies by sigma^2 / m (b - m) / (b - 1)."""
    b, m, X = 6, 3, rng.standard_normal((6, N_UNITS))
    means = []
    for chosen in combinations(range(b), m):
        others = [i for i in range(b) if i not in chosen]
        means.append(last_group(GhostNorm(float(m)), X[[*others, *chosen]])[0])
    np.testing.assert_allclose(np.var(means, axis=0), X.var(axis=0) / m * (b - m) / (b - 1), rtol=1e-12)


# -- names and places ----------------------------------------------------------------------------------------------


@normalizations
def test_numbers_of_a_normalization_by_name(normalization, rng):
    numbers = np.concatenate(learnt(normalization, N_UNITS, rng))
    by_name = named(normalization, N_UNITS, numbers)
    np.testing.assert_array_equal(flat(normalization, N_UNITS, by_name), numbers)
    for array in by_name.values():
        assert not np.shares_memory(array, numbers)


@poolings
def test_names_of_a_normalization_that_pools(normalization, rng):
    by_name = named(normalization, N_UNITS, np.concatenate(learnt(normalization, N_UNITS, rng)))
    assert "gamma" in by_name
    assert ("beta" in by_name) == normalization.pooling(N_UNITS).centred
    assert ("mean" in by_name) == normalization.couples_rows


@normalizations_or_none
def test_every_number_of_a_stack_has_one_place(normalization, rng):
    stack = network(made(ACTIVATIONS["relu"]), normalization, entry=normalization)
    taken = np.concatenate([np.arange(stack.n_numbers)[part] for place in stack.places for part in place])
    np.testing.assert_array_equal(np.sort(taken), np.arange(stack.n_numbers))
    assert all(place.running.start >= stack.n_parameters for place in stack.places)
    theta = learnt_network(stack, rng)
    coefs = [stack.weights(theta, number) for number in range(len(stack.layers))]
    intercepts = [theta[place.intercept] for place in stack.places[1:]]
    np.testing.assert_array_equal(stack.flat(coefs, intercepts, stack.normalizations_of(theta)), theta)
    assert stack.decayed.sum() == sum(coef.size for coef in coefs)


def test_an_intercept_that_a_normalization_would_take_away_is_left_out():
    """An offset of a unit does not reach the output of what absorbs intercepts, and does that of the others."""
    X = np.random.default_rng(0).standard_normal((N_ROWS, N_UNITS))
    for part in NORMALIZATION_PARTS:
        parameters = part.start(N_UNITS)[0]
        y, moved = (part.forward(X + shift, parameters, None, None, True)[0] for shift in (0.0, np.arange(N_UNITS)))
        absorbs = declared(part).absorbs_intercept
        assert np.allclose(y, moved) == absorbs
        assert Dense(3, N_UNITS, Identity(), part).has_intercept != absorbs


def test_q_has_a_rate_of_its_own_and_is_not_decayed():
    stack = network(made(ACTIVATIONS["relu"]), HybridNorm(alpha=0.2, rate=7.0), entry=HybridNorm(rate=3.0))
    q = [place.normalization.stop - 1 for place in stack.places[:3]]
    np.testing.assert_array_equal(stack.rates[q], [3.0, 7.0, 7.0])
    assert np.all(np.delete(stack.rates, q) == 1.0)
    assert not stack.decayed[q].any()
    alphas = [found["alpha"][0] for found in stack.normalizations_of(stack.start(np.random.default_rng(0)))[:3]]
    np.testing.assert_allclose(alphas, [0.5, 0.2, 0.2])


def test_alpha_of_any_q():
    for q, alpha in ((-1e3, 0.0), (0.0, 0.5), (1e3, 1.0)):
        assert named(HybridNorm(), 2, np.array([1.0, 1.0, 0.0, 0.0, q, 0.0, 0.0, 0.0, 1.0, 1.0]))["alpha"][0] == alpha


@pytest.mark.parametrize("part", [*ACTIVATION_PARTS, *NORMALIZATION_PARTS], ids=repr)
def test_parts_pickle_and_show_how_they_are_made(part):
    back = pickle.loads(pickle.dumps(part))
    assert (type(back), back) == (type(part), part)
    again = eval(repr(part), vars(layers))
    assert (type(again), again) == (type(part), part)


def test_every_layer_of_the_package_is_listed():
    listed = {*ACTIVATIONS.values(), *NORMALIZATIONS.values(), Dense, Stack}
    assert {cls for _, cls in inspect.getmembers(layers, inspect.isclass)} == listed


@pytest.mark.parametrize(
    ("part", "n", "message"),
    [
        (GroupNorm(4.0), 6, r"GroupNorm\(n_groups=4\) needs a multiple of n_groups units in each layer, got 6"),
        (GroupNorm(6.0), 6, r"GroupNorm\(n_groups=6\) of a layer of 6 units leaves one unit in a group"),
        (
            InstanceNorm(4.0),
            6,
            r"InstanceNorm\(n_channels=4\) needs a multiple of n_channels units in each layer, got 6",
        ),
        (InstanceNorm(6.0), 6, r"InstanceNorm\(n_channels=6\) of a layer of 6 units leaves one position in a channel"),
    ],
    ids=repr,
)
def test_blocks_that_do_not_go_into_a_layer(part, n, message):
    with pytest.raises(ValueError, match=message):
        part.start(n)


def test_groups_by_default():
    """Eight, or the largest divisor below that leaves several units in a group."""
    n_groups = [GroupNorm().pooling(n).n_blocks for n in (100, 64, 16, 12, 9, 8, 7, 2, 1)]
    assert n_groups == [5, 8, 8, 6, 3, 4, 1, 1, 1]


# -- dropout -------------------------------------------------------------------------------------------------------

SHAPE = (500, 400)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_mean_and_variance_of_dropout(dropout):
    mask = kept(KEY, 0, SHAPE, dropout)
    assert set(np.unique(mask)) == {0.0, 1.0 / (1.0 - dropout)}
    variance = dropout / (1.0 - dropout)
    assert abs(mask.mean() - 1.0) < 4.5 * np.sqrt(variance / mask.size)
    spread = np.var((mask - 1.0) ** 2)
    assert abs(np.mean((mask - 1.0) ** 2) - variance) < 4.5 * np.sqrt(spread / mask.size) + 1e-9


def other_masks() -> dict:
    """Masks that should have nothing to do with that of KEY, layer 0."""
    mask = kept(KEY, 0, SHAPE, 0.5)
    return {
        "step": kept((KEY[0], KEY[1] + 1), 0, SHAPE, 0.5),
        "seed": kept((KEY[0] + 1, KEY[1]), 0, SHAPE, 0.5),
        "layer": kept(KEY, 1, SHAPE, 0.5),
        "step and layer": kept((KEY[0], KEY[1] + 1), 1, SHAPE, 0.5),
        "next row": np.roll(mask, 1, axis=0),
        "next unit": np.roll(mask, 1, axis=1),
        "second next unit": np.roll(mask, 2, axis=1),
    }


@pytest.mark.parametrize("name", other_masks())
def test_masks_are_independent(name):
    mask, other = kept(KEY, 0, SHAPE, 0.5), other_masks()[name]
    correlation = np.mean((mask - 1.0) * (other - 1.0))
    assert abs(correlation) < 4.5 / np.sqrt(mask.size)


def test_masks_are_the_same_in_every_call_and_for_the_first_rows_of_a_batch():
    mask = kept(KEY, 2, SHAPE, 0.3)
    np.testing.assert_array_equal(mask, kept(KEY, 2, SHAPE, 0.3))
    np.testing.assert_array_equal(mask[:40], kept(KEY, 2, (40, SHAPE[1]), 0.3))


def test_numbers_behind_the_masks_are_uniform():
    """The same number decides for every dropout: counted in 32 bins, over steps, layers and units."""
    dropped = [
        sum((kept((seed, step), layer, (50, 40), k / 32) == 0).sum() for seed, step, layer in np.ndindex(3, 5, 4))
        for k in range(32)
    ]
    counts = np.diff([*dropped, 3 * 5 * 4 * 50 * 40])
    expected = counts.sum() / counts.size
    statistic = np.sum((counts - expected) ** 2) / expected
    assert chi2.ppf(1e-5, 31) < statistic < chi2.ppf(1 - 1e-5, 31)


def test_dropout_acts_in_training_only_and_by_its_key(rng):
    stack = network(made(ACTIVATIONS["tanh"]), None, dropout=0.5)
    theta, X = learnt_network(stack, rng), rng.standard_normal((N_ROWS, N_UNITS))
    first, again, next_step = (
        stack.forward(theta, X, train=True, key=key)[0] for key in (KEY, KEY, (KEY[0], KEY[1] + 1))
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != next_step)
    for settings in ({"train": False, "key": KEY}, {"train": True}):
        np.testing.assert_array_equal(stack.forward(theta, X, **settings)[0], stack.raw(theta, X))


def test_layers_drop_units_of_their_own():
    """A quarter of the units passes two layers that keep half of them each."""
    n, d = 400, 50
    stack = Stack((Dense(d, d, Identity(), None, 0.5), Dense(d, d, Identity(), None, 0.5)))
    theta = stack.flat([np.eye(d)] * 2, [np.zeros(d)] * 2, [None] * 3)
    raw, _ = stack.forward(theta, np.ones((n, d)), train=True, key=KEY)
    assert set(np.unique(raw)) == {0.0, 4.0}
    assert abs(np.mean(raw == 4.0) - 0.25) < 4.5 * np.sqrt(0.25 * 0.75 / raw.size)


def test_dropout_of_a_linear_layer_is_a_ridge(rng):
    """E |y - raw|^2 = |y - X w|^2 + p / (1 - p) sum_j w_j^2 |x_j|^2 (Wager, Wang and Liang 2013)."""
    p, repeats, n, d = 0.3, 5_000, 8, 4
    X, w, y = rng.standard_normal((n, d)), rng.standard_normal(d), rng.standard_normal(n)
    stack = Stack((Dense(d, d, Identity(), None, p), Dense(d, 1, Identity())))
    theta = stack.flat([np.eye(d), w[:, None]], [np.zeros(d), np.zeros(1)], [None, None, None])
    raw, _ = stack.forward(theta, np.tile(X, (repeats, 1)), train=True, key=KEY)
    losses = np.sum((raw.reshape(repeats, n) - y) ** 2, axis=1)
    expected = np.sum((X @ w - y) ** 2) + p / (1 - p) * np.sum(X**2 @ w**2)
    assert abs(losses.mean() - expected) < 4.5 * losses.std() / np.sqrt(repeats)


# -- initial weights -----------------------------------------------------------------------------------------------


@activations
def test_variance_of_initial_weights(activation):
    """Uniform, of the variance that the docstring of the stack has."""
    n_in, n_out = 300, 500
    stack = Stack((Dense(n_in, n_out, activation),))
    weights = stack.weights(stack.start(np.random.default_rng(0)), 0)
    declares = declared(activation)
    variance = declares.spread / (0.5 * (n_in + n_out) if declares.balanced else n_in)
    error = variance * np.sqrt(0.8 / weights.size)  # of a uniform variable, whose kurtosis is 1.8
    assert abs(weights.var() - variance) < 4.5 * error
    assert np.abs(weights).max() <= np.sqrt(3 * variance)


@activations
def test_signals_and_gradients_survive_several_layers(activation, rng):
    """Four layers neither quench nor blow up what tells rows apart, nor the gradient on its way back."""
    n, depth = 200, 4
    stack = Stack(tuple(Dense(n, n, activation) for _ in range(depth)))
    X, residuals = rng.standard_normal((2, 50, n))
    raw, backward = stack.forward(stack.start(rng), X, train=True)
    first, last = (backward(residuals)[0][stack.places[number].weights] for number in (1, depth))
    assert 0.05 < raw.std(axis=0).mean() < 3.0
    assert 0.1 < np.linalg.norm(first) / np.linalg.norm(last) < 10.0
