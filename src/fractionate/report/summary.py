"""``summary.json`` -> `Summary`, with every type checked; the headlines that a report knows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fractionate._headlines import SCHEMA_0, Headline, headline
from fractionate._terminal import one_line
from fractionate.report.weights import Sureness, Weights, sureness_of, weights_of

LONGEST = 10_000_000
"""Bytes of a ``summary.json`` that is read at all; that of a run with a thousand classes has about 50,000."""
BINS = ("confidence", "accuracy", "count")
NEWEST = 1
"""The newest layout of run folders that is read here, as ``schema`` in their files numbers them."""
T = TypeVar("T")


class RunFolderError(ValueError):
    """A run folder cannot be read: the file, the line (None for the file as a whole) and why.

    Example:
        >>> print(RunFolderError(Path("run/metrics.jsonl"), 3, "broken JSON"))
        run/metrics.jsonl, line 3: broken JSON
    """

    def __init__(self, file: Path, line: int | None, why: str) -> None:
        self.file, self.line = file, line
        place = one_line(file) if line is None else f"{one_line(file)}, line {line}"
        super().__init__(f"{place}: {why}")


@dataclass(frozen=True)
class Calibration:
    """Reliability bins: mean confidence and accuracy (fractions) and number of images per bin.

    An empty bin has count 0; its two fractions mean nothing.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[float, ...]


@dataclass(frozen=True)
class Summary:
    """What one finished run says about itself.

    ``last``, ``best`` and ``teacher_last`` are values of the headline; ``agreement`` is in percent, ``ece`` a fraction,
    ``seconds`` wall-clock time of training, ``backward_passes`` the number per step. None stands for "not recorded".
    ``schema`` numbers the layout of the folder, 0 where none was written down. ``weights`` and ``sureness`` are what
    the run's momenta made of its weights, and what its teacher said about training images. ``measured_on`` is a digest
    of the test images.
    """

    method: str
    seed: int
    headline: Headline
    last: float
    name: str | None
    dataset: str | None
    student: str | None
    teacher: str | None
    best: float | None
    best_epoch: int | None
    params: int | None
    teacher_params: int | None
    teacher_last: float | None
    agreement: float | None
    ece: float | None
    seconds: float | None
    epochs: int | None
    backward_passes: float | None
    device: str | None
    command: str | None
    git: str | None
    versions: Mapping[str, str]
    calibration: Calibration | None
    schema: int = 0
    weights: Weights | None = None
    sureness: Sureness | None = None
    measured_on: str | None = None


def read_text(file: Path, most: int) -> str:
    """The text of a file of at most so many bytes.

    Raises:
        RunFolderError: it is longer, or no UTF-8.
    """
    if (size := file.stat().st_size) > most:
        raise RunFolderError(file, None, f"{size:,} bytes, of a kind of file that has at most {most:,}")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise RunFolderError(file, line, f"not UTF-8 text ({error.reason})") from None


def read_summary(file: Path) -> tuple[dict[str, Any], Summary]:
    """What a ``summary.json`` holds, as it stands there and with every type checked.

    Raises:
        RunFolderError: a file that cannot be read, broken JSON (with its line), or a field that is missing or wrong.
    """
    raw = parse_object(file, read_text(file, LONGEST))
    return raw, summary_of(file, raw)


def summary_of(file: Path, raw: Mapping[str, Any]) -> Summary:
    """The object that a ``summary.json`` holds, its fields with types; errors as :func:`read_summary`."""
    read = _Fields(file, raw)
    metric = read.headline()
    key = metric.key
    return Summary(
        method=read.required("method", read.text("method")),
        seed=read.required("seed", read.whole("seed")),
        headline=metric,
        last=read.required(f"last_{key}", read.number(f"last_{key}")),
        name=read.text("name"),
        dataset=read.text("dataset"),
        student=read.text("student"),
        teacher=read.text("teacher"),
        best=read.number(f"best_{key}"),
        best_epoch=read.whole("best_epoch"),
        params=read.whole("params"),
        teacher_params=read.whole("teacher_params"),
        teacher_last=read.number(f"teacher_{key}"),
        agreement=read.number("agreement"),
        ece=read.number("ece"),
        seconds=read.number("seconds"),
        epochs=read.whole("epochs"),
        backward_passes=read.number("backward_passes"),
        device=read.text("device"),
        command=read.command(),
        git=read.git(),
        versions=read.versions(),
        calibration=read.calibration(),
        schema=read.whole("schema") or 0,
        weights=weights_of(raw.get("effective_weights")),
        sureness=sureness_of(raw.get("teacher_facts")),
        measured_on=_measured_on(raw.get("made_of")),
    )


def _measured_on(made: object) -> str | None:
    found = made.get("test") if isinstance(made, dict) else None
    return found if isinstance(found, str) else None


def parse_object(file: Path, text: str, line: int | None = None) -> dict[str, Any]:
    """A JSON object.

    Args:
        file: where the text stands.
        text: JSON.
        line: its line in the file; None if it is the whole file.

    Raises:
        RunFolderError: broken JSON, JSON nested without end, numbers of thousands of digits, or no object.

    Example:
        >>> parse_object(Path("summary.json"), '{"seed": 0}')
        {'seed': 0}
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        why = f"broken JSON: {error.msg} at column {error.colno}"
        raise RunFolderError(file, line or error.lineno, why) from None
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else "a number of too many digits"
        raise RunFolderError(file, line, f"broken JSON: {why}") from None
    if not isinstance(raw, dict):
        raise RunFolderError(file, line, f"expected a JSON object, got {type(raw).__name__}")
    return raw


@dataclass(frozen=True)
class _Fields:
    """Typed access to the fields of one JSON object; null and absent are both None."""

    file: Path
    raw: Mapping[str, Any]

    def _wrong(self, key: str, wanted: str) -> RunFolderError:
        return RunFolderError(self.file, None, f"'{key}' must be {wanted}, got {repr(self.raw[key])[:80]}")

    def required(self, key: str, value: T | None) -> T:
        if value is None:
            raise RunFolderError(self.file, None, f"'{key}' is missing; every report needs it")
        return value

    def headline(self) -> Headline:
        """The headline that the file names, or that of the folders which name none."""
        schema = self.whole("schema") or 0
        if schema > NEWEST:
            why = f"schema {schema} is of a newer fractionate; this one reads up to {NEWEST}: update it"
            raise RunFolderError(self.file, None, why)
        key = self.required("headline", self.text("headline")) if schema else SCHEMA_0
        return headline(key)

    def number(self, key: str) -> float | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        try:
            return float(value)
        except OverflowError:
            raise self._wrong(key, "a number that fits into a float") from None

    def whole(self, key: str) -> int | None:
        value = self.number(key)
        if value is None:
            return None
        if not value.is_integer():
            raise self._wrong(key, "a whole number")
        return int(value)

    def text(self, key: str) -> str | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            return one_line(value)
        raise self._wrong(key, "text")

    def command(self) -> str | None:
        """The command line, given as text or as a list of words."""
        value = self.raw.get("command")
        if isinstance(value, list):
            return one_line(shlex.join(map(str, value))) or None
        return self.text("command")

    def git(self) -> str | None:
        """The commit, given as text or as an object ``{"commit": ..., "changed": ...}``."""
        value = self.raw.get("git")
        if isinstance(value, dict):
            return f"{one_line(value.get('commit'))[:12]}{', changed since' if value.get('changed') else ''}"
        return self.text("git")

    def versions(self) -> Mapping[str, str]:
        value = self.raw.get("versions") or {}
        if not isinstance(value, dict):
            raise self._wrong("versions", "an object of package versions")
        return {one_line(name): one_line(version) for name, version in value.items()}

    def calibration(self) -> Calibration | None:
        value = self.raw.get("calibration")
        if value is None:
            return None
        bins = [value.get(name) if isinstance(value, dict) else None for name in BINS]
        columns = [_fractions(column) for column in bins]
        if None in columns or len({len(column or ()) for column in columns}) != 1:
            raise self._wrong("calibration", f"an object of equally long lists {', '.join(BINS)}")
        return Calibration(*(column or () for column in columns))


def _fractions(column: object) -> tuple[float, ...] | None:
    """The numbers of one calibration column, null (an empty bin) as 0; None if it is no such list."""
    if not isinstance(column, list):
        return None
    if not all(value is None or isinstance(value, int | float) for value in column):
        return None
    return tuple(float(value or 0) for value in column)
