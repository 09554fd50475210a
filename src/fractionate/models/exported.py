"""A network in a folder of its own: weights as safetensors, and a config that says how to build and feed it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._files import expanded
from .._typing import Float
from .checkpoints import load_checkpoint
from .dense import is_dense, pick_maps
from .detection import are_detections
from .foreign import pick_logits, run_on
from .handled import switched
from .libraries import Stem
from .preprocessing import Interpolation, Preprocessing
from .zoo import create

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # the names that timm and the hubs look for
KEY = "fractionate"  # what is ours in the config; everything beside it is timm's
TAKEN = ("taken_at", "taken_pct", "taken_by")  # written where the first says something
LATER = {"interpolation", *TAKEN}  # which folders of earlier releases do not have
KEPT_FOR_TIMM = ("first_conv", "classifier", "interpolation", "fixed_input_size")


@dataclass(frozen=True)
class Description:
    """How to build a network and what to feed it.

    Args:
        name, num_classes, stem, published_bn: as in :func:`fractionate.models.create`.
        input_size: channels, height and width of the images it was trained on.
        mean, std: per channel, of pixel values in 0..1.
        classes: names of the classes in the order of the logits; empty if they have none.
        interpolation: how images of another size are brought to ``input_size``; ``None``: they are taken at their own.
        taken_at: side of the images of its data, in pixels, where it was shown them at ``input_size``, another one:
            photos are brought to that first, then to ``input_size``.
        taken_pct, taken_by: share of the resized photo's shorter side that was cut out then, and the interpolation.

    Raises:
        ValueError: numbers that do not fit each other.

    Example:
        >>> Description("convnet_4_8", 10, (1, 8, 8), mean=(0.5,), std=(0.25,)).timm_name is None
        True
    """

    name: str
    num_classes: int
    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] = ()
    stem: Stem = "default"
    published_bn: bool = False
    interpolation: Interpolation | None = None
    taken_at: int | None = None
    taken_pct: float = 1.0
    taken_by: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if len(self.input_size) != 3 or not len(self.mean) == len(self.std) == self.input_size[0]:
            raise ValueError(
                f"Description: input_size is (channels, height, width), mean and std have one number per channel; got "
                f"{self.input_size}, {self.mean}, {self.std}"
            )
        if self.classes and len(self.classes) != self.num_classes:
            raise ValueError(f"Description: {len(self.classes)} names of classes for {self.num_classes} classes")

    @property
    def preprocessing(self) -> Preprocessing:
        """What the network wants done to pixels in 0..1."""
        how = self.interpolation or "bilinear"
        return Preprocessing(self.input_size[1:], mean=self.mean, std=self.std, interpolation=how)

    @property
    def timm_name(self) -> str | None:
        """Name under which timm alone builds this network; ``None`` if it cannot.

        A changed stem is unknown to it, and arguments behind the name are no part of one.
        """
        source, _, rest = self.name.partition(":")
        alone = source == "timm" and self.stem == "default" and "(" not in rest
        return rest.split(".")[0] if alone else None


@dataclass(frozen=True, eq=False)
class Exported:
    """A network read back, in evaluation mode, with its description; called on raw images, it gives logits."""

    net: nn.Module
    description: Description

    def normalize(self, images: Tensor) -> Float[Tensor, "n ch h w"]:
        """``[n, ch, h, w]`` uint8 0..255 -> what the network takes: (x / 255 - mean) / std.

        Where the description has an interpolation, images of another size are brought to its ``input_size`` first;
        where it says ``taken_at``, to squares of that side before, unless they are.

        Raises:
            ValueError: images of another type or number of channels.
        """
        channels = self.description.input_size[0]
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(
                f"images must be uint8 [n, {channels}, h, w], got {images.dtype} {list(images.shape)}; to pass what is "
                f"normalised already, call .net"
            )
        if self.description.interpolation:
            return self.description.preprocessing(self._taken(images) / 255)
        mean, std = (
            torch.tensor(x, device=images.device)[:, None, None] for x in (self.description.mean, self.description.std)
        )
        return (images / 255 - mean) / std

    def _taken(self, images: Tensor) -> Tensor:
        """Photos as the network's data took them: the shorter side resized, the middle cut out, in whole numbers."""
        d, side = self.description, self.description.taken_at
        if side is None or tuple(images.shape[2:]) == (side, side):
            return images
        short, wanted = min(images.shape[2:]), int(side / d.taken_pct + 1e-6)
        size = [wanted if x == short else int(wanted * x / short) for x in images.shape[2:]]
        resized = F.interpolate(images.float(), size, mode=d.taken_by, antialias=True).round().clamp(0, 255)
        top, left = (round((x - side) / 2) for x in size)
        return resized[:, :, top : top + side, left : left + side]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Any:
        """Logits of raw images; maps of them, of a network that gives every pixel a class; boxes, of a detector."""
        said = run_on(self.net, self.normalize(images), self.description.name)
        if are_detections(said):
            return said
        return (pick_maps if is_dense(said) else pick_logits)(said, self.description.name)


def save_exported(net: nn.Module, description: Description, folder: str | Path) -> None:
    """Write ``model.safetensors`` and ``config.json``.

    For an unchanged timm network the config is also in timm's own layout:
    ``timm.create_model("local-dir:FOLDER", pretrained=True)`` reads it.

    Args:
        net: network that ``description`` builds.
        description: how.
        folder: made if it is not there.

    Example:
        >>> import tempfile
        >>> net = create("convnet_4_8", num_classes=3).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_exported(net, Description("convnet_4_8", 3, (1, 8, 8), mean=(0.5,), std=(0.25,)), folder)
        ...     again = load_exported(folder)
        >>> images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        >>> torch.equal(again(images), net(again.normalize(images)))
        True
    """
    from safetensors.torch import save_file

    folder = expanded(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(apart(net.state_dict()), folder / WEIGHTS, metadata={"format": "pt"})
    ours = {k: v for k, v in asdict(description).items() if description.taken_at or k not in TAKEN}
    config = {**_for_timm(net, description), KEY: ours}
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def load_exported(folder: str | Path, *, own_code: bool = False) -> Exported:
    """Build a network from its folder and fill it.

    Args:
        folder: as :func:`save_exported` wrote it.
        own_code: whether its config may name a function (``module:function``), whose code is then run: only for folders
            and code that you trust.

    Raises:
        FileNotFoundError: no config or no weights there.
        ValueError: a config that this package did not write, one that names code which may not run, or weights that do
            not fit.
        ImportError: the network comes from a library that is not installed.
    """
    folder = expanded(folder)
    d = _description(folder / CONFIG)
    net = create(d.name, num_classes=d.num_classes, stem=d.stem, published_bn=d.published_bn, own_code=own_code)
    load_checkpoint(net, folder / WEIGHTS)
    return Exported(switched(net, False), d)


def apart(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights on the CPU, each in memory of its own: a safetensors file holds no tensor twice.

    Example:
        >>> x = torch.ones(2)
        >>> len({v.data_ptr() for v in apart({"a": x, "b": x}).values()})
        2
    """
    state = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
    places = [v.untyped_storage().data_ptr() for v in state.values()]
    return {k: v.clone() if places.count(place) > 1 else v for (k, v), place in zip(state.items(), places, strict=True)}


def preprocessing_beside(weights: Path) -> Preprocessing | None:
    """What the config of the exported folder says in which a file of weights lies; ``None`` where there is none.

    Raises:
        ValueError: a damaged config of an exported network.
    """
    path = weights.parent / CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if weights.name != WEIGHTS or not isinstance(found, Mapping) or KEY not in found:
        return None
    said = _description(path)
    return replace(said.preprocessing, size=said.preprocessing.size if said.interpolation else None)


def _description(path: Path) -> Description:
    if not path.is_file():
        raise FileNotFoundError(f"no exported network at {path.parent}: {path.name} is not there")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    own = found.get(KEY) if isinstance(found, Mapping) else None
    known = {f.name for f in fields(Description)}
    if not isinstance(own, Mapping) or not known - LATER <= set(own) <= known:
        needed = ", ".join(f.name for f in fields(Description) if f.name not in LATER)
        raise ValueError(
            f"{path} was not written by this version of fractionate ({KEY!r} must hold {needed}); a folder of timm's: "
            f"timm.create_model('local-dir:...')"
        )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in own.items()}
    try:
        return Description(**values)
    except TypeError as error:
        raise ValueError(f"{path}: {KEY!r} holds values of other kinds than a description has: {error}") from error


def _for_timm(net: nn.Module, description: Description) -> dict[str, Any]:
    """What timm wants to find: nothing of where its own weights for this architecture come from."""
    if description.timm_name is None:
        return {}
    given = getattr(net, "pretrained_cfg", {})
    pretrained = {k: given[k] for k in KEPT_FOR_TIMM if given.get(k) is not None}
    return {
        "architecture": description.timm_name,
        "num_classes": description.num_classes,
        "num_features": getattr(net, "num_features", None),
        **({"label_names": description.classes} if description.classes else {}),
        "pretrained_cfg": {
            **pretrained,
            "num_classes": description.num_classes,
            "input_size": description.input_size,
            "mean": description.mean,
            "std": description.std,
            **({"interpolation": description.interpolation} if description.interpolation else {}),
            "crop_pct": 1.0,
            "custom_load": False,
        },
    }
