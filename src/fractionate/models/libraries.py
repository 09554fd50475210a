"""Networks of other libraries, and their stems for small images, of which those for 224 x 224 throw most away."""

from __future__ import annotations

import importlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import nn

from .._choices import not_installed, unknown
from .._files import expanded
from .._spoken import in_words
from .arguments import Value, called
from .checkpoints import OtherHead
from .dense import smp_network, torchvision_dense
from .detection import torchvision_detector

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
        raise ImportError(not_installed(name, needed_by)) from error


def _torchvision(name: str, num_classes: int, pretrained: bool, new_head: bool) -> nn.Module:
    models = _import("torchvision", f"model 'torchvision:{name}'").models
    with fetching(f"torchvision:{name}", None):
        if (dense := torchvision_dense(models, name, num_classes, pretrained)) is not None:
            return dense
        if (detector := torchvision_detector(models, name, num_classes, pretrained)) is not None:
            return detector
    if name not in models.list_models():
        raise ValueError(unknown("torchvision model", name, models.list_models()))
    if not pretrained:
        return models.get_model(name, num_classes=num_classes)
    weights = models.get_model_weights(name)["DEFAULT"]
    fits = _fits(f"torchvision:{name}", len(weights.meta.get("categories", ())) or None, num_classes, new_head)
    with fetching(f"torchvision:{name}", weights.url):
        net: nn.Module = models.get_model(name, weights=weights)
    return net if fits else _with_head_of(net, models.get_model(name, num_classes=num_classes))


def _timm(name: str, num_classes: int, pretrained: bool, new_head: bool) -> nn.Module:
    timm = _import("timm", f"model 'timm:{name}'")
    name, given = called(name, "timm model")
    if name.split(".")[0] not in timm.list_models():
        raise ValueError(unknown("timm model", name, timm.list_models()))
    if {"num_classes", "pretrained", "checkpoint_path"} & set(given):
        raise ValueError(f"timm:{name}: the number of classes and the weights are given beside the name, not in it")
    said = timm.get_pretrained_cfg(name) if pretrained else None
    if said is None:
        return _built(timm, name, given, pretrained=pretrained, num_classes=num_classes)
    _fits(f"timm:{name}", said.num_classes, num_classes, new_head)
    file = said.hf_hub_filename or "model.safetensors"
    cached = _cached(said.hf_hub_id, file) if said.hf_hub_id else None
    with fetching(f"timm:{name}", f"{file} of {said.hf_hub_id}" if said.hf_hub_id else said.url, there=bool(cached)):
        overlay = {"file": cached} if cached else None  # no question to a server about what is here
        rest = {"num_classes": num_classes, "pretrained_cfg_overlay": overlay}
        return _built(timm, name, given, pretrained=True, **rest)


def _built(timm: ModuleType, name: str, given: Mapping[str, Value], **rest: Any) -> nn.Module:
    """What timm builds; arguments of a user's that it does not take are named."""
    if not given:
        return timm.create_model(name, **rest)
    try:
        return timm.create_model(name, **given, **rest)
    except (MemoryError, torch.OutOfMemoryError, OSError):
        raise
    except Exception as error:
        told = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise ValueError(f"timm:{name} cannot be built with {told}: {in_words(error)}") from error


def _fits(name: str, theirs: int | None, classes: int, new_head: bool) -> bool:
    """Whether the last layer of a library's weights has the data's number of classes.

    Raises:
        OtherHead: it has not, and no new one is wanted.
    """
    if theirs not in (None, classes) and not new_head:
        raise OtherHead(f"{name}: the pretrained weights do not have {classes} classes but {theirs}")
    return theirs in (None, classes)


def _with_head_of(net: nn.Module, fresh: nn.Module) -> nn.Module:
    """The network with those layers of a new one whose weights are of another shape: its last ones."""
    new = fresh.state_dict()
    for layer in {k.rpartition(".")[0] for k, v in net.state_dict().items() if k in new and v.shape != new[k].shape}:
        net.set_submodule(layer, fresh.get_submodule(layer))
    return net


def _cached(hub: str, file: str) -> str | None:
    """Where a file of the hub lies on this machine already."""
    hubs = _import("huggingface_hub", f"the weights of {hub}")
    names = (file, file.replace("model.safetensors", "pytorch_model.bin"))
    found = (hubs.try_to_load_from_cache(hub, one, cache_dir=hubs.constants.HF_HUB_CACHE) for one in names)
    return next((path for path in found if isinstance(path, str)), None)


@contextmanager
def fetching(name: str, what: str | None, *, there: bool = False) -> Iterator[None]:
    """Say in one sentence which file is missing where it cannot be fetched; at once where there is no network.

    Args:
        name: of the network.
        what: the file; ``None``: its library fetches a part of the network, such as its backbone, into a folder.
        there: whether it is on this machine already.

    Raises:
        ValueError: it cannot be fetched.
    """
    hub = name.startswith(("timm:", "smp:"))
    remedy = (
        f"fetch {what}, and give that file as the checkpoint beside pretrained=true"
        if what
        else f"build it once, and copy the folder {_cache(hub)} from there"
    )
    told = (
        f"the weights of {name} are not on this machine, and they cannot be fetched: where there is a network, {remedy}"
    )
    if not there and hub and not _network():
        raise ValueError(f"{told} (no network)")
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except OSError as error:  # of urllib and of the hubs
        raise ValueError(f"{told} ({str(error).strip().partition(chr(10))[0]})") from error


def _cache(hub: bool) -> str:
    """Where a library keeps the weights that it fetches."""
    if not hub:
        return torch.hub.get_dir()
    kept: str = _import("huggingface_hub", "fetched weights").constants.HF_HUB_CACHE
    return kept


def _network() -> bool:
    """Whether the hub's name can be resolved, or a proxy does that; asked because its client tries for a minute."""
    from huggingface_hub import constants

    host = urllib.parse.urlparse(constants.ENDPOINT).hostname
    if urllib.request.getproxies() or not host:
        return True
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


def _transformers(folder: str, num_classes: int, pretrained: bool, new_head: bool) -> nn.Module:
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
        theirs = library.AutoConfig.from_pretrained(path, **safe).num_labels
        if fits := _fits(name, theirs, num_classes, new_head):
            return build.from_pretrained(path, **safe).float()
        return build.from_pretrained(path, num_labels=num_classes, ignore_mismatched_sizes=not fits, **safe).float()
    except (MemoryError, torch.OutOfMemoryError, OtherHead):
        raise
    except Exception as error:  # of a damaged folder, nearly any
        raise ValueError(f"model {name!r} cannot be built: {in_words(error)}") from error


def _smp(name: str, num_classes: int, pretrained: bool, new_head: bool) -> nn.Module:
    library = _import("segmentation_models_pytorch", f"model 'smp:{name}'")
    build = smp_network(library, name)
    if not pretrained:
        return build(num_classes, False)
    there = any(Path(_cache(True)).glob("models--smp-hub--*"))
    with fetching(f"smp:{name}", None, there=there):
        return build(num_classes, True)


# A new library is one more row; the function takes the name there, the number of classes, whether to load weights,
# and whether weights for other classes get a new last layer.
LIBRARIES: dict[str, Callable[[str, int, bool, bool], nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "hf": _transformers,
    "smp": _smp,
}
