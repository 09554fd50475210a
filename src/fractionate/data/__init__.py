"""Where batches come from. Every source is a :class:`Source`; the training loop needs nothing else."""

from .batch import Batch, Normalization, Source
from .digits import Labelled, Part, digits
from .small import SmallImages

__all__ = ["Batch", "Labelled", "Normalization", "Part", "SmallImages", "Source", "digits"]
