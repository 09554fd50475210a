"""Losses of pixels (section 24), by the formulas: maps enlarged by written-out weights, pixels dropped one by one.

A row of :data:`ROWS` takes a golden case's hyper-parameters and inputs and returns ``total`` and every term.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .basics import kd, log_softmax, softmax
from .dist import pearson

Hyper = dict[str, Any]
Inputs = dict[str, Tensor]


def weights(many: int, few: int) -> Tensor:
    """``[many, few]``: how much each of few positions counts at each of many, their ends lying upon each other."""
    table = torch.zeros(many, few, dtype=torch.float64)
    for i in range(many):
        at = i * (few - 1) / (many - 1) if many > 1 else 0.0
        low = min(int(at), few - 1)
        high = min(low + 1, few - 1)
        table[i, low] += 1 - (at - low)
        table[i, high] += at - low
    return table


def enlarged(maps: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, with aligned corners."""
    rows, columns = weights(height, maps.shape[2]), weights(width, maps.shape[3])
    return torch.einsum("yh,bchw,xw->bcyx", rows, maps, columns)


def flat(maps: Tensor) -> Tensor:
    """``[b, c, h, w]`` -> its pixels, image by image and line by line."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def rows(h: Hyper, x: Inputs) -> tuple[Tensor, Tensor, Tensor | None]:
    """Student, teacher and labels of the pixels that count."""
    student, teacher, y = x["student"], x["teacher"], x.get("target")
    size = tuple(y.shape[1:]) if y is not None and h.get("resize_logits") else tuple(teacher.shape[2:])
    s, t = (flat(enlarged(m, *size)) if tuple(m.shape[2:]) != size else flat(m) for m in (student, teacher))
    if y is not None and not h.get("resize_logits"):
        y = x.get("target_small", y)
        y = y.where(y != -1, h.get("ignore_index") or -1)  # the small map of every case says -1
    if y is None:
        return s, t, None
    y = y.flatten()
    if h.get("keep") == "teacher-correct":
        keep = torch.tensor([int(t[i].argmax()) == int(y[i]) for i in range(len(y))])
        return s[keep], t[keep], y[keep]
    if h.get("ignore_index") is None:
        return s, t, y
    keep = torch.tensor([int(label) != h["ignore_index"] for label in y])
    return s[keep], t[keep], y[keep]


def mean(values: Tensor) -> Tensor:
    """0 with a graph where no pixel is left."""
    return values.sum() / max(1, len(values))


def split(s: Tensor, t: Tensor, groups: list[Tensor], temperature: float) -> tuple[Tensor, list[Tensor]]:
    """KL between the masses of groups of classes, and the KL inside each times T^2; ``groups`` are masks ``[n, c]``."""
    q, p = log_softmax(s / temperature), log_softmax(t / temperature)
    square, between, inside = temperature**2, torch.zeros(()), []
    for mask in groups:
        low = [z.masked_fill(~mask, -torch.inf).logsumexp(1, keepdim=True) for z in (q, p)]
        between = between + (low[1].exp() * (low[1] - low[0]))[:, 0]
        apart = ((p - low[1]) - (q - low[0])).masked_fill(~mask, 0.0)
        inside.append(square * ((p - low[1]).exp().masked_fill(~mask, 0.0) * apart).sum(1))
    return square * between, inside


def _kd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    s, t, _ = rows(h, x)
    return {"total": mean(kd(s, t, h["temperature"]))}


def _dkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    s, t, y = rows(h, x)
    assert y is not None
    target = torch.nn.functional.one_hot(y, s.shape[1]).bool()
    between, inside = split(s, t, [target, ~target], h["temperature"])
    tckd, nckd = mean(between), mean(inside[1])
    return {"tckd": tckd, "nckd": nckd, "total": h["alpha"] * tckd + h["beta"] * nckd}


def _gdkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    s, t, _ = rows(h, x)
    top = torch.zeros_like(t, dtype=torch.bool).scatter(
        1, t.sort(dim=1, descending=True, stable=True).indices[:, : h["k"]], True
    )
    between, inside = split(s, t, [top, ~top], h["temperature"])
    high, first, other = mean(between), mean(inside[0]), mean(inside[1])
    total = h["w0"] * high + h["w1"] * first + h["w2"] * other
    return {"high": high, "top": first, "other": other, "total": total}


def intra(h: Hyper, x: Inputs) -> Tensor:
    """1 - mean correlation of the columns: over all pixels, or of each image and then over the images."""
    s, t, _ = rows({**h, "ignore_index": None, "keep": None}, x)
    images = len(x["student"]) if h["per_image_intra"] else 1
    values = []
    for a, b in zip(s.chunk(images), t.chunk(images), strict=True):
        q, p = (softmax(z / h["temperature"]) for z in (a, b))
        values.append(1 - torch.stack([pearson(c, d) for c, d in zip(q.T, p.T, strict=True)]).mean())
    return torch.stack(values).mean()


def _dist(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    h = {"per_image_intra": False, **h}
    s, t, _ = rows(h, x)
    q, p = (softmax(z / h["temperature"]) for z in (s, t))
    q, p = q - q.mean(1, keepdim=True), p - p.mean(1, keepdim=True)
    inter = (1 - (q * p).sum(1) / (q.norm(dim=1) * p.norm(dim=1) + 1e-8)).mean()
    columns = intra(h, x)
    return {"inter": inter, "intra": columns, "total": h["beta"] * inter + h["gamma"] * columns}


def _with_intra(base: Callable[[Hyper, Inputs], dict[str, Tensor]]) -> Callable[[Hyper, Inputs], dict[str, Tensor]]:
    return lambda h, x: {"total": base(h, x)["total"] + h["intra_weight"] * intra(h, x)}


def _ce(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    s, _, y = rows({**h, "resize_logits": True}, {"teacher": x["student"], **x})
    assert y is not None
    return {"total": mean(-log_softmax(s)[range(len(y)), y])}


def _objective(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    aux = {"student": x["student_aux"], "teacher": x["teacher_aux"], "target": x["target"]}
    pixels = {"temperature": 1.0, "ignore_index": None}
    task = _ce(h, x)["total"] + h["aux_weight"] * _ce(h, aux)["total"]
    plain = [{k: v for k, v in of.items() if k != "target"} for of in (x, aux)]
    distill = _kd(pixels, plain[0])["total"] + h["aux_weight"] * _kd(pixels, plain[1])["total"]
    return {"task": task, "distill": distill, "total": task + h["kd_weight"] * distill}


ROWS: dict[str, Callable[[Hyper, Inputs], dict[str, Tensor]]] = {
    "SegKD": _kd,
    "CIRKD-KD": _kd,
    "SegDKD": _dkd,
    "SegGDKD": _gdkd,
    "SegDIST": _dist,
    "DIST-seg": _dist,
    "SegKD+intra": _with_intra(_kd),
    "SegDKD+intra": _with_intra(_dkd),
    "SegGDKD+intra": _with_intra(_gdkd),
    "SegCE": _ce,
    "SegObjective": _objective,
}
