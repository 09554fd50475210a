"""Names of augmentations in a config, and timm's RandAugment, which is a string with numbers in it."""

from __future__ import annotations

import re

from .._choices import unknown

RESIDENT = ("none", "cutout", "autoaugment", "autoaugment+cutout", "randaugment")
LOADED_ONLY = ("randaugment-2-9", "trivialaugment")
EXAMPLE = "rand-m9-mstd0.5-inc1"
TIMM = re.compile(
    r"rand(-(m\d+|n[1-9]\d?|p(0\.\d+|[01](\.0+)?)|mstd\d+(\.\d+)?|mmax[1-9]\d*|inc[01]|t(weights|3a|3aw)))*"
)
KEY = re.compile(r"-(mstd|mmax|inc|m|n|p|t)")


def check_augment(name: str, value: str, *, loaded: bool) -> None:
    """Refuse what is no augmentation, or one of photos that are loaded one by one where none are.

    Args:
        name: of the field.
        value: its value.
        loaded: whether photos are loaded one by one.

    Raises:
        ValueError: a sentence that names the field.

    Example:
        >>> check_augment("augment", "rand-m9-mstd0.5-inc1", loaded=True)
    """
    if value.startswith("rand-"):
        keys = KEY.findall(value)
        if not TIMM.fullmatch(value) or len(set(keys)) < len(keys):
            raise ValueError(
                f"data.{name}={value} is no RandAugment of timm's: write rand and, each once and in any order, m "
                f"(strength), n (operations), p (chance of each), mstd (spread of the strength), mmax, inc (0 or 1), "
                f"t (weights, 3a, 3aw), such as {EXAMPLE}"
            )
    elif value not in (*RESIDENT, *LOADED_ONLY):
        raise ValueError(unknown(f"data.{name}", value, (*RESIDENT, *LOADED_ONLY, EXAMPLE)))
    if not loaded and value not in RESIDENT:
        raise ValueError(f"data.{name}={value} is for photos that are loaded one by one: add data.workers=N")
