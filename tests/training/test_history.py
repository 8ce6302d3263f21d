"""The history of a training, and the clock that it is written by."""

from __future__ import annotations

import numpy as np
import pytest

from skminibatch.backends import compilation
from skminibatch.training import loop
from skminibatch.training.loop import Clock
from skminibatch.training.state import History


def entry(number: int, loss: float = 1.0, score: float = np.nan) -> dict[str, float]:
    return {"epoch": number, "loss": loss, "penalty": 0.0, "validation_score": score, "seconds": 0.1 * number}


def filled(history: History, losses, scores=None) -> History:
    for number, loss in enumerate(losses, 1):
        history.append(**entry(number, loss, np.nan if scores is None else scores[number - 1]))
    return history


def test_a_fit_keeps_every_epoch():
    history = filled(History(), np.linspace(2.0, 1.0, 1000)).arrays()
    np.testing.assert_array_equal(history["epoch"], np.arange(1, 1001))
    assert history["epoch"].dtype == np.int64
    np.testing.assert_array_equal(history["loss"], np.linspace(2.0, 1.0, 1000))


def test_a_stream_keeps_some_and_the_best():
    losses = np.random.default_rng(0).uniform(1.0, 2.0, 1000)
    for best in (13, 500, 998):
        losses[best] = 0.5
        history = History(most=20)
        filled(history, losses)
        kept = history.arrays()
        assert 5 <= len(kept["epoch"]) < 20
        assert np.all(np.diff(kept["epoch"]) > 0)
        assert kept["epoch"][-1] == 1000
        assert kept["loss"].min() == 0.5
        np.testing.assert_array_equal(kept["loss"], losses[kept["epoch"] - 1])
        losses[best] = 1.5


@pytest.mark.parametrize("most", range(12, 20))
def test_the_best_score_is_kept_too(most):
    """Whichever entries are dropped; those of a fit have scores, from which a stream may go on."""
    rng = np.random.default_rng(most)
    losses, scores = rng.uniform(1.0, 2.0, 60), rng.uniform(0.0, 1.0, 60)
    kept = filled(History(most=most), losses, scores).arrays()
    assert len(kept["epoch"]) <= most
    assert kept["loss"].min() == losses.min()
    assert kept["validation_score"].max() == scores.max()


def test_a_stream_that_goes_on_leaves_its_past_alone():
    before = filled(History(), [3.0, 2.0])
    after = History.of_stream(before)
    after.append(**entry(3, 1.0))
    after.correct(loss=0.5)
    assert len(before) == 2
    assert before.last("loss") == 2.0
    np.testing.assert_array_equal(after.arrays()["loss"], [3.0, 2.0, 0.5])


def test_arrays_are_copies():
    history = filled(History(), [1.0, 2.0])
    history.arrays()["loss"][:] = 0.0
    assert history.last("loss") == 2.0
    assert history.last("seconds") == 0.2


def test_compiling_is_no_part_of_the_seconds(monkeypatch):
    monkeypatch.setattr(loop.time, "perf_counter", lambda: 10.0 + compilation.spent())
    clock = Clock(filled(History(), [1.0, 1.0]))
    compilation.add(5.0)
    np.testing.assert_allclose(clock.seconds(), 0.0)
    np.testing.assert_allclose(clock.total(), 0.2)
