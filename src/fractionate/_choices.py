"""One sentence for a wrong name or number: what was given, what exists, what is nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

EXTRAS = {"torchvision": "models", "timm": "models", "segmentation_models_pytorch": "dense"}
LARGEST = 2.0  # mean or deviation of pixel values in 0..1, however they were measured
SHOWN = 100  # as many names are one line that somebody reads


def unknown(kind: str, given: object, choices: Iterable[str]) -> str:
    """The message for a name that is not among ``choices``; of very many (a library's) it shows the nearest.

    Example:
        >>> unknown("method", "dkdd", ["kd", "dkd"])
        "unknown method 'dkdd': did you mean 'dkd'? Known: kd, dkd"
    """
    names = list(choices)
    near = difflib.get_close_matches(str(given), names, n=SHOWN // 10, cutoff=0.5)
    hint = f" did you mean '{near[0]}'?" if near else ""
    if len(names) <= SHOWN:
        return f"unknown {kind} {str(given)!r}:{hint} Known: {', '.join(names)}"
    some = near or names[: SHOWN // 10]
    return f"unknown {kind} {str(given)!r}:{hint} {len(names):,} are known, among them {', '.join(some)}"


def not_installed(package: str, needed_by: str) -> str:
    """The message for a package that is not there: who needs it, and the extra that brings it.

    Example:
        >>> not_installed("timm", "model 'timm:resnet18'")
        "model 'timm:resnet18' needs the package 'timm', which is not installed: pip install 'fractionate[models]'"
    """
    remedy = f"'fractionate[{EXTRAS[package]}]'" if package in EXTRAS else package
    return f"{needed_by} needs the package {package!r}, which is not installed: pip install {remedy}"


def choose(kind: str, given: str, choices: Iterable[str]) -> str:
    """Return ``given`` if it is one of ``choices``; else raise a ``ValueError`` naming the nearest."""
    names = list(choices)
    if given not in names:
        raise ValueError(unknown(kind, given, names))
    return given


def check_scale(where: str, mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse means and deviations of pixel values in 0..255, which would make all pictures nearly the same."""
    if not all(-LARGEST <= x <= LARGEST for x in (*mean, *std)):
        raise ValueError(
            f"{where}: mean and std are of pixel values in 0..1, got mean={tuple(mean)}, std={tuple(std)}; divide "
            f"those of values in 0..255 by 255"
        )
