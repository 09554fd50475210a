"""The table of all methods and wrappers: the one place where names become functions.

Everything said about a method (title, formula, source, defaults) is read from its function, so it is written once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._choices import unknown
from .deepkd import deepkd
from .dgkd import dgkd, rld
from .dist import dist, dist_gdkd
from .dkd import adkd, dkd, dkd_top1
from .gdkd import gdkd, gdkd3, gdkd_auto_weight
from .gdkd_k import gdkd_auto_k, gdkd_class_k
from .groups import grouped, sgdkd, skd
from .kd import ctkd, kd, logit_mse
from .lskd import ls_gdkd, lskd
from .method import Method
from .mlkd import mlkd
from .restream import dot, reweighted
from .soft_targets import nkd, ofa, ttm, wttm
from .teachers import mixture_of_teachers, per_teacher
from .topkd import topkd, with_contrast, with_scaled_teacher, with_top_cosine
from .views import crld, sld, swap
from .wrappers import sdd, with_extra

METHODS: dict[str, Callable[..., Method]] = {
    "kd": kd,
    "dkd": dkd,
    "dkd_top1": dkd_top1,
    "gdkd": gdkd,
    "gdkd3": gdkd3,
    "gdkd_auto_weight": gdkd_auto_weight,
    "gdkd_auto_k": gdkd_auto_k,
    "gdkd_class_k": gdkd_class_k,
    "ls_gdkd": ls_gdkd,
    "sgdkd": sgdkd,
    "skd": skd,
    "adkd": adkd,
    "dgkd": dgkd,
    "topkd": topkd,
    "rld": rld,
    "grouped": grouped,
    "mlkd": mlkd,
    "crld": crld,
    "ctkd": ctkd,
    "dist": dist,
    "nkd": nkd,
    "ttm": ttm,
    "wttm": wttm,
    "ofa": ofa,
    "sld": sld,
    "logit_mse": logit_mse,
    "dist_gdkd": dist_gdkd,
}

WRAPPERS: dict[str, Callable[..., Method]] = {
    "dot": dot,
    "deepkd": deepkd,
    "lskd": lskd,
    "swap": swap,
    "sdd": sdd,
    "ctkd": ctkd,
    "mixture_of_teachers": mixture_of_teachers,
    "per_teacher": per_teacher,
    "with_extra": with_extra,
    "reweighted": reweighted,
    "with_scaled_teacher": with_scaled_teacher,
    "with_contrast": with_contrast,
    "with_top_cosine": with_top_cosine,
}


@dataclass(frozen=True)
class Description:
    """What a list of methods says about one of them.

    Args:
        name: name on the command line.
        title: first line of the documentation.
        formula: the loss as printed there.
        source: arXiv id or repository.
        defaults: argument -> default.
        components: names of the components (empty for a wrapper).
        backward_passes: per step (0 for a wrapper).
        needs: requirements: labels, two views, the whole batch.
    """

    name: str
    title: str
    formula: str
    source: str
    defaults: dict[str, Any]
    components: tuple[str, ...]
    backward_passes: int
    needs: tuple[str, ...]


def find(name: str) -> Callable[..., Method]:
    """The function behind a name.

    Raises:
        ValueError: unknown name; the nearest one is named.
    """
    table = METHODS | WRAPPERS
    if name not in table:
        raise ValueError(unknown("method", name, table))
    return table[name]


def describe(name: str) -> Description:
    """Everything the table says about one method or wrapper.

    Example:
        >>> describe("dkd").components
        ('task', 'target', 'nontarget')
    """
    function = find(name)
    text = inspect.cleandoc(function.__doc__ or "")
    parameters = inspect.signature(function).parameters.values()
    method = function() if name in METHODS else None
    return Description(
        name=name,
        title=text.split("\n", 1)[0],
        formula=_formula(text),
        source=_source(text),
        defaults={p.name: p.default for p in parameters if p.default is not p.empty},
        components=tuple(method.parts) if method else (),
        backward_passes=method.backward_passes if method else 0,
        needs=_needs(method) if method else ("a method",),
    )


def _formula(text: str) -> str:
    """The lines before the arguments that hold an equation: the indented ones, else the first with a sign of one."""
    blocks = re.split(r"\n\s*\n", text.split("Args:", 1)[0])[1:]
    found = [b for b in blocks if b.startswith("    ")] or [b for b in blocks if "=" in b or "<-" in b]
    return "\n".join(line.strip() for line in found[0].splitlines()) if found else ""


def _source(text: str) -> str:
    match = re.search(r"^Source: (.+?)(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join(match.group(1).split()) if match else ""


def _needs(method: Method) -> tuple[str, ...]:
    checks = (
        (method.needs_labels, "hard labels"),
        (method.views == 2, "two views"),
        (not method.row_wise, "the whole batch"),
    )
    return tuple(text for holds, text in checks if holds)
