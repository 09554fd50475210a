"""split_kl and the partitions under torch.compile, without graph breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

import fractionate as fr
from fractionate import Logits
from fractionate.kernels.plain import Partition
from tests import cases
from tests.asserts import assert_compiles_like_eager

pytestmark = pytest.mark.compiled


@pytest.mark.parametrize(
    "make",
    [fr.by_target, lambda lg: fr.by_top1_top(lg, 4), lambda lg: fr.by_target_top(lg, 3)],
    ids=["target", "top1-top", "target-top"],
)
def test_a_compiled_split_equals_the_eager_one(make: Callable[[Logits], Partition]) -> None:
    lg = cases.tied()

    def components(rows: Logits) -> dict[str, Tensor]:
        s = fr.split_kl(rows.student, rows.teacher, make(rows), 4.0)
        return {"between": s.between, "within": s.within.sum(1)}

    assert_compiles_like_eager(components, lg)
