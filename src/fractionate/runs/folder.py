"""The run folder: config.yaml, metrics.jsonl, last.ckpt, student.safetensors, and summary.json when all is done."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import why_not, write_atomically
from ..config.files import changed_fields, from_plain, read_config, to_yaml
from ..config.run import Run
from ..data import stated
from ..tasks import Result
from ..tasks.classification import SCHEMA
from ..train.checks import teacher_net
from .checkpoint import load_state, read_checkpoint, save_checkpoint, save_weights, write_state
from .lock import locked
from .origin import CHECKPOINT, SAID, STUDENT, Origin, file_digest, origin_of, replaced
from .summary import finite, summarize, unfinished

if TYPE_CHECKING:
    from ..train.loop import Loop, Record

CONFIG, METRICS, SUMMARY = "config.yaml", "metrics.jsonl", "summary.json"
EXAMPLES = "examples.json"  # written by studies, for pages
PICTURES = "pictures"
PREVIOUS, BROKEN, DIVERGED = "previous.ckpt", "broken.ckpt", "DIVERGED.ckpt"
# the summary first: deleting starts by making the run unfinished
FILES = (SUMMARY, CONFIG, METRICS, CHECKPOINT, STUDENT, PREVIOUS, BROKEN, DIVERGED, EXAMPLES)


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. It counts as finished when ``summary.json`` is there, which is written last.

    While it trains there are the config's ``keep`` checkpoints, ``last.ckpt`` and those before it: ``previous.ckpt``,
    ``previous-2.ckpt`` ...; and a lock.
    """

    path: Path
    changes: list[dict[str, Any]] = field(default_factory=list, init=False, compare=False)
    origin: Origin = field(default_factory=dict, init=False, compare=False, repr=False)  # what the run is made of
    lines: list[str] = field(default_factory=list, init=False, compare=False, repr=False)  # of the metrics

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return (self.path / SUMMARY).is_file()

    @property
    def student(self) -> Path:
        """The trained weights."""
        return self.path / STUDENT

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes out meanwhile.

        Raises:
            ValueError: another process is writing here.
        """
        return locked(self.path)

    def check_free(self, *, overwrite: bool = False) -> list[str]:
        """Names of the files of a run that are here.

        Raises:
            ValueError: there are some and ``overwrite`` is off, or the path is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; choose another folder for the run")
        there = [name for name in FILES if (self.path / name).exists()] + [p.name for p in self._older()]
        if there and not overwrite:
            state = "a finished run" if self.finished else "an unfinished run"
            ways = "choose another folder, go on from it (--resume), or replace it (--overwrite)"
            raise ValueError(f"{self.path} holds {state}; {ways}")
        return there

    def start(self, run: Run, *, overwrite: bool = False, origin: Origin | None = None) -> None:
        """Make the folder and write the config; ``origin`` is what the run is made of besides.

        Raises:
            ValueError: a run is already there and ``overwrite`` is off.
        """
        for name in self.check_free(overwrite=overwrite):
            (self.path / name).unlink()
        for picture in (self.path / PICTURES).glob("*.png"):
            picture.unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        self._sweep()
        self.lines.clear()
        self.changes.clear()
        self.origin.update(origin or {})
        write_atomically(self.path / CONFIG, to_yaml(run))

    def resume(self, loop: Loop) -> bool:
        """Go on from the newest whole checkpoint if there is one, under the config of ``loop``.

        The metrics become those of the checkpoint: what was measured after it is forgotten, and measured again.

        Returns:
            Whether there was anything to go on from.

        Raises:
            ValueError: no checkpoint that is here can be read, it has more epochs than the config asks for, or the
                config has changed in a field that cannot change under way, or the images or the teacher's weights are
                others.
        """
        world = loop.world
        path, state = world.on_main(self._newest)
        if path is None or state is None:
            return False
        changed = changed_fields(from_plain(state["config"], f"{path}, config"), loop.training.run)
        training, notes = loop.training, state.get("notes", {})
        changed |= world.on_main(lambda: self._compare(loop, notes.get("made of", {}), "teacher.checkpoint" in changed))
        load_state(loop, state, path)
        if (begun := training.epoch + (loop.log.seen > 0)) > training.run.epochs:
            raise ValueError(f"{path} is at epoch {begun}, the config ends at {training.run.epochs}")
        self.changes[:] = notes.get("changes", [])
        if changed:
            self.changes.append({"epoch": training.epoch + 1, "step": training.step, "fields": changed})
        kept = [_line(row) for row in self.metrics() if row["epoch"] <= training.epoch]
        lines = notes.get("metrics", kept)
        self.lines[:] = lines.splitlines(keepends=True) if isinstance(lines, str) else lines
        world.on_main(lambda: self._rewind(training.run))
        return True

    def _compare(self, loop: Loop, before: Origin, other_file: bool) -> dict[str, list[Any]]:
        """What the run is made of otherwise than before, as far as that is allowed: it is said."""
        now = origin_of(loop)
        other = replaced(before, now, self.path / CHECKPOINT, other_file=other_file)
        if other:
            what = " and ".join(SAID[name] for name in other)
            warnings.warn(f"{self.path} goes on with {what} than it began with", stacklevel=4)
        self.origin.update({name: digest or before.get(name) for name, digest in now.items()})
        return {f"{name} (sha256)" if name == "teacher" else name: pair for name, pair in other.items()}

    def _rewind(self, run: Run) -> None:
        """Bring the files to where a checkpoint stands."""
        self._sweep()
        write_atomically(self.path / CONFIG, to_yaml(run))
        write_atomically(self.path / METRICS, "".join(self.lines))

    def append(self, record: Record) -> None:
        """Add one epoch to the metrics.

        Raises:
            OSError: it cannot be written; a part of a line at the end does no harm.
        """
        headline = {"headline": record.test.headline} if record.test else {}
        self.lines.append(_line({"schema": SCHEMA, **headline, **record.columns()}))
        try:
            with (self.path / METRICS).open("a", encoding="utf-8") as file:
                file.write(self.lines[-1])
        except OSError as error:
            kept = f"; {CHECKPOINT} still holds the run" if self.path.is_dir() else ""
            raise OSError(f"cannot write {self.path / METRICS}: {why_not(self.path / METRICS, error)}{kept}") from error

    def save(self, loop: Loop) -> None:
        """Write ``last.ckpt``; the one that was there becomes ``previous.ckpt``, and so on.

        Raises:
            Diverged: a number or a weight is not finite; the files stay as they are.
            OSError: it cannot be written; likewise.
        """
        loop.check()
        names = [self.path / name for name in kept_names(loop.training.run.keep)]
        for older, newer in pairwise(reversed(names[1:])):
            if newer.exists():  # not after a save that failed: then nothing has moved up
                newer.replace(older)
        previous = names[1] if len(names) > 1 else None
        save_checkpoint(loop, names[0], keep=previous, notes=self._notes(loop))

    def save_diverged(self, loop: Loop) -> Path:
        """Write the state of a run that diverged, to be looked at; nothing goes on from it by itself."""
        if loop.world.main:  # another process may not have come as far as this one
            write_state(loop, self.path / DIVERGED, notes=self._notes(loop))
        return self.path / DIVERGED

    def finish(self, loop: Loop, test: Result, command: Sequence[str] = ()) -> dict[str, Any]:
        """Write the weights, then the summary; only the last checkpoint stays.

        Args:
            loop: at its last epoch.
            test: metrics of that epoch.
            command: how the program was called.

        Returns:
            The summary.
        """
        save_weights(loop.net, self.student)
        self._show(loop)
        facts = summarize(loop, self.metrics(), test, command, self.changes)
        facts["made_of"] = {**self.origin, "student": file_digest(self.student)}
        write_atomically(self.path / SUMMARY, json.dumps(finite(facts), indent=1, allow_nan=False) + "\n")
        for path in (self.path / PREVIOUS, self.path / BROKEN, *self._older()):
            path.unlink(missing_ok=True)
        return facts

    def _show(self, loop: Loop) -> None:
        """Pictures of what the network says, of a task that has some."""
        training = loop.training
        pictures = getattr(training.task, "pictures", None)
        if pictures is None or not stated(training.test):
            return
        (self.path / PICTURES).mkdir(exist_ok=True)
        for name, content in pictures(loop.net, teacher_net(training), training.test).items():
            write_atomically(self.path / PICTURES / name, content)

    def newest(self) -> str:
        """What there is to go on from, in words."""
        if not (self.path / CHECKPOINT).is_file():
            return f"nothing was saved in {self.path} yet"
        return f"{self.path / CHECKPOINT} holds the last saved state"

    def config(self) -> Run:
        """The run's config."""
        return read_config(self.path / CONFIG)

    def summary(self) -> dict[str, Any]:
        """The summary of a finished run.

        Raises:
            ValueError: the run is not finished, there is none, or the file is damaged or of a newer release.
        """
        if not self.finished:
            raise ValueError(f"{self.path} holds no finished run (no {SUMMARY}): {unfinished(self.path)}")
        from ..report.summary import read_summary  # with it comes all that draws pages

        return read_summary(self.path / SUMMARY)[0]

    def metrics(self) -> list[dict[str, Any]]:
        """One dict per epoch, up to the first line that is broken."""
        path = self.path / METRICS
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        rows: list[dict[str, Any]] = []
        for line in text[: text.rfind("\n") + 1].splitlines():  # an interrupted run may end in the middle of a line
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
                break
            rows.append(row)
        return rows

    def _newest(self) -> tuple[Path | None, dict[str, Any] | None]:
        """The newest checkpoint that is whole, and what it holds; a broken one is reported and set aside."""
        newest = [self.path / name for name in (CHECKPOINT, PREVIOUS) if (self.path / name).is_file()]
        there = [*newest, *self._older()]
        broken: list[str] = []
        for path in there:
            try:
                state = read_checkpoint(path)
            except ValueError as error:
                broken.append(str(error))
                continue
            if broken:
                for damaged in reversed(there[: len(broken)]):  # or the next save would keep them in place of good ones
                    os.replace(damaged, self.path / BROKEN)
                place = f"epoch {state['epoch'] + 1}, step {state['step']}"
                warnings.warn(f"{broken[0]}; going on from {path.name} instead, in {place}", stacklevel=4)
            return path, state
        if broken:
            raise ValueError(f"{broken[0]}; no older one can be read either: start anew with --overwrite")
        return None, None

    def _older(self) -> list[Path]:
        """Checkpoints before the previous one, the newest first."""
        found = self.path.glob(f"{PREVIOUS.removesuffix('.ckpt')}-*.ckpt")
        return sorted(found, key=lambda path: int("0" + "".join(filter(str.isdigit, path.stem))))

    def _notes(self, loop: Loop) -> dict[str, Any]:
        return {"metrics": self.lines[: loop.training.epoch], "changes": self.changes, "made of": self.origin}

    def _sweep(self) -> None:
        """Remove what a process that was killed while writing left behind."""
        for name in FILES:
            for file in self.path.glob(f".{name}.*.tmp"):
                file.unlink(missing_ok=True)


def kept_names(count: int) -> list[str]:
    """Names of so many checkpoints, the newest first.

    Example:
        >>> kept_names(3)
        ['last.ckpt', 'previous.ckpt', 'previous-2.ckpt']
    """
    return [CHECKPOINT, PREVIOUS, *(PREVIOUS.replace(".", f"-{n}.") for n in range(2, count))][:count]


def _line(row: dict[str, Any]) -> str:
    return json.dumps(finite(row), allow_nan=False) + "\n"
