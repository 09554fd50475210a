"""Networks by name, checkpoints in every published layout, and networks in folders of their own."""

from .checkpoints import load_checkpoint
from .exported import Description, Exported, load_exported, save_exported
from .plain import ConvNet
from .zoo import MODELS, create

__all__ = [
    "MODELS",
    "ConvNet",
    "Description",
    "Exported",
    "create",
    "load_checkpoint",
    "load_exported",
    "save_exported",
]
