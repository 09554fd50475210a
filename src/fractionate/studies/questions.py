"""The studies: questions about the methods, each with the runs that answer it."""

from __future__ import annotations

from pathlib import Path

from .._choices import unknown
from .plan import Arm, Contrast, Study, against, beside, cost, retuned
from .questions_dense import camvid, digits_detection
from .questions_photos import photos, transformer
from .questions_probes import coupling, gsnr, topkd_k
from .questions_teachers import auto_weights, k1_equals_dkd, teacher_augmentation, teacher_confidence

RATES = ("0.02", "0.05", "0.1")
SHARES = ("0.1", "0.2", "0.35", "0.55", "0.75")  # of the classes
DEEPKD = "dkd+deepkd"
AS_WEIGHTS = f"{DEEPKD}, as weights"
NORMALISED = f"{DEEPKD}, gain normalised"


def _allocation() -> Study:
    arms = [Arm("labels alone", "ce")]
    contrasts: list[Contrast] = []
    for base in ("kd", "dkd"):
        paper = beside(Arm(f"{base}+deepkd", f"{base}+deepkd"))
        code = beside(Arm(f"{base}+deepkd as published", f"{base}+deepkd(rule=published-code)"))
        arms += [Arm(base, base), *paper, *code]
        others = [base, *(arm.name for arm in (paper[2], paper[1], code[0]))]
        contrasts += [*against(paper[0].name, *others), *against(paper[1].name, base)]
    return Study(
        "allocation",
        "Does DeepKD gain by its streams, or by the weights that their momenta give to the losses?",
        "Each base method, DeepKD over it by the paper's rule and by the published code, and two controls: plain SGD "
        "whose loss weights are the gains of the streams, and streams whose gains are divided out. The learning rate "
        "is chosen for every arm alone, on the validation part.",
        retuned(arms, "optimizer.lr", RATES),
        tuple(contrasts),
        tuning_seeds=5,
    )


def _single_stream() -> Study:
    weights = {"task": "ce_weight=0", "target": "alpha=0", "non-target": "beta=0"}
    arms = list(beside(Arm("all three", DEEPKD)))
    kept = [("task",), ("target",), ("non-target",), ("task", "target"), ("task", "non-target")]
    for names in [*kept, ("target", "non-target")]:
        off = ", ".join(weight for name, weight in weights.items() if name not in names)
        arms += beside(Arm(" + ".join(names), f"dkd({off})+deepkd"))
    alone = ("task", "target", "non-target")
    return Study(
        "single-stream",
        "What does each gradient stream of DeepKD teach alone?",
        "DeepKD over dkd with some of its three losses switched off (weight 0), which leaves their streams without a "
        "gradient; weight decay stays where it is.",
        tuple(arms),
        (
            *(one for name in alone for one in against("all three", name)),
            *against("target", "non-target"),
            *against("task", "target", "non-target"),
            *against("all three", "task + target", "task + non-target", "target + non-target"),
        ),
    )


def _delta() -> Study:
    chosen = Arm("delta by validation", "dkd+deepkd(delta={})", values=("0.025", "0.05", "0.075", "0.09"))
    default, reverse = Arm("delta 0.075", DEEPKD), Arm("delta -0.075", "dkd+deepkd(delta=-0.075)")
    return Study(
        "delta",
        "Which momentum shift suits DeepKD, and does any beat none?",
        "dkd has no shift. The other arms are DeepKD over it: with the shift that validation chooses, with the "
        "paper's, and with its sign turned round. A momentum of 0.9 leaves room for shifts below 0.1.",
        (Arm("dkd", "dkd"), *beside(chosen), *beside(default), *beside(reverse)),
        (
            *against(chosen.name, "dkd", f"{chosen.name}, as weights", default.name),
            *against(default.name, "dkd", f"{default.name}, as weights"),
            *against(reverse.name, "dkd", default.name),
        ),
    )


def _static_k() -> Study:
    chosen = Arm("k by validation", "dkd+deepkd(keep=constant(value={}))", values=SHARES)
    schedule = Arm("k by schedule", "dkd+deepkd(keep=phases(plateau=0.55))")
    none = Arm("no mask", DEEPKD)
    return Study(
        "static-k",
        "Does a top-k mask help DeepKD, and does its schedule beat one k?",
        "DeepKD over dkd: without a mask, with one fixed share of the classes that validation chooses, and with the "
        "paper's schedule over three phases.",
        (*beside(none), *beside(chosen), *beside(schedule), Arm("dkd", "dkd")),
        (*against(chosen.name, none.name, schedule.name), *against(schedule.name, none.name)),
    )


def _fraction_pilot() -> Study:
    whole = Arm("k by all images", "dkd+deepkd(keep=constant(value={}))", values=SHARES)
    pilot = Arm("k by a fifth", whole.method, values=SHARES, pilot=0.2)
    return Study(
        "fraction-pilot",
        "Does a fifth of the training images choose the same k as all of them?",
        "The share of classes that DeepKD's mask keeps is chosen on the validation part twice: by students of all "
        "training images, and by students of a fifth of them. Both choices are then trained on all images.",
        (*beside(whole), *beside(pilot), *beside(Arm("no mask", DEEPKD))),
        (*against(whole.name, pilot.name), *against(pilot.name, "no mask")),
        pilots=((whole.name, pilot.name),),
    )


def _temperature() -> Study:
    values = ("1", "2", "4", "8", "16")
    arms = [Arm("labels alone", "ce")]
    contrasts: list[Contrast] = []
    for base in ("kd", "dkd"):
        arms += [
            Arm(f"{base}, T = 4", base),
            Arm(f"{base}, T by validation", f"{base}(temperature={{}})", values=values),
        ]
        contrasts += against(f"{base}, T by validation", f"{base}, T = 4")
    return Study(
        "temperature",
        "Is temperature 4 the right one, for kd and for dkd?",
        "The temperature that validation chooses, against the default.",
        tuple(arms),
        tuple(contrasts),
    )


def _length() -> Study:
    lengths = {"a third": 1 / 3, "usual": 1.0, "three times": 3.0}
    arms: list[Arm] = []
    contrasts: list[Contrast] = []
    for name, length in lengths.items():
        at = f" · {name}"
        deep = beside(Arm(f"{DEEPKD}{at}", DEEPKD, length=length))
        arms += [Arm(f"{label}{at}", spec, length=length) for label, spec in PLAIN.items()]
        arms += deep
        contrasts += [*against(f"dkd{at}", f"kd{at}"), *against(deep[0].name, f"dkd{at}", deep[2].name)]
    return Study(
        "length",
        "Does it depend on the length of the training which method pays?",
        "A third of the recipe's epochs, all of them, and three times as many; warm-ups and the fall of the learning "
        "rate keep their share.",
        tuple(arms),
        tuple(contrasts),
    )


PLAIN = {"labels alone": "ce", "kd": "kd", "dkd": "dkd"}


# The settings of resnet32x4 -> resnet8x4, the pair that the papers share; DeepKD over each base, beside its controls.
PAPERS = (
    "ce",
    "kd",
    "dkd(beta=8)",
    "gdkd(w1=2, w2=8)",
    "gdkd3(w1=2, w2=8)",
    "topkd",
    "kd(kd_weight=1)+lskd",
    "dgkd(beta=8)",
    "kd+dot",
    "kd+dot+reweighted",
    "kd+deepkd",
    "kd+deepkd(normalize_gain=true)",
    "kd+deepkd+reweighted",
    "dkd(beta=8)+deepkd",
    "dkd(beta=8)+deepkd(normalize_gain=true)",
    "dkd(beta=8)+deepkd+reweighted",
)


def _which_method() -> Study:
    arms = tuple(Arm(name, name) for name in PAPERS)
    contrasts = [*against("kd", "ce")]
    contrasts += [c for name in PAPERS[2:] if "+deepkd" not in name for c in against(name, "kd")]
    for base in ("kd", "dkd(beta=8)"):
        deep = f"{base}+deepkd"
        contrasts += against(deep, base, f"{deep}+reweighted")
        contrasts += against(f"{deep}(normalize_gain=true)", base)
    return Study(
        "which-method",
        "Which method pays where the teacher is certain of the training images?",
        "CIFAR-100 at 16 pixels, 5,000 training images, which the teacher knows and the students see 50 times; every "
        "method has the weights of its paper for resnet32x4 and resnet8x4, and nothing was tuned.",
        arms,
        tuple(contrasts),
        recipe="cifar100-16px",
    )


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        _which_method(),
        _allocation(),
        _single_stream(),
        _delta(),
        _static_k(),
        _fraction_pilot(),
        teacher_confidence(),
        teacher_augmentation(),
        auto_weights(),
        k1_equals_dkd(),
        gsnr(),
        _temperature(),
        _length(),
        coupling(),
        topkd_k(),
        photos(),
        transformer(),
        camvid(),
        digits_detection(),
    )
}


def find_study(name: str) -> Study:
    """A study by name.

    Raises:
        ValueError: unknown name; the nearest one is named.

    Example:
        >>> find_study("delta").recipe
        'digits'
    """
    if name not in STUDIES:
        raise ValueError(unknown("study", name, STUDIES))
    return STUDIES[name]


def listed() -> list[str]:
    """A line per study: its name, how many students it trains on which recipe, and its question.

    Example:
        >>> listed()[1][:23]
        'allocation             '
    """
    lines = []
    for study in STUDIES.values():
        runs, lengths = cost(study)
        size = f"{runs} runs of {study.recipe}, {lengths:.0f} lengths"
        lines.append(f"{study.name:<22} {size:<46} {study.question}")
    return lines


def announced(study: Study, seeds: int | None, recipe: str | None, out: Path) -> list[str]:
    """What a study is going to do, before it starts.

    Args:
        study: which.
        seeds: students per arm; ``None`` = the study's.
        recipe: in place of its own.
        out: folder.

    Example:
        >>> announced(find_study("length"), 1, None, Path("runs/length"))[1]
        'budget: 18 students of digits, 26 times its length (all on the test part); teachers: 1; into runs/length'
    """
    runs, lengths = cost(study, seeds)
    tuned = study.tuning_seeds * sum(len(arm.values) for arm in study.arms)
    taught = any(arm.values and arm.taught for arm in study.arms)
    parts = f"{tuned} on the validation part, which chooses, {runs - tuned} on the test part" if tuned else ALL
    return [
        f"{study.name}: {study.question}",
        f"budget: {runs} students of {recipe or study.recipe}, {lengths:.0f} times its length ({parts}); "
        f"teachers: {len(study.teachers) * (2 if taught else 1)}; into {out}",
    ]


ALL = "all on the test part"
