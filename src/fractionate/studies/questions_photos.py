"""The studies on photos: which method pays on a part of Tiny-ImageNet, for a convolutional and another student."""

from __future__ import annotations

from .plan import Arm, Study, against, beside, retuned

RATES = ("0.01", "0.03")
MIXED = ("data.mixup=0.2", "teacher_table=off")  # logits of mixed images cannot be kept


def photos() -> Study:
    """A MobileNet by every method, the learning rate chosen for each."""
    plain = [Arm("labels alone", "ce"), *(Arm(name, name) for name in ("kd", "dkd", "gdkd", "gdkd3"))]
    deep, normalised, weights = beside(Arm("dkd+deepkd", "dkd+deepkd", ("optimizer.lr={}",), values=RATES))
    return Study(
        "photos",
        "Which method pays on photos, for a small convolutional student?",
        "A part of Tiny-ImageNet at 64 pixels (benchmarks.tiny_imagenet makes the folder); a ResNet-18 of timm, from "
        "nothing on the same images, teaches MobileNetV3-Small at half its width. The learning rate is chosen on "
        "validation for every method, and DeepKD's controls take DeepKD's; the methods have their defaults.",
        (*retuned(plain, "optimizer.lr", RATES), deep, normalised, weights),
        (
            *(c for name in ("kd", "dkd", "gdkd", "gdkd3", deep.name) for c in against(name, "labels alone")),
            *against("dkd", "kd"),
            *against("gdkd", "kd", "dkd"),
            *against("gdkd3", "gdkd"),
            *against(deep.name, "dkd", weights.name, normalised.name),
            *against(normalised.name, "dkd"),
        ),
        recipe="tiny-imagenet-small",
        full="imagenet",
        seeds=3,
        tuning_seeds=1,
    )


def transformer() -> Study:
    """A small vision transformer by AdamW: labels and teacher, mixed images, and streams."""
    deep = Arm("dkd+deepkd", "dkd+deepkd")
    return Study(
        "transformer",
        "What does a small vision transformer gain from a teacher, from mixed images and from streams?",
        "A part of Tiny-ImageNet at 64 pixels (benchmarks.tiny_imagenet makes the folder); a ResNet-18 of timm, from "
        "nothing on the same images, teaches a transformer of 6 blocks of width 96 on patches of 8 pixels, by AdamW. "
        "Under mixup pairs of images are mixed, and their labels with them. AdamW's first moments have gain 1 for any "
        "momentum, so that DeepKD's streams change no weight here, and dkd alone is their control. Nothing was tuned.",
        (
            Arm("labels alone", "ce"),
            Arm("labels alone, mixup", "ce", MIXED),
            Arm("kd", "kd"),
            Arm("gdkd", "gdkd"),
            Arm("gdkd, mixup", "gdkd", MIXED),
            Arm("dkd", "dkd"),
            deep,
        ),
        (
            *against("kd", "labels alone"),
            *against("gdkd", "labels alone", "kd"),
            *against("gdkd, mixup", "labels alone, mixup", "gdkd"),
            *against("labels alone, mixup", "labels alone"),
            *against("dkd", "labels alone", "kd"),
            *against(deep.name, "labels alone", "dkd"),
        ),
        recipe="tiny-imagenet-vit",
        full="vit",
        seeds=3,
        tuning_seeds=1,
    )
