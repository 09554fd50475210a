"""Wrappers around the rows of a method: regions of an image (SDD), another view, further losses such as hints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import Tensor

from .._choices import choose, unknown
from .._typing import Float
from ..kernels import widen
from ..losses import region_weights
from ..rows import Logits, Progress
from ..schedules import Schedule, as_schedule, times
from .arguments import Role, check_count, check_numbers, preset
from .method import Method, Part, Rows
from .streams import Stream
from .terms import Components, Terms, around


@preset
def sdd(method: Method, *, scales: Sequence[int] = (1, 2, 4)) -> Method:
    """Scale-decoupled distillation: the terms of a method on every region of the image, at several scales.

    term_i = (1 / r) sum over the r regions of row i of w term_ij, with w = 2 where exactly one of the teacher's global
    and regional predictions is right, else 1

    The rows must bring the logits of their regions: ``Logits(..., regions=...)``, for example from
    ``fractionate.losses.with_regions``, which pools the feature maps and applies the linear heads.

    Args:
        method: any one-view method: kd, dkd, nkd, ... A swap belongs inside, or every region counts as right.
        scales: sizes of the grids of regions, the whole image (1) first; r is the sum of their squares.

    Returns:
        Method with the components, weights and streams of ``method``; it needs hard labels.

    Raises:
        ValueError: scales that do not begin with 1, a two-view method, rows without regions.

    Source: arXiv 2403.13512 and shicaiwei123/SDD-CVPR2024; the scales are given on the command line there, (1, 2, 4) is
    the choice of this package.

    Map: rows twice where one view of the teacher errs; logits of regions

    Example:
        >>> import torch, fractionate as fr
        >>> regions = fr.Logits(torch.randn(10, 7), torch.randn(10, 7), torch.tensor([3] * 5 + [4] * 5))
        >>> lg = fr.Logits(torch.randn(2, 7), torch.randn(2, 7), torch.tensor([3, 4]), regions=regions)
        >>> fr.methods.sdd(fr.methods.kd(), scales=(1, 2)).components(lg)["kd"].shape
        torch.Size([2])
    """
    grids = tuple(scales)
    for size in grids:
        check_count("sdd", "scales", size, 1)
    if not grids or grids[0] != 1:
        raise ValueError(f"sdd: scales must begin with 1, the whole image, got {list(grids)}")
    if method.views != 1:
        raise ValueError(f"sdd: regions have one view, {method.name} needs {method.views}")
    count = sum(size * size for size in grids)

    def wrap(inner: Method) -> Method:
        return around(
            inner,
            partial(_of_regions, count=count),
            name=f"{inner.name}+sdd",
            needs_labels=True,
            regions=grids,
            twin=None if inner.twin is None else wrap(inner.twin),
        )

    return wrap(method)


View = Literal["weak", "strong", "token"]
VIEWS: tuple[View, ...] = ("weak", "strong", "token")


@preset
def on_view(
    method: Method,
    *,
    distillation: View = "strong",
    task: View = "weak",
    components: Mapping[str, View] | None = None,
) -> Method:
    """A method whose distillation reads another view of the images, or another head, than the label loss.

    L = ce_weight CE(view of task) + sum_c weight_c mean x_c(view of c)

    Args:
        method: any one-view method.
        distillation: view that its terms read: ``"weak"``, the rows themselves; ``"strong"``, ``Logits.strong``; or
            ``"token"``, ``Logits.token``, the student's distillation token (:func:`deit`).
        task: view that the cross-entropy reads.
        components: views of single components, where they differ from ``distillation``.

    Returns:
        Method with the components, weights, roles and streams of ``method``; it needs the
        views that are read. With ``components`` it
        has no decoupled twin, so ``deepkd`` works where ``method`` itself has roles.

    Raises:
        ValueError: a method that reads several views already or regions, an unknown view or component.

    Source: this package; distilling on the strong view alone is done by several recipes without a name.

    Map: logits of another view

    Note:
        Both views pass through both networks, whichever is read; a token costs its head alone.
        A method of two views (:func:`mlkd`, :func:`crld`,
        :func:`sld`) says itself which it reads.

    Example:
        >>> import torch, fractionate as fr
        >>> views = [fr.Logits(torch.randn(2, 5), torch.randn(2, 5), torch.tensor([0, 1])) for _ in range(2)]
        >>> lg = fr.Logits(views[0].student, views[0].teacher, views[0].target, strong=views[1])
        >>> rows = fr.methods.on_view(fr.methods.kd()).components(lg)
        >>> bool(torch.equal(rows["kd"], fr.methods.kd().components(views[1])["kd"]))
        True
    """
    if method.views != 1 or method.token:
        raise ValueError(f"on_view: {method.name} has several views and says itself which it reads")
    if method.regions:
        raise ValueError(f"on_view: regions have one view, and {method.name} needs them")
    read = {distillation, task, *(components or {}).values()}
    for view in read:
        choose("view", view, VIEWS)
    for name in components or {}:
        choose(f"component of {method.name}", name, [c for c in method.parts if c != "task"])

    def wrap(inner: Method) -> Method:
        return around(
            inner,
            partial(_of_views, usual=distillation, single=dict(components or {})),
            name=f"{inner.name}+on_view",
            task=OnView(inner.task, task),
            views=2 if "strong" in read else 1,
            token="token" in read,
            twin=None if inner.twin is None or components else wrap(inner.twin),
        )

    return wrap(method)


@dataclass(frozen=True, eq=False)
class OnView:
    """The cross-entropy of one of the views."""

    task: Rows
    view: View

    def __call__(self, lg: Logits, progress: Progress) -> Float[Tensor, " n"]:
        """Per row."""
        return self.task(_seen(lg, self.view), progress)


def _seen(lg: Logits, view: View) -> Logits:
    """The rows of a view, with the weights of the rows, and their further losses where the view has none of its own."""
    seen = {"weak": None, "strong": lg.strong, "token": lg.token}[view]
    if seen is None:
        return replace(lg, strong=None, token=None)
    return replace(seen, weight=lg.weight, extra={**lg.extra, **seen.extra})


def _of_views(inner: Terms, lg: Logits, progress: Progress, usual: View, single: Mapping[str, View]) -> Components:
    seen = {view: inner(_seen(lg, view), progress) for view in {usual: None, **dict.fromkeys(single.values())}}
    return {name: seen[single.get(name, usual)][name] for name in seen[usual]}


@preset
def with_extra(
    method: Method,
    *,
    name: str = "hint",
    weight: float | Schedule = 1.0,
    shift: float = 0.0,
    role: Role | None = None,
) -> Method:
    """Any further loss per row as a component: in a stream with its own momentum, or in that of a role.

    L = L(method) + weight mean x, with x = ``Logits.extra[name]``

    Args:
        method: any method. Without a role, put ``deepkd`` inside: ``with_extra(deepkd(m))``.
        name: key of ``Logits.extra`` and name of the component.
        weight: number or schedule; over ``reweighted`` an extra with a role takes the gain of that role's stream too.
        shift: momentum shift of the stream ``name``, for an extra without a role.
        role: ``"task"``, ``"target"`` or ``"nontarget"``: the extra joins the stream of this role, also under a
            ``deepkd`` around it; ``None`` gives it a stream of its own.

    Returns:
        Method with one more component, ``name``.

    Raises:
        ValueError: a name that is taken, a role together with a shift, rows without this extra, or no role over
            ``deepkd(rule="published-code")``, whose update is defined for three streams.

    Source: this package; a hint on features is the loss of arXiv 1412.6550.

    Map: stream one of its own; logits none, a further loss

    Example:
        >>> import torch, fractionate as fr
        >>> m = fr.methods.with_extra(fr.methods.kd(), name="hint", weight=0.5, shift=0.25)
        >>> gap = torch.randn(4, 16).square().mean(1)
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]), extra={"hint": gap})
        >>> bool(torch.isclose(m.stream_losses(lg)["hint"], 0.5 * gap.mean())), dict(m.momenta(0.5))
        (True, {'loss': 0.5, 'hint': 0.75})
    """
    check_numbers("with_extra", shift=shift)
    if not callable(weight):
        check_numbers("with_extra", weight=weight)
    if role is not None:
        choose("with_extra role", role, ("task", "target", "nontarget"))
        if shift:
            raise ValueError(f"with_extra: an extra with a role has the momentum of its stream, got shift={shift}")
    if name in {*method.parts, *(s.name for s in method.streams)}:
        raise ValueError(f"with_extra: {method.name} already has a component or stream {name!r}, choose another name")
    if role is None and method.update.sequence:
        raise ValueError(
            f"with_extra: {method.name} moves its streams one after the other (rule 'published-code'), which is "
            f"defined for three streams only; give the extra a role, or use rule='paper'"
        )

    def wrap(inner: Method) -> Method:
        gain = inner.update.carried.get(role or "")
        part = Part(as_schedule(weight) if gain is None else times(as_schedule(weight), gain), role)
        return around(
            inner,
            partial(_with_extra, name=name),
            name=f"{inner.name}+{name}",
            parts={**inner.parts, name: part},
            streams=_streams(inner, name, shift, role),
            twin=None if inner.twin is None else wrap(inner.twin),
        )

    return wrap(method)


def _streams(method: Method, name: str, shift: float, role: Role | None) -> tuple[Stream, ...]:
    if role is None:
        return (*method.streams, Stream(name, (name,), shift))
    home = [s for s in method.streams if any(method.parts[c].role == role for c in s.components)]
    joined = home[0] if home else method.streams[0 if role == "task" else -1]
    return tuple(replace(s, components=(*s.components, name)) if s is joined else s for s in method.streams)


def _of_regions(inner: Terms, lg: Logits, progress: Progress, count: int) -> Components:
    weights = region_weights(lg, count)
    assert lg.regions is not None  # region_weights refused rows without them
    rows = inner(lg.regions, progress)
    return {name: (weights * x.view(lg.rows, count)).mean(1) for name, x in rows.items()}


def _with_extra(inner: Terms, lg: Logits, progress: Progress, name: str) -> Components:
    if name not in lg.extra:
        raise ValueError(f"with_extra: {unknown('entry of Logits.extra', name, lg.extra)}")
    return {**inner(lg, progress), name: widen(lg.extra[name])}
