"""What a fit says while it trains; its lines about epochs are tested with those of `verbose`, for every estimator."""

from __future__ import annotations

import logging

import pytest

from skminibatch import MiniBatchSGDClassifier
from skminibatch.backends import compilation
from skminibatch.estimators import report


@pytest.mark.parametrize("verbose", [0, 1])
def test_long_compiling_is_told_once(verbose, binary, caplog, capsys, monkeypatch):
    """On the logger, and with `verbose` in print, before the line of the epoch in which it happened."""
    model = MiniBatchSGDClassifier(max_iter=3, tol=None, verbose=verbose, device="base", random_state=0)
    of_epoch = report.Report.epoch

    def epoch(self, progress):
        if progress.state.epoch == 2:
            compilation.add(2.5)
        of_epoch(self, progress)

    monkeypatch.setattr(report.Report, "epoch", epoch)
    with caplog.at_level(logging.INFO, logger="skminibatch"):
        model.fit(*binary)
    told = "Compiling kernels took 2.5 s; later fits of this kind start at once."
    assert [record.getMessage() for record in caplog.records] == [told]
    printed = capsys.readouterr().out.splitlines()
    if verbose:
        assert [line.split()[0] for line in printed] == ["Epoch", "Compiling", "Epoch", "Epoch", "Training"]
        assert printed[1] == told
    else:
        assert printed == []


def test_short_compiling_is_not_told(binary, caplog, monkeypatch):
    model = MiniBatchSGDClassifier(max_iter=1, tol=None, device="base", random_state=0)
    monkeypatch.setattr(report, "NOTICEABLE", 1e9)
    with caplog.at_level(logging.INFO, logger="skminibatch"):
        model.fit(*binary)
    assert caplog.records == []
