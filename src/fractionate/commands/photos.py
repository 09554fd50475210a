"""What a command says about a folder of pictures before anything heavy is imported, and the size that it settles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..pictures.plan import STUDENT, TEACHER, Networks, planned
from .options import Words, names_and_changes

if TYPE_CHECKING:
    from rich.console import Console

ON_LABELS = re.compile(r"ce\b")  # the method that has no teacher


def told(
    what: Words,
    console: Console,
    *,
    data: Path | None = None,
    teacher: str | None = None,
    checkpoint: Path | None = None,
    student: str | None = None,
    method: str = "kd",
) -> Words:
    """Say what the recipe ``folder`` is going to do; other recipes pass through.

    Args:
        what: recipe and ``field=value``.
        console: where it is said.
        data: the folder.
        teacher, checkpoint, student, method: as the options of the command say; ``None`` is the recipe's.

    Returns:
        The same words, and ``data.size=N`` where the user has not said it.

    Raises:
        ValueError: no folder, or one that cannot be trained on.
    """
    names, changes = names_and_changes(what)
    fields = {path.strip(): text.strip() for path, _, text in (change.partition("=") for change in changes)}
    if names != ["folder"] or fields.get("data.name", "folder") != "folder":
        return what
    root = data or fields.get("data.root")
    if root is None:
        raise ValueError("which folder? --data DIR (or data.root=DIR) must name the folder of the images")
    given = checkpoint or fields.get("teacher.checkpoint")
    on_labels = ON_LABELS.match(fields.get("method", method))
    networks = Networks(
        None if on_labels else teacher or fields.get("teacher.name") or fields.get("teacher") or TEACHER,
        student or fields.get("student.name") or fields.get("student") or STUDENT,
        Path(given) if given else None,
        small_stems=sum(fields.get(f"{role}.stem") == "small" for role in ("teacher", "student")),
    )
    size = fields.get("data.size")
    plan = planned(Path(root), networks, int(size) if size and size.isdecimal() and int(size) else None)
    for line in plan.lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return what if size else (*what, f"data.size={plan.survey.size}")
