"""Run folders on disk -> `RunRecord`: the only door through which numbers enter a report."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fractionate._files import expanded
from fractionate._terminal import one_line, printable
from fractionate.report.summary import LONGEST as LONGEST_SUMMARY
from fractionate.report.summary import RunFolderError, Summary, parse_object, read_summary, read_text

WATCHING = ("gsnr/", "cosine/", "norm/", "share/", "rank/")
CONFIG, METRICS, SUMMARY = "config.yaml", "metrics.jsonl", "summary.json"
LONGEST = {CONFIG: 100_000, SUMMARY: LONGEST_SUMMARY, METRICS: 1_000_000_000}
"""Bytes of a file that is read at all; those of a long run have about 1,500, 50,000 and 1,000,000."""
DEEPEST = 20
"""Levels of a config; a complete one has five."""


@dataclass(frozen=True)
class RunRecord:
    """One run folder as it lies on disk; every text of it may be printed: control characters are escapes.

    ``config`` is the text of ``config.yaml`` and ``settings`` its leaves (``method.args.alpha`` ->
    ``"1.0"``). ``epochs`` holds the lines of ``metrics.jsonl``: column name -> value, numbers only, in the order
    of the epochs. ``summary`` is None for a run that did not finish; such a run is never counted. ``watched`` says
    whether gradient monitors ran, which takes backward passes that training does not.
    """

    folder: Path
    config: str
    settings: Mapping[str, str]
    epochs: tuple[Mapping[str, float], ...]
    summary: Summary | None
    watched: bool = False

    @property
    def finished(self) -> bool:
        """Whether the run wrote its ``summary.json``."""
        return self.summary is not None

    @property
    def facts(self) -> Summary:
        """The summary of a finished run.

        Raises:
            RunFolderError: (a ValueError) the run is not finished.
        """
        if self.summary is None:
            raise RunFolderError(self.folder, None, f"unfinished: it has no {SUMMARY}")
        return self.summary

    def column(self, name: str) -> dict[int, float]:
        """Epoch -> value of one column; epochs without it are left out."""
        return {int(row["epoch"]): row[name] for row in self.epochs if name in row}


def read_runs(folders: Sequence[Path | str]) -> list[RunRecord]:
    """Read run folders; a folder that is none itself stands for the run folders inside it.

    Args:
        folders: run folders, or parents of run folders at any depth. Folders keep the order given;
            inside a parent they are sorted by name. A folder met twice is read once.

    Returns:
        One record per run folder. A run without ``summary.json`` has ``finished == False``.

    Raises:
        RunFolderError: (a ValueError) a folder is missing or holds no run, or a file is broken;
            names the file and the line.

    Example:
        >>> read_runs(["no/such/folder"])
        Traceback (most recent call last):
        ...
        fractionate.report.summary.RunFolderError: no/such/folder: no such folder. ...
    """
    if isinstance(folders, str | Path):
        raise TypeError(f"folders must be a list of folders, got the single {str(folders)!r}")
    found: dict[Path, Path] = {}
    for given in map(expanded, folders):
        if not given.is_dir():
            what = "is a file, not a run folder" if given.exists() else "no such folder"
            raise RunFolderError(given, None, f"{what}. Give run folders or a folder of them")
        inside = list(_run_folders(given))
        if not inside:
            wanted = f"{SUMMARY}, {METRICS} or {CONFIG}"
            raise RunFolderError(given, None, f"holds no run: no {wanted} here or below")
        for folder in inside:
            found.setdefault(folder.resolve(), folder)
    return [_read_run(folder) for folder in found.values()]


def _run_folders(folder: Path) -> Iterator[Path]:
    if any((folder / name).is_file() for name in (SUMMARY, METRICS, CONFIG)):
        yield folder
        return
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
            yield from _run_folders(inner)


def _read_run(folder: Path) -> RunRecord:
    summary_file, metrics_file = folder / SUMMARY, folder / METRICS
    finished = summary_file.is_file()
    if finished and not metrics_file.is_file():
        raise RunFolderError(metrics_file, None, f"missing, although {SUMMARY} is there")
    config_file = folder / CONFIG
    config = _text(config_file) if config_file.is_file() else ""
    rows = _read_metrics(metrics_file, finished) if metrics_file.is_file() else []
    return RunRecord(
        folder=folder,
        config=printable(config.expandtabs()),
        settings=_read_settings(config_file, config),
        epochs=tuple(map(_numbers, rows)),
        summary=read_summary(summary_file)[1] if finished else None,
        watched=any(name.startswith(WATCHING) for row in rows for name in row),  # also where all of it is null
    )


def _text(file: Path) -> str:
    return read_text(file, LONGEST[file.name])


def _read_settings(file: Path, text: str) -> dict[str, str]:
    import yaml  # a report alone needs it, `import fractionate` does not

    try:
        reader = yaml.SafeLoader(text)
        while reader.check_event(yaml.StreamStartEvent, yaml.DocumentStartEvent):
            reader.get_event()
        return dict(_leaves(file, reader, ())) if reader.check_event(yaml.NodeEvent) else {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark else None
        raise RunFolderError(file, line, f"broken YAML: {why}") from None


def _leaves(file: Path, reader: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The scalars below the next node with their paths, as they are written.

    Nothing is built of them: a few lines of aliases would unfold to more than any memory holds.
    """
    import yaml

    node = reader.get_event()
    line = node.start_mark.line + 1
    if isinstance(node, yaml.AliasEvent):
        raise RunFolderError(file, line, "broken YAML: write values out instead of naming them (*alias)")
    if len(path) > DEEPEST:
        raise RunFolderError(file, line, f"broken YAML: nested in more than {DEEPEST} levels")
    if isinstance(node, yaml.ScalarEvent):
        null = node.implicit[0] and node.value in ("", "~", "null")
        yield ".".join(path), "null" if null else one_line(node.value)
        return
    listed, empty = isinstance(node, yaml.SequenceStartEvent), True
    index = itertools.count()
    while not reader.check_event(yaml.CollectionEndEvent):
        if not listed and not reader.check_event(yaml.ScalarEvent):
            raise RunFolderError(file, line, "broken YAML: a key must be a word")
        key, empty = str(next(index)) if listed else one_line(reader.get_event().value), False
        yield from _leaves(file, reader, (*path, key))
    reader.get_event()
    if empty:
        yield ".".join(path), "[]" if listed else "{}"


def _read_metrics(file: Path, finished: bool) -> list[dict[str, Any]]:
    text = _text(file)
    lines = text.split("\n")
    if not finished and lines[-1]:  # the run may be writing this very line
        lines.pop()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _read_line(file, line, number)
        if rows and row["epoch"] <= rows[-1]["epoch"]:
            before = f"epoch {row['epoch']:g} follows epoch {rows[-1]['epoch']:g}"
            raise RunFolderError(file, number, f"{before}: epochs must increase")
        rows.append(row)
    if finished and not rows:
        raise RunFolderError(file, None, f"holds no epoch, although {SUMMARY} is there")
    return rows


def _read_line(file: Path, line: str, number: int) -> dict[str, Any]:
    row = parse_object(file, line, number)
    epoch = row.get("epoch")
    if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch < 1e9:
        raise RunFolderError(file, number, f"'epoch' must be a whole number, got {repr(epoch)[:40]}")
    return row


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        one_line(name): value if isinstance(value, float) else float(value)
        for name, value in row.items()
        if isinstance(value, float) or (type(value) is int and abs(value) < 1e300)
    }
