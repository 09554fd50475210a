"""Complete runs by name: one file per data set, one function per role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from .._choices import unknown
from ..config.ranges import FOLDERS
from ..config.run import Network, Run
from ..models.cifar import ALIASES
from ..train.sources import SETS
from . import cifar100, cifar100_16px, cifar100_small, detection, digits, folder, photos, segmentation, tiny_imagenet


@dataclass(frozen=True)
class Recipe:
    """How a data set is usually distilled.

    Args:
        teacher: function that returns the run that trains the teacher.
        student: function of method, teacher and seed that returns a student's run.
        title: of a page that compares methods.
        methods: which ones a comparison shows if none are named.
        expected: value of the headline that a teacher ought to reach; ``None`` where nobody knows.
        on_disk: whether the images come from a folder, which both functions then take as ``root``.
    """

    teacher: Callable[..., Run]
    student: Callable[..., Run]
    title: str
    methods: tuple[str, ...] = ("ce", "kd", "dkd", "gdkd", "dkd+dot", "deepkd")
    expected: Callable[[Network], float | None] = lambda network: None
    on_disk: bool = True


def _alone(network: Network) -> float | None:
    """What the papers report of such a network on CIFAR-100."""
    from .teachers import alone_top1

    return alone_top1(ALIASES.get(network.name, network.name))


RECIPES: dict[str, Recipe] = {
    "digits": Recipe(
        digits.teacher,
        digits.student,
        "Handwritten digits with few labels",
        ("ce", "kd", "dkd", "gdkd", "dkd+dot", "dkd+deepkd"),
        expected=lambda network: digits.ENOUGH,
        on_disk=False,
    ),
    "cifar100": Recipe(
        cifar100.teacher,
        cifar100.student,
        "CIFAR-100",
        expected=_alone,
    ),
    "cifar100-small": Recipe(
        cifar100_small.teacher, cifar100_small.student, "CIFAR-100 at a small scale", cifar100_small.METHODS
    ),
    "cifar100-16px": Recipe(
        cifar100_16px.teacher, cifar100_16px.student, "CIFAR-100 with a teacher that is certain", cifar100_16px.METHODS
    ),
    "folder": Recipe(folder.teacher, folder.student, "A folder of images"),
    "imagenet": Recipe(photos.teacher, photos.student, "ImageNet"),
    "vit": Recipe(photos.vit_teacher, photos.vit, "ImageNet, vision transformers"),
    "tiny-imagenet-small": Recipe(
        tiny_imagenet.teacher, tiny_imagenet.student, "Tiny-ImageNet at a small scale", tiny_imagenet.METHODS
    ),
    "tiny-imagenet-vit": Recipe(
        tiny_imagenet.teacher, tiny_imagenet.vit, "Tiny-ImageNet, a small transformer", tiny_imagenet.VIT_METHODS
    ),
    "segmentation": Recipe(segmentation.teacher, segmentation.student, "A class for every pixel", segmentation.METHODS),
    "camvid-small": Recipe(
        segmentation.small_teacher, segmentation.small_student, "CamVid at a small scale", segmentation.METHODS
    ),
    "detection": Recipe(detection.teacher, detection.student, "Boxes around objects", detection.METHODS),
    "detection-small": Recipe(
        detection.small_teacher, detection.small_student, "Boxes at a small scale", detection.METHODS
    ),
}


def placed(name: str, root: str | None = None, *, validation: bool = False) -> Recipe:
    """A recipe on a folder of yours, or with a part of the training images kept apart.

    Args:
        name: as for :func:`find`.
        root: the folder; ``None`` leaves the recipe's.
        validation: measure teacher and students on images that are taken out of the training set.

    Raises:
        ValueError: unknown name, or a recipe whose images come from no folder.

    Example:
        >>> placed("cifar100", "my/data", validation=True).teacher().data.evaluate_on
        'validation'
    """
    recipe = find(name)
    if root is not None and not recipe.on_disk:
        raise ValueError(f"the images of {name!r} come with a package: --data has nothing to point to")
    given: dict[str, str] = {} if root is None else {"root": root}
    given |= {"evaluate_on": "validation"} if validation else {}
    return replace(recipe, teacher=partial(recipe.teacher, **given), student=partial(recipe.student, **given))


def find(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: unknown name; the nearest one is named, and for a data set without a recipe the one to take.

    Example:
        >>> find("digits").teacher().student.name
        'convnet_16_32_64'
    """
    if name in SETS and name not in RECIPES:
        other = "imagenet" if name in FOLDERS else "cifar100"
        raise ValueError(f"no recipe is made for {name!r}; take the settings of another: {other} data.name={name}")
    if name not in RECIPES:
        raise ValueError(unknown("recipe", name, RECIPES))
    return RECIPES[name]


__all__ = [
    "RECIPES",
    "Recipe",
    "cifar100",
    "cifar100_16px",
    "cifar100_small",
    "detection",
    "digits",
    "find",
    "folder",
    "photos",
    "placed",
    "segmentation",
    "tiny_imagenet",
]
