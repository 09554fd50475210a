"""Refuse a tag that does not fit the checkout: ``python .ci/check_release.py v0.1.0``.

The version stands in pyproject.toml, CITATION.cff, the package and the newest entry of CHANGELOG.md, which then has a
date or nothing behind it.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def first(pattern: str, name: str) -> str:
    """What the pattern finds first in a file."""
    found = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "nothing"


def versions() -> dict[str, str]:
    """The version as every file has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        "pyproject.toml": project["version"],
        "src/fractionate/__init__.py": first(r'^__version__ = "(.+)"', "src/fractionate/__init__.py"),
        "CITATION.cff": first(r"^version: (.+)", "CITATION.cff"),
        "CHANGELOG.md": first(r"^## (.+?)(?: \(\d{4}-\d\d-\d\d\))?$", "CHANGELOG.md"),
    }


def problems(tag: str) -> list[str]:
    """A line for every file whose version is not that of the tag."""
    wanted = tag.removeprefix("v")
    return [f"{name} says {found}, the tag {tag}" for name, found in versions().items() if found != wanted]


if __name__ == "__main__":
    sys.exit("\n".join(problems(sys.argv[1])) or None)
