"""Distillation through a token of a vision transformer (DeiT): the labels read one head, the teacher the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Unpack

import torch.nn.functional as F

from .._choices import choose
from ..kernels import widen
from ..rows import Logits, Progress
from .arguments import Common, check_not_negative, check_positive, with_common
from .kd import kd
from .method import Method, distillation
from .terms import Components, Terms, around
from .wrappers import on_view

Form = Literal["hard", "soft"]
FORMS: tuple[Form, ...] = ("hard", "soft")
Reduction = Literal["rows", "deit"]
REDUCTIONS: tuple[Reduction, ...] = ("rows", "deit")


@with_common(ce_weight=0.5)
def deit(
    *,
    form: Form = "hard",
    temperature: float = 1.0,
    weight: float = 0.5,
    reduction: Reduction = "rows",
    **common: Unpack[Common],
) -> Method:
    """Distillation through attention: a token of its own learns from the teacher, the class token from the labels.

    L = ce_weight CE(z^class) + weight W(e) mean x(z^token), with x = CE(z^token, argmax z^T) if hard, and
    x = T^2 KL(p^T || p^token) if soft

    The rows bring the logits of the token's head: ``Logits(..., token=Logits(z_token, z_teacher, target))``. A network
    whose training forward returns both (timm's ``deit_*_distilled_*``, or one of your own) is asked for them by the
    trainer; evaluated is what it returns in evaluation mode, the mean of both heads in timm.

    Args:
        form: ``"hard"``: the teacher's most likely class is a label; ``"soft"``: KL to its distribution.
        temperature: T of the soft form; the hard one reads none.
        weight: weight of ``hard`` or ``kd``.
        reduction: ``"rows"``: mean over the rows; ``"deit"``: of the soft form divided by the number of classes
            as well, as DeiT's code does, where 1000 classes make the term a thousand times smaller.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task`` and ``hard``, or ``task`` and ``kd`` in the soft form, which has KD's decoupled
        twin for ``deepkd``.

    Raises:
        ValueError: an unknown form or reduction, an argument out of range; rows without a token.

    Source: arXiv 2012.12877; T 1 and weights .5 and .5 are the defaults of its code (both weights 1 in timm).

    Note:
        In evaluation the heads are averaged, so a head that has learnt little drags the mean down: early in training,
        and wherever the teacher's term weighs next to nothing (``reduction="deit"`` with many classes). Any other
        method distils through the token as ``on_view(method, distillation="token")``.

    Map: partition whole; direction cross-entropy to the teacher's class if hard, forward if soft; logits of the token

    Example:
        >>> import torch, fractionate as fr
        >>> token = fr.Logits(torch.zeros(2, 4), 9 * torch.eye(4)[:2], torch.tensor([0, 1]))
        >>> lg = fr.Logits(torch.zeros(2, 4), token.teacher, token.target, token=token)
        >>> [round(float(x), 4) for x in fr.methods.deit().components(lg)["hard"]]  # ln 4
        [1.3863, 1.3863]
    """
    choose("deit form", form, FORMS)
    choose("deit reduction", reduction, REDUCTIONS)
    check_positive("deit", temperature=temperature)
    check_not_negative("deit", weight=weight)
    if form == "hard":
        if reduction == "deit":
            raise ValueError("deit: reduction='deit' belongs to the soft form; the hard one is a mean over rows")
        inner = distillation("deit", _to_the_teachers_class, {"hard": (weight, None)}, **common)
    else:
        soft = kd(temperature=temperature, kd_weight=weight, **common)
        inner = soft if reduction == "rows" else _divided(soft)
    return replace(on_view(inner, distillation="token"), name="deit")


def _to_the_teachers_class(lg: Logits, progress: Progress) -> Components:
    rows = F.cross_entropy(widen(lg.student), lg.teacher.argmax(1), reduction="none")
    return {"hard": rows}


def _divided(method: Method) -> Method:
    """The method, and its twin, with every component divided by the number of classes."""
    return around(method, _by_classes, twin=None if method.twin is None else _divided(method.twin))


def _by_classes(inner: Terms, lg: Logits, progress: Progress) -> Components:
    return {name: rows / lg.classes for name, rows in inner(lg, progress).items()}
