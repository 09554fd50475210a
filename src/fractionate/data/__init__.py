"""Where batches come from. Every source is a :class:`Source`; the training loop needs nothing else."""

from .batch import Batch, Normalization, Source
from .cifar import cifar
from .digits import digits
from .labelled import Labelled, Part, few, held_out
from .small import Augmentation, SmallImages, cutout

__all__ = [
    "Augmentation",
    "Batch",
    "Labelled",
    "Normalization",
    "Part",
    "SmallImages",
    "Source",
    "cifar",
    "cutout",
    "digits",
    "few",
    "held_out",
]
