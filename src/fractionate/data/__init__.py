"""Where batches come from. Every source is a :class:`Source`; the training loop needs nothing else."""

from ..pictures import Survey, survey
from .augment import AUGMENTATIONS, Augmentation, autoaugment, cutout, randaugment
from .batch import Batch, Draw, Normalization, bounds, part, pieces
from .cifar import cifar
from .digits import digits
from .folder import folder
from .labelled import Labelled, Part, few, held_out, long_tailed
from .mnist import fashion_mnist, mnist
from .small import SmallImages
from .source import (
    Countable,
    Divisible,
    Drawn,
    Source,
    class_counts,
    epoch_images,
    fingerprint_of,
    normalization_of,
    shares,
    stated,
)

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Batch",
    "Countable",
    "Divisible",
    "Labelled",
    "Normalization",
    "Part",
    "Draw",
    "Drawn",
    "SmallImages",
    "Source",
    "Survey",
    "autoaugment",
    "bounds",
    "cifar",
    "class_counts",
    "cutout",
    "digits",
    "epoch_images",
    "fashion_mnist",
    "few",
    "fingerprint_of",
    "folder",
    "held_out",
    "long_tailed",
    "mnist",
    "normalization_of",
    "part",
    "pieces",
    "randaugment",
    "shares",
    "stated",
    "survey",
]
