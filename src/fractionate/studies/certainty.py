"""How certain a teacher is of the images that its students train on."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..config.run import Run
from ..train.device import fixed_threads, place
from ..train.networks import build_for
from ..train.sources import evaluation_batch, sources

SURE = 0.99


@torch.no_grad()
def certainty(run: Run, temperature: float = 4.0) -> dict[str, float]:
    """Accuracy of the teacher on a student's training images, and its probability of their labels.

    The images are those of ``run.data`` as they are, without shifts, flips or any other augmentation.

    Args:
        run: of a student, with its teacher.
        temperature: T of the second mean.

    Returns:
        ``train``, percent of right answers; ``label``, mean probability of the label; ``label_at_t``, the same at T;
        ``sure``, share of the images on which the label's exceeds .99; ``temperature``.

    Raises:
        ValueError: a run without a teacher, or whose images are not classified one by one.
    """
    if run.teacher is None or run.task.name != "classification":
        raise ValueError("how certain a teacher is, is measured of a run with a teacher that classifies images")
    plain = replace(
        run.data, shift=0, flip=False, augment="none", strong="none", mixup=0.0, cutmix=0.0, passes=1, unlabelled=None
    )
    device = place(run.device)
    train, test = sources(plain, run.seed, device)
    net = build_for(run.teacher, train, test, "teacher").to(device).eval()
    right, at_1, at_t, sure, count = 0.0, 0.0, 0.0, 0.0, 0
    with fixed_threads(run.threads):
        for batch in train.batches(1):
            for images, target in zip(
                batch.images.split(evaluation_batch(batch.images.shape[-1])),
                batch.target.split(evaluation_batch(batch.images.shape[-1])),
                strict=True,
            ):
                logits = net(images).double()
                of_label = logits.softmax(1).gather(1, target[:, None])[:, 0]
                soft = (logits / temperature).softmax(1).gather(1, target[:, None])[:, 0]
                right += float((logits.argmax(1) == target).sum())
                at_1, at_t = at_1 + float(of_label.sum()), at_t + float(soft.sum())
                sure += float((of_label > SURE).sum())
                count += len(target)
    return {
        "train": 100 * right / count,
        "label": at_1 / count,
        "label_at_t": at_t / count,
        "sure": sure / count,
        "temperature": temperature,
    }
