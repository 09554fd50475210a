"""The disagreements of text and released code as methods: every side is a method, and no two sides do the same."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.commands.compare import Compare
from fractionate.config.method import MethodSpec
from fractionate.papers.audit import TWINS, UNSAID, Twin, sides, twins

CLASSES = 12
LATE = Progress(epoch=160, epochs=240)  # after every warm-up, and inside of the mask's plateau

with (Path(__file__).parents[2] / "docs" / "differences.csv").open(encoding="utf-8", newline="") as table:
    ROWS = [row["id"] for row in csv.DictReader(table)]


def trained(method: Method) -> torch.Tensor:
    """The weights of a linear student after three steps with momentum and decay."""
    random = torch.Generator().manual_seed(0)
    net = nn.Linear(5, CLASSES, bias=False).double()
    nn.init.normal_(net.weight, generator=random)
    opt = fr.StreamSGD(net.parameters(), lr=0.01, momentum=method.momenta(0.9), weight_decay=0.01)
    for _ in range(3):
        x, teacher = torch.randn(2, 9, 5, generator=random), 3 * torch.randn(2, 9, CLASSES, generator=random)
        y = torch.randint(CLASSES, (9,), generator=random)
        weak, strong = (Logits(net(v.double()), t.double(), y) for v, t in zip(x, teacher, strict=True))
        rows = Logits(weak.student, weak.teacher, y, strong=strong)
        opt.step(fr.stream_grads(method.stream_losses(rows, LATE), net))
    return net.weight.detach()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_the_two_sides_of_a_disagreement_train_another_student(twin: Twin) -> None:
    one, other = (trained(MethodSpec.parse(side).build()) for side in (twin.described, twin.published))
    assert bool(one.isfinite().all() and other.isfinite().all())
    assert float((one - other).abs().max()) > 1e-6
    again = trained(MethodSpec.parse(twin.described).build())
    assert torch.equal(one, again)  # so the difference is not chance


def test_every_disagreement_is_a_row_of_the_differences_page() -> None:
    assert {row for twin in TWINS for row in twin.rows} <= set(ROWS)
    assert set(UNSAID) <= set(ROWS)
    assert not {row for twin in TWINS for row in twin.rows} & set(UNSAID)


def test_a_disagreement_is_named_by_a_row_a_method_or_a_wrapper() -> None:
    assert [t.name for t in twins(["mlkd"])] == [t.name for t in twins(["D14"])] == ["D8"]
    assert [t.name for t in twins(["ea"])] == ["N1", "N2", "N3"]
    assert twins() == list(TWINS)
    assert sides(["N1", "kd+ea"], described=False, published=True) == ["kd+ea(upper=published-code)"]


@pytest.mark.parametrize(("word", "message"), [("N12", "logarithms"), ("n1", "N1"), ("crld", "mlkd|dgkd|ldrld")])
def test_what_has_no_two_sides_is_refused_with_the_reason(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        twins([word])


def test_the_command_compares_the_sides_that_are_asked_for() -> None:
    asked = {"both": (True, True), "published": (False, True), "none": (False, False)}
    found = {
        name: Compare(("digits",), methods=("kd+ea",), as_described=a, as_published=b).sides()
        for name, (a, b) in asked.items()
    }
    published = "kd+ea(upper=published-code)"
    assert found == {"both": ["kd+ea", published], "published": [published], "none": ["kd+ea"]}


def test_the_rows_say_the_words_of_the_side_that_is_released() -> None:
    """A side that names the released code is never the described one."""
    assert not any(re.search("published", twin.described) for twin in TWINS)
