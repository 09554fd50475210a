"""The papers' recipes: every row of the table as something that can be looked at and, where it is complete, trained."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..config.files import override
from ..config.method import Wrapper
from ..config.run import Run
from .draft import DENSE, OTHER_NAMES, draft, lasting, obstacle, open_fields, set_notes
from .method import Reading, example_method, read_method
from .rows import Number, Row, is_own, numbers_of, rows
from .weights import remark

SUFFIX = "/fractionate"
DELTA = {"cifar100": 0.075, "imagenet": 0.05}  # DeepKD's shifts, arXiv 2505.15133
SINGLE_TERM = ("ce", "dist", "skd", "sld", "ttm", "topkd")  # no target and non-target part: deepkd cannot split them

EXAMPLES = {
    "teacher": "resnet32x4",
    "student": "resnet8x4",
    "method.args.beta": "8",
    "learning_rate": "'{schedule: step, milestones: [150, 180, 210]}'",
    "optimizer.lr": "0.05",
    "optimizer.momentum": "0.9",
    "optimizer.weight_decay": "5e-4",
    "data.batch_size": "64",
    "epochs": "240",
    "ema": "0.9999",
    "student.checkpoint": "imagenet.pth",
    "teacher.checkpoint": "imagenet.pth",
    "method.args.temperature": "1",
    "method.args.ce_weight": "1",
}


@dataclass(frozen=True)
class PaperRecipe:
    """One row of the table, or the same row with DeepKD's streams.

    Args:
        row: what the source says.
        derived: the clean ablation: data, solver and weights of the row, its gradients in DeepKD's streams (rule
            ``"paper"``, no mask), so that a difference between the two is the optimizer's.

    Example:
        >>> recipe = paper("cifar100/dkd/resnet32x4__resnet8x4/mdistiller")
        >>> recipe.run().method.args["beta"], recipe.teacher_top1, recipe.expected.value
        (8, 79.42, '76.32')
    """

    row: Row
    derived: bool = False

    @property
    def id(self) -> str:
        """Name by which it is found."""
        return self.row.id + SUFFIX * self.derived

    @property
    def method(self) -> str:
        """The table's name of the method."""
        return self.row.method + "+deepkd" * self.derived

    @property
    def variant(self) -> str:
        """``paper``, ``published-code``, ``fractionate``, or the source's word."""
        return "fractionate" if self.derived else self.row.variant

    @property
    def pair(self) -> str:
        """Teacher and student."""
        names = [name for name in (self.row.teacher, self.row.student) if name]
        return " -> ".join(names) or "free choice"

    @property
    def source(self) -> str:
        """Where the row comes from: repository or arXiv id, and file."""
        return " ".join(word for word in (self.row.source, self.row.config) if word)

    @property
    def teacher_top1(self) -> float | None:
        """Accuracy that the teacher is expected to have, in percent."""
        return self.row.teacher_acc

    @property
    def student_top1(self) -> float | None:
        """Published accuracy of the student trained alone, in percent."""
        return self.row.student_acc

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Published results of this pair and method, those of the row's own source first."""
        return () if self.derived else numbers_of(self.row)

    @property
    def expected(self) -> Number | None:
        """The result that the row's own source prints; ``None`` if it prints none."""
        return next((number for number in self.numbers if is_own(number, self.row)), None)

    @functools.cached_property
    def obstacle(self) -> str | None:
        """Why the trainer cannot run it; ``None`` if it can."""
        return obstacle(self.row)

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of the run that the source leaves open; they must be given to train it."""
        return () if self.obstacle else (*open_fields(self.row), *self._reading.needs)

    @functools.cached_property
    def _reading(self) -> Reading:
        return read_method(self.row)

    @property
    def runnable(self) -> bool:
        """Whether it can be trained as it is."""
        return not (self.obstacle or self.needs)

    def example(self, need: str) -> str:
        """A change that gives what is open, as one types it."""
        if need == "method":
            return f"method='{example_method(self.row, self._reading.spec)}'"
        if self.row.dataset in DENSE and need == "teacher.checkpoint":
            return f"{need}=teacher.safetensors"
        return f"{need}={EXAMPLES[need]}"

    @property
    def status(self) -> str:
        """In a few words: whether the published run exists and runs, and whether it runs here."""
        published = {"ok": "ok", "reconstructed": "reconstruction"}.get(self.row.status, "published file cannot run")
        words = ["ours" if self.derived else published]
        if self.obstacle:
            words.append("not runnable yet")
        elif self.needs:
            words.append(f"needs {', '.join(self.needs) if len(self.needs) < 3 else f'{len(self.needs)} fields'}")
        return "; ".join(words)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before using it."""
        return tuple(_notes(self))

    def run(self, changes: Sequence[str] = (), epochs: int | None = None) -> Run:
        """The complete run.

        Args:
            changes: ``field=value``; must give what :attr:`needs` lists.
            epochs: another length than the source's; milestones and warm-ups keep their share, while ``epochs=N`` among
                the changes leaves them where they are.

        Raises:
            ValueError: it cannot be trained here, or something is left open; says why or what.
        """
        if self.obstacle:
            raise ValueError(f"{self.id} is not runnable yet: {self.obstacle}")
        given = [change.partition("=")[0].strip() for change in changes] + ["epochs"] * (epochs is not None)
        still_open = [need for need in self.needs if not any(_covers(path, need) for path in given)]
        if still_open:
            raise ValueError(
                f"{self.id}: its source leaves {', '.join(still_open)} open; give for example "
                f"{' '.join(self.example(path) for path in still_open)}"
            )
        method = self._reading.spec
        if self.derived:
            streams = Wrapper("deepkd", {"delta": DELTA[self.row.dataset], "rule": "paper"})
            method = replace(method, wrappers=(*method.wrappers, streams))
        run = draft(self.row, method)
        run = run if epochs is None else lasting(run, epochs)
        return override(run, changes) if changes else run


@functools.cache
def papers() -> Mapping[str, PaperRecipe]:
    """Every recipe of the table by its id, each followed by its clean ablation if it has one.

    Example:
        >>> ids = list(papers())
        >>> "cifar100/dkd/resnet56__resnet20/mdistiller/fractionate" in ids
        True
    """
    found = (r for row in rows().values() for r in (PaperRecipe(row), PaperRecipe(row, derived=True)))
    return {r.id: r for r in found if not r.derived or _splits(r.row)}


def paper(id: str) -> PaperRecipe:
    """A recipe by its id.

    Raises:
        ValueError: an unknown id; the nearest ones are named.
    """
    if id not in papers():
        near = difflib.get_close_matches(id, papers(), n=3, cutoff=0.4)
        none = "no folder or file is called so either; `fractionate recipes` lists them"
        meant = f"did you mean {' or '.join(near)}?" if near else none
        raise ValueError(f"unknown recipe {id!r}: {meant}")
    return papers()[id]


def search(words: Sequence[str] = ()) -> list[PaperRecipe]:
    """The recipes that hold every word, somewhere in what the list shows of them.

    Example:
        >>> [r.id for r in search(["dkd/", "resnet56__resnet20", "mdistiller", "fractionate"])]
        ['cifar100/dkd/resnet56__resnet20/mdistiller/fractionate']
    """
    wanted = [word.lower() for word in words]
    return [r for r in papers().values() if all(word in _shown(r) for word in wanted)]


def _shown(recipe: PaperRecipe) -> str:
    return " ".join((recipe.id, recipe.method, recipe.pair, recipe.variant, recipe.status, recipe.source)).lower()


def _splits(row: Row) -> bool:
    """Whether the clean ablation makes sense: a method that runs here in one stream, with parts to split."""
    base, *added = row.method.split("+")
    taken = "deepkd" in added or "dot" in added
    other = row.dataset not in DELTA or base in SINGLE_TERM or base.startswith("sdd_")
    return not (taken or other or obstacle(row))


def _covers(path: str, need: str) -> bool:
    """Whether a change of ``path`` decides ``need``: it, all that it is part of, or its name."""
    return path in (need, f"{need}.name", f"{need}.schedule") or need.startswith(f"{path}.")


def _notes(recipe: PaperRecipe) -> list[str]:
    row, notes = recipe.row, []
    if recipe.derived:
        notes.append(f"clean ablation of {row.id}: the same data, solver and weights; only the gradient streams differ")
    if row.status == "reconstructed":
        notes.append("reconstruction: its source gives no run with these values")
    elif row.status != "ok":
        notes.append(f"the published file cannot run ({row.status}); its values are used")
    notes += [text for text in (row.remark, remark(row)) if text]
    if not recipe.obstacle:
        notes += recipe._reading.notes
        notes += set_notes(row)
        if row.teacher_weights.startswith("aug"):
            notes.append(
                "the source's teacher was trained with strong augmentation; the accuracy given is the plain one's"
            )
        notes += [
            f"{name} is a {other} here" for name, other in OTHER_NAMES.items() if name in (row.teacher, row.student)
        ]
    return notes
