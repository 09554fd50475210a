"""The published CIFAR-100 table measured again: ``python -m benchmarks.cifar100_table --minutes 9 --data DIR``.

Trains the teachers that are missing, then students by the papers' recipes, pair by pair in an order of worth, all seeds
of a pair before the next pair. It stops within its minutes, in the middle of a run if need be, and the same command
goes on there. Every finished run leaves its row under benchmarks/results/runs; docs/results.py makes the page of them.
A run whose row is there already, from another machine say, is not trained again, and one that diverged is passed over.

A recipe of one's own is chosen with ``--validation``: teachers and students then leave a tenth of the training images
alone and are measured on it. Those rows lie apart, and no page of results takes them.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fractionate.config.files import differences, override
from fractionate.config.method import MethodSpec, Wrapper
from fractionate.config.run import Network, Run
from fractionate.papers.recipes import paper, papers
from fractionate.recipes.teachers import alone_top1, teacher_run
from fractionate.runs.folder import DIVERGED, RunFolder
from fractionate.runs.stop import Stopped, deadline
from fractionate.studies.display import display
from fractionate.studies.jobs import Job, Options, run_jobs
from fractionate.studies.teachers import trained_teacher
from fractionate.tasks import Diverged

from .keep import KEPT, keep
from .teachers import keep_teachers

PAIRS = (
    ("resnet32x4", "resnet8x4"),
    ("wrn_40_2", "wrn_16_2"),
    ("resnet32x4", "shufflenet_v2"),
    ("vgg13", "vgg8"),
    ("resnet56", "resnet20"),
    ("resnet110", "resnet32"),
    ("wrn_40_2", "wrn_40_1"),
    ("resnet32x4", "shufflenet_v1"),
)
LABELS = "labels"
# Recipe ids, the pair left open. `/fractionate` is the clean ablation: the row above with DeepKD's streams. `#` and one
# of CHANGES is for what nobody has published: the recipe's data and solver with another method.
METHODS = (
    LABELS,
    "cifar100/kd/{pair}/mdistiller",
    "cifar100/dkd/{pair}/mdistiller",
    "cifar100/dkd/{pair}/mdistiller/fractionate",
    "cifar100/dkd/{pair}/mdistiller/fractionate#gain",
    "cifar100/kd/{pair}/mdistiller/fractionate",
    "cifar100/gdkd/{pair}/gdkd",
    "cifar100/kd+dot/{pair}/mdistiller/dot",
    "cifar100/dkd/{pair}/mdistiller#dot",
    "cifar100/dkd+deepkd/{pair}/deepkd/published-code",
    "cifar100/kd+deepkd/{pair}/deepkd/published-code",
    "cifar100/dkd+deepkd/{pair}/paper/paper",
    "cifar100/kd+deepkd/{pair}/paper/paper",
    "cifar100/dkd+deepkd/{pair}/deepkd/published-code#mask",
    "cifar100/kd+deepkd/{pair}/deepkd/published-code#mask",
    "cifar100/kd+ls/{pair}/lskd",
    "cifar100/mlkd/{pair}/lskd/two-views",
    "cifar100/crld/{pair}/deepkd/class-defaults",
    "cifar100/dkd/{pair}/mdistiller#dgkd",
    "cifar100/kd/{pair}/mdistiller#topkd",
)
# What is trained first, in lockstep: labels alone, the four usual ones, and DeepKD's streams three ways.
TOGETHER = (
    LABELS,
    "cifar100/kd/{pair}/mdistiller",
    "cifar100/dkd/{pair}/mdistiller",
    "cifar100/dkd/{pair}/mdistiller/fractionate",
    "cifar100/dkd+deepkd/{pair}/deepkd/published-code",
    "cifar100/dkd/{pair}/mdistiller/fractionate#gain",
    "cifar100/gdkd/{pair}/gdkd",
    "cifar100/dkd/{pair}/mdistiller#dot",
)
MASK = "phases(plateau=0.55)"  # as the paper's rows have it
TEACHERS = Path(__file__).parent / "teachers"
VALIDATION = KEPT.with_name("validation")
# Fields in which a run may differ from one whose row is there: where and how fast it was trained, not what.
MAY_DIFFER = (
    "data.root",
    "device",
    "threads",
    "graph",
    "channels_last",
    "compile_teacher",
    "teacher_table",
    "teacher_table_place",
    "teacher.checkpoint",
    "save_every",
    "keep",
)
VALIDATE = "data.evaluate_on=validation"
TOY = ("epochs=1", "learning_rate={schedule: constant}", "data.labels_per_class=1", "data.batch_size=32")


def _masked(method: MethodSpec) -> MethodSpec:
    """DeepKD with the paper's top-k mask."""
    *inner, last = method.wrappers
    return replace(method, wrappers=(*inner, Wrapper(last.name, {**last.args, "keep": MASK})))


def _dot(method: MethodSpec) -> MethodSpec:
    """DOT around it, with its usual shift."""
    return replace(method, wrappers=(*method.wrappers, Wrapper("dot")))


def _dgkd(method: MethodSpec) -> MethodSpec:
    """DGKD with the weights of DKD's recipe."""
    return MethodSpec("dgkd", {k: v for k, v in method.args.items() if k in ("alpha", "beta", "temperature", "warmup")})


def _topkd(method: MethodSpec) -> MethodSpec:
    """TopKD, a reconstruction, with its own defaults."""
    return MethodSpec("topkd")


def _gain(method: MethodSpec) -> MethodSpec:
    """DeepKD with steps that a longer memory does not lengthen."""
    *inner, last = method.wrappers
    return replace(method, wrappers=(*inner, Wrapper(last.name, {**last.args, "normalize_gain": True})))


CHANGES = {"gain": _gain, "mask": _masked, "dot": _dot, "dgkd": _dgkd, "topkd": _topkd}


class Lines:
    """A console that prints lines, with nothing to install: machines with a GPU often hold little else than torch."""

    is_terminal = False

    def print(self, text: str, **style: object) -> None:
        """One line."""
        print(text, flush=True)


@dataclass(frozen=True)
class Entry:
    """One recipe for one pair; ``id`` is as in :data:`METHODS`."""

    teacher: str
    student: str
    id: str

    @property
    def study(self) -> str:
        """Name of the pair's study."""
        return f"cifar100-{self.teacher}__{self.student}"

    def run(self, changes: Sequence[str]) -> Run:
        """The student's run; its teacher has no weights yet."""
        recipe, _, change = self.id.partition("#")
        made = teacher_run(self.student) if self.id == LABELS else paper(recipe).run()
        if change:
            made = replace(made, method=CHANGES[change](made.method))
        return override(made, changes)

    @property
    def folder(self) -> str:
        """Folder of its seeds inside the study."""
        method, _, source = self.id.removeprefix("cifar100/").partition(f"/{self.teacher}__{self.student}/")
        return "--".join([method, *source.replace("#", "/").split("/")]) if source else method


def plan(pairs: Sequence[tuple[str, str]] = PAIRS) -> Iterator[Entry]:
    """What to train, the most worth first; recipes that nobody published for a pair are left out."""
    known = papers()
    for teacher, student in pairs:
        for method in METHODS:
            id = method.format(pair=f"{teacher}__{student}")
            recipe = known.get(id.partition("#")[0])
            if id == LABELS or (recipe and recipe.runnable):
                yield Entry(teacher, student, id)


def jobs_of(entries: Sequence[Entry], seeds: int, out: Path, teacher: Network, changes: Sequence[str]) -> list[Job]:
    """The runs of one pair, all methods of a seed together."""
    made = []
    for seed in range(seeds):
        for entry in entries:
            run = replace(entry.run(changes), seed=seed, teacher=teacher)
            made.append(Job(f"{entry.folder}, seed {seed}", run, out / entry.study / entry.folder / f"seed-{seed}"))
    return made


def is_done(job: Job, rows: Sequence[Path]) -> bool:
    """Whether one of these folders holds the row of a run with the same settings, from here or another machine."""
    kept = [folder for row in rows if (folder := RunFolder(row)).finished]
    return any(set(differences(folder.config(), job.run)) <= set(MAY_DIFFER) for folder in kept)


def weights(entries: Sequence[Entry], out: Path, changes: Sequence[str], console: Any, options: Options) -> Network:
    """The teacher of a pair with its weights: those of the repository, or trained now.

    Its students learn from the weights as :func:`keep_teachers` rounds them, so that they can go on with the file that
    is kept, on another machine.
    """
    name, validation = entries[0].teacher, VALIDATE in changes
    own = TEACHERS / f"{name}.safetensors"
    if own.is_file() and not validation:  # that has seen the validation images
        return Network(name, str(own))
    top1 = None if validation else alone_top1(name)
    trained_teacher(
        override(teacher_run(name), changes),
        out / f"teacher-{name}",
        console,
        options,
        lambda network: top1,
        lambda: [entry.run(changes) for entry in entries],
    )
    return Network(name, str(keep_teachers(out, out / "teachers", sys.maxsize, [name])[0]))


def train(job: Job, console: Any, options: Options) -> bool:
    """Train a job or go on with it; returns whether it is finished now, which one that diverges never is."""
    if (job.folder / DIVERGED).exists():
        console.print(f"{job.title}: passed over, because it diverged; delete {job.folder} to try again")
        return False
    try:
        with display(console, [job]) as listen:
            run_jobs([job], options, listen)
    except Diverged as error:
        console.print(f"{job.title}: {error}")
        return False
    return True


def main(arguments: Sequence[str] | None = None, pairs: Sequence[tuple[str, str]] = PAIRS) -> None:
    args, console = _arguments(arguments), Lines()
    out, places = args.out, (args.rows or KEPT, KEPT)
    if VALIDATE in args.changes:
        out, places = out / "validation", (args.rows / "validation" if args.rows else VALIDATION, VALIDATION)
    options = Options(
        resume=True, command=("python", "-m", "benchmarks.cifar100_table"), deadline=deadline(60 * args.minutes)
    )
    entries = list(plan(pairs))
    try:
        for study in dict.fromkeys(entry.study for entry in entries):
            here = [entry for entry in entries if entry.study == study]
            drafted = jobs_of(here, args.seeds, out, Network(here[0].teacher), args.changes)
            rows = {job.folder: [place / job.folder.relative_to(out) for place in places] for job in drafted}
            left = [job.folder for job in drafted if not is_done(job, rows[job.folder])]
            if not left:
                continue
            taught = weights(here, out, args.changes, console, options)
            for job in jobs_of(here, args.seeds, out, taught, args.changes):
                if job.folder in left and train(job, console, options):
                    keep(out / study, places[0])
    except Stopped as stopped:
        console.print(str(stopped))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, ``changes`` being all that they change in a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", default=None, help="folder that holds cifar-100-python")
    parser.add_argument("--out", type=Path, default=Path("runs/cifar100-table"))
    parser.add_argument("--rows", type=Path, default=None, help="where finished runs leave their rows")
    parser.add_argument("--validation", action="store_true", help="measure on a part of the training images")
    parser.add_argument("--toy", action="store_true", help="one epoch of a few images: a check, not a measurement")
    parser.add_argument("changes", nargs="*", help="field=value for every run, such as teacher_table=full")
    args = parser.parse_args(arguments)
    asked = [*(TOY if args.toy else ()), *([VALIDATE] if args.validation else [])]
    args.changes = [*asked, *([f"data.root={args.data}"] if args.data else []), *args.changes]
    return args


if __name__ == "__main__":
    main()
