"""Chunks of linear models on sparse rows: the same results as ``base``, and as on dense rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from skminibatch.backends import base
from skminibatch.contract.kinds import declared
from skminibatch.contract.verbs import n_slots, update
from skminibatch.losses import Logistic, Softmax, SquaredError
from skminibatch.optimizers import SGD, Adam, Averaging, Momentum, ScheduleFree
from skminibatch.penalties import ElasticNet
from tests.backends.linear_chunks import (
    EMPTY,
    LINEAR,
    NET,
    NOTHING,
    OPTIMIZER_CASES,
    SOME,
    D,
    N,
    assert_agree,
    assert_same,
    each_of,
    kinds_of_coordinates,
    plan_of,
    rows_of_data,
    run,
    start_of,
    targets_of,
)


@pytest.mark.parametrize(
    ("optimizer", "penalty", "stretched"),
    [
        (optimizer, penalty, (place + own) % 2 == 0)  # each two of the three meet
        for place, optimizer in enumerate([*OPTIMIZER_CASES, Averaging(Momentum())])
        for own, penalty in enumerate([ElasticNet(0.3, 0.0), ElasticNet(0.1, 0.02)])
    ],
    ids=repr,
)
def test_coordinates_agree_on_sparse_rows(backend, optimizer, penalty, stretched):
    settings = {"penalty": penalty, "coordinates": kinds_of_coordinates(stretched)}
    assert_agree(backend, rows_of_data(density=0.3), Logistic(), optimizer, **settings)
    if type(optimizer) in (SGD, ScheduleFree):
        assert_agree(backend, rows_of_data(density=0.3), Softmax(), optimizer, **settings)


@pytest.mark.parametrize("optimizer", [part for part in OPTIMIZER_CASES if declared(part).linear], ids=repr)
def test_scaled_sparse_rows_give_what_dense_ones_give(backend, optimizer):
    X = rows_of_data(density=0.3)
    settings = {"penalty": ElasticNet(0.3, 0.0), "coordinates": kinds_of_coordinates(True)}
    sparse_params, _ = run(backend, X, Logistic(), optimizer, **settings)
    dense_params, _ = run(backend, X.toarray(), Logistic(), optimizer, **settings)
    np.testing.assert_allclose(sparse_params, dense_params, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("optimizer", [*OPTIMIZER_CASES, Averaging(Momentum())], ids=repr)
def test_optimizers_agree_on_sparse_rows(backend, optimizer):
    assert_agree(backend, rows_of_data(density=0.3), Logistic(), optimizer, penalty=ElasticNet(0.3, 0.0))


@pytest.mark.parametrize("optimizer", [part for part in LINEAR if not declared(part).lazy_l1][:1], ids=repr)
def test_l1_agrees_on_sparse_rows_where_it_is_lazy(backend, optimizer):
    assert base.is_lazy(optimizer, NET)
    assert_agree(backend, rows_of_data(density=0.3), Logistic(), optimizer, penalty=NET)


@pytest.mark.parametrize("loss", [SquaredError(), Softmax()], ids=repr)
def test_losses_agree_on_sparse_rows(backend, loss):
    X = rows_of_data(density=0.3)
    assert_agree(backend, X, loss, ScheduleFree())
    params = start_of(loss, SGD())
    for weights in (NOTHING, np.random.default_rng(4).uniform(0, 2, N)):
        for rows in (EMPTY, np.array([3, 1, 80])):
            arguments = (loss, X, targets_of(loss), weights, rows, params[0, :, :-1], params[0, :, -1])
            np.testing.assert_allclose(backend.loss_csr(*arguments), base.loss_csr(*arguments), rtol=1e-12)


@pytest.mark.parametrize(("index", "dtype"), [(np.int32, np.float32), (np.int64, np.float64)])
def test_types_of_sparse_rows_agree(backend, index, dtype):
    """Indices of 32 and 64 bits; parameters of sparse rows are float64 for float32 data too."""
    X = rows_of_data(density=0.3, dtype=dtype)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    assert_agree(backend, X, *SOME, rtol=1e-9 if dtype == np.float64 else 1e-5)
    assert run(backend, X, *SOME)[0].dtype == np.float64


@each_of({"limits": {"clip_norm": 0.2}})
@pytest.mark.parametrize("optimizer", [ScheduleFree(), Adam()], ids=repr)
def test_settings_agree_on_sparse_rows(backend, settings, optimizer):
    settings = dict(settings)
    plan = plan_of(optimizer, **settings.pop("limits", {}))
    assert_agree(backend, rows_of_data(density=0.3), Logistic(), optimizer, plan=plan, **settings)


EXACT = [(part, penalty) for part in LINEAR for penalty in (ElasticNet(), ElasticNet(1.0, 0.0))] + [
    (part, penalty)
    for part in LINEAR
    if declared(part).lazy_l1
    for penalty in (ElasticNet(0.0, 0.05), ElasticNet(1.0, 0.02), ElasticNet(0.0, 5.0))
]


@pytest.mark.parametrize(("optimizer", "penalty"), EXACT, ids=repr)
def test_sparse_rows_give_what_dense_rows_give(backend, optimizer, penalty):
    """The exact lazy updates, over so many steps that the scaled state is made explicit several times."""
    X = rows_of_data(density=0.15, d=40)
    _, _, response = update(
        optimizer, 0.0, 0.0, (0.0,) * n_slots(optimizer), (1.0,) * declared(optimizer).n_coefficients
    )
    plan = plan_of(optimizer, n_epochs=30, rate=0.5 / response, batch_size=3)
    for ours, n_epochs in ((backend, 30), (base, 2)):
        some = plan if n_epochs == 30 else plan_of(optimizer, n_epochs=n_epochs, batch_size=3)
        expected = run(base, X.toarray(), Logistic(), optimizer, penalty, some)
        assert_same(run(ours, X, Logistic(), optimizer, penalty, some), expected, rtol=1e-8)
    if 0 < penalty.l1 < 1:
        zeros = expected[0][0, :, :-1] == 0
        assert 0 < zeros[:, :-1].sum() < zeros.size - 1


def test_untouched_coordinates_of_adaptive_solvers_stay(backend):
    """Their lazy semantics: moments, decay and prox act on the coordinates that a batch touches."""
    X = rows_of_data(density=0.3)
    for verbs in (base, backend):
        params, _ = run(verbs, X, Logistic(), Adam())
        np.testing.assert_array_equal(params[:, :, D - 1], start_of(Logistic(), Adam())[:, :, D - 1])
        moved, _ = run(verbs, X.toarray(), Logistic(), Adam())
        assert np.all(moved[0, :, D - 1] != params[0, :, D - 1])


def test_the_cost_of_sparse_rows_does_not_grow_with_the_features(backend):
    """A million features of which few occur: no array of the size of the data is filled in every step."""
    X = rows_of_data(density=0.3)
    wide = sparse.csr_matrix((X.data, X.indices, X.indptr), shape=(N, 1_000_000))
    params, _ = run(backend, wide, *SOME, penalty=ElasticNet(0.1, 0.0))
    narrow, _ = run(backend, X, *SOME, penalty=ElasticNet(0.1, 0.0))
    assert params.shape[2] == 1_000_001
    assert np.isfinite(params).all()
    assert narrow.shape[2] == D + 1
