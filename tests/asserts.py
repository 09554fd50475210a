"""Named properties of losses and methods; a test that calls one reads as a theorem.

Those a stranger can use as well are public, in ``fractionate.testing.properties``; here are the ones that need the slow
twins or the shape checks of the tests.
"""

from __future__ import annotations

import os
from dataclasses import replace

from torch import Tensor

from fractionate import Logits
from fractionate.losses.split import Split
from fractionate.rows import pixels
from fractionate.testing import properties
from fractionate.testing.inputs import with_labels as with_target
from fractionate.testing.inputs import with_leaf_students
from fractionate.testing.properties import (
    Components,
    Loss,
    assert_class_permutation_invariant,
    assert_empty_batch_is_zero,
    assert_equal,
    assert_equal_in_chunks,
    assert_finite,
    assert_gradcheck,
    assert_no_teacher_gradient,
    assert_rows_independent,
    assert_rows_of_weight_zero_are_not_there,
    assert_same,
    assert_shift_invariant,
    assert_zero_at_teacher,
    student_gradients,
    transformed,
    weighted,
)
from tests.reference.basics import kd

__all__ = [
    "Components",
    "assert_chain_rule",
    "assert_class_permutation_invariant",
    "assert_compiles_like_eager",
    "assert_empty_batch_is_zero",
    "assert_equal",
    "assert_equal_in_chunks",
    "assert_finite",
    "assert_gradcheck",
    "assert_ignored_rows_equal_dropped",
    "assert_no_teacher_gradient",
    "assert_rows_independent",
    "assert_same",
    "assert_shift_invariant",
    "assert_zero_at_teacher",
    "student_gradients",
    "transformed",
    "weighted",
    "with_leaf_students",
    "with_target",
]


def assert_chain_rule(split: Split, student: Tensor, teacher: Tensor) -> None:
    """between + sum over groups of mass * within = T^2 KL(teacher || student)."""
    expected = kd(student, teacher, split.temperature)
    assert_equal(split.between + (split.mass * split.within).sum(1), expected, "chain rule")
    assert_equal(split.mass.sum(1), expected.new_ones(len(expected)), "total mass")


def assert_ignored_rows_equal_dropped(loss: Loss, lg: Logits, keep: Tensor) -> None:
    """Pixels with the ignore label, rows of weight 0 and rows that are not there are all the same."""
    lg = replace(lg, strong=None)
    as_pixels = (z.T[None, :, None] for z in (lg.student, lg.teacher))
    assert_equal(loss(pixels(*as_pixels, lg.target.where(keep, 255)[None, None])), loss(lg[keep]), "ignored pixels")
    assert_rows_of_weight_zero_are_not_there(loss, lg, keep)


def assert_compiles_like_eager(
    components: Components, lg: Logits, backend: str = "aot_eager", rtol: float = 1e-10
) -> None:
    """torch.compile without graph breaks gives the same values and gradients.

    Only in tests marked ``compiled``: the shape checks of the other tests cannot be compiled.
    """
    off = os.environ.get("FRACTIONATE_SHAPE_CHECKS") == "off"
    assert off, "mark this test with pytest.mark.compiled"
    properties.assert_compiles_like_eager(components, lg, backend, rtol)
