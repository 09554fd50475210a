"""DKD (section 3) and its teacher-top-1 form (section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from .split import by_target, by_teacher_top1, split_kl


def dkd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: float | Tensor,
    direction: str = "forward",
) -> dict[str, Tensor]:
    """TCKD and NCKD of each row."""
    s = split_kl(student, teacher, by_target(teacher, target), temperature, direction)
    return {"target": s.between, "nontarget": s.within[:, 1]}


def dkd_top1(student: Tensor, teacher: Tensor, *, temperature: float, direction: str = "forward") -> dict[str, Tensor]:
    s = split_kl(student, teacher, by_teacher_top1(teacher), temperature, direction)
    return {"target": s.between, "nontarget": s.within[:, 1]}


def target_mass(teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """a, the teacher's probability of the label."""
    p = torch.softmax(teacher / temperature, 1)
    return torch.stack([p[i, int(y)] for i, y in enumerate(target)])


def tckd_log_odds(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """TCKD in the log-odds form: a second way to the same number."""
    rows = []
    for s, t, label in zip(student / temperature, teacher / temperature, target, strict=True):
        y = int(label)
        others = [c for c in range(len(s)) if c != y]
        l, l_t = (z[y] - torch.logsumexp(z[others], 0) for z in (s, t))
        log_sig = torch.nn.functional.logsigmoid
        rows.append(
            log_sig(l_t).exp() * (log_sig(l_t) - log_sig(l)) + log_sig(-l_t).exp() * (log_sig(-l_t) - log_sig(-l))
        )
    return temperature**2 * torch.stack(rows)
