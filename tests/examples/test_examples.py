"""The examples run, print what they found, and draw it."""

from __future__ import annotations

import os

import pytest

from tests.processes import OF_ROOT, ROOT, python

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example(script, tmp_path):
    figure = tmp_path / "figure.png"
    done = python("-W", "error", script, "--output", figure, env=OF_ROOT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"Figure: {figure}\n")
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert os.listdir(tmp_path) == [figure.name]
