"""Where paper and published code differ: every row of docs/differences.csv that concerns built code has its test.

Most rows are pinned where their subject is tested; the tests below belong to the rows that have no other home.
"""

from __future__ import annotations

import ast
import csv
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType

import pytest
import torch

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses import auto_k, class_auto_k
from fractionate.methods import catalog
from fractionate.schedules import phases, warmup
from tests import asserts, cases
from tests.methods.contract_rows import METHODS

ROOT = Path(__file__).parents[2]
M = fr.methods
LATE = Progress(epoch=100)

with (ROOT / "docs" / "differences.csv").open(encoding="utf-8", newline="") as table:
    ROWS = list(csv.DictReader(table))


# -- the table -------------------------------------------------------------------------------


@cache
def names_in(file: str) -> dict[str, list[str]]:
    """Name of every test function of a file, with the names of its marks."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {
        node.name: [ast.unparse(decorator) for decorator in node.decorator_list]
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_row_that_holds_names_a_test_that_runs(row: dict[str, str]) -> None:
    assert row["status"] in ("holds", "later")
    assert (row["status"] == "holds") == bool(row["test"]), "rows that hold have a test, later ones have none"
    for node in row["test"].split():
        file, name = node.split("::")
        assert name in names_in(file), f"{node} does not exist"
        marks = " ".join(names_in(file)[name])
        assert not re.search(r"skip|xfail|gpu|compiled", marks), f"{node} does not run everywhere"


def test_every_row_is_complete_and_appears_once() -> None:
    assert all(row[name].strip() for row in ROWS for name in ("id", "group", "topic", "fractionate"))
    assert all(row["paper"] or row["published_code"] for row in ROWS)
    assert len({row["id"] for row in ROWS}) == len(ROWS)


def test_every_test_below_belongs_to_a_row() -> None:
    file = Path(__file__).relative_to(ROOT).as_posix()
    named = {node.split("::")[1] for row in ROWS for node in row["test"].split() if node.startswith(f"{file}::")}
    own = {"test_a_row_that_holds_names_a_test_that_runs", "test_every_row_is_complete_and_appears_once"}
    assert set(names_in(file)) - own - {"test_every_test_below_belongs_to_a_row"} == named


# -- DeepKD ----------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [2, 40, 240, 241])
@pytest.mark.parametrize("classes", [100, 200, 1000])
def test_the_mask_grows_holds_and_grows_again(epochs: int, classes: int) -> None:
    """From 5 % of the classes to the plateau, and on to all of them; never back."""
    schedule = phases(plateau=0.55)
    counts = [schedule.count(Progress(epoch=e, epochs=epochs), classes) for e in range(1, epochs + 1)]
    assert (counts[0], counts[-1]) == (round(0.05 * classes), classes)
    assert counts == sorted(counts)
    middle = [k for e, k in enumerate(counts) if 0.3 <= e / (epochs - 1) < 0.7]
    assert set(middle) <= {round(0.55 * classes)}


@pytest.mark.parametrize("name", [*catalog.METHODS, *catalog.WRAPPERS])
def test_a_misspelled_argument_names_the_nearest(name: str) -> None:
    function = catalog.find(name)
    given = {} if name in catalog.METHODS else {"method": M.dot(M.dkd())}
    argument = next(iter(n for n in catalog.describe(name).defaults if len(n) > 3), "method")
    with pytest.raises(TypeError, match=argument):
        function(**given, **{f"{argument[:-1]}": 1})


class Counter:
    """How many lines Python executes; parameters are counted in work, not in seconds."""

    lines = 0

    def __call__(self, frame: FrameType, event: str, arg: object) -> Callable[..., object]:
        self.lines += event == "line"
        return self


def lines_of_a_step(parameters: int) -> int:
    method = M.deepkd(M.dkd(), delta_task=0.01, rule="published-code")
    weights = [torch.zeros(3, requires_grad=True) for _ in range(parameters)]
    optimizer = fr.StreamSGD(weights, lr=0.1, momentum=method.momenta(0.9), weight_decay=1e-3)
    grads = {name: [torch.ones(3) for _ in weights] for name in method.momenta(0.9)}
    optimizer.step(grads)
    counter = Counter()
    sys.settrace(counter)
    try:
        optimizer.step(grads)
    finally:
        sys.settrace(None)
    return counter.lines


def test_the_work_of_a_step_grows_linearly_with_the_parameters() -> None:
    few, some, many = (lines_of_a_step(n) for n in (20, 60, 100))
    assert many - some == pytest.approx(some - few, rel=0.05)


def test_no_private_torch_but_the_fused_operations() -> None:
    """What is looked up with a default may be missing from torch, so it does not count."""
    sources = "\n".join(f.read_text(encoding="utf-8") for f in (ROOT / "src").rglob("*.py"))
    sources = re.sub(r'getattr\(torch\._C, "\w+", \w+\)', "", sources)
    used = set(re.findall(r"\b(?:torch|nn|F|distributed)\.(?:\w+\.)*_(?!_)\w+", sources))
    used -= {"torch.utils._python_dispatch"}  # where torch's manual tells extensions to take TorchDispatchMode from
    assert {name for name in used if not name.startswith(("torch._foreach", "torch._fused"))} == set()


# -- GDKD ------------------------------------------------------------------------------------


def test_gdkd_with_k_one_is_top1_dkd_and_dkd_only_where_the_teacher_is_right() -> None:
    lg = cases.easy(n=40, strong=False)
    gdkd = M.gdkd(k=1, w0=2.0, w1=5.0, w2=3.0).components(lg, LATE)
    top1, dkd = (m(alpha=2.0, beta=3.0).components(lg, LATE) for m in (M.dkd_top1, M.dkd))
    right = lg.teacher.argmax(1) == lg.target
    assert 0 < int(right.sum()) < lg.rows
    assert not bool(gdkd["top"].any())
    for ours, theirs in (("between", "target"), ("other", "nontarget")):
        asserts.assert_equal(gdkd[ours], top1[theirs])
        asserts.assert_equal(gdkd[ours][right], dkd[theirs][right])
        assert bool((gdkd[ours] - dkd[theirs])[~right].abs().gt(1e-6).all())


@pytest.mark.parametrize(
    ("epochs", "factors"), [(0, [1, 1, 1]), (1, [1, 1, 1]), (2, [0.5, 1, 1]), (20, [0.05, 0.1, 0.15])]
)
def test_the_warm_up_counts_epochs_from_one_and_may_be_none(epochs: int, factors: list[float]) -> None:
    found = [warmup(8.0, epochs)(Progress(epoch=e)) for e in (1, 2, 3)]
    assert found == pytest.approx([8.0 * factor for factor in factors])
    assert [M.gdkd(warmup=epochs).parts["other"].weight(Progress(epoch=e)) for e in (1, 2, 3)] == found


@pytest.mark.parametrize("classes", [10, 200])
def test_automatic_k_works_for_any_number_of_classes_without_a_loop(classes: int) -> None:
    """The lines executed do not depend on the number of rows."""
    few, many = cases.easy(n=5, c=classes, strong=False), cases.easy(n=50, c=classes, strong=False)

    def sizes(lg: Logits) -> torch.Tensor:
        return torch.cat([auto_k(lg.teacher, 1.0), class_auto_k(lg.teacher, lg.target, 1.0)])

    lines = []
    for lg in (few, many):
        found = sizes(lg)
        assert bool(((found >= 1) & (found < classes)).all())
        counter = Counter()
        sys.settrace(counter)
        try:
            sizes(lg)
        finally:
            sys.settrace(None)
        lines.append(counter.lines)
    assert lines[1] <= 1.5 * lines[0]


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if row.contract.needs_labels])
def test_soft_labels_are_refused_with_what_to_do(name: str) -> None:
    row = METHODS[name]
    mixed = asserts.with_target(row.contract.rows(), torch.full((10, 7), 1 / 7).double())
    with pytest.raises(ValueError, match=rf"{name}.*hard labels \[n\], got soft labels \[10, 7\].*argmax"):
        row.make().components(mixed)


# -- the others ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [M.sdd(M.kd(), scales=(1,)), M.nkd(), M.dkd()], ids=lambda m: m.name)
@pytest.mark.parametrize("broken", ["student", "teacher"])
def test_a_loss_that_is_not_finite_is_never_replaced_in_silence(method: Method, broken: str) -> None:
    lg = cases.easy(strong=False)
    logits = {"student": lg.student.clone(), "teacher": lg.teacher.clone()}
    logits[broken][2, 0] = torch.nan
    rows = Logits(logits["student"], logits["teacher"], lg.target)
    with pytest.raises(ValueError, match=f"{broken} logits are not finite in row 2"):
        method.components(Logits(rows.student, rows.teacher, rows.target, regions=rows))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masks_do_not_overflow_in_half_precision(dtype: torch.dtype) -> None:
    """A label at the teacher's minimum masks everything; -1e9 would be -inf in float16."""
    lg = cases.easy(n=40, strong=False)
    lg = Logits(lg.student, lg.teacher, lg.teacher.argmin(1))
    rows = M.rld().components(cases.cast(lg, dtype))
    assert rows["nontarget"].tolist() == [0.0] * lg.rows
    asserts.assert_finite(lambda rows: M.rld().components(rows), cases.cast(lg, dtype))


def test_names_that_collide_are_told_apart_by_their_sources() -> None:
    topkd, dgkd = (catalog.describe(name).source for name in ("topkd", "dgkd"))
    assert "2508.04539" in topkd
    assert "topological" in topkd
    assert "omertafveez-2001" in dgkd
    assert "densely guided" in dgkd
