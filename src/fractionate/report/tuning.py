"""The page of a search: what was tried, accuracy against seconds, and whether the winner can be told from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fractionate._files import expanded, write_atomically
from fractionate._headlines import headline
from fractionate._terminal import one_line
from fractionate.report.chart import Frame, Mark, Panel, Scale, extent, path, text, unit, x_axis, y_axis
from fractionate.report.page import environment
from fractionate.report.panels import Figure
from fractionate.report.weights import control_note
from fractionate.report.words import LEVEL_TEXT, Difference, Estimate, gap, measured, number, paired_difference

LEFT_BEHIND, TUNED, USUAL, FRONT = "k0", "k1", "k2", "k3"
LEGEND = (("tuned", TUNED), ("published method as it comes", USUAL), ("left behind", LEFT_BEHIND), ("front", FRONT))


@dataclass(frozen=True)
class Try:
    """One student of the search.

    Args:
        label: what it was trained with.
        usual: whether that is a published method as it comes.
        score: last headline on the validation part; ``None`` if it failed before the first rung.
        epochs: how far it came.
        seconds: of training so far.
        whole: whether it was trained in full.
        more: its scores with further seeds.
        fault: why it failed, if so.
        uncontrolled: whether it has streams, and none of those tried is its control.
    """

    label: str
    usual: bool
    score: float | None
    epochs: int
    seconds: float
    whole: bool
    more: tuple[float, ...] = ()
    fault: str | None = None
    uncontrolled: bool = False

    @property
    def mean(self) -> float | None:
        """Of all its seeds, by which finalists are ranked; ``None`` without further ones."""
        return None if self.score is None or not self.more else sum((self.score, *self.more)) / (1 + len(self.more))


@dataclass(frozen=True)
class Arm:
    """A setting of the confirmation: headline on the test part by fresh seed, and seconds per run.

    ``uncontrolled``: it has streams, and no other arm is its control.
    """

    label: str
    scores: tuple[float, ...]
    seconds: float
    uncontrolled: bool = False

    @property
    def estimate(self) -> Estimate:
        """Over the seeds."""
        return Estimate(self.scores)


@dataclass(frozen=True)
class Tuning:
    """All that the page shows.

    Args:
        title: of the page.
        metric: key of the headline.
        baseline: label of the arm that the winner is compared with.
        tries: in the order of the search.
        arms: the winner first; same seeds, in the same order.
        usual: label of the best published method as it comes.
        facts: pairs of name and value.
        folder: the winner's run.
        command: how the program was called.
    """

    title: str
    metric: str
    baseline: str
    tries: tuple[Try, ...]
    arms: tuple[Arm, ...]
    usual: str
    facts: tuple[tuple[str, str], ...]
    folder: str
    command: str


def write_tuning(found: Tuning, out: Path | str) -> Path:
    """Write the page of a search as one HTML file, readable offline, in light and in dark.

    Raises:
        OSError: the file cannot be written.
    """
    out = expanded(out)
    metric, front, ranked = headline(found.metric), pareto(found.tries), _ranked(found.tries)
    page = (
        environment()
        .get_template("tuning.html.j2")
        .render(
            t=replace(found, title=one_line(found.title)),
            sentences=sentences(found),
            figure_=_figure(found, front),
            front=front,
            metric=metric,
            ranked=ranked,
            control=control_note([t.label for t in ranked if t.uncontrolled]),
            differences={arm.label: versus(arm, found.arms, found.baseline) for arm in found.arms},
            level=LEVEL_TEXT,
        )
    )
    write_atomically(out, page)
    return out


def versus(arm: Arm, arms: Sequence[Arm], baseline: str) -> Difference | None:
    """Paired difference of an arm to another one; ``None`` for that one itself."""
    other = next((a for a in arms if a.label == baseline), None)
    if other is None or other is arm:
        return None
    return paired_difference(arm.scores, other.scores)


def sentences(found: Tuning) -> list[str]:
    r"""Whether the winner can be told from kd, and from the best published method as it comes; plainly.

    Example:
        >>> arms = Arm("dkd(beta=2)", (94.0, 95.0), 1.0), Arm("kd", (93.0, 93.5), 1.0)
        >>> sentences(Tuning("t", "miou", "kd", (), arms, "kd", (), "", ""))[0]
        'dkd(beta=2) cannot be told from kd by 2 fresh seeds: +1.25 [−1.93, +4.43] points (95\xa0% interval, paired).'
    """
    winner = found.arms[0]
    told = [_judged(winner, found, found.baseline, found.baseline)]
    if found.usual not in (found.baseline, winner.label):
        told.append(_judged(winner, found, found.usual, f"the best published method as it comes ({found.usual})"))
    gaps = versus(winner, found.arms, found.baseline)
    if gaps is not None and gaps.verdict == "within":
        told.append(f"The seeds do not show it to be better than {found.baseline}, and do not prove the two equal.")
    if winner.label == found.usual != found.baseline:
        told.append("It is a published method as it comes: nothing that was tuned came out ahead of it.")
    score = measured(winner.estimate, headline(found.metric))
    told.append(f"It has {score} on the test part, which no student of the search was measured on.")
    note = control_note([winner.label] if winner.uncontrolled else [])
    return [*told, note] if note else told


def _judged(winner: Arm, found: Tuning, other: str, name: str) -> str:
    gaps, metric = versus(winner, found.arms, other), headline(found.metric)
    seeds = f"{len(winner.scores)} fresh seeds"
    if gaps is None:
        return f"The search found nothing better than {name} itself."
    if gaps.low is None or gaps.high is None:
        few = "One fresh seed" if len(gaps.values) == 1 else f"{seeds} that all differ by {gap(gaps)} {metric.of}"
        return f"{few} cannot tell {winner.label} from {name}."
    told = f"{gap(gaps)} {metric.of} ({LEVEL_TEXT} interval, paired)"
    if gaps.verdict in ("above", "below"):
        return f"{winner.label} ends {gaps.verdict} {name} by more than the spread of {seeds}: {told}."
    return f"{winner.label} cannot be told from {name} by {seeds}: {told}."


def pareto(tries: Sequence[Try]) -> list[Try]:
    """Students trained in full that no other one beats in both, the fastest first.

    Example:
        >>> tries = [Try("a", True, 90, 9, 2, True), Try("b", True, 91, 9, 3, True), Try("c", True, 90.5, 9, 4, True)]
        >>> [t.label for t in pareto(tries)]
        ['a', 'b']
    """
    front: list[Try] = []
    for one in sorted((t for t in tries if t.whole and t.score is not None), key=lambda t: (t.seconds, -_score(t))):
        if not front or _score(one) > _score(front[-1]):
            front.append(one)
    return front


def _score(one: Try) -> float:
    return float("-inf") if one.score is None else one.score


def _ranked(tries: Sequence[Try]) -> list[Try]:
    """Whole ones first, then by how far they came, then by score."""
    return sorted(tries, key=lambda t: (-t.epochs, -_score(t)))


def _figure(found: Tuning, front: Sequence[Try]) -> Figure:
    floor = _floor(found.tries)
    below = sum(t.score is not None and t.score < floor for t in found.tries)
    more = f" {below} students that were left behind lie below this axis." if below else ""
    caption = (
        "Every student of the search at the seconds that it was trained for, on the validation part, one seed. Filled: "
        "trained in full. Hollow: left behind at a rung. The line joins those that no faster one equals; their numbers "
        f"are those of the table below.{more}"
    )
    panels = [_panel(found, front, floor, *size) for size in ((1040.0, 420.0), (400.0, 360.0))]
    return Figure("front", "Accuracy against seconds", caption, (panels[0],), LEGEND, wide=True, narrow=(panels[1],))


def _floor(tries: Sequence[Try]) -> float:
    """The lowest score that is drawn: as far below those trained in full as these lie apart."""
    whole = [_score(t) for t in tries if t.whole]
    return min(whole) - max(1.0, max(whole) - min(whole)) if whole else float("-inf")


def _panel(found: Tuning, front: Sequence[Try], floor: float, width: float, height: float) -> Panel:
    metric = headline(found.metric)
    drawn = [t for t in found.tries if t.score is not None and t.seconds > 0 and t.score >= floor]
    low, high = extent([t.seconds for t in drawn], log=True)
    across, up = Scale(low, high, 46, width - 12, log=True), Scale(*extent(map(_score, drawn)), height - 46, 34)
    frame = Frame(across, up)
    marks = x_axis(frame, "seconds of training", 5 if width > 500 else 3, grid=True)
    marks += y_axis(frame, f"{metric.name} on the validation part{unit(metric)}")
    line = path([(t.seconds, _score(t)) for t in front], across, up)
    plot = [Mark("path", {"d": line, "class": f"line {FRONT}"})]
    plot += [_dot(t, frame) for t in sorted(drawn, key=lambda t: t.whole)]
    for place, one in enumerate(front, start=1):
        side = -9 if place % 2 else 19  # neighbours would write over each other
        plot.append(text(across(one.seconds), up(_score(one)) + side, str(place), "value"))
    told = "; ".join(f"{t.label} {metric.value(_score(t))} in {t.seconds:.1f} s" for t in front)
    return Panel(width, height, "", f"The front of accuracy against seconds: {told}.", frame, tuple(marks), tuple(plot))


def _dot(one: Try, frame: Frame) -> Mark:
    ink = LEFT_BEHIND if not one.whole else USUAL if one.usual else TUNED
    kind, size = ("dot ring", 5.0) if one.whole else ("dot hollow", 3.0)
    place: dict[str, str | float] = {"cx": frame.x(one.seconds), "cy": frame.y(_score(one)), "r": size}
    tip = f"{one.label}: {number(one.score)} after {one.epochs} epochs, {number(one.seconds, 1)} s"
    return Mark("circle", {**place, "class": f"{kind} {ink}"}, tip=tip)
