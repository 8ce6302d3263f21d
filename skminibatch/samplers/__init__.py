"""Samplers: a dict from the name of the parameter `sampler` to the part.

``start(n_rows, rows, seed, epoch, strata)`` returns a memory, and ``draw(memory, sizes)`` the order of the rows of the next
steps, their weights or None, and the memory; weights, one per position, keep the gradient unbiased (None where every row has
the same chance). What else a sampler may bring, and what holds otherwise, is listed in `skminibatch.contract.kinds`
(``SAMPLER``): how the rows of a batch are drawn, whether it needs strata, ``observe`` to measure gradients between chunks, ...
"""

from skminibatch.samplers.importance import Importance
from skminibatch.samplers.strata import Groups, Neyman, Stratified
from skminibatch.samplers.uniform import Blocks, Replacement, SamplerMemory, Sequential, Shuffle

SAMPLERS = {
    "shuffle": Shuffle,
    "replacement": Replacement,
    "sequential": Sequential,
    "blocks": Blocks,
    "groups": Groups,
    "stratified": Stratified,
    "neyman": Neyman,
    "importance": Importance,
}

__all__ = [
    "SAMPLERS",
    "Blocks",
    "Groups",
    "Importance",
    "Neyman",
    "Replacement",
    "SamplerMemory",
    "Sequential",
    "Shuffle",
    "Stratified",
]
