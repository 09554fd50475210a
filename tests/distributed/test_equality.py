"""The same global batch gives the same weights, buffers and records on 1, 2 and 4 processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.distributed import problem
from tests.distributed.problem import CASES, RESUMED, Numbers
from tests.distributed.worlds import Found, checkpoint, world

pytestmark = pytest.mark.slow
SIZES = (2, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()  # workers of one session have folders of their own, in one of the session's
    return (base.parent if base.name.startswith("popen-") else base) / "worlds"


@pytest.fixture(scope="module")
def alone(folder: Path) -> Found:
    return world(1, folder)[0]


def assert_same(found: Numbers, expected: Numbers) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        room = 1e-12 if value.dtype == torch.float64 else 1e-7  # a learned temperature stays in float32
        assert (found[name] - value).abs().max() <= room * (1 + value.abs().max()), name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_every_process_ends_where_one_process_ends(case: str, size: int, alone: Found, folder: Path) -> None:
    for found in world(size, folder):
        assert_same(found.cases[case], alone.cases[case])


@pytest.mark.parametrize("size", SIZES)
def test_without_the_reduction_processes_drift_apart(size: int, alone: Found, folder: Path) -> None:
    first, *others = world(size, folder)
    for found, reference in [(others[0], first), (first, alone)]:
        assert (found.drifting["weight 0"] - reference.drifting["weight 0"]).abs().max() > 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_every_image_is_counted_once(size: int, folder: Path) -> None:
    for found in world(size, folder):
        assert all(numbers["images counted"].item() == 11 for numbers in found.cases.values())


@pytest.mark.parametrize("size", [1, *SIZES])
@pytest.mark.parametrize("case", RESUMED)
def test_an_interrupted_run_ends_where_the_unbroken_one_ends(case: str, size: int, folder: Path) -> None:
    for found in world(size, folder):
        assert_same(found.resumed[case], found.unbroken[case])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", [case for case in RESUMED if "dropout" not in case])
def test_another_number_of_processes_goes_on_from_a_checkpoint(
    case: str, size: int, alone: Found, folder: Path
) -> None:
    for found in world(size, folder):
        assert_same(found.resumed_from_one[case], alone.unbroken[case])
    assert_same(problem.resumed(case, checkpoint(folder, case, size)), alone.unbroken[case])


@pytest.mark.parametrize("size", SIZES)
def test_dropout_differs_between_processes(size: int, folder: Path) -> None:
    masked = [found.unbroken["ce, dropout"]["record 1"] for found in world(size, folder)]
    assert all(torch.equal(x, masked[0]) for x in masked)  # reported numbers are everyone's
    assert not torch.allclose(masked[0], world(1, folder)[0].unbroken["ce, dropout"]["record 1"])


@pytest.mark.parametrize("size", SIZES)
def test_a_loss_that_is_no_number_on_one_process_ends_all_with_its_name(size: int, alone: Found, folder: Path) -> None:
    assert "component 'task' of stream 'loss' is nan" in alone.refusal
    assert {found.refusal for found in world(size, folder)} == {alone.refusal}


@pytest.mark.parametrize("size", SIZES)
def test_processes_divide_a_teacher_table_and_share_its_file(size: int, alone: Found, folder: Path) -> None:
    found = world(size, folder)
    assert sum(each.seen for each in found) == alone.seen == alone.images
    assert all(each.seen > 0 for each in found)
    for each in found:
        assert each.table is not None
        torch.testing.assert_close(each.table, alone.table)
