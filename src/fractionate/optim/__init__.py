"""Gradients per stream and the optimizers that keep a momentum buffer for each of them."""

from .adamw import StreamAdamW
from .grads import StreamGrads, clip_streams, clip_total, stream_grads
from .held import StreamOptimizer, unscale
from .momenta import Momenta
from .reduce import AllReduce, PeerLost, UpdateAllReduce
from .sgd import StreamSGD
from .sharded import unsharded

__all__ = [
    "AllReduce",
    "Momenta",
    "PeerLost",
    "StreamAdamW",
    "StreamGrads",
    "StreamOptimizer",
    "StreamSGD",
    "UpdateAllReduce",
    "clip_streams",
    "clip_total",
    "stream_grads",
    "unscale",
    "unsharded",
]
