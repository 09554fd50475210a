"""Checks shared by all methods: arguments at construction, rows at the first call, values of the result."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ParamSpec

import torch
from torch import Tensor

from .._choices import choose, unknown
from ..rows import Logits, Progress, blame, can_look

if TYPE_CHECKING:
    from .method import Method

P = ParamSpec("P")


def preset(function: Callable[P, Method]) -> Callable[P, Method]:
    """Remember how a method was made, and name the nearest argument when one is misspelled."""
    signature = inspect.signature(function)
    flags = {name for name, parameter in signature.parameters.items() if parameter.annotation in ("bool", bool)}

    @functools.wraps(function)
    def build(*args: P.args, **kwargs: P.kwargs) -> Method:
        from .origin import Call

        for name in kwargs:
            if name not in signature.parameters:
                raise TypeError(unknown(f"argument of {function.__name__}", name, signature.parameters))
            if name in flags and not isinstance(kwargs[name], bool):  # "no" would pass for True
                raise ValueError(f"{function.__name__}: {name} must be True or False, got {kwargs[name]!r}")
        given = dict(signature.bind(*args, **kwargs).arguments)
        return replace(function(*args, **kwargs), origin=Call(build, given))

    return build


def check_numbers(where: str, **values: float) -> None:
    """Every value is a finite number."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{where}: {name} must be a finite number, got {value!r}")


def check_positive(where: str, **values: float) -> None:
    """Every value is a finite number above 0."""
    check_numbers(where, **values)
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{where}: {name} must be positive, got {value!r}")


def check_not_negative(where: str, **values: float) -> None:
    """Every value is a finite number, 0 or above."""
    check_numbers(where, **values)
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{where}: {name} must not be negative, got {value!r}")


def check_count(where: str, name: str, value: int, least: int) -> None:
    """An integer of at least ``least``; the upper limit is known when the classes are."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{where}: {name} must be an integer of at least {least}, got {value!r}")


def check_common(where: str, ce_weight: float, warmup: float, label_smoothing: float, hard: str) -> None:
    """The arguments that every method has."""
    check_not_negative(where, ce_weight=ce_weight, warmup=warmup, label_smoothing=label_smoothing)
    if label_smoothing > 1:
        raise ValueError(f"{where}: label_smoothing must lie in 0..1, got {label_smoothing!r}")
    choose(f"{where} option 'hard'", hard, ("error", "argmax"))


def check_rows(method: Method, lg: Logits) -> None:
    """The rows fit the method: kind of labels and number of views."""
    if method.needs_labels and lg.soft and method.hard == "error":
        raise ValueError(
            f"{method.name}: needs hard labels [n], got soft labels {list(lg.target.shape)} (mixup or cutmix?); "
            f"build it with hard='argmax' to use the most likely class, or choose a label-free method"
        )
    if method.views == 2 and lg.strong is None:
        raise ValueError(
            f"{method.name}: needs a second view; give Logits(..., strong=Logits(...)) with the logits of "
            f"the strongly augmented images"
        )
    if method.regions and lg.regions is None:
        raise ValueError(
            f"{method.name}: needs Logits(..., regions=...), the logits of image regions at scales {method.regions}"
        )


def check_labels(method: Method, lg: Logits, progress: Progress) -> None:
    """Rows without labels: nothing that counts reads one."""
    if lg.target is not None:
        return
    if method.needs_labels:
        raise ValueError(
            f"{method.name}: reads the label of a row, and these rows have none (target=None); give labels, or choose "
            f"a label-free method such as kd, gdkd or dist"
        )
    task = method.parts.get("task")
    if task is not None and task.weight(progress) != 0:
        raise ValueError(
            f"{method.name}: its cross-entropy has weight {task.weight(progress):g} and needs labels, and these rows "
            f"have none (target=None); build it with ce_weight=0 to distil without labels"
        )


def check_finite(where: str, rows: Mapping[str, Tensor], lg: Logits) -> None:
    """On CPU every row of every component is finite; elsewhere looking would synchronize the device."""
    if not can_look(lg.student):
        return
    for name, x in rows.items():
        if math.isfinite(float(x.detach().sum())):  # a NaN and an infinity survive a sum; one look instead of three
            continue
        bad = ~torch.isfinite(x.detach())
        if bool(bad.any()):  # else the sum of finite rows was too large
            row = int(bad.nonzero()[0, 0])
            raise ValueError(
                f"{where}: component {name!r} is {float(x.detach()[row])} in row {row}; "
                f"{blame(lg, row)}; every logit must be finite"
            )
