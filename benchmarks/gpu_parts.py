"""The parts of a session on a lent GPU: which commands, in which order, and how long the students train."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from fractionate.config.files import override, to_yaml
from fractionate.config.run import Run
from fractionate.papers.draft import PUBLISHED_EPOCHS, lasting
from fractionate.recipes.teachers import short, teacher_run
from fractionate.runs.folder import SUMMARY

from .cifar100_table import PAIRS, TOGETHER, Entry
from .session import BUDGET, GRACE, PACKING, ROOT, Clock, Command

PAIR = PAIRS[0]
TOY_PAIR = ("resnet20", "resnet20")
FAST = ("graph=true", "precision=bfloat16", "save_every=20", "evaluate_every=10")
LENGTHS = (240, 200, 160, 120, 100, 80, 60, 48, 40, 32, 24)  # of the students, all shortened alike
MARGIN = 1.15  # of the measured pace: the real data, evaluations and checkpoints
SETUP = 30.0  # seconds before the first epoch of students in lockstep
TOY = ("data.labels_per_class=1", "data.batch_size=50", "save_every=1")
Part = Callable[[argparse.Namespace, Clock], Iterator[Command]]


def first(options: argparse.Namespace, clock: Clock) -> Iterator[Command]:
    """Evidence: tests, kernels, losses, pace."""
    toy, out = ("--toy",) if options.toy else (), options.out
    quick = ("-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs")
    yield Command("tests-gpu", (*quick, "-m", "gpu", *(marked()[:1] if options.toy else marked())), most=60)
    if not options.toy:
        yield Command("tests-triton", (*quick, "tests/losses/test_triton.py", "-m", "not slow"), most=45)
    yield Command("gpu-losses", ("-m", "benchmarks.gpu_losses", *toy, "--csv", str(out / "gpu_losses.csv")), most=40)
    pace = ("-m", "benchmarks.pace", *toy, "--noise", "--device", options.device, "--csv", str(out / "pace.csv"))
    if options.together:
        yield Command("pace-together", (*pace, "--epochs", "2", "--ways", "--together", "8", "1", "4"), most=80)
    yield Command("pace", (*pace, "--epochs", "2"), most=100)


def second(options: argparse.Namespace, clock: Clock) -> Iterator[Command]:
    """The short teacher, kept at once; then the students of seed 0."""
    yield from _teacher(options, short(_pair(options)[0]), "short", leave=0.4 * clock.limit)
    yield from _students(options, clock, "short", seeds=1)


def again(options: argparse.Namespace, clock: Clock) -> Iterator[Command]:
    """What is worth most after that: seeds, the teacher at its full length, further pairs."""
    for what in options.what:
        if what == "seeds":
            yield from _students(options, clock, "short", seeds=options.seeds)
        elif what == "teacher":
            yield from _teacher(options, teacher_run(_pair(options)[0]), "long", leave=0.0)
            yield from _students(options, clock, "long", options.seeds)
        elif what == "pairs":
            yield _pairs(options, clock)
        elif what == "steps":
            yield from _steps(options)
        elif what == "speedrun":
            yield from _speedrun(options)
        else:
            raise ValueError(f"--what takes seeds, teacher, pairs, steps and speedrun, got {what!r}")


PARTS: dict[str, Part] = {"first": first, "second": second, "again": again}


def marked() -> list[str]:
    """The test files with tests that need a GPU."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [f.relative_to(ROOT).as_posix() for f in files if "@pytest.mark.gpu" in f.read_text(encoding="utf-8")]


def _pair(options: argparse.Namespace) -> tuple[str, str]:
    return TOY_PAIR if options.toy else PAIR


def _fast(options: argparse.Namespace) -> tuple[str, ...]:
    return (*(TOY if options.toy else FAST), f"device={options.device}")


def _teacher(options: argparse.Namespace, run: Run, kind: str, leave: float) -> Iterator[Command]:
    """Train a teacher and keep its weights as float16, by a name that says how it was trained."""
    out, name = options.out, f"{run.student.name}-{kind}"
    if options.toy:
        run = lasting(run, 2)
    made = override(run, [f"data.root={out / 'data'}", *_fast(options)])
    config = out / f"teacher-{name}.yaml"
    config.write_text(to_yaml(made), encoding="utf-8")
    folder = out / f"teacher-{name}"
    words = ("-m", "fractionate", "train", "--config", str(config), "--out", str(folder), "--resume")
    if not (folder / SUMMARY).exists():
        yield Command(f"teacher-{name}", (*words, "--budget", f"{BUDGET}s"), leave=leave)
    if (folder / SUMMARY).exists():
        kept = str(out / "teachers")
        yield Command(f"keep-{name}", ("-m", "benchmarks.teachers", str(out), name, "--kept", kept), most=60)


def _students(options: argparse.Namespace, clock: Clock, kind: str, seeds: int) -> Iterator[Command]:
    """The first pair's methods of some seeds, all steps taken together."""
    teacher, student = _pair(options)
    weights = options.out / "teachers" / f"{teacher}-{kind}.safetensors"
    if not weights.exists():
        print(f"students: not begun, because {weights.name} is not there yet", flush=True)
        return
    long = kind == "long" and not options.toy
    epochs, count = (PUBLISHED_EPOCHS, len(TOGETHER)) if long else planned(options, clock)
    entries = [Entry(*PAIR, id.format(pair="__".join(PAIR))) for id in TOGETHER[:count]]
    methods = [str(lasting(entry.run(()), epochs).method) for entry in entries]
    words = ["-m", "fractionate", "compare", "cifar100", "--teacher-checkpoint", str(weights)]
    words += ["--data", str(options.out / "data"), "--out", str(options.out / study(teacher, student, kind, epochs))]
    words += ["--epochs", str(epochs), "--seeds", str(seeds), "--methods", *methods]
    if options.toy:
        words += ["--teacher", teacher, "--student", student]
    words += ["--workers", "1", *(["--together"] if options.together else [])]  # processes would share the one GPU
    words += ["--budget", f"{BUDGET}s", "--", *_fast(options)]
    yield Command(f"students-{kind}-{seeds}", tuple(_sorted(words)))


def _sorted(words: list[str]) -> list[str]:
    """The changes after the recipe, where the command reads them."""
    end = words.index("--")
    recipe = words.index("cifar100") + 1
    return [*words[:recipe], *words[end + 1 :], *words[recipe:end]]


def study(teacher: str, student: str, kind: str, epochs: int) -> str:
    """Name of a folder of rows; rows of another teacher or length lie apart from the published table's.

    Example:
        >>> study("resnet32x4", "resnet8x4", "long", 240), study("resnet32x4", "resnet8x4", "short", 60)
        ('cifar100-resnet32x4__resnet8x4', 'cifar100-resnet32x4__resnet8x4--short-teacher--60-epochs')
    """
    name = f"cifar100-{teacher}__{student}"
    return name if (kind, epochs) == ("long", 240) else f"{name}--{kind}-teacher--{epochs}-epochs"


def planned(options: argparse.Namespace, clock: Clock) -> tuple[int, int]:
    """Epochs of the students and how many of them; decided once, by the pace that was measured, and then kept."""
    plan = options.out / "plan.json"
    if not plan.exists():
        pace, left = measured(options.out / "pace.csv"), clock.left - PACKING - GRACE - SETUP
        epochs, count = (2, 2) if options.toy else fitting(left, pace)
        said = {"epochs": epochs, "students": count, "seconds_left": round(left), "seconds_per_epoch": pace}
        plan.write_text(json.dumps(said) + "\n", encoding="utf-8")
        print(f"students: {count} methods of {epochs} epochs each ({said})", flush=True)
    said = json.loads(plan.read_text(encoding="utf-8"))
    return said["epochs"], said["students"]


def fitting(seconds: float, pace: dict[int, float]) -> tuple[int, int]:
    """The longest schedule that all students can have in so many seconds; fewer students if none fits.

    Args:
        seconds: left for them.
        pace: seconds of an epoch, by the number of students in lockstep.

    Example:
        >>> fitting(400, {8: 1.0}), fitting(100, {8: 1.0, 4: 0.7}), fitting(24, {8: 2.0, 4: 0.8}), fitting(60, {})
        ((240, 8), (80, 8), (24, 4), (60, 8))
    """
    if not pace:  # nothing was measured: what does not fit goes on in the next session
        return 60, len(TOGETHER)
    for count in sorted(pace, reverse=True):
        for epochs in LENGTHS:
            if MARGIN * epochs * pace[count] <= seconds:
                return epochs, min(count, len(TOGETHER))
    return LENGTHS[-1], min(pace)


def measured(file: Path) -> dict[int, float]:
    """Seconds of an epoch by the number of students in lockstep, out of the CSV of the pace."""
    if not file.is_file():
        return {}
    with file.open(newline="") as lines:
        found = {row["contender"]: float(row["milliseconds"]) / 1e3 for row in csv.DictReader(lines)}
    together = {name.split()[-1]: seconds for name, seconds in found.items() if name.startswith("together: ")}
    return {int(count): seconds for count, seconds in together.items()}


def _pairs(options: argparse.Namespace, clock: Clock) -> Command:
    """The whole table, pair by pair, one run after the other."""
    minutes = max(0.0, clock.real(clock.left - PACKING - GRACE)) / 60
    where = ("--out", str(options.out / "table"), "--rows", str(options.out / "rows"), "--minutes", f"{minutes:.2f}")
    toy = ("--toy", "--seeds", "1") if options.toy else ("--seeds", str(options.seeds))
    more = (f"device={options.device}",) if options.toy else _fast(options)
    words = ("-m", "benchmarks.cifar100_table", *toy, "--data", str(options.out / "data"), *where, *more)
    return Command("pairs", words, again=True)


def _steps(options: argparse.Namespace) -> Iterator[Command]:
    """Steps of every kind, students side by side, updates, data and losses, each against what it replaces."""
    toy = ("--toy",) if options.toy else ()
    for name, *more in (
        ("trainer", "--rounds", "21"),
        ("side_by_side",),
        ("frozen",),
        ("passes",),
        ("step", "--channels-last", "--rounds", "51"),
        ("optimizer",),
        ("data",),
        ("losses", "--no-memory"),
    ):
        given = (*more, *toy, "--device", options.device, "--csv", str(options.out / f"{name}.csv"))
        yield Command(name, ("-m", f"benchmarks.{name}", *given), most=120)


def _speedrun(options: argparse.Namespace) -> Iterator[Command]:
    """Seconds to the published accuracy, from the best teacher that is kept."""
    teacher, student = _pair(options)
    files = [options.out / "teachers" / f"{teacher}-{kind}.safetensors" for kind in ("long", "short")]
    kept = [file for file in files if file.exists()]
    if not kept:
        print("speedrun: not begun, because no teacher is there yet", flush=True)
        return
    toy = ("--epochs", "2", "--seeds", "1") if options.toy else ()
    words = ("-m", "benchmarks.speedrun", "--data", str(options.out / "data"), "--weights", str(kept[0]), *toy)
    names = ("--teacher", teacher, "--student", student, "--device", options.device)
    yield Command("speedrun", (*words, *names, "--out", str(options.out / "speedrun.jsonl")))


def worth(out: Path) -> list[Path]:
    """Run folders, those first whose state is worth most: students begun, then teachers, then the rest."""
    students = sorted(out.glob("cifar100-*/**/seed-*"), key=lambda f: (f.name, f.as_posix()))
    return [*students, *sorted(out.glob("teacher-*/")), *sorted(f.parent for f in (out / "table").rglob("last.ckpt"))]
