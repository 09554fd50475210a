"""Studies of pixels and of boxes: planned, foretold, trained, kept, and on the pages of the documentation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest
import torch
from benchmarks import keep as keeping
from rich.console import Console

from fractionate.config.files import read_config
from fractionate.config.run import Run
from fractionate.recipes import RECIPES, Recipe
from fractionate.recipes import detection as boxes
from fractionate.recipes import segmentation as pixels
from fractionate.report import read_study
from fractionate.studies.conduct import Conductor
from fractionate.studies.jobs import Options
from fractionate.studies.questions import STUDIES, announced
from fractionate.studies.sides import Setting
from tests.dense import trees as of_pixels
from tests.detection import trees as of_boxes

sys.path.append(str(Path(__file__).parents[2] / "docs"))
import results

import studies


@dataclass(frozen=True)
class Toy:
    """A study of the package on a set of a few images, with networks of a few weights."""

    name: str
    tree: Callable[[Path], Path]
    module: object
    networks: tuple[str, str]
    changes: tuple[str, ...]

    def recipe(self) -> Recipe:
        make = self.module
        teacher, student = self.networks
        return Recipe(
            lambda **given: make.small_teacher(**{"name": teacher, **given}),  # type: ignore[attr-defined]
            lambda method, taught, **given: make.small_student(method, taught, **{"name": student, **given}),  # type: ignore[attr-defined]
            "toy",
        )


TOYS = {
    "miou": Toy(
        "camvid",
        of_pixels.camvid,
        pixels,
        ("tests.dense.nets:tiny", "tests.dense.nets:plain"),
        ("data.crop=[16, 16]", "data.scale=[1.0, 1.0]", "data.multiple=4", "data.passes=1", "data.batch_size=3"),
    ),
    "ap": Toy(
        "digits-detection",
        of_boxes.coco,
        boxes,
        ("tests.detection.nets:larger", "tests.detection.nets:small"),
        ("data.size=64", "data.batch_size=4"),
    ),
}
NEEDED = {"miou": (), "ap": ("torchvision", "faster_coco_eval")}


@pytest.fixture(scope="module", params=list(TOYS))
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path, str]:
    """Metric, folder of the study, folder of what was kept, and what was said."""
    if missing := [name for name in NEEDED[request.param] if find_spec(name) is None]:
        pytest.skip(f"needs {missing[0]}")
    toy, out = TOYS[request.param], tmp_path_factory.mktemp("dense")
    root, text = toy.tree(out / "images"), StringIO()
    study = replace(STUDIES[toy.name], seeds=1)
    few = [replace(arm, method="gdkd(k=2)") if arm.method == "gdkd" else arm for arm in study.arms]  # of 4 classes
    study = replace(study, arms=tuple(few))
    words = ("fractionate", "study", toy.name, "--data", str(root), "--out", str(out / toy.name), "--workers=1")
    setting = Setting(None, str(root), (*toy.changes, "device=cpu"), epochs=1, teacher_epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, study.recipe, toy.recipe())
        options = Options(resume=True, command=words)
        Conductor(study, setting, out / toy.name, Console(file=text, width=200), options)()
    return request.param, out / toy.name, out / "kept", text.getvalue()


@pytest.mark.parametrize("name", ["camvid", "digits-detection"])
def test_a_dense_study_says_its_budget_before_it_starts(name: str) -> None:
    _, budget = announced(STUDIES[name], None, None, Path("runs"))
    wanted = "3 on the validation part, which chooses, 21 on the test part); teachers: 1;"
    assert wanted in budget


def test_the_fifteen_runs_come_seed_by_seed_and_the_controls_after_them() -> None:
    study = STUDIES["camvid"]
    first, last = Conductor(study, Setting(), Path("runs"), Console(), Options())._waves()
    assert len(first) * study.seeds == 15
    assert [arm.method for arm in last] == ["dkd+deepkd", "dkd+deepkd+reweighted"]
    assert all(arm.follows == "labels alone" or arm.values for arm in study.arms)


def test_every_part_is_foretold_and_the_teacher_says_what_it_knows(done: tuple[str, Path, Path, str]) -> None:
    metric, _, _, text = done
    head, _, rest = text.partition("in all; the same command goes on where it was stopped")
    for part in ("1 teachers: about", "3 runs on the validation part: about", "5 runs on the test part: about"):
        assert part in head
    assert "validation chooses" in rest
    known = {"miou": "% of the labelled pixels of the training images right", "ap": "% of the objects, in their true"}
    assert known[metric] in rest
    assert {"miou": "% mIoU on them", "ap": "% AP on them"}[metric] in rest


def test_labels_alone_choose_and_no_teacher_is_trained_for_it(done: tuple[str, Path, Path, str]) -> None:
    _, out, _, _ = done
    assert not list((out / "validation").glob("teacher*"))
    runs: list[Run] = [read_config(file) for file in sorted((out / "validation").rglob("config.yaml"))]
    assert {(run.method.name, run.data.evaluate_on) for run in runs} == {("ce", "validation")}
    record = read_study(out)
    (value,) = {arm.value for arm in record.arms}
    rates = {read_config(f).optimizer.lr for f in out.glob("*/seed-0/config.yaml")}
    assert rates == {float(value)}


def test_what_is_kept_makes_both_pages_and_names_no_place(done: tuple[str, Path, Path, str]) -> None:
    metric, out, kept, _ = done
    assert len(keeping.keep(out, kept / "runs", most=1)) == 7  # every teacher is a large one
    keeping.keep_record(out, kept / "studies")
    rows = kept / "runs" / out.name
    root = str(out.parent / "images")
    keeping.measure(rows, root, out / "teacher" / "student.safetensors")
    assert {f.name for f in (rows / "teacher").iterdir()} == {
        "config.yaml", "metrics.jsonl", "summary.json", "student.sha256",
    }  # fmt: skip
    for file in (*rows.rglob("summary.json"), *(kept / "studies").iterdir()):
        assert str(out) not in file.read_text(encoding="utf-8")
        assert root not in file.read_text(encoding="utf-8")
    assert {read_config(file).data.root for file in rows.rglob("config.yaml")} == {None}
    assert not (rows / "validation").exists()
    page, other = results.page(kept / "runs"), studies.page(kept / "studies")
    words = {"miou": ("mIoU", "pixels %", "IoU % of", "Classes left out"), "ap": ("AP50", "AP75", "AP % of")}[metric]
    for word in (*words, "dkd+deepkd", "- teacher", "on them."):
        assert word in page
    assert "top-1" not in page.split("# Results")[1].split("## ")[1]
    assert "on those images" in other
    assert STUDIES[out.name].question in other
    with (out / "teacher" / "student.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match="no pairs"):
        keeping.keep(out, kept / "runs")


def test_the_shares_of_the_classes_are_those_of_the_labels(done: tuple[str, Path, Path, str]) -> None:
    metric, out, _, _ = done
    if metric != "miou":
        pytest.skip("of pixels")
    (place,) = out.glob("kd=*/seed-0/summary.json")
    facts = json.loads(place.read_text(encoding="utf-8"))
    labels = torch.cat([torch.as_tensor(of_pixels.pair(200 + i)[1]).flatten() for i in range(3)])
    kept = labels[labels != 11]
    for i, (name, share) in enumerate(facts["class_shares"].items()):
        assert share == pytest.approx(100 * float((kept == i).double().mean())), name
