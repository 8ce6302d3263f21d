"""The examples run, print what they found, and draw it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example(script, tmp_path):
    figure = tmp_path / "figure.png"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), "--output", str(figure)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"Figure: {figure}\n")
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert os.listdir(tmp_path) == [figure.name]
