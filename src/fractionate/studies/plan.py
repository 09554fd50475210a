"""A study as data: a question, the arms that are trained for it, what validation chooses, and what is compared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config.method import MethodSpec

DEEPKD = re.compile(r"\+deepkd(?:\((?P<args>.*)\))?$")
CONTROLS = {"normalised": "gain normalised", "weights": "as weights"}


@dataclass(frozen=True)
class Teaching:
    """How a teacher is trained: the recipe's way, and what differs from it.

    Args:
        name: names its folder; empty for the recipe's own.
        says: what sets it apart, in words.
        changes: ``field=value`` of its run.
        length: in multiples of the recipe's.
    """

    name: str = ""
    says: str = "the recipe's"
    changes: tuple[str, ...] = ()
    length: float = 1.0


@dataclass(frozen=True)
class Arm:
    """One way to train a student. ``{}`` in ``method`` and ``changes`` stands for a value that validation chooses.

    Args:
        name: in tables; every arm of a study has another one.
        method: as on the command line.
        changes: ``field=value`` of its run.
        length: in multiples of the recipe's.
        teacher: name of its :class:`Teaching`.
        values: what is tried on the validation part; the best mean is confirmed on the test part.
        pilot: share of the training images on which they are tried.
        follows: the arm whose choice this one takes over, in place of ``values``.
        begins: the arm whose trained weights, seed by seed, this one begins with; it has no ``values`` of its own then.
        last: trained when all seeds of the others are done, such as a control.
    """

    name: str
    method: str
    changes: tuple[str, ...] = ()
    length: float = 1.0
    teacher: str = ""
    values: tuple[str, ...] = ()
    pilot: float = 1.0
    follows: str = ""
    begins: str = ""
    last: bool = False

    @property
    def taught(self) -> bool:
        """Whether it learns from a teacher.

        Example:
            >>> Arm("labels alone", "ce(label_smoothing=0.1)").taught, Arm("kd", "kd").taught
            (False, True)
        """
        return re.split(r"[(+]", self.method)[0] != "ce"

    def spec(self, value: str = "") -> MethodSpec:
        """The method, with what was chosen.

        Example:
            >>> str(Arm("T", "kd(temperature={})", values=("2", "4")).spec("4"))
            'kd(temperature=4)'
        """
        from ..config.method import MethodSpec  # with torch; the plan alone is told at once

        return MethodSpec.parse(self.method.replace("{}", value))

    def changed(self, value: str = "") -> tuple[str, ...]:
        """The changes, with what was chosen."""
        return tuple(change.replace("{}", value) for change in self.changes)


Term = tuple[str, str]
"""An arm and a column of its metrics (its mean over the epochs); an empty one is the headline at the last epoch."""


@dataclass(frozen=True)
class Contrast:
    """What is compared, seed by seed: the sum over ``plus`` minus the sum over ``minus``.

    Args:
        left, right: names of the two sides, for a sentence.
        plus, minus: terms.
    """

    left: str
    right: str
    plus: tuple[Term, ...]
    minus: tuple[Term, ...]


def against(left: str, *rights: str) -> tuple[Contrast, ...]:
    """An arm compared with others by the headline."""
    return tuple(Contrast(left, right, ((left, ""),), ((right, ""),)) for right in rights)


@dataclass(frozen=True)
class Study:
    """A question and the runs that answer it.

    Args:
        name: on the command line.
        question: in one sentence.
        about: what the arms are, and how to read them.
        arms: the first one is what tables compare with.
        contrasts: the differences that answer the question, the most telling first.
        teachers: by name.
        recipe: networks and images of the default size.
        full: the recipe of ``--full``.
        pilots: pairs of arms whose choices are set side by side, the pilot's second.
        seeds: students per arm on the test part.
        tuning_seeds: students per arm and value on the validation part; other seeds than those.
        watched: whether the gradient streams are observed.
    """

    name: str
    question: str
    about: str
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]
    teachers: tuple[Teaching, ...] = (Teaching(),)
    recipe: str = "digits"
    full: str = "cifar100"
    pilots: tuple[tuple[str, str], ...] = ()
    seeds: int = 5
    tuning_seeds: int = 2
    watched: bool = False

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        asked = [arm for c in self.contrasts for arm, _ in (*c.plus, *c.minus)]
        asked += [name for pair in self.pilots for name in pair]
        asked += [name for arm in self.arms for name in (arm.follows, arm.begins) if name]
        if len(set(names)) < len(names) or set(asked) - set(names):
            wrong = sorted(set(asked) - set(names)) or names
            raise ValueError(f"study {self.name}: every arm needs a name of its own, and {wrong} has none")
        if missing := {arm.teacher for arm in self.arms} - {one.name for one in self.teachers}:
            raise ValueError(f"study {self.name}: no teacher is named {sorted(missing)}")
        for arm in self.arms:
            if arm.begins and (arm.values or self.arm(arm.begins).begins):
                raise ValueError(
                    f"study {self.name}: {arm.name} begins with the weights of {arm.begins}, which are there on the "
                    f"test part alone and must have begun anew: give it no values, and name an arm without begins"
                )

    def arm(self, name: str) -> Arm:
        """An arm by name."""
        return next(arm for arm in self.arms if arm.name == name)


def beside(arm: Arm) -> tuple[Arm, ...]:
    """An arm with streams, and its controls: the same gains as loss weights, and (DeepKD) without the gains.

    Args:
        arm: whose method ends in ``+deepkd`` or ``+dot``.

    Raises:
        ValueError: another method.

    Example:
        >>> [one.method for one in beside(Arm("deepkd", "kd+deepkd(delta=0.05)"))]
        ['kd+deepkd(delta=0.05)', 'kd+deepkd(delta=0.05, normalize_gain=true)', 'kd+deepkd(delta=0.05)+reweighted']
    """
    follows = arm.name if arm.values else arm.follows
    copy = replace(arm, values=(), pilot=1.0, follows=follows)
    weights = replace(copy, name=f"{arm.name}, {CONTROLS['weights']}", method=f"{arm.method}+reweighted")
    if found := DEEPKD.search(arm.method):
        args = ", ".join(part for part in (found["args"], "normalize_gain=true") if part)
        name = f"{arm.name}, {CONTROLS['normalised']}"
        normalised = replace(copy, name=name, method=f"{arm.method[: found.start()]}+deepkd({args})")
        return arm, normalised, weights
    if not re.search(r"\+dot(\(.*\))?$", arm.method):
        raise ValueError(f"{arm.method} has no streams whose gains could be taken out")
    return arm, weights


def retuned(arms: Sequence[Arm], field: str, values: Sequence[str]) -> tuple[Arm, ...]:
    """The arms, with a field that validation chooses for each of them alike."""
    return tuple(replace(arm, changes=(*arm.changes, f"{field}={{}}"), values=tuple(values)) for arm in arms)


def cost(study: Study, seeds: int | None = None) -> tuple[int, float]:
    """Students that are trained, and the sum of their lengths in multiples of the recipe's.

    Example:
        >>> cost(Study("t", "?", "", (Arm("kd", "kd(temperature={})", values=("1", "4")),), ()), seeds=3)
        (7, 7.0)
    """
    runs = [(study.tuning_seeds * len(arm.values) + (seeds or study.seeds), arm) for arm in study.arms]
    return sum(count for count, _ in runs), sum(count * arm.length for count, arm in runs)
