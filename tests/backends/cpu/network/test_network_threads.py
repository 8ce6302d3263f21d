"""Threads of networks: their number changes no bit, and the limit of those of BLAS is lifted again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone
from threadpoolctl import threadpool_info, threadpool_limits

from skminibatch import MiniBatchMLPClassifier
from skminibatch.backends import threads
from skminibatch.backends.cpu.network import run as network
from skminibatch.backends.cpu.network.stacks import most_pieces
from skminibatch.layers import Dense, Identity, ReLU, Stack


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_number_of_threads_changes_no_bit(dtype):
    """BLAS splits sums of 400 to 800 terms in another way where it takes two threads."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2100, 784)).astype(dtype), rng.integers(0, 3, 2100)
    model = MiniBatchMLPClassifier(hidden_layer_sizes=(80, 70), batch_size=1050, max_iter=2, tol=None, random_state=0)
    model.set_params(early_stopping=True, normalization="batch", n_iter_no_change=3)
    expected = clone(model).set_params(n_jobs=1).fit(X, y)
    for n_threads in (2, 3, 16, None):
        for limit in (1, 2):
            with threadpool_limits(limit, user_api="blas"):
                found = clone(model).set_params(n_jobs=n_threads).fit(X, y)
                np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])
                np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
                np.testing.assert_array_equal(found.loss_curve_, expected.loss_curve_)


def test_large_products_are_cut_into_pieces():
    """The test above would prove nothing otherwise."""
    stack = Stack((Dense(784, 80, ReLU()), Dense(80, 3, Identity())))
    assert most_pieces(stack, 1050) > 4 > most_pieces(stack, 32) == 1


def test_helpers_go_home_where_the_kernel_cannot_start(monkeypatch):
    """In a thread of its own: otherwise they would wait for ever, and this test with them."""

    def fail(*arguments):
        raise ZeroDivisionError

    def fit():
        with pytest.raises(ZeroDivisionError):
            model.fit(X, y)
        ended.set()

    rng, ended = np.random.default_rng(0), threading.Event()
    X, y = rng.standard_normal((1050, 784)), rng.integers(0, 3, 1050)
    model = MiniBatchMLPClassifier(hidden_layer_sizes=(80,), batch_size=1050, n_jobs=2)
    monkeypatch.setattr(network, "run", fail)
    threading.Thread(target=fit, daemon=True).start()
    assert ended.wait(60)


def test_fits_at_the_same_time_keep_their_bits():
    """The limit of the threads of BLAS is one of the process: whoever ends first does not lift it for the others."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1600, 784)), rng.integers(0, 3, 1600)
    model = MiniBatchMLPClassifier(hidden_layer_sizes=(80,), batch_size=800, tol=None, random_state=0)
    lengths = [1, 4, 2, 3]
    expected = [clone(model).set_params(max_iter=n).fit(X, y).coefs_[0] for n in lengths]
    limits = threads.of_blas()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: clone(model).set_params(max_iter=n).fit(X, y).coefs_[0], lengths))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert threads.of_blas() == limits


def test_a_limit_is_lifted_when_something_fails():
    def fail():
        with threads.one_of_blas():
            assert threads.of_blas() == before
            raise ZeroDivisionError

    before = threads.of_blas()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert threads.of_blas() == before
    assert before == max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
