"""The page of results says what the kept rows say, and nothing else."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import benchmarks.keep
import pytest
from benchmarks.keep import KEPT, complete, keep
from rich.console import Console

from fractionate.report import read_runs, table
from fractionate.runs.folder import RunFolder
from fractionate.studies.compare import compare

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS))
import results  # noqa: E402

STUDY = Path("runs") / "digits"  # configs name the teacher's weights, so the folder is given as people type it


def study(folder: Path, methods: tuple[str, ...] = ("ce", "kd")) -> Path:
    with contextlib.chdir(folder):
        compare("digits", STUDY, Console(file=StringIO()), seeds=2, epochs=1, methods=methods, workers=1)
    return folder / STUDY


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    assert len(keep(study(out), out / "kept")) == 4
    return out


def test_the_page_is_written_from_the_rows_at_hand() -> None:
    assert results.PAGE.read_text(encoding="utf-8") == results.page(KEPT)
    drawn = {f.name: f.read_text(encoding="utf-8") for f in results.STATIC.glob("results-*.svg")}
    assert drawn == results.pictures(KEPT)


def test_the_numbers_of_the_readme_are_those_of_the_rows() -> None:
    text = results.README.read_text(encoding="utf-8")
    assert text == results.readme(text), "run: python docs/results.py"


def test_a_row_carries_no_weights_and_the_teacher_its_own(rows: Path) -> None:
    kept = {folder: {f.name for f in folder.iterdir()} for folder in (rows / "kept" / "digits").rglob("seed-*")}
    assert len(kept) == 4
    small = {"config.yaml", "metrics.jsonl", "summary.json"}
    assert all(names == small for names in kept.values())
    teacher = rows / "kept" / "digits" / "teacher"
    assert {f.name for f in teacher.iterdir()} == {*small, "student.safetensors"}
    assert all(f.read_bytes() == (rows / STUDY / "teacher" / f.name).read_bytes() for f in teacher.iterdir())


def test_large_weights_of_a_teacher_are_kept_where_a_study_goes_on_and_as_a_digest_elsewhere(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(rows / STUDY, tmp_path / "ended", most=10)
    names = {f.name for f in (tmp_path / "ended" / "digits" / "teacher").iterdir()}
    assert names == {"config.yaml", "metrics.jsonl", "summary.json", "student.sha256"}
    monkeypatch.setattr(benchmarks.keep, "MOST", 10)
    monkeypatch.setattr(benchmarks.keep, "UNFINISHED", tmp_path / "unfinished")
    monkeypatch.setattr(sys, "argv", ["keep", "--unfinished", str(rows / STUDY)])
    benchmarks.keep.main()
    shutil.copytree(tmp_path / "unfinished" / "digits", tmp_path / STUDY)
    more = study(tmp_path, ("ce", "kd", "dkd"))
    assert not list(more.glob("kd/seed-*/last.ckpt"))  # goes on


def test_kept_rows_of_a_study_with_a_full_path_do_not_say_where_it_was_trained(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        compare("digits", tmp_path / STUDY, Console(file=StringIO()), seeds=1, epochs=1, methods=("kd",), workers=1)
    (row,) = keep(tmp_path / STUDY, tmp_path / "kept")
    text = (row / "config.yaml").read_text(encoding="utf-8")
    assert "checkpoint: runs/digits/teacher/student.safetensors" in text
    assert str(tmp_path) not in text


def test_a_kept_study_goes_on_elsewhere_with_its_own_teacher(rows: Path, tmp_path: Path) -> None:
    shutil.copytree(rows / "kept" / "digits", tmp_path / STUDY)
    more = study(tmp_path, ("ce", "kd", "dkd"))
    assert not list(more.glob("kd/seed-*/last.ckpt"))  # was not trained again
    assert len(keep(more, tmp_path / "kept")) == 6
    teachers = {json.loads(f.read_text())["teacher_top1"] for f in more.glob("*kd/seed-*/summary.json")}
    assert teachers == {RunFolder(rows / STUDY / "teacher").summary()["last_top1"]}


def test_rows_of_an_older_version_differ_only_in_what_was_changed(rows: Path, tmp_path: Path) -> None:
    """A field that did not exist then has its default; so a later run names the one that it sets."""
    kept = tmp_path / "digits"
    shutil.copytree(rows / "kept" / "digits", kept)
    later = shutil.copytree(kept / "kd", kept / "kd_combine=min_norm_log")
    for path in kept.rglob("config.yaml"):
        text = path.read_text(encoding="utf-8")
        changed = "combine: min_norm_log" if later in path.parents else ""
        path.write_text(text.replace("combine: none", changed).replace("imbalance: null", ""), encoding="utf-8")
    complete(kept)
    labels = [row.label for row in table(read_runs([kept])).rows]
    assert sorted(labels) == ["kd (combine: min_norm_log)", "kd (combine: none)", "labels alone"]


def test_every_method_stands_on_the_page_with_its_mean(rows: Path) -> None:
    text = results.page(rows / "kept")
    for method, label in (("ce", "labels alone"), ("kd", "kd")):
        top1 = [RunFolder(rows / STUDY / method / f"seed-{seed}").summary()["last_top1"] for seed in (0, 1)]
        assert f"| `{label}` | 2 | **{sum(top1) / 2:.2f} ± " in text
    assert "- Against labels alone: " in text


def test_the_picture_shows_every_seed_and_every_difference(rows: Path) -> None:
    drawing = results.pictures(rows / "kept")["results-digits.svg"]
    root = ElementTree.fromstring(drawing)
    dots = [dot.get("r") for dot in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert (dots.count("3.4"), dots.count("5")) == (4, 1)
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    (gap,) = [line.split(" | ")[4] for line in results.page(rows / "kept").splitlines() if line.startswith("| `kd`")]
    assert {"kd", "labels alone", "baseline", gap} <= set(words)


def test_a_study_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished run yet"):
        keep(tmp_path)


def test_students_of_a_teacher_trained_again_are_not_added(rows: Path, tmp_path: Path) -> None:
    again = shutil.copytree(rows / STUDY, tmp_path / "digits")
    place = again / "kd" / "seed-1" / "summary.json"
    facts = json.loads(place.read_text())
    place.write_text(json.dumps({**facts, "teacher_top1": facts["teacher_top1"] - 1}))
    with pytest.raises(ValueError, match="more than one teacher, so their seeds are not pairs"):
        keep(again, rows / "kept")
    assert RunFolder(rows / "kept" / "digits" / "kd" / "seed-1").summary() == facts


def test_a_teacher_as_good_with_other_weights_is_another_one(rows: Path, tmp_path: Path) -> None:
    again = shutil.copytree(rows / STUDY, tmp_path / "digits")
    with (again / "teacher" / "student.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match=r"student.safetensors are not those of .*kept.*no pairs"):
        keep(again, rows / "kept")
