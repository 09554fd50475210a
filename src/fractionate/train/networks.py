"""Networks of a config: built, filled, and shown pixels as they were trained to see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from ..config.run import Network
from ..data import Source
from ..models import OtherHead, create, load_checkpoint
from ..models.categories import of_coco
from .pixels import made_for

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
        OtherHead: a ValueError: weights for another number of classes.
        ValueError: an unknown name, or a checkpoint that does not fit.
        FileNotFoundError: no checkpoint there.

    Example:
        >>> build(Network("convnet_4_8"), num_classes=10).fc.out_features
        10
    """
    net = create(
        config.name,
        num_classes=num_classes,
        pretrained=config.pretrained and not config.checkpoint,  # the file brings every weight
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
    return made_for(net, config, source, tried_on, what)
