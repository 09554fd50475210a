"""SLD: teachers whose best class is exchanged with the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor

from .._choices import choose
from ..losses.soft import kl_rows
from ..losses.transforms import swap_target
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_count, check_not_negative, check_positive, preset
from .mapped import every_view, mapped
from .method import Method, Part, Task

Hard = Literal["error", "argmax"]


@preset
def swap(method: Method) -> Method:
    """Swapped teacher: where the teacher's best class is not the label, the two logits are exchanged.

    z^T_y <-> z^T_argmax in the distillation terms of any method

    The swapped teacher also ranks the classes, so that the label comes first in every partition.

    Args:
        method: any method; with two views, the teacher is swapped on both, with regions on all of them.

    Returns:
        Method with the components, weights and streams of ``method``; it needs hard labels.

    Source: arXiv 2504.20108 (the transform alone; the published loss is sld).

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[3.0, 0.0, 1.0]]), torch.tensor([2]))
        >>> fr.methods.swap(fr.methods.kd()).components(lg)["kd"]
        tensor([0.])
    """
    return mapped(
        method, every_view(_swapped), lambda inner: replace(inner, name=f"{inner.name}+swap", needs_labels=True)
    )


@preset
def sld(
    *,
    temperatures: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
    start_epoch: int = 150,
    detach: bool = True,
    views: Literal[1, 2] = 2,
    ce_weight: float = 1.0,
    kd_weight: float = 1.0,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Swapped logit distillation: KD to the swapped teacher and, late in training, to the swapped student itself.

    L = sum over both views of ce_weight CE + kd_weight W(e) sum over T of [ KD_T(z^S, swap(z^T)) + 1(e > start_epoch)
    KD_T(z^S, swap(z^S)) ]

    Args:
        temperatures: the temperatures T that are summed over.
        start_epoch: the student's own term begins after this epoch.
        detach: take the swapped student as a fixed target; ``False`` lets gradients through it, as published.
        views: 2 (weak and strong, as published) or 1.
        ce_weight: weight of the cross-entropy of each view.
        kd_weight: weight of ``kd`` and ``self_kd``.
        warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``kd`` (swapped teacher), ``self_kd`` (swapped student).

    Raises:
        ValueError: soft labels, no second view, an argument out of range.

    Source: arXiv 2504.20108; weights .1 and .9 on CIFAR-100, .5 and .5 on ImageNet.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[3.0, 0.0, 1.0]]), torch.tensor([2]))
        >>> m = fr.methods.sld(views=1)
        >>> [float(m.components(lg)[name]) for name in ("kd", "self_kd")]
        [0.0, 0.0]
    """
    _check(temperatures, start_epoch, views, kd_weight)
    check_common("sld", ce_weight, warmup, label_smoothing, hard)
    used = tuple(temperatures)

    def of_view(lg: Logits, late: bool) -> tuple[Tensor, Tensor]:
        aim = swap_target(lg.teacher, lg.labels)
        kd = _sum([kl_rows(lg.student, aim, t) for t in used])
        if not late:
            return kd, 0 * kd
        own = swap_target(lg.student, lg.labels)
        own = own.detach() if detach else own
        return kd, _sum([kl_rows(lg.student, own, t) for t in used])

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        late = progress.epoch > start_epoch
        kd, own = of_view(lg, late)
        if views == 2 and lg.strong is not None:
            strong = of_view(lg.strong, late)
            kd, own = kd + strong[0], own + strong[1]
        return {"kd": kd, "self_kd": own}

    return Method(
        name="sld",
        parts={
            "task": Part(constant(ce_weight), "task"),
            "kd": Part(warmup_to(kd_weight, warmup)),
            "self_kd": Part(warmup_to(kd_weight, warmup)),
        },
        terms=terms,
        task=Task(label_smoothing, views),
        needs_labels=True,
        hard=hard,
        views=views,
    )


def _swapped(lg: Logits) -> Logits:
    """The same rows with every teacher swapped, and ranked by it."""
    labels = lg.labels
    return replace(
        lg,
        teacher=swap_target(lg.teacher, labels),
        ranking=swap_target(lg.rank_by, labels),
        teachers=tuple(swap_target(t, labels) for t in lg.teachers),
    )


def _sum(rows: list[Tensor]) -> Tensor:
    return sum(rows[1:], rows[0])


def _check(temperatures: Sequence[float], start_epoch: int, views: int, kd_weight: float) -> None:
    if not temperatures:
        raise ValueError("sld: name at least one temperature")
    for value in temperatures:
        check_positive("sld", temperatures=value)
    check_count("sld", "start_epoch", start_epoch, 0)
    choose("sld option 'views'", str(views), ("1", "2"))
    check_not_negative("sld", kd_weight=kd_weight)
