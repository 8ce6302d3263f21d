"""Scaling rules: how an explicit rate, meant for `base_batch_size` rows, follows the batch size."""

from __future__ import annotations


def linear(rate, batch_size, base_batch_size):
    """``rate * b / base``: the same progress a sample (Goyal et al. 2017, arXiv:1706.02677)."""
    return rate * batch_size / base_batch_size


def square_root(rate, batch_size, base_batch_size):
    """``rate * sqrt(b / base)``: the same variance of an update, rate^2 sigma^2 / b (Krizhevsky 2014)."""
    return rate * (batch_size / base_batch_size) ** 0.5


SCALING_RULES = {"linear": linear, "sqrt": square_root}
