"""The table of recipes as raw text, beside the runs that the package makes of it."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import fractionate as fr
from fractionate.config.run import Run
from fractionate.methods import Method
from fractionate.papers.recipes import PaperRecipe
from fractionate.recipes.teachers import teacher_run

TABLE = Path(fr.__file__).parent / "papers" / "data" / "recipes.csv"
Cells = dict[str, str]
SOLVER = ("student", "lr", "lr_schedule", "epochs", "batch_size", "weight_decay", "momentum")


def table() -> list[Cells]:
    """Every line as text."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def complete(cells: Cells) -> bool:
    """Whether a line of CIFAR-100 says everything that its method and the trainer need."""
    base, *added = cells["method"].split("+")
    needed = [*SOLVER]
    if base != "ce":
        needed += ["teacher", "ce_weight"]
    if base.startswith("dkd"):
        needed += ["alpha", "beta"]
    if cells["optimizer"] == "adamw" or "crd" in added:
        return False  # not offered: another optimizer, a loss on features
    return all(cells[column] for column in needed)


@dataclass(frozen=True)
class Case:
    """A line of the table and the run that the package makes of it."""

    cells: Cells
    recipe: PaperRecipe
    run: Run

    @cached_property
    def built(self) -> Method:
        return self.run.method.build()

    @property
    def args(self) -> dict[str, object]:
        return self.run.method.args

    @cached_property
    def teacher_run(self) -> Run:
        return teacher_run(self.recipe)

    def wrapper(self, name: str) -> dict[str, object] | None:
        return next((w.args for w in self.run.method.wrappers if w.name == name), None)

    def momentum(self, stream: str) -> float:
        return self.built.momenta(self.run.optimizer.momentum, merge=False)[stream]

    @property
    def mask(self) -> fr.schedules.phases:
        keep = str(self.wrapper("deepkd")["keep"])
        pairs = re.findall(r"(\w+)=([\d.]+)", keep)
        return fr.schedules.phases(**{name: float(value) for name, value in pairs})

    def kept(self, epoch: int) -> int:
        return self.mask.count(fr.Progress(epoch=epoch, epochs=self.run.epochs), 100)
