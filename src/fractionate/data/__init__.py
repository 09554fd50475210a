"""Where batches come from. Every source is a :class:`Source`; the training loop needs nothing else."""

from .batch import Batch, Normalization, Source
from .digits import Labelled, Part, digits
from .small import Augmentation, SmallImages, cutout

__all__ = ["Augmentation", "Batch", "Labelled", "Normalization", "Part", "SmallImages", "Source", "cutout", "digits"]
