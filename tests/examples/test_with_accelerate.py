"""A Accelerate loop on two processes makes the steps of one process with the same global batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.asserts import assert_equal
from tests.examples.launched import launch

pytest.importorskip("accelerate", reason="the example is a loop of Accelerate's: pip install accelerate")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]


def test_two_processes_end_with_equal_weights_which_are_those_of_one(alone, tmp_path: Path) -> None:
    expected, (first, second) = alone("with_accelerate"), launch("with_accelerate", 2, tmp_path)
    assert expected.keys() == first.keys() == second.keys()
    for name, value in expected.items():
        assert (first[name] == second[name]).all()
        assert_equal(first[name], value, name, rtol=1e-12)
