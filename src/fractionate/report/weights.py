"""What momentum made of the weights of a row's losses, the control that it needs, and how sure its teacher was."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fractionate._terminal import one_line

STREAMS = ("deepkd", "dot")
PLAIN = "+reweighted"
SPREAD = ("label", "label_soft", "modes")


@dataclass(frozen=True)
class Weight:
    """One component's weight x gain of its momentum, and the same of the method without streams."""

    component: str
    value: float
    base: float

    @property
    def ratio(self) -> float:
        """The first over the second."""
        return self.value / self.base if self.base else math.inf


@dataclass(frozen=True)
class Weights:
    """The effective weights of a run: of its components, and of the weight decay (``stream`` None: decoupled)."""

    components: tuple[Weight, ...]
    stream: str | None
    decay: Weight
    warning: str | None

    @property
    def moved(self) -> bool:
        """Whether momentum weighs anything here: under AdamW a stream's does not."""
        return any(w.value != w.base and not math.isclose(w.value, w.base) for w in (*self.components, self.decay))


@dataclass(frozen=True)
class Sureness:
    """A teacher's mean probability of the label on ``images`` training images, and how many classes it considers.

    Without labels (``labelled`` false) it is that of the class it finds most probable. ``spread`` has :data:`SPREAD`
    over the images, from the least to the largest in equal steps; None in older folders.
    """

    images: int
    label: float
    label_soft: float
    temperature: float
    modes: float
    classes: int
    spread: Mapping[str, tuple[float, ...]] | None = None
    labelled: bool = True

    @property
    def of(self) -> str:
        """Whose probability it is."""
        return "label" if self.labelled else "best class"

    def __str__(self) -> str:
        warm = f", {self.label_soft:.3f} at T {self.temperature:g}" if self.temperature != 1 else ""
        return (
            f"{self.label:.3f} at T 1{warm}, the {self.of}'s mean probability on {self.images} training images; "
            f"{self.modes:.2f} of {self.classes} classes considered"
        )


def weights_of(raw: object) -> Weights | None:
    """What ``effective_weights`` of a ``summary.json`` says; None if it is not there or not of this form.

    Example:
        >>> weights_of(None) is None
        True
    """
    try:
        found: Mapping[str, Any] = raw  # type: ignore[assignment]
        components = tuple(
            Weight(one_line(name), float(c["weight"]) * float(c["gain"]), float(c["base"]))
            for name, c in found["components"].items()
        )
        decay, warning = found["decay"], found.get("warning")
        stream = None if decay["in"] is None else one_line(decay["in"])
        shrinks = Weight("weight decay", float(decay["gain"]), float(decay["base"]))
        return Weights(components, stream, shrinks, None if warning is None else one_line(warning))
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
        return None


def sureness_of(raw: object) -> Sureness | None:
    """What ``teacher_facts`` of a ``summary.json`` says; None if it is not there or not of this form.

    Example:
        >>> sureness_of({"images": 1}) is None
        True
    """
    try:
        found: Mapping[str, Any] = raw  # type: ignore[assignment]
        label, label_soft, temperature, modes = (
            float(found[n]) for n in ("label", "label_soft", "temperature", "modes")
        )
        images, classes, several = int(found["images"]), int(found["classes"]), found.get("spread") or {}
        spread = {name: tuple(float(v) for v in several[name]) for name in SPREAD if name in several}
        whole = all(len(spread.get(name, ())) > 1 and all(map(math.isfinite, spread[name])) for name in SPREAD)
        labelled = found.get("accuracy", 0) is not None
        return Sureness(images, label, label_soft, temperature, modes, classes, spread if whole else None, labelled)
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class Line:
    """Effective weights of one row, as the page shows them."""

    label: str
    cells: tuple[tuple[str, str], ...]
    decay: str
    warning: str | None


def lines(rows: Iterable[tuple[str, Weights | None]]) -> list[Line]:
    """A line for every row whose summary says its effective weights.

    Args:
        rows: label, and weights.
    """
    return [
        Line(
            label,
            tuple((w.component, f"{w.value:.3g}{_beside(w)}") for w in found.components),
            f"x {found.decay.value:.3g}{_beside(found.decay)}, "
            + ("decoupled" if found.stream is None else f"with {found.stream}"),
            found.warning,
        )
        for label, found in rows
        if found is not None
    ]


def _beside(weight: Weight) -> str:
    """The base's value, where it is another one."""
    same = abs(weight.value - weight.base) <= 1e-6 * max(1.0, abs(weight.base))
    return "" if same else f" (base {weight.base:.3g})"


def uncontrolled(rows: Sequence[tuple[str, str, Mapping[str, str]]]) -> list[str]:
    """Labels of the rows in DeepKD's or DOT's streams that no control stands beside.

    A control has the same method ``+reweighted`` (the same gains as weights, in one backward pass), or
    ``normalize_gain`` (the same memory at the weights of the base).

    Args:
        rows: label, method and settings of every row of one table.

    Example:
        >>> uncontrolled([("a", "kd+dot", {}), ("b", "dkd+dot", {}), ("c", "dkd+dot+reweighted", {}), ("d", "kd", {})])
        ['a']
    """
    titles = {title for _, title, _ in rows}
    memory = {title for _, title, settings in rows if _normalised(settings)}
    return [
        label
        for label, title, settings in rows
        if title.rpartition("+")[2] in STREAMS
        and not _normalised(settings)
        and title + PLAIN not in titles
        and title not in memory
    ]


def _normalised(settings: Mapping[str, str]) -> bool:
    return any(path.endswith(".args.normalize_gain") and x.lower() == "true" for path, x in settings.items())


def control_note(labels: Sequence[str]) -> str | None:
    """One sentence about rows without a control; None if there are none.

    Example:
        >>> print(control_note(["kd+dot"]))
        Without its control: kd+dot. Longer momentum also weighs its losses more, so whether memory or weight makes a \
difference cannot be told; compare --controls adds the same weights without streams.
    """
    if not labels:
        return None
    whose = "its control" if len(labels) == 1 else "their controls"
    return (
        f"Without {whose}: {', '.join(labels)}. Longer momentum also weighs its losses more, so whether memory or "
        f"weight makes a difference cannot be told; compare --controls adds the same weights without streams."
    )
