"""Gradients per stream and the optimizer that keeps a momentum buffer for each of them."""

from .clip import clip_streams, clip_total
from .grads import StreamGrads, stream_grads
from .momenta import Momenta
from .reduce import AllReduce, PeerLost
from .sgd import StreamSGD
from .sharded import unsharded
from .update_sync import UpdateAllReduce

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
