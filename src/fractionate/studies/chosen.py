"""What a user says about a recipe, and the runs that it means: a teacher's, and students' by methods and seeds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config.files import override
from ..config.method import MethodSpec
from ..config.ranges import BOXED, DENSE, FOLDERS, OF_DENSE
from ..config.run import Network, Run
from ..models import create, is_own_code
from ..recipes import placed
from ..runs.folder import RunFolder
from ..train.scenes import described
from .jobs import Job, Options
from .teachers import check_students, fine_tuned_teacher, measured_teacher, settled_teacher, trained_teacher

if TYPE_CHECKING:
    from rich.console import Console

LONGEST, DIGEST = 100, 8  # characters of a name, and of the digest at the end of one that was cut

# Changes of the students' run that hold for the teacher's training too: which images, where, and on what.
SHARED = (
    "data.name",
    "data.root",
    "data.size",
    "data.imbalance",
    "data.skip_broken",
    "data.cache",
    "data.evaluate_on",
    "data.workers",
    "data.resized_crop",
    "data.crop_pct",
    "data.interpolation",
    "data.crop",
    "data.multiple",
    "task.ignore",
    "task.evaluate",
    "task.stride",
    "device",
    "threads",
    "precision",
    "channels_last",
)
OF_A_FOLDER = ("data.batch_size", "data.shift")  # it may hold few images, and crops of loaded photos are not shifted
# Of masks and boxes, how images are shown: the teacher is asked about exactly these, whose things have this size, and
# what may be done to them says the user, who knows what a label survives (a mirrored digit is none).
OF_SCENES = ("data.flip", "data.shorter", *(f"data.{name}" for name in OF_DENSE))
AUXILIARY = 0.4  # published weight of an auxiliary head's cross-entropy
NETWORK = ("teacher.stem", "teacher.published_bn")  # said of the teacher, they hold while it is trained


@dataclass(frozen=True)
class Choice:
    """What a user says about a recipe.

    Args:
        recipe: data set.
        method: as ``MethodSpec.parse`` reads it.
        teacher: another network as the teacher.
        teacher_checkpoint: its weights, so that it is not trained.
        teacher_epochs: length of its training; ``None`` = the recipe's.
        student: another network as the student.
        epochs: length of a student's run; ``None`` = the recipe's.
        root: folder of the data set; ``None`` = the usual places.
        validation: keep a part of the training images apart and measure on it, to choose settings.
        changes: ``field=value`` of the students' run; those in :data:`SHARED` and :data:`NETWORK` (and
            :data:`OF_A_FOLDER` and :data:`OF_SCENES`) hold for the teacher's own training too.
    """

    recipe: str
    method: str = "kd"
    teacher: str | None = None
    teacher_checkpoint: Path | None = None
    teacher_epochs: int | None = None
    student: str | None = None
    epochs: int | None = None
    root: str | None = None
    validation: bool = False
    changes: Sequence[str] = ()


def _check_method(changes: Sequence[str]) -> None:
    """Refuse another method by a field: the run would lie in the folder, and bear the name, of the option's."""
    fields = {path.strip(): text.strip() for path, _, text in (change.partition("=") for change in changes)}
    if name := fields.get("method", fields.get("method.name")):
        raise ValueError(
            f"method={name} would train {name} under the name of another method: write --method {name} (with compare, "
            f"--methods {name} ...)"
        )


def chosen_jobs(
    choice: Choice,
    specs: Sequence[MethodSpec],
    seeds: int,
    out: Path,
    console: Console,
    options: Options,
    *,
    always: bool = False,
) -> tuple[list[Job], Path]:
    """The runs of several methods, once their teacher is there: trained, unless it is already or has its weights.

    Args:
        choice: recipe and networks; its ``method`` is not looked at.
        specs: methods; where none of them distils there is no teacher.
        seeds: students per method, counted from the seed among the changes, else from 0.
        out: folder of the teacher and of all runs.
        console: where progress goes, after what a folder of masks or boxes is taken for.
        options: what to do with folders that exist.
        always: have the teacher even if no method distils, to compare with.

    Returns:
        The runs, and their folder: ``out``, or one in it for a pair of networks that was named.

    Raises:
        ValueError: an unknown name, settings that do not fit each other, or a folder that is taken.
    """
    _check_method(choice.changes)
    found = placed(choice.recipe, choice.root, validation=choice.validation)
    first, changes = _first_seed(choice.changes)
    choice = replace(choice, changes=changes)
    alone = found.teacher(**_given(name=choice.teacher, epochs=choice.teacher_epochs))
    alone = override(alone, for_teacher(changes, alone.data.name))
    make = partial(_student, found.student, choice)
    weights = replace(alone.student, checkpoint=_text(choice.teacher_checkpoint))
    drafted = [make(spec, teacher=weights, seed=first) for spec in specs]
    _check_exists(drafted[0].student)
    if alone.data.name in (*DENSE, *BOXED):
        for sentence in described(drafted[0].data):
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    pair = out
    if choice.teacher or choice.student:
        pair = out / f"{file_name(alone.student.name)}__{file_name(drafted[0].student.name)}"
    teacher = drafted[0].teacher
    if teacher and (always or any(run.method.distils for run in drafted)):
        usual = alone.data.name == found.teacher().data.name
        expected = found.expected if usual else lambda network: None
        kept = [_there(pair / folder_name(spec), range(first, first + seeds), options) for spec in specs]
        open_runs = [run for run, there in zip(drafted, kept, strict=True) if not there]
        teacher = _taught(choice, teacher, alone, open_runs, out, console, options, expected)
    rest = [change for change in changes if not change.strip().startswith("teacher.")]  # said of it already
    make = partial(_student, found.student, replace(choice, changes=rest), teacher=teacher)
    return student_jobs(specs, make, range(first, first + seeds), pair), pair


def _taught(
    choice: Choice,
    teacher: Network,
    alone: Run,
    students: Sequence[Run],
    out: Path,
    console: Console,
    options: Options,
    expected: Callable[[Network], float | None],
) -> Network:
    """The teacher with its weights: those that were given, or those of its own training."""
    named = "teacher" if choice.teacher is None else f"teacher-{file_name(choice.teacher)}"
    if teacher.pretrained:
        folder, length = out / f"{named}-fine-tuned", choice.teacher_epochs
        tuned = fine_tuned_teacher(teacher, alone, folder, console, options, epochs=length, students=students)
        if tuned is not None:
            return tuned
    if teacher.checkpoint or teacher.pretrained:
        teacher = settled_teacher(teacher, alone)
        check_students([replace(run, teacher=teacher) for run in students])
        return measured_teacher(teacher, replace(alone, teacher=teacher), console, expected)
    if teacher.name != alone.student.name:
        raise ValueError(f"the teacher is trained first: name it by --teacher {teacher.name}, not by a field")
    return trained_teacher(alone, out / named, console, options, expected, lambda: students)


def _there(folder: Path, seeds: Iterable[int], options: Options) -> bool:
    """Whether all runs of a method are finished, and shall be kept."""
    return options.resume and all(RunFolder(folder / f"seed-{seed}").finished for seed in seeds)


def _first_seed(changes: Sequence[str]) -> tuple[int, list[str]]:
    """The seed that is counted from, and the other changes; one that is no number is left for the config to refuse."""
    first, rest = 0, []
    for change in changes:
        path, _, text = change.partition("=")
        if path.strip() == "seed" and text.strip().isdecimal():
            first = int(text)
        else:
            rest.append(change)
    return first, rest


def for_teacher(changes: Iterable[str], images: str = "") -> list[str]:
    """The changes of a student's run that hold for the teacher's own training on these images.

    Where students distil its auxiliary head, that is trained too.

    Example:
        >>> for_teacher(["device=cpu", "teacher.stem=small", "optimizer.lr=1"])
        ['device=cpu', 'student.stem=small']
    """
    said = [(change.partition("=")[0].strip(), change) for change in changes]
    scenes = images in (*DENSE, *BOXED)
    shared = SHARED + OF_A_FOLDER * (scenes or images in FOLDERS) + OF_SCENES * scenes
    network = [change.strip().replace("teacher", "student", 1) for path, change in said if path in NETWORK]
    return [*(change for path, change in said if path in shared), *_auxiliary(dict(said)), *network]


def _auxiliary(said: Mapping[str, str]) -> list[str]:
    """The weight of the teacher's auxiliary head: as the student's own, or the published one, where it is distilled."""
    try:
        distilled, own = (
            float(said.get(f"task.{name}", "=0").partition("=")[2]) for name in ("auxiliary_kd", "auxiliary")
        )
    except ValueError:  # refused where the student's run is made
        return []
    return [f"task.auxiliary={own or AUXILIARY:g}"] if distilled else []


def _check_exists(network: Network) -> None:
    """Refuse what cannot be built before a teacher trains for it, without building it; code of one's own is run."""
    try:
        with torch.device("cpu" if is_own_code(network.name) else "meta"):
            create(network.name, num_classes=2, stem=network.stem, published_bn=network.published_bn)
    except RuntimeError:  # a network that computes with its weights while it is built: it exists
        return


def _student(
    recipe: Callable[..., Run], choice: Choice, method: MethodSpec, teacher: Network | None, seed: int = 0
) -> Run:
    run = recipe(method, teacher, seed=seed, **_given(name=choice.student, epochs=choice.epochs))
    return override(run, choice.changes)


def _given(**values: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in values.items() if value is not None}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def student_jobs(
    specs: Sequence[MethodSpec], student: Callable[..., Run], seeds: Iterable[int], out: Path
) -> list[Job]:
    """Every method with every seed; all first seeds come first, so an interrupted study is balanced.

    Args:
        specs: methods.
        student: function of a method and a seed that returns the run.
        seeds: of the runs.
        out: folder of all of them.
    """
    often = Counter(spec.title for spec in specs)  # students of one title are told apart by their arguments
    return [
        Job(
            f"{spec.title if often[spec.title] == 1 else spec}, seed {seed}",
            student(spec, seed=seed),
            out / folder_name(spec) / f"seed-{seed}",
        )
        for seed in seeds
        for spec in specs
    ]


def file_name(text: str) -> str:
    """A name as part of a file name.

    File systems end at 255 bytes: a long name is cut, and a digest of the whole tells it from others that begin so.

    Example:
        >>> file_name("timm:resnet18")
        'timm_resnet18'
        >>> len(file_name("dkd" + "+lskd" * 100))
        100
    """
    name = "".join(c if c.isalnum() or c in "+=.-_" else "_" for c in text)
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - DIGEST - 1]}-{hashlib.sha256(text.encode()).hexdigest()[:DIGEST]}"


def folder_name(method: MethodSpec) -> str:
    """A method's name as a folder: letters, digits and ``+ = . -`` only.

    Example:
        >>> folder_name(MethodSpec.parse("dkd(beta=2)+deepkd(rule=published-code)"))
        'dkd_beta=2_+deepkd_rule=published-code'
    """
    return file_name(str(method).replace("'", "").replace(", ", ",")).strip("_")
