"""What a run is made of besides its config: the teacher's weights, the images, the code that computes."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._files import expanded
from ..config.run import Run
from ..data import Source, fingerprint_of, normalization_of
from ..data.labelled import digest
from ..kernels import state
from ..models import code_of
from ..train.pixels import seen_by
from ..train.sources import sources
from .checkpoint import read_checkpoint, write_weights

if TYPE_CHECKING:
    from ..train.build import Training
    from ..train.loop import Loop

CHUNK = 1 << 20
CHECKPOINT, STUDENT = "last.ckpt", "student.safetensors"
Origin = dict[str, str | None]
DATA = "as the data have them"  # how students of earlier releases saw pixels, whatever their weights came from
# What may change under way, since it moves numbers by rounding alone; it is said.
SAID = {
    "teacher": "other weights of the teacher",
    "losses": "other code for the losses",
    "code": "other code of its networks",
    "torch": "another version of torch",
}


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file, in hexadecimal digits; ``None`` without one.

    Example:
        >>> file_digest(Path("nowhere")) is None
        True
    """
    if not path.is_file():
        return None
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            found.update(part)
    return found.hexdigest()


def teacher_digest(run: Run) -> str | None:
    """A digest of the file with the teacher's weights, or of its folder's files; ``None`` where the run has neither."""
    if run.teacher is None:
        return None
    if run.teacher.checkpoint:
        return file_digest(expanded(run.teacher.checkpoint))
    library, _, place = run.teacher.name.partition(":")
    if library != "hf" or not run.teacher.pretrained:
        return None
    files = sorted(path for path in expanded(place).glob("*") if path.suffix in (".safetensors", ".bin", ".json"))
    return digest([(path.name, file_digest(path)) for path in files])


def _code_digest(run: Run) -> str | None:
    """A digest of the files in which the networks' functions lie, where they are somebody's own; else ``None``."""
    files = [network and code_of(network.name) for network in (run.student, run.teacher)]
    return digest([file and _with_helpers(file) for file in files]) if any(files) else None


def _with_helpers(file: Path) -> str | None:
    """A digest of a file of code, and of those beside it or below that it imports, and they in turn."""
    found: dict[Path, str | None] = {}
    waiting = [file]
    while waiting:
        here = waiting.pop()
        if here not in found:
            found[here] = file_digest(here)
            waiting += [place for place in _imported(here) if place.is_relative_to(file.parent)]
    if len(found) == 1:
        return found[file]
    return digest(sorted((path.relative_to(file.parent).as_posix(), told) for path, told in found.items()))


def _imported(file: Path) -> list[Path]:
    """The files beside a file of code that its ``import`` statements name; nothing is run."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    places: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names]
            names = [(node.level, name) for name in (node.module or "", *inside) if name]
        else:
            continue
        for level, name in names:
            base = file.parents[max(0, level - 1)].joinpath(*name.split("."))
            places += [place for place in (base.with_suffix(".py"), base / "__init__.py") if place.is_file()]
    return places


def origin_of(loop: Loop) -> Origin:
    """Digests of the teacher's weights and of both sets of images, and what computes; ``None`` where it is unknown."""
    training = loop.training
    return {
        "teacher": teacher_digest(training.run),
        "train": fingerprint_of(training.train),
        "test": fingerprint_of(training.test),
        "pixels": str(seen_by(training.student) or DATA),
        "losses": _losses(training),
        "code": _code_digest(training.run),
        "torch": str(torch.__version__),
    }


def _losses(training: Training) -> str | None:
    """Which kernels compute the losses; compiled ones are known by their source, their compiler and its options."""
    if not training.run.method.distils:
        return None
    if next(training.student.parameters()).device.type == "cuda":
        from ..kernels.triton_split import AVAILABLE  # loads triton

        return "Triton kernels" if AVAILABLE else "torch operations"
    words, _, place = state().partition(", ")
    return f"{words}, {Path(place).stem.rpartition('-')[0]}" if place else words.partition(":")[0]


def replaced(before: Mapping[str, Any], now: Origin, path: Path, *, other_file: bool) -> dict[str, list[Any]]:
    """What a run that goes on was made of otherwise, each with the old and the new one, as far as that is allowed.

    Args:
        before: what the checkpoint says; what it does not say is not compared.
        now: what is there.
        path: the checkpoint.
        other_file: whether the config names another file of the teacher's weights: then that is what is wanted.

    Raises:
        ValueError: other images, or other weights under the name of the teacher's.
    """
    if before and before.get("pixels", DATA) != now.get("pixels", DATA):
        raise ValueError(
            f"the student of {path} saw pixels in another way ({before.get('pixels', DATA)}) than it would from here "
            f"on ({now.get('pixels')}): write student.preprocessing as it was, or start anew with --overwrite"
        )
    other = [
        name
        for name, digest in now.items()
        if name != "pixels" and before.get(name) and digest and before[name] != digest
    ]
    for name in ("train", "test"):
        if name in other:
            images = "training images" if name == "train" else "test images"
            raise ValueError(
                f"the {images} differ from those that {path} was trained on (files added, left out, changed or moved "
                f"between classes): put them back, or start anew with --overwrite"
            )
    if "teacher" in other and not other_file:
        raise ValueError(
            f"the teacher's weights differ from those that {path} was taught by, though the file has the same name: "
            f"put the former file back, name another one by teacher.checkpoint=FILE, or start anew with --overwrite"
        )
    return {name: [before[name], now[name]] for name in other}


def check_teacher(facts: Any, run: Run, folder: Path) -> None:
    """Refuse a finished run whose teacher had other weights than the file of that name holds now.

    Args:
        facts: its summary; one that says nothing about the teacher passes.
        run: the config that is asked for.
        folder: of the run.

    Raises:
        ValueError: other weights.
    """
    if run.teacher and teacher_problem(facts, run):
        raise ValueError(
            f"{folder} holds a finished run that was taught by other weights than {run.teacher.checkpoint} holds now; "
            f"--overwrite replaces it"
        )


def say_other_images(facts: Any, run: Run, summary: Path) -> None:
    """Warn where a finished run is taken as it is though its own code, or its folder of images, is another by now.

    The images are read only where a file or a folder is younger than the run, so that this costs a look at the files.

    Args:
        facts: its summary.
        run: the config that is asked for.
        summary: the file that was written last.
    """
    if problem := code_problem(facts, run):
        warnings.warn(f"{summary.parent} is finished and taken as it is, but {problem}", stacklevel=4)
    folder, then = summary.parent, {name: _made_of(facts, name) for name in ("train", "test")}
    if not run.data.root or not all(then.values()):
        return
    if not _younger(expanded(run.data.root), summary.stat().st_mtime_ns):
        return
    try:
        now = dict(zip(then, map(fingerprint_of, sources(run.data, run.seed, torch.device("cpu"))), strict=True))
    except (ValueError, OSError) as error:
        warnings.warn(f"{folder} is finished and taken as it is, but its images cannot be read: {error}", stacklevel=4)
        return
    if other := [name for name, digest in now.items() if digest not in (None, then[name])]:
        warnings.warn(
            f"{folder} is finished and taken as it is, but the {' and '.join(other)} images are others by now (files "
            f"added, left out, changed or moved between classes); --overwrite trains on what is there",
            stacklevel=4,
        )


def _younger(root: Path, moment: int) -> bool:
    """Whether a file or folder below ``root`` was written after a moment, in ns; a moved file marks its folders."""
    with contextlib.suppress(OSError):
        for here, _, files in os.walk(root):
            if any(os.stat(os.path.join(here, name)).st_mtime_ns > moment for name in ("", *files)):
                return True
    return False


def restore_student(facts: Any, folder: Path) -> None:
    """Write the weights of a finished run again if they are gone: its last checkpoint holds them.

    A run of which neither is there keeps its numbers, as studies do that are kept without weights.

    Raises:
        ValueError: the checkpoint cannot be read, or the weights are there and not those that the run wrote.
    """
    there = (folder / CHECKPOINT).is_file()
    if problem := student_problem(facts, folder):
        way = f"delete it, and --resume writes it again from {CHECKPOINT}" if there else "--overwrite trains it again"
        raise ValueError(f"{problem}: {way}")
    if (folder / STUDENT).is_file() or not there:
        return
    try:
        state = read_checkpoint(folder / CHECKPOINT)
    except ValueError as error:
        raise ValueError(f"{folder / STUDENT} is gone: {error}; --overwrite trains it again") from error
    write_weights(state.get("average") or state["student"], folder / STUDENT)


def student_problem(facts: Any, folder: Path) -> str | None:
    """In words, why the trained weights are not those that the finished run left; ``None`` if they are."""
    then, now = _made_of(facts, "student"), file_digest(folder / STUDENT)
    if then is None or now in (None, then):
        return None
    return f"{folder / STUDENT} is not the file that this run wrote (its SHA-256 is another one)"


def teacher_problem(facts: Any, run: Run) -> str | None:
    """In words, why the teacher's weights are not those that taught the finished run; ``None`` if they are."""
    then, now = _made_of(facts, "teacher"), teacher_digest(run)
    if run.teacher is None or then is None or now in (None, then):
        return None
    where = run.teacher.checkpoint or run.teacher.name
    return f"{where} is not the teacher of this run any more (its SHA-256 is another one)"


def code_problem(facts: Any, run: Run) -> str | None:
    """In words, that the networks' own code has changed since the run was finished; ``None`` if it has not."""
    then, now = _made_of(facts, "code"), _code_digest(run)
    if then is None or now in (None, then):
        return None
    names = " or ".join(n.name for n in (run.student, run.teacher) if n and code_of(n.name))
    return f"the code of {names} is not what it was trained with: the same weights may be another network by now"


def problems(facts: Any, run: Run, folder: Path) -> list[str]:
    """In words, what of a finished run's networks is not what it was: weights, own code, the teacher's weights."""
    return [*filter(None, (student_problem(facts, folder), code_problem(facts, run), teacher_problem(facts, run)))]


def images_problem(facts: Any, source: Source) -> str | None:
    """In words, why test images are not those that the finished run was measured on; ``None`` if they are."""
    then, now = _made_of(facts, "test"), fingerprint_of(source)
    if then is not None and now not in (None, then):
        return "the test images are not those that this run was measured on (files added, left out, changed or moved)"
    known, rule = facts.get("images") if isinstance(facts, dict) else None, normalization_of(source)
    if rule and isinstance(known, dict) and known.get("mean") not in (None, list(rule.mean)):
        return "the images are not normalised as this run's were: their mean is that of other training images"
    return None


def _made_of(facts: Any, name: str) -> str | None:
    """A digest of a summary; ``None`` in those of older releases."""
    made = facts.get("made_of") if isinstance(facts, dict) else None
    found = made.get(name) if isinstance(made, dict) else None
    return found if isinstance(found, str) else None
