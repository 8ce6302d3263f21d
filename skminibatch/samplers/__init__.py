"""Samplers: a dict from the name of the parameter `sampler` to the part.

``start(n_rows, rows, seed, epoch, strata) -> memory`` and ``draw(memory, sizes) -> (order, weights or None, memory)``; the
weights, one a position, keep the gradient unbiased (None where every row has the same chance). Optional: ``observe(memory,
gradients) -> memory`` examines gradients of rows of its choice between chunks (see `skminibatch.models.gradients.Gradients`).
Class data: ``one_population``, ``without_replacement``: how the rows of a batch are drawn, which their variance depends on;
``from_targets``, of samplers that need strata: whether these may come from the targets. ``tempered(smoothness)``, of samplers
whose weights make rows less stiff.
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
