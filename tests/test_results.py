"""The page of results says what the kept rows say, and nothing else."""

from __future__ import annotations

import json
import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
from benchmarks.keep import KEPT, keep
from rich.console import Console

from fractionate.studies.compare import compare
from fractionate.train import RunFolder

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS))
import results  # noqa: E402


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    compare("digits", out / "digits", Console(file=StringIO()), seeds=2, epochs=1, methods=("ce", "kd"), workers=1)
    assert len(keep(out / "digits", out / "kept")) == 4
    return out


def test_the_page_is_written_from_the_rows_at_hand() -> None:
    assert results.PAGE.read_text(encoding="utf-8") == results.page(KEPT)


def test_a_row_carries_no_weights_and_no_teacher(rows: Path) -> None:
    kept = sorted(f.relative_to(rows / "kept").as_posix() for f in (rows / "kept").rglob("*") if f.is_file())
    assert {Path(f).name for f in kept} == {"config.yaml", "metrics.jsonl", "summary.json"}
    assert not any("teacher" in f for f in kept)


def test_every_method_stands_on_the_page_with_its_mean(rows: Path) -> None:
    text = results.page(rows / "kept")
    for method, label in (("ce", "labels alone"), ("kd", "kd")):
        top1 = [RunFolder(rows / "digits" / method / f"seed-{seed}").summary()["last_top1"] for seed in (0, 1)]
        assert f"| `{label}` | 2 | **{sum(top1) / 2:.2f} ± " in text
    assert "- Against labels alone: " in text


def test_a_study_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished run yet"):
        keep(tmp_path)


def test_students_of_a_teacher_trained_again_are_not_added(rows: Path, tmp_path: Path) -> None:
    shutil.copytree(rows / "digits", tmp_path / "digits")
    place = tmp_path / "digits" / "kd" / "seed-1" / "summary.json"
    facts = json.loads(place.read_text())
    place.write_text(json.dumps({**facts, "teacher_top1": facts["teacher_top1"] - 1}))
    with pytest.raises(ValueError, match="more than one teacher, so their seeds are not pairs"):
        keep(tmp_path / "digits", rows / "kept")
    assert RunFolder(rows / "kept" / "digits" / "kd" / "seed-1").summary() == facts
