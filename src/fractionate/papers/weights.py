"""What DeepKD's momenta make of a row's weights, beside the configuration that was released for the same pair."""

from __future__ import annotations

import warnings
from dataclasses import replace

from ..config.method import Wrapper
from ..config.run import Run
from ..train.allocation import allocation
from .draft import draft, obstacle
from .method import read_method
from .rows import Row, rows


def released(dataset: str, teacher: str, student: str, method: str = "dkd+deepkd") -> Row | None:
    """The configuration of DeepKD that its authors released for a pair of networks; ``None`` if there is none.

    Example:
        >>> released("cifar100", "resnet56", "resnet20").beta
        0.5
    """
    pair = (dataset, teacher, student, method, "published-code")
    found = (r for r in rows().values() if (r.dataset, r.teacher, r.student, r.method, r.variant) == pair)
    return next(found, None)


def pressure(run: Run) -> float | None:
    """Largest non-target weight x gain of its momentum x learning rate (:class:`fractionate.methods.Allocation`)."""
    found = allocation(run).pressure(run.optimizer.lr)
    return None if found is None else found[0]


def remark(row: Row) -> str | None:
    """What is to be known of the weights of a reconstructed row of DeepKD; ``None`` for any other row.

    Example:
        >>> print(remark(rows()["cifar100/dkd+deepkd/vgg13__vgg8/paper/paper"]))
        its weights are the base method's, under longer momenta: non-target weight x gain x rate is 1.2. Nobody \
published this combination; the configuration released for the pair has 0.4 (beta 6, non-target shift 0.025)
    """
    if row.variant != "paper" or row.status != "reconstructed" or not row.method.endswith("+deepkd"):
        return None
    value = _pressure(row)
    here = "" if value is None else f": non-target weight x gain x rate is {value:.2g}"
    said = f"its weights are the base method's, under longer momenta{here}. Nobody published this combination"
    other = released(row.dataset, row.teacher, row.student, row.method)
    theirs = None if other is None else _pressure(other)
    if other is None or theirs is None:
        return said
    weights = [f"beta {other.beta:g}"] if other.beta is not None else []
    weights += [f"non-target shift {other.delta_nontarget:g}"] if other.delta_nontarget is not None else []
    return f"{said}; the configuration released for the pair has {theirs:.2g} ({', '.join(weights)})"


def _pressure(row: Row) -> float | None:
    """Of a row that leaves open nothing on which it depends."""
    if obstacle(row) or row.lr is None or row.momentum is None or (row.method.startswith("dkd") and row.beta is None):
        return None
    spec = read_method(row).spec
    *inner, last = spec.wrappers
    open_mask = Wrapper(last.name, {name: x for name, x in last.args.items() if name != "keep"})
    with warnings.catch_warnings():  # of what the published code ignores: the row's own notes say it
        warnings.simplefilter("ignore")
        return pressure(draft(row, replace(spec, wrappers=(*inner, open_mask))))
