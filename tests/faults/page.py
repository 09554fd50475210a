"""docs/survival.md: the words around the table of faults, and the table as it happens.

python -m tests.faults.page     writes the page; a test compares every row with what happens
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from tests.faults import folders, inputs
from tests.faults.bench import LOST, Bench, Fault, seen

PAGE = Path(__file__).parent.parent.parent / "docs" / "survival.md"
FAULTS = [*inputs.FAULTS, *folders.FAULTS]
BEGIN, END = "<!-- faults: written by `python -m tests.faults.page`, checked by a test -->", "<!-- end of faults -->"


def row(fault: Fault, message: str) -> str:
    """One line of the table."""
    return f"| {fault.name} | {cell(message)} | {LOST[fault.lost]} |"


def cell(message: str) -> str:
    """Text inside a table of Markdown."""
    code = message.replace("|", "\\|").replace("`", "'")
    return f"`{code}`" if message != "nothing" else "nothing"


def happened(fault: Fault) -> str:
    """The message of a fault, in a place of its own."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        return seen(fault, Bench(Path(folder), patch))


def rows_of_the_page() -> dict[str, str]:
    """Name of a fault -> its line."""
    text = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    rows = re.findall(r"^(\| (?!what )(.+?) \| .*)$", text.replace("|---|---|---|", ""), re.MULTILINE)
    return {name: line for line, name in rows}


def write() -> None:
    """Make every fault happen and write the table into the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    table = "\n".join(
        ["| what happened | what the user saw | what was lost |", "|---|---|---|"]
        + [row(fault, happened(fault)) for fault in FAULTS]
    )
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    write()
