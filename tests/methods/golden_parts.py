"""What the rows of the golden tables share: rows of one or two views, terms with and without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method, Progress

Hyper = Mapping[str, Any]
Inputs = Mapping[str, Tensor]
Row = Callable[[Hyper, Inputs], dict[str, Tensor]]
Names = Mapping[str, str]  # golden term -> component or stream

TCKD_NCKD = {"tckd": "target", "nckd": "nontarget"}
HIGH_TOP_OTHER = {"high": "between", "top": "top", "other": "other"}


def one_view(x: Inputs) -> Logits:
    return Logits(x["student"], x["teacher"], x["target"])


def two_views(x: Inputs) -> Logits:
    strong = Logits(x["student_strong"], x["teacher_strong"], x["target"])
    return Logits(x["student_weak"], x["teacher_weak"], x["target"], strong=strong)


def unweighted(method: Method, names: Names, lg: Logits, at: Progress) -> dict[str, Tensor]:
    """Terms are plain means of components; the total carries weights and warm-up."""
    rows = method.components(lg, at)
    terms = {golden: rows[component].mean() for golden, component in names.items()}
    return {**terms, "total": method.loss(lg, at)}


def weighted(method: Method, names: Mapping[str, tuple[str, ...]], lg: Logits, at: Progress) -> dict[str, Tensor]:
    """Terms carry weights and warm-up, and may be sums of components."""
    rows = method.components(lg, at)
    terms = {golden: sum(method.parts[c].weight(at) * rows[c].mean() for c in parts) for golden, parts in names.items()}
    return {**terms, "total": method.loss(lg, at)}


def streamed(method: Method, names: Names, lg: Logits, at: Progress) -> dict[str, Tensor]:
    """Terms are the gradient streams, kept apart."""
    losses = method.stream_losses(lg, at, merge=False)
    terms = {golden: losses[stream] for golden, stream in names.items()}
    return {**terms, "total": method.loss(lg, at)}


def standardized(method: Method, h: Hyper) -> Method:
    """The method on z-scored logits where the case asks for it; weights and temperature stay."""
    return fr.methods.lskd(method, temperature=None, weight=1.0) if h.get("logit_stand") else method
