"""Networks by name: this package's own, torchvision's, timm's, or any function of yours."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path

from torch import nn

from .._choices import choose, unknown
from .._files import expanded
from .cifar import ALIASES, CIFAR
from .detection import PREFIX, faster_rcnn
from .foreign import build_own
from .libraries import LIBRARIES, STEMS, Stem, fetching, small_stem
from .mobile import MobileNetV1
from .plain import ConvNet
from .residual import WideResNet

# Every network of this package. A new one is one more row; the function takes the number of classes.
MODELS: dict[str, Callable[[int], nn.Module]] = {
    "convnet_4_8": lambda c: ConvNet((4, 8), (2, 2), num_classes=c),
    "convnet_8_16": lambda c: ConvNet((8, 16), (2, 2), num_classes=c),
    "convnet_16_32_64": lambda c: ConvNet((16, 32, 64), (1, 2, 2), num_classes=c),
    "convnet_gap_8_16": lambda c: ConvNet((8, 16), (2, 1), num_classes=c, pool=1),
    "convnet_gap_16_32_64": lambda c: ConvNet((16, 32, 64), (1, 2, 1), num_classes=c, pool=1),
    **CIFAR,
    "mobilenet_v1": lambda c: MobileNetV1(num_classes=c),
}


def create(
    name: str,
    *,
    num_classes: int,
    pretrained: bool = False,
    stem: Stem = "default",
    published_bn: bool = False,
    own_code: bool = True,
    new_head: bool = False,
) -> nn.Module:
    """A network by name.

    Args:
        name: a name of :data:`MODELS` (published spellings are understood); ``"torchvision:resnet18"``;
            ``"timm:resnet18"``, with arguments of timm's if need be, ``"timm:vit_tiny_patch16_224(img_size=64,
            depth=6)"``; ``"fasterrcnn-resnet18"`` and the other detectors of
            :func:`fractionate.models.detection.faster_rcnn`; ``"hf:path/to/folder"``, an image classifier of
            transformers that lies there; or a function of yours, called as ``function(num_classes=...)``:
            ``"package.module:function"``, installed or in the current folder, or ``"path/to/file.py:function"``.
        num_classes: number of logits.
        pretrained: load the library's default weights (torchvision, timm and hf only).
        stem: ``"small"`` fits the first layers of a torchvision or timm network to small images such as 32 x 32: a
            3 x 3 convolution of stride 1, no pooling (:func:`fractionate.models.libraries.small_stem`).
        published_bn: as in :class:`~fractionate.models.residual.WideResNet`; wide ResNets only.
        own_code: whether a name may be a function of yours, which runs that code. Refuse it where the name comes from
            somebody else: a configuration or an exported folder.
        new_head: with ``pretrained``: weights for another number of classes get a new last layer, which knows nothing
            yet, in place of an error.

    Raises:
        OtherHead: a ValueError: pretrained weights for another number of classes.
        ValueError: an unknown name (the nearest one is named), ``pretrained`` where there are no weights, an option
            that the network does not have, code where it may not run, or any exception that your function raises.
        ImportError: torchvision, timm or your module is not installed, or your module raises while it is imported.
        FileNotFoundError: no such Python file.

    Example:
        >>> sum(p.numel() for p in create("convnet_8_16", num_classes=10).parameters())
        1922
    """
    choose("stem", stem, STEMS)
    library, colon, rest = name.partition(":")
    if colon and library in LIBRARIES:
        net = LIBRARIES[library](rest, num_classes, pretrained, new_head)
        if stem == "small":
            small_stem(net, library, rest)
    elif name.startswith(PREFIX):
        if stem == "small":
            raise ValueError(f"model {name!r} has one stem only; leave stem='default'")
        with fetching(name, None):
            net = faster_rcnn(name, num_classes, pretrained)
    else:
        _refuse_library_options(name, pretrained, stem)
        net = _yours(name, num_classes, own_code) if is_own_code(name) else _ours(name, num_classes)
    if published_bn:
        if not isinstance(net, WideResNet):
            wide = ", ".join(n for n in MODELS if n.startswith("wrn"))
            raise ValueError(f"model {name!r} has no option published_bn; the wide ResNets have it: {wide}")
        net.published_bn = True
    return net


def is_own_code(name: str) -> bool:
    """Whether building a network of this name runs a function that is neither this package's nor a library's.

    Example:
        >>> [is_own_code(name) for name in ("resnet20", "timm:resnet18", "my_nets:small", "my_nets.py:small")]
        [False, False, True, True]
    """
    library, colon, _ = name.partition(":")
    return bool(colon) and library not in LIBRARIES


def _refuse_library_options(name: str, pretrained: bool, stem: Stem) -> None:
    if pretrained:
        raise ValueError(
            f"model {name!r} has no pretrained weights; give a checkpoint, or use a torchvision: or timm: name"
        )
    if stem != "default":
        raise ValueError(
            f"model {name!r} has one stem only; stem='small' is for torchvision: and timm: names, while this package's "
            f"own networks are made for small images"
        )


def _ours(name: str, num_classes: int) -> nn.Module:
    name = ALIASES.get(name, name)
    if name not in MODELS:
        raise ValueError(
            f"{unknown('model', name, MODELS)}, torchvision:NAME, timm:NAME, hf:FOLDER, module:function, "
            f"file.py:function"
        )
    return MODELS[name](num_classes)


def _yours(name: str, num_classes: int, allowed: bool) -> nn.Module:
    source, _, function = name.rpartition(":")  # a path may hold a colon itself
    if not allowed:
        raise ValueError(
            f"model {name!r} is a function of somebody's own, and building it runs the code of {source}; allow that "
            f"only if you trust both"
        )
    return build_own(source, function, num_classes)


def code_of(name: str) -> Path | None:
    """The file in which the function of somebody's own lies that a name calls; found without running anything.

    Example:
        >>> code_of("resnet20") is None, code_of("json:loads").name
        (True, '__init__.py')
    """
    if not is_own_code(name):
        return None
    source = name.rpartition(":")[0]
    if source.endswith(".py"):
        return expanded(source)
    places: list[str] | None = [os.getcwd(), *sys.path]
    spec = None
    for part in source.split("."):
        spec = PathFinder.find_spec(part, places) if part and places is not None else None
        if spec is None:
            return None
        places = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    return Path(spec.origin) if spec and spec.origin else None
