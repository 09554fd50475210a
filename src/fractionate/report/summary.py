"""``summary.json`` -> `Summary`, with every type checked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

BINS = ("confidence", "accuracy", "count")
T = TypeVar("T")


class RunFolderError(ValueError):
    """A run folder cannot be read: the file, the line (None for the file as a whole) and why.

    Example:
        >>> print(RunFolderError(Path("run/metrics.jsonl"), 3, "broken JSON"))
        run/metrics.jsonl, line 3: broken JSON
    """

    def __init__(self, file: Path, line: int | None, why: str) -> None:
        self.file, self.line = file, line
        place = str(file) if line is None else f"{file}, line {line}"
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

    Accuracies and ``agreement`` are percentages, ``ece`` is a fraction, ``seconds`` wall-clock time
    of training, ``backward_passes`` the number per step. None stands for "not recorded".
    """

    method: str
    seed: int
    last_top1: float
    name: str | None
    dataset: str | None
    student: str | None
    teacher: str | None
    best_top1: float | None
    best_epoch: int | None
    params: int | None
    teacher_params: int | None
    teacher_top1: float | None
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


def parse_summary(file: Path, text: str) -> Summary:
    """Check the text of a ``summary.json`` and give its fields types.

    Raises:
        RunFolderError: broken JSON (with its line), or a field that is missing or of a wrong type.
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        why = f"broken JSON: {error.msg} at column {error.colno}"
        raise RunFolderError(file, error.lineno, why) from None
    if not isinstance(raw, dict):
        raise RunFolderError(file, None, f"expected a JSON object, got {type(raw).__name__}")
    read = _Fields(file, raw)
    return Summary(
        method=read.required("method", read.text("method")),
        seed=read.required("seed", read.whole("seed")),
        last_top1=read.required("last_top1", read.number("last_top1")),
        name=read.text("name"),
        dataset=read.text("dataset"),
        student=read.text("student"),
        teacher=read.text("teacher"),
        best_top1=read.number("best_top1"),
        best_epoch=read.whole("best_epoch"),
        params=read.whole("params"),
        teacher_params=read.whole("teacher_params"),
        teacher_top1=read.number("teacher_top1"),
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
    )


@dataclass(frozen=True)
class _Fields:
    """Typed access to the fields of one JSON object; null and absent are both None."""

    file: Path
    raw: Mapping[str, Any]

    def _wrong(self, key: str, wanted: str) -> RunFolderError:
        return RunFolderError(self.file, None, f"'{key}' must be {wanted}, got {self.raw[key]!r}")

    def required(self, key: str, value: T | None) -> T:
        if value is None:
            raise RunFolderError(self.file, None, f"'{key}' is missing; every report needs it")
        return value

    def number(self, key: str) -> float | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        return float(value)

    def whole(self, key: str) -> int | None:
        value = self.number(key)
        if value is None:
            return None
        if not value.is_integer():
            raise self._wrong(key, "a whole number")
        return int(value)

    def text(self, key: str) -> str | None:
        value = self.raw.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(key, "text")

    def command(self) -> str | None:
        """The command line, given as text or as a list of words."""
        value = self.raw.get("command")
        if isinstance(value, list):
            return shlex.join(map(str, value)) or None
        return self.text("command")

    def git(self) -> str | None:
        """The commit, given as text or as an object ``{"commit": ..., "changed": ...}``."""
        value = self.raw.get("git")
        if isinstance(value, dict):
            return f"{str(value.get('commit'))[:12]}{', changed since' if value.get('changed') else ''}"
        return self.text("git")

    def versions(self) -> Mapping[str, str]:
        value = self.raw.get("versions") or {}
        if not isinstance(value, dict):
            raise self._wrong("versions", "an object of package versions")
        return {str(name): str(version) for name, version in value.items()}

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
