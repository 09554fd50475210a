"""What is said of the papers' rows, exactly where it is true; and runs of another length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fractionate.config.method import MethodSpec
from fractionate.papers.draft import defaults, lasting, milestones, scaled
from fractionate.papers.photos import TRANSFER, photos_notes, starts_from_weights
from fractionate.papers.recipes import DELTA, SUFFIX, PaperRecipe, paper, papers, search
from fractionate.papers.rows import COLUMNS, Row, read
from fractionate.papers.weights import released

RECIPES = [recipe for recipe in papers().values() if not recipe.derived]
ON_PHOTOS = [recipe.row for recipe in RECIPES if recipe.row.dataset != "cifar100"]
Where = Callable[[Row], bool]
NOTES: dict[str, Where] = {
    "networks start from ImageNet weights": lambda r: starts_from_weights(r),
    "comes out of its own row": lambda r: starts_from_weights(r) and bool(r.teacher) and not r.method.startswith("ce"),
    "training images of ImageNet as well": lambda r: starts_from_weights(r) and r.dataset == "cub200",
    "does not say which weights its teacher has": lambda r: (
        bool(r.teacher) and r.dataset == "imagenet" and not r.teacher_weights
    ),
}


@pytest.mark.parametrize("words", NOTES)
def test_a_note_stands_beside_the_rows_that_it_is_true_of_and_no_other(words: str) -> None:
    for row in ON_PHOTOS:
        assert any(words in note for note in photos_notes(row)) is NOTES[words](row), row.id
    assert {row.dataset for row in ON_PHOTOS if starts_from_weights(row)} <= set(TRANSFER)


GENERAL: dict[str, Callable[[PaperRecipe], bool]] = {
    "clean ablation of": lambda r: r.derived,
    "reconstruction: its source": lambda r: r.row.status == "reconstructed",
    "the published file cannot run": lambda r: r.row.status not in ("ok", "reconstructed"),
    "strong augmentation; the accuracy": lambda r: not r.obstacle and r.row.teacher_weights.startswith("aug"),
}


@pytest.mark.parametrize("words", GENERAL)
def test_a_recipe_s_notes_say_what_it_is(words: str) -> None:
    for recipe in [*RECIPES[::13], *[r for r in papers().values() if r.derived][::13]]:
        assert any(words in note for note in recipe.notes) is GENERAL[words](recipe), recipe.id


def test_a_recipe_s_state_is_told_in_a_few_words() -> None:
    for recipe in RECIPES[::5]:
        assert recipe.runnable is (recipe.obstacle is None and not recipe.needs)
        assert ("not runnable yet" in recipe.status) is (recipe.obstacle is not None)
        assert ("needs" in recipe.status) is bool(recipe.needs)
        if len(recipe.needs) > 2:
            assert recipe.status.endswith(f"needs {len(recipe.needs)} fields")
    assert {SUFFIX in r.id for r in search(["/fractionate"])} == {True}


def test_a_clean_ablation_has_the_shift_of_its_data() -> None:
    for dataset, delta in DELTA.items():
        some = next(r for r in papers().values() if r.derived and r.row.dataset == dataset and r.runnable)
        last = some.run().method.wrappers[-1]
        assert (last.name, last.args) == ("deepkd", {"delta": delta, "rule": "paper"})
    assert DELTA == {"cifar100": 0.075, "imagenet": 0.05}


def test_a_shorter_run_keeps_the_share_of_its_marks_and_warm_ups() -> None:
    whole = paper("cifar100/dkd/resnet56__resnet20/mdistiller").run()
    half = lasting(whole, whole.epochs // 2)
    assert half.learning_rate.milestones == tuple(m // 2 for m in whole.learning_rate.milestones)
    assert half.method.args["warmup"] == whole.method.args["warmup"] // 2
    assert lasting(whole, whole.epochs) == whole
    assert replace(half, epochs=whole.epochs).optimizer == whole.optimizer
    assert lasting(whole, 1).learning_rate.milestones == (1,)
    assert milestones((150, 180, 210), 240) == (150, 180, 210)
    assert milestones((1, 2), 24) == (1,)
    assert [scaled(MethodSpec("dkd"), n).args["warmup"] for n in (1, 12, 18, 240, 480)] == [1, 1, 2, 20, 40]
    assert scaled(MethodSpec.parse("dkd(warmup=7)"), 12).args == {"warmup": 7}
    assert "temperature" not in defaults(MethodSpec.parse("kd(temperature=2)"))


def test_what_the_authors_released_is_found_by_pair_and_method() -> None:
    found = released("cifar100", "resnet56", "resnet20")
    assert found is not None
    assert (found.teacher, found.student, found.method, found.variant) == (
        "resnet56",
        "resnet20",
        "dkd+deepkd",
        "published-code",
    )
    assert released("cifar100", "resnet20", "resnet56") is None
    assert released("imagenet", "resnet56", "resnet20") is None


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("beta", "8", 8),
        ("beta", "0.5", 0.5),
        ("milestones", "150 180", (150, 180)),
        ("nesterov", "true", True),
        ("nesterov", "false", False),
        ("views", "2", 2),
        ("temperatures", "4 3.5", (4, 3.5)),
    ],
)
def test_a_cell_is_read_by_its_column_s_type(column: str, text: str, value: object) -> None:
    found = getattr(read([text if name == column else "" for name in COLUMNS]), column)
    assert (found, type(found)) == (value, type(value))
