"""Networks by name, checkpoints in every published layout, and networks in folders of their own."""

from .checkpoints import OtherHead, load_checkpoint
from .dense import OnlyMaps, maps_of, pick_maps
from .exported import Description, Exported, apart, load_exported, save_exported
from .foreign import Ask, OnlyLogits, classes_of, logits_of, pick_logits
from .handled import copy_of, switched
from .plain import ConvNet
from .preprocessing import Preprocessing, preprocessing_of
from .token import class_logits, token_logits, train_token
from .zoo import MODELS, code_of, create, is_own_code

__all__ = [
    "MODELS",
    "Ask",
    "ConvNet",
    "Description",
    "Exported",
    "OnlyLogits",
    "OtherHead",
    "OnlyMaps",
    "Preprocessing",
    "apart",
    "class_logits",
    "classes_of",
    "code_of",
    "copy_of",
    "switched",
    "create",
    "is_own_code",
    "load_checkpoint",
    "load_exported",
    "logits_of",
    "maps_of",
    "pick_logits",
    "pick_maps",
    "preprocessing_of",
    "save_exported",
    "token_logits",
    "train_token",
]
