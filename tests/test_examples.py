"""The examples run as a reader runs them, and show what they say."""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fractionate.testing import CHECKS

FOLDER = Path(__file__).parents[1] / "examples"
TESTED_ELSEWHERE = {f.stem.removeprefix("test_") for f in (Path(__file__).parent / "examples").glob("test_*.py")}
SCRIPTS = sorted(
    f.stem
    for f in FOLDER.glob("*.py")
    if '__name__ == "__main__"' in f.read_text(encoding="utf-8") and f.stem not in TESTED_ELSEWHERE
)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A function that imports an example as its folder sees it; forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_example_runs_as_a_script(name: str, example, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_method_from_outside_keeps_its_contract(example, check) -> None:
    module = example("own_method")
    check(module.ranking(), module.CONTRACT)


def test_every_way_to_use_the_package_beats_labels_alone(example) -> None:
    found = example("own_loop").main()
    for way in ("loss_only", "optimizer_only", "both"):
        assert found["labels_alone"] < found[way] < found["teacher"]


def test_each_teacher_has_a_stream_of_its_own(example) -> None:
    ways = example("several_teachers").WAYS
    assert [method.backward_passes for method in ways.values()] == [1, 1, 3, 2]
    assert dict(ways["a stream each"].momenta(0.9)) == pytest.approx(
        {"task+teacher_2": 0.9, "teacher_1": 0.95, "teacher_3": 0.85}
    )


def test_the_hint_has_a_stream_of_its_own(example) -> None:
    module = example("hint_stream")
    assert module.WITH.backward_passes == module.WITHOUT.backward_passes + 1 == 3
    assert module.WITH.momenta(0.9)["hint"] == pytest.approx(0.8)
