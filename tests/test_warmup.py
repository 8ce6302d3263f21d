"""Compiling ahead of time."""

from __future__ import annotations

import pytest

from skminibatch import warmup


def test_it_says_what_each_setting_took(monkeypatch, capsys):
    settings = warmup.usual_settings()
    assert len(settings) == 26
    assert len(set(map(str, settings))) == 26
    monkeypatch.setattr(warmup, "usual_settings", lambda: settings[:2])
    warmup.main([])
    first, second, total = capsys.readouterr().out.splitlines()
    assert first.endswith("s  MiniBatchSGDClassifier(), fit on float64 rows, two classes")
    assert second.endswith("s  MiniBatchSGDClassifier(), fit on float32 rows, two classes")
    assert total.startswith("Compiling or loading the kernels of 2 settings took")


@pytest.mark.slow
@pytest.mark.parametrize("setting", warmup.usual_settings(), ids=str)
def test_every_setting_can_be_fitted(setting):
    setting.fit(*warmup.data())
    assert setting.estimator.n_iter_ >= 1
