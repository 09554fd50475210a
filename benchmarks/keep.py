"""Keep what a page is made of: config, metrics and summary of every finished run of a study, and its teacher's weights.

    fractionate compare cifar100-small --seeds 3          # trains into runs/cifar100-small; the same command resumes
    python -m benchmarks.keep runs/cifar100-small         # copies the rows to benchmarks/results/runs/cifar100-small
    python docs/results.py                                # writes docs/results.md from them

Run it as often as you like: finished runs are added, nothing is recomputed. To go on with a study elsewhere, begin with
what was kept: a teacher trained again on another processor is another teacher, and its students are refused.

    cp -r benchmarks/results/runs/cifar100-small runs/    # the first command then trains only what is missing

Of a study (`fractionate study NAME`) the record is kept too, and of many small runs nothing else:

    python -m benchmarks.keep runs/which-method           # rows, and benchmarks/results/studies/which-method.json
    python -m benchmarks.keep --record runs/allocation    # the record alone; then: python docs/studies.py

A teacher's weights of more than 8 MB stay where they are, and a digest of them is kept in their place: going on
elsewhere takes the file itself too. Where the images and the runs lay on this machine is not kept.

A study that stops half-way and shall go on elsewhere is kept with its teacher whole, in benchmarks/results/unfinished,
which no page reads; it goes from there when the study has ended:

    python -m benchmarks.keep --unfinished runs/which-method
    cp -r benchmarks/results/unfinished/which-method runs/    # then the study, with FRACTIONATE_DATA and no --data

How certain the teacher is of the students' training images is measured where they are at hand, and written beside the
rows (certainty.json), so that docs/results.md can say which method pays when; --certainty does it for kept rows.
"""

import argparse
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fractionate._headlines import headline_of
from fractionate.config.files import from_yaml, to_yaml
from fractionate.runs.folder import CONFIG, METRICS, STUDENT, SUMMARY
from fractionate.studies.certainty import certainty
from fractionate.studies.conduct import RECORD, VALIDATION

SMALL = (CONFIG, METRICS, SUMMARY)
TEACHER, DIGEST = "teacher", "student.sha256"
MOST = 8_000_000  # bytes of a teacher's weights that are kept
PLACES = ("--data", "--out", "--workers")  # of this machine alone
KEPT = Path(__file__).parent / "results" / "runs"
RECORDS = KEPT.parent / "studies"
UNFINISHED = KEPT.parent / "unfinished"
CERTAINTY = "certainty.json"


def keep(study: Path, kept: Path = KEPT, most: int = MOST) -> list[Path]:
    """Copy the small files of every finished student's run, and the teacher with its weights.

    Args:
        study: folder of run folders.
        kept: folder of all studies that are kept; this one gets a folder of its own name.
        most: bytes of a teacher's weights that are kept.

    Returns:
        The students' folders written.

    Raises:
        ValueError: no finished run in the study, or students of more than one teacher; nothing is copied then.
    """
    found = [f.parent for f in sorted(study.rglob(SUMMARY)) if f.parent.name.startswith("seed-")]  # no teachers
    done = [folder for folder in found if VALIDATION not in folder.relative_to(study).parts]
    if not done:
        raise ValueError(f"{study} holds no finished run yet")
    if len(taught := _teachers([*done, *(f.parent for f in (kept / study.name).rglob(SUMMARY))])) > 1:
        ways = "; ".join(f"{score} in {folder}" for score, folder in taught.items())
        raise ValueError(f"these students had more than one teacher, so their seeds are not pairs: {ways}")
    _same_weights(study / TEACHER / STUDENT, kept / study.name / TEACHER)
    if (study / TEACHER / SUMMARY).is_file():
        _copy_teacher(study / TEACHER, kept / study.name / TEACHER, most)
    written = [_copy(folder, kept / study.name / folder.relative_to(study), SMALL) for folder in done]
    complete(kept / study.name)
    for row in (*written, *(f.parent for f in (kept / study.name / TEACHER).glob(SUMMARY))):
        _without_place(row, study)
    return written


def keep_record(study: Path, records: Path = RECORDS) -> Path:
    """Copy the record of a study, without the names of its run folders and of places on this machine.

    Args:
        study: folder that the study wrote into.
        records: folder of all records.

    Raises:
        ValueError: the study has not ended yet.
    """
    if not (study / RECORD).is_file():
        raise ValueError(f"{study} holds no {RECORD}: the study has not ended yet")
    found = json.loads((study / RECORD).read_text(encoding="utf-8"))
    found["arms"] = [{**arm, "folders": []} for arm in found["arms"]]
    found["command"] = re.sub(rf" ({'|'.join(PLACES)})[ =]\S+", "", found["command"])
    records.mkdir(parents=True, exist_ok=True)
    place = records / f"{found['name']}.json"
    place.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return place


def measure(kept: Path, root: str | None = None, weights: Path | None = None) -> Path:
    """Write down how certain the teacher of some kept rows is of its students' training images.

    Args:
        kept: folder of the rows of one study.
        root: folder of the data set; by default the usual places.
        weights: the teacher's; by default those that were kept.

    Raises:
        ValueError: no rows, or images that are not there.
    """
    rows = sorted(kept.rglob(f"seed-*/{CONFIG}"))
    if not rows:
        raise ValueError(f"{kept} holds no rows")
    run = from_yaml(rows[0].read_text(encoding="utf-8"), str(rows[0]))
    if run.teacher is None:
        raise ValueError(f"the students in {kept} have no teacher")
    teacher = replace(run.teacher, checkpoint=str(weights or kept / TEACHER / STUDENT))
    found = certainty(replace(run, teacher=teacher, data=replace(run.data, root=root or run.data.root)))
    place = kept / CERTAINTY
    place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return place


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


def _copy_teacher(folder: Path, place: Path, most: int) -> None:
    """The teacher's small files, and its weights or a digest of them."""
    if (folder / STUDENT).stat().st_size <= most:
        _copy(folder, place, (*SMALL, STUDENT))
    else:
        _copy(folder, place, SMALL)
        (place / DIGEST).write_text(_digest(folder / STUDENT) + "\n", encoding="utf-8")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _without_place(row: Path, study: Path) -> None:
    """Name the study's folder and its own teacher as people type them, wherever on this machine it was trained.

    Where the images lay is left out.
    """
    config, summary = row / CONFIG, row / SUMMARY
    run = from_yaml(config.read_text(encoding="utf-8"), str(config))
    typed, own = Path("runs", study.name), study / TEACHER / STUDENT
    kept = replace(run, data=replace(run.data, root=None))
    if run.teacher and run.teacher.checkpoint and Path(run.teacher.checkpoint).is_absolute():
        place = Path(run.teacher.checkpoint)
        if place.is_file() and own.is_file() and place.read_bytes() == own.read_bytes():
            kept = replace(kept, teacher=replace(run.teacher, checkpoint=(typed / TEACHER / STUDENT).as_posix()))
    if kept != run:
        config.write_text(to_yaml(kept), encoding="utf-8")
    found = json.loads(summary.read_text(encoding="utf-8"))
    words = found.get("command") or []
    shorter = [
        typed.as_posix() if word == "--out" and Path(x).is_absolute() else x
        for word, x in pairwise(["", *words])
        if "--data" not in (word, x) and not x.startswith("--data=")
    ]
    if shorter != words:
        summary.write_text(json.dumps(found | {"command": shorter}, indent=1) + "\n", encoding="utf-8")


def _same_weights(new: Path, old: Path) -> None:
    """Refuse a teacher that was trained again; ``old`` is the folder that was kept."""
    if not new.is_file():
        return
    there = [_digest(old / STUDENT)] if (old / STUDENT).is_file() else []
    there += [(old / DIGEST).read_text(encoding="utf-8").strip()] if (old / DIGEST).is_file() else []
    if there and _digest(new) not in there:
        raise ValueError(f"the weights in {new} are not those of {old}, so the students of the two are no pairs")


def _teachers(folders: Iterable[Path]) -> dict[float, Path]:
    """The headline of every teacher, with a run that names it."""
    found: dict[float, Path] = {}
    for folder in folders:
        facts = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        score = facts[f"teacher_{headline_of(facts)}"]
        if score is not None:
            found.setdefault(score, folder)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--record", action="store_true", help="keep the record of a study alone")
    parser.add_argument("--certainty", action="store_true", help="measure the teacher of kept rows")
    parser.add_argument("--data", help="folder or zip file of the images, where they are not in the usual places")
    parser.add_argument(
        "--unfinished", action="store_true", help="keep a study that goes on elsewhere, with its teacher"
    )
    words = parser.parse_args()
    if words.unfinished:
        written = keep(words.study, UNFINISHED, sys.maxsize)
        print(f"{len(written)} runs and their teacher kept in {UNFINISHED / words.study.name}")
        return
    if words.certainty:
        print(measure(KEPT / words.study.name, words.data))
        return
    if (words.study / RECORD).is_file() or words.record:
        print(keep_record(words.study))
    if not words.record:
        written = keep(words.study)
        print(f"{len(written)} runs kept in {KEPT}")
        print(measure(KEPT / words.study.name, words.data, words.study / TEACHER / STUDENT))


if __name__ == "__main__":
    main()
