"""Draw the plan of the house: python docs/draw_house.py

A test compares the file with what this draws, the rooms with the package, and the storeys with what the rooms import.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from draw import LINE, STATIC, TARGET, box, picture, text

STOREYS = {
    "At the door: what somebody asks for": {
        "cli": "words of the terminal",
        "commands": "words to calls",
        "studies": "plans of several runs",
        "probe": "doctor, profile, cost",
        "export": "students as files",
    },
    "Runs: what is written down": {
        "recipes": "complete runs by name",
        "papers": "published settings",
        "runs": "folders, resume, stop",
        "report": "tables, charts, a page",
    },
    "Training: how a run moves": {
        "train": "build, step, loop",
        "tasks": "batch to rows, metrics",
        "teachers": "batch to teacher logits",
        "config": "a run as frozen data",
        "world": "processes of a step",
    },
    "The calculus: what is learned": {
        "methods": "parts and roles",
        "language": "hidden states",
        "losses": "functions of rows",
        "kernels": "a split, fast",
        "schedules": "numbers in time",
        "monitors": "gradients seen",
        "combine": "one gradient",
        "testing": "proofs, in code",
    },
    "The ground: what knows nobody else": {
        "pictures": "folders, before any torch",
        "data": "batches of pixels, augmented",
        "models": "networks and weights",
        "rows": "[n, c] logits with labels",
        "optim": "a momentum per stream",
    },
}
STEP = ["data", "models", "teachers", "tasks", "rows", "methods", "losses", "kernels", "optim"]  # one training step
WIDTH, HIGH, GAP, LEFT = 1080, 56, 8, 20


def room(name: str, knows: str, x: float, y: float, wide: float) -> list[str]:
    """A room, with its number if a training step passes it."""
    passed = name in STEP
    parts = [
        box(x, y, wide, HIGH, "#fdf3ec" if passed else "#f6f8fa", TARGET if passed else LINE, 6),
        text(x + 10, y + 24, name, 15, "start", "font-weight='600'"),
        text(x + 10, y + 43, knows, 12, "start"),
    ]
    if passed:
        middle = x + wide - 16
        parts.append(f"<circle cx='{middle:g}' cy='{y + 18:g}' r='9' fill='{TARGET}'/>")
        parts.append(text(middle, y + 22, str(STEP.index(name) + 1), 11, more="style='fill:#ffffff'"))
    return parts


def house() -> str:
    """All rooms, storey by storey; whoever is higher may import what is lower."""
    parts: list[str] = []
    y = 34.0
    for title, rooms in STOREYS.items():
        parts.append(text(LEFT, y, title, 13, "start", "font-weight='600'"))
        wide = (WIDTH - 2 * LEFT + GAP) / len(rooms) - GAP
        for i, (name, knows) in enumerate(rooms.items()):
            parts += room(name, knows, LEFT + i * (wide + GAP), y + 10, wide)
        y += HIGH + 40
    parts.append(
        text(LEFT, y - 4, "Rooms import from their own storey and below. Numbers: the way of one step.", 13, "start")
    )
    title = "The rooms of the package in five storeys, with the way of one training step"
    return picture(WIDTH, int(y + 14), title, parts)


if __name__ == "__main__":
    (STATIC / "house.svg").write_text(house(), encoding="utf-8")
