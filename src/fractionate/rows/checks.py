"""What must hold of rows, said in words where it does not."""

from __future__ import annotations

import torch
from torch import Tensor


def can_look(x: Tensor) -> bool:
    """Whether values of ``x`` may be read: on CPU and not under compile (reading CUDA synchronizes)."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def check_logits(student: Tensor, teacher: Tensor) -> None:
    """Two [n, c] tensors of one floating dtype on one device, c at least 2."""
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"Logits: student and teacher must both be [n, c]; got {list(student.shape)} and "
            f"{list(teacher.shape)}. Flatten pixels, regions and tokens with fractionate.rows."
        )
    if not student.is_floating_point() or student.dtype != teacher.dtype:
        raise ValueError(
            f"Logits: student and teacher must share one floating dtype, got {student.dtype} and "
            f"{teacher.dtype}; cast one of them, for example teacher.to(student.dtype)"
        )
    if student.device != teacher.device:
        raise ValueError(
            f"Logits: student is on {student.device}, teacher on {teacher.device}; "
            f"move one of them, for example teacher.to(student.device)"
        )
    if student.shape[1] < 2:
        raise ValueError(f"Logits: at least 2 classes are needed, got c={student.shape[1]}")


def check_target(target: Tensor, student: Tensor) -> None:
    """Hard labels [n] in range (looked at on CPU only), or soft labels [n, c]."""
    n, c = student.shape
    if target.device != student.device:
        raise ValueError(f"Logits: target is on {target.device}, student on {student.device}; move one of them")
    if target.is_floating_point():
        if target.shape != student.shape:
            raise ValueError(
                f"Logits: a floating target holds soft labels [n, c]={[n, c]}, got "
                f"{list(target.shape)}; hard labels must be int64 [n]"
            )
        return
    if target.dtype != torch.int64 or target.shape != (n,):
        raise ValueError(
            f"Logits: target must be int64 [n]=[{n}] or soft labels [n, c]={[n, c]}, got "
            f"{target.dtype} {list(target.shape)}"
        )
    if n and can_look(target):
        low, high = (int(v) for v in target.aminmax())
        if low < 0 or high >= c:
            raise ValueError(
                f"Logits: target labels must lie in 0..{c - 1}, got {low}..{high}; ignored positions "
                f"(255, -100) are dropped by rows.pixels and rows.tokens"
            )


def check_per_row(name: str, values: Tensor | None, student: Tensor) -> None:
    """One value per row, where the rows are."""
    if values is None:
        return
    if values.shape != student.shape[:1] or values.device != student.device:
        raise ValueError(
            f"Logits: {name} must be [n]=[{len(student)}] on {student.device}, got "
            f"{list(values.shape)} on {values.device}"
        )


def check_like(name: str, logits: Tensor, student: Tensor) -> None:
    """The same rows and classes as the student's."""
    if logits.shape != student.shape:
        raise ValueError(
            f"Logits: the {name} must have the rows and classes of the student {list(student.shape)}, got "
            f"{list(logits.shape)}"
        )


def check_regions(regions: Tensor, student: Tensor) -> None:
    """Every row has the same number of regions, at least one."""
    (rows, classes), (n, c) = regions.shape, student.shape
    if classes != c or (n and (rows % n or not rows)) or (rows and not n):
        raise ValueError(f"Logits: regions must be [n * r, c] with n={n}, c={c}, got {[rows, classes]}")
