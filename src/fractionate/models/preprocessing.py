"""What a network does to pixels before its first layer: its own size, mean, standard deviation and interpolation."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._choices import check_scale, choose
from .._files import expanded
from .._typing import Float
from .arguments import called
from .processors import processor

Interpolation = Literal["nearest", "bilinear", "bicubic"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic")
# Names and numbers (Pillow's) of other libraries; lanczos, which torch cannot do, is closest to bicubic.
KNOWN_AS: dict[Any, Interpolation] = {
    "lanczos": "bicubic",
    "random": "bilinear",
    "nearest-exact": "nearest",
    0: "nearest",
    1: "bicubic",
    2: "bilinear",
    3: "bicubic",
}


@dataclass(frozen=True)
class Preprocessing:
    """Pixels as a network was trained to see them.

    Args:
        size: height and width; ``None`` takes pictures of any size as they are.
        mean, std: per channel, of pixel values in 0..1.
        interpolation: how pictures of another size are brought to ``size``, with antialiasing.
        crop_pct: share of the resized picture's shorter side that was cropped out of the middle when the network was
            evaluated by those who trained it. For those who load pictures (:attr:`shorter_side`); not used here, where
            every network sees the same crop.

    Raises:
        ValueError: numbers that do not fit each other.

    Example:
        >>> half = Preprocessing((2, 2), mean=(0.5,), std=(0.25,))
        >>> half(torch.full((1, 1, 4, 4), 0.75)).tolist()
        [[[[1.0, 1.0], [1.0, 1.0]]]]
    """

    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        choose("interpolation", self.interpolation, INTERPOLATIONS)
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"Preprocessing: one mean and one std > 0 per channel, got {self.mean} and {self.std}")
        check_scale("Preprocessing", self.mean, self.std)
        if (self.size and (len(self.size) != 2 or min(self.size) < 1)) or not 0 < self.crop_pct <= 1:
            raise ValueError(
                f"Preprocessing: size is (height, width) and crop_pct in (0, 1], got {self.size}, {self.crop_pct}"
            )

    @property
    def shorter_side(self) -> int | None:
        """To which a whole picture is resized before ``size`` is cropped out of its middle."""
        return int(min(self.size) / self.crop_pct + 1e-6) if self.size else None

    def __call__(self, pixels: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n ch h2 w2"]:
        """Resize where the size is another one, then (x - mean) / std.

        Args:
            pixels: 0..1, on any device.

        Raises:
            ValueError: whole numbers, or another number of channels.
        """
        if not pixels.is_floating_point() or pixels.ndim != 4 or pixels.shape[1] != len(self.mean):
            raise ValueError(
                f"Preprocessing: pixels are floating-point [n, {len(self.mean)}, h, w] in 0..1, got {pixels.dtype} "
                f"{list(pixels.shape)}"
            )
        if self.size and tuple(pixels.shape[2:]) != self.size:
            pixels = self._resized(pixels, self.size)
        mean, std = _on(self.mean, self.std, pixels.device, pixels.dtype)
        return (pixels - mean) / std

    def _resized(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        if self.interpolation == "nearest":
            return F.interpolate(pixels, size, mode="nearest-exact")
        resized = F.interpolate(pixels, size, mode=self.interpolation, antialias=True)
        return resized.clamp(0, 1) if self.interpolation == "bicubic" else resized  # as pictures of bytes are


def preprocessing_of(net: nn.Module, name: str, *, pretrained: bool = False) -> Preprocessing | None:
    """What a network wants done to pixels; ``None`` where that is the data's business.

    Args:
        net: network.
        name: what :func:`fractionate.models.create` built it from.
        pretrained: whether its weights are the library's. A library's network without them has seen no pictures yet,
            so it takes those of the data, in their own size and normalisation, as the networks of this package do.

    Returns:
        The attribute ``preprocessing`` of ``net`` if it has one, whoever made it; else what timm's configuration of the
        network, the transforms of torchvision's weights, or the processor's file of a transformers folder say.

    Raises:
        ValueError: an attribute ``preprocessing`` that is none.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> preprocessing_of(net, "my_nets:small") is None
        True
        >>> net.preprocessing = Preprocessing((8, 8), mean=(0.5,), std=(0.25,))
        >>> preprocessing_of(net, "my_nets:small").size
        (8, 8)
    """
    given = getattr(net, "preprocessing", None)
    if isinstance(given, Preprocessing):
        return given
    if given is not None and not isinstance(given, nn.Module):
        raise ValueError(
            f"the attribute preprocessing of model {name!r} must be a fractionate.models.Preprocessing, got "
            f"{type(given).__name__}"
        )
    library, _, rest = name.partition(":")
    if not pretrained or library not in OF_LIBRARIES:
        return None
    return OF_LIBRARIES[library](net, rest)


def named_size(name: str) -> tuple[int, int] | None:
    """Height and width of the images that a network of timm is built for, where its name says so.

    Example:
        >>> named_size("timm:vit_tiny_patch16_224(img_size=64, depth=6)"), named_size("timm:vit_tiny_patch16_224")
        ((64, 64), None)
    """
    library, _, rest = name.partition(":")
    match called(rest, "timm model")[1].get("img_size") if library == "timm" else None:
        case int(side) | (int(side),):
            return side, side
        case (int(height), int(width)):
            return height, width
    return None


def from_plain(said: Mapping[str, Any]) -> Preprocessing:
    """A :class:`Preprocessing` out of the plain data that files hold.

    Raises:
        ValueError: other data.
    """
    try:
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
        return Preprocessing(**known)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"these are no preprocessing's values ({error}): {said}") from error


@dataclass(frozen=True)
class Shown:
    """A network's own preprocessing before its ``forward``: a hook, so that its class and the keys of its weights stay.

    Args:
        wanted: how the network wants its pixels.
        mean, std: with which the images that it is given were normalised.

    Example:
        >>> Shown(Preprocessing(None, (0.5,), (0.25,)), (0.0,), (1.0,)).pixels(torch.full((1, 1, 1, 1), 0.75)).item()
        1.0
    """

    wanted: Preprocessing
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pixels(self, images: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n ch h2 w2"]:
        """Normalised images as the network wants them; themselves, to the last bit, if they are so already."""
        same = (self.wanted.mean, self.wanted.std) == (self.mean, self.std)
        if same and self.wanted.size in (None, tuple(images.shape[2:])):
            return images
        mean, std = _on(self.mean, self.std, images.device, images.dtype)
        return self.wanted(images * std + mean)

    def __call__(self, net: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """As a forward pre-hook."""
        return (self.pixels(given[0]), *given[1:])


class Wrapped(nn.Module):
    """A module that takes no hooks, as those of TorchScript, inside of one that does."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Any:
        """What the network returns."""
        return self.net(images)


def shown(net: nn.Module, how: Shown) -> nn.Module:
    """The network itself, which from now on takes images as ``how`` says they come.

    Copies (``copy.deepcopy``, averages) do so too; the state dict is the same. What calls a part of the network in
    place of the whole looks at :func:`shown_of`.

    Example:
        >>> net = shown(nn.Flatten(), Shown(Preprocessing(None, (0.5,), (0.25,)), (0.0,), (1.0,)))
        >>> net(torch.full((1, 1, 1, 1), 0.75)).item()
        1.0
    """
    if isinstance(net, torch.jit.ScriptModule):
        net = Wrapped(net)
    net.register_forward_pre_hook(how)
    return net


def shown_of(net: nn.Module) -> Shown | None:
    """What stands before the network; ``None`` where it takes images as they come."""
    return next((hook for hook in net._forward_pre_hooks.values() if isinstance(hook, Shown)), None)


def _of_timm(net: nn.Module, name: str) -> Preprocessing:
    said = importlib.import_module("timm.data").resolve_model_data_config(net)
    return Preprocessing(
        size=named_size(f"timm:{name}") or tuple(said["input_size"][1:]),  # timm goes on saying that of its weights
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
        interpolation=_interpolation(said["interpolation"]),
        crop_pct=min(1.0, said["crop_pct"]),
    )


def _of_torchvision(net: nn.Module, name: str) -> Preprocessing | None:
    from torchvision.models import detection, get_model_weights, list_models, segmentation

    if name.partition("+")[0] in [*list_models(module=segmentation), *list_models(module=detection)]:
        return None  # only its backbone has weights, and dense data are normalised as ImageNet is
    said: Any = get_model_weights(name)["DEFAULT"].transforms()
    if not hasattr(said, "crop_size"):  # networks for other things than classes take pictures of any size
        return Preprocessing(None, mean=tuple(said.mean), std=tuple(said.std)) if hasattr(said, "mean") else None
    crop, side = said.crop_size[0], said.resize_size[0]
    return Preprocessing(
        size=(crop, crop),
        mean=tuple(said.mean),
        std=tuple(said.std),
        interpolation=_interpolation(said.interpolation.value),
        crop_pct=min(1.0, crop / side),
    )


def _of_transformers(net: nn.Module, folder: str) -> Preprocessing | None:
    path = expanded(folder) / "preprocessor_config.json"
    if not path.is_file():
        return None
    said = processor(path)
    return Preprocessing(**{**said, "interpolation": _interpolation(said["interpolation"])})


# A new library is one more row; the function takes the network and its name there.
OF_LIBRARIES = {"timm": _of_timm, "torchvision": _of_torchvision, "hf": _of_transformers}


def _interpolation(said: Any) -> Interpolation:
    known = KNOWN_AS.get(said, said)
    choose("interpolation", str(known), INTERPOLATIONS)
    return known


@functools.cache
def _on(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Sent to a device once, so that no step waits for it."""
    both = (torch.tensor(x, device=device, dtype=dtype)[:, None, None] for x in (mean, std))
    first, second = both
    return first, second
