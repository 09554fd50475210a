"""How readers name the metrics that run folders hold by key; the only place beside the tasks that knows one by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Headline:
    """A metric, such as the one that tables show first: its key in the files, and how readers name it.

    ``label`` is short ("top-1", for heads of columns), ``name`` is the quantity ("accuracy", for axes), ``unit`` is "%"
    or empty, and ``higher`` says whether more is better.
    """

    key: str
    label: str
    name: str
    unit: str = "%"
    higher: bool = True

    @property
    def of(self) -> str:
        """The unit of a difference."""
        return "points" if self.unit == "%" else self.label

    @property
    def head(self) -> str:
        """The label with the unit, for the head of a column."""
        return f"{self.label} {self.unit}".rstrip()

    def value(self, number: float) -> str:
        """A value with two digits and its unit.

        Example:
            >>> headline("miou").value(71.25), headline("pck").value(0.5)
            ('71.25 %', '0.50')
        """
        return f"{number:.2f} {self.unit}".rstrip()


HEADLINES = {
    "top1": Headline("top1", "top-1", "accuracy"),
    "top5": Headline("top5", "top-5", "accuracy among five answers"),
    "miou": Headline("miou", "mIoU", "mean intersection over union"),
    "pixel_accuracy": Headline("pixel_accuracy", "pixels", "pixel accuracy"),
    "miou_published": Headline("miou_published", "mIoU, absent as 0", "mean IoU with absent classes as 0"),
    "ap": Headline("ap", "AP", "average precision"),
    "ap50": Headline("ap50", "AP50", "average precision at IoU 0.50"),
    "ap75": Headline("ap75", "AP75", "average precision at IoU 0.75"),
    "ap_small": Headline("ap_small", "AP small", "average precision of small objects"),
    "ap_medium": Headline("ap_medium", "AP medium", "average precision of medium objects"),
    "ap_large": Headline("ap_large", "AP large", "average precision of large objects"),
}

SCHEMA_0 = "top1"
"""The headline of folders from before ``schema`` and ``headline`` were written."""


def headline(key: str) -> Headline:
    """What is known of a metric; any other is named by its key, has no unit, and more of it is better.

    Example:
        >>> headline("ap").label, headline("pck").label
        ('AP', 'pck')
    """
    return HEADLINES.get(key) or Headline(key, key, key, unit="")


def headline_of(facts: Mapping[str, object]) -> str:
    """The key of the headline that a ``summary.json`` speaks of, those of older releases included.

    Example:
        >>> headline_of({}), headline_of({"schema": 1, "headline": "miou"})
        ('top1', 'miou')
    """
    return str(facts.get("headline") or SCHEMA_0)
