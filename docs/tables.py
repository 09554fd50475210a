"""Write the README's table of methods from the package's own: python docs/tables.py"""

import re
from pathlib import Path

from fractionate.methods import catalog

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- methods: written by `python docs/tables.py`, checked by a test -->"
END = "<!-- end of methods -->"
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


def with_table(page: str) -> str:
    """The page with the current table between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{methods()}\n\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
