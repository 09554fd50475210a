"""The audit: methods whose released code differs from their text, each as two methods that can be run side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .._choices import unknown
from ..config.method import MethodSpec


@dataclass(frozen=True)
class Twin:
    """One disagreement as two methods.

    Args:
        rows: of the differences page; the first one is its name.
        described: as the text says it, in the command line's form.
        published: as the released code does it.
        differs: in what, in a few words.
    """

    rows: tuple[str, ...]
    described: str
    published: str
    differs: str

    @property
    def name(self) -> str:
        """The row that it is called by."""
        return self.rows[0]

    @property
    def method(self) -> str:
        """The method without arguments."""
        return MethodSpec.parse(self.described).title


TWINS = (
    Twin(
        ("D1", "D3", "E8"),
        "dkd+deepkd",
        "dkd+deepkd(rule=published-code)",
        "which momentum the task stream has, and which buffer carries the weight decay",
    ),
    Twin(("D4",), "dkd+deepkd(keep=phases(plateau=0.55))", "dkd+deepkd", "the schedule of the top-k mask, or no mask"),
    Twin(
        ("D6",),
        "kd+deepkd",
        "kd+deepkd(kd_form=batch_means)",
        "(1 - a) times NCKD row by row, or the product of their means over the batch",
    ),
    Twin(("D7",), "kd+deepkd", "kd+deepkd(rule=published-code)", "whether kd_weight and warm-up count in KD's streams"),
    Twin(("D8", "G11", "D14"), "mlkd", "mlkd(form=published-code)", "masks row by row, or the fraction that they keep"),
    Twin(
        ("D16",),
        "dkd(temperature=1, beta=0.5, warmup=1)+dot",
        "dkd(temperature=4, beta=8, warmup=20)+dot",
        "DKD's settings for ImageNet, or its defaults, because the file has no block for it",
    ),
    Twin(("G8",), "dist(temperature=1)", "dist(temperature=4)", "T on ImageNet, written under a wrong name"),
    Twin(("G19",), "gdkd3", "gdkd3(w0=0.5)", "the weight between the groups, in the transformer code before 2025-07"),
    Twin(("G21",), "gdkd", "gdkd(w1=8)", "the weight inside the top group, as it was before 2024-02"),
    Twin(
        ("L1",),
        "kd(temperature=4, kd_weight=0.9)",
        "kd(temperature=2, kd_weight=9)",
        "the KD that LSKD is compared with, and what its command runs without flags",
    ),
    Twin(("L5",), "sld", "sld(detach=false)", "whether gradient goes through the swapped student"),
    Twin(("L8",), "dist(temperature=4)", "dist(temperature=4, scale=false)", "T^2, which segmentation lacks"),
    Twin(("X1",), "dgkd(epsilon=-0.5)", "dgkd(epsilon=0.5)", "the sign of the coupling: printed +, subtracted"),
    Twin(("X3",), "dgkd", "dgkd(normalize=batch)", "the coupling divided by its own detached value"),
    Twin(("X4",), "dgkd(alpha=1, beta=8)", "dgkd(alpha=8, beta=1)", "exchanged in one version of 2026-04"),
    Twin(("N1",), "kd+ea", "kd+ea(upper=published-code)", "the upper bound of the student's entropy: log c, or 100"),
    Twin(("N2",), "dkd+lskd+ea", "dkd+ea+lskd", "entropies of the raw logits, or of the standardised ones"),
    Twin(
        ("N3",),
        "dkd+ea(entropy_temperature=2)",
        "dkd+ea(entropy_temperature=3)",
        "the temperature of the entropies on ImageNet, which never reaches the function",
    ),
    Twin(
        ("N5",),
        "gram_direction(masks=select)",
        "gram_direction(masks=fractions)",
        "masks that choose rows and classes, or numbers near 1/2",
    ),
    Twin(
        ("N6",),
        "gram_direction(ridge=0.0001)",
        "gram_direction(ridge=0.1)",
        "a ridge under which the distance is whitened, or the released one, under which it is not",
    ),
    Twin(("N10",), "ldrld(alpha=231)", "ldrld(alpha=10.5)", "the sum over pairs, or their mean (22 terms at k = 7)"),
)
# Rows of which nobody can run both sides here, and why.
UNSAID = {
    "G4": "masses clamped at the smallest float32, or NaN: the losses here stay finite, and no option breaks them",
    "G12": "resuming under a wrong file name, without the scheduler: a fault of a training loop; here runs go on",
    "G9": "the file fills in another method's section, and what was meant is not known",
    "M6": "epochs and milestones are fields of a recipe: `fractionate recipes mlkd` shows both",
    "D9": "shifts per pair of networks are fields of a recipe: `fractionate recipes deepkd` shows both sets",
    "M3": "a fault of networks, not of a method: `student.published_bn=true` beside any method repeats it",
    "X2": "a factor that depends on batch size and classes; the page of dgkd has the conversion",
    "X10": "no code was released for TopKD, so there is no published side",
    "N7": "a gradient that is NaN where student meets teacher is not offered",
    "N9": "at k = 2 and k = c only, where the formula is kept and other k are refused",
    "N11": "the gradient is the same: value and gradient are those of the code",
    "N12": "1e-6 inside both logarithms; the divergence is exact here",
    "N13": "an error where no row is easy; here that part is 0",
    "N15": "NaN in every dtype once a class underflows in both networks",
    "N16": "the gradient is the same, the value lacks the teacher's entropy",
    "N20": "a factor, the number of tokens per sequence, without labels",
}


def twins(words: Sequence[str] = ()) -> list[Twin]:
    """The disagreements that are named by a row of the differences page or by a method; all of them without names.

    Args:
        words: such as ``"N1"``, ``"mlkd"``, ``"kd+ea"``; a wrapper names every method under it.

    Raises:
        ValueError: a name without a disagreement; the nearest one is named.

    Example:
        >>> [twin.published for twin in twins(["N1"])]
        ['kd+ea(upper=published-code)']
        >>> [twin.name for twin in twins(["deepkd"])]
        ['D1', 'D4', 'D6', 'D7']
    """
    found = [twin for word in words for twin in _named(word)] if words else list(TWINS)
    return list(dict.fromkeys(found))


def _named(word: str) -> Iterator[Twin]:
    asked = word.strip()
    several = [twin for twin in TWINS if asked in (*twin.rows, twin.method, *twin.method.split("+"))]
    if not several:
        if asked in UNSAID:
            raise ValueError(f"{asked} cannot be run side by side: {UNSAID[asked]}")
        known = [name for twin in TWINS for name in (*twin.rows, *twin.method.split("+"))]
        raise ValueError(unknown("disagreement of text and released code", asked, dict.fromkeys(known)))
    yield from several


def sides(words: Sequence[str], *, described: bool, published: bool) -> list[str]:
    """Methods to compare: one or both sides of every disagreement that is named, each once.

    Example:
        >>> sides(["kd+ea"], described=True, published=True)
        ['kd+ea', 'kd+ea(upper=published-code)']
    """
    found = [
        side
        for twin in twins(words)
        for side, wanted in ((twin.described, described), (twin.published, published))
        if wanted
    ]
    return list(dict.fromkeys(found))
