"""Networks of a config: built, filled, and shown pixels as they were trained to see them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from .._files import expanded
from ..config.files import read_config
from ..config.run import Network, Run
from ..data import Source
from ..data.kept import Squared
from ..models import OtherHead, create, load_checkpoint
from ..models.categories import of_coco
from ..models.dense import only_encoder
from .pixels import made_for, seen_by

REMEDY = (
    "fractionate train RECIPE --teacher NAME teacher.pretrained=true fine-tunes such weights first, also those of "
    "--teacher-checkpoint FILE; a config wants the weights that came out (teacher.checkpoint=FILE)"
)


def build(
    config: Network,
    num_classes: int,
    *,
    new_head: bool = False,
    classes: Sequence[str] = (),
    role: Literal["student", "teacher"] = "student",
) -> nn.Module:
    """The network, filled from its checkpoint if it has one.

    Args:
        config: its name and where its weights come from.
        num_classes: number of logits.
        new_head: pretrained weights for other classes get a new last layer, which knows nothing yet.
        classes: their names; a detector's weights for all of COCO's categories are taken for those of them that the
            data have (:func:`fractionate.models.categories.of_coco`).
        role: whose weights are taken where a checkpoint holds a student's and a teacher's.

    Raises:
        OtherHead: a ValueError: weights for another number of classes, or of an encoder alone.
        ValueError: an unknown name, or a checkpoint that does not fit.
        FileNotFoundError: no checkpoint there.

    Example:
        >>> build(Network("convnet_4_8"), num_classes=10).fc.out_features
        10
    """
    library = config.pretrained and not config.checkpoint  # a file brings every weight
    if library and not new_head and only_encoder(config.name):
        raise OtherHead(
            f"{config.name}: the library's weights are its encoder's, and a head for {num_classes} classes would be new"
        )
    net = create(
        config.name,
        num_classes=num_classes,
        pretrained=library,
        stem=config.stem,
        published_bn=config.published_bn,
        new_head=new_head,
    )
    if config.checkpoint:
        try:
            load_checkpoint(net, config.checkpoint, new_head=new_head and config.pretrained, role=role)
        except OtherHead:
            if not of_coco(net, config.checkpoint, classes):
                raise
    return net


def build_teacher(config: Network, num_classes: int, classes: Sequence[str] = ()) -> nn.Module:
    """As :func:`build`; weights for other classes teach nothing, and what makes teachers of them is said."""
    try:
        return build(config, num_classes, classes=classes, role="teacher")
    except OtherHead as error:
        raise OtherHead(f"{error}; {REMEDY}") from error


def build_for(config: Network, source: Source, tried_on: Source, what: str = "network") -> nn.Module:
    """A network that sees the images of a source as it was trained to (:func:`fractionate.train.pixels.made_for`).

    Pretrained weights for other classes are where a student begins, with a new last layer.
    """
    if what == "teacher":
        net = build_teacher(config, source.num_classes, getattr(source, "classes", ()))
    else:
        net = build(config, source.num_classes, new_head=what == "student", classes=getattr(source, "classes", ()))
    net = made_for(net, config, source, tried_on, what)
    theirs = what == "teacher" and config.pretrained and not _of_a_run(config)
    if theirs and (told := _cropped_otherwise(net, config.name, tried_on)):
        warnings.warn(told, stacklevel=3)
    return net


def _of_a_run(config: Network) -> bool:
    """Whether its weights were trained by this package, on photos that it cropped itself."""
    return config.checkpoint is not None and (expanded(config.checkpoint).parent / "config.yaml").is_file()


def _cropped_otherwise(net: nn.Module, name: str, source: Source) -> str | None:
    """Where photos are not resized and cropped as by those who measured the network's weights; what does that."""
    wanted, reader = seen_by(net), getattr(getattr(source, "pictures", None), "reader", None)
    if wanted is None or not wanted.size or not isinstance(reader, Squared):
        return None
    share = int(1e4 * wanted.crop_pct + 1e-6) / 1e4
    theirs: dict[str, Any] = {"size": min(wanted.size), "crop_pct": share, "interpolation": wanted.interpolation}
    view = reader.view
    mine = share if abs(view.crop_pct - wanted.crop_pct) < 1e-3 else view.crop_pct
    ours: dict[str, Any] = {"size": reader.size, "crop_pct": mine, "interpolation": view.interpolation}
    other = [f"data.{key}={theirs[key]}" for key in theirs if theirs[key] != ours[key]]
    if not other:
        return None
    first, second = (f"{x['size']} pixels, crop_pct {x['crop_pct']:g}, {x['interpolation']}" for x in (theirs, ours))
    return (
        f"{name} was measured by its authors on photos of {first}, and here they are of {second}, which changes its "
        f"answers: {' '.join(other)} shows them as there"
    )


def check_auxiliary(run: Run) -> None:
    """Refuse a teacher out of a run folder whose auxiliary head nobody trained, where a student distils it.

    Raises:
        ValueError: so says the config beside its weights.
    """
    asked, weights = getattr(run.task, "auxiliary_kd", 0.0), run.teacher.checkpoint if run.teacher else None
    if not asked or not weights or not run.method.distils:
        return
    file = expanded(weights).parent / "config.yaml"
    try:
        begun = read_config(file)
    except (OSError, ValueError):
        return
    learnt = getattr(begun.task, "auxiliary", 0.0) or (
        getattr(begun.task, "auxiliary_kd", 0.0) and begun.method.distils
    )
    if not learnt:
        raise ValueError(
            f"task.auxiliary_kd={asked:g}: the auxiliary head of the teacher {weights} was not trained (task.auxiliary "
            f"is 0 in {file}): train it with task.auxiliary=0.4 (without --teacher-checkpoint, fractionate train does "
            f"that first), or use task.auxiliary_kd=0"
        )
