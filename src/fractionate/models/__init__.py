"""Networks by name, checkpoints in every published layout, and networks in folders of their own."""

from .checkpoints import OtherHead, load_checkpoint
from .exported import Description, Exported, apart, load_exported, save_exported
from .foreign import OnlyLogits, classes_of, copy_of, logits_of, pick_logits
from .plain import ConvNet
from .preprocessing import Preprocessing, preprocessing_of
from .zoo import MODELS, create, is_own_code

__all__ = [
    "MODELS",
    "ConvNet",
    "Description",
    "Exported",
    "OnlyLogits",
    "OtherHead",
    "Preprocessing",
    "apart",
    "classes_of",
    "copy_of",
    "create",
    "is_own_code",
    "load_checkpoint",
    "load_exported",
    "logits_of",
    "pick_logits",
    "preprocessing_of",
    "save_exported",
]
