"""Python in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HANGS = 3600  # seconds: ends a process that never would; no machine is as slow as that


def importing_from(folder: Path) -> dict[str, str]:
    """The variable of the environment by which Python imports from a folder first."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


OF_ROOT = importing_from(ROOT)


def python(*arguments, env: dict | None = None, cwd=ROOT) -> subprocess.CompletedProcess:
    """Run Python and keep what it prints; ``env`` changes variables of the environment, None removes one."""
    variables = {**os.environ, **(env or {})}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={name: value for name, value in variables.items() if value is not None},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
