"""The contract table: one row per method of the catalog, and per combination of wrappers that reads other logits.

A newcomer adds one row. Every claim of a row is proved, or disproved where it is not made, by ``fractionate.testing``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

import fractionate as fr
from fractionate import Method, Progress
from fractionate.testing import Contract, Needs
from tests.reference import newer

M = fr.methods
DKD = ("target", "nontarget")
GDKD = ("between", "top", "other")
Twin = Callable[[fr.Logits], Mapping[str, Tensor]]
TWO_VIEWS = Needs(views=2)
TOKEN = Needs(token=True)
TWO_TEACHERS = Needs(teachers=2)
HINT = Needs(extras=("hint",))
REGIONS = Needs(regions=(1, 2))
DOT = ("task", "distillation")
DEEPKD = ("task", "target", "nontarget")


@dataclass(frozen=True)
class Row:
    """How a method is made, what holds for it, and its slow twin, which gives its components, or their means, of rows.

    The twins of older methods are compared in ``tests/reference/test_methods.py``.
    """

    make: Callable[[], Method]
    contract: Contract
    twin: Twin | None = None


def row(
    make: Callable[[], Method],
    components: tuple[str, ...],
    zero: str = "all",
    twin: Twin | None = None,
    **claims: object,
) -> Row:
    """A row; ``zero`` names the components that vanish at the teacher: all, none, or a list of words."""
    vanishing = {"all": components, "none": ()}.get(zero, tuple(zero.split()))
    return Row(make, Contract(components=components, zero_at_teacher=vanishing, **claims), twin)


METHODS: dict[str, Row] = {
    "kd": row(M.kd, ("kd",), roles=True),
    "dkd": row(M.dkd, DKD, roles=True, needs_labels=True),
    "dkd_top1": row(M.dkd_top1, DKD, roles=True),
    "drkl": row(M.drkl, DKD, roles=True, needs_labels=True),
    "tpkd": row(M.tpkd, ("conditional",), needs_labels=True, held_constant=True),
    "atkd": row(M.atkd, DKD, twin=newer.atkd_rows, roles=True, needs_labels=True, row_wise=False),
    "gkd": row(M.gkd, ("kd",), twin=newer.gkd_rows, roles=True),
    "distillm": row(M.distillm, ("kd",), twin=newer.distillm_rows, roles=True),
    "tad": row(lambda: M.tad(k=3), ("head", "tail"), twin=newer.tad_rows, roles=True, row_wise=False),
    "gdkd": row(M.gdkd, GDKD, roles=True),
    "gdkd3": row(M.gdkd3, GDKD, roles=True),
    "gdkd_auto_weight": row(M.gdkd_auto_weight, GDKD, roles=True),
    "gdkd_auto_k": row(M.gdkd_auto_k, GDKD, roles=True),
    "gdkd_class_k": row(M.gdkd_class_k, GDKD, roles=True, needs_labels=True, row_wise=False),
    "ls_gdkd": row(M.ls_gdkd, GDKD, roles=True),
    "sgdkd": row(
        M.sgdkd,
        ("between", "random"),
        roles=True,
        needs_labels=True,
        row_wise=False,
        class_symmetric=False,
        random=True,
    ),
    "skd": row(M.skd, ("kd",), row_wise=False, class_symmetric=False, random=True),
    "adkd": row(M.adkd, DKD, roles=True, needs_labels=True, row_wise=False),
    "dgkd": row(M.dgkd, (*DKD, "coupling"), roles=True, needs_labels=True),
    "topkd": row(
        lambda: M.topkd(k=3),
        ("contrastive", "decoupled"),
        zero="none",
        needs_labels=True,
        row_wise=False,
        shift_invariant=False,
    ),
    "rld": row(M.rld, DKD, zero="nontarget", roles=True, needs_labels=True),
    "grouped": row(M.grouped, ("between", "primary")),
    "ltkd": row(
        M.ltkd,
        ("between", "within0", "within1", "within2"),
        zero="within0 within1 within2",
        twin=newer.ltkd_rows,
        row_wise=False,
        class_symmetric=False,
    ),
    "ldrld": row(lambda: M.ldrld(k=3), ("pairs", "top", "rest"), twin=newer.ldrld_rows),
    "tie_kd": row(lambda: M.tie_kd(k=3), ("kl", "rank"), twin=newer.tie_rows),
    "mlkd": row(
        M.mlkd,
        ("kd", "class_correlation", "batch_correlation"),
        roles=True,
        row_wise=False,
        needs=TWO_VIEWS,
    ),
    "crld": row(M.crld, ("within_view", "cross_view"), zero="within_view", roles=True, needs=TWO_VIEWS),
    "ctkd": row(M.ctkd, ("kd",), roles=True),
    "dist": row(M.dist, ("inter", "intra"), zero="none", row_wise=False),
    "nkd": row(M.nkd, DKD, zero="none", roles=True, needs_labels=True),
    "ttm": row(M.ttm, ("ttm",), zero="none"),
    "wttm": row(M.wttm, ("wttm",), zero="none"),
    "wsld": row(M.wsld, ("kd",), zero="none", needs_labels=True, held_constant=True),
    "ofa": row(lambda: M.ofa(gamma=1.5), ("ofa",), zero="none", needs_labels=True),
    "sld": row(M.sld, ("kd", "self_kd"), zero="self_kd", needs_labels=True, needs=TWO_VIEWS),
    "logit_mse": row(M.logit_mse, ("mse",), shift_invariant=False),
    "deit": row(M.deit, ("hard",), zero="none", twin=newer.deit_rows, needs=TOKEN),
    "dist_gdkd": row(M.dist_gdkd, ("inter", "intra", *GDKD), zero="between top other", roles=True, row_wise=False),
    "gram_direction": row(
        M.gram_direction, ("kd", "direction"), twin=newer.gram_rows, row_wise=False, shift_invariant=False
    ),
}

WRAPPERS: dict[str, Row] = {
    "dot": row(lambda: M.dot(M.kd()), ("kd",), roles=True, streams=DOT, backward_passes=2),
    "deepkd": row(
        lambda: M.deepkd(M.dkd(), keep=3), DKD, roles=True, needs_labels=True, streams=DEEPKD, backward_passes=2
    ),
    "lskd": row(lambda: M.lskd(M.kd()), ("kd",), roles=True),
    "swap": row(lambda: M.swap(M.kd()), ("kd",), zero="none", roles=True, needs_labels=True),
    "sdd": row(lambda: M.sdd(M.kd(), scales=(1, 2)), ("kd",), roles=True, needs_labels=True, needs=REGIONS),
    "on_view": row(lambda: M.on_view(M.kd()), ("kd",), roles=True, needs=TWO_VIEWS),
    "mixture_of_teachers": row(lambda: M.mixture_of_teachers(M.kd()), ("kd",), roles=True, needs=TWO_TEACHERS),
    "per_teacher": row(
        lambda: M.per_teacher(M.kd(), shifts=[0.1, -0.1]),
        ("kd_1", "kd_2"),
        roles=True,
        needs=TWO_TEACHERS,
        streams=("task", "teacher_1", "teacher_2"),
        backward_passes=3,
    ),
    "with_extra": row(
        lambda: M.with_extra(M.kd(), name="hint", shift=0.1),
        ("kd", "hint"),
        zero="kd",
        needs=HINT,
        streams=("loss", "hint"),
        backward_passes=2,
    ),
    "reweighted": row(lambda: M.reweighted(M.dot(M.kd())), ("kd",)),
    "with_scaled_teacher": row(
        lambda: M.with_scaled_teacher(M.kd(), k=3),
        ("kd",),
        zero="none",
        roles=True,
        needs_labels=True,
        shift_invariant=False,
    ),
    "with_contrast": row(
        lambda: M.with_contrast(M.kd()),
        ("kd", "contrastive"),
        zero="kd",
        row_wise=False,
        shift_invariant=False,
    ),
    "with_top_cosine": row(
        lambda: M.with_top_cosine(M.dkd(), k=3, role="nontarget"),
        (*DKD, "decoupled"),
        zero="target nontarget",
        roles=True,
        needs_labels=True,
        shift_invariant=False,
    ),
    "ea": row(lambda: M.ea(M.kd()), ("kd",), roles=True, held_constant=True),
}

# Other forms, and combinations whose terms are not simply those of a row above.
COMBINATIONS: dict[str, Row] = {
    "kd+deepkd": row(
        lambda: M.deepkd(M.kd(), delta_task=0.02),
        DKD,
        roles=True,
        needs_labels=True,
        streams=DEEPKD,
        backward_passes=3,
    ),
    "kd+deepkd, published": row(
        lambda: M.deepkd(M.kd(kd_weight=1.0), rule="published-code"),
        DKD,
        roles=True,
        needs_labels=True,
        row_wise=False,
        streams=DEEPKD,
        backward_passes=3,
    ),
    "mlkd+deepkd": row(
        lambda: M.deepkd(M.mlkd(beta=4.0), keep=4),
        (*DKD, "class_correlation", "batch_correlation"),
        roles=True,
        needs_labels=True,
        row_wise=False,
        needs=TWO_VIEWS,
        streams=DEEPKD,
        backward_passes=2,
    ),
    "crld+deepkd": row(
        lambda: M.deepkd(M.crld()),
        ("within_target", "cross_target", "within_nontarget", "cross_nontarget"),
        zero="within_target within_nontarget",
        roles=True,
        needs_labels=True,
        needs=TWO_VIEWS,
        streams=DEEPKD,
        backward_passes=2,
    ),
    "nkd+deepkd": row(
        lambda: M.deepkd(M.nkd(), keep=3),
        DKD,
        zero="none",
        roles=True,
        needs_labels=True,
        streams=DEEPKD,
        backward_passes=2,
    ),
    "mlkd, one view": row(
        lambda: M.mlkd(form="one_view"), ("kd", "class_correlation", "batch_correlation"), roles=True, row_wise=False
    ),
    "mlkd, published": row(
        lambda: M.mlkd(form="published-code"),
        ("kd", "class_correlation", "batch_correlation"),
        roles=True,
        deepkd_keeps_loss=False,
        row_wise=False,
        needs=TWO_VIEWS,
    ),
    "sld, late": row(
        lambda: M.sld(start_epoch=0, detach=False, views=1), ("kd", "self_kd"), zero="none", needs_labels=True
    ),
    "sld, last epoch": row(
        lambda: M.sld(start_epoch=9, detach=False),
        ("kd", "self_kd"),
        zero="none",
        needs_labels=True,
        needs=TWO_VIEWS,
        progress=Progress(epoch=10, epochs=10),
    ),
    "gdkd, worst": row(lambda: M.gdkd(largest=False, kl="both"), GDKD, roles=True),
    "gdkd_class_k, counts": row(
        lambda: M.gdkd_class_k(counts=[1, 2, 6, 3, 3, 1, 5]), GDKD, roles=True, needs_labels=True, class_symmetric=False
    ),
    "adkd, betas": row(
        lambda: M.adkd(betas=[1.0, 2.0, 0.5, 8.0, 3.0, 1.0, 4.0]),
        DKD,
        roles=True,
        needs_labels=True,
        class_symmetric=False,
    ),
    "ls_gdkd, both": row(lambda: M.ls_gdkd(mode="both"), GDKD, roles=True),
    "logit_mse, centred": row(lambda: M.logit_mse(center=True), ("mse",)),
    "grouped, whole": row(lambda: M.grouped(w_secondary=1.0), ("between", "primary", "secondary")),
    "dkd+lskd": row(lambda: M.lskd(M.dkd()), DKD, roles=True, needs_labels=True),
    "gdkd+lskd": row(lambda: M.lskd(M.gdkd()), GDKD, roles=True),
    "nkd+lskd": row(lambda: M.lskd(M.nkd()), DKD, zero="none", roles=True, needs_labels=True),
    "rld+lskd": row(lambda: M.lskd(M.rld()), DKD, zero="nontarget", roles=True, needs_labels=True),
    "dist+lskd": row(lambda: M.lskd(M.dist()), ("inter", "intra"), zero="none", row_wise=False),
    "logit_mse+lskd": row(lambda: M.lskd(M.logit_mse()), ("mse",)),
    "mlkd+lskd": row(
        lambda: M.lskd(M.mlkd()),
        ("kd", "class_correlation", "batch_correlation"),
        roles=True,
        row_wise=False,
        needs=TWO_VIEWS,
    ),
    "crld+lskd": row(
        lambda: M.lskd(M.crld()), ("within_view", "cross_view"), zero="within_view", roles=True, needs=TWO_VIEWS
    ),
    "kd+lskd+ctkd": row(lambda: M.ctkd(M.lskd(M.kd(), temperature=None)), ("kd",), roles=True),
    "dkd+ctkd+deepkd": row(
        lambda: M.deepkd(M.ctkd(M.dkd()), keep=3),
        DKD,
        roles=True,
        needs_labels=True,
        streams=DEEPKD,
        backward_passes=2,
    ),
    "gdkd3+swap+lskd": row(lambda: M.lskd(M.swap(M.gdkd3())), GDKD, zero="none", roles=True, needs_labels=True),
    "nkd+sdd": row(
        lambda: M.sdd(M.nkd(), scales=(1, 2)), DKD, zero="none", roles=True, needs_labels=True, needs=REGIONS
    ),
    "dkd+sdd+lskd+deepkd": row(
        lambda: M.deepkd(M.lskd(M.sdd(M.dkd(), scales=(1, 2))), keep=3),
        DKD,
        roles=True,
        needs_labels=True,
        needs=REGIONS,
        streams=DEEPKD,
        backward_passes=2,
    ),
    "dkd+mixture": row(
        lambda: M.mixture_of_teachers(M.dkd(), weights=[1, 3]), DKD, roles=True, needs_labels=True, needs=TWO_TEACHERS
    ),
    "gdkd+per_teacher+deepkd": row(
        lambda: M.deepkd(M.per_teacher(M.gdkd())),
        tuple(f"{name}_{k}" for k in (1, 2) for name in GDKD),
        roles=True,
        needs=TWO_TEACHERS,
        streams=DEEPKD,
        backward_passes=2,
    ),
    "gkd, top and tail": row(lambda: M.gkd(beta=0.3, k=2), ("kd",)),
    "gkd, top alone": row(lambda: M.gkd(beta=1.0, k=3, tail=False), ("kd",)),
    "atkd, reverse+deepkd": row(
        lambda: M.deepkd(M.atkd(direction="reverse"), keep=3),
        DKD,
        roles=True,
        needs_labels=True,
        row_wise=False,
        streams=DEEPKD,
        backward_passes=2,
    ),
    "gram_direction, select": row(
        lambda: M.gram_direction(masks="select"), ("kd", "direction"), row_wise=False, shift_invariant=False
    ),
    "gram_direction, fractions": row(
        lambda: M.gram_direction(masks="fractions"), ("kd", "direction"), row_wise=False, shift_invariant=False
    ),
    "dkd+on_view": row(
        lambda: M.on_view(M.dkd(), distillation="weak", task="strong", components={"nontarget": "strong"}),
        DKD,
        roles=True,
        needs_labels=True,
        needs=TWO_VIEWS,
    ),
    "dkd+on_view, token": row(
        lambda: M.on_view(M.dkd(), components={"target": "weak"}, distillation="token"),
        DKD,
        roles=True,
        needs_labels=True,
        needs=TOKEN,
    ),
    "lskd+on_view, token": row(
        lambda: M.lskd(M.on_view(M.kd(), distillation="token")), ("kd",), roles=True, needs=TOKEN
    ),
    "deit, soft+deepkd": row(
        lambda: M.deepkd(M.deit(form="soft")),
        DKD,
        roles=True,
        needs_labels=True,
        streams=DEEPKD,
        backward_passes=2,
        needs=TOKEN,
    ),
    "deit, reduction of its code": row(
        lambda: M.deit(form="soft", reduction="deit", temperature=3.0),
        ("kd",),
        roles=True,
        twin=newer.deit_published_rows,
        needs=TOKEN,
    ),
    "kd, reverse": row(lambda: M.kd(direction="reverse"), ("kd",), roles=True),
    "kd, jsd": row(lambda: M.kd(direction=fr.jsd(0.3)), ("kd",), roles=True),
    "dkd, reverse+deepkd": row(
        lambda: M.deepkd(M.dkd(direction="reverse"), keep=3),
        DKD,
        roles=True,
        needs_labels=True,
        streams=DEEPKD,
        backward_passes=2,
    ),
    "dkd, skew": row(lambda: M.dkd(direction="skew(0.2)"), DKD, roles=True, needs_labels=True),
    "gdkd3, skew_reverse": row(lambda: M.gdkd3(direction=fr.skew_reverse()), GDKD, roles=True),
    "dkd+ea+deepkd": row(
        lambda: M.deepkd(M.ea(M.dkd(), upper="published-code")),
        DKD,
        held_constant=True,
        roles=True,
        needs_labels=True,
        streams=DEEPKD,
        backward_passes=2,
    ),
    "dkd+hint+deepkd": row(
        lambda: M.deepkd(M.with_extra(M.dkd(), role="task")),
        (*DKD, "hint"),
        zero="target nontarget",
        roles=True,
        needs_labels=True,
        needs=HINT,
        streams=DEEPKD,
        backward_passes=2,
    ),
}

TABLE = {**METHODS, **WRAPPERS, **COMBINATIONS}
