"""A docstring of the catalog taken apart, and its text as Markdown."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

import formulas  # beside this file

from fractionate.methods import catalog

HEAD = re.compile(r"^(?:(Args|Returns|Raises|Warns|Note|Example):$|(Source|Map): )", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\S[^:]*): (.*)$")
ARXIV = re.compile(r"(?:arXiv )?\b(\d{4}\.\d{5})\b")
REPOSITORY = re.compile(r"(?<![\w/])([A-Za-z][\w-]*/[A-Za-z][\w.-]*\w)")


@dataclass(frozen=True)
class Parts:
    """Title, Markdown paragraphs up to the arguments, sections as text, and arguments with their meaning."""

    title: str
    head: tuple[str, ...]
    sections: dict[str, str]
    arguments: tuple[tuple[tuple[str, ...], str], ...]


def parts(function: Callable[..., object], formula: str) -> Parts:
    """The documentation of a function whose formula is known."""
    text = inspect.cleandoc(function.__doc__ or "")
    found = list(HEAD.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    sections = {m[1] or m[2]: text[m.end() : end].strip("\n") for m, end in zip(found, ends, strict=True)}
    title, *blocks = [b.strip("\n") for b in re.split(r"\n\s*\n", text[: found[0].start()]) if b.strip()]
    head = tuple(_paragraph(block, formula) for block in blocks)
    return Parts(title.rstrip("."), head, sections, _arguments(sections.get("Args", "")))


def _paragraph(block: str, formula: str) -> str:
    """Text as Markdown, a formula or an indented block as it is."""
    lines = "\n".join(line.strip() for line in block.splitlines())
    if lines == formula:
        plain = lines.replace("``", "")
        kept = f"<details><summary>as plain text</summary>\n\n```text\n{plain}\n```\n\n</details>"
        return f"{formulas.markdown(formula)}\n\n{kept}"
    return f"```text\n{lines.replace('``', '')}\n```" if block.startswith("    ") else markdown(block)


def _arguments(text: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """``name, name: meaning`` with the lines that continue it."""
    entries: list[tuple[tuple[str, ...], list[str]]] = []
    for line in text.splitlines():
        if match := ENTRY.match(line):
            entries.append((tuple(name.strip() for name in match[1].split(",")), [match[2]]))
        elif line.strip():
            entries[-1][1].append(line.strip())
    return tuple((names, " ".join(lines)) for names, lines in entries)


def markdown(text: str, *, cell: bool = False) -> str:
    """Docstring text as Markdown: code, links to other methods; stars and (in a table cell) bars made harmless."""
    pieces = re.split(r"(``.+?``|:\w+:`.+?`)", " ".join(text.split()))
    whole = "".join(_piece(piece) for piece in pieces)
    return whole.replace("|", "\\|") if cell else whole


def source(text: str, *, cell: bool = False) -> str:
    """A source with its arXiv numbers and repositories as links."""
    linked = ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", REPOSITORY.sub(_repository, markdown(text, cell=cell)))
    return linked


def page_of(name: str) -> str:
    """A link to the page of a method, if it has one."""
    return f"[`{name}`]({name}.md)" if name in {**catalog.METHODS, **catalog.WRAPPERS} else f"`{name}`"


def _repository(match: re.Match[str]) -> str:
    return f"[{match[1]}](https://github.com/{match[1]})"


def _piece(piece: str) -> str:
    if piece.startswith("``"):
        return f"`{piece[2:-2]}`"
    if role := re.fullmatch(r":\w+:`(.+)`", piece):
        return page_of(role[1].lstrip("~").rsplit(".", 1)[-1])
    return re.sub(r"(?<!\*)\*(?!\*)", r"\\*", piece)
