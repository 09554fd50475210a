"""Gradients per stream and the optimizer that keeps a momentum buffer for each of them."""

from .grads import StreamGrads, stream_grads
from .momenta import Momenta
from .sgd import StreamSGD

__all__ = ["Momenta", "StreamGrads", "StreamSGD", "stream_grads"]
