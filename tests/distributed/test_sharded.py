"""A student in shards of FSDP2 learns what a whole one learns, on any number of processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.sharded import CASES, CLASSES, DEEPKD, ON_CPU, Numbers, resumed, world

pytestmark = [pytest.mark.slow, ON_CPU]
SIZES = (2, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()  # workers of one session have folders of their own, in one of the session's
    return (base.parent if base.name.startswith("popen-") else base) / "sharded"


def assert_same(found: Numbers, expected: Numbers) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert (found[name] - value).abs().max() <= 1e-12 * (1 + value.abs().max()), name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_weights_and_buffers_end_where_those_of_a_whole_student_end(case: str, size: int, folder: Path) -> None:
    expected = world(1, folder)[0]["cases"][case]
    assert len(expected) > 16
    assert expected["head.weight"].shape == (CLASSES, 9)
    for found in world(size, folder):
        assert_same(found["cases"][case], expected)


@pytest.mark.parametrize("size", SIZES)
def test_without_fsdp_processes_drift_apart(size: int, folder: Path) -> None:
    expected = world(1, folder)[0]["cases"]["deepkd"]["head.weight"]
    first, second, *_ = (found["apart"]["head.weight"] for found in world(size, folder))
    assert (first - expected).abs().max() > 1e-4
    assert (first - second).abs().max() > 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_what_is_saved_whole_goes_on_in_another_number_of_processes(size: int, folder: Path) -> None:
    expected = world(1, folder)[0]["cases"]["deepkd"]
    for found in world(size, folder):
        assert_same(found["resumed from one"], expected)
    assert_same(resumed(DEEPKD, folder / f"half-{size}.pt"), expected)


@pytest.mark.parametrize("size", SIZES)
def test_mixed_precision_is_that_of_fsdp(size: int, folder: Path) -> None:
    for found in world(size, folder):
        for reshard, facts in found["bfloat16"].items():
            assert facts == dict.fromkeys(facts, True), f"reshard_after_forward={reshard}"


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_a_step_are_those_the_documentation_names(size: int, folder: Path) -> None:
    """Of three streams over three parts: all-gathers, reduce-scatters."""
    for found in world(size, folder):
        assert found["messages"] == {True: [3 * (1 + 3), 3 * 3], False: [3 * 3, 3 * 3]}


@pytest.mark.parametrize(
    ("what", "words"),
    {
        "reduce": "FSDP averages over the processes in every backward pass; leave reduce out",
        "update": "processes hold different parts of them, whose moves have no mean",
        "plain parameters": "1 of 18 parameters are not sharded (the first is of shape [3])",
        "gradient there": "holds a gradient in p.grad, to which FSDP would add",
        "no synchronisation": "If set_requires_gradient_sync(False) was called",
        "listed between forward and backward": "belong to none of the optimizer's parameters",
        "half a module": "are not sharded (the first is of shape",
        "FSDP1": "shard it with torch.distributed.fsdp.fully_shard instead",
    }.items(),
)
def test_what_cannot_be_is_refused_in_words(what: str, words: str, folder: Path) -> None:
    for found in world(2, folder):
        assert words in found["refusals"][what]
