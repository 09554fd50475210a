"""The rows on photos: every cell of a complete one is in its run, what is open must be given, and a run trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import fractionate as fr
from fractionate.config.optimizers import AdamW
from fractionate.papers.recipes import PaperRecipe, paper, papers
from fractionate.train.build import prepare
from fractionate.train.loop import fit
from tests.data import photo_trees as trees
from tests.papers.cells import Case, Cells, table
from tests.papers.columns import CHECKS, VARIANTS, loss_warmup, same

pytestmark = pytest.mark.filterwarnings("ignore:deepkd", "ignore:dgkd")

SETS = {
    "imagenet": "imagenet",
    "tiny_imagenet": "tiny-imagenet",
    "cub200": "cub200",
    "dtd": "dtd",
    "food101": "food101",
}
ROWS = [c for c in table() if c["dataset"] in SETS and c["method"] not in ("linear-probe", "deepkd")]
ROWS = [c for c in ROWS if not c["augmentation"].startswith("64 x 64")]
SOLVER = ("lr", "lr_schedule", "epochs", "batch_size", "weight_decay")
RESIZED = (True, True, 224, (0.08, 1.0), 0.875)
TRIVIAL, RANDAUGMENT = "trivialaugment-wide", "randaugment(rand-m9-mstd0.5-inc1)+random-erase0.25"
MORE = {  # what the source's word for its form of a method means, beyond those of CIFAR-100
    "eta=0.8": {"eta": 0.8},
    "ori": {},
    "transformer student": {},
    "v3 (dead file, TOPK 500)": {"form": "published-code"},
}


def augmentation(case: Case, cell: str) -> bool:
    data = case.run.data
    found = (data.augment, data.erasing, data.repeats)
    if (
        (data.resized_crop, data.flip, data.size, data.crop_scale, data.crop_pct) != RESIZED
        or data.mixup
        or data.cutmix
    ):
        return False
    if cell.startswith(TRIVIAL):
        return found == ("trivialaugment", 0.25, 4) and case.args["label_smoothing"] == 0.1 and case.run.ema is not None
    if RANDAUGMENT in cell:
        return found == ("rand-m9-mstd0.5-inc1", 0.25, 1)
    return cell == "rrc224+flip" and found == ("none", 0.0, 1)


def network(case: Case, name: str, cell: str) -> bool:
    return name.rpartition(":")[2].split(".")[0].removesuffix("_patch16_224") == cell


def teacher_weights(case: Case, cell: str) -> bool:
    """The first weights of torchvision on ImageNet; where one transfers, both start from weights."""
    teacher = case.run.teacher
    if cell in ("torchvision V1", "vanilla"):
        return teacher.pretrained and teacher.name in ("torchvision:resnet34", "timm:resnet50.tv_in1k")
    return cell.startswith("aug") and teacher.pretrained and case.run.student.pretrained


def warmup(case: Case, cell: str) -> bool:
    if cell not in ("0", "1"):  # one epoch of warm-up is none
        return loss_warmup(case, cell)
    parts = {name: part for name, part in case.built.parts.items() if part.role != "task"}
    first, last = (fr.Progress(epoch=e, epochs=case.run.epochs) for e in (1, case.run.epochs))
    return all(part.weight(first) == part.weight(last) for part in parts.values())


def optimizer(case: Case, cell: str) -> bool:
    found = case.run.optimizer
    if cell == "adamw":
        return isinstance(found, AdamW) and (found.decay, found.clip) == ("weights", 5.0)
    return cell == found.name == "sgd"


PHOTOS: dict[str, Callable[[Case, str], bool]] = {
    **CHECKS,
    "dataset": lambda case, cell: case.run.data.name == SETS[cell],
    "teacher": lambda case, cell: network(case, case.run.teacher.name, cell),
    "student": lambda case, cell: network(case, case.run.student.name, cell),
    "variant": lambda case, cell: (VARIANTS | MORE)[cell].items() <= case.args.items() and case.recipe.variant == cell,
    "optimizer": optimizer,
    "augmentation": augmentation,
    "teacher_weights": teacher_weights,
    "loss_warmup_epochs": warmup,
    "nesterov": lambda case, cell: str(case.run.optimizer.nesterov).lower() == cell,
    "status": lambda case, cell: CHECKS["status"](case, cell) or "; needs" in case.recipe.status,
}


def given(recipe: PaperRecipe) -> list[str]:
    return [recipe.example(need).replace("'", "") for need in recipe.needs]


def solver_is_stated(cells: Cells) -> bool:
    return all(cells[column] for column in SOLVER)


@pytest.mark.parametrize("dataset", SETS)
def test_every_cell_of_a_row_of_photos_is_in_its_run(dataset: str) -> None:
    looked_at = 0
    for cells in (c for c in ROWS if c["dataset"] == dataset):
        recipe = paper(cells["id"])
        assert recipe.obstacle is None, f"{recipe.id}: {recipe.obstacle}"
        assert solver_is_stated(cells) == ("optimizer.lr" not in recipe.needs), recipe.id
        case = Case(cells, recipe, recipe.run(given(recipe)))
        for column, cell in cells.items():
            if not cell or ("method" in recipe.needs and column not in (*SOLVER, "dataset", "student", "augmentation")):
                continue
            assert PHOTOS[column](case, cell), f"{recipe.id}: column {column!r} = {cell!r} is not in {case.run}"
            looked_at += 1
    assert looked_at > 40


def test_what_no_library_has_and_no_source_says_must_be_given() -> None:
    found = {cells["id"]: paper(cells["id"]).needs for cells in ROWS}
    assert found["imagenet/gdkd/resnet50__swin_t/vit-gdkd/transformer-student"] == ("ema",)
    assert found["dtd/ce/resnet18/gdkd/strong-augmentation"] == ()
    assert found["tiny_imagenet/kd/resnet50__mobilenet_v1/gdkd"] == ("student.checkpoint",)
    assert found["imagenet/kd+deepkd/resnet34__resnet18/paper/paper"] == ("method",)
    assert found["imagenet/kd+deepkd/resnet34__resnet18/deepkd/published-code"] == ()
    assert found["imagenet/kd/resnet50__mobilenet_v1/mdistiller"] == ()
    with pytest.raises(ValueError, match=r"leaves ema open; give for example ema=0\.9999"):
        paper("imagenet/gdkd/resnet50__swin_t/vit-gdkd/transformer-student").run()


def test_the_paper_s_and_the_code_s_variants_keep_their_own_schedules() -> None:
    code = paper("imagenet/dkd+deepkd/resnet34__resnet18/deepkd/published-code").run()
    recipe = paper("imagenet/dkd+deepkd/resnet34__resnet18/paper/paper")
    ours = recipe.run(given(recipe))
    assert (code.learning_rate.schedule, code.learning_rate.warmup_epochs) == ("cosine", 20)
    assert (ours.learning_rate.schedule, ours.learning_rate.milestones) == ("step", (30, 60, 90))


def test_a_clean_ablation_on_imagenet_has_the_shift_of_imagenet() -> None:
    run = paper("imagenet/dkd/resnet34__resnet18/mdistiller/fractionate").run()
    assert run.method.wrappers[-1].args["delta"] == 0.05
    printed = paper("imagenet/dkd+deepkd/resnet34__resnet18/paper/paper").row
    assert printed.delta_nontarget == 0.05
    assert not any(r.derived and r.row.dataset in ("tiny_imagenet", "cub200") for r in papers().values())


@pytest.mark.parametrize("id", ["imagenet/dkd/resnet34__resnet18/mdistiller", "cub200/kd/resnet34__resnet18/gdkd"])
def test_a_row_trains_on_a_folder_of_its_layout(id: str, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    (trees.imagenet_tree if id.startswith("imagenet") else trees.cub_tree)(tmp_path)
    small = [f"data.root={tmp_path}", "data.workers=0", "data.size=16", "data.batch_size=15", "device=cpu", "epochs=2"]
    recipe = paper(id)
    milestones = ["learning_rate={schedule: constant}", "optimizer.lr=0.01"]
    run = recipe.run([*small, *milestones])
    classes = 3

    def net() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, classes))

    training = prepare(run, student=net(), teacher=net())
    before = [p.clone() for p in training.student.parameters()]
    records = list(fit(training))
    assert training.step == 4
    assert all(math.isfinite(r.train_loss) for r in records)
    assert not any(torch.equal(a, b) for a, b in zip(before, training.student.parameters(), strict=True))
    assert same(records[0].lr, "0.01")
