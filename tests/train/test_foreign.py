"""Networks that return more than logits train as the plain ones do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fractionate.models import create, logits_of
from fractionate.teachers.live import folded
from fractionate.train import fit, prepare
from fractionate.train.average import Average
from fractionate.train.checks import check_training
from tests.train.runs import tiny


class Answering(nn.Module):
    """A network of the package with another form of output."""

    def __init__(self, name: str, how: Callable[[Tensor, bool], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.how = create(name, num_classes=10), how

    def forward(self, x: Tensor) -> Any:
        return self.how(self.net(x), self.training)


HOW: dict[str, Callable[[Tensor, bool], Any]] = {
    "dict": lambda z, training: {"logits": z, "again": z},
    "maps of one pixel": lambda z, training: z[:, :, None, None],
    "auxiliary heads in training": lambda z, training: {"out": z, "aux": -z} if training else z,
    "a tuple with maps": lambda z, training: (z, z[:, :, None, None].expand(-1, -1, 2, 2)),
}


def trained(how: Callable[[Tensor, bool], Any], **changes: Any) -> list[Tensor]:
    run = tiny("kd", epochs=1, **changes)
    student, teacher = (Answering(name, how) for name in ("convnet_4_8", "convnet_8_16"))
    training = prepare(run, student=student, teacher=teacher)
    check_training(training)
    list(fit(training))
    return [*training.student.state_dict().values()]


@pytest.mark.parametrize("table", ["off", "lazy"])
@pytest.mark.parametrize("kind", HOW)
def test_training_is_the_same_whatever_form_the_logits_come_in(kind: str, table: str) -> None:
    changes = {"teacher_table": table, "teacher_table_place": "memory"}
    plain, other = trained(lambda z, training: z, **changes), trained(HOW[kind], **changes)
    assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_average_of_a_weight_normed_network_averages_what_is_learnt() -> None:
    net = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(4, 3)))
    x = torch.ones(1, 1, 2, 2)
    net(x)
    average = Average(net, decay=0.5)
    before = net[1].weight_g.detach().clone()
    with torch.no_grad():
        net[1].weight_g.mul_(3)
    average.update(net)
    assert torch.equal(average.net[1].weight_g, 2 * before)
    assert logits_of(average.net, x).shape == (1, 3)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_folding_leaves_a_weight_normed_convolution_alone() -> None:
    conv = nn.utils.weight_norm(nn.Conv2d(1, 4, 3))
    net = nn.Sequential(conv, nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1)).eval()
    images = torch.randn(4, 1, 8, 8)
    short = folded(net, images)
    kinds = [type(module) for module in short]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.Identity, nn.AdaptiveAvgPool2d]
    assert torch.allclose(short(images), net(images), atol=1e-5)
