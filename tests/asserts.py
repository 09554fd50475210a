"""Named properties of losses and methods; a test that calls one reads as a theorem.

``components`` is a function of rows that returns named ``[n]`` values, such as
``lambda lg: method.components(lg, progress)``; ``loss`` is a function of rows that returns a scalar.
Properties hold for every view of the rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fractionate import Logits
from fractionate.losses.split import Split
from fractionate.rows import chunked, pixels
from tests.reference.basics import kd

Components = Callable[[Logits], Mapping[str, Tensor]]
Loss = Callable[[Logits], Tensor]


def assert_equal(a: Tensor, b: Tensor, what: str = "", rtol: float = 1e-10) -> None:
    """Equal up to rounding, relative to the largest entry (at least 1)."""
    assert a.shape == b.shape, f"{what}: shapes {tuple(a.shape)} and {tuple(b.shape)}"
    if a.numel():
        scale = max(1.0, float(b.detach().abs().max()))
        error = float((a - b).detach().abs().max())
        assert error <= rtol * scale, f"{what}: differ by {error:.3e}, scale {scale:.3e}"


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor], rtol: float = 1e-10) -> None:
    """Equal components under equal names."""
    assert list(a) == list(b)
    for name in a:
        assert_equal(a[name], b[name], name, rtol)


def assert_chain_rule(split: Split, student: Tensor, teacher: Tensor) -> None:
    """between + sum over groups of mass * within = T^2 KL(teacher || student)."""
    expected = kd(student, teacher, split.temperature)
    assert_equal(split.between + (split.mass * split.within).sum(1), expected, "chain rule")
    assert_equal(split.mass.sum(1), torch.ones_like(expected), "total mass")


def assert_shift_invariant(components: Components, lg: Logits) -> None:
    """Adding a constant per row to the student's or the teacher's logits changes nothing."""
    shift = torch.linspace(-3, 5, lg.rows, dtype=lg.student.dtype)[:, None]
    expected = components(lg)
    assert_same(components(transformed(lg, student=lambda z: z + shift)), expected)
    assert_same(components(transformed(lg, teacher=lambda z: z - 2 * shift)), expected)


def assert_class_permutation_invariant(components: Components, lg: Logits) -> None:
    """Renaming the classes changes nothing (inputs without ties)."""
    classes, expected = torch.arange(lg.classes), components(lg)
    for order in (classes.roll(1), classes.flip(0)):
        renamed = transformed(lg, student=lambda z, o=order: z[:, o], teacher=lambda z, o=order: z[:, o])
        target = lg.target[:, order] if lg.soft else order.argsort()[lg.target]
        assert_same(components(with_target(renamed, target)), expected)


def assert_rows_independent(components: Components, lg: Logits) -> None:
    """A row's value depends on that row alone: rows may be reordered and left out."""
    keep = torch.arange(lg.rows - 1, -1, -2)
    whole = components(lg)
    assert_same(components(lg[keep]), {name: x[keep] for name, x in whole.items()})


def assert_zero_at_teacher(components: Components, lg: Logits, names: Iterable[str]) -> None:
    """The named components and their gradients vanish where the student equals the teacher."""
    agreeing = with_leaf_students(transformed(lg, student_is_teacher=True))
    rows = components(agreeing)
    for name in names:
        assert_equal(rows[name], torch.zeros_like(rows[name]), f"{name} at the teacher")
        for grad in student_gradients(rows[name].sum(), agreeing):
            assert_equal(grad, torch.zeros_like(grad), f"gradient of {name} at the teacher", 1e-8)


def assert_no_teacher_gradient(components: Components, lg: Logits) -> None:
    """No gradient reaches the teacher's logits, even if they ask for one."""
    teacher = lg.teacher.clone().requires_grad_()
    strong = None
    if lg.strong is not None:
        strong = replace(lg.strong, teacher=lg.strong.teacher.clone().requires_grad_())
    rows = components(with_leaf_students(replace(lg, teacher=teacher, strong=strong)))
    total = sum(x.sum() for x in rows.values())
    assert torch.autograd.grad(total, teacher, allow_unused=True) == (None,)


def assert_finite(components: Components, lg: Logits) -> None:
    """Every value and every gradient is finite."""
    lg = with_leaf_students(lg)
    for name, x in components(lg).items():
        assert bool(x.isfinite().all()), f"{name}: {x}"
        for grad in student_gradients(x.sum(), lg):
            assert bool(grad.isfinite().all()), f"gradient of {name}: {grad}"


def assert_equal_in_chunks(components: Components, lg: Logits, size: int = 2) -> None:
    """Evaluating the rows piece by piece gives the same rows."""
    assert_same(chunked(lambda part: dict(components(part)), lg, size), components(lg))


def assert_gradcheck(components: Components, lg: Logits) -> None:
    """Gradients of the sum of each component agree with finite differences in float64."""
    views = [lg.student] if lg.strong is None else [lg.student, lg.strong.student]
    leaves = [z.detach().double().clone().requires_grad_() for z in views]
    names = list(components(lg))

    def sums(*students: Tensor) -> tuple[Tensor, ...]:
        strong = None if lg.strong is None else replace(lg.strong, student=students[1])
        rows = components(replace(lg, student=students[0], strong=strong))
        return tuple(rows[name].sum() for name in names)

    assert torch.autograd.gradcheck(sums, leaves)


def assert_ignored_rows_equal_dropped(loss: Loss, lg: Logits, keep: Tensor) -> None:
    """Pixels with the ignore label, rows of weight 0 and rows that are not there are all the same."""
    expected = loss(replace(lg[keep], strong=None))
    as_pixels = (z.T[None, :, None] for z in (lg.student, lg.teacher))
    target = lg.target.where(keep, 255)[None, None]
    assert_equal(loss(pixels(*as_pixels, target)), expected, "ignored pixels")
    weighted = replace(lg, weight=keep.to(lg.student.dtype), strong=None)
    assert_equal(loss(weighted), expected, "rows of weight 0")


def assert_empty_batch_is_zero(loss: Loss, lg: Logits) -> None:
    """Without rows the loss is 0, and a backward pass through it works."""
    empty = with_leaf_students(lg[:0])
    value = loss(empty)
    assert value.shape == ()
    assert float(value.detach()) == 0.0
    value.backward()
    assert empty.student.grad.shape == (0, lg.classes)


def assert_compiles_like_eager(
    components: Components, lg: Logits, backend: str = "aot_eager", rtol: float = 1e-10
) -> None:
    """torch.compile without graph breaks gives the same values and gradients.

    Only in tests marked ``compiled``: the shape checks of the other tests cannot be compiled.
    """
    off = os.environ.get("FRACTIONATE_SHAPE_CHECKS") == "off"
    assert off, "mark this test with pytest.mark.compiled"
    torch.compiler.reset()
    compiled = torch.compile(components, backend=backend, fullgraph=True)
    eager_rows, compiled_rows = with_leaf_students(lg), with_leaf_students(lg)
    a, b = components(eager_rows), compiled(compiled_rows)
    assert_same(b, a, rtol)
    for name in a:
        pairs = (student_gradients(x[name].sum(), z) for x, z in ((b, compiled_rows), (a, eager_rows)))
        for left, right in zip(*pairs, strict=True):
            assert_equal(left, right, f"gradient of {name}", rtol)


# -- making inputs ---------------------------------------------------------------------------


def transformed(
    lg: Logits,
    *,
    student: Callable[[Tensor], Tensor] | None = None,
    teacher: Callable[[Tensor], Tensor] | None = None,
    student_is_teacher: bool = False,
) -> Logits:
    """The rows with their logits changed, in every view."""
    s, t = lg.student, lg.teacher
    strong = lg.strong
    if strong is not None:
        strong = transformed(strong, student=student, teacher=teacher, student_is_teacher=student_is_teacher)
    new_student = t if student_is_teacher else s if student is None else student(s)
    return replace(lg, student=new_student, teacher=t if teacher is None else teacher(t), strong=strong)


def with_target(lg: Logits, target: Tensor) -> Logits:
    strong = None if lg.strong is None else with_target(lg.strong, target)
    return replace(lg, target=target, strong=strong)


def with_leaf_students(lg: Logits) -> Logits:
    """Fresh leaves that record gradients in the place of the students' logits."""
    strong = None if lg.strong is None else with_leaf_students(lg.strong)
    return replace(lg, student=lg.student.detach().clone().requires_grad_(), strong=strong)


def student_gradients(value: Tensor, lg: Logits) -> list[Tensor]:
    """d value / d student of every view; zeros where there is no dependence."""
    leaves = [lg.student] if lg.strong is None else [lg.student, lg.strong.student]
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    grads = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(z) if g is None else g for z, g in zip(leaves, grads, strict=True)]
