"""The same global batch gives the same weights, buffers and records on 1, 2 and 4 processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.problem import CASES
from tests.distributed.worlds import Found, world

pytestmark = pytest.mark.slow
SIZES = (2, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()  # workers of one session have folders of their own, in one of the session's
    return (base.parent if base.name.startswith("popen-") else base) / "worlds"


@pytest.fixture(scope="module")
def alone(folder: Path) -> Found:
    return world(1, folder)[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_every_process_ends_where_one_process_ends(case: str, size: int, alone: Found, folder: Path) -> None:
    for found in world(size, folder):
        assert found[case].keys() == alone[case].keys()
        for name, value in alone[case].items():
            difference = (found[case][name] - value).abs().max()
            assert difference <= 1e-12 * (1 + value.abs().max()), name


@pytest.mark.parametrize("size", SIZES)
def test_without_the_reduction_processes_drift_apart(size: int, alone: Found, folder: Path) -> None:
    first, *others = world(size, folder)
    for found, reference in [(others[0], first), (first, alone)]:
        drift = found["without reduction"]["weight 0"] - reference["without reduction"]["weight 0"]
        assert drift.abs().max() > 1e-4


def test_every_image_is_counted_once(alone: Found, folder: Path) -> None:
    for size in SIZES:
        for found in world(size, folder):
            assert all(found[case]["images counted"].item() == 11 for case in CASES)
