"""House rules that can be read off the source: sizes, no sinks, nothing unfinished, no private paths."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
FILE_LINES, FUNCTION_LINES = 300, 40  # "about 250" and "about 30", docstrings not counted


def functions(source: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield node


def body_lines(function: ast.FunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def where(source: Path, function: ast.FunctionDef) -> str:
    return f"{source.relative_to(ROOT)}:{function.lineno} {function.name}"


def test_files_are_short() -> None:
    sizes = {s.relative_to(ROOT).as_posix(): len(s.read_text().splitlines()) for s in SOURCES}
    assert {name: size for name, size in sizes.items() if size > FILE_LINES} == {}


def test_functions_are_short() -> None:
    long = [where(s, f) for s in SOURCES for f in functions(s) if body_lines(f) > FUNCTION_LINES]
    assert long == []


def swallows(function: ast.FunctionDef) -> bool:
    """Whether it takes ``**kwargs`` that no signature (``P.kwargs`` of a ParamSpec) checks."""
    sink = function.args.kwarg
    return sink is not None and sink.arg == "kwargs" and not isinstance(sink.annotation, ast.Attribute)


def test_no_function_swallows_keyword_arguments() -> None:
    assert [where(s, f) for s in SOURCES for f in functions(s) if swallows(f)] == []


@pytest.mark.parametrize("word", ["NotImplementedError", "TODO", "FIXME", "XXX"])
def test_nothing_is_left_unfinished(word: str) -> None:
    found = [s.name for s in SOURCES if re.search(rf"\b{word}\b", s.read_text(encoding="utf-8"))]
    assert found == []


def test_no_file_names_a_folder_of_somebody_s_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    private = re.compile(rb"(?<![\w.])/(?:home|root|work|Users)/\w")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    found = [f.relative_to(ROOT).as_posix() for f in files if f.is_file() and private.search(f.read_bytes())]
    assert found == []


def test_a_room_that_shows_metrics_knows_none_by_name() -> None:
    """What `_headlines` says of a key is all that they know; names of methods and of published figures are others."""
    named = re.compile(r"(?<!\w)(?:(?:last|test|best)_)?top1(?!\w)|\btop-1\b")
    rooms = ("report", "export", "runs", "studies", "probe", "commands")
    published = {"commands/recipes.py", "commands/train.py"}
    files = [s for s in SOURCES if (place := s.relative_to(ROOT / "src/fractionate")).parts[0] in rooms
             and place.as_posix() not in published]  # fmt: skip
    assert files
    assert [s.name for s in files if named.search(s.read_text(encoding="utf-8"))] == []
