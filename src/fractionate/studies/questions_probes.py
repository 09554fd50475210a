"""Probes of single claims: signal-to-noise ratios of streams, DGKD's coupling, the size of TopKD's group."""

from __future__ import annotations

from .plan import Arm, Contrast, Study, against, beside

DEEPKD = "dkd+deepkd"


def coupling() -> Study:
    """DGKD with its coupling, without it, and with its sign turned round."""
    chosen = Arm("epsilon by validation", "dgkd(epsilon={})", values=("0.25", "0.5", "0.66"))
    none, default, reverse = (Arm(f"epsilon {x:g}", f"dgkd(epsilon={x})") for x in (0.0, 0.5, -0.5))
    return Study(
        "coupling",
        "Does DGKD's distance between the gradients of its two terms help?",
        "DGKD subtracts epsilon times that distance, which is to be large; at 0 it is dkd, and below 0 the distance is "
        "to be small.",
        (none, default, reverse, chosen),
        (*against(default.name, none.name), *against(chosen.name, none.name), *against(reverse.name, none.name)),
    )


def topkd_k() -> Study:
    """TopKD with groups from one class to half of them."""
    chosen = Arm("k by validation", "topkd(k={})", values=("1", "2", "3", "5"))
    labels, kd, default = Arm("labels alone", "ce"), Arm("kd", "kd"), Arm("k = 5", "topkd(k=5)")
    return Study(
        "topkd-k",
        "How large a group of best classes suits TopKD, and does it collapse where two groups are all classes?",
        "TopKD (a reconstruction) with the k that validation chooses and with 5, which on ten classes leaves none "
        "between the top and the bottom group.",
        (labels, kd, chosen, default),
        (*against(chosen.name, "kd", default.name), *against(default.name, "kd", "labels alone")),
    )


WATCH = ("monitors.gsnr_window=20", "monitors.seeds=null")
BRIEFLY = ("monitors.gsnr_window=10", "monitors.seeds=null")  # early students have 10 steps on digits
FREEZE = ("optimizer.lr=1e-12", "optimizer.weight_decay=0.0", *WATCH)
PHASES = {"early": 1 / 30, "middle": 1 / 3, "late": 1.0}


def gsnr() -> Study:
    """Signal-to-noise ratios of the streams, of weights that move and of frozen ones."""
    arms: list[Arm] = []
    contrasts: list[Contrast] = []
    for base in ("dkd", DEEPKD):
        for phase, length in PHASES.items():
            watch = BRIEFLY if phase == "early" else WATCH
            moving = Arm(f"{base}, {phase}, moving", base, watch, length)
            frozen = Arm(f"{base}, {phase}, frozen", base, FREEZE, PHASES["early"] * 4, begins=moving.name)
            both = (moving, frozen)
            arms += [a for arm in both for a in (beside(arm) if base == DEEPKD and arm is moving else (arm,))]
            contrasts += [_order(arm, one, other) for arm in both for one, other in ORDER]
    return Study(
        "gsnr",
        "In which order do the streams' signal-to-noise ratios lie, and is it a matter of moving weights?",
        "|mean g|² / tr Var(g), the mean over the windows that a run fills, the last one of every epoch. Moving: while "
        "a student trains, over its whole run. Frozen: of the weights that this run ended with, at a rate of 1e-12, "
        "where batch norms go on counting, which moves its accuracy. "
        "Early, middle and late students have trained for a thirtieth, a third and the whole of the recipe's epochs: "
        "on digits 1 window of 10 steps early, 5 of 20 in the middle, 15 late, and 2 where frozen. Noise alone has a "
        "ratio of about 1 over the window's steps, so the order within an arm is compared, and no arm with another.",
        tuple(arms),
        tuple(contrasts),
        watched=True,
        seeds=3,
    )


ORDER = (("target", "task"), ("task", "nontarget"))


def _order(arm: Arm, one: str, other: str) -> Contrast:
    return Contrast(
        f"the ratio of {one} ({arm.name})",
        f"that of {other}",
        ((arm.name, f"gsnr/{one}"),),
        ((arm.name, f"gsnr/{other}"),),
    )
