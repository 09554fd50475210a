"""Keep what a page is made of: config, metrics and summary of every finished run of a study, and its teacher's weights.

    fractionate compare cifar100-small --seeds 3          # trains into runs/cifar100-small; the same command resumes
    python -m benchmarks.keep runs/cifar100-small         # copies the rows to benchmarks/results/runs/cifar100-small
    python docs/results.py                                # writes docs/results.md from them

Run it as often as you like: finished runs are added, nothing is recomputed. To go on with a study elsewhere, begin with
what was kept: a teacher trained again on another processor is another teacher, and its students are refused.

    cp -r benchmarks/results/runs/cifar100-small runs/    # the first command then trains only what is missing
"""

import argparse
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from fractionate.config.files import from_yaml, to_yaml
from fractionate.runs.folder import CONFIG, METRICS, STUDENT, SUMMARY

SMALL = (CONFIG, METRICS, SUMMARY)
TEACHER = "teacher"
KEPT = Path(__file__).parent / "results" / "runs"


def keep(study: Path, kept: Path = KEPT) -> list[Path]:
    """Copy the small files of every finished student's run, and the teacher with its weights.

    Args:
        study: folder of run folders.
        kept: folder of all studies that are kept; this one gets a folder of its own name.

    Returns:
        The students' folders written.

    Raises:
        ValueError: no finished run in the study, or students of more than one teacher; nothing is copied then.
    """
    done = [f.parent for f in sorted(study.rglob(SUMMARY)) if f.parent.name.startswith("seed-")]  # no teachers
    if not done:
        raise ValueError(f"{study} holds no finished run yet")
    if len(taught := _teachers([*done, *(f.parent for f in (kept / study.name).rglob(SUMMARY))])) > 1:
        ways = "; ".join(f"{top1} % in {folder}" for top1, folder in taught.items())
        raise ValueError(f"these students had more than one teacher, so their seeds are not pairs: {ways}")
    _same_weights(study / TEACHER / STUDENT, kept / study.name / TEACHER / STUDENT)
    if (study / TEACHER / SUMMARY).is_file():
        _copy(study / TEACHER, kept / study.name / TEACHER, (*SMALL, STUDENT))
    written = [_copy(folder, kept / study.name / folder.relative_to(study), SMALL) for folder in done]
    complete(kept / study.name)
    return written


def complete(study: Path) -> None:
    """Write out the fields that a config of an older version lacks, so that runs differ in what was changed alone.

    Args:
        study: folder of kept rows.
    """
    for path in sorted(study.rglob(CONFIG)):
        path.write_text(to_yaml(from_yaml(path.read_text(encoding="utf-8"), str(path))), encoding="utf-8")


def _copy(folder: Path, place: Path, names: Iterable[str]) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(folder / name, place / name)
    return place


def _same_weights(new: Path, old: Path) -> None:
    """Refuse a teacher that was trained again."""
    if new.is_file() and old.is_file() and new.read_bytes() != old.read_bytes():
        raise ValueError(f"the weights in {new} are not those of {old}, so the students of the two are no pairs")


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
