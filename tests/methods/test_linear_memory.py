"""The linear path never holds [tokens, vocabulary] logits: measured in fresh processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.linear import Case, measured

# 32 MiB of float32 logits, 256 KiB per chunk: what is no logits (allocator, threads) stays far below one tensor.
SIZES = {"tokens": 1024, "classes": 8192, "width": 8, "chunk": 8}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak memory from Linux's /proc"),
]


@pytest.mark.parametrize("path", ["linear", "linear-top"])
@pytest.mark.parametrize("method", ["gdkd", "dot(gdkd)", "kd(reverse)", "kd(jsd)"])
def test_extra_memory_stays_well_below_one_tensor_of_logits(path: str, method: str) -> None:
    assert measured(Case(path, method, **SIZES)).tensors < 0.5


def test_the_plain_path_needs_several_tensors_of_logits() -> None:
    """So the measurement sees what it should."""
    assert measured(Case("logits", "gdkd", **SIZES)).tensors > 3
