"""Samplers: a dict from the name of the parameter `sampler` to the part.

``start(n_rows, rows, seed, epoch) -> memory`` and ``draw(memory, sizes) -> (order, weights or None, memory)``; the
weights, one a position, keep the gradient unbiased (None where every row has the same chance).
"""

from skminibatch.samplers.uniform import Blocks, Replacement, SamplerMemory, Sequential, Shuffle

SAMPLERS = {
    "shuffle": Shuffle,
    "replacement": Replacement,
    "sequential": Sequential,
    "blocks": Blocks,
}

__all__ = ["SAMPLERS", "Blocks", "Replacement", "SamplerMemory", "Sequential", "Shuffle"]
