"""NVIDIA's run-time compiler, which makes machine code for a GPU on a machine without one.

It comes with the package `nvidia-cuda-nvrtc-cu12`, one of the extra `tests`, or with that of a later version.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path

import pytest

# the oldest architecture and the latest one that are used, each with one type: what a type takes is the same on both
TYPES = ("sm_80", "float64"), ("sm_90", "float32")
EACH = pytest.mark.parametrize(("architecture", "dtype"), TYPES)
NAMES = ("libnvrtc.so.*", "nvrtc64_*_0.dll")


@functools.cache
def library() -> ctypes.CDLL | str:
    """The compiler, or the reason why there is none."""
    package = importlib.util.find_spec("nvidia")
    folders = [] if package is None else [Path(folder) for folder in package.submodule_search_locations]
    found = [path for folder in folders for name in NAMES for path in sorted(folder.rglob(name))]
    if not found:
        return "NVRTC is not installed (package nvidia-cuda-nvrtc-cu12)"
    try:
        for part in sorted(found[0].parent.glob("libnvrtc-builtins.so.*")):  # which it looks for by its name alone
            ctypes.CDLL(str(part))
        return ctypes.CDLL(str(found[0]))
    except OSError as error:
        return f"NVRTC cannot be loaded: {error}"


def compile(text: str, architecture: str, *options: str) -> tuple[bytes, str]:
    """The machine code of a source for "sm_80", say, or its PTX for "compute_80", and what the compiler says.

    Skips the test where there is no compiler. An error in the source is a failure with the compiler's messages.
    """
    nvrtc = library()
    if isinstance(nvrtc, str):
        pytest.skip(nvrtc)
    program, text_bytes = ctypes.c_void_p(), text.encode()
    _check(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), text_bytes, b"kernel.cu", 0, None, None))
    try:
        flags = [option.encode() for option in (f"--gpu-architecture={architecture}", "--std=c++17", *options)]
        status = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
        log = _fetched(nvrtc, program, "ProgramLog").rstrip(b"\0").decode()
        assert status == 0, log
        return _fetched(nvrtc, program, "CUBIN" if architecture.startswith("sm_") else "PTX"), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _fetched(nvrtc, program, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(nvrtc, status: int) -> None:
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    assert status == 0, nvrtc.nvrtcGetErrorString(status).decode()
