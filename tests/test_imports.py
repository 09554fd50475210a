"""How far one walks from file to file: no chain of imports is longer than the plan of the house says."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "fractionate"
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def at_import(node: ast.AST) -> Iterator[ast.ImportFrom]:
    """What is imported when a file is: not what functions import, and not what is imported for its types."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            yield child
        elif not isinstance(child, ast.FunctionDef) and not (
            isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        ):
            yield from at_import(child)


def imported(name: str) -> set[str]:
    """The files of the package that a file imports."""
    path, found = FILES[name], set()
    inside = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for line in at_import(ast.parse(path.read_text(encoding="utf-8"))):
        start = inside[: len(inside) + 1 - line.level] if line.level else []
        module = ".".join([*start, *([line.module] if line.module else [])])
        found |= {both if (both := f"{module}.{a.name}") in FILES else module for a in line.names}
    return (found & FILES.keys()) - {name}


@functools.cache
def chain(name: str) -> tuple[str, ...]:
    """The longest way down from a file."""
    return (name, *max((chain(below) for below in imported(name)), key=len, default=()))


def test_no_chain_of_imports_is_longer_than_the_plan_of_the_house_says() -> None:
    longest = max(map(chain, FILES), key=len)
    said = re.search(r"longest chain of imports is (\d+) files", (ROOT / "docs" / "house.md").read_text("utf-8"))
    assert said is not None
    assert len(longest) <= int(said[1]), " -> ".join(longest)
