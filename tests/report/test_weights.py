"""What a page says of effective weights, controls, and the teacher's confidence."""

import json
import math

import pytest

from fractionate.report.page import render
from fractionate.report.runs import read_runs
from fractionate.report.table import table, without_control
from fractionate.report.weights import control_note, lines, sureness_of, uncontrolled, weights_of

RAW = {
    "components": {
        "task": {"stream": "task", "weight": 1.0, "gain": 40.0, "base": 10.0},
        "target": {"stream": "target", "weight": 1.0, "gain": 10.0, "base": 10.0},
    },
    "decay": {"in": "task", "gain": 40.0, "base": 10.0},
    "warning": "too <much>",
}
FACTS = {"images": 512, "label": 0.98, "label_soft": 0.41, "temperature": 4.0, "modes": 1.2, "classes": 100}


def run_folder(path, method, seed=0, **more):
    path.mkdir(parents=True)
    facts = {"schema": 1, "headline": "top1", "method": method, "seed": seed, "last_top1": 50.0 + seed, **more}
    path.joinpath("summary.json").write_text(json.dumps(facts))
    path.joinpath("metrics.jsonl").write_text('{"epoch": 1, "test_top1": 50.0}\n')
    return path


def test_a_line_shows_the_base_where_it_is_another():
    (line,) = lines([("a", weights_of(RAW)), ("b", None)])
    assert line.cells == (("task", "40 (base 10)"), ("target", "10"))
    assert line.decay == "x 40 (base 10), with task"


@pytest.mark.parametrize("raw", [None, 3, {}, {"components": {"a": 1}}, {"components": {}, "decay": None}, [1]])
def test_what_is_not_of_this_form_is_not_recorded(raw):
    assert weights_of(raw) is None
    assert sureness_of(raw) is None


@pytest.mark.parametrize("name", ["dkd+deepkd", "kd+dot"])
def test_a_row_in_streams_needs_a_control_beside_it(name):
    memory = {"method.wrappers.0.args.normalize_gain": "true"}
    assert uncontrolled([("x", name, {}), ("y", "gdkd+reweighted", {})]) == ["x"]
    assert uncontrolled([("x", name, {}), ("y", f"{name}+reweighted", {})]) == []
    assert uncontrolled([("x", name, {}), ("y", name, memory)]) == []
    assert uncontrolled([("y", name, memory)]) == []
    assert control_note([]) is None


def test_a_teacher_without_labels_is_not_said_to_know_them():
    known, guessed = (str(sureness_of(FACTS | more)) for more in ({"accuracy": 0.5}, {"accuracy": None}))
    assert "the label's mean probability" in known
    assert "the best class's mean probability" in guessed
    assert str(sureness_of(FACTS)) == known  # folders of before


def test_where_momentum_weighs_nothing_no_control_is_missed(tmp_path):
    same = {name: part | {"gain": 10.0} for name, part in RAW["components"].items()}
    still = RAW | {"components": same, "decay": {"in": None, "gain": 1.0, "base": 1.0}}
    run_folder(tmp_path / "streams", "dkd+deepkd", effective_weights=still)
    assert without_control(table(read_runs([tmp_path / "streams"])).rows) == []


def test_the_page_marks_rows_without_control_and_shows_their_weights(tmp_path):
    runs = [
        run_folder(tmp_path / "kd", "kd", effective_weights=RAW | {"warning": None}, teacher_facts=FACTS),
        run_folder(tmp_path / "streams", "dkd+deepkd", effective_weights=RAW),
    ]
    found = table(read_runs(runs))
    assert without_control(found.rows) == ["dkd+deepkd"]
    page = render(found, "title")
    assert page.count("without its control") == 1
    assert "too &lt;much&gt;" in page
    assert "40 (base 10)" in page
    assert "0.980 at T 1, 0.410 at T 4" in page


def test_with_its_control_nothing_is_marked(tmp_path):
    runs = [run_folder(tmp_path / m, m) for m in ("dkd+deepkd", "dkd+deepkd+reweighted")]
    page = render(table(read_runs(runs)), "title")
    assert "without its control" not in page
    assert "Effective weights" not in page  # folders of before do not say them


SPREAD = {"label": [0.1, 0.9, 1.0], "label_soft": [0.1, 0.3, 0.6], "modes": [1.0, 2.5, 7.0]}


def test_the_page_draws_confidence_and_modes_over_the_images_and_says_their_medians(tmp_path):
    run_folder(tmp_path / "kd", "kd", teacher_facts=FACTS | {"spread": SPREAD})
    page = render(table(read_runs([tmp_path / "kd"])), "title")
    assert "What the teacher knows" in page
    said = "the medians: 0.900 at T 1 and 0.300 at T 4 for the label, 2.5 of 100 classes considered"
    assert said in page


@pytest.mark.parametrize("spread", [None, {}, {"label": [0.5]}, {"label": [0.1, math.nan]}, {"modes": 3}, "x"])
def test_a_folder_without_the_spread_or_with_a_damaged_one_draws_no_such_figure(tmp_path, spread):
    run_folder(tmp_path / "kd", "kd", teacher_facts=FACTS | {"spread": spread})
    assert "What the teacher knows" not in render(table(read_runs([tmp_path / "kd"])), "title")
