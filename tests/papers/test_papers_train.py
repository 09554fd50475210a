"""One recipe of every method and form takes two real training steps, with tiny networks on random images."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fractionate.data import Normalization, SmallImages, cutout
from fractionate.papers.recipes import PaperRecipe, papers
from fractionate.train.build import prepare
from fractionate.train.loop import fit

# Some methods warn when they are built: kd under DeepKD's published code, dgkd beyond its proven range.
pytestmark = pytest.mark.filterwarnings("ignore:deepkd", "ignore:dgkd")

CLASSES = 100
ONE_EACH = {(r.method, r.variant): r for r in papers().values() if r.row.dataset == "cifar100" and not r.obstacle}
WITHOUT_REGIONS = [r for r in ONE_EACH.values() if not r.method.startswith("sdd_")]


def images(recipe: PaperRecipe) -> SmallImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (32, 3, 4, 4), dtype=torch.uint8, generator=generator)
    target = torch.randint(0, CLASSES, (32,), generator=generator)
    strong = cutout if recipe.row.views == 2 else None
    return SmallImages(pixels, target, CLASSES, Normalization.of(pixels), batch_size=16, strong=strong)


def tiny() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, CLASSES))


@pytest.mark.parametrize("recipe", WITHOUT_REGIONS, ids=lambda r: f"{r.method} {r.variant}".strip())
def test_two_steps_move_the_student(recipe: PaperRecipe) -> None:
    given = [recipe.example(need).replace("'", "") for need in recipe.needs]
    run = replace(recipe.run(given), device="cpu", channels_last=False)
    teacher = tiny() if run.teacher else None
    training = prepare(run, student=tiny(), teacher=teacher, train=images(recipe), test=images(recipe))
    before = [p.clone() for p in training.student.parameters()]
    record = next(fit(training))  # of the first of many epochs
    assert training.step == 2
    assert all(bool(torch.isfinite(p).all()) for p in training.student.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(before, training.student.parameters(), strict=True))
    assert record.lr == pytest.approx(run.optimizer.lr * (0.145 if run.learning_rate.warmup_epochs else 1), rel=1e-4)
