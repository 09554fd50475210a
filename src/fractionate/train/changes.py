"""What may change in a config between the two halves of a run, and what changed."""

from __future__ import annotations

from typing import Any

from .config import Run
from .configfile import Plain, differences, to_plain

# Under these a position inside the run means something else, or the weights do not fit.
FIXED = ("student", "data", "seed")
FREE = ("data.root", "student.checkpoint", "student.pretrained")  # how the same images and first weights were found


def changed_fields(before: Run, now: Run) -> dict[str, list[Any]]:
    """Fields that differ, with the old and the new value.

    Raises:
        ValueError: a field differs that cannot change under way.

    Example:
        >>> from fractionate.train import MethodSpec, Network, override
        >>> run = Run(student=Network("convnet_8_16"), method=MethodSpec("ce"))
        >>> changed_fields(run, override(run, ["optimizer.lr=0.05"]))
        {'optimizer.lr': [0.1, 0.05]}
    """
    paths = differences(before, now)
    one, two = to_plain(before), to_plain(now)
    found = {path: [_at(one, path), _at(two, path)] for path in paths}
    for path, (old, new) in found.items():
        if path.split(".")[0] in FIXED and path not in FREE:
            raise ValueError(
                f"{path} was {old!r} and is now {new!r}: it cannot change in the middle of a run; put it back, or "
                f"train in another folder"
            )
    return found


def _at(plain: Plain, path: str) -> Any:
    node: Any = plain
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node
