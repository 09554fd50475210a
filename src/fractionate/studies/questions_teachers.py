"""The studies about teachers: what they know, and how they were trained."""

from __future__ import annotations

from .plan import Arm, Contrast, Study, Teaching, against, beside

STRONG = ("data.augment=cutout", "data.mixup=0.2")
# Of every base the published weights, and the argument whose value validation chooses.
WEIGHED = {
    "kd": ("kd", "kd(nontarget={})", ("0", "0.1", "0.3", "1", "3")),
    "dkd": ("dkd(beta=8)", "dkd(beta={})", ("0.1", "0.3", "1", "3", "8")),
    "gdkd": ("gdkd(w1=1, w2=8)", "gdkd(w2={})", ("0.1", "0.3", "1", "3", "8")),
}


def _of(one: Teaching) -> str:
    """What the name of an arm ends in, by its teacher."""
    return f" · {one.name or 'usual'} teacher"


def teacher_confidence() -> Study:
    """Four teachers from weak to certain."""
    taught = (
        Teaching("weak", "trained for a tenth of the epochs", length=0.1),
        Teaching("", "the recipe's"),
        Teaching("certain", "without augmentation, three times as long", ("data.shift=0", "data.flip=false"), 3.0),
        Teaching("augmented", "with parts of the images cut out", ("data.augment=cutout",)),
    )
    arms = [Arm("labels alone", "ce")]
    contrasts: list[Contrast] = []
    for one in taught:
        at = _of(one)
        deep = beside(Arm(f"kd+deepkd{at}", "kd+deepkd", teacher=one.name))
        arms += [Arm(f"kd{at}", "kd", teacher=one.name), Arm(f"dkd{at}", "dkd", teacher=one.name), *deep]
        contrasts += [*against(deep[0].name, f"kd{at}", deep[2].name), *against(f"dkd{at}", f"kd{at}")]
    return Study(
        "teacher-confidence",
        "Does it depend on the teacher's confidence on the training images which method pays?",
        "The same students of four teachers, from one that hardly knows the training images to one that is certain "
        "of them. The table of teachers gives their probability of the label on the students' training images.",
        tuple(arms),
        tuple(contrasts),
        teachers=taught,
    )


def teacher_augmentation() -> Study:
    """Three teachers, by the augmentation they were trained with."""
    taught = (
        Teaching("plain", "without augmentation", ("data.shift=0", "data.flip=false")),
        Teaching("", "the recipe's augmentation"),
        Teaching("strong", "parts of the images cut out and pairs of images mixed", STRONG),
    )
    arms = [Arm("labels alone", "ce")]
    for one in taught:
        at = _of(one)
        arms += [Arm(f"{base}{at}", base, teacher=one.name) for base in ("kd", "dkd", "gdkd")]
    gain = Contrast(
        "the lead of gdkd over dkd with the strong teacher",
        "with the plain one",
        (("gdkd · strong teacher", ""), ("dkd · plain teacher", "")),
        (("dkd · strong teacher", ""), ("gdkd · plain teacher", "")),
    )
    each = [against(f"gdkd · {name} teacher", f"dkd · {name} teacher") for name in ("plain", "usual", "strong")]
    return Study(
        "teacher-augmentation",
        "Does GDKD gain over DKD because its teacher was trained with strong augmentation?",
        "Three teachers, trained without, with usual and with strong augmentation; the first comparison is the "
        "interaction: the lead of gdkd over dkd with the strong teacher, less that with the plain one.",
        tuple(arms),
        (gain, *(one for group in each for one in group)),
        teachers=taught,
    )


def auto_weights() -> Study:
    """Weights by the rule, as published and tuned, on a ladder of teachers."""
    taught = (
        Teaching("weak", "trained for a tenth of the epochs", length=0.1),
        Teaching("middling", "trained for three tenths of the epochs", length=0.3),
        Teaching("", "the recipe's"),
        Teaching("certain", "without augmentation, three times as long", ("data.shift=0", "data.flip=false"), 3.0),
    )
    arms = [Arm("labels alone", "ce")]
    contrasts: list[Contrast] = []
    for one in taught:
        at = _of(one)
        for base, (published, open_, values) in WEIGHED.items():
            auto = Arm(f"{base}, auto{at}", f"{base}(weights=auto)", teacher=one.name)
            tuned = Arm(f"{base}, tuned{at}", open_, teacher=one.name, values=values)
            arms += [Arm(f"{base}, published{at}", published, teacher=one.name), auto, tuned]
            contrasts += against(auto.name, f"{base}, published{at}", tuned.name)
    return Study(
        "auto-weights",
        "Do the weights that weights=auto takes from the teacher match those that validation chooses?",
        "Four teachers from weak to certain of the training images. The non-target weight as published, by the rule "
        "of weights=auto, and as the best of five on the validation part. The rule holds where its arm cannot be told "
        "from the tuned one at any teacher, and lies above the published one at two teachers or more.",
        tuple(arms),
        tuple(contrasts),
        teachers=taught,
        tuning_seeds=3,
    )


def k1_equals_dkd() -> Study:
    """GDKD's smallest group against DKD."""
    taught = (Teaching(), Teaching("weak", "trained for a tenth of the epochs", length=0.1))
    arms = [Arm("labels alone", "ce")]
    for one in taught:
        at = _of(one)
        arms += [Arm(f"dkd{at}", "dkd", teacher=one.name), Arm(f"gdkd(k=1){at}", "gdkd(k=1)", teacher=one.name)]
    names = [_of(one) for one in taught]
    return Study(
        "k1-equals-dkd",
        "Is GDKD with k = 1 the same as DKD?",
        "With k = 1 the group is the teacher's first choice in place of the label: the two losses are equal where the "
        "teacher is right, so they ought to differ only with a teacher that errs on the training images.",
        tuple(arms),
        tuple(one for at in names for one in against(f"gdkd(k=1){at}", f"dkd{at}")),
        teachers=taught,
    )
