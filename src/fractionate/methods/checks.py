"""What must hold of rows and of the values of a method, said in words where it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..rows import Logits, Progress, blame, can_look

if TYPE_CHECKING:
    from .method import Method


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
    if method.token and lg.token is None:
        raise ValueError(
            f"Logits without a token: {method.name} reads a second head of the student; give "
            f"Logits(..., token=Logits(...)) with the logits of its distillation token"
        )
    if method.regions and lg.regions is None:
        raise ValueError(
            f"{method.name}: needs Logits(..., regions=...), the logits of image regions at scales {method.regions}"
        )


def check_labels(method: Method, lg: Logits, progress: Progress) -> None:
    """Rows without labels: nothing that counts reads one."""
    if lg.target is not None and lg.label_weight is None:
        return
    if method.needs_labels:
        none = "these rows have none (target=None)" if lg.target is None else "some rows have none (label_weight)"
        raise ValueError(
            f"{method.name}: reads the label of a row, and {none}; give labels, or choose a label-free method such as "
            f"kd, gdkd or dist"
        )
    if lg.target is not None:
        return
    task = method.parts.get("task")
    if task is not None and task.weight(progress) != 0:
        raise ValueError(
            f"{method.name}: its cross-entropy has weight {task.weight(progress):g} and needs labels, and these rows "
            f"have none (target=None); build it with ce_weight=0 to distil without labels"
        )


def check_finite(where: str, rows: Mapping[str, Tensor], lg: Logits) -> None:
    """On CPU every row of every component is finite, and every weight; elsewhere looking would synchronize."""
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
    if lg.weight is not None and not math.isfinite(float((weight := lg.weight.detach()).sum())):
        bad = ~torch.isfinite(weight)
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise ValueError(f"{where}: the weight is {float(weight[row])} in row {row}; every weight must be finite")
