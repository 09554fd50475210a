"""The cases of docs/numerics.py, which its page counts: finite, and near float64, however large the logits are."""

from __future__ import annotations

import functools
from types import ModuleType

import pytest
import torch

from fractionate import Logits
from fractionate.kernels import rest
from tests.reference import published_operations as published
from tests.test_docs import script

numerics: ModuleType = script("numerics")


@functools.cache
def found() -> dict[object, object]:
    return numerics.run()


@pytest.mark.slow
def test_at_least_500_cases_of_every_method_kind_dtype_and_temperature() -> None:
    for path in numerics.PATHS:
        assert sum(case.path == path for case in found()) >= 500
    columns = (numerics.KINDS, numerics.DTYPES, numerics.TEMPERATURES, numerics.METHODS, numerics.PATHS)
    for column, values in enumerate(columns):
        assert {case[column] for case in found()} == set(values)
    assert min(numerics.TEMPERATURES) == 0.5
    assert max(numerics.TEMPERATURES) == 20


def test_the_logits_reach_10000_and_both_sizes_of_batches() -> None:
    assert float(numerics.huge(0).student.abs().max()) == float(numerics.vocabulary(0).teacher.abs().max()) == 1e4
    sizes = [make(0).student.numel() for make in numerics.KINDS.values()]
    assert min(sizes) <= rest.KEEP < max(sizes)


@pytest.mark.usefixtures("unchecked")
def test_no_value_and_no_gradient_is_infinite_or_nan() -> None:
    assert {case: f for case, f in found().items() if f.bad} == {}


@pytest.mark.usefixtures("unchecked")
def test_every_value_is_near_its_float64_reference() -> None:
    """|value - reference| <= 1e-4 |reference| + 1e-6 T^2."""
    assert {case: f for case, f in found().items() if not f.worst <= 1} == {}


def test_both_paths_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are kernels: the cases of a path are computed by it."""
    if numerics.library() is None:
        pytest.skip("there are no compiled kernels")
    assert numerics.PATHS == (numerics.KERNELS, numerics.TORCH)
    made = []
    monkeypatch.setattr(
        numerics.c_split, "_kernel", lambda name, real=numerics.c_split._kernel: made.append(name) or real(name)
    )
    for path, calls in ((numerics.TORCH, []), (numerics.KERNELS, ["read_rows", "write_rows"])):
        made.clear()
        with numerics.taking(path):
            numerics.compute(
                numerics.Case("spread 2 and 4", torch.float32, 4.0, "dkd", path),
                numerics.cast(numerics.easy(0), torch.float32),
            )
        assert made == calls


def test_what_is_wrong_is_noticed() -> None:
    """A teacher that is not finite is counted; a value that is not the reference's is far above 1."""
    case = numerics.Case("spread 2 and 4", torch.float32, 4.0, "dkd")
    lg = numerics.cast(numerics.easy(0), torch.float32)
    good, broken = numerics.compute(case, lg), lg.teacher.clone()
    broken[0, 0] = torch.inf
    assert numerics.compute(case, Logits(lg.student, broken, lg.target)).bad > 0
    other = numerics.Case("spread 2 and 4", torch.float32, 4.0, "wrong")
    numerics.METHODS["wrong"] = (numerics.METHODS["dkd"][0], lambda lg, t: numerics.METHODS["dkd"][1](lg, 2 * t))
    try:
        assert good.worst < 1 < 10 < numerics.compute(other, lg).worst
    finally:
        del numerics.METHODS["wrong"]


def test_the_published_operations_break_on_these_logits() -> None:
    """So the cases are hard enough."""
    lg = numerics.cast(numerics.huge(0), torch.float32)
    assert not all(x.isfinite().all() for x in published.dkd(lg.student, lg.teacher, lg.target, 4.0).values())
    assert not all(x.isfinite().all() for x in published.gdkd(lg.student, lg.teacher, 3, 4.0).values())


@pytest.mark.usefixtures("unchecked")
def test_the_page_counts_what_was_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "run", found)
    text = numerics.page()
    assert text.startswith("# Large logits")
    assert f"\n{len(found())} cases" in text
    rows = [line.split(" | ") for line in text.splitlines() if "| float32 |" in line or "| bfloat16 |" in line]
    assert len(rows) == 2 * len(numerics.KINDS)
    per_row = len(numerics.TEMPERATURES) * len(numerics.METHODS) * len(numerics.PATHS)
    assert all(row[2:4] == [str(per_row), "0"] for row in rows)
    assert "against" in text.partition("## Time and memory")[2]
