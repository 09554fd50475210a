"""KD, DKD, GDKD and KD of other directions by the operations of published code: probabilities, masks, logs of sums.

A second, batched reading of the same formulas. It is what the benchmarks compare with; large logits break it, which is
why the package does not work this way. Every term is ``[n]`` and includes T^2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FAR = 1000.0


def kd(student: Tensor, teacher: Tensor, temperature: float) -> dict[str, Tensor]:
    p = F.softmax(teacher / temperature, dim=1)
    return {"kd": _kl(F.log_softmax(student / temperature, dim=1), p, temperature)}


def dkd(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> dict[str, Tensor]:
    label = torch.zeros_like(student).scatter_(1, target[:, None], 1).bool()
    between = _between(student, teacher, label, temperature)
    return {"target": between, "nontarget": _inside(student, teacher, ~label, temperature)}


def gdkd(student: Tensor, teacher: Tensor, k: int, temperature: float) -> dict[str, Tensor]:
    best = torch.topk(teacher, k, dim=1).indices
    top = torch.zeros_like(student).scatter_(1, best, 1).bool()
    return {
        "between": _between(student, teacher, top, temperature),
        "top": _inside(student, teacher, top, temperature),
        "other": _inside(student, teacher, ~top, temperature),
    }


def directed(student: Tensor, teacher: Tensor, name: str, temperature: float) -> dict[str, Tensor]:
    """KD of another direction, from log-probabilities: reverse, jsd of beta 1/2, both skews of lambda 1/10."""
    log_q, log_p = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    if name == "reverse":
        return {"kd": _kl(log_p, log_q.exp(), temperature)}
    weight = {"jsd": 0.5, "skew": 0.1, "skew_reverse": 0.9}[name]
    log_m = torch.logsumexp(torch.stack([log_p + math.log(weight), log_q + math.log1p(-weight)]), dim=0)
    if name == "jsd":
        both = F.kl_div(log_m, log_p, reduction="none", log_target=True)
        both = both + F.kl_div(log_m, log_q, reduction="none", log_target=True)
        return {"kd": 0.5 * both.sum(1) * temperature**2}
    first = log_p if name == "skew" else log_q
    return {"kd": F.kl_div(log_m, first, reduction="none", log_target=True).sum(1) * temperature**2}


def _between(student: Tensor, teacher: Tensor, group: Tensor, temperature: float) -> Tensor:
    """KL of the two summed probabilities, through the log of the student's sums."""
    sums = []
    for z in (student, teacher):
        p = F.softmax(z / temperature, dim=1)
        sums.append(torch.stack([(p * group).sum(1), (p * ~group).sum(1)], 1))
    return _kl(torch.log(sums[0]), sums[1], temperature)


def _inside(student: Tensor, teacher: Tensor, group: Tensor, temperature: float) -> Tensor:
    """KL inside a group; the other classes are pushed far down."""
    log_q = F.log_softmax(student / temperature - FAR * ~group, dim=1)
    return _kl(log_q, F.softmax(teacher / temperature - FAR * ~group, dim=1), temperature)


def _kl(log_q: Tensor, p: Tensor, temperature: float) -> Tensor:
    return F.kl_div(log_q, p, reduction="none").sum(1) * temperature**2
