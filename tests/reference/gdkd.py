"""GDKD, GDKD3 and the variants with automatic weights, automatic k or standardised logits (sections
5 to 7)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .basics import kl, log_softmax, ranked
from .dkd import dkd
from .split import Split, by_top, by_top1_top, split_kl, with_rest


def _named(s: Split) -> dict[str, Tensor]:
    """The last two groups are the ones with a within term."""
    return {"between": s.between, "top": s.within[:, -2], "other": s.within[:, -1]}


def gdkd(
    student: Tensor,
    teacher: Tensor,
    *,
    k: int,
    temperature: float,
    direction: str = "forward",
    largest: bool = True,
) -> dict[str, Tensor]:
    return _named(split_kl(student, teacher, by_top(teacher, k, largest=largest), temperature, direction))


def gdkd3(
    student: Tensor, teacher: Tensor, *, k: int, temperature: float, direction: str = "forward"
) -> dict[str, Tensor]:
    return _named(split_kl(student, teacher, by_top1_top(teacher, k), temperature, direction))


def gdkd_autow(student: Tensor, teacher: Tensor, *, mode: str, k: int, temperature: float) -> dict[str, Tensor]:
    """Unweighted: v1 carries both masses, v2 the mass of the rest, v3 the mass of the top group."""
    s = split_kl(student, teacher, by_top(teacher, k), temperature)
    top = s.within[:, 0] * (s.mass[:, 0] if mode in ("v1", "v3") else 1)
    other = s.within[:, 1] * (s.mass[:, 1] if mode in ("v1", "v2") else 1)
    return {"between": s.between, "top": top, "other": other}


def auto_k(teacher: Tensor, *, ratio: float, cap: int, temperature: float) -> list[int]:
    """k of each row: C - j*, with j* the first index at which p, sorted upwards, reaches ratio times its mean so far.

    On logarithms, so that probabilities too small for a float keep their ratios.
    """
    return [_auto_k(log_p, ratio, cap) for log_p in log_softmax(teacher / temperature)]


def _auto_k(log_p: Tensor, ratio: float, cap: int) -> int:
    ascending = log_p.sort().values
    for j, value in enumerate(ascending):
        log_mean = torch.logsumexp(ascending[: j + 1], 0) - math.log(j + 1)
        if float(value - log_mean) >= math.log(ratio):
            return min(len(ascending) - j, cap)
    return 1


def knee(row: list[float], cap: int) -> int:
    """Ranks before the one whose logit lies deepest below the straight line from the best to the worst."""
    z = sorted(row, reverse=True)
    c, best, k = len(z), 1e-3 * (z[0] - z[-1]), 1
    for j in range(c):
        depth = z[0] + (z[-1] - z[0]) * j / (c - 1) - z[j]
        if depth > best:
            best, k = depth, j
    return min(k, cap, c - 1)


def kept_by_mass(p: list[float], label: int, theta: float) -> set[int]:
    """The best classes besides the label, one after the other, until they hold theta of what is beside the label."""
    kept: set[int] = set()
    order = sorted((c for c in range(len(p)) if c != label), key=lambda c: -p[c])
    for c in order:
        if kept and sum(p[i] for i in kept) >= theta * sum(p[i] for i in order):
            break
        kept.add(c)
    return kept


def per_class_k(teacher: Tensor, target: Tensor, *, ratio: float, cap: int, temperature: float) -> dict[int, int]:
    """k of each label that occurs: auto-k of the mean teacher distribution over the rows of that label."""
    p = torch.softmax(teacher / temperature, 1)
    return {y: _auto_k(p[target == y].mean(0).log(), ratio, cap) for y in sorted(set(target.tolist()))}


def gdkd_k_per_row(student: Tensor, teacher: Tensor, ks: list[int], *, temperature: float) -> dict[str, Tensor]:
    listed = [[ranked(t)[:k]] for t, k in zip(teacher, ks, strict=True)]
    return _named(split_kl(student, teacher, with_rest(listed, teacher.shape[1]), temperature))


def ls_gdkd(student: Tensor, teacher: Tensor, *, mode: str, k: int, temperature: float) -> dict[str, Tensor]:
    """GDKD on z-scored logits; the partition comes from the raw teacher."""
    partition = by_top(teacher, k)
    if mode == "global":
        z_s, z_t = (_z(z, unbiased=True) for z in (student, teacher))
        return _named(split_kl(z_s, z_t, partition, temperature))
    raw = _named(split_kl(student, teacher, partition, temperature))
    scored = {"both": (0, 1), "other": (1,)}[mode]
    for group, name in enumerate(("top", "other")):
        if group in scored:
            raw[name] = _scored_inside(student, teacher, [g[group] for g in partition], temperature)
    return raw


def _scored_inside(student: Tensor, teacher: Tensor, groups: list[list[int]], temperature: float) -> Tensor:
    rows = []
    for s, t, group in zip(student, teacher, groups, strict=True):
        if len(group) == 1:  # a standard deviation of 0: nothing to match
            rows.append(s.sum() * 0)
            continue
        log_q, log_p = (log_softmax(_z(z[group], unbiased=False) / temperature) for z in (s, t))
        rows.append(temperature**2 * kl(log_p, log_q))
    return torch.stack(rows)


def _z(z: Tensor, *, unbiased: bool) -> Tensor:
    return (z - z.mean(-1, keepdim=True)) / (z.std(-1, unbiased=unbiased, keepdim=True) + 1e-7)


def adkd_beta(
    teacher: Tensor, target: Tensor, *, classes: int, temperature: float, epoch: int, epochs: int
) -> dict[int, float]:
    """gamma(e) times the class mean of p_(1) / p_(2); gamma follows a cosine from 1 to 0.1."""
    top = torch.softmax(teacher / temperature, 1).sort(1, descending=True).values
    ratio = top[:, 0] / top[:, 1]
    gamma = 0.1 + 0.9 * (1 + math.cos(math.pi * (epoch - 1) / max(1, epochs - 1))) / 2
    present = [y for y in range(classes) if bool((target == y).any())]
    return {y: gamma * float(ratio[target == y].mean()) for y in present}


def adkd(
    student: Tensor, teacher: Tensor, target: Tensor, beta: dict[int, float], *, temperature: float
) -> dict[str, Tensor]:
    """DKD with one beta per label in its non-target term."""
    terms = dkd(student, teacher, target, temperature=temperature)
    weight = torch.tensor([beta[int(y)] for y in target], dtype=student.dtype)
    return {"target": terms["target"], "nontarget": weight * terms["nontarget"]}


def sgdkd(student: Tensor, teacher: Tensor, target: Tensor, joins: Tensor, *, temperature: float) -> dict[str, Tensor]:
    """Groups {y}, A, R; ``joins`` [n, c] says which non-target classes were drawn into A."""
    listed = []
    for row, label in zip(joins, target, strict=True):
        y = int(label)
        listed.append([[y], [c for c in range(len(row)) if bool(row[c]) and c != y]])
    s = split_kl(student, teacher, with_rest(listed, teacher.shape[1]), temperature)
    return {"between": s.between, "random": s.within[:, 1]}


def skd(student: Tensor, teacher: Tensor, keeps: Tensor, *, temperature: float) -> Tensor:
    """KL restricted to the classes that ``keeps`` [n, c] marks."""
    listed = [[[c for c in range(len(row)) if bool(row[c])]] for row in keeps]
    s = split_kl(student, teacher, with_rest(listed, teacher.shape[1]), temperature)
    return s.within[:, 0]
