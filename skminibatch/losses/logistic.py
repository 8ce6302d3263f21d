"""The negative log-likelihood of class labels: two classes (or independent labels), and several classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax

from skminibatch.contract.kinds import declares
from skminibatch.contract.verbs import exp_of_negative, log_of_one_plus, where


@declares(curvature=0.25, task="classification", link="logit")
class Logistic(NamedTuple):
    """``log(1 + exp(-y raw))`` for `y` in {-1, +1}; probabilities are ``1 / (1 + exp(-raw))``."""

    def value(self, raw, y):
        z = y * raw
        return np.maximum(0.0, -z) + log_of_one_plus(exp_of_negative(-np.abs(z)))

    def gradient(self, raw, y):
        z = y * raw
        e = exp_of_negative(-np.abs(z))
        return -y * where(z > 0.0, e, 1.0) / (1.0 + e)

    def second_derivative(self, raw, y):
        e = exp_of_negative(-np.abs(raw))
        return e / ((1.0 + e) * (1.0 + e))

    def baseline(self, y, weights):
        """The logarithm of the odds of 1, neither label being rarer than one row."""
        positive = len(y) * np.average(y > 0, axis=0, weights=weights)
        return np.log(np.maximum(positive, 1.0) / np.maximum(len(y) - positive, 1.0))

    def probability(self, raw):
        return expit(raw)

    def log_probability(self, raw):
        return log_expit(raw)

    def of_classes(self):
        return Softmax()


@declares(curvature=0.5, task="classification", link="multinomial logit")
class Softmax(NamedTuple):
    """``log sum_k exp(raw_k) - raw_y`` for the class index `y`; rows of raw outputs are taken as a whole.

    The Hessian ``diag(p) - p p'`` has no eigenvalue above 1/2 (Boehning 1992).
    """

    def value_gradient(self, raw, y, out):
        label = int(y[0])
        n = raw.shape[0]
        highest = raw[0]
        for k in range(1, n):
            highest = max(highest, raw[k])
        total = 0.0
        for k in range(n):
            e = np.exp(raw[k] - highest)
            out[k] = e
            total += e
        for k in range(n):
            out[k] /= total
        out[label] -= 1.0
        return np.log(total) + highest - raw[label]

    def proximal(self, raw, y, weight, q, dual, out, work):
        # Newton's method. Its matrix is I + w (diag(p) - p p') with w = q weight, solved by the formula of Sherman and
        # Morrison. A step is shortened by its range, as for any function whose third derivative is bounded by that range
        # times the second one (Sun and Tran-Dinh 2019), so that it converges from everywhere.
        label, n, w, first = int(y[0]), raw.shape[0], q * weight, 0.0
        for k in range(n):
            out[k] = raw[k]
        for step in range(50):
            highest = out[0]
            for k in range(1, n):
                highest = max(highest, out[k])
            total = 0.0
            for k in range(n):
                work[0, k] = np.exp(out[k] - highest)
                total += work[0, k]
            size, pull, rest = 0.0, 0.0, 0.0
            for k in range(n):
                p = work[0, k] / total
                target = 1.0 if k == label else 0.0
                residual = out[k] - raw[k] + q * dual[k] + w * (p - target)
                size = max(size, abs(residual))
                pull += p * residual / (1.0 + w * p)
                rest += p / (1.0 + w * p)
                work[0, k], work[1, k] = p, residual
            if step == 0:
                first = size
            if not size > 1e-8 * first + 1e-15 * abs(highest):
                break
            least, most = np.inf, -np.inf
            for k in range(n):
                move = (work[1, k] + w * work[0, k] * pull / rest) / (1.0 + w * work[0, k])
                least, most = min(least, move), max(most, move)
                work[1, k] = move
            spread = most - least
            share = np.log(1.0 + spread) / spread if spread > 1e-3 else 1.0
            for k in range(n):
                out[k] -= share * work[1, k]

    def hessian_product(self, raw, y, direction):
        p = softmax(raw, axis=1)
        return p * (direction - np.sum(p * direction, axis=1, keepdims=True))

    def baseline(self, y, weights, n_outputs):
        """The logarithms of the shares of the classes, of mean zero, no class being rarer than one row."""
        counts = np.bincount(y[:, 0].astype(int), weights, n_outputs)
        counts = np.maximum(counts * (len(y) / counts.sum()), 1.0)
        return np.log(counts) - np.log(counts).mean()

    def probabilities(self, raw):
        return softmax(raw, axis=1)

    def log_probabilities(self, raw):
        return log_softmax(raw, axis=1)
