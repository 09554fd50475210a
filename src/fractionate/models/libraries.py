"""Networks of other libraries, and their stems for small images, of which those for 224 x 224 throw most away."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Literal

import torch
from torch import nn

from .._choices import unknown
from .._files import expanded
from .dense import smp_network, torchvision_dense
from .foreign import in_words

Stem = Literal["default", "small"]
STEMS: tuple[Stem, ...] = ("default", "small")

# Where the first convolution and the pooling behind it lie, by library and class of the network; None = no pooling.
# Networks of such a class whose stem is another one are refused.
PLACES: dict[str, dict[str, tuple[str, str | None]]] = {
    "torchvision": {
        "ResNet": ("conv1", "maxpool"),
        "DenseNet": ("features.conv0", "features.pool0"),
        "ShuffleNetV2": ("conv1.0", "maxpool"),
        "RegNet": ("stem.0", None),
        "MobileNetV2": ("features.0.0", None),
        "MobileNetV3": ("features.0.0", None),
        "EfficientNet": ("features.0.0", None),
        "MNASNet": ("layers.0", None),
    },
    "timm": {
        "ResNet": ("conv1", "maxpool"),
        "DenseNet": ("features.conv0", "features.pool0"),
        "RegNet": ("stem.conv", None),
        "EfficientNet": ("conv_stem", None),
        "MobileNetV3": ("conv_stem", None),
        "GhostNet": ("conv_stem", None),
        "RexNet": ("stem.conv", None),
    },
}


def small_stem(net: nn.Module, library: str, name: str) -> None:
    """Give a network a stem for small images, in place.

    The first convolution becomes 3 x 3 with stride 1, and the pooling behind it goes. A first convolution that is 3 x 3
    already keeps its weights; any other starts anew, also in a pretrained network. Stems of several convolutions (the
    ResNets C, D and T) keep the others.

    Args:
        net: as the library built it.
        library: where it comes from, ``"torchvision"``, ``"timm"`` or ``"hf"``, where no stem is known.
        name: for the message.

    Raises:
        ValueError: a network of a class whose stem is not known.

    Source: arXiv 1512.03385, section 4.2 (the stem for 32 x 32 images).
    """
    kind = type(net).__name__
    if kind not in PLACES.get(library, {}):
        raise ValueError(
            f"{library}:{name} cannot take stem='small': no convolution and pooling are known that could safely be "
            f"replaced in {kind}; they are in {_those_that_can()}"
        )
    place, pooling = PLACES[library][kind]
    modules = dict(net.named_modules())
    if isinstance(modules.get(place), nn.Sequential):
        place = f"{place}.0"
    first = modules.get(place)
    if not isinstance(first, nn.Conv2d) or (pooling and pooling not in modules):
        raise ValueError(f"{library}:{name} cannot take stem='small': its stem is not that of the other {kind}s")
    net.set_submodule(place, _three_by_three(first))
    if pooling:
        net.set_submodule(pooling, nn.Identity())


def _three_by_three(old: nn.Conv2d) -> nn.Conv2d:
    if old.kernel_size == (3, 3):
        old.stride = (1, 1)
        return old
    new = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, groups=old.groups, bias=old.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    return new


def _those_that_can() -> str:
    return "; ".join(f"{library}: {', '.join(kinds)}" for library, kinds in PLACES.items())


def _import(name: str, needed_by: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something it imports is not
        extras = {"torchvision": "models", "timm": "models", "segmentation_models_pytorch": "dense"}
        remedy = f"'fractionate[{extras[name]}]'" if name in extras else name
        raise ImportError(
            f"{needed_by} needs the package {name!r}, which is not installed: pip install {remedy}"
        ) from error


def _torchvision(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    models = _import("torchvision", f"model 'torchvision:{name}'").models
    if (dense := torchvision_dense(models, name, num_classes, pretrained)) is not None:
        return dense
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


def _transformers(folder: str, num_classes: int, pretrained: bool) -> nn.Module:
    """An image classifier from a folder of transformers; nothing is downloaded, and no code of the folder is run."""
    name, path = f"hf:{folder}", expanded(folder)
    library = _import("transformers", f"model {name!r}")
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"model {name!r}: {path} is no folder of a transformers model (it has no config.json); download it first"
        )
    build, safe = library.AutoModelForImageClassification, {"local_files_only": True, "trust_remote_code": False}
    try:
        if not pretrained:
            return build.from_config(library.AutoConfig.from_pretrained(path, num_labels=num_classes, **safe))
        net = build.from_pretrained(path, **safe).float()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of a damaged folder, nearly any
        raise ValueError(f"model {name!r} cannot be built: {in_words(error)}") from error
    if (found := net.config.num_labels) != num_classes:
        raise ValueError(f"{name}: the pretrained weights do not have {num_classes} classes but {found}")
    return net


def _smp(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    library = _import("segmentation_models_pytorch", f"model 'smp:{name}'")
    return smp_network(library, name, num_classes, pretrained)


# A new library is one more row; the function takes the name there, the number of classes and whether to load weights.
LIBRARIES: dict[str, Callable[[str, int, bool], nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "hf": _transformers,
    "smp": _smp,
}
