"""CIFAR's images at another side: made once, the same for all, before any augmentation."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fractionate.config.data import Data
from fractionate.data import resized
from fractionate.train.sources import sources


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder, random = tmp_path / "cifar-100-python", np.random.default_rng(0)
    folder.mkdir()
    for name in ("train", "test"):
        labels = [*range(100)] * 2
        content = {"data": random.integers(0, 256, (200, 3072), dtype=np.uint8), "fine_labels": labels}
        (folder / name).write_bytes(pickle.dumps(content, 4))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"c{i}" for i in range(100)]}, 4))
    return tmp_path


def shown(root: Path, size: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    train, test = sources(Data("cifar100", str(root), size=size, labels_per_class=1), 0, torch.device("cpu"))
    return tuple(torch.cat([b.images[b.index.argsort()] for b in part.batches(1)]) for part in (train, test))  # type: ignore[return-value]


def test_both_parts_have_the_side_of_the_config_and_the_same_pixels_every_time(root: Path) -> None:
    first, again = shown(root, 16), shown(root, 16)
    assert [x.shape[-2:] for x in first] == [(16, 16)] * 2
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_without_a_size_they_are_as_they_were(root: Path) -> None:
    assert all(torch.equal(a, b) for a, b in zip(shown(root, None), shown(root, 32), strict=True))


def test_a_flat_image_keeps_its_colour_and_a_half_is_the_antialiased_mean() -> None:
    flat = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    assert torch.equal(resized(flat, 16), torch.full((1, 3, 16, 16), 77, dtype=torch.uint8))
    ramp = torch.arange(32, dtype=torch.uint8).repeat(1, 1, 32, 1)
    inner = resized(ramp, 16)[0, 0, 5, 2:-2].float()  # a triangle of width 4 over a ramp: its own middle
    assert (inner - (2 * torch.arange(2, 14) + 0.5)).abs().max() <= 0.5
