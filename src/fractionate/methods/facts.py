"""What can be known of a teacher before anything is trained, and the weights that follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .._typing import Float, Int
from ..losses import knee_k, standardize
from ..rows.checks import warn_of_probabilities

AUTO: dict[str, tuple[str, ...]] = {"kd": ("nontarget",), "dkd": ("beta",), "gdkd": ("w1", "w2")}
"""Methods with ``weights="auto"``, and the arguments that it gives."""
STIFFNESS = 12.0
"""Relations per unit of weight; 98 of them, all that 100 classes have beside a label, get the published 8."""


@dataclass(frozen=True)
class TeacherFacts:
    """A teacher on images that it is going to teach, seen without augmentation.

    Every number is a mean over the images. A group of classes with masses q inside it has exp(H(q)) effective classes,
    1 where one class has all of it and as many as it has where all are alike; relations are one less.

    Args:
        images: how many were seen.
        classes: c.
        temperature: T, of everything that says so.
        k: size of the top group; ``"auto"``: that of every row's knee, as in ``gdkd(k="auto")``.
        accuracy: share of images whose label has the largest logit; ``None`` without labels.
        label: probability of the label (without labels: of the best class) at temperature 1.
        label_soft: the same at T.
        modes: effective classes of the whole distribution at temperature 1: how many answers the teacher considers.
        relations: among the classes beside the label, at T: exp(H) - 1.
        top_mass: probability of the k best classes at T.
        top_relations, rest_relations: inside the k best, and inside the others, at T.
        standardized: whether everything at T is of rows that were z-scored first, as :func:`fractionate.methods.lskd`
            reads them; what is at temperature 1 is of raw logits in any case.
        spread: of ``label``, ``label_soft`` and ``modes`` over the images, the least, every twentieth part and the
            largest: 21 numbers each, what a page draws.

    Example:
        >>> sure = torch.full((2, 5), -30.0).scatter(1, torch.tensor([[0], [3]]), 30.0)
        >>> facts = teacher_facts(sure, torch.tensor([0, 3]), temperature=4, k=2)
        >>> facts.label, round(facts.relations, 4), facts.confidence
        (1.0, 3.0, 1.0)
    """

    images: int
    classes: int
    temperature: float
    k: int | Literal["auto"]
    accuracy: float | None
    label: float
    label_soft: float
    modes: float
    relations: float
    top_mass: float
    top_relations: float
    rest_relations: float
    standardized: bool = False
    spread: dict[str, tuple[float, ...]] = field(default_factory=dict, repr=False)

    @property
    def confidence(self) -> float:
        """How far the label's probability at temperature 1 lies from guessing (0) to certainty (1)."""
        above = (self.label - 1 / self.classes) / (1 - 1 / self.classes)
        return min(1.0, max(0.0, round(above, 12)))  # rounded: one that guesses has none, not 1e-17

    def weights(self, method: str, gain: float = 1.0) -> dict[str, float]:
        """The weights that ``weights="auto"`` means.

        One rule for every group G of classes inside which a method compares (kd and dkd: all but the label; gdkd: the k
        best, and the others):

            w_G = b_G + confidence (K_G - 1) / 12

        with b_G the teacher's mass of the group and K_G = exp(H(q_G)) its effective number of classes, both at T, means
        over images; for kd the mass stays its own per image and the rest is added, ``nontarget``.

        Why. KD itself weighs a group by its mass, so a teacher that is certain of the label hides what it knows about
        the other classes: 1 - a tends to 0. What is hidden should be given back as far as the teacher knows the label,
        and no further: one that guesses (confidence 0) leaves KD as it is. How much to give back follows from the
        curvature of the term at the teacher, diag(q) - q q^T: it is spread over K_G - 1 directions, about 1 / K_G along
        each, so a weight that grows with their number makes every relation equally stiff. The unit is set once: a
        certain teacher that is flat over 99 classes gets 98 / 12 = 8.2, where CIFAR-100's published beta is 8; with
        the 16 directions of box distributions 1.3 (published 2).

        Measured on handwritten digits alone (``fractionate study auto-weights``: four teachers from weak to certain,
        five paired seeds): in none of twelve comparisons can it be told from the weight that validation chose; it
        ends above the weights published for CIFAR-100 with three of four teachers for gdkd, one of four for dkd, none
        for kd. For other images it is a hypothesis with the right limits.

        Args:
            method: ``"kd"``, ``"dkd"`` or ``"gdkd"``.
            gain: what the momentum of the non-target stream multiplies weights by; they are divided by it.

        Returns:
            Arguments of the method, to four digits.

        Raises:
            ValueError: a method without the rule.

        Example:
            >>> import fractionate as fr
            >>> guessing = teacher_facts(torch.zeros(2, 10), torch.tensor([0, 3]))
            >>> guessing.weights("dkd"), guessing.weights("kd")
            ({'beta': 0.9}, {'nontarget': 0.0})
            >>> fr.methods.dkd(**guessing.weights("dkd"))
            <Method dkd(beta=0.9)>
        """
        if method not in AUTO:
            raise ValueError(f"weights='auto' is for {', '.join(AUTO)}, not for {method!r}; give numbers")
        share = self.confidence / STIFFNESS
        found = {
            "kd": (share * self.relations,),
            "dkd": (1 - self.label_soft + share * self.relations,),
            "gdkd": (self.top_mass + share * self.top_relations, 1 - self.top_mass + share * self.rest_relations),
        }[method]
        return {name: float(f"{x / gain:.4g}") for name, x in zip(AUTO[method], found, strict=True)}

    def __str__(self) -> str:
        """Confidence in one line."""
        of, scored = "best class" if self.accuracy is None else "label", " of z-scores" if self.standardized else ""
        return (
            f"mean probability of the {of} on {self.images} training images {self.label:.3f} at T 1"
            + (f", {self.label_soft:.3f} at T {self.temperature:g}{scored}" if self.temperature != 1 or scored else "")
            + f"; {self.modes:.2f} of {self.classes} classes considered"
        )


@torch.no_grad()
def teacher_facts(
    logits: Float[Tensor, "n c"],
    target: Int[Tensor, " n"] | None = None,
    *,
    temperature: float = 4.0,
    k: int | Literal["auto"] = 5,
    largest: bool = True,
    standardized: bool = False,
) -> TeacherFacts:
    """Facts about a teacher from its logits of training images.

    Args:
        logits: ``[n, c]`` raw logits, without augmentation.
        target: ``[n]`` labels; ``None``: the teacher's best class stands for them.
        temperature: T of the method.
        k: size of gdkd's top group, at most c - 1, or ``"auto"`` for the knee of every row.
        largest: ``False``: that group has the k smallest logits, as with ``gdkd(largest=False)``.
        standardized: z-score the rows before T, as ``lskd`` does.

    Raises:
        ValueError: no image, fewer than 3 classes, logits that are not finite, labels of another length or that are no
            classes, or k or T out of range.

    Example:
        >>> facts = teacher_facts(torch.zeros(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> round(facts.label, 4), round(facts.modes, 4), facts.confidence
        (0.1, 10.0, 0.0)
    """
    _check(logits, target, temperature, k, largest)
    warn_of_probabilities("logits", logits.detach(), "teacher_facts")
    z, classes = logits.detach().double().cpu(), logits.shape[1]
    k = k if k == "auto" else min(k, classes - 1)
    sizes = knee_k(z)[:, None] if k == "auto" else torch.full((len(z), 1), k)
    inside = torch.arange(classes) < sizes
    best = z.argmax(1)
    y = best if target is None else target.detach().cpu().long()
    soft = (standardize(z) if standardized else z) / temperature
    ranked = soft.gather(1, z.argsort(1, descending=largest))  # in groups of the raw teacher
    others = torch.ones_like(z, dtype=torch.bool).scatter(1, y[:, None], False)
    label, label_soft = (x.softmax(1).gather(1, y[:, None])[:, 0] for x in (z, soft))
    modes = _effective(z)
    return TeacherFacts(
        images=len(z),
        classes=classes,
        temperature=float(temperature),
        k=k,
        accuracy=None if target is None else _mean((best == y).double()),
        label=_mean(label),
        label_soft=_mean(label_soft),
        modes=_mean(modes),
        relations=_mean(_effective(soft[others].view(len(z), classes - 1))) - 1,
        top_mass=_mean((ranked.softmax(1) * inside).sum(1)),
        top_relations=_mean(_effective(ranked.masked_fill(~inside, -torch.inf))) - 1,
        rest_relations=_mean(_effective(ranked.masked_fill(inside, -torch.inf))) - 1,
        standardized=standardized,
        spread={"label": _quantiles(label), "label_soft": _quantiles(label_soft), "modes": _quantiles(modes)},
    )


def _check(logits: Tensor, target: Tensor | None, temperature: float, k: int | Literal["auto"], largest: bool) -> None:
    """Refuse what has no facts."""
    if k == "auto" and not largest:
        raise ValueError(
            "teacher_facts: k='auto' is the knee above the largest logits; with largest=False give a number"
        )
    if logits.ndim != 2 or not len(logits) or logits.shape[1] < 3:
        raise ValueError(f"teacher_facts: needs logits [n, c] of at least 1 image and 3 classes, got {[*logits.shape]}")
    if target is not None and target.shape != logits.shape[:1]:
        raise ValueError(f"teacher_facts: needs one label per row [{len(logits)}], got {[*target.shape]}")
    if not temperature > 0 or (k != "auto" and not (isinstance(k, int) and k >= 1)):
        raise ValueError(f"teacher_facts: needs temperature > 0 and a whole k >= 1, got {temperature!r} and {k!r}")
    if target is not None and (int(target.min()) < 0 or int(target.max()) >= logits.shape[1]):
        raise ValueError(
            f"teacher_facts: labels must lie in 0..{logits.shape[1] - 1}, got {int(target.min())}..{int(target.max())}"
        )
    if not bool(logits.isfinite().all()):
        raise ValueError("teacher_facts: some logits of the teacher are NaN or infinite")


def _effective(z: Tensor) -> Tensor:
    """exp(H) of every row's softmax, ``[n]``."""
    log_p = z.log_softmax(1)
    return (-torch.special.xlogy(log_p.exp(), log_p.exp()).sum(1)).exp()


def _quantiles(x: Tensor) -> tuple[float, ...]:
    """The least, every twentieth part and the largest, to six digits."""
    return tuple(float(f"{v:.6g}") for v in x.quantile(torch.linspace(0, 1, 21, dtype=x.dtype)).tolist())


def _mean(x: Tensor) -> float:
    return math.fsum(x.flatten().tolist()) / x.numel()
