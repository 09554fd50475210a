"""Small changes to Python source that alter its meaning: what :mod:`benchmarks.mutations` tries one at a time."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

OPERATORS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is",
    "in": "not in", "not in": "in", "+": "-", "-": "+", "*": "/", "/": "*", "and": "or", "or": "and", "+=": "-=",
    "-=": "+=", "*=": "/=", "/=": "*=",
}  # fmt: skip
OPERATOR = re.compile(r"is\s+not\b|not\s+in\b|\b(?:is|in|and|or)\b|[-+*/]=|[<>=!]=|[-+*/<>]")


@dataclass(frozen=True)
class Change:
    """The bytes ``start:end`` of a file become ``text``."""

    file: str
    line: int
    kind: str
    start: int
    end: int
    text: str


Found = tuple[int, int, str, str]  # start, end, kind, text


def changes(source: bytes, file: str) -> list[Change]:
    """Every place for a change of the known kinds, outer expressions first; see :func:`alters`.

    Type annotations, strings, assertions and what only type checkers see stay as they are.

    Example:
        >>> [(c.kind, c.text) for c in changes(b"x = a < 2 and not f(b, c)", "x.py")]
        [('operator', 'or'), ('operator', '<='), ('constant', '4'), ('not', 'f(b, c)'), ('arguments', 'c, b')]
    """
    return [
        Change(file, source.count(b"\n", 0, start) + 1, kind, start, end, text)
        for node in _walk(ast.parse(source))
        for start, end, kind, text in _of(node, _Places(source))
    ]


def alters(source: bytes, change: Change) -> bool:
    """Whether the change gives Python that means something else; equal arguments or ``**`` do not."""
    with contextlib.suppress(SyntaxError, ValueError):
        return ast.dump(ast.parse(applied(source, change))) != ast.dump(ast.parse(source))
    return False


def applied(source: bytes, change: Change) -> bytes:
    """The source with the change made."""
    return source[: change.start] + change.text.encode() + source[change.end :]


def seen_in(source: bytes, change: Change) -> tuple[str, str]:
    """The lines that a change touches, before and after it."""
    first, last = source.count(b"\n", 0, change.start), source.count(b"\n", 0, change.end) + 1
    before, after = (b" ".join(text.splitlines()[first:last]).decode() for text in (source, applied(source, change)))
    return " ".join(before.split()), " ".join(after.split())


class _Places:
    """Where the pieces of a syntax tree stand in their source."""

    def __init__(self, source: bytes) -> None:
        self.source, self.starts = source, [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def of(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """First byte, and the one behind the last."""
        last = (node.end_lineno or node.lineno) - 1
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[last] + (node.end_col_offset or 0)

    def text(self, node: ast.expr) -> str:
        """Its source."""
        return self.source[slice(*self.of(node))].decode()

    def gap(self, left: ast.expr, right: ast.expr) -> tuple[int, str]:
        """What stands between two expressions, comments blanked, and where it begins; a sign for every byte."""
        start, end = self.of(left)[1], self.of(right)[0]
        blank = re.sub(rb"#[^\n]*", lambda comment: b" " * len(comment[0]), self.source[start:end])
        return start, blank.decode("latin-1")


def _of(node: ast.AST, at: _Places) -> Iterator[Found]:
    """The changes of one piece of the syntax tree."""
    match node:
        case (
            ast.BoolOp(values=[left, right, *_])
            | ast.BinOp(left=left, right=right)
            | ast.Compare(left=left, comparators=[right, *_])
            | ast.AugAssign(target=left, value=right)
        ):
            start, gap = at.gap(left, right)
            if (found := OPERATOR.search(gap)) and (other := OPERATORS.get(" ".join(found[0].split()))):
                yield start + found.start(), start + found.end(), "operator", other
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=inner):
            yield *at.of(node), "not" if isinstance(node.op, ast.Not) else "sign", at.text(inner)
        case ast.Constant(value=bool(value)):
            yield *at.of(node), "constant", repr(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield *at.of(node), "constant", repr(2 * value or 1)
        case ast.Call(args=[first, second, *_]) if not isinstance(second, ast.Starred):
            start, between = at.of(first)[1], at.source[at.of(first)[1] : at.of(second)[0]].decode()
            yield at.of(first)[0], at.of(second)[1], "arguments", f"{at.text(second)}{between}{at.text(first)}"
        case ast.Raise():
            yield *at.of(node), "raise", "pass"


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _left_out(child):
                yield from _walk(child)


def _left_out(node: ast.AST) -> bool:
    types_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    of_zip = isinstance(node, ast.keyword) and node.arg == "strict"  # an assertion, too
    return types_only or of_zip or isinstance(node, ast.Assert | ast.JoinedStr)
