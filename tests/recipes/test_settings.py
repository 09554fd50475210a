"""Every number of every recipe and of every study's plan: a change of one is meant, and is written down here too.

``python -m tests.recipes.test_settings`` writes settings.csv anew; its diff then shows what has changed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fractionate.config.files import to_plain
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.recipes import RECIPES, segmentation
from fractionate.studies.plan import cost
from fractionate.studies.questions import STUDIES

WRITTEN = Path(__file__).with_name("settings.csv")
METHODS = ("kd", "dkd", "gdkd", "crld", "dkd+deepkd", "deepkd")
LENGTHS = (1, 2, 10)
TAUGHT = Network("resnet56", "teacher.safetensors")
Row = tuple[str, str, str]  # a run, a field, its value


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The scalars of plain data with their paths."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else None
    if inner is None or not node:
        yield path, str(node)
        return
    for key, value in inner:
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def apart(name: str, run: Run, base: Run) -> list[Row]:
    """The fields in which a run differs from another one."""
    now, before = dict(leaves(to_plain(run))), dict(leaves(to_plain(base)))
    fields = [field for field in dict.fromkeys([*before, *now]) if now.get(field) != before.get(field)]
    return [(name, field, now.get(field, "absent")) for field in fields]


def recipe_rows(name: str) -> Iterator[Row]:
    """A recipe's teacher; its students and its other lengths, as far as they differ from it."""
    recipe = RECIPES[name]
    teacher, student = recipe.teacher(), recipe.student(MethodSpec("kd"), TAUGHT)
    yield (name, "title", recipe.title)
    yield (name, "methods", " ".join(recipe.methods))
    yield (name, "expected", str(recipe.expected(teacher.student)))
    yield from apart(f"{name} teacher", teacher, Run(student=Network(""), method=MethodSpec("ce")))
    yield from apart(f"{name} kd", student, teacher)
    for method in METHODS[1:]:
        yield from apart(f"{name} {method}", recipe.student(MethodSpec.parse(method), TAUGHT), student)
    for n in LENGTHS:
        yield from apart(f"{name} teacher for {n}", recipe.teacher(epochs=n), teacher)
        yield from apart(f"{name} dkd for {n}", recipe.student(MethodSpec("dkd"), TAUGHT, epochs=n), student)
    for changed in ({"seed": 7}, {"evaluate_on": "validation"}, {"name": "resnet8"}):
        given: dict[str, Any] = changed
        yield from apart(f"{name} teacher {given}", recipe.teacher(**given), teacher)
        yield from apart(f"{name} kd {given}", recipe.student(MethodSpec("kd"), TAUGHT, **given), student)


def cityscapes_rows() -> Iterator[Row]:
    """The published runs on Cityscapes, which go by no recipe."""
    for pair in ("deeplabv3_resnet18", "deeplabv3_mobilenet_v2", "pspnet_resnet18"):
        yield from apart(f"cityscapes {pair}", segmentation.cityscapes(pair), segmentation.teacher())


def study_rows(name: str) -> Iterator[Row]:
    """A study's plan without its words."""
    study, words = STUDIES[name], ("question", "about", "name")
    plan = {key: value for key, value in asdict(study).items() if key not in words}
    arms, contrasts, teachers = plan.pop("arms"), plan.pop("contrasts"), plan.pop("teachers")
    usual = asdict(study.arms[0].__class__("", ""))
    for field, value in leaves({**plan, "cost": cost(study)}):
        yield f"study {name}", field, value
    for arm in arms:
        for field, value in leaves({k: v for k, v in arm.items() if k != "name" and v != usual[k]}):
            yield f"study {name}", f"arm {arm['name']} {field}", value
    for one in teachers:
        yield f"study {name}", f"teacher {one['name']}", f"{' '.join(one['changes'])} x {one['length']:g}"
    for c in contrasts:
        told = " ".join(
            f"{sign}{arm}[{column}]" for sign, part in (("+", "plus"), ("-", "minus")) for arm, column in c[part]
        )
        yield f"study {name}", f"{c['left']} against {c['right']}", told


def found(name: str) -> list[Row]:
    """What the package says now of a recipe, of Cityscapes or of a study."""
    if name == "cityscapes":
        return list(cityscapes_rows())
    return list(study_rows(name.removeprefix("study ")) if name.startswith("study ") else recipe_rows(name))


NAMES = [*RECIPES, "cityscapes", *(f"study {name}" for name in STUDIES)]


@pytest.fixture(scope="module")
def written() -> dict[str, list[Row]]:
    with WRITTEN.open(newline="", encoding="utf-8") as file:
        rows = [(row[0], row[1], row[2]) for row in csv.reader(file)]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        group = row[0] if row[0].startswith("study ") else row[0].partition(" ")[0]
        groups.setdefault(group, []).append(row)
    return groups


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_the_one_that_is_written_down(name: str, written: dict[str, list[Row]]) -> None:
    assert found(name) == written[name]


def test_what_is_written_down_is_there(written: dict[str, list[Row]]) -> None:
    assert list(written) == NAMES


if __name__ == "__main__":
    with WRITTEN.open("w", newline="", encoding="utf-8") as out:
        for each in NAMES:
            csv.writer(out, lineterminator="\n").writerows(found(each))
