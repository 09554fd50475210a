"""What a row of the table means on photos: which images, how they are augmented, and networks with their weights."""

from __future__ import annotations

from typing import Any

from ..config.data import Data
from ..config.run import Network
from ..models.zoo import MODELS
from .rows import Row

SETS = {
    "imagenet": "imagenet",
    "tiny_imagenet": "tiny-imagenet",
    "cub200": "cub200",
    "dtd": "dtd",
    "food101": "food101",
}
TRANSFER = ("tiny_imagenet", "cub200", "dtd", "food101")  # whose networks start from weights of ImageNet
SMALL_SET = ("sdd_kd", "sdd_dkd", "sdd_nkd")  # on CUB-200 with networks made for CIFAR, from nothing
LIBRARY = {
    "resnet18": "torchvision:resnet18",
    "resnet34": "torchvision:resnet34",
    "resnet50": "torchvision:resnet50",
    "swin_t": "torchvision:swin_t",
    "deit_tiny": "timm:deit_tiny_patch16_224",
    "deit_base": "timm:deit_base_patch16_224",
    "deit3_small": "timm:deit3_small_patch16_224",
    "deit3_large": "timm:deit3_large_patch16_224",
    "regnety_16gf": "torchvision:regnet_y_16gf",
}
V1 = {"resnet50": "timm:resnet50.tv_in1k"}  # torchvision's own name stands for its newer weights
WORKERS = 4  # changes no number

RESIZED_CROP = {"size": 224, "workers": WORKERS, "resized_crop": True, "flip": True}
RANDAUGMENT = "rrc224+flip+randaugment(rand-m9-mstd0.5-inc1)+random-erase0.25"
TRIVIAL = (
    "trivialaugment-wide + random-erase 0.25 + repeated-aug 4 + label smoothing 0.1 + EMA; mixup and cutmix off in "
    "the example"
)
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "rrc224+flip": RESIZED_CROP,
    RANDAUGMENT: {**RESIZED_CROP, "augment": "rand-m9-mstd0.5-inc1", "erasing": 0.25},
    TRIVIAL: {**RESIZED_CROP, "augment": "trivialaugment", "erasing": 0.25, "repeats": 4},
}
# What a pipeline says besides the images.
SMOOTHING = {TRIVIAL: 0.1}
CLIP = {TRIVIAL: 5.0}
OPEN = {TRIVIAL: ("ema",)}
NOTES = {TRIVIAL: "the decay of the average of the weights is not printed"}


def photos_obstacle(row: Row) -> str | None:
    """Why the trainer cannot run a row of photos; ``None`` if it can."""
    if row.method == "linear-probe":
        name = SETS.get(row.dataset, row.dataset)
        return f"it measures a student that is there: fractionate linear-probe RUN --on {name} has these settings"
    if row.dataset not in SETS:
        return f"the trainer has no {row.task} on {row.dataset} ({row.augmentation or 'augmentation not stated'})"
    if row.augmentation.startswith("64 x 64 pipeline"):
        return "the table does not say what its source's 64 x 64 pipeline does to the images"
    for name in (row.teacher, row.student):
        if name and name not in LIBRARY and name not in MODELS:
            return f"no network here is the table's {name!r}"
    if row.augmentation not in AUGMENTATIONS:
        return f"the trainer has no augmentation {row.augmentation!r}"
    return None


def photos_data(row: Row) -> Data:
    """The images of a row, and how they are augmented."""
    found: dict[str, Any] = {"name": SETS[row.dataset], **AUGMENTATIONS[row.augmentation]}
    return Data(**found)


def starts_from_weights(row: Row) -> bool:
    """Whether teacher and student begin with weights of ImageNet and learn another set."""
    return row.dataset in TRANSFER and not row.method.startswith(SMALL_SET)


def photos_network(row: Row, name: str, *, teacher: bool) -> Network:
    """A network of a row, with its library's weights where the source begins with those of ImageNet.

    A teacher on ImageNet has torchvision's first weights, which all these sources took; what transfers starts from
    them, and gets a new last layer.

    Example:
        >>> from .rows import rows
        >>> row = rows()["imagenet/kd/resnet50__mobilenet_v1/mdistiller"]
        >>> photos_network(row, "resnet50", teacher=True).name, photos_network(row, "resnet50", teacher=False).name
        ('timm:resnet50.tv_in1k', 'torchvision:resnet50')
    """
    if row.method.startswith(SMALL_SET) and name in MODELS:
        return Network(name)
    pretrained = starts_from_weights(row) or (teacher and row.dataset == "imagenet")
    known = V1.get(name, LIBRARY.get(name, name)) if pretrained else LIBRARY.get(name, name)
    return Network(known, pretrained=pretrained)


def photos_needs(row: Row) -> list[str]:
    """What the source leaves open, or is in no library."""
    needs = [*OPEN.get(row.augmentation, ())]
    for role, name in (("teacher", row.teacher), ("student", row.student)):
        if name and starts_from_weights(row) and name not in LIBRARY:
            needs.append(f"{role}.checkpoint")
    return needs


def photos_notes(row: Row) -> list[str]:
    """What a reader must know."""
    notes = [NOTES[row.augmentation]] if row.augmentation in NOTES else []
    if starts_from_weights(row):
        notes.append("networks start from ImageNet weights with a new last layer, and the teacher is fine-tuned first")
        if row.teacher and not row.method.startswith("ce"):
            notes.append(
                f"the source's teacher comes out of its own row (fractionate recipes ce {row.dataset} {row.teacher}); "
                f"teacher.checkpoint=FILE takes the student of such a run"
            )
        if row.dataset == "cub200":
            notes.append("about 45 test images of CUB-200-2011 are training images of ImageNet as well")
    elif row.teacher and row.dataset == "imagenet" and not row.teacher_weights:
        notes.append("the source does not say which weights its teacher has; torchvision's first ones are taken")
    return notes
