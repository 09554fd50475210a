"""A network that returns more than its logits leaves the package as one that returns them alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fractionate.export.formats import FORMATS, compare
from fractionate.models import Description

D = Description("my_nets:dictionary", 3, (1, 4, 4), mean=(0.5,), std=(0.25,))


class Dictionary(nn.Module):
    """Features beside the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x.flatten(1)).relu()
        return {"features": features, "logits": self.fc(features)}


@pytest.mark.parametrize("format", ["torch-export", "onnx"])
def test_only_the_logits_are_written(format: str, tmp_path: Path) -> None:
    for needed in FORMATS[format][1]:
        pytest.importorskip(needed)
    net, images = Dictionary().eval(), torch.randn(4, 1, 4, 4)
    written = FORMATS[format][0](net, D, images, tmp_path)
    assert written.difference < 1e-5
    if format == "torch-export":
        again = torch.export.load(tmp_path / written.file).module()
        assert torch.allclose(again(images), net(images)["logits"], atol=1e-6)


def test_another_number_of_logits_is_no_match() -> None:
    with pytest.raises(ValueError, match="a batch of 1 gives"):
        compare(lambda x: torch.zeros(len(x), 5), Dictionary(), torch.randn(4, 1, 4, 4), "onnx")
