"""Gradients per stream and the optimizer that keeps a momentum buffer for each of them."""

from .grads import StreamGrads, clip_streams, clip_total, stream_grads
from .momenta import Momenta
from .reduce import AllReduce, PeerLost, UpdateAllReduce
from .sgd import StreamSGD
from .sharded import unsharded

__all__ = [
    "AllReduce",
    "Momenta",
    "PeerLost",
    "StreamGrads",
    "StreamSGD",
    "UpdateAllReduce",
    "clip_streams",
    "clip_total",
    "stream_grads",
    "unsharded",
]
