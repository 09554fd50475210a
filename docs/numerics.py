"""The page on large logits: cases generated, computed and counted whenever the documentation is built.

A case is a method, a kind of logits, a dtype, a temperature and a path (compiled kernels or torch operations). Its
values are compared with a float64 reference on the same logits, the plain path of ``split_kl``; values and gradients
that are not finite are counted.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import torch
from cost import cost
from generate import table
from torch import Tensor

import fractionate as fr
from fractionate import Logits, methods, testing
from fractionate.kernels import c_split
from fractionate.kernels.c_library import library
from fractionate.testing.inputs import cast

TEMPERATURES = (0.5, 1.0, 3.0, 4.0, 20.0)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CLASSES, VOCABULARY = 9, 33_000  # the second is more than split_kl keeps: it is read twice, some rows at a time
K = 3
Terms = dict[str, Tensor]
TORCH, KERNELS = "torch operations", "compiled kernels"
PATHS = (KERNELS, TORCH) if library() else (TORCH,)


class Case(NamedTuple):
    """Which logits, which method."""

    kind: str
    dtype: torch.dtype
    temperature: float
    method: str
    path: str = TORCH


class Found(NamedTuple):
    """Values and gradient entries that are not finite, and the worst error as a share of the allowed one."""

    bad: int
    worst: float


# -- logits ----------------------------------------------------------------------------------


def easy(seed: int) -> Logits:
    return testing.easy_rows(8, CLASSES, seed=seed)


def near(seed: int) -> Logits:
    """Everything around 10000: what counts is small against it."""
    lg = easy(seed)
    return Logits(lg.student + 1e4, lg.teacher + 1e4, lg.target)


def spread(seed: int) -> Logits:
    lg = easy(seed)
    return Logits(50 * lg.student, 25 * lg.teacher, lg.target)


def tied(seed: int) -> Logits:
    lg = easy(seed)
    return Logits(lg.student, (lg.teacher / 4).round().clamp(-1, 1), lg.target)


def confident(seed: int, right: bool) -> Logits:
    """The teacher's label, or the class after it, is 200 above all others; half of the students deny it as firmly."""
    lg = easy(seed)
    at = (lg.target if right else (lg.target + 1) % CLASSES)[:, None]
    teacher = lg.teacher.scatter(1, at, lg.teacher.amax(1, keepdim=True) + 200)
    denied = lg.student.scatter(1, at, lg.student.amin(1, keepdim=True) - 200)
    return Logits(torch.cat([lg.student[:4], denied[4:]]), teacher, lg.target)


def huge(seed: int) -> Logits:
    return testing.huge_rows(CLASSES, seed=seed)


def vocabulary(seed: int) -> Logits:
    """Two tokens; every hundredth logit is +-10000."""
    lg = testing.easy_rows(2, VOCABULARY, seed=seed)
    student, teacher = lg.student.clone(), lg.teacher.clone()
    student[:, ::100], teacher[:, ::100] = (1e4 * z[:, ::100].sign() for z in (student, teacher))
    return Logits(student, teacher, lg.target)


KINDS: dict[str, Callable[[int], Logits]] = {
    "spread 2 and 4": easy,
    "spread 100": spread,
    "all near 10 000": near,
    "equal logits": tied,
    "teacher certain, right": partial(confident, right=True),
    "teacher certain, wrong": partial(confident, right=False),
    "+-10 000": huge,
    "+-10 000 in 33 000 classes": vocabulary,
}

# -- methods and their references ------------------------------------------------------------


def _parts(
    make: Callable[[Logits], fr.losses.Partition], direction: str = "forward", **groups: int | None
) -> Callable[[Logits, float], Terms]:
    """Components read off the plain split: a group's ``within``, or ``between`` where the group is None."""

    def terms(lg: Logits, temperature: float) -> Terms:
        split = fr.split_kl(lg.student, lg.teacher, make(lg), temperature, fused=False, direction=direction)
        return {name: split.between if g is None else split.within[:, g] for name, g in groups.items()}

    return terms


def _masked(lg: Logits, temperature: float) -> Terms:
    """DeepKD's mask: TCKD over all classes, NCKD over the kept ones."""
    inside = _parts(lambda lg: fr.by_target_top(lg, K), nontarget=1)(lg, temperature)
    return _parts(fr.by_target, target=None)(lg, temperature) | inside


METHODS: dict[str, tuple[Callable[[float], methods.Method], Callable[[Logits, float], Terms]]] = {
    "kd": (lambda t: methods.kd(temperature=t), _parts(fr.losses.whole, kd=0)),
    "dkd": (lambda t: methods.dkd(temperature=t), _parts(fr.by_target, target=None, nontarget=1)),
    "dkd_top1": (lambda t: methods.dkd_top1(temperature=t), _parts(fr.by_teacher_top1, target=None, nontarget=1)),
    "gdkd": (
        lambda t: methods.gdkd(temperature=t, k=K),
        _parts(lambda lg: fr.by_top(lg, K), between=None, top=0, other=1),
    ),
    "gdkd(largest=False)": (
        lambda t: methods.gdkd(temperature=t, k=K, largest=False),
        _parts(lambda lg: fr.by_top(lg, K, largest=False), between=None, top=0, other=1),
    ),
    "gdkd3": (
        lambda t: methods.gdkd3(temperature=t, k=K),
        _parts(lambda lg: fr.by_top1_top(lg, K), between=None, top=1, other=2),
    ),
    "kd(reverse)": (lambda t: methods.kd(temperature=t, direction="reverse"), _parts(fr.losses.whole, "reverse", kd=0)),
    "kd(jsd)": (lambda t: methods.kd(temperature=t, direction="jsd"), _parts(fr.losses.whole, "jsd", kd=0)),
    "dkd(reverse)": (
        lambda t: methods.dkd(temperature=t, direction="reverse"),
        _parts(fr.by_target, "reverse", target=None, nontarget=1),
    ),
    "gdkd(skew)": (
        lambda t: methods.gdkd(temperature=t, k=K, direction="skew"),
        _parts(lambda lg: fr.by_top(lg, K), "skew", between=None, top=0, other=1),
    ),
    "gdkd(skew_reverse)": (
        lambda t: methods.gdkd(temperature=t, k=K, direction="skew_reverse"),
        _parts(lambda lg: fr.by_top(lg, K), "skew_reverse", between=None, top=0, other=1),
    ),
    "deepkd(dkd, keep=3)": (lambda t: methods.deepkd(methods.dkd(temperature=t), keep=K), _masked),
}

# -- running and counting --------------------------------------------------------------------


def cases() -> Iterator[Case]:
    """Every combination."""
    yield from (Case(*each) for each in product(KINDS, DTYPES, TEMPERATURES, METHODS, PATHS))


@contextmanager
def taking(path: str) -> Iterator[None]:
    """All losses take this path."""
    before = c_split.library
    c_split.library = before if path == KERNELS else lambda: None
    try:
        yield
    finally:
        c_split.library = before


def run() -> dict[Case, Found]:
    """Every case computed."""
    rows = {
        (kind, dtype, t): cast(make(seed), dtype)
        for kind, make in KINDS.items()
        for seed, t in enumerate(TEMPERATURES)
        for dtype in DTYPES
    }
    found = {}
    for case in cases():
        with taking(case.path):
            found[case] = compute(case, rows[case[:3]])
    return found


def compute(case: Case, lg: Logits) -> Found:
    """One case: |value - reference| against 1e-4 |reference| + 1e-6 T^2, entry by entry."""
    make, reference = METHODS[case.method]
    student = lg.student.clone().requires_grad_()
    found = make(case.temperature).terms(Logits(student, lg.teacher, lg.target), fr.Progress())
    (grad,) = torch.autograd.grad(sum(x.sum() for x in found.values()), student)
    exact = reference(cast(lg, torch.float64), case.temperature)
    bad, worst = int((~grad.isfinite()).sum()), 0.0
    for name, values in exact.items():
        allowed = 1e-4 * values.abs() + 1e-6 * case.temperature**2
        bad += int((~found[name].isfinite()).sum())
        worst = max(worst, float(((found[name].detach() - values).abs() / allowed).max()))
    return Found(bad, worst)


# -- the page --------------------------------------------------------------------------------

PAGE = """\
# Large logits, and what a loss costs

Every logarithm of a probability is a difference of log-sum-exps relative to the largest logit of its group, float16 and
bfloat16 are computed in float32, and the largest logit is subtracted before dividing by T wherever that rounds. So no
value is infinite or NaN as long as the logits are finite, however certain the networks are.

## Cases

{count} cases, generated and computed when this page was built:

- paths: {paths}
- methods: {methods}
- temperatures: {temperatures}
- logits of every kind below, with labels drawn at random (near 10 000 all logits are equal in bfloat16)

Each was compared with a float64 reference on the same (rounded) logits. *Not finite* counts values and gradients; the
worst error is given as a share of what is allowed, 1e-4 |reference| + 1e-6 T^2, so below 1 is right. The last kind is
larger than what `split_kl` keeps between its two passes.

{cases}
"""


def page() -> str:
    """Cases first, then the cost as it was last measured."""
    found = run()
    rows = [_kind_row(found, kind, dtype) for kind in KINDS for dtype in DTYPES]
    head = ["logits", "dtype", "cases", "not finite", *(f"worst, T = {t:g}" for t in TEMPERATURES)]
    text = PAGE.format(
        count=len(found),
        paths=" and ".join(f"{path} ({sum(case.path == path for case in found)} cases)" for path in PATHS),
        methods=", ".join(f"`{name}`" for name in METHODS),
        temperatures=", ".join(f"{t:g}" for t in TEMPERATURES),
        cases=table(head, rows),
    )
    return f"{text}\n{cost()}"


def _kind_row(found: dict[Case, Found], kind: str, dtype: torch.dtype) -> list[str]:
    mine = {case: f for case, f in found.items() if (case.kind, case.dtype) == (kind, dtype)}
    worst = [max(f.worst for case, f in mine.items() if case.temperature == t) for t in TEMPERATURES]
    name = str(dtype).removeprefix("torch.")
    return [kind, name, str(len(mine)), str(sum(f.bad for f in mine.values())), *(f"{w:.2g}" for w in worst)]
