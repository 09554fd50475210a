"""Where batches come from. Every source is a :class:`Source`; the training loop needs nothing else."""

from ..pictures import Survey, survey
from .augment import AUGMENTATIONS, Augmentation, autoaugment, cutout, randaugment
from .batch import Batch, Draw, Normalization, bounds, part, pieces
from .cifar import cifar
from .digits import digits
from .folder import folder
from .joined import Joined
from .labelled import Labelled, Part, few, held_out, long_tailed, resized
from .layouts import IMAGENET as PHOTO_NORMALIZATION
from .layouts import PhotoSet, layout_of, photo_set
from .mnist import fashion_mnist, mnist
from .photos import Photos
from .small import SmallImages
from .source import (
    Countable,
    Divisible,
    Drawn,
    Source,
    class_counts,
    epoch_images,
    fingerprint_of,
    in_memory,
    normalization_of,
    shares,
    stated,
    unlabelled_count,
)
from .stl10 import stl10, stl10_unlabelled
from .unlabelled import unlabelled

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Batch",
    "Countable",
    "Divisible",
    "Joined",
    "Labelled",
    "Normalization",
    "PHOTO_NORMALIZATION",
    "Part",
    "PhotoSet",
    "Photos",
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
    "layout_of",
    "long_tailed",
    "mnist",
    "normalization_of",
    "part",
    "photo_set",
    "pieces",
    "randaugment",
    "in_memory",
    "shares",
    "stated",
    "resized",
    "stl10",
    "stl10_unlabelled",
    "survey",
    "unlabelled",
    "unlabelled_count",
]
