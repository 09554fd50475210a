"""What an image processor of transformers does to pictures, read from its ``preprocessor_config.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def processor(path: Path) -> dict[str, Any]:
    """Arguments of a :class:`fractionate.models.Preprocessing` that does the same; ``interpolation`` as it is written.

    Args:
        path: the file.

    Raises:
        ValueError: a file that does not say it, or one that wants its channels turned round.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        resized, cropped = _size(said.get("size")), _size(said.get("crop_size"))
        size = cropped if cropped and said.get("do_center_crop", True) else resized
        mean, std = _normalised(said)
        enlarged = 256 / 224 if _kind(said).startswith("Levit") else 1.0  # what its processor makes of its size
        share = said.get("crop_pct") or (min(size) / (enlarged * min(resized)) if size and resized else 1.0)
        found = {"size": size, "mean": mean, "std": std, "crop_pct": min(1.0, share)}
        found["interpolation"] = said.get("resample", 2)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{path} does not say how pictures are prepared ({type(error).__name__}: {error})") from error
    if said.get("do_flip_channel_order"):
        raise ValueError(
            f"{path} wants blue, green, red in place of red, green, blue, which is not done here: name a function of "
            f"yours, module:function, whose network turns the channels round"
        )
    return found


def _kind(said: Mapping[str, Any]) -> str:
    return str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")


def _normalised(said: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation for pixels in 0..1 out of what a processor does to those in 0..255."""
    rescaled = said.get("do_rescale", True)
    factor = 255 * float(said.get("rescale_factor", 1 / 255)) if rescaled else 255.0
    offset = 1.0 if rescaled and said.get("rescale_offset") else 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    if said.get("do_normalize", True):
        mean, std = said["image_mean"], said["image_std"]
    if said.get("include_top", True) and _kind(said).startswith("EfficientNet"):
        std = [s * s for s in std]  # its processor divides by it once more
    return tuple((m + offset) / factor for m in mean), tuple(s / factor for s in std)


def _size(said: Any) -> tuple[int, int] | None:
    """Height and width in any of the forms that transformers writes."""
    if isinstance(said, Mapping):
        side = said.get("shortest_edge")
        return (int(said.get("height", side)), int(said.get("width", side)))
    return (int(said), int(said)) if said else None
