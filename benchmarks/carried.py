"""What goes to a lent machine and comes back: wheels of what it lacks, the evidence, and the state of unfinished runs.

What comes back is at most eight files of 16 MiB, 64 MiB together. The evidence is the first of them: logs, CSVs, the
plan, and config, metrics and summary of every run. Then every teacher that is finished, as float16; then the unfinished
runs with their last checkpoints, in the order of their worth and as many as there is room for, as one archive that is
cut into volumes. ``unpack`` puts everything back where it was, so that the same command goes on there.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from fractionate.runs.folder import CHECKPOINT, CONFIG, METRICS, SUMMARY

FILES, EACH, TOGETHER = 8, 16 * 2**20, 64 * 2**20  # what comes back
TRANSFER = 64 * 2**20  # what goes there
EVIDENCE, TEACHERS, STATE = "evidence.tar.gz", "teachers", "state.tar."
LOG_END = 200_000  # bytes of a log that are kept: its end
NEEDED = ("pydantic", "tyro")  # what reads a config and the words of a command; a machine with a GPU often lacks them
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def pack(out: Path, folder: Path, runs: Sequence[Path] = ()) -> list[str]:
    """Write the files that are to come back; what was in ``folder`` is replaced.

    Args:
        out: folder of logs, CSVs, runs and teachers.
        folder: where they go.
        runs: run folders that may be unfinished, the most worth first.

    Returns:
        Sentences: what was packed, and what there was no room for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.safetensors"), *folder.glob(f"{STATE}*"), folder / EVIDENCE):
        old.unlink(missing_ok=True)
    said = [_evidence(out, folder / EVIDENCE)]
    for weights in sorted((out / TEACHERS).glob("*.safetensors")):
        if weights.stat().st_size <= min(EACH, _room(folder)):
            shutil.copyfile(weights, folder / weights.name)
            said.append(f"{weights.name}: {weights.stat().st_size:,} bytes")
        else:
            said.append(f"{weights.name}: left out, {weights.stat().st_size:,} bytes do not fit")
    return [*said, *_state(out, folder, runs)]


def _evidence(out: Path, archive: Path) -> str:
    small = [f for f in sorted(out.rglob("*")) if f.suffix in (".csv", ".done", ".jsonl") or f.name == "plan.json"]
    small += [f for f in sorted(out.rglob("*")) if f.name in (CONFIG, METRICS, SUMMARY, "teachers.json")]
    with tarfile.open(archive, "w:gz") as tar:
        for file in dict.fromkeys(small):
            tar.add(file, file.relative_to(out).as_posix())
        for log in sorted(out.glob("*.log")):
            text = log.read_bytes()[-LOG_END:]
            facts = tarfile.TarInfo(log.relative_to(out).as_posix())
            facts.size = len(text)
            tar.addfile(facts, io.BytesIO(text))
    return f"{archive.name}: {archive.stat().st_size:,} bytes"


def _room(folder: Path) -> int:
    """Bytes that may still be put there, in files of :data:`EACH` at most."""
    there = [f.stat().st_size for f in folder.iterdir() if f.is_file()]
    return max(0, min(TOGETHER - sum(there), (FILES - len(there)) * EACH))


def _state(out: Path, folder: Path, runs: Sequence[Path]) -> list[str]:
    """Last checkpoints of unfinished runs, as one archive in volumes."""
    left, said, chosen = _room(folder) - 2 * tarfile.RECORDSIZE, [], []
    for run in runs:
        files = [f for name in (CHECKPOINT, CONFIG, METRICS) if (f := run / name).is_file()]
        if (run / SUMMARY).is_file() or not (run / CHECKPOINT).is_file():
            continue
        size = sum(f.stat().st_size + 2 * tarfile.BLOCKSIZE for f in files)
        name = run.relative_to(out).as_posix()
        if size > left:
            said.append(f"{name}: left out, the {size:,} bytes of its state do not fit; it begins anew elsewhere")
            continue
        left -= size
        chosen += files
        said.append(f"{name}: its state, {size:,} bytes")
    if chosen:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            for file in chosen:
                tar.add(file, file.relative_to(out).as_posix())
        content = made.getvalue()
        for number, start in enumerate(range(0, len(content), EACH)):
            (folder / f"{STATE}{number}").write_bytes(content[start : start + EACH])
    return said


def unpack(folder: Path, out: Path) -> list[str]:
    """Put back what :func:`pack` wrote; files that are there already stay.

    Returns:
        The run folders whose state came back.

    Raises:
        ValueError: the folder holds no evidence of a session, or a volume of the state is missing.
    """
    if not (folder / EVIDENCE).is_file():
        raise ValueError(f"{folder} holds no {EVIDENCE}; expected the folder that a session packed")
    _extracted((folder / EVIDENCE).read_bytes(), out)
    (out / TEACHERS).mkdir(parents=True, exist_ok=True)
    for weights in folder.glob("*.safetensors"):
        if not (out / TEACHERS / weights.name).exists():
            shutil.copyfile(weights, out / TEACHERS / weights.name)
    volumes = sorted(folder.glob(f"{STATE}*"), key=lambda f: int(f.suffix[1:]))
    if [int(f.suffix[1:]) for f in volumes] != [*range(len(volumes))]:
        raise ValueError(f"{folder} lacks a volume of {STATE}*: it has {', '.join(f.name for f in volumes)}")
    if not volumes:
        return []
    return _extracted(b"".join(f.read_bytes() for f in volumes), out)


def _extracted(archive: bytes, out: Path) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        wanted = [member for member in tar.getmembers() if not (out / member.name).exists()]
        tar.extractall(out, members=wanted, filter="data")
    return sorted({str(Path(member.name).parent) for member in wanted if member.name.endswith(CHECKPOINT)})


def site_of(wheels: Path, out: Path) -> str:
    """A folder of the packages that this machine lacks, unpacked from wheels; empty where it lacks none.

    Raises:
        ValueError: something is missing, and there is no wheel of it.
    """
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not lacking:
        return ""
    site, found = out / "site", sorted(wheels.glob("*.whl")) if wheels.is_dir() else []
    for wheel in found:  # pure or for this platform: unpacking is all that installing would do for an import
        with zipfile.ZipFile(wheel) as file:
            file.extractall(site)
    if left := [name for name in lacking if not (site / name).is_dir()]:
        raise ValueError(
            f"this machine has no {' and no '.join(left)}, and {wheels} no wheel of it; "
            "`python -m benchmarks.gpu_session prepare` fetches them"
        )
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    return str(site)


def wanted_wheels(names: Iterable[str] = NEEDED) -> list[str]:
    """``name==version`` of packages and of all that they need, as they are installed here.

    Example:
        >>> any(wheel.startswith("pydantic-core==") for wheel in wanted_wheels(["pydantic"]))
        True
    """
    found: dict[str, str] = {}
    queue = list(names)
    while queue:
        name = re.sub(r"[-_.]+", "-", queue.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on other systems only
        needs = importlib.metadata.requires(name) or []
        queue += [re.split(r"[^\w.-]", need, maxsplit=1)[0] for need in needs if "extra ==" not in need]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def fetch_wheels(folder: Path, python: str = "3.12") -> None:
    """Wheels of what configs and commands are read with, for Linux on x86-64."""
    words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", python]
    words += [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run([sys.executable, "-m", "pip", *words, "-d", str(folder), *wanted_wheels()], check=True)
