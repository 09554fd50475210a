"""The table of all methods and wrappers: the one place where names become functions.

A new method is a line here: its import, and its place in ``METHODS`` or ``WRAPPERS``. The names of
``fractionate.methods``, the lists of the command line and of the documentation, and the order of the contract tests
follow this table. Everything said about a method (title, formula, source, defaults) is read from its function.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .._choices import unknown
from .batch import gram_direction as gram_direction
from .batch import ltkd as ltkd
from .deepkd import deepkd as deepkd
from .deit import deit as deit
from .dgkd import dgkd as dgkd
from .dgkd import rld as rld
from .dist import dist as dist
from .dist import dist_gdkd as dist_gdkd
from .dkd import adkd as adkd
from .dkd import dkd as dkd
from .dkd import dkd_top1 as dkd_top1
from .dkd import drkl as drkl
from .gdkd import gdkd as gdkd
from .gdkd import gdkd3 as gdkd3
from .gdkd import gdkd_auto_weight as gdkd_auto_weight
from .gdkd_k import gdkd_auto_k as gdkd_auto_k
from .gdkd_k import gdkd_class_k as gdkd_class_k
from .groups import grouped as grouped
from .groups import sgdkd as sgdkd
from .groups import skd as skd
from .kd import ctkd as ctkd
from .kd import kd as kd
from .kd import logit_mse as logit_mse
from .lskd import ls_gdkd as ls_gdkd
from .lskd import lskd as lskd
from .method import Method
from .mlkd import mlkd as mlkd
from .projected import tpkd as tpkd
from .ranked import ldrld as ldrld
from .ranked import tie_kd as tie_kd
from .restream import dot as dot
from .restream import reweighted as reweighted
from .row_weights import atkd as atkd
from .row_weights import ea as ea
from .row_weights import wsld as wsld
from .soft_targets import nkd as nkd
from .soft_targets import ofa as ofa
from .soft_targets import ttm as ttm
from .soft_targets import wttm as wttm
from .teachers import mixture_of_teachers as mixture_of_teachers
from .teachers import per_teacher as per_teacher
from .token_kl import distillm as distillm
from .token_kl import gkd as gkd
from .token_kl import tad as tad
from .topkd import topkd as topkd
from .topkd import with_contrast as with_contrast
from .topkd import with_scaled_teacher as with_scaled_teacher
from .topkd import with_top_cosine as with_top_cosine
from .views import crld as crld
from .views import sld as sld
from .views import swap as swap
from .wrappers import on_view as on_view
from .wrappers import sdd as sdd
from .wrappers import with_extra as with_extra


def _named(*functions: Callable[..., Method]) -> dict[str, Callable[..., Method]]:
    return {function.__name__: function for function in functions}


METHODS: dict[str, Callable[..., Method]] = _named(
    kd,
    dkd,
    dkd_top1,
    drkl,
    tpkd,
    atkd,
    gkd,
    distillm,
    tad,
    gdkd,
    gdkd3,
    gdkd_auto_weight,
    gdkd_auto_k,
    gdkd_class_k,
    ls_gdkd,
    sgdkd,
    skd,
    adkd,
    dgkd,
    topkd,
    rld,
    grouped,
    ltkd,
    ldrld,
    tie_kd,
    mlkd,
    crld,
    ctkd,
    dist,
    nkd,
    ttm,
    wttm,
    wsld,
    ofa,
    sld,
    logit_mse,
    deit,
    dist_gdkd,
    gram_direction,
)

WRAPPERS: dict[str, Callable[..., Method]] = _named(
    dot,
    deepkd,
    lskd,
    swap,
    sdd,
    on_view,
    ctkd,
    mixture_of_teachers,
    per_teacher,
    with_extra,
    reweighted,
    with_scaled_teacher,
    with_contrast,
    with_top_cosine,
    ea,
)


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


def matching(words: Sequence[str]) -> list[str]:
    """The methods and wrappers whose name has one of the words; all without words.

    Raises:
        ValueError: a word that no name has.

    Example:
        >>> matching(["deepkd", "wsld"])
        ['wsld', 'deepkd']
    """
    every = [*METHODS, *WRAPPERS]
    if unlike := [word for word in words if not any(word in name for name in every)]:
        raise ValueError(unknown("method or wrapper", unlike[0], every))
    return [name for name in every if not words or any(word in name for word in words)]
