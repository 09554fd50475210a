"""What cannot work is refused where it is built, in words that name the argument."""

from __future__ import annotations

from dataclasses import replace

import pytest

import fractionate as fr
from fractionate import Progress
from fractionate.methods import Method, Part
from fractionate.schedules import constant
from tests import cases
from tests.methods.contract_rows import METHODS

M = fr.methods
BAD = [
    ("ce_weight", -1.0),
    ("ce_weight", float("nan")),
    ("label_smoothing", 1.5),
    ("label_smoothing", -0.1),
    ("warmup", -2),
    ("warmup", float("inf")),
    ("hard", "maybe"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("argument", "value"), BAD)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_refuses_a_bad_shared_argument_by_name(name: str, argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=argument) as said:
        METHODS[name].make().with_args(**{argument: value})
    assert (METHODS[name].make().origin.function.__name__ in str(said.value)) or name == "ctkd"  # kd's, inside


@pytest.mark.parametrize("name", METHODS)
def test_every_method_names_the_nearest_shared_argument(name: str) -> None:
    with pytest.raises(TypeError, match="warmup"):
        M.catalog.find(name)(warmpu=3)


UNLEARNABLE = {
    "logit_mse": M.logit_mse,
    "lskd(logit_mse)": lambda: M.lskd(M.logit_mse()),
    "sdd(ttm)": lambda: M.sdd(M.ttm()),
    "with_contrast(rld)": lambda: M.with_contrast(M.rld()),
    "per_teacher(topkd)": lambda: M.per_teacher(M.topkd(k=2)),
    "mlkd": M.mlkd,
    "crld": M.crld,
    "grouped": M.grouped,
    "gdkd_auto_k": M.gdkd_auto_k,
    "adkd": M.adkd,
    "ctkd(kd)": lambda: M.ctkd(M.kd()),
    "swap(ctkd(dkd))": lambda: M.swap(M.ctkd(M.dkd())),
    "of one's own": lambda: Method(
        name="own",
        parts={"task": Part(constant(1.0), "task"), "gap": Part(constant(1.0))},
        terms=lambda lg, progress: {"gap": (lg.student - lg.teacher).square().mean(1)},
    ),
}


@pytest.mark.parametrize("make", UNLEARNABLE.values(), ids=UNLEARNABLE)
def test_a_temperature_that_cannot_be_learned_is_refused_where_it_is_built(make: object) -> None:
    with pytest.raises(ValueError, match="no temperature that can be learned"):
        M.ctkd(make())


@pytest.mark.parametrize(
    "make", [M.gdkd, M.ttm, M.dist, lambda: M.lskd(M.logit_mse()), lambda: M.with_contrast(M.gdkd(), role="task")]
)
def test_a_mask_without_a_label_partition_is_refused_where_it_is_built(make: object) -> None:
    with pytest.raises(ValueError, match="label partition"):
        M.deepkd(make(), keep=2)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_a_mask_schedule_must_return_a_fraction(fraction: float) -> None:
    masked = M.deepkd(M.dkd(), keep=constant(fraction))
    with pytest.raises(ValueError, match="fraction"):
        masked.components(cases.easy(), Progress())


def test_a_method_of_one_s_own_says_why_it_has_no_arguments() -> None:
    own = replace(M.dkd(), origin=None, name="mine")
    with pytest.raises(ValueError, match=r"mine: .*not made by a function of fractionate.*temperature"):
        own.with_args(temperature=2.0)


@pytest.mark.parametrize("make", [M.skd, M.sgdkd])
@pytest.mark.parametrize("seed", [0, 2**31, 2**32 + 1, 2**53 + 1, 2**62, 2**63 - 1])
def test_random_groups_are_drawn_at_any_seed(make: object, seed: int) -> None:
    lg = cases.easy()
    first, again, other = (make(seed=s).components(lg, Progress(step=3)) for s in (seed, seed, seed - 1 if seed else 1))
    name = list(first)[-1]
    assert first[name].equal(again[name])
    assert not first[name].equal(other[name])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("seed", [2**63, 10**30, -1, 1.5])
def test_a_seed_that_no_generator_takes_is_refused(seed: object) -> None:
    with pytest.raises(ValueError, match="seed"):
        M.skd(seed=seed)


@pytest.mark.parametrize("found", [0, -0.1, 1.5, float("nan"), None, "half"])
def test_a_schedule_of_a_mask_that_returns_no_fraction_is_refused_in_words(found: object) -> None:
    method = fr.methods.deepkd(fr.methods.dkd(), keep=lambda progress: found)
    with pytest.raises(ValueError, match=r"keep: the schedule must return a fraction of the classes in \(0, 1\]"):
        method.loss(cases.easy())
