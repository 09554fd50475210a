"""Images with a class for every pixel: the layouts of data sets, pairs of image and mask, batches of crops."""

from .layouts import LAYOUTS, listed
from .pairs import VOID, Pairs, ready
from .source import IMAGENET, Crop, DenseImages, cropped, whole

__all__ = ["IMAGENET", "LAYOUTS", "VOID", "Crop", "DenseImages", "Pairs", "cropped", "listed", "ready", "whole"]
