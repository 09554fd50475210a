"""What a network was trained to see: names and order of the classes, and how pixels were normalised."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import Source, normalization_of

if TYPE_CHECKING:
    from .prepare import Training

SHIFT = 0.05  # of a mean, in standard deviations, from which pixels are normalised in another way
SCALE = 0.05  # of a standard deviation, as a share of it


def seen_images(source: Source) -> dict[str, Any] | None:
    """Classes and normalisation of a source, as plain data; ``None`` where it does not tell.

    Example:
        >>> import torch
        >>> from fractionate.data import Normalization, SmallImages
        >>> pixels, rule = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), Normalization((0.5,), (0.25,))
        >>> seen_images(SmallImages(pixels, torch.arange(2), 2, rule, batch_size=2, classes=("cat", "dog")))
        {'classes': ['cat', 'dog'], 'mean': [0.5], 'std': [0.25]}
    """
    rule = normalization_of(source)
    if rule is None:
        return None
    return {"classes": list(source.classes), "mean": list(rule.mean), "std": list(rule.std)}


def check_seen(training: Training) -> None:
    """Refuse a teacher out of a run folder whose images were others than those it is going to be asked about.

    Accuracy alone does not tell: with two classes exchanged, or pixels a little too bright, a teacher is only worse.

    Raises:
        ValueError: another order of the classes, or another normalisation.
    """
    network, here = training.run.teacher, seen_images(training.train)
    if here is None or training.teacher is None or network is None or not network.checkpoint:
        return
    path = Path(network.checkpoint).parent / "summary.json"
    there = _recorded(path)
    theirs, ours = there.get("classes"), here["classes"]
    if isinstance(theirs, list) and theirs and ours and theirs != ours:
        shared = min(len(theirs), len(ours))
        at = next((i for i in range(shared) if theirs[i] != ours[i]), shared)
        raise ValueError(
            f"the teacher was trained on other classes or in another order: class {at} is {_at(theirs, at)} in {path} "
            f"and {_at(ours, at)} here; train it on these images"
        )
    if _normalised_otherwise(there, here):
        raise ValueError(
            f"the teacher was trained on images normalised in another way: mean {_few(there['mean'])} and std "
            f"{_few(there['std'])} in {path}, {_few(here['mean'])} and {_few(here['std'])} here; train it on "
            f"these images"
        )


def _recorded(path: Path) -> Mapping[str, Any]:
    """What the summary says about the images; nothing where there is none, or one that was not written by a run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["images"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _normalised_otherwise(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    rules = [there.get("mean"), there.get("std"), here["mean"], here["std"]]
    if any(not _numbers(rule) or len(rule) != len(here["mean"]) for rule in rules):
        return False
    return any(abs(m1 - m2) > SHIFT * s2 or abs(s1 - s2) > SCALE * s2 for m1, s1, m2, s2 in zip(*rules, strict=True))


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(x, int | float) for x in values)


def _at(names: Sequence[str], place: int) -> str:
    return repr(names[place]) if place < len(names) else "none"


def _few(numbers: Sequence[float]) -> str:
    return ", ".join(f"{x:.3f}" for x in numbers)
