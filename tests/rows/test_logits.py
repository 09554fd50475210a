"""Logits: what belongs to a row stays with it, and what does not fit is refused with what was expected."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Progress
from fractionate.methods.method import Task
from fractionate.rows import blame, images, pixels, rois, tokens, with_logits
from tests.asserts import assert_equal
from tests.rows.inputs import C, everything, labels, random

# -- picking rows ----------------------------------------------------------------------------------


PICKED = {
    "student": lambda lg: lg.student,
    "teacher": lambda lg: lg.teacher,
    "target": lambda lg: lg.target,
    "strong": lambda lg: lg.strong.student,
    "weight": lambda lg: lg.weight,
    "ranking": lambda lg: lg.ranking,
    "teachers": lambda lg: lg.teachers[0],
    "regions": lambda lg: lg.regions.student,
    "labels of regions": lambda lg: lg.regions.target,
    "extra": lambda lg: lg.extra["hint"],
}


@pytest.mark.parametrize(
    "rows",
    [slice(2, 5), slice(None), slice(-2, None), slice(None, None, 2), torch.tensor([5, 0]), torch.arange(7) % 3 == 0],
    ids=str,
)
def test_picking_rows_picks_all_that_belongs_to_them(rows: slice | Tensor) -> None:
    lg = everything(7)
    picked = lg[rows]
    for name, pick in PICKED.items():
        whole = pick(lg)
        expected = whole.view(7, 3, *whole.shape[1:])[rows].flatten(0, 1) if "regions" in name else whole[rows]
        assert torch.equal(pick(picked), expected), name


# -- Logits ----------------------------------------------------------------------------------------


def test_the_teacher_is_detached_and_transforms_keep_the_raw_ranking() -> None:
    teacher = random(3, C).requires_grad_()
    lg = Logits(random(3, C), teacher, labels(3), teachers=(teacher * 2,))
    assert not lg.teacher.requires_grad
    assert not lg.teachers[0].requires_grad
    changed = with_logits(with_logits(lg, lg.student, -lg.teacher), lg.student, lg.teacher * 0)
    assert torch.equal(changed.rank_by, lg.teacher)


def test_soft_labels_have_a_most_likely_class() -> None:
    soft = Logits(random(2, 3), random(2, 3), torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]]).double())
    assert (soft.soft, soft.labels.tolist()) == (True, [1, 0])
    hard = Logits(random(2, 3), random(2, 3), torch.tensor([2, 0]))
    assert (hard.soft, hard.labels.tolist()) == (False, [2, 0])


GOOD = {"student": random(3, C), "teacher": random(3, C), "target": labels(3)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"teacher": random(3, 4)}, r"must both be \[n, c\]; got \[3, 5\] and \[3, 4\]. Flatten pixels"),
        ({"student": random(3, C, 1), "teacher": random(3, C, 1)}, r"must both be \[n, c\]"),
        ({"teacher": random(3, C).float()}, "one floating dtype, got torch.float64 and torch.float32; cast one"),
        ({"student": labels(3, C), "teacher": labels(3, C)}, "floating dtype, got torch.int64"),
        ({"teacher": random(3, C).to("meta")}, "student is on cpu, teacher on meta; move one"),
        ({"student": random(3, 1), "teacher": random(3, 1)}, "at least 2 classes are needed, got c=1"),
        ({"target": torch.tensor([0, 1])}, r"target must be integers \[n\]=\[3\] or soft labels"),
        ({"target": torch.tensor([True, False, True])}, r"target must be integers.*got torch.bool"),
        ({"target": torch.tensor([[0], [1], [2]])}, r"integers \[n\]=\[3\].*got torch.int64 \[3, 1\]"),
        ({"target": ["cat", "dog", "eel"]}, "target must be a tensor or an array of numbers, got list of 3"),
        ({"teachers": (random(3, C).float(),)}, r"student and teachers\[0\] must share one floating dtype"),
        ({"target": torch.tensor([0, 1, C])}, r"labels must lie in 0..4, got 0..5; ignored positions"),
        ({"target": torch.tensor([0, 1, -100])}, r"labels must lie in 0..4, got -100..1"),
        ({"target": random(3)}, r"holds soft labels \[n, c\]=\[3, 5\], got \[3\]"),
        ({"target": labels(3).to("meta")}, "target is on meta, student on cpu"),
        ({"weight": torch.tensor([1.0, 0.0, -0.5])}, "weight must not be negative, got -0.5 in row 2"),
        ({"weight": random(2)}, r"weight must be \[n\]=\[3\] on cpu, got \[2\]"),
        ({"extra": {"hint": random(3, 1)}}, r"hint must be \[n\]=\[3\] on cpu, got \[3, 1\]"),
        ({"ranking": random(3, 4)}, r"the ranking must have the rows and classes of the student \[3, 5\]"),
        ({"teachers": (random(2, C),)}, r"got \[3, 5\] and \[2, 5\]"),
        (
            {"strong": Logits(random(2, C), random(2, C), labels(2))},
            r"the strong view must have.*\[3, 5\], got \[2, 5\]",
        ),
        ({"regions": Logits(random(4, C), random(4, C), labels(4))}, r"regions must be \[n \* r, c\] with n=3, c=5"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_does_not_fit_is_refused_with_what_was_expected(
    wrong: dict[str, object], message: str, unchecked: None
) -> None:
    with pytest.raises(ValueError, match=message):
        Logits(**{**GOOD, **wrong})


# -- what networks and people give -----------------------------------------------------------------


class Output(dict):
    """As the outputs of many language models are: a mapping whose entries are attributes too."""

    logits = property(lambda self: self["logits"])


GIVEN = [
    (Output(logits=random(3, C)), r"got Output; give output\['logits'\]"),
    ({"out": random(3, C), "aux": random(3, C)}, r"got dict; give output\[\.\.\.\], its keys are \['out', 'aux'\]"),
    (SimpleNamespace(logits=random(3, C)), r"got SimpleNamespace; give output\.logits"),
    ((random(3, C), random(3, C)), r"got tuple of 2; give output\[0\]"),
    (random(3, C).numpy(), r"got ndarray; give torch\.as_tensor"),
    (None, "got NoneType"),
]


@pytest.mark.parametrize("place", ["student", "teacher"])
@pytest.mark.parametrize(("given", "words"), GIVEN, ids=lambda x: x if isinstance(x, str) else "")
def test_what_is_no_tensor_of_logits_is_refused_with_the_way_to_them(
    given: object, words: str, place: str, unchecked: None
) -> None:
    with pytest.raises(ValueError, match=rf"Logits: {place} must be one tensor of logits, {words}"):
        Logits(**{**GOOD, place: given})


@pytest.mark.parametrize("layout", [images, tokens, pixels, rois])
def test_layouts_refuse_what_is_no_tensor_of_logits(layout: Callable[..., Logits], unchecked: None) -> None:
    with pytest.raises(ValueError, match="teacher must be one tensor of logits"):
        layout(random(3, C), (random(3, C),), labels(3))


def test_arrays_lists_and_integers_of_any_size_are_labels() -> None:
    y = labels(3)
    frozen = y.numpy().copy()
    frozen.setflags(write=False)
    for given in (y.int(), y.short(), y.byte(), y.char(), y.numpy(), y.numpy().astype("uint16"), y.tolist(), frozen):
        found = Logits(random(3, C), random(3, C), given).target
        assert found.dtype == torch.int64
        assert torch.equal(found, y)
    soft = random(3, C).softmax(1)
    assert torch.equal(Logits(random(3, C), random(3, C), soft.numpy()).target, soft)


def test_arrays_are_weights(unchecked: None) -> None:
    weight = random(3).square()
    assert torch.equal(Logits(random(3, C), random(3, C), weight=weight.numpy()).weight, weight)


# -- soft labels that are none, teachers that end in a softmax -------------------------------------

SOFT = random(3, C).softmax(1)


def changed(row: int, *values: float) -> Tensor:
    """Soft labels with one row replaced."""
    target = SOFT.clone()
    target[row] = torch.tensor([*values, *[0.0] * (C - len(values))])
    return target


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (changed(1, 1, 1), r"row 1 sums to 2.*several labels of one row target / target\.sum"),
        (changed(2), "row 2 sums to 0"),
        (changed(0, 0.5, 0.2), "row 0 sums to 0.7"),
        (changed(1, 1.5, -0.5), r"row 1 holds -0\.5.*for logits give target\.softmax\(1\)"),
        (5 * random(3, C), r"target\.softmax"),
        (changed(2, float("nan"), 1), "is not finite in row 2"),
        (changed(2, float("inf")), "is not finite in row 2"),
    ],
    ids=["two labels", "no label", "less than one", "negative", "logits", "NaN", "inf"],
)
def test_soft_labels_that_are_no_distribution_are_refused(target: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=f"target .*{words}"):
        Logits(random(3, C), random(3, C), target)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rounded_distributions_over_many_classes_are_soft_labels(dtype: torch.dtype) -> None:
    z = random(4, 1000)
    assert Logits(z, z, (3 * z).softmax(1).to(dtype)).soft


@pytest.mark.parametrize(
    ("dtype", "factor"), [(torch.float64, 1.01), (torch.float32, 0.99), (torch.bfloat16, 1.1), (torch.float16, 0.9)]
)
def test_rounding_excuses_no_more_than_rounding(dtype: torch.dtype, factor: float) -> None:
    with pytest.raises(ValueError, match="row 0 sums to"):
        Logits(random(3, C), random(3, C), (factor * SOFT).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("place", ["student", "teacher"])
def test_a_network_that_ends_in_a_softmax_is_named(place: str, dtype: torch.dtype) -> None:
    given = {name: x.to(dtype) if x.is_floating_point() else x for name, x in GOOD.items()}
    with pytest.warns(UserWarning, match=rf"{place} holds probabilities.*{place}\.clamp\(min=1e-12\)\.log\(\)"):
        Logits(**{**given, place: given[place].softmax(1)})


def test_logits_are_not_taken_for_probabilities() -> None:
    one_hot = torch.eye(C).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for teacher in (random(3, C), random(3, C).log_softmax(1), random(3, C).abs(), one_hot[:3], torch.zeros(3, C)):
            Logits(random(3, C), teacher.double(), labels(3))
        Logits(random(0, C), random(0, C), labels(0))


@pytest.mark.parametrize("target", [torch.full((3,), 99), torch.full((3, C), 2.0), None], ids=["hard", "soft", "none"])
def test_no_value_is_read_on_a_device_that_would_have_to_wait(target: Tensor | None) -> None:
    z, t = (
        random(3, C).to("meta"),
        random(3, C).softmax(1).to("meta"),
    )  # reading a value of these raises
    lg = Logits(z, t, None if target is None else target.to("meta"), weight=z[:, 0], teachers=(t,), ranking=t)
    assert lg[:2].total_weight.device.type == "meta"
    assert images(z, t).rows == tokens(z[None], t[None]).rows == rois(z, t).rows == 3


def test_gradients_per_row_are_taken_by_the_transforms_of_torch() -> None:
    z, t, y = random(4, C), random(4, C, seed=1), labels(4)

    def loss(z: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return Task()(Logits(z[None], t[None], y[None]), Progress()).sum()

    found = torch.func.vmap(torch.func.grad(loss))(z, t, y)
    assert_equal(found, z.softmax(1) - torch.nn.functional.one_hot(y, C), "", 1e-12)


@pytest.mark.compiled
def test_values_are_not_looked_at_under_compile() -> None:
    def total(z: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return Logits(z, t, y).target.sum()

    wrong = (random(3, C), random(3, C).softmax(1), torch.full((3, C), 2.0).double())
    assert torch.compile(total, backend="eager", fullgraph=True)(*wrong) == 6 * C


# -- rows without labels ---------------------------------------------------------------------------


def test_rows_without_labels_say_so_where_one_is_read() -> None:
    lg = replace(everything(6), target=None)
    assert lg[torch.tensor([4, 1])].target is None
    for read in (lambda: lg.labels, lambda: lg.soft, lambda: fr.by_target(lg), lambda: Task()(lg, Progress())):
        with pytest.raises(ValueError, match=r"no labels \(target=None\).*ce_weight=0"):
            read()


# -- made under inference mode ---------------------------------------------------------------------


def test_what_was_made_under_inference_mode_can_be_trained_with() -> None:
    z = random(3, C).requires_grad_()
    with torch.inference_mode():
        made = {"teacher": random(3, C, seed=1), "target": labels(3), "weight": random(3).square()}
        made |= {"ranking": random(3, C, seed=2), "teachers": (random(3, C, seed=3),)}
        soft = random(3, C, seed=4).softmax(1)
        assert Logits(z, **made).teacher.is_inference()
    for given in (made, {**made, "target": soft}):
        lg = Logits(z, **given)
        total = (lg.student * lg.teacher * lg.teachers[0] * lg.ranking).sum(1) * lg.weight
        (total.sum() + Task()(lg, Progress()).sum()).backward()
        assert torch.equal(lg.teacher, made["teacher"])


# -- blame -----------------------------------------------------------------------------------------


def broken(x: Tensor, row: int, value: float) -> Tensor:
    """A copy with one entry of a row replaced."""
    x = x.clone()
    x.view(len(x), -1)[row, 0] = value
    return x


BLAMED = {
    "the student logits are": lambda lg, bad: replace(lg, student=bad(lg.student)),
    "the teacher logits are": lambda lg, bad: replace(lg, teacher=bad(lg.teacher)),
    r"the logits of teachers\[0\] are": lambda lg, bad: replace(lg, teachers=(bad(lg.teachers[0]),)),
    "the extra loss 'hint' is": lambda lg, bad: replace(lg, extra={"hint": bad(lg.extra["hint"])}),
    "the weight is": lambda lg, bad: replace(lg, weight=bad(lg.weight)),
    "in the strong view the teacher logits are": lambda lg, bad: replace(
        lg, strong=replace(lg.strong, teacher=bad(lg.strong.teacher))
    ),
    "in the regions the student logits are": lambda lg, bad: replace(
        lg, regions=replace(lg.regions, student=bad(lg.regions.student))
    ),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", BLAMED)
def test_the_input_that_is_not_finite_is_named_with_its_row(name: str, value: float) -> None:
    lg = BLAMED[name](everything(6), lambda x: broken(x, 2, value))
    assert re.fullmatch(f"{name} not finite in row 2", blame(lg, 5))
    assert blame(everything(6), 5) == "student and teacher logits are finite there"


def test_labels_that_are_none_are_not_blamed_and_soft_ones_that_became_nan_are() -> None:
    lg = everything(6)
    bare = replace(lg, target=None, teacher=broken(lg.teacher, 3, float("nan")))
    assert blame(bare, 3) == "the teacher logits are not finite in row 3"
    soft = replace(lg, target=random(6, C).softmax(1))
    soft.target[4, 0] = float("nan")  # what was looked at when it was given may change afterwards
    assert blame(soft, 4) == "the target is not finite in row 4"


def test_of_several_the_input_of_the_row_in_question_is_named() -> None:
    lg = everything(6)
    lg = replace(lg, student=broken(lg.student, 0, -float("inf")), teacher=broken(lg.teacher, 3, float("nan")))
    assert blame(lg, 3) == "the teacher logits are not finite in row 3"
    assert blame(lg, 5) == "the student logits are not finite in row 0"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named_by_the_loss(value: float) -> None:
    lg = Logits(random(3, C), random(3, C), labels(3), weight=torch.tensor([1.0, value, 1.0]))
    with pytest.raises(ValueError, match=r"the weight is (nan|inf) in row 1"):
        fr.methods.kd().loss(lg)


def test_a_loss_that_is_not_finite_names_the_input() -> None:
    z, t = random(3, C), random(3, C)
    with pytest.raises(ValueError, match=r"'kd' is nan in row 1; the teacher logits are not finite in row 1"):
        fr.methods.kd().loss(Logits(z, broken(t, 1, float("nan")), labels(3)))


# -- labels of views -------------------------------------------------------------------------------


def test_a_second_view_with_other_soft_labels_is_refused() -> None:
    z, t, soft = random(3, C), random(3, C, seed=1), random(3, C, seed=2).softmax(1)
    Logits(z, t, soft, strong=Logits(z, t, soft.clone()))
    with pytest.raises(ValueError, match=r"row 0 of the strong view has other soft labels than here"):
        Logits(z, t, soft, strong=Logits(z, t, soft.roll(1, 0)))


def test_regions_whose_own_labels_lie_in_another_order_are_refused() -> None:
    y, r = torch.arange(3), 2
    Logits(random(3, C), random(3, C), y, regions=Logits(random(6, C), random(6, C), y.repeat_interleave(r)))
    with pytest.raises(ValueError, match=r"region 1 has the label 1 and its row 0: regions lie row by row"):
        Logits(random(3, C), random(3, C), y, regions=Logits(random(6, C), random(6, C), y.repeat(r)))


def test_the_field_s_label_of_void_is_refused_where_it_is_a_class() -> None:
    y = torch.full((1, 2, 2), 255)
    z = torch.randn(1, 300, 2, 2)
    with pytest.raises(ValueError, match=r"ignore_index=255 is one of these 300 classes"):
        pixels(z, z, y)
    with pytest.raises(ValueError, match=r"ignore_index=255 is one of these 300 classes"):
        fr.pixel_losses(fr.methods.kd(), z, z, y)
    assert pixels(z, z, y, ignore_index=-1).rows == 4
    assert pixels(z[:, :255], z[:, :255], y).rows == 0
