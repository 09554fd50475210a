"""The example with a sharded transformer learns what the whole one learns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.asserts import assert_equal
from tests.distributed.sharded import ON_CPU
from tests.examples.launched import launch

pytestmark = [pytest.mark.slow, ON_CPU]


def test_two_processes_hold_half_of_the_weights_each_and_end_where_one_ends(alone, tmp_path: Path) -> None:
    expected, found = alone("fsdp"), launch("fsdp", 2, tmp_path)
    assert expected["agreed"] > 0.7
    assert sum(each["held"] for each in found) == expected["held"]
    assert max(each["held"] for each in found) < 0.6 * expected["held"]
    for each in found:
        assert each["agreed"] == expected["agreed"]
        for name, value in expected["student"].items():
            assert_equal(each["student"][name], value, name, rtol=1e-10)
        for i, streams in expected["optimizer"]["state"].items():
            assert each["optimizer"]["state"][i].keys() == streams.keys()
