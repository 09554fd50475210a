"""DGKD (section 10): the squared distance between two logit gradients, by differentiating twice."""

from __future__ import annotations

import torch
from torch import Tensor

from .dkd import dkd, target_mass


def gradients(student: Tensor, teacher: Tensor, target: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """g_T and g_N ``[n, c]``: gradients of T^2 TCKD and T^2 NCKD of each row, themselves
    differentiable."""
    terms = dkd(student, teacher, target, temperature=temperature)
    g_t, g_n = (
        torch.autograd.grad(terms[name].sum(), student, create_graph=True)[0] for name in ("target", "nontarget")
    )
    return g_t, g_n


def coupling(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: float,
    reading: str = "full",
) -> Tensor:
    """G of each row in the three readings of the text."""
    g_t, g_n = gradients(student, teacher, target, temperature=temperature)
    if reading == "masked":  # g_T counts at the label only, g_N everywhere else
        label = torch.nn.functional.one_hot(target, student.shape[1]).to(student.dtype)
        g_t = g_t * label
    if reading == "kd_weighted":
        g_n = (1 - target_mass(teacher, target, temperature))[:, None] * g_n
    return ((g_t - g_n) ** 2).sum(1)


def dgkd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: float,
    reading: str = "full",
    weights: str = "dkd",
) -> dict[str, Tensor]:
    """TCKD, NCKD (times 1 - a if ``weights="kd"``) and the coupling of each row."""
    terms = dkd(student, teacher, target, temperature=temperature)
    if weights == "kd":
        terms["nontarget"] = (1 - target_mass(teacher, target, temperature)) * terms["nontarget"]
    terms["coupling"] = coupling(student, teacher, target, temperature=temperature, reading=reading)
    return terms


def normalized(mean_coupling: Tensor) -> Tensor:
    """mean(G) over its own detached value: worth about 1, but with a gradient."""
    return mean_coupling / (mean_coupling.detach() + 1e-8)
