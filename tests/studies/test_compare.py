"""A comparison on one seed and a few epochs: it leaves runs, a table and a page, and repeats itself exactly."""

from __future__ import annotations

import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fractionate.config.method import MethodSpec
from fractionate.recipes import RECIPES
from fractionate.recipes.digits import ENOUGH
from fractionate.runs.folder import RunFolder
from fractionate.studies.chosen import Choice, folder_name
from fractionate.studies.compare import compare
from fractionate.studies.usual import every_method


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out, text = tmp_path_factory.mktemp("demo"), StringIO()
    compare("digits", out, Console(file=text, width=160), seeds=1, epochs=2, methods=("ce", "dkd+deepkd"), workers=1)
    return out, text.getvalue()


def test_the_teacher_is_good_enough(done: tuple[Path, str]) -> None:
    assert RunFolder(done[0] / "teacher").summary()["last_top1"] >= ENOUGH


def test_every_method_leaves_a_run_folder_that_names_its_teacher(done: tuple[Path, str]) -> None:
    for name in ("ce", "dkd+deepkd"):
        facts = RunFolder(done[0] / name / "seed-0").summary()
        assert facts["epochs"] == 2
        assert facts["teacher_top1"] >= ENOUGH
        assert facts["teacher_params"] > 10 * facts["params"]


def test_the_first_seed_is_watched_stream_by_stream(done: tuple[Path, str]) -> None:
    columns = RunFolder(done[0] / "dkd+deepkd" / "seed-0").metrics()[-1]
    assert {"norm/task", "norm/target", "norm/nontarget", "cosine/task|target"} <= set(columns)


def test_a_table_and_a_page_are_left(done: tuple[Path, str]) -> None:
    out, text = done
    assert "labels alone" in text
    assert "dkd+deepkd" in text
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "dkd+deepkd" in page
    assert "<script src" not in page


def test_a_second_demo_takes_what_is_there(done: tuple[Path, str]) -> None:
    out, _ = done
    text = StringIO()
    before = RunFolder(out / "ce" / "seed-0").summary()
    compare("digits", out, Console(file=text, width=160), seeds=1, epochs=2, methods=("ce", "dkd+deepkd"), workers=1)
    assert "2 of 2 runs are already in" in text.getvalue()
    assert RunFolder(out / "ce" / "seed-0").summary() == before


def test_another_length_is_not_mixed_with_what_is_there(done: tuple[Path, str]) -> None:
    with pytest.raises(ValueError, match="holds a finished run with another epochs"):
        compare("digits", done[0], Console(file=StringIO()), seeds=1, epochs=3, methods=("ce",), workers=1)


def test_the_same_teacher_gives_the_same_student(done: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(done[0] / "teacher", tmp_path / "teacher")
    compare("digits", tmp_path, Console(file=StringIO()), seeds=1, epochs=2, methods=("dkd+deepkd",), workers=1)
    again, first = (RunFolder(folder / "dkd+deepkd" / "seed-0") for folder in (tmp_path, done[0]))
    assert again.student.read_bytes() == first.student.read_bytes()


def test_a_method_that_cannot_be_trained_is_refused_before_anything_is(tmp_path: Path) -> None:
    choice = Choice("digits", changes=["accumulate=2"])
    with pytest.raises(ValueError, match="cannot go through in parts"):
        compare(choice, tmp_path, Console(file=StringIO()), seeds=1, epochs=1, methods=("ce", "dist"), workers=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_student_with_few_labels_learns_more_with_a_teacher(done: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(done[0] / "teacher", tmp_path / "teacher")
    compare("digits", tmp_path, Console(file=StringIO()), seeds=1, methods=("ce", "dkd"), workers=1)
    labels, dkd = (RunFolder(tmp_path / name / "seed-0").summary()["last_top1"] for name in ("ce", "dkd"))
    assert labels > 80
    assert dkd > labels + 2  # two deviations between seeds


def test_the_methods_shown_exist() -> None:
    shown = {name for recipe in RECIPES.values() for name in recipe.methods}
    assert all(MethodSpec.parse(name).build() for name in shown)
    assert set(RECIPES["digits"].methods) <= set(every_method()[0])


def test_methods_that_differ_have_folders_that_differ() -> None:
    names = ["dkd", "dkd(beta=2)", "dkd(beta=2)+dot", "dkd+dot", "dkd(kl=reverse)", "dkd(beta=-2)", "dkd(beta=2.5)"]
    assert len({folder_name(MethodSpec.parse(name)) for name in names}) == len(names)


def test_a_long_method_has_a_folder_of_a_hundred_characters_that_is_its_own() -> None:
    def named(weight: float) -> str:
        wrappers = f"deepkd(delta_task=0.0500000001, delta_target=0.0500000001)+lskd(weight={weight})"
        return folder_name(MethodSpec.parse(f"dkd(alpha=1.0000000001, beta=2.0000000001)+{wrappers}"))

    names = {named(1.5), named(2.5)}
    assert len(names) == 2
    assert {len(name) for name in names} == {100}
    assert named(1.5) == named(1.5)
