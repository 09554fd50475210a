"""Where batches come from. Every source is a :class:`Source`; the training loop needs nothing else."""

from .augment import AUGMENTATIONS, Augmentation, autoaugment, cutout, randaugment
from .batch import Batch, Divisible, Normalization, Source, bounds, part, pieces, shares
from .cifar import cifar
from .digits import digits
from .folder import folder
from .labelled import Labelled, Part, few, held_out
from .mnist import fashion_mnist, mnist
from .small import Draw, SmallImages

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Batch",
    "Divisible",
    "Labelled",
    "Normalization",
    "Part",
    "Draw",
    "SmallImages",
    "Source",
    "autoaugment",
    "bounds",
    "cifar",
    "cutout",
    "digits",
    "fashion_mnist",
    "few",
    "folder",
    "held_out",
    "mnist",
    "part",
    "pieces",
    "randaugment",
    "shares",
]
