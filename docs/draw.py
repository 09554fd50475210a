"""Draw the pictures of the concepts page: python docs/draw.py

Every number in them is computed by the package; a test compares the files with what this draws.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

import fractionate as fr

STATIC = Path(__file__).parent / "_static"
TARGET, REST, LINE, TEXT = "#d9651d", "#2f6db3", "#9aa3ad", "#24292f"
FONT = "font-family='system-ui, sans-serif'"


def text(x: float, y: float, words: str, size: int = 14, anchor: str = "middle", more: str = "") -> str:
    return (
        f"<text x='{x:g}' y='{y:g}' {FONT} font-size='{size}' fill='{TEXT}' "
        f"text-anchor='{anchor}' {more}>{words}</text>"
    )


def box(x: float, y: float, w: float, h: float, fill: str, line: str = "none", r: int = 2) -> str:
    return (
        f"<rect x='{x:g}' y='{y:.5g}' width='{w:g}' height='{h:.4g}' rx='{r}' fill='{fill}' "
        f"stroke='{line}' stroke-width='1.5'/>"
    )


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f"<line x1='{x1:g}' y1='{y1:g}' x2='{x2:g}' y2='{y2:g}' stroke='{LINE}' stroke-width='2' "
        f"marker-end='url(#tip)'/>"
    )


def picture(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    tip = (
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' "
        f"markerHeight='7' orient='auto'><path d='M0 0 L8 4 L0 8 z' fill='{LINE}'/></marker></defs>"
    )
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' "
        f"aria-label='{title}'><title>{title}</title>"
    )
    card = box(1, 1, width - 2, height - 2, "#ffffff", "#d0d7de", 10)
    return "\n".join([head, tip, card, *parts, "</svg>"]) + "\n"


def bars(
    x: float,
    floor: float,
    teacher: Sequence[float],
    student: Sequence[float],
    colors: Sequence[str],
) -> list[str]:
    """Filled bars for the teacher, hollow ones for the student; probability 1 is 180 units."""
    parts = []
    for i, (t, s, color) in enumerate(zip(teacher, student, colors, strict=True)):
        left = x + 40 * i
        parts.append(box(left, floor - 180 * t, 14, 180 * t, color))
        parts.append(box(left + 17, floor - 180 * s, 13, 180 * s, "none", color))
    parts.append(line(x - 6, floor, x + 40 * len(teacher)))
    return parts


def line(x1: float, y: float, x2: float) -> str:
    return f"<line x1='{x1:g}' y1='{y:g}' x2='{x2:g}' y2='{y:g}' stroke='{LINE}' stroke-width='1.5'/>"


def partition() -> str:
    """One row split into {target} and {rest}: the chain rule with its numbers."""
    student = torch.tensor([[1.6, 1.0, 0.2, -0.2, 0.6]], dtype=torch.float64)
    teacher = torch.tensor([[3.0, 1.6, 1.1, -0.4, -0.6]], dtype=torch.float64)
    rows = fr.Logits(student, teacher, torch.tensor([0]))
    split = fr.split_kl(student, teacher, fr.by_target(rows))
    t, s = teacher.softmax(1)[0].tolist(), student.softmax(1)[0].tolist()
    inside_t, inside_s = teacher[0, 1:].softmax(0).tolist(), student[0, 1:].softmax(0).tolist()
    colors, floor = [TARGET, *[REST] * 4], 226.0
    between, within, mass = split.between.item(), split.within[0, 1].item(), split.mass[0, 1].item()
    return picture(
        880,
        340,
        "KL of one row, split into the part between groups and the part within the rest",
        [
            text(140, 34, "one row, 5 classes", 16, more="font-weight='600'"),
            *bars(46, floor, t, s, colors),
            text(61, floor + 20, "label", 13),
            text(164, floor + 20, "the rest", 13),
            arrow(262, 150, 318, 150),
            text(384, 34, "between", 16, more="font-weight='600'"),
            *bars(346, floor, [t[0], 1 - t[0]], [s[0], 1 - s[0]], [TARGET, REST]),
            text(384, floor + 20, "label · rest", 13),
            text(492, 150, "+ mass ×", 16),
            text(650, 34, "within the rest", 16, more="font-weight='600'"),
            *bars(570, floor, inside_t, inside_s, [REST] * 4),
            text(650, floor + 20, "renormalised to 1", 13),
            box(786, 92, 14, 14, LINE), text(808, 104, "teacher", 13, "start"),
            box(786, 118, 14, 14, "none", LINE), text(808, 130, "student", 13, "start"),
            text(140, 288, f"KL = {split.total.item():.3f}", 17),
            text(290, 288, "=", 17),
            text(384, 288, f"{between:.3f}", 17),
            text(492, 288, f"+ {mass:.3f} ×", 17),
            text(650, 288, f"{within:.3f}", 17),
            text(140, 314, "KD", 13), text(384, 314, "TCKD", 13),
            text(492, 314, "teacher’s mass", 13), text(650, 314, "NCKD", 13),
        ],
    )  # fmt: skip


def streams() -> str:
    """Three components, three streams, two momentum buffers: DeepKD with the rule of the paper."""
    method = fr.methods.deepkd(fr.methods.dkd())
    apart, merged = method.momenta(0.9, merge=False), method.momenta(0.9)
    parts = [
        text(x, 34, words, 16, more="font-weight='600'")
        for x, words in (
            (110, "components"),
            (330, "streams"),
            (570, "momentum buffers"),
            (790, "weights"),
        )
    ]
    heights = {}
    for i, name in enumerate(apart):
        y = 62 + 62 * i
        heights[name] = y + 21
        color = TARGET if name == "target" else REST
        parts += [
            box(30, y, 160, 42, "#f6f8fa", LINE, 6), text(110, y + 27, name),
            arrow(192, y + 21, 242, y + 21),
            box(246, y, 168, 42, "#f6f8fa", color, 6),
            text(330, y + 27, f"{name}, m = {apart[name]:.3g}"),
        ]  # fmt: skip
    for i, name in enumerate(merged):
        y = 80 + 80 * i
        color = TARGET if name == "target" else REST
        parts += [arrow(416, heights[each], 466, y + 23) for each in name.split("+")]
        parts += [
            box(470, y, 200, 46, "#f6f8fa", color, 6),
            text(570, y + 29, f"V ← {merged[name]:.3g} V + g"),
            arrow(672, y + 23, 724, 134 + 18 * i),
        ]  # fmt: skip
    parts += [
        box(728, 118, 124, 50, "#f6f8fa", LINE, 6), text(790, 149, "θ ← θ − η ΣV"),
        text(440, 276, f"{len(apart)} streams, {method.backward_passes} backward passes: "
             "streams with equal momentum are one buffer"),
    ]  # fmt: skip
    return picture(880, 300, "Components, gradient streams and momentum buffers of DeepKD", parts)


PICTURES = {"partition.svg": partition, "streams.svg": streams}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (STATIC / name).write_text(draw(), encoding="utf-8")
