"""The rows on Cityscapes and COCO: every cell of one that runs is in its run, and what cannot run says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import fractionate as fr
from fractionate.papers.recipes import paper
from fractionate.recipes import segmentation
from tests.papers.cells import Case, Cells, table
from tests.papers.columns import CHECKS, same

ROWS = [c for c in table() if c["dataset"] == "cityscapes" and not c["method"].endswith("+dist")]
CROP = "scale 0.5..2.0 step 0.1 + crop 512x1024 + flip; BGR mean subtraction"
GIVEN = ["teacher.checkpoint=teacher.safetensors"]


def network(name: str, cell: str) -> bool:
    architecture, encoder = name.removeprefix("smp:").split("-")
    return f"{architecture}_{encoder}" == cell


def augmentation(case: Case, cell: str) -> bool:
    data = case.run.data
    found = (data.scale, data.scale_step, data.crop, data.flip, data.colour)
    said = any("in place of BGR minus a mean" in note for note in case.recipe.notes)
    return cell == CROP and said and found == ((0.5, 2.0), 0.1, (512, 1024), True, 0.0)


def iterations(case: Case, cell: str) -> bool:
    steps = -(-2975 // case.run.data.batch_size)  # images of Cityscapes' training part
    return abs(case.run.epochs * steps / int(cell) - 1) < 0.003


def distils_whole(case: Case, cell: str) -> bool:
    """The weight of the sum: 1 in all rows, so the method's own weights are those that count, from the first epoch."""
    parts = [part for part in case.built.parts.values() if part.role != "task"]
    first, last = fr.Progress(epoch=1, epochs=case.run.epochs), fr.Progress(epoch=case.run.epochs)
    return cell == "1" and all(part.weight(first) == part.weight(last) for part in parts)


DENSE: dict[str, Callable[[Case, str], bool]] = {
    **CHECKS,
    "dataset": lambda case, cell: case.run.data.name == cell,
    "task": lambda case, cell: case.run.task.name == cell,
    "teacher": lambda case, cell: network(case.run.teacher.name, cell),
    "student": lambda case, cell: network(case.run.student.name, cell),
    "variant": lambda case, cell: cell == "pixels at stride 8" and case.run.task.logits == "head",
    "status": lambda case, cell: case.recipe.status == f"{cell}; needs teacher.checkpoint",
    "lr_schedule": lambda case, cell: (
        cell == f"{case.run.learning_rate.schedule} power {case.run.learning_rate.power:g}"
        and case.run.learning_rate.per == "step"
    ),
    "iterations": iterations,
    "augmentation": augmentation,
    "kd_weight": distils_whole,
}


def with_every_cell(cells: Cells, checks: dict[str, Callable[[Case, str], bool]]) -> Case:
    """The row with its run, in which every cell was looked for."""
    recipe = paper(cells["id"])
    case, looked_at = Case(cells, recipe, recipe.run(GIVEN)), 0
    for column, cell in cells.items():
        if cell and column not in ("remark", "teacher_acc", "student_acc"):
            assert checks[column](case, cell), f"{recipe.id}: column {column!r} = {cell!r} is not in {case.run}"
            looked_at += 1
    assert looked_at > 20
    return case


@pytest.mark.parametrize("cells", ROWS, ids=lambda c: c["id"])
def test_every_cell_of_a_row_of_pixels_is_in_its_run(cells: Cells) -> None:
    case = with_every_cell(cells, DENSE)
    assert ("auxiliary" in cells["remark"]) == any("auxiliary head, whose" in note for note in case.recipe.notes)


def test_dist_compares_pixels_without_the_factor_of_its_temperature() -> None:
    runs = [paper(c["id"]).run(GIVEN) for c in ROWS if c["method"] == "dist"]
    assert [run.method.args["scale"] for run in runs] == [False] * 3


@pytest.mark.parametrize("pair", segmentation.PAIRS)
def test_the_recipe_of_a_pair_is_the_row(pair: str) -> None:
    run = segmentation.cityscapes(pair)
    row = next(c for c in ROWS if c["student"] == pair and c["method"] == "dist")
    ours = paper(row["id"]).run(GIVEN)
    assert run.method.args | {"ce_weight": 1} == ours.method.args
    assert replace(run, method=ours.method, teacher=ours.teacher) == ours


WITH_BOXES = 117_266  # images of COCO's training part that have any
BOXES: dict[str, Callable[[Case, str], bool]] = {
    **CHECKS,
    "dataset": lambda case, cell: f"{case.run.data.name}2017" == cell,
    "task": DENSE["task"],
    "teacher": lambda case, cell: DETECTORS[case.run.teacher.name] == cell,
    "student": lambda case, cell: DETECTORS[case.run.student.name] == cell and case.run.student.pretrained,
    "variant": lambda case, cell: cell in {"all RoIs", "top1|top2|rest"} and case.run.task.keep == "all",
    "status": DENSE["status"],
    "lr_schedule": lambda case, cell: case.run.learning_rate.schedule == cell,
    "milestones": lambda case, cell: all(
        abs(ours * WITH_BOXES / case.run.data.batch_size / int(theirs) - 1) < 0.03
        for ours, theirs in zip(case.run.learning_rate.milestones, cell.split(), strict=True)
    ),
    "iterations": lambda case, cell: (
        abs(case.run.epochs * -(-WITH_BOXES // case.run.data.batch_size) / int(cell) - 1) < 0.03
    ),
    "augmentation": lambda case, cell: (
        cell == f"resize shortest side {case.run.data.shorter[0]}..{case.run.data.shorter[-1]} + flip"
        and (case.run.data.flip, case.run.data.size, len(case.run.data.shorter)) == (True, 1333, 6)
    ),
}
DETECTORS = {
    "fasterrcnn-resnet101": "faster_rcnn_r101_fpn",
    "fasterrcnn-resnet50": "faster_rcnn_r50_fpn",
    "fasterrcnn-resnet18": "faster_rcnn_r18_fpn",
    "fasterrcnn-mobilenet_v2": "faster_rcnn_mv2_fpn",
}
REGIONS = [
    c for c in table() if c["teacher"].startswith("faster") and c["method"] in {"dkd", "gdkd", "gdkd3"} and c["lr"]
]


@pytest.mark.parametrize("cells", REGIONS, ids=lambda c: c["id"])
def test_every_cell_of_a_row_of_regions_is_in_its_run(cells: Cells) -> None:
    case = with_every_cell(cells, BOXES)
    assert len(REGIONS) == 12
    assert distils_whole(case, "1")


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("gdkds", "no method here"),
        ("dkd+reviewkd", "ReviewKD compares features"),
        ("dkd+deepkd", "its source prints no settings"),
    ],
)
def test_rows_of_detectors_say_what_the_trainer_lacks(method: str, why: str) -> None:
    found = [c for c in table() if c["dataset"] == "coco2017" and c["method"] == method]
    two_stages = [paper(c["id"]).obstacle or "" for c in found if c["teacher"].startswith("faster")]
    assert two_stages
    assert all(why in obstacle for obstacle in two_stages)


def test_rows_of_one_stage_detectors_point_to_the_losses() -> None:
    found = [paper(c["id"]).obstacle or "" for c in table() if c["teacher"].startswith("gfl")]
    assert found
    assert all("for loops of one's own" in why or "no method here" in why for why in found)


def test_a_rate_of_a_row_of_pixels_ends_at_its_least() -> None:
    run = paper(ROWS[0]["id"]).run(GIVEN)
    assert same(run.learning_rate.minimum * run.optimizer.lr, ROWS[0]["lr_min"])
