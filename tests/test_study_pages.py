"""The page of studies and the map of methods say what the kept records say, and nothing else."""

from __future__ import annotations

import json
import re
import sys
from io import StringIO
from pathlib import Path

import pytest
from benchmarks.keep import keep_record, measure
from rich.console import Console

from fractionate.config.method import MethodSpec
from fractionate.report.study import read_study
from fractionate.report.words import Difference
from fractionate.studies.conduct import Conductor
from fractionate.studies.jobs import Options
from fractionate.studies.plan import Arm, Study, Teaching, against
from fractionate.studies.sides import Setting

sys.path.append(str(Path(__file__).parent.parent / "docs"))
import draw_when
import results
import which_method

import studies

TOY = Study(
    "toy",
    "Which of three?",
    "Two teachers.",
    tuple(
        Arm(f"{method} · {teacher or 'usual'}", method, teacher=teacher)
        for teacher in ("", "weak")
        for method in ("ce", "kd", "dkd")
    ),
    against("dkd · usual", "kd · usual"),
    teachers=(Teaching(), Teaching("weak", "half as long", length=0.5)),
    seeds=2,
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    setting = Setting(epochs=1, teacher_epochs=2)
    words = ("fractionate", "study", "toy", "--out", str(folder), "--workers", "1", "--epochs", "1")
    options = Options(resume=True, command=words)
    Conductor(TOY, setting, folder / "toy", Console(file=StringIO()), options)()
    keep_record(folder / "toy", folder / "records")
    return folder


def test_the_page_of_studies_is_written_from_the_records_at_hand() -> None:
    assert studies.PAGE.read_text(encoding="utf-8") == studies.page(), "run: python docs/studies.py"


def test_a_choice_at_the_edge_of_what_was_tried_is_said_and_no_other() -> None:
    for file in sorted(studies.RECORDS.glob("*.json")):
        record = read_study(file)
        told = [sentence for sentence in record.sentences if "at the edge of" in sentence]
        edges = {
            arm.name
            for arm in record.arms
            if len(arm.tried) > 1 and float(arm.value) in (f(map(float, arm.tried)) for f in (min, max))
        }
        named = {name for sentence in told for name in sentence.partition(" by ")[2].partition(":")[0].split("; ")}
        assert named == edges


@pytest.mark.parametrize(("score", "said"), [(20.0, True), (99.0, False)])
def test_a_teacher_that_is_not_ahead_of_labels_alone_is_spoken_of(tmp_path: Path, score: float, said: bool) -> None:
    raw = json.loads((studies.RECORDS / "photos.json").read_text(encoding="utf-8"))
    raw["teachers"][0]["test"] = score
    (tmp_path / "study.json").write_text(json.dumps(raw))
    told = [sentence for sentence in read_study(tmp_path).sentences if sentence.startswith("The teacher")]
    alone = next(arm for arm in read_study(tmp_path).arms if arm.method == "ce")
    assert bool(told) == said
    assert all(f"20.00\N{NO-BREAK SPACE}%) is not ahead of {alone.name}" in sentence for sentence in told)


def test_a_kept_record_names_no_run_folder(out: Path) -> None:
    raw = json.loads((out / "records" / "toy.json").read_text(encoding="utf-8"))
    assert all(arm["folders"] == [] for arm in raw["arms"])
    assert str(out) not in json.dumps(raw)
    assert raw["command"] == "fractionate study toy --epochs 1"


def test_a_section_has_the_question_the_answer_the_seeds_and_the_commit(out: Path) -> None:
    page = studies.page(out / "records")
    for wanted in (TOY.question, "dkd · usual", "against", "2 |", "again: `fractionate study toy --seeds 2`", "commit"):
        assert wanted in page


def test_the_map_has_a_column_per_teacher_the_least_certain_first(out: Path) -> None:
    lines = which_method.lines(out / "records", out / "none")
    heads = next(line for line in lines if line.startswith("| method"))
    raw = json.loads((out / "records" / "toy.json").read_text(encoding="utf-8"))
    label = {one["name"]: one["label"] for one in raw["teachers"]}
    assert label[""] != label["weak"]
    shown = [f"p {value:.3f}" for value in sorted(label.values())]
    assert heads.index(shown[0]) < heads.index(shown[1])
    values = {arm["name"]: arm["values"][""] for arm in raw["arms"]}
    gains = [a - b for a, b in zip(values["dkd · weak"], values["kd · weak"], strict=True)]
    row = next(line for line in lines if line.startswith("| `dkd`"))
    assert f"{abs(sum(gains) / 2):.2f}" in row.split("|")[2 if label["weak"] < label[""] else 3]


def test_one_setting_alone_is_no_map(tmp_path: Path) -> None:
    assert which_method.lines(tmp_path / "none", results.ROWS.parent / "no") == []
    assert draw_when.pictures(tmp_path / "none", results.ROWS.parent / "no") == {}


@pytest.mark.parametrize("form", ["", "-narrow"])
def test_the_drawn_map_has_a_tile_for_every_difference_and_colours_those_beyond_the_spread(form: str) -> None:
    records, runs = studies.RECORDS, results.ROWS
    cells = [c for line in which_method.lines(records, runs) if line.startswith("| `") for c in line.split(" | ")[1:]]
    measured = [cell.strip(" |") for cell in cells if cell.strip(" |") != "–"]
    drawing = draw_when.pictures(records, runs)[f"results-when{form}.svg"]
    tiles = re.findall(r"rx='3' fill='(#\w+)'", drawing)
    assert len(tiles) == len(measured)
    assert tiles.count(draw_when.NEITHER) == sum(not cell.startswith("**") for cell in measured)


@pytest.mark.parametrize(("mean", "blue"), [(2.0, True), (-2.0, False)])
def test_a_tile_is_blue_above_and_orange_below(mean: float, blue: bool) -> None:
    drawing = next(draw_when.tile(0, 0, 40, Difference((mean,), mean, mean), 12))
    (fill,) = re.findall(r"fill='#(\w\w)\w\w(\w\w)'", drawing)
    assert (int(fill[1], 16) > int(fill[0], 16)) == blue


def test_weights_from_the_teacher_have_rows_of_their_own() -> None:
    assert which_method.key(MethodSpec.parse("dkd(weights=auto)")) == "dkd (auto)"
    assert which_method.key(MethodSpec.parse("dkd(temperature=1, warmup=1)"), "camvid-small") == "dkd"


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("dkd(beta=8, warmup=4)", "dkd"),
        ("kd+deepkd+reweighted", "kd+deepkd+reweighted"),
        ("kd+deepkd(normalize_gain=true)", "kd+deepkd, gain normalised"),
        ("dkd+deepkd(rule=published-code)", None),
        ("kd(temperature=2)", None),
    ],
)
def test_methods_that_differ_in_more_than_weights_have_no_row(method: str, name: str | None) -> None:
    assert which_method.key(MethodSpec.parse(method)) == name


def test_the_certainty_of_a_kept_teacher_needs_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no rows"):
        measure(tmp_path)


@pytest.mark.parametrize(
    ("method", "recipe", "name"),
    [
        ("dkd(beta=8, warmup=2)", "digits", "dkd (beta 8)"),
        ("dkd(beta=1.0, warmup=2)+deepkd", "digits", "dkd+deepkd"),
        ("dkd(beta=8)", "cifar100-16px", "dkd"),
        ("gdkd(w1=1, w2=8)", "digits", "gdkd (w2 8)"),
    ],
)
def test_weights_other_than_the_recipe_s_own_have_a_row_of_their_own(method: str, recipe: str, name: str) -> None:
    assert which_method.key(MethodSpec.parse(method), recipe) == name
