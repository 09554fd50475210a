"""Faults of folders, disks, processes and numbers: what happens to a run."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import Optimizer
from fractionate.config.run import Network, Run
from fractionate.report import read_runs
from fractionate.runs.folder import RunFolder
from fractionate.runs.lock import locked
from fractionate.runs.runner import run_in_folder
from fractionate.runs.stop import Stop, Stopped, deadline
from fractionate.studies.jobs import Job, Options, run_jobs
from fractionate.studies.train import resume_run
from fractionate.tasks.classification import measure
from fractionate.train.build import Training, prepare
from tests.faults.bench import STOPPED_AT, Bench, Fault
from tests.faults.inputs import Code
from tests.runs.test_resume import stop_after
from tests.train.test_guard import broken

GARBAGE = b'{"epoch": 1, "train_loss": \xff\n'


def damaged(path: Path, how: Callable[[bytes], bytes]) -> None:
    path.write_bytes(how(path.read_bytes()))


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def go_on_from(b: Bench, **damage: Callable[[bytes], bytes]) -> None:
    b.stopped()
    for name, how in damage.items():
        damaged(b.out / f"{name}.ckpt", how)
    b.note()
    b.go_on()


def three_damaged(b: Bench) -> None:
    """A run that keeps three checkpoints goes on from the third."""
    with contextlib.suppress(Stopped):
        run_in_folder(replace(b.run, keep=3), b.out, save_steps=2, stop=stop_after(STOPPED_AT))
    for name in ("last", "previous"):
        damaged(b.out / f"{name}.ckpt", flipped)
    b.go_on(keep=3)


def lock_held(b: Bench) -> None:
    b.stopped()
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with locked(b.out):
            os.write(ready[1], b".")
            os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    try:
        b.go_on()
    finally:
        os.write(done[1], b".")
        os.waitpid(child, 0)


def no_permission(b: Bench) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    b.patch.setattr(Path, "mkdir", refuse)
    b.train()


def full_after(b: Bench, files: int) -> None:
    """The disk is full after so many files."""
    left, really = [files], os.fsync

    def fsync(descriptor: int) -> None:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        really(descriptor)

    b.patch.setattr(os, "fsync", fsync)
    b.train()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def too_large(b: Bench) -> None:
    b.stopped()
    with largest_file(4096):
        b.go_on()


def metrics_full(b: Bench) -> None:
    def fill(record: object) -> None:
        (b.out / "metrics.jsonl").unlink()
        (b.out / "metrics.jsonl").symlink_to("/dev/full")

    try:
        run_in_folder(b.run, b.out, on_record=fill, save_steps=2)
    finally:
        (b.out / "metrics.jsonl").unlink()


def signalled(b: Bench, *numbers: signal.Signals) -> None:
    def send(record: object) -> None:
        for number in numbers:
            signal.raise_signal(number)

    run_in_folder(b.run, b.out, on_record=send, save_steps=2)


def method_breaks(b: Bench, at: Callable[[int], bool], allowed: int = 0) -> None:
    def prepared(run: Run) -> Training:
        training = prepare(run)
        training.method = broken(at)
        return training

    b.patch.setattr(sys.modules["fractionate.runs.runner"], "prepare", prepared)
    run_in_folder(replace(b.taught, skip_nonfinite=allowed), b.out)


def broken_weights(b: Bench) -> None:
    def spoil(record: object) -> None:
        torch.nn.init.constant_(next(seen[0].student.parameters()), float("inf"))

    seen: list[Training] = []

    def prepared(run: Run) -> Training:
        seen.append(prepare(run))
        return seen[0]

    b.patch.setattr(sys.modules["fractionate.runs.runner"], "prepare", prepared)
    run_in_folder(b.run, b.out, on_record=spoil, save_steps=2)


def finished_with(b: Bench, name: str, content: bytes) -> Path:
    (b.finished() / name).write_bytes(content)
    return b.out


def merged_then_apart(b: Bench) -> None:
    run = replace(b.taught, method=MethodSpec.parse("dkd+deepkd"))
    with pytest.raises(Stopped):
        run_in_folder(run, b.out, stop=stop_after(5))
    b.note()
    run_in_folder(replace(run, merge=False), b.out, resume=True)


def resumed(folder: Path) -> None:
    resume_run(folder, [], Console(quiet=True), Options(resume=True))


def twice(b: Bench) -> None:
    run_jobs([Job("one", b.run, b.out), Job("two", b.run, b.out)], Options(), lambda event: None)


def killed_between(b: Bench) -> None:
    """Renaming the old checkpoint was done, renaming the new one was not."""
    (b.stopped() / "last.ckpt").unlink()
    (b.out / ".last.ckpt.99.tmp").write_bytes(b"half")
    b.go_on()
    assert not list(b.out.glob(".*"))


def rows(*epochs: int) -> bytes:
    return b"".join(json.dumps({"epoch": e, "train_loss": 1.0}).encode() + b"\n" for e in epochs)


FAULTS = [
    Fault("a folder with a finished run", lambda b: (b.finished(), b.train()), "nothing"),
    Fault("a folder with an unfinished run", lambda b: (b.stopped(), b.train()), "nothing"),
    Fault("a file in the place of the folder", lambda b: (b.out.write_text("mine"), b.train()), "nothing"),
    Fault("two processes in one folder", lock_held, "nothing"),
    Fault("no permission to write", no_permission),
    Fault("resuming a finished run with other settings", lambda b: (b.finished(), b.go_on(epochs=9)), "nothing"),
    Fault(
        "damaged weights of a finished run",
        lambda b: (damaged(b.finished() / "student.safetensors", flipped), b.note(), b.go_on()),
        "nothing",
    ),
    Fault("resuming a folder that is not there", lambda b: resumed(b.folder / "nowhere")),
    Fault("resuming a folder without a run", lambda b: resumed(b.folder)),
    Fault("resuming a folder of runs", lambda b: (b.stopped(), resumed(b.folder)), "nothing"),
    Fault("resuming with another seed", lambda b: (b.stopped(), b.go_on(seed=1)), "nothing"),
    Fault(
        "resuming with another batch size",
        lambda b: (b.stopped(), b.go_on(data=Data(labels_per_class=2, batch_size=4, shift=1))),
        "nothing",
    ),
    Fault(
        "resuming with another student",
        lambda b: (b.stopped(), b.go_on(student=Network("convnet_8_16"))),
        "nothing",
    ),
    Fault("resuming at fewer epochs than are done", lambda b: (b.stopped(), b.go_on(epochs=1)), "nothing"),
    Fault(
        "resuming inside an epoch with another method",
        lambda b: (b.stopped(), run_in_folder(b.taught, b.out, resume=True)),
        "nothing",
    ),
    Fault("resuming merged streams apart", merged_then_apart, "nothing"),
    Fault("the newest checkpoint truncated", lambda b: go_on_from(b, last=lambda c: c[:-1000]), "recovered"),
    Fault("a byte of the newest checkpoint changed", lambda b: go_on_from(b, last=flipped), "recovered"),
    Fault("the newest checkpoint empty", lambda b: go_on_from(b, last=lambda c: b""), "recovered"),
    Fault("the two newest of three damaged", three_damaged, "recovered"),
    Fault("both checkpoints damaged", lambda b: go_on_from(b, last=flipped, previous=flipped), "nothing"),
    Fault("killed between two renames", killed_between, "recovered"),
    Fault(
        "metrics cut off in the middle of a line",
        lambda b: (damaged(b.stopped() / "metrics.jsonl", lambda c: c[:-20]), b.go_on()),
        "recovered",
    ),
    Fault(
        "metrics overwritten with something else",
        lambda b: (damaged(b.stopped() / "metrics.jsonl", lambda c: GARBAGE), b.go_on()),
        "recovered",
    ),
    Fault("Ctrl-C", lambda b: signalled(b, signal.SIGINT), "saved"),
    Fault("SIGTERM", lambda b: signalled(b, signal.SIGTERM), "saved"),
    Fault("Ctrl-C twice", lambda b: signalled(b, signal.SIGINT, signal.SIGINT), "last good state"),
    Fault("a time budget that ends before training", lambda b: run_in_folder(b.run, b.out, stop=Stop(deadline(0)))),
    Fault("the disk full from the start", lambda b: full_after(b, 0)),
    Fault("the disk full at a checkpoint", lambda b: full_after(b, 6), "last good state"),
    Fault("a checkpoint larger than files may be", too_large, "last good state"),
    Fault("the disk full at the metrics", metrics_full, "last good state"),
    Fault("a loss that is not finite", lambda b: b.train(optimizer=Optimizer(lr=1e30)), "diverged"),
    Fault("a gradient that is not finite", lambda b: method_breaks(b, lambda step: step == 6), "diverged"),
    Fault("more such steps than were allowed", lambda b: method_breaks(b, lambda step: step > 6, 2), "diverged"),
    Fault("two runs for one folder", twice),
    Fault("logits that are not finite", lambda b: measure(torch.tensor([[0.0, float("nan")]]), torch.tensor([0]))),
    Fault("weights that are not finite", broken_weights, "last good state"),
    Fault(
        "a summary that is no JSON", lambda b: RunFolder(finished_with(b, "summary.json", b"{")).summary(), "only read"
    ),
    Fault("no finished run to evaluate", lambda b: RunFolder(b.stopped()).summary(), "nothing"),
    Fault("a report of a folder that is not there", lambda b: read_runs([b.folder / "nowhere"])),
    Fault("a report of a folder without runs", lambda b: read_runs([b.folder])),
    Fault(
        "a report of metrics that are no JSON",
        lambda b: read_runs([finished_with(b, "metrics.jsonl", b"{]\n")]),
        "only read",
    ),
    Fault(
        "a report of metrics out of order",
        lambda b: read_runs([finished_with(b, "metrics.jsonl", rows(2, 1))]),
        "only read",
    ),
    Fault(
        "a report of metrics in another encoding",
        lambda b: read_runs([finished_with(b, "metrics.jsonl", GARBAGE)]),
        "only read",
    ),
    Fault(
        "a report of a summary that is no object",
        lambda b: read_runs([finished_with(b, "summary.json", b"[]")]),
        "only read",
    ),
    Fault(
        "a report of a finished run without metrics",
        lambda b: ((b.finished() / "metrics.jsonl").unlink(), read_runs([b.out])),
        "only read",
    ),
    Fault(
        "a checkpoint that asks for code",
        lambda b: (torch.save(Code(), b.stopped() / "last.ckpt"), b.go_on()),
        "recovered",
        foreign="last.ckpt:",
    ),
    Fault(
        "a checkpoint of another program",
        lambda b: (torch.save({"model": 1}, b.stopped() / "last.ckpt"), b.go_on()),
        "recovered",
    ),
]
