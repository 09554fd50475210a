"""Keep trained teachers for later machines: ``python -m benchmarks.teachers runs/cifar100-table``.

Takes every finished ``teacher-NAME`` run folder, rounds its weights to float16, and writes NAME.safetensors to
benchmarks/teachers, with the accuracy of its last epoch (before rounding) in teachers.json. The file itself says how it
was trained, and every run that learns from it repeats that in its summary. benchmarks.cifar100_table then trains no
such teacher; one of another length has a name of its own (resnet32x4-short) and is not taken for the published one. All
files together stay below 20 MB, and none of them is part of the package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from fractionate.runs.folder import RunFolder
from fractionate.runs.taught import NOTE, training_of

KEPT = Path(__file__).parent / "teachers"
FACTS = "teachers.json"
MOST = 20_000_000  # bytes, in all


def keep_teachers(runs: Path, kept: Path = KEPT, most: int = MOST, names: Sequence[str] = ()) -> list[Path]:
    """Write the weights of finished teachers as float16.

    Args:
        runs: folder of ``teacher-NAME`` run folders.
        kept: where they go.
        most: bytes that all files in ``kept`` may have together.
        names: which teachers; all that are there if empty.

    Returns:
        The files written.

    Raises:
        ValueError: no such teacher is finished, or there would be too many bytes.
    """
    folders = [f for f in sorted(runs.glob("teacher-*")) if RunFolder(f).finished]
    found = {f.name.removeprefix("teacher-"): RunFolder(f) for f in folders}
    chosen = {name: run for name, run in found.items() if not names or name in names}
    if not chosen or set(names) - set(chosen):
        raise ValueError(f"{runs} holds the finished teachers {sorted(found)}, not {sorted(set(names) - set(found))}")
    kept.mkdir(parents=True, exist_ok=True)
    facts = json.loads((kept / FACTS).read_text()) if (kept / FACTS).is_file() else {}
    written = []
    for name, run in chosen.items():
        half = {k: v.half() if v.is_floating_point() else v for k, v in load_file(run.student).items()}
        if bad := [k for k, v in half.items() if v.is_floating_point() and not bool(v.isfinite().all())]:
            raise ValueError(f"{name}: {', '.join(bad)} holds numbers that float16 cannot")
        size = sum(v.numel() * v.element_size() for v in half.values())
        others = sum(f.stat().st_size for f in kept.glob("*.safetensors") if f.stem != name)
        if others + size > most:
            raise ValueError(
                f"{name} takes {size:,} bytes and the others {others:,}: more than {most:,}; name the teachers to keep"
            )
        note = training_of(run.student)
        save_file(half, kept / f"{name}.safetensors", {NOTE: json.dumps(note)})
        summary = run.summary()
        facts[name] = {key: summary[key] for key in ("last_top1", "epochs", "seed", "device", "git", "versions")}
        facts[name] |= {"network": summary["student"], "schedule": (note or {}).get("schedule")}
        written.append(kept / f"{name}.safetensors")
    (kept / FACTS).write_text(json.dumps(facts, indent=1) + "\n")
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("names", nargs="*", help="which teachers (default: all)")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where they go")
    options = parser.parse_args(arguments)
    for file in keep_teachers(options.runs, options.kept, names=options.names):
        print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
