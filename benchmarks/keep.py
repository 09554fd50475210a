"""Keep what a page is made of: config, metrics and summary of every finished run of a study, without weights.

    fractionate compare cifar100-small --seeds 3          # trains into runs/cifar100-small; the same command resumes
    python -m benchmarks.keep runs/cifar100-small         # copies the rows to benchmarks/results/runs/cifar100-small
    python docs/results.py                                # writes docs/results.md from them

Run it as often as you like: finished runs are added, nothing is recomputed. To go on with a study elsewhere, take its
teacher's folder along: a teacher trained again on another processor is another teacher, and its students are refused.
"""

import argparse
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from fractionate.train.runfolder import CONFIG, METRICS, SUMMARY

KEPT = Path(__file__).parent / "results" / "runs"


def keep(study: Path, kept: Path = KEPT) -> list[Path]:
    """Copy the small files of every finished student's run.

    Args:
        study: folder of run folders.
        kept: folder of all studies that are kept; this one gets a folder of its own name.

    Returns:
        The folders written.

    Raises:
        ValueError: no finished run in the study, or students of more than one teacher; nothing is copied then.
    """
    done = [f.parent for f in sorted(study.rglob(SUMMARY)) if f.parent.name.startswith("seed-")]  # no teachers
    if not done:
        raise ValueError(f"{study} holds no finished run yet")
    if len(taught := _teachers([*done, *(f.parent for f in (kept / study.name).rglob(SUMMARY))])) > 1:
        ways = "; ".join(f"{top1} % in {folder}" for top1, folder in taught.items())
        raise ValueError(f"these students had more than one teacher, so their seeds are not pairs: {ways}")
    written = []
    for folder in done:
        place = kept / study.name / folder.relative_to(study)
        place.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG, METRICS, SUMMARY):
            shutil.copyfile(folder / name, place / name)
        written.append(place)
    return written


def _teachers(folders: Iterable[Path]) -> dict[float, Path]:
    """Accuracy of every teacher, with a run that names it."""
    found: dict[float, Path] = {}
    for folder in folders:
        top1 = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["teacher_top1"]
        if top1 is not None:
            found.setdefault(top1, folder)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    written = keep(parser.parse_args().study)
    print(f"{len(written)} runs kept in {KEPT}")


if __name__ == "__main__":
    main()
