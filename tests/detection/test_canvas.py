"""The generated set: real digits in tight boxes, and the same images for the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

# Benchmarks are run from the root of a checkout and not installed.
from benchmarks import digits_on_canvas as canvas

from fractionate.data import digits
from fractionate.data.boxes import annotated


def test_the_set_is_read_as_it_was_written_and_written_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        canvas.main([str(tmp_path / name), "--train", "12", "--test", "5"])
    files = [sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("one", "two")]
    assert [a.read_bytes() for a in files[0]] == [b.read_bytes() for b in files[1]]
    train, test = (annotated(str(tmp_path / "one"), part) for part in ("train", "test"))
    assert (len(train), len(test), train.classes) == (12, 5, tuple("0123456789"))
    boxes = torch.cat([p.boxes for p in train.found])
    sides = boxes[:, 3:5] - boxes[:, 1:3]
    assert bool((sides >= 4).all() & (sides <= canvas.LARGEST).all())
    assert 1 <= min(len(p.boxes) for p in train.found) <= max(len(p.boxes) for p in train.found) <= canvas.MOST
    with pytest.raises(SystemExit):
        canvas.main([str(tmp_path / "one")])


def test_a_digit_is_seen_in_its_box_and_no_test_digit_is_one_of_the_training_images() -> None:
    source = digits("train")
    pixels, found = canvas.image_of(source, 0, 3)
    again, _ = canvas.image_of(source, 0, 3)
    other, _ = canvas.image_of(source, 1, 3)
    assert (pixels == again).all()
    assert (pixels != other).any()
    assert all(0 <= digit <= 9 and left >= 0 and top >= 0 for digit, (left, top, *_) in found)
    rows = [{tuple(x.flatten().tolist()) for x in digits(part).images} for part in ("train", "test")]
    assert not rows[0] & rows[1]
