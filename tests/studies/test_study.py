"""A study trains what its plan says, lets validation choose, and says what its seeds can tell."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from fractionate.cli import main
from fractionate.config.data import Data
from fractionate.config.files import read_config
from fractionate.config.run import Network, Run
from fractionate.models import create
from fractionate.recipes import RECIPES
from fractionate.report import read_study
from fractionate.runs.checkpoint import save_weights
from fractionate.runs.folder import RunFolder
from fractionate.studies import conduct as conductor
from fractionate.studies.certainty import certainty
from fractionate.studies.conduct import Conductor, best
from fractionate.studies.jobs import Job, Options, run_jobs
from fractionate.studies.plan import Arm, Contrast, Study, against, beside, cost
from fractionate.studies.questions import STUDIES
from fractionate.studies.sides import TUNING, Setting
from fractionate.train.sources import sources
from tests.data import photo_trees as trees
from tests.train.runs import tiny

TOY = Study(
    "toy",
    "Does a tenth of a second of training tell kd from labels?",
    "Two arms, one of which validation tunes, a pilot, and a frozen one.",
    (
        Arm("labels alone", "ce"),
        Arm("kd", "kd(temperature={})", values=("1", "4")),
        Arm("kd by a fifth", "kd(temperature={})", values=("1", "4"), pilot=0.2),
        Arm("frozen", "ce", ("optimizer.lr=1e-12", "optimizer.weight_decay=0.0"), begins="kd"),
        Arm("kd on weights", "kd(temperature={})", ("optimizer.lr=0.04",), follows="kd"),
    ),
    (*against("kd", "labels alone"), *against("frozen", "labels alone")),
    pilots=(("kd", "kd by a fifth"),),
    seeds=2,
    tuning_seeds=1,
)
SHORT = Setting(epochs=1, teacher_epochs=2)


def conduct(out: Path, setting: Setting = SHORT, workers: int = 1) -> str:
    text = StringIO()
    options = Options(resume=True, command=("fractionate", "study", "toy"))
    Conductor(TOY, setting, out, Console(file=text, width=200), options, workers)()
    return text.getvalue()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("toy")
    return out, conduct(out)


def trained(out: Path, arm: str) -> list[Run]:
    return [read_config(file) for file in sorted((out / arm).glob("seed-*/config.yaml"))]


def test_every_arm_of_every_study_can_be_built() -> None:
    for study in STUDIES.values():
        for arm in study.arms:
            for value in arm.values or (study.arm(arm.follows).values[:1] if arm.follows else ("",)):
                arm.spec(value).build()
        assert {study.recipe, study.full} <= set(RECIPES)


def test_every_deepkd_and_dot_by_sgd_stands_beside_its_controls() -> None:
    """Under AdamW the gain of every stream is 1: there is none to divide out or to make a weight of."""
    by_sgd = [one for one in STUDIES.values() if one.name != "transformer"]
    for study in by_sgd:
        methods = {(arm.method, arm.teacher, arm.length) for arm in study.arms if not arm.begins}
        for method, *rest in methods:
            if re.search(r"\+(deepkd|dot)(\([^+]*\))?$", method) and "normalize_gain" not in method:
                controls = {one.method for one in beside(Arm("x", method))}
                assert {(one, *rest) for one in controls} <= methods, (study.name, method)


def test_the_methods_of_the_papers_have_their_controls_by_name() -> None:
    names = [arm.name for arm in STUDIES["which-method"].arms]
    assert len(names) == len(set(names)) == 16
    assert STUDIES["which-method"].seeds >= 5


def test_a_comparison_names_arms_that_exist() -> None:
    with pytest.raises(ValueError, match="has none"):
        Study("s", "?", "", (Arm("kd", "kd"),), against("kd", "dkd"))
    with pytest.raises(ValueError, match="no teacher is named"):
        Study("s", "?", "", (Arm("kd", "kd", teacher="strong"),), ())


def test_the_budget_counts_every_student(done: tuple[Path, str]) -> None:
    out, _ = done
    runs = [file for file in out.rglob("summary.json") if file.parent.name.startswith("seed-")]
    assert len(runs) == cost(TOY)[0] == 14


def test_validation_chooses_on_its_own_images_and_seeds(done: tuple[Path, str]) -> None:
    out, text = done
    record = json.loads((out / "study.json").read_text(encoding="utf-8"))
    kd = next(arm for arm in record["arms"] if arm["name"] == "kd")
    scores = {}
    for value in ("1", "4"):
        (run,) = trained(out / "validation", f"kd={value}")
        assert (run.data.evaluate_on, run.seed, run.method.args) == ("validation", TUNING, {"temperature": int(value)})
        scores[value] = RunFolder(out / "validation" / f"kd={value}" / f"seed-{TUNING}").summary()["last_top1"]
    assert kd["value"] == max(scores, key=lambda value: scores[value])
    assert kd["tried"] == {value: [score] for value, score in scores.items()}
    assert f"validation chooses {kd['value']} for kd" in text
    confirmed = trained(out, f"kd={kd['value']}")
    assert [(run.data.evaluate_on, run.seed) for run in confirmed] == [("test", 0), ("test", 1)]
    follower = trained(out, f"kd_on_weights={kd['value']}")
    assert [run.method for run in follower] == [run.method for run in confirmed]


def test_a_pilot_sees_its_share_of_the_images_and_its_choice_all(done: tuple[Path, str]) -> None:
    out, _ = done
    (pilot,) = trained(out / "validation", "kd_by_a_fifth=1")
    assert pilot.data.labels_per_class == 2
    assert {
        run.data.labels_per_class for run in trained(out, "kd_by_a_fifth=1") or trained(out, "kd_by_a_fifth=4")
    } == {10}
    assert read_study(out).sentences[0].startswith("20 % of the training images choose ")


def test_a_frozen_arm_begins_with_the_weights_of_the_other_and_keeps_them(done: tuple[Path, str]) -> None:
    out, _ = done
    for seed in (0, 1):
        (chosen,) = out.glob("kd=*")  # the value that validation chose
        first = load_file(chosen / f"seed-{seed}" / "student.safetensors")
        then = load_file(out / "frozen" / f"seed-{seed}" / "student.safetensors")
        trainable = {name for name, _ in create("convnet_8_16", num_classes=10).named_parameters()}
        assert trainable <= set(first)
        assert all(torch.allclose(first[name], then[name], rtol=0, atol=1e-9) for name in trainable)


def test_sentences_give_the_paired_difference_of_the_runs(done: tuple[Path, str]) -> None:
    out, _ = done
    record = read_study(out)
    kd, labels = (next(arm for arm in record.arms if arm.name == name).values.values for name in ("kd", "labels alone"))
    answer = record.answers[0]
    assert answer.difference.values == pytest.approx(np.subtract(kd, labels))
    mean = float(np.mean(np.subtract(kd, labels)))
    assert f"{abs(mean):.2f}" in record.sentences[1]
    half = 12.706204736 * float(np.std(np.subtract(kd, labels), ddof=1)) / math.sqrt(2)
    assert answer.difference.low == pytest.approx(mean - half)
    if mean - half < 0 < mean + half:
        assert "cannot be told apart" in record.sentences[1]


def test_the_page_answers_first_and_names_its_origin(done: tuple[Path, str]) -> None:
    out, _ = done
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.index(TOY.question) < page.index("Comparisons, paired by seed")
    for wanted in ("fractionate study toy", "seeds 0 to 1", "(chosen)", "probability of the label"):
        assert wanted in page
    assert "<script" not in page


def test_the_teachers_of_both_parts_are_trained_at_the_same_time_and_are_the_same_ones(
    done: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[Path], int]] = []

    def noted(jobs: Sequence[Job], *more: Any, **named: Any) -> None:
        calls.append(([job.folder.relative_to(tmp_path) for job in jobs], more[2]))
        run_jobs(jobs, *more, **named)

    monkeypatch.setattr(conductor, "run_jobs", noted)
    conduct(tmp_path, workers=2)
    assert calls[0] == ([Path("validation/teacher"), Path("teacher")], 2)
    assert all("teacher" not in str(folder) for folders, _ in calls[1:] for folder in folders)
    first, again = (json.loads((out / "study.json").read_text(encoding="utf-8")) for out in (done[0], tmp_path))
    assert [arm["values"] for arm in again["arms"]] == [arm["values"] for arm in first["arms"]]
    assert again["teachers"] == first["teachers"]


def test_a_study_that_is_asked_again_trains_nothing(done: tuple[Path, str]) -> None:
    out, _ = done
    before = {file: file.stat().st_mtime_ns for file in out.rglob("summary.json")}
    text = conduct(out)
    for kept in ("4 of 4 runs on the validation", "8 of 8 runs on the test", "2 of 2 runs on the test"):
        assert f"{kept} part are there already" in text
    assert {file: file.stat().st_mtime_ns for file in out.rglob("summary.json")} == before


def test_more_seeds_keep_the_first_ones(done: tuple[Path, str]) -> None:
    out, _ = done
    before = read_study(out).arms[0].values.values
    conduct(out, Setting(epochs=1, teacher_epochs=2, seeds=3))
    after = read_study(out).arms[0].values.values
    assert after[:2] == before
    assert len(after) == 3


def test_other_settings_are_not_mixed_with_what_is_there(done: tuple[Path, str]) -> None:
    with pytest.raises(ValueError, match=r"another optimizer\.lr"):
        conduct(done[0], Setting(epochs=1, teacher_epochs=2, changes=("optimizer.lr=0.2",)))


def test_the_certainty_of_a_teacher_is_the_mean_over_the_plain_training_images(done: tuple[Path, str]) -> None:
    run = trained(done[0], "labels_alone")[0]
    found = certainty(run)
    assert run.teacher is not None
    net = create(run.teacher.name, num_classes=10).double().eval().requires_grad_(False)
    net.load_state_dict(load_file(run.teacher.checkpoint))
    plain, _ = sources(replace(run.data, shift=0, passes=1), 0, torch.device("cpu"))
    rows = [(i.double(), t) for b in plain.batches(1) for i, t in zip(b.images, b.target, strict=True)]
    assert len(rows) == 100
    at_1 = [float(net(image[None]).softmax(1)[0, int(label)]) for image, label in rows]
    at_4 = [float((net(image[None]) / 4).softmax(1)[0, int(label)]) for image, label in rows]
    right = [int(net(image[None]).argmax()) == int(label) for image, label in rows]
    assert found["label"] == pytest.approx(math.fsum(at_1) / len(rows), abs=1e-5)
    assert found["label_at_t"] == pytest.approx(math.fsum(at_4) / len(rows), abs=1e-5)
    assert found["train"] == pytest.approx(100 * sum(right) / len(rows))
    assert found["sure"] == pytest.approx(sum(p > 0.99 for p in at_1) / len(rows), abs=2 / len(rows))


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 0, "resized_crop": True},
        {"workers": 0, "erasing": 1.0},
        {"workers": 0, "repeats": 3, "shift": 0},
        {"unlabelled": "all", "labels_per_class": 2, "unlabelled_batch": 4},
    ],
)
def test_the_certainty_of_a_teacher_does_not_depend_on_how_students_see_the_images(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    for label, name in enumerate(("ant", "bee", "cow")):
        for part, count in (("train", 5), ("test", 2)):
            for i in range(count):
                trees.picture(tmp_path / part / name / f"{i}.png", label, kind="PNG")
    plain = Data("folder", root=str(tmp_path), size=8, batch_size=4, shift=0, workers=changes.get("workers"))
    plain = replace(plain, labels_per_class=changes.get("labels_per_class"))
    save_weights(create("resnet8", num_classes=3), tmp_path / "teacher.safetensors")
    base = tiny("kd", teacher=Network("resnet8", checkpoint=str(tmp_path / "teacher.safetensors")))
    found = [certainty(replace(base, data=data)) for data in (plain, replace(plain, **changes))]
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_the_best_mean_is_chosen_and_of_equal_ones_the_first() -> None:
    assert best({"a": [1.0, 3.0], "b": [2.0, 2.5], "c": [0.0, 0.0]}).value == "b"
    assert best({"a": [2.0], "b": [2.0]}).value == "a"
    assert best({"a": [math.nan], "b": [1.0]}).value == "b"


def test_an_interaction_is_a_difference_of_differences(done: tuple[Path, str], tmp_path: Path) -> None:
    raw = json.loads((done[0] / "study.json").read_text(encoding="utf-8"))
    names = [arm["name"] for arm in raw["arms"]][:4]
    a, b, c, d = names
    for arm, values in zip(raw["arms"], ([1.0, 2.0], [10.0, 30.0], [3.0, 5.0], [4.0, 4.0]), strict=False):
        arm["values"] = {"": values}
    raw["arms"], raw["pilots"] = raw["arms"][:4], []
    one = Contrast("x", "y", ((b, ""), (c, "")), ((a, ""), (d, "")))
    raw["contrasts"] = [{"left": one.left, "right": one.right, "plus": one.plus, "minus": one.minus}]
    (tmp_path / "study.json").write_text(json.dumps(raw), encoding="utf-8")
    assert read_study(tmp_path).answers[0].difference.values == (8.0, 29.0)


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 9}', '{"schema": 1, "arms": []}', "[1]"])
def test_a_broken_record_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"study\.json"):
        read_study(tmp_path)


def test_the_list_names_every_study_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(STUDIES)
    for line, study in zip(lines, STUDIES.values(), strict=True):
        assert line.startswith(study.name)
        assert f"{cost(study)[0]} runs of {study.recipe}" in line
        assert line.endswith(study.question)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["alocation"], "did you mean 'allocation'"),
        (["delta", "gsnr"], "name one study"),
        (["epochs=3"], "name one study"),
        (["delta", "--full", "--on", "digits"], "give one of the two"),
        (["delta", "--on", "cifar"], "cifar10"),
        (["delta", "--seeds", "0"], "at least 1"),
        (["delta", "epochs=3"], "--epochs N"),
        (["delta", "seed=3"], "--seeds N"),
        (["delta", "data.evaluate_on=test"], "confirms on the test part"),
        (["delta", "--on", "segmentation", "--data", "no-such-folder"], "no-such-folder"),
        (["delta", "--data", "somewhere"], "nothing to point to"),
        (["delta", "optimiser.lr=1"], "unknown key"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
