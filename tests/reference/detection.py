"""Losses of regions and of box sides (section 24), by the formulas, row by row and without the package.

A row of :data:`ROWS` takes a golden case's hyper-parameters and inputs and returns ``total`` and every term.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .basics import kd, softmax
from .dense import split
from .dist import pearson

Hyper = dict[str, Any]
Inputs = dict[str, Tensor]
ENDS = 4 + 1.1920928955078125e-07


def mean(rows: Tensor) -> Tensor:
    """0 with a graph where there is no row."""
    return rows.sum() / max(1, len(rows))


def pieces(kind: str, h: Hyper, s: Tensor, t: Tensor, y: Tensor | None) -> dict[str, Tensor]:
    """Every component of every row, and their weighted sum, ``total``."""
    if kind == "kd":
        return {"total": kd(s, t, h["temperature"])}
    if kind == "dist":
        q, p = softmax(s / h["temperature"]), softmax(t / h["temperature"])
        inter = [1 - pearson(a, b) for a, b in zip(q, p, strict=True)]
        return {"total": h["beta"] * h["temperature"] ** 2 * (torch.stack(inter) if inter else q.sum(1))}
    order = t.sort(dim=1, descending=True, stable=True).indices
    if kind == "dkd":
        assert y is not None
        own = torch.nn.functional.one_hot(y.long(), s.shape[1]).bool()
        between, inside = split(s, t, [own, ~own], h["temperature"])
        return {"tckd": between, "nckd": inside[1], "total": h["alpha"] * between + h["beta"] * inside[1]}
    none = torch.zeros_like(t, dtype=torch.bool)
    top = none.scatter(1, order[:, : h["k"]], True)
    groups = [top, ~top]
    if kind == "gdkd3":
        first = none.scatter(1, order[:, :1], True)
        groups = [first, top & ~first, ~top]
    between, inside = split(s, t, groups, h["temperature"])
    total = h["w0"] * between + h["w1"] * inside[-2] + h["w2"] * inside[-1]
    return {"high": between, "top": inside[-2], "other": inside[-1], "total": total}


def regions(kind: str) -> Callable[[Hyper, Inputs], dict[str, Tensor]]:
    def values(h: Hyper, x: Inputs) -> dict[str, Tensor]:
        keep = [i for i, y in enumerate(x["target"].tolist()) if h["keep"] == "all" or y != h["background"]]
        found = pieces(kind, h, x["student"][keep], x["teacher"][keep], x["target"][keep])
        return {name: mean(rows) for name, rows in found.items()}

    return values


def both(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    by = (x["target"] if h["bg_src"] == "target" else x["teacher"].argmax(1)).tolist()
    sides = [[i for i, y in enumerate(by) if (y == h["background"]) == back] for back in (False, True)]
    objects = {"k": 2, "w0": h["w0"], "w1": 0.0, "w2": h["w1"], "temperature": h["temperature"]}
    rest = {"alpha": h["w2"], "beta": h["w3"], "k": 1, "w0": h["w2"], "w1": 0.0, "w2": h["w3"]}
    kinds = ("gdkd3", "dkd" if h["bg_distill_type"] == "dkd" else "gdkd")
    given = (objects, {**rest, "temperature": h["temperature"]})
    first, second = (
        mean(pieces(kind, g, x["student"][keep], x["teacher"][keep], x["target"][keep])["total"])
        for kind, g, keep in zip(kinds, given, sides, strict=True)
    )
    return {"foreground": first, "background": second, "total": first + second}


def box(kind: str, part: float = 1.0) -> Callable[[Hyper, Inputs], dict[str, Tensor]]:
    def values(h: Hyper, x: Inputs) -> dict[str, Tensor]:
        s = x["student"]
        scale = h["loss_weight"] * (1 / s.shape[1] if part != 1.0 else 1.0)
        found = {k: scale * rows for k, rows in pieces(kind, h, s, x["teacher"], x.get("target")).items()}
        how = h["reduction"]
        reduce = {"mean over rows": mean, "sum of rows": torch.sum}.get(how)
        if reduce is None:
            ends = h["avg_factor"] + h["avg_eps"]
            return {k: (x["weight"] * rows).sum() / ends for k, rows in found.items()}
        return {**{k: reduce(rows) for k, rows in found.items()}, "rows": found["total"]}

    return values


def box_dist(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    q, p = (softmax(x[role] / h["temperature"]) for role in ("student", "teacher"))
    inter = 1 - torch.stack([pearson(a, b) for a, b in zip(q, p, strict=True)]).mean()
    intra = 1 - torch.stack([pearson(a, b) for a, b in zip(q.T, p.T, strict=True)]).mean()
    ends = h["avg_factor"] + h["avg_eps"]
    return {"total": (h["beta"] * inter + h["gamma"] * intra) * h["temperature"] ** 2 * h["loss_weight"] / ends}


def head(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """Anchor by anchor: where it lies in the maps, its scores, its four sides."""
    _, classes, height, width = x["cls_score"].shape
    bins = h["reg_max"] + 1
    places = [i for i, y in enumerate(x["labels"].tolist()) if 0 <= y < classes]
    at = [(i // (height * width), i % (height * width) // width, i % width) for i in places]

    def taken(name: str, size: int) -> Tensor:
        rows = [x[name][i, :, r, c].reshape(-1, size) for i, r, c in at]
        return torch.cat(rows) if rows else x[name].sum() * torch.zeros(0, size)

    s, t = taken("bbox_pred", bins), taken("teacher_bbox_pred", bins).detach()
    scores = taken("cls_score", classes)
    weight = torch.stack([row.sigmoid().max() for row in scores.detach()]) if at else torch.zeros(0)
    far = []
    for i in places:
        left, top, right, bottom = x["anchors"].reshape(-1, 4)[i].tolist()
        middle = ((left + right) / 2, (top + bottom) / 2)
        a, b, c, d = x["bbox_targets"][i].tolist()
        away = (middle[0] - a, middle[1] - b, c - middle[0], d - middle[1])
        far += [min(max(v / h["stride"], 0.0), h["reg_max"] - 0.1) for v in away]
    corners = torch.tensor(far, dtype=torch.float64)
    rows = pieces(h["kind"], h, s, t, corners.floor().long())["total"]
    if h["avg_mode"] == "mean":
        total = mean(rows) / 4
    else:
        total = (rows * weight.repeat_interleave(4)).sum() / ENDS / max(1.0, float(weight.sum()))
    again = h["cls_kd"]
    named = again["loss_weight"] * mean(kd(scores, taken("teacher_cls_score", classes), again["temperature"]))
    return {
        "total": h["loss_weight"] * total,
        "cls_kd": named,
        "weight_sum": weight.sum().double(),
        "target_corners": corners,
        "positive": torch.tensor(places),
        "row_weight": weight,
    }


ROWS: dict[str, Callable[[Hyper, Inputs], dict[str, Tensor]]] = {
    "RoIDKD": regions("dkd"),
    "RoIGDKD": regions("gdkd"),
    "RoIGDKD3": regions("gdkd3"),
    "RoIGDKDS": both,
    "BoxKD": box("kd"),
    "BoxKD-LD": box("kd", part=0.0),
    "BoxDKD": box("dkd"),
    "BoxGDKD": box("gdkd"),
    "BoxDISTMod": box("dist"),
    "BoxDIST": box_dist,
    "BoxHead": head,
}
