"""Named properties of losses: each function passes or raises an AssertionError that says what does not hold.

``components`` is a function of rows that returns named ``[n]`` values, such as
``lambda lg: method.components(lg, progress)``; ``loss`` is a function of rows that returns a scalar. Properties hold
for every view of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..rows import Logits, chunked
from .inputs import each_view, students, views, with_labels, with_leaf_students, with_students

Components = Callable[[Logits], Mapping[str, Tensor]]
Loss = Callable[[Logits], Tensor]


def require(holds: bool, message: str) -> None:
    """An AssertionError with this message unless it holds; also under ``python -O``."""
    if not holds:
        raise AssertionError(message)


def refused(make: Callable[[], object], *words: str) -> None:
    """A ValueError whose message has these words."""
    try:
        make()
    except ValueError as error:
        missing = [word for word in words if word not in str(error)]
        require(not missing, f"the message {str(error)!r} does not say {missing}")
        return
    raise AssertionError(f"nothing was refused; expected a ValueError that says {list(words)}")


def assert_equal(a: Tensor, b: Tensor, what: str = "", rtol: float = 1e-10) -> None:
    """Equal up to rounding, relative to the largest entry (at least 1)."""
    require(a.shape == b.shape, f"{what}: shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if a.numel():
        scale = max(1.0, float(b.detach().abs().max()))
        error = float((a - b).detach().abs().max())
        require(error <= rtol * scale, f"{what}: differ by {error:.3e}, scale {scale:.3e}")


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor], rtol: float = 1e-10) -> None:
    """Equal components under equal names."""
    require(list(a) == list(b), f"components {list(a)} and {list(b)}")
    for name in a:
        assert_equal(a[name], b[name], name, rtol)


def assert_shift_invariant(components: Components, lg: Logits) -> None:
    """Adding a constant per row to the student's or a teacher's logits changes nothing."""
    expected = components(lg)
    assert_same(components(transformed(lg, student=lambda z: z + _shifts(z))), expected)
    assert_same(components(transformed(lg, teacher=lambda z: z - 2 * _shifts(z))), expected)


def assert_class_permutation_invariant(components: Components, lg: Logits) -> None:
    """Renaming the classes changes nothing (inputs without ties).

    A cycle of all classes and a swap of two of them make every permutation.
    """
    expected, cycle = components(lg), torch.arange(lg.classes).roll(1)
    for order in (cycle, torch.cat([cycle[1:2], cycle[:1], cycle[2:]])):
        assert_same(components(_renamed(lg, order)), expected)


def assert_rows_independent(components: Components, lg: Logits) -> None:
    """A row's value depends on that row alone: rows may be reordered and left out."""
    keep = torch.arange(lg.rows - 1, -1, -3)
    whole = components(lg)
    assert_same(components(lg[keep]), {name: x[keep] for name, x in whole.items()})


def assert_equal_in_chunks(components: Components, lg: Logits, size: int = 2) -> None:
    """Evaluating the rows piece by piece gives the same rows."""
    assert_same(chunked(lambda part: dict(components(part)), lg, size), components(lg))


def assert_zero_at_teacher(components: Components, lg: Logits, names: Iterable[str]) -> None:
    """The named components and their gradients vanish where the student equals every teacher."""
    agreeing = with_leaf_students(transformed(lg, student_is_teacher=True))
    rows = components(agreeing)
    for name in names:
        assert_equal(rows[name], torch.zeros_like(rows[name]), f"{name} at the teacher")
        for grad in student_gradients(rows[name].sum(), agreeing):
            assert_equal(grad, torch.zeros_like(grad), f"gradient of {name} at the teacher", 1e-8)


def assert_no_teacher_gradient(components: Components, lg: Logits) -> None:
    """No gradient reaches a teacher's logits, nor those that rank the classes, even if they ask for one."""
    asking: list[Tensor] = []

    def ask(view: Logits) -> Logits:
        first, rank, *others = (t.clone().requires_grad_() for t in (view.teacher, view.rank_by, *view.teachers))
        asking.extend((first, rank, *others))
        return replace(view, teacher=first, ranking=rank, teachers=tuple(others))

    rows = components(with_leaf_students(each_view(lg, ask)))
    total = torch.stack([x.sum() for x in rows.values()]).sum()
    found = torch.autograd.grad(total, asking, allow_unused=True)
    require(all(g is None for g in found), "a gradient reached a teacher's logits")


def assert_finite(components: Components, lg: Logits) -> None:
    """Every value and every gradient is finite."""
    lg = with_leaf_students(lg)
    for name, x in components(lg).items():
        require(bool(x.isfinite().all()), f"{name} is not finite: {x}")
        for grad in student_gradients(x.sum(), lg):
            require(bool(grad.isfinite().all()), f"the gradient of {name} is not finite: {grad}")


def assert_gradcheck(components: Components, lg: Logits, *, fast: bool = False) -> None:
    """Gradients of the sum of each component agree with finite differences (float64 rows).

    Every entry is compared, or one random direction of all entries if ``fast``.
    """
    leaves = [z.detach().clone().requires_grad_() for z in students(lg)]
    names = list(components(lg))

    def sums(*logits: Tensor) -> tuple[Tensor, ...]:
        rows = components(with_students(lg, logits))
        return tuple(rows[name].sum() for name in names)

    require(torch.autograd.gradcheck(sums, leaves, fast_mode=fast), "gradients differ from finite differences")


def assert_rows_of_weight_zero_are_not_there(loss: Loss, lg: Logits, keep: Tensor) -> None:
    """Rows of weight 0 and rows that are left out are the same."""
    assert_equal(loss(weighted(lg, keep.to(lg.student.dtype))), loss(lg[keep]), "rows of weight 0")


def assert_empty_batch_is_zero(loss: Loss, lg: Logits) -> None:
    """Without rows the loss is 0, and a backward pass through it works."""
    empty = with_leaf_students(lg[:0])
    value = loss(empty)
    require(value.shape == () and float(value.detach()) == 0.0, f"the loss of no rows is {value}, not 0")
    value.backward()
    require(empty.student.grad is not None, "the loss of no rows has no graph")


def assert_compiles_like_eager(
    components: Components, lg: Logits, backend: str = "aot_eager", rtol: float = 1e-10
) -> None:
    """torch.compile without graph breaks gives the same values and gradients."""
    torch.compiler.reset()
    compiled = torch.compile(components, backend=backend, fullgraph=True)
    eager_rows, compiled_rows = with_leaf_students(lg), with_leaf_students(lg)
    a, b = components(eager_rows), compiled(compiled_rows)
    assert_same(b, a, rtol)
    for name in a:
        pairs = (student_gradients(x[name].sum(), z) for x, z in ((b, compiled_rows), (a, eager_rows)))
        for left, right in zip(*pairs, strict=True):
            assert_equal(left, right, f"gradient of {name}", rtol)


# -- changing rows ---------------------------------------------------------------------------


def transformed(
    lg: Logits,
    *,
    student: Callable[[Tensor], Tensor] | None = None,
    teacher: Callable[[Tensor], Tensor] | None = None,
    student_is_teacher: bool = False,
) -> Logits:
    """The rows with their logits changed, in every view; ``student_is_teacher`` makes all networks one."""

    def change(view: Logits) -> Logits:
        if student_is_teacher:
            return replace(view, student=view.teacher, teachers=tuple(view.teacher for _ in view.teachers))
        own = view.student if student is None else student(view.student)
        first, *others = (t if teacher is None else teacher(t) for t in (view.teacher, *view.teachers))
        return replace(view, student=own, teacher=first, teachers=tuple(others))

    return each_view(lg, change)


def weighted(lg: Logits, weight: Tensor) -> Logits:
    """The rows with these weights."""
    return replace(lg, weight=weight)


def student_gradients(value: Tensor, lg: Logits) -> list[Tensor]:
    """d value / d student of every view; zeros where there is no dependence."""
    leaves = [view.student for view in views(lg)]
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    grads = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(z) if g is None else g for z, g in zip(leaves, grads, strict=True)]


def _shifts(z: Tensor) -> Tensor:
    return torch.linspace(-3, 5, len(z), dtype=z.dtype)[:, None]


def _renamed(lg: Logits, order: Tensor) -> Logits:
    renamed = transformed(lg, student=lambda z: z[:, order], teacher=lambda z: z[:, order])
    return with_labels(renamed, lg.target[:, order] if lg.soft else order.argsort()[lg.target])
