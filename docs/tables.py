"""Write docs/method-list.md, every method in one table, from the package's own: python docs/tables.py"""

import re
from pathlib import Path

from fractionate.methods import catalog

PAGE = Path(__file__).parent / "method-list.md"
HEAD = """# Methods in one table

Written by `python docs/tables.py` from the package's own catalog; `fractionate methods` prints it. Every method is a
function of `fr.methods`, and `task` is the cross-entropy with the labels. A wrapper takes a method and returns one;
they nest.
"""
ARXIV = re.compile(r"(?:arXiv )?(\d{4}\.\d{5})")


def row(name: str) -> str:
    """One method or wrapper: name, title, components, backward passes, needs, source."""
    about = catalog.describe(name)
    call = f"`{name}`" if name in catalog.METHODS else f"`{name}(method)`"
    title = about.title.rstrip(".").replace("|", "\\|").replace("``", "`")
    components = ", ".join(f"`{c}`" for c in about.components if c != "task") or "those of the method"
    source = ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", re.split(r"[;:(]", about.source)[0]).strip(" .")
    needs = ", ".join(about.needs) or "–"
    return f"| {call} | {title} | {components} | {needs} | {source} |"


def methods() -> str:
    """The table in Markdown: methods first, then what wraps them."""
    head = "| `fr.methods` | what it is | components besides `task` | needs | source |"
    return "\n".join([head, "|---|---|---|---|---|", *(row(name) for name in catalog.METHODS | catalog.WRAPPERS)])


def page() -> str:
    """The whole page."""
    return f"{HEAD}\n{methods()}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
