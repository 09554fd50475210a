"""Networks by name, and checkpoints in every published layout."""

from .checkpoints import load_checkpoint
from .convnet import ConvNet
from .zoo import MODELS, create

__all__ = ["MODELS", "ConvNet", "create", "load_checkpoint"]
