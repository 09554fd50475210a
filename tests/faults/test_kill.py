"""SIGKILL at random moments loses nothing: the run that goes on ends with the bytes of the unbroken one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks.kill import PICTURES, kill_points

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork"),
]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dkd+deepkd(rule=published-code)", "ctkd"])
def test_a_killed_run_goes_on_to_the_same_bytes(method: str, tmp_path: Path) -> None:
    points = kill_points(method, 4, seed=0, folder=tmp_path, epochs=2)
    assert [p.equal for p in points] == [True] * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("table-lazy", "kd"),
        ("table-full", "dkd+deepkd(keep=phases(plateau=0.5))"),
        ("augmented", "mlkd"),
        ("mixup", "gdkd(k=3)"),
        ("folder", "dkd+dot"),
        ("loaded-0", "kd"),
        ("loaded-1", "dkd+deepkd"),
        ("loaded-3", "kd"),
        ("accumulated", "dkd+deepkd"),
        ("adamw", "dkd+deepkd"),
    ],
)
def test_so_does_a_run_on_every_path_of_data_and_teacher(path: str, method: str, tmp_path: Path) -> None:
    if path in PICTURES:
        pytest.importorskip("PIL")
    if "loaded" in path:
        pytest.importorskip("torchvision")
    points = kill_points(method, 2, seed=0, folder=tmp_path, path=path, epochs=2)
    assert [p.equal for p in points] == [True] * 2
