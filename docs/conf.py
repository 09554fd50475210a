"""Sphinx configuration. Build: python -m sphinx -W -b html docs docs/_build/html"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "docs")]

import jaxtyping  # noqa: E402, F401 (before the package: signatures then show the shapes)
from docutils.nodes import SkipNode  # noqa: E402
from generate import write  # noqa: E402
from latex2mathml.converter import convert  # noqa: E402

write()  # docs/methods/*.md and docs/differences.md

project = "fractionate"
author = "the fractionate authors"
copyright = f"2026, {author}"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence", "dollarmath", "fieldlist"]
myst_dmath_allow_digits = False  # $5 is a price
html_math_renderer = "mathml"
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "fractionate"
html_static_path = ["_static"]
html_css_files = ["fractionate.css"]
html_show_sphinx = False

# Formulas in docstrings are plain text: |x|^2 is no substitution and m_ no link, outside ``literals``.
MARKUP = re.compile(r"(``.*?``|`.*?`_?)|(\||(?<=\w)_(?!\w))")


def plain_formulas(app, what, name, obj, options, lines):
    if what == "property" and lines:  # "[n]: the labels" is a sentence here, not a type
        lines[0] = lines[0].replace(": ", " – ", 1)
    lines[:] = [MARKUP.sub(lambda found: found[1] or "\\" + found[2], line) for line in lines]


def inline_formula(writer, node):
    """A formula in a line as MathML, which browsers set without loading anything."""
    writer.body.append(convert(node.astext()))
    raise SkipNode


def displayed_formula(writer, node):
    """A formula on a line of its own; it scrolls where the screen is too narrow."""
    writer.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>\n')
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
    app.connect("autodoc-process-docstring", plain_formulas, priority=400)  # before napoleon
