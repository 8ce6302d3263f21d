"""The GPU: whether one answers and, if not, why; CuPy, which is imported here and nowhere else."""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType

from skminibatch.contract import verbs

EXTRA = "install skminibatch[cuda12] or skminibatch[cuda13], by the version of CUDA"
_answers: dict[int, str | None] = {}  # by process: None where a GPU answered


def cupy() -> ModuleType:
    """CuPy, with a GPU that answers.

    Raises
    ------
    RuntimeError
        In one sentence, where there is none.
    """
    reason = problem()
    if reason is not None:
        raise RuntimeError(reason)
    return _cupy()


@cache
def _cupy() -> ModuleType:
    module = importlib.import_module("cupy")
    verbs.normal_share.register(module.ndarray, _normal_share)  # a function of SciPy, which CuPy does not stand in for
    return module


def _normal_share(x):
    return importlib.import_module("cupyx.scipy.special").ndtr(x)


def problem() -> str | None:
    """One sentence that says why no GPU can be used, None where one answers; found out once in a process."""
    process = os.getpid()
    if process not in _answers:
        started = None in _answers.values()  # in the process that this one was forked from
        _answers[process] = _FORKED if started else _problem()
    return _answers[process]


_FORKED = (
    "This process was forked from one that had started CUDA, which does not outlive a fork: start processes by 'spawn' or "
    "'forkserver', as joblib does by itself."
)


def _problem() -> str | None:
    try:
        module = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            return f"The GPU needs CuPy, which is not installed: {EXTRA}."
        return f"The GPU needs CuPy, whose import failed ({_words(error)}): {EXTRA}."
    except Exception as error:  # whatever a broken installation raises
        return f"The GPU needs CuPy, whose import failed ({_words(error)}): {EXTRA}."
    try:
        count = module.cuda.runtime.getDeviceCount()
    except Exception as error:  # no driver, or one that is too old
        if "cudaErrorInitializationError" in str(error):  # CUDA was started by other code
            return _FORKED
        return f"The GPU needs an NVIDIA driver as new as the CUDA of CuPy, and none answers ({_words(error)})."
    return None if count else "There is no GPU: CuPy and the driver answer, but count no device."


def _words(error: Exception) -> str:
    """The type and the first words of what was the first cause of an error."""
    while error.__cause__ is not None:  # CuPy wraps it in a page of advice
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line))]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
