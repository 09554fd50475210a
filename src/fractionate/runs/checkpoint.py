"""Files that are whole or not there, and say so; the full state of a training run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from .._files import write_atomically
from ..config.files import to_plain
from ..config.run import Run
from ..models import apart
from ..tasks.classification import SCHEMA
from ..train.device import random_state, set_random_state

if TYPE_CHECKING:
    from ..train.loop import Loop

END = b"PK\x05\x06"  # begins the last 22 bytes of a zip archive without a comment
SEAL = b"sha256:"
Write = Callable[[io.BufferedIOBase], None]


def save_weights(net: nn.Module, path: Path) -> None:
    """The state dict as safetensors."""
    write_weights(net.state_dict(), path)


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """The same of a state dict, also of a network that has a tensor under two names."""
    from safetensors.torch import save

    write_atomically(path, save(apart(weights)))


def save_checkpoint(
    loop: Loop, path: Path, *, keep: Path | None = None, notes: Mapping[str, Any] | None = None
) -> None:
    """Everything needed to go on: weights, stream buffers, position, windows, random state. Not the teacher.

    Batches need no state: a source gives the same ones for the same epoch. Of several processes all must call this, and
    the main one writes.

    Args:
        loop: where training stands.
        path: file.
        keep: what the file that was there is renamed to.
        notes: plain data to keep with it.
    """
    loop.settle()
    others = loop.world.everyones(random_state())[1:]
    loop.world.on_main(lambda: write_state(loop, path, keep, {**(notes or {}), "random of the others": others}))


def write_state(loop: Loop, path: Path, keep: Path | None = None, notes: Mapping[str, Any] | None = None) -> None:
    """Write where this process stands, without the others; as :func:`save_checkpoint`."""
    t = loop.training
    state = {
        "schema": SCHEMA,
        "student": t.student.state_dict(),
        "average": loop.average.net.state_dict() if loop.average else None,
        "method": t.method.module.state_dict() if t.method.module else {},
        "optimizer": t.optimizer.state_dict(),
        "epoch": t.epoch,
        "step": t.step,
        "log": loop.log.state_dict(),
        "watch": t.watch.state_dict() if t.watch else {},
        "skipped": loop.guard.skipped,
        "scale": loop.stepper.scaler.inner.state_dict() if loop.stepper.scaler else {},
        "random": random_state(),
        "config": to_plain(t.run),
        "notes": dict(notes or {}),
    }
    write_atomically(path, partial(_save_sealed, state), keep)


def restore(loop: Loop, path: Path) -> None:
    """Go on where a checkpoint stands; hyper-parameters are those of the loop's config, not the saved ones.

    Raises:
        ValueError: the file cannot be read, belongs to another network or to streams that cannot be converted, or was
            trained at other rates than its config means today.
    """
    load_state(loop, read_checkpoint(path), path)


def load_state(loop: Loop, state: Mapping[str, Any], path: Path) -> None:
    """The same from what :func:`read_checkpoint` found in ``path``.

    Raises:
        ValueError: as :func:`restore`.
    """
    t = loop.training
    _check_rates(state, t.run, path)
    try:
        t.student.load_state_dict(state["student"])
        if t.method.module:
            t.method.module.load_state_dict(state["method"])
        if loop.average:  # an average that is new in the config begins with the weights as they are
            loop.average.net.load_state_dict(state.get("average") or state["student"])
        options = [{k: v for k, v in g.items() if k != "params"} for g in t.optimizer.param_groups]
        t.optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(t.optimizer.param_groups, options, strict=True):
            group.update(own, initial_lr=own["lr"])
        t.epoch, t.step = int(state["epoch"]), int(state["step"])
        device = next(t.student.parameters()).device
        if "log" in state:
            loop.log.load_state_dict(state["log"], device)
        if t.watch:
            t.watch.load_state_dict(state.get("watch", {}), device)
        loop.guard.skipped = int(state.get("skipped", 0))
        if loop.stepper.scaler and state.get("scale"):
            loop.stepper.scaler.inner.load_state_dict(state["scale"])
        randoms = [state["random"], *state.get("notes", {}).get("random of the others", [])]
        known = len(randoms) == loop.world.size
        set_random_state(randoms[loop.world.rank if known else 0])
        if not known:  # as many processes did not write it
            loop.world.draw_apart(t.run.seed + t.step)
    except (RuntimeError, KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        first = " ".join(str(error).split())[:300]
        what = f"it lacks {first}" if isinstance(error, KeyError) else first
        raise ValueError(f"cannot go on from {path}: {what}") from error


OLD_COSINE = 1e-300  # a minimum that vanishes beside any rate, and under which the rates are those of schema 0


def _check_rates(state: Mapping[str, Any], run: Run, path: Path) -> None:
    """Refuse to go on at other rates than a checkpoint was trained at: before schema 1, schedules were an epoch ahead.

    Where a ``minimum`` is named they still are, and step schedules without warm-up never moved.
    """
    schema, rate = state.get("schema", 0), run.learning_rate
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ValueError(f"{path} was written by a newer fractionate (schema {schema}); update this one")
    warming = rate.warmup_epochs > int(state["epoch"])
    if schema or rate.minimum or not (rate.schedule == "cosine" or warming):
        return
    way = f", or go on at its own rates by learning_rate.minimum={OLD_COSINE:g}" if rate.schedule == "cosine" else ""
    raise ValueError(
        f"{path} was written by an earlier fractionate, whose {'cosine' if way else 'warm-up'} was an epoch ahead of "
        f"today's (schema 0): finish the run with the version that began it{way}"
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, its checksum verified; no code in it is run.

    Raises:
        ValueError: the file is truncated, was changed, or is no checkpoint.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot go on from {path}: {error.strerror or error}") from error
    _verify(content, path)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds here
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cannot go on from {path}: it is no checkpoint of a training run ({why})") from error
    if not isinstance(state, dict) or not {"student", "optimizer", "epoch", "step"} <= set(state):
        raise ValueError(f"cannot go on from {path}: it is no checkpoint of a training run")
    return state


def sealed(archive: bytes) -> bytes:
    """A zip archive, which is what torch saves, with the SHA-256 of its bytes as the archive's comment.

    Any program still opens it; torch itself would load flipped bits without a word.

    Example:
        >>> buffer = io.BytesIO()
        >>> torch.save({"x": 1}, buffer)
        >>> torch.load(io.BytesIO(sealed(buffer.getvalue())), weights_only=True)
        {'x': 1}
    """
    body = archive[:-2]  # the length of the comment comes last
    return body + _comment(hashlib.sha256(body).hexdigest())


class Sealing:
    """A file to which torch saves, and which ends as :func:`sealed` says, without a copy of it in memory.

    Args:
        file: where the bytes go.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.rest = b""  # the last two bytes, of which it is not yet known whether they are the last
        self.failure: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Part of the archive. torch forgets an error that is raised here, so it is kept."""
        view = memoryview(data).cast("B")
        parts = (self.rest, view[:-2]) if len(view) >= 2 else ((self.rest + bytes(view))[:-2],)
        self.rest = bytes(view[-2:]) if len(view) >= 2 else (self.rest + bytes(view))[-2:]
        try:
            for part in parts:
                self.digest.update(part)
                self.file.write(part)
        except OSError as error:
            self.failure = self.failure or error
            raise
        return len(view)

    def flush(self) -> None:
        """Nothing is held back but two bytes."""

    def end(self) -> None:
        """Write the seal in place of the length of an empty comment."""
        self.file.write(_comment(self.digest.hexdigest()))


def _save_sealed(state: Mapping[str, Any], file: io.BufferedIOBase) -> None:
    target = Sealing(file)
    try:
        torch.save(state, cast(IO[bytes], target))  # it needs write and flush alone
    except Exception as error:
        raise target.failure or error from error
    target.end()


def _comment(digest: str) -> bytes:
    """A zip archive's comment with its length before it."""
    seal = SEAL + digest.encode()
    return len(seal).to_bytes(2, "little") + seal


def _verify(content: bytes, path: Path) -> None:
    if content[-22:-18] == END:
        return  # a whole archive that another program wrote, without a checksum
    length = len(SEAL) + 64
    body, seal = content[: -length - 2], content[-length:]
    if not seal.startswith(SEAL):
        raise ValueError(f"cannot go on from {path}: it is truncated, or no checkpoint ({len(content):,} bytes)")
    if hashlib.sha256(body).hexdigest().encode() != seal.removeprefix(SEAL):
        raise ValueError(f"cannot go on from {path}: its bytes have changed since it was written (checksum)")
