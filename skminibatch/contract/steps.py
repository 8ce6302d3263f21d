"""The step of a coordinate with its penalty: one formula for arrays, for compiled loops on the CPU and for kernels on a GPU.

The penalty acts on ``stretch`` times the coordinate, where `decayed`; elsewhere on nothing.
"""

from __future__ import annotations

from skminibatch.contract.verbs import decoupled, prox, smooth_gradient, update, where


def regularised(penalty, optimizer, w, g, stretch, decayed, c):
    """A coordinate and its gradient, one of them with the smooth part of the penalty."""
    pull = where(decayed, smooth_gradient(penalty, w * stretch) * stretch, 0.0)
    if decoupled(optimizer):
        w = w - c[0] * pull
    else:
        g = g + pull
    return w, g


def stepped(penalty, optimizer, w, g, slots, stretch, decayed, c):
    """A coordinate and its slots after a step with the gradient `g` of the loss, before an average follows."""
    w, g = regularised(penalty, optimizer, w, g, stretch, decayed, c)
    w, slots, step = update(optimizer, w, g, slots, c)
    return where(decayed, prox(penalty, w * stretch, step * stretch * stretch) / stretch, w), slots
