"""Images with a class for every pixel: the layouts of data sets, pairs of image and mask, batches of crops."""

from .layouts import LAYOUTS, listed
from .pairs import VOID, Kept, Pairs, ready
from .source import IMAGENET, Crop, DenseImages, cropped, whole

__all__ = ["IMAGENET", "LAYOUTS", "VOID", "Crop", "DenseImages", "Kept", "Pairs", "cropped", "listed", "ready", "whole"]
