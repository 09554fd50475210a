"""Networks by name: this package's own, torchvision's, timm's, or any function of yours."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType

from torch import nn

from .._choices import choose, unknown
from .cifar import ALIASES, CIFAR
from .plain import ConvNet
from .residual import WideResNet
from .stem import STEMS, Stem, small_stem

# Every network of this package. A new one is one more row; the function takes the number of classes.
MODELS: dict[str, Callable[[int], nn.Module]] = {
    "convnet_4_8": lambda c: ConvNet((4, 8), (2, 2), num_classes=c),
    "convnet_8_16": lambda c: ConvNet((8, 16), (2, 2), num_classes=c),
    "convnet_16_32_64": lambda c: ConvNet((16, 32, 64), (1, 2, 2), num_classes=c),
    "convnet_gap_8_16": lambda c: ConvNet((8, 16), (2, 1), num_classes=c, pool=1),
    "convnet_gap_16_32_64": lambda c: ConvNet((16, 32, 64), (1, 2, 1), num_classes=c, pool=1),
    **CIFAR,
}


def create(
    name: str, *, num_classes: int, pretrained: bool = False, stem: Stem = "default", published_bn: bool = False
) -> nn.Module:
    """A network by name.

    Args:
        name: a name of :data:`MODELS` (published spellings are understood); ``"torchvision:resnet18"``;
            ``"timm:resnet18"``; or ``"package.module:function"``, installed or in the current folder, called as
            ``function(num_classes=...)``.
        num_classes: number of logits.
        pretrained: load the library's default weights (torchvision and timm only).
        stem: ``"small"`` fits the first layers of a torchvision or timm network to small images such as 32 x 32: a
            3 x 3 convolution of stride 1, no pooling (:func:`fractionate.models.stem.small_stem`).
        published_bn: as in :class:`~fractionate.models.residual.WideResNet`; wide ResNets only.

    Raises:
        ValueError: an unknown name (the nearest one is named), ``pretrained`` where there are no weights, or an option
            that the network does not have.
        ImportError: torchvision, timm or your module is not installed.

    Example:
        >>> sum(p.numel() for p in create("convnet_8_16", num_classes=10).parameters())
        1922
    """
    choose("stem", stem, STEMS)
    source, colon, rest = name.partition(":")
    if colon and source in LIBRARIES:
        net = LIBRARIES[source](rest, num_classes, pretrained)
        if stem == "small":
            small_stem(net, source, rest)
    else:
        _refuse_library_options(name, pretrained, stem)
        net = _yours(source, rest, num_classes) if colon else _ours(name, num_classes)
    if published_bn:
        if not isinstance(net, WideResNet):
            wide = ", ".join(n for n in MODELS if n.startswith("wrn"))
            raise ValueError(f"model {name!r} has no option published_bn; the wide ResNets have it: {wide}")
        net.published_bn = True
    return net


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
        raise ValueError(f"{unknown('model', name, MODELS)}, torchvision:NAME, timm:NAME, module:function")
    return MODELS[name](num_classes)


def _import(name: str, needed_by: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something it imports is not
        remedy = ": pip install 'fractionate[models]'" if name in LIBRARIES else ", nor is it in the current folder"
        raise ImportError(f"{needed_by} needs the package {name!r}, which is not installed{remedy}") from error


def _torchvision(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    models = _import("torchvision", f"model 'torchvision:{name}'").models
    if name not in models.list_models():
        raise ValueError(unknown("torchvision model", name, models.list_models()))
    if not pretrained:
        return models.get_model(name, num_classes=num_classes)
    try:
        return models.get_model(name, weights="DEFAULT", num_classes=num_classes)
    except ValueError as error:  # torchvision insists on the classes its weights were trained for
        raise ValueError(
            f"torchvision:{name}: the pretrained weights do not have {num_classes} classes: {error}"
        ) from error


def _timm(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    timm = _import("timm", f"model 'timm:{name}'")
    if name.split(".")[0] not in timm.list_models():
        raise ValueError(unknown("timm model", name, timm.list_models()))
    return timm.create_model(name, pretrained=pretrained, num_classes=num_classes)


def _yours(module: str, function: str, num_classes: int) -> nn.Module:
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # where `python -m fractionate` looks, but the program `fractionate` does not
    loaded = _import(module, f"model '{module}:{function}'")
    build = getattr(loaded, function, None)
    if not callable(build):
        raise ValueError(unknown(f"function of {module}", function, [n for n in vars(loaded) if n[0] != "_"]))
    try:
        net = build(num_classes=num_classes)
    except TypeError as error:
        raise ValueError(f"{module}:{function} is called with num_classes={num_classes}: {error}") from error
    if not isinstance(net, nn.Module):
        raise ValueError(f"{module}:{function} must return a torch.nn.Module, got {type(net).__name__}")
    return net


LIBRARIES: dict[str, Callable[[str, int, bool], nn.Module]] = {"torchvision": _torchvision, "timm": _timm}
