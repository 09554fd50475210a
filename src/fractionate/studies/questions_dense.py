"""Do the methods pay where every pixel has a class, or every object a box?"""

from __future__ import annotations

from dataclasses import replace

from .plan import Arm, Study, against, beside

DEEPKD = "dkd+deepkd"
RATES = ("0.01", "0.02", "0.04")
ABOUT = (
    "The learning rate is chosen on the validation part by students that learn from labels alone, so that the choice "
    "favours no way to distil, and every arm takes it. DeepKD stands with its gains divided out; with them, and with "
    "them as plain weights, it is trained after all others."
)


def camvid() -> Study:
    """Segmentation: DeepLabV3+ on ResNet-34 teaches LR-ASPP on MobileNetV3."""
    return _dense(
        "camvid",
        "Which method pays for a class per pixel?",
        f"CamVid at 240 x 180 pixels, crops of 128 x 96, mean IoU over the classes that occur. {ABOUT}",
        "camvid-small",
        "segmentation",
    )


def digits_detection() -> Study:
    """Detection: Faster R-CNN on ResNet-18 teaches one on MobileNetV3."""
    return _dense(
        "digits-detection",
        "Which method pays for boxes around objects?",
        "Handwritten digits on textured canvases of 128 pixels (python -m benchmarks.digits_on_canvas FOLDER makes "
        f"them, --data FOLDER names them), COCO's average precision. {ABOUT}",
        "detection-small",
        "detection",
    )


def _dense(name: str, question: str, about: str, recipe: str, full: str) -> Study:
    labels = Arm("labels alone", "ce", ("optimizer.lr={}",), values=RATES)
    others = (Arm("kd", "kd"), Arm("dkd", "dkd"), Arm("gdkd", "gdkd"))
    streams, normalised, weights = beside(Arm(DEEPKD, DEEPKD))
    late = (replace(arm, last=True) for arm in (streams, weights))
    arms = [replace(arm, changes=labels.changes, follows=labels.name) for arm in (*others, normalised, *late)]
    return Study(
        name,
        question,
        about,
        (labels, *arms),
        (
            *against("kd", labels.name),
            *against("dkd", "kd", labels.name),
            *against("gdkd", "dkd", "kd", labels.name),
            *against(normalised.name, "dkd", "kd", labels.name),
            *against(streams.name, weights.name, normalised.name, "dkd"),
        ),
        recipe=recipe,
        full=full,
        seeds=3,
        tuning_seeds=1,
    )
