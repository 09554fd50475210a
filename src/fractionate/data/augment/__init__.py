"""Augmentations: what is done to the pixels of a batch, and how pairs of images are mixed."""

from .mixing import Mix, draw, mixed
from .policies import AUGMENTATIONS, Augmentation, autoaugment, cutout, randaugment

__all__ = ["AUGMENTATIONS", "Augmentation", "Mix", "autoaugment", "cutout", "draw", "mixed", "randaugment"]
