"""What a command says about a folder of pictures before anything heavy is imported, and the size that it settles."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._choices import not_installed
from .._files import cache_folder
from .._terminal import in_bytes
from ..pictures.heads import printable
from ..pictures.kinds import LIBRARIES, batch_for, epochs_for
from ..pictures.plan import STUDENT, TEACHER, Networks, Plan, planned
from .options import Words, names_and_changes

if TYPE_CHECKING:
    from rich.console import Console

SEVERAL = "several"  # methods, as a comparison and a search have
ON_LABELS = re.compile(r"ce\b")  # the method that has no teacher


def settled(
    what: Words,
    console: Console,
    *,
    data: Path | None = None,
    teacher: str | None = None,
    checkpoint: Path | None = None,
    student: str | None = None,
    method: str = "kd",
    epochs: int | None = None,
) -> tuple[Words, int | None]:
    """Say what the recipe ``folder`` is going to do, and settle what follows from its pictures; others pass through.

    Args:
        what: recipe and ``field=value``.
        console: where it is said.
        data: the folder.
        teacher, checkpoint, student, method: as the options of the command say; ``None`` is the recipe's.
        epochs: as the user says.

    Returns:
        The same words, with ``data.size=N`` and ``data.batch_size=N`` where the user has not said them, and the epochs
        that were chosen by the number of pictures, ``None`` where there was nothing to choose.

    Raises:
        ValueError: no folder, or one that cannot be trained on.
    """
    names, changes = names_and_changes(what)
    fields = {path.strip(): text.strip() for path, _, text in (change.partition("=") for change in changes)}
    if names != ["folder"] or fields.get("data.name", "folder") != "folder":
        return what, None
    root = data or fields.get("data.root")
    if root is None:
        raise ValueError("which folder? --data DIR (or data.root=DIR) must name the folder of the images")
    given = checkpoint or fields.get("teacher.checkpoint")
    learns = fields.get("method", method)
    networks = Networks(
        None if ON_LABELS.match(learns) else teacher or fields.get("teacher.name") or fields.get("teacher") or TEACHER,
        student or fields.get("student.name") or fields.get("student") or STUDENT,
        Path(given) if given else None,
        small_stems=sum(fields.get(f"{role}.stem") == "small" for role in ("teacher", "student")),
        pretrained=fields.get("teacher.pretrained") == "true",
        method=learns,
    )
    for name in (networks.teacher, networks.student):
        package = LIBRARIES.get((name or "").partition(":")[0])
        if package and importlib.util.find_spec(package) is None:
            raise ImportError(not_installed(package, f"model {name!r}"))
    size = fields.get("data.size")
    plan = planned(Path(root), networks, int(size) if size and size.isdecimal() and int(size) else None)
    plan = _by_number(plan, fields, epochs)
    loaded = _loaded(plan, fields)
    for line in (*plan.lines, *_kept(plan, fields, loaded)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    chosen = [] if size else [f"data.size={plan.survey.size}"]
    chosen += [f"data.batch_size={plan.batch_size}"] if plan.batch_size else []
    return (*what, *chosen, *loaded), plan.epochs


MANY = "they do not fit into memory: they are loaded as they are needed, by two processes (data.workers=2)"


def _loaded(plan: Plan, fields: Mapping[str, str]) -> list[str]:
    """What is changed for pictures that are loaded one by one, as the user says or because there are too many."""
    own = fields.get("data.workers", "null") != "null"
    if not own and (plan.survey.fits or "data.workers" in fields):
        return []
    cropped = "data.shift" in fields or fields.get("data.resized_crop") == "false"
    return ([] if own else ["data.workers=2"]) + ([] if cropped else ["data.shift=0"])


def _kept(plan: Plan, fields: Mapping[str, str], loaded: Sequence[str]) -> list[str]:
    """That pictures are loaded because they are too many, and what is kept of them on disk."""
    found, one_by_one = plan.survey, bool(loaded) or fields.get("data.workers", "null") != "null"
    told = [MANY] if "data.workers=2" in loaded else []
    if fields.get("data.cache", "true") == "true":
        side = min(2 * found.size, found.sides[2]) if one_by_one else found.size  # longer sides count half as much more
        room = 3 * side**2 * (1.5 if one_by_one else 1) * found.count
        told.append(
            f"decoded pictures are kept for later runs, at most about {in_bytes(int(room))} in "
            f"{printable(cache_folder() / 'pictures')}; data.cache=false keeps none"
        )
    return told


def lengths(what: Words, chosen: int | None, teacher: int | None) -> dict[str, Any]:
    """The options that a chosen length settles: the student's, and the teacher's unless that is said or fine-tuned.

    Example:
        >>> lengths(("folder",), 60, None), lengths(("folder",), None, None)
        ({'epochs': 60, 'teacher_epochs': 60}, {})
    """
    if chosen is None:
        return {}
    tuned = "teacher.pretrained=true" in what  # its length is that of fine-tuning
    return {"epochs": chosen} | ({} if teacher or tuned else {"teacher_epochs": chosen})


def _by_number(plan: Plan, fields: Mapping[str, str], epochs: int | None) -> Plan:
    """The plan with what follows from the number of pictures, as far as the user has not said it."""
    each = fields.get("data.labels_per_class", "")
    images = sum(min(n, int(each)) if each.isdecimal() else n for n in plan.survey.train)
    asked = epochs is None and "epochs" not in fields
    return replace(
        plan,
        batch_size=None if "data.batch_size" in fields else batch_for(images),
        epochs=epochs_for(images) if asked else None,
        images=images if each.isdecimal() else None,
    )
