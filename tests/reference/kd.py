"""KD (section 2), logit MSE and Grouped KD (section 23)."""

from __future__ import annotations

from torch import Tensor

from .basics import kd
from .split import by_mass, split_kl

__all__ = ["grouped", "kd", "logit_mse"]


def logit_mse(student: Tensor, teacher: Tensor, *, center: bool = False) -> Tensor:
    """(1 / C) |z^S - z^T|^2 of each row."""
    if center:
        student = student - student.mean(1, keepdim=True)
        teacher = teacher - teacher.mean(1, keepdim=True)
    return ((student - teacher) ** 2).mean(1)


def grouped(student: Tensor, teacher: Tensor, *, theta: float, temperature: float) -> dict[str, Tensor]:
    """``between`` and b_P within[P]; the secondary group is dropped."""
    s = split_kl(student, teacher, by_mass(teacher, theta, temperature), temperature)
    return {"between": s.between, "primary": s.mass[:, 0] * s.within[:, 0]}
