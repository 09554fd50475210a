"""Which images a run sees, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .ranges import check_data

Name = Literal[
    "digits",
    "cifar10",
    "cifar100",
    "mnist",
    "fashion-mnist",
    "folder",
    "imagenet",
    "tiny-imagenet",
    "cub200",
    "stl10",
    "dtd",
    "food101",
    "camvid",
    "cityscapes",
    "ade20k",
    "voc",
    "masks",
]
Augment = Literal["none", "cutout", "autoaugment", "autoaugment+cutout", "randaugment"]


@dataclass(frozen=True)
class Data:
    """Which images, how many of them, and how they are augmented.

    Args:
        name: data set; ``"folder"`` is any folder of images, one folder per class; those of photos are read in their
            official layouts, and never downloaded. With a class for every pixel: ``"camvid"``, ``"cityscapes"``,
            ``"ade20k"``, ``"voc"``, and ``"masks"``, any folder of images and masks.
        root: folder the data set lies in, or is downloaded to; ``None`` takes the environment variable
            FRACTIONATE_DATA, else ``data``.
        labels_per_class: keep this many training images of each class; ``None`` keeps all.
        imbalance: keep fewer and fewer images from class to class, the first one this many times as many as the last
            (CIFAR-100-LT); ``None`` keeps them balanced. The teacher that is trained along sees the same images.
        evaluate_on: ``"test"``; or ``"validation"``, a part taken out of the training images, to choose settings on.
        size: of a folder's images, in pixels; ``None`` takes that of the first one, of a set of photos the usual one.
        skip_broken: leave out files of a folder that cannot be read, with a warning that counts them.
        cache: keep a folder's decoded pictures on disk for later runs, where FRACTIONATE_CACHE says, else in ~/.cache;
            it changes no number.
        batch_size: images per step.
        passes: how often every image is seen in one epoch.
        shift: random shift by up to this many pixels (pad and crop).
        flip: random mirror image.
        augment: what else is done to the training images: ``"autoaugment"`` (the policy found on CIFAR-10),
            ``"autoaugment+cutout"`` (the same and a square of 16 pixels, for GDKD's teachers),
            ``"randaugment"`` (that of CRLD and MLKD, with its cutout), ``"cutout"``.
        strong: how the second view of two-view methods is made, out of the same list; ``"none"`` makes none.
        mixup: parameter of the Beta distribution by which pairs of images and their labels are mixed; 0 = off.
        cutmix: the same for pasted rectangles; with both, each batch draws one of them.
        unlabelled: a folder of images without labels (anywhere below it; or STL-10's), some of which join every batch;
            ``"all"``: all training images, labels hidden, beside those that ``labels_per_class`` keeps. The task's loss
            is the mean over the images with labels, every other the mean over all. For methods that read no label.
        unlabelled_batch: how many of them; ``None``: as many as ``batch_size``, which counts those with labels.
        crop: of a dense set, height and width of the training crops; empty shows whole images.
        scale: smallest and largest factor by which an image is enlarged before it is cropped.
        scale_step: distance of the factors that are drawn; 0 = any in between.
        colour: change brightness, contrast and saturation of a training image by up to this part.
        multiple: whole images are padded to sides that are multiples of this, with pixels of no label.
    """

    name: Name = "digits"
    root: str | None = None
    labels_per_class: int | None = None
    imbalance: float | None = None
    evaluate_on: Literal["test", "validation"] = "test"
    size: int | None = None
    skip_broken: bool = False
    cache: bool = False
    batch_size: int = 64
    passes: int = 1
    shift: int = 0
    flip: bool = False
    augment: Augment = "none"
    strong: Augment = "none"
    mixup: float = 0.0
    cutmix: float = 0.0
    unlabelled: str | None = None
    unlabelled_batch: int | None = None
    crop: tuple[int, ...] = ()
    scale: tuple[float, float] = (1.0, 1.0)
    scale_step: float = 0.0
    colour: float = 0.0
    multiple: int = 32

    def __post_init__(self) -> None:
        check_data(self)
