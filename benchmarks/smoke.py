"""Smoke runs: every benchmark goes through all of its code on tiny data (`python benchmarks/run.py --smoke`)."""

import os

VARIABLE = "SKMINIBATCH_SMOKE"  # of the environment, so that processes that a benchmark starts have it too


def is_smoke():
    return os.environ.get(VARIABLE) == "1"


def sized(full, tiny):
    """A setting of the measurement, or the one of a smoke run."""
    return tiny if is_smoke() else full
