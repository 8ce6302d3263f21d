"""Penalties: a dict from the name of the parameter `penalty` to the mixing of the elastic net.

One elastic net ``alpha ((1 - l1_ratio) w^2 / 2 + l1_ratio |w|)`` serves every name by its values; a name stands here
for the ``l1_ratio`` that it implies ("elasticnet": the parameter itself decides; None: no penalty). A custom penalty has
``value(w)``, ``gradient(w)`` of its smooth part and ``prox(w, step)`` of the rest. What else it may bring, and what holds
otherwise, is listed in `skminibatch.contract.kinds` (``PENALTY``).
"""

from skminibatch.penalties.elastic_net import ElasticNet

PENALTIES = {"l2": 0.0, "l1": 1.0, "elasticnet": None, None: 0.0}

__all__ = ["PENALTIES", "ElasticNet"]
