"""Which images a run sees, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .augment import check_augment
from .ranges import BOXED, DENSE, FOLDERS, LOADED, OF_DENSE, SIZED, left_alone, within

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
    "coco",
]


@dataclass(frozen=True)
class Data:
    """Which images, how many of them, and how they are augmented.

    Args:
        name: data set; ``"folder"`` is any folder of images, one folder per class; those of photos are read in their
            official layouts, and never downloaded. With a class for every pixel: ``"camvid"``, ``"cityscapes"``,
            ``"ade20k"``, ``"voc"``, and ``"masks"``, any folder of images and masks. With boxes: ``"coco"``, any folder
            with annotations in COCO's format.
        root: folder the data set lies in, or is downloaded to; ``None`` takes the environment variable
            FRACTIONATE_DATA, else ``data``.
        labels_per_class: keep this many training images of each class; ``None`` keeps all.
        imbalance: keep fewer and fewer images from class to class, the first one this many times as many as the last
            (CIFAR-100-LT); ``None`` keeps them balanced. The teacher that is trained along sees the same images.
        evaluate_on: ``"test"``; or ``"validation"``, a part taken out of the training images, to choose settings on.
        size: of a folder's images, in pixels; ``None`` takes that of the first one, of a set of photos the usual one.
            Those of CIFAR-10, CIFAR-100 and STL-10 are resized to it once, before any augmentation. Of images
            with boxes it is the longer side, 640 unless given; beside ``shorter`` its largest length.
        skip_broken: leave out files of a folder that cannot be read, with a warning that counts them.
        cache: keep a folder's decoded pictures on disk for later runs, where FRACTIONATE_CACHE says, else in ~/.cache;
            it changes no number.
        workers: load photos one by one as they are needed, in so many processes, 0 meaning this one; ``None`` reads all
            images into memory at the start. Loaded photos are cropped in another way (``resized_crop``, ``crop_pct``);
            how many processes load them changes no number.
        batch_size: images per step.
        passes: how often every image is seen in one epoch.
        shift: random shift by up to this many pixels (pad and crop).
        flip: random mirror image.
        augment: what else is done to the training images: ``"autoaugment"`` (the policy found on CIFAR-10),
            ``"autoaugment+cutout"`` (the same and a square of 16 pixels, for GDKD's teachers),
            ``"randaugment"`` (that of CRLD and MLKD, with its cutout), ``"cutout"``.
            Of loaded photos also ``"randaugment-2-9"`` and ``"trivialaugment"``, torchvision's, and timm's RandAugment
            by its string, ``"rand-m9-mstd0.5-inc1"``.
        strong: how the second view of two-view methods is made, out of the same list; ``"none"`` makes none.
        mixup: parameter of the Beta distribution by which pairs of images and their labels are mixed; 0 = off.
        cutmix: the same for pasted rectangles; with both, each batch draws one of them.
        resized_crop: train on parts of loaded photos of random area and shape; ``False``: on their centres, shifted by
            ``shift``, as on those of images in memory.
        crop_scale: smallest and largest area of such a part, as shares of the photo's.
        crop_pct: share of the resized photo's shorter side that is cut out of the middle for evaluation.
        interpolation: of loaded photos.
        erasing: chance that a patch of a loaded photo is painted over with the mean colour.
        repeats: show every loaded photo so many times in a row, each time augmented anew, and 1 of so many in an epoch.
        unlabelled: a folder of images without labels (anywhere below it; or STL-10's), some of which join every batch;
            ``"all"``: all training images, labels hidden, beside those that ``labels_per_class`` keeps. The task's loss
            is the mean over the images with labels, every other the mean over all. For methods that read no label.
        unlabelled_batch: how many of them; ``None``: as many as ``batch_size``, which counts those with labels.
        crop: of a dense set, height and width of the training crops; empty shows whole images.
        scale: smallest and largest factor by which an image is enlarged before it is cropped.
        scale_step: distance of the factors that are drawn; 0 = any in between.
        colour: change brightness, contrast and saturation of a training image by up to this part.
        multiple: whole images are padded to sides that are multiples of this, with pixels of no label.
        shorter: of images with boxes, lengths of the shorter side, one of which is drawn for every training image; they
            are evaluated at the largest. An image whose longer side would be above ``size`` is made smaller.
            Empty: every image has the longer side ``size``.
    """

    name: Name = "digits"
    root: str | None = None
    labels_per_class: int | None = None
    imbalance: float | None = None
    evaluate_on: Literal["test", "validation"] = "test"
    size: int | None = None
    skip_broken: bool = False
    cache: bool = False
    workers: int | None = None
    batch_size: int = 64
    passes: int = 1
    shift: int = 0
    flip: bool = False
    augment: str = "none"
    strong: str = "none"
    mixup: float = 0.0
    cutmix: float = 0.0
    resized_crop: bool = True
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_pct: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    erasing: float = 0.0
    repeats: int = 1
    unlabelled: str | None = None
    unlabelled_batch: int | None = None
    crop: tuple[int, ...] = ()
    scale: tuple[float, float] = (1.0, 1.0)
    scale_step: float = 0.0
    colour: float = 0.0
    multiple: int = 32
    shorter: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check(self)


def _check(data: Data) -> None:
    """Numbers in range; options of a folder of images only there."""
    within(1, batch_size=data.batch_size, passes=data.passes, labels_per_class=data.labels_per_class, size=data.size)
    within(1, unlabelled_batch=data.unlabelled_batch, imbalance=data.imbalance, repeats=data.repeats)
    _check_loading(data)
    if data.unlabelled is None:
        left_alone(data, "belongs to data.unlabelled, which names no images", "unlabelled_batch")
    within(0, shift=data.shift, mixup=data.mixup, cutmix=data.cutmix)
    for names, *options in ((SIZED, "size"), (FOLDERS, "skip_broken", "cache")):
        if data.name not in names:
            left_alone(data, f"belongs to data.name={', '.join(names)}, not to {data.name!r}", *options)
    if data.name in FOLDERS and data.imbalance is not None:
        raise ValueError("data.imbalance thins the balanced sets; a folder has as many images of each class as it has")
    _check_dense(data)


def _check_dense(data: Data) -> None:
    """What belongs to sets with a class for every pixel or with boxes, and what they have not."""
    if data.name not in BOXED:
        left_alone(data, f"belongs to images with boxes ({', '.join(BOXED)}), not to {data.name!r}", "shorter")
    if data.name in (*DENSE, *BOXED):
        why = f"is for images with one class each, not for {data.name!r}"
        left_alone(data, why, "labels_per_class", "shift", "augment", "strong", "mixup", "cutmix", "imbalance")
        within(1, crop=min(data.crop, default=None), multiple=data.multiple)
        if len(data.crop) not in (0, 2):
            raise ValueError(f"crop is [HEIGHT, WIDTH], or [] for whole images, got {list(data.crop)}")
        within(0, 1, colour=data.colour)
        within(0, scale_step=data.scale_step)
        if not 0 < data.scale[0] <= data.scale[1]:
            raise ValueError(f"scale is the smallest and the largest factor, above 0, got {list(data.scale)}")
        if not data.crop and data.scale != (1.0, 1.0):
            raise ValueError(
                "scale needs a crop: images of random sizes make no batch; give crop=[HEIGHT, WIDTH] or scale=[1, 1]"
            )
        if data.name in BOXED:
            left_alone(data, "would cut boxes; images with boxes are shown whole", "crop", "scale_step")
            _check_shorter(data)
    else:
        why = f"belongs to dense data sets ({', '.join((*DENSE, *BOXED))}), not to {data.name!r}"
        left_alone(data, why, *OF_DENSE)


def _check_shorter(data: Data) -> None:
    """Lengths above 0, and not above the longest, which has to be named."""
    within(1, shorter=min(data.shorter, default=None))
    if data.shorter and data.size is None:
        raise ValueError(f"shorter={list(data.shorter)} needs data.size, the largest length of the longer side")
    if data.shorter and max(data.shorter) > (data.size or 0):
        raise ValueError(f"shorter={list(data.shorter)} is above data.size={data.size}, the most of the longer side")


def _check_loading(data: Data) -> None:
    """What belongs to photos that are loaded one by one, and what they have not."""
    within(0, workers=data.workers)
    for name, value in (("augment", data.augment), ("strong", data.strong)):
        check_augment(name, value, loaded=data.workers is not None)
    within(0, 1, erasing=data.erasing)
    low, high = data.crop_scale
    within(0.0001, 1, **{"crop_scale[0]": low, "crop_scale[1]": high, "crop_pct": data.crop_pct})
    if low > high:
        raise ValueError(f"crop_scale is the smallest and the largest area, got {low}, {high}")
    if data.workers is None:
        left_alone(data, "belongs to photos that are loaded one by one: add data.workers=N", *LOADED)
        return
    if data.name not in FOLDERS:
        raise ValueError(f"data.workers belongs to data.name=folder and to photos, not to {data.name!r}; leave it out")
    if data.shift and data.resized_crop:
        raise ValueError("data.shift moves the centre of photos, and resized crops have none: add resized_crop=false")
