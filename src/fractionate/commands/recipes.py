"""``fractionate recipes``: the papers' hyper-parameters as a list, one of them in full, and as a run."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from ..config.files import to_yaml
from ..config.run import Run
from ..papers.recipes import PaperRecipe, paper, search
from ..papers.rows import Number, is_own

if TYPE_CHECKING:
    from rich.console import Console

HEADS = ("id", "method", "pair", "variant", "status", "expected")


def print_recipes(words: Sequence[str], console: Console) -> int:
    """The recipes that hold every word, one per line, and how many there are.

    A result in brackets comes from another source than the recipe, so its settings may differ.

    Args:
        words: parts of an id, a method, a network, a variant, a status or a source; capitals do not matter.
        console: where the list goes.

    Returns:
        The number of recipes shown.

    Raises:
        ValueError: no recipe holds them all.
    """
    found = search(words)
    if not found:
        alone = [word for word in words if not search([word])]
        why = f"no recipe holds {alone[0]!r}" if alone else f"no recipe holds all of {', '.join(words)}"
        raise ValueError(f"{why}; words are parts of an id, a method, a network, a variant, a status or a source")
    lines = [HEADS, *((r.id, r.method, r.pair, r.variant, r.status, _short(r)) for r in found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    styles = ["bold", *("" if r.runnable else "dim" for r in found)]
    for line, style in zip(lines, styles, strict=True):  # no table: it would cut ids, which are there to be copied
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
    reasons = Counter(r.obstacle for r in found if r.obstacle)
    for why, count in reasons.most_common():
        told = f"{count} cannot be trained here: {why}"
        console.print(told, style="dim", markup=False, highlight=False, soft_wrap=True)
    able = sum(r.runnable for r in found)
    console.print(f"{len(found)} recipes, {able} of them can be trained as they are", highlight=False)
    return len(found)


def show_recipe(id: str, console: Console) -> None:
    """Everything about one recipe: what its source says, the expected result, the run, and the command.

    Raises:
        ValueError: an unknown id; the nearest ones are named.
    """
    console.print("\n".join(_page(paper(id))), markup=False, highlight=False, soft_wrap=True)


def recipe_run(id: str, changes: Sequence[str] = ()) -> Run:
    """The run of a recipe.

    Args:
        id: as ``fractionate recipes`` prints it.
        changes: ``field=value``; fields that the source leaves open must be among them.

    Raises:
        ValueError: an unknown id, a recipe that is not runnable, a field left open, or a change that does not fit.

    Example:
        >>> recipe_run("cifar100/dkd/resnet32x4__resnet8x4/mdistiller", ["epochs=2"]).epochs
        2
    """
    return paper(id).run(changes)


def _page(recipe: PaperRecipe) -> Iterator[str]:
    yield recipe.id
    yield f"{recipe.method}, {recipe.pair}; source: {recipe.source}"
    yield ""
    yield "What the source says" + (" (of the row it is derived from)" if recipe.derived else "")
    empty = []
    for column in fields(recipe.row):
        value = getattr(recipe.row, column.name)
        if value in (None, "", (), {}):
            empty.append(column.name)
        else:
            yield f"  {column.name:<20} {_cell(value)}"
    yield f"  not stated, or not applicable: {', '.join(empty)}"
    yield ""
    yield f"Status: {recipe.status}"
    run, remarks = _run(recipe)
    yield from (f"  - {note}" for note in (*recipe.notes, *remarks))
    yield ""
    yield from _results(recipe)
    yield ""
    yield from _way(recipe, run)


def _results(recipe: PaperRecipe) -> Iterator[str]:
    """What accuracy to expect, and where each number is printed."""
    score = "mIoU" if recipe.row.task == "segmentation" else "top-1"
    if recipe.teacher_top1 is not None:
        yield f"Teacher: {recipe.row.teacher}, expected {recipe.teacher_top1:g} % {score}"
    if recipe.student_top1 is not None:
        yield f"Student trained alone: {recipe.student_top1:g} % {score}"
    yield "Expected result: " + (_printed(recipe.expected) if recipe.expected else "none printed by this source")
    others = [number for number in recipe.numbers if number is not recipe.expected]
    if others:
        yield "Other published results for this pair and method:"
        for number in others:
            other = "" if is_own(number, recipe.row) else "; its settings may differ"
            yield f"  {_printed(number)}{other}"


def _way(recipe: PaperRecipe, run: Run | None) -> Iterator[str]:
    """The run and its command, or what stands in the way."""
    if recipe.obstacle:
        yield f"Not runnable yet: {recipe.obstacle}"
        return
    command = " ".join(["fractionate train --recipe", recipe.id, *(recipe.example(need) for need in recipe.needs)])
    if run is None:
        yield f"Left open by the source: {', '.join(recipe.needs)}. With values of your own, for example:"
        yield command
        return
    yield "The run"
    yield from (f"  {line}" for line in to_yaml(run).splitlines())
    yield ""
    yield command


def _run(recipe: PaperRecipe) -> tuple[Run | None, list[str]]:
    """The run, and what building it warns of."""
    if not recipe.runnable:
        return None, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = recipe.run()
    return run, list(dict.fromkeys(str(warning.message) for warning in caught))


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return " ".join(f"{key}={entry}" for key, entry in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(recipe: PaperRecipe) -> str:
    """The expected result; that of another source in brackets."""
    if recipe.expected:
        return recipe.expected.value
    absolute = [number for number in recipe.numbers if number.percent is not None]
    return f"({absolute[0].value})" if absolute else ""


def _printed(number: Number) -> str:
    remark = f" ({number.remark})" if number.remark else ""
    return f"{number.value} {number.metric.replace('_', ' ')}, {number.source_kind} of {number.source}{remark}"
