"""A teacher sees pixels as it was trained to, whatever the source did to them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from fractionate.config.run import Network
from fractionate.data import normalization_of
from fractionate.models import Preprocessing
from fractionate.runs import save_weights
from fractionate.teachers.live import Prepared
from fractionate.train.build import prepare
from tests.train.runs import tiny

WANTED = Preprocessing((12, 12), mean=(0.25,), std=(0.125,), interpolation="bilinear")


def with_preprocessing(num_classes: int) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(4, num_classes))
    net.preprocessing = WANTED
    return net


def test_a_teacher_from_elsewhere_sees_the_batch_in_its_own_size_and_normalisation() -> None:
    training = prepare(tiny("kd", teacher=Network("tests.teachers.test_prepared:with_preprocessing")))
    batch, have = next(iter(training.train.batches(1))), normalization_of(training.train)
    assert have is not None
    assert training.teacher is not None
    logits, _ = training.teacher(batch)
    torch.manual_seed(training.run.seed + 1)  # as the trainer builds it
    net = with_preprocessing(10).eval()
    mean, std = (torch.tensor(x)[:, None, None] for x in (have.mean, have.std))
    expected: Tensor = net(WANTED(batch.images * std + mean))
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits, net(batch.images), atol=1e-3)


def test_a_teacher_trained_here_sees_pixels_as_the_data_have_them(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("", encoding="utf-8")
    save_weights(with_preprocessing(10), tmp_path / "student.safetensors")
    name, weights = "tests.teachers.test_prepared:with_preprocessing", str(tmp_path / "student.safetensors")
    here = prepare(tiny("kd", teacher=Network(name, weights)))
    assert not any(isinstance(m, Prepared) for m in here.teacher.net.modules())
    (tmp_path / "config.yaml").unlink()
    elsewhere = prepare(tiny("kd", teacher=Network(name, weights)))
    assert any(isinstance(m, Prepared) for m in elsewhere.teacher.net.modules())
