"""Students with a distillation token in the trainer: both heads learn, and a student without one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fractionate.config.method import MethodSpec
from fractionate.train.build import prepare
from fractionate.train.checks import check_training
from fractionate.train.loop import fit
from tests.train.runs import tiny


class TwoHeads(nn.Module):
    """As timm's distilled transformers answer: both heads in training once told so, their mean otherwise."""

    def __init__(self, named: bool = False) -> None:
        super().__init__()
        self.body, self.head, self.head_dist = nn.Linear(64, 8), nn.Linear(8, 10), nn.Linear(8, 10)
        self.distilled_training, self.named = False, named

    def set_distilled_training(self, enable: bool = True) -> None:
        self.distilled_training = enable

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor] | dict[str, Tensor]:
        x = self.body(images.flatten(1)).relu()
        first, second = self.head(x), self.head_dist(x)
        if self.named:
            return {"logits": (first + second) / 2, "cls_logits": first, "distillation_logits": second}
        return (first, second) if self.training and self.distilled_training else (first + second) / 2


def trained(named: bool, method: str | MethodSpec) -> TwoHeads:
    torch.manual_seed(0)
    net = TwoHeads(named)
    training = prepare(tiny(method), student=net)
    check_training(training)
    for _ in fit(training):
        pass
    return net


@pytest.mark.parametrize("method", ["deit", MethodSpec.parse("gdkd+on_view(distillation=token)")], ids=str)
def test_heads_by_place_and_by_name_train_alike(method: str | MethodSpec) -> None:
    by_place, by_name = (trained(named, method).state_dict() for named in (False, True))
    for key, value in by_place.items():
        assert torch.equal(value, by_name[key]), key


def test_the_token_s_head_learns_from_the_teacher_alone() -> None:
    spec = MethodSpec("deit", {"weight": 0.0})
    net = trained(False, spec)
    torch.manual_seed(0)
    fresh = TwoHeads()
    moved = {k: not torch.equal(v, fresh.state_dict()[k]) for k, v in net.state_dict().items()}
    assert moved["head.weight"]
    decay = (1 - 0.01 * 5e-4) ** 40  # nothing but decay can reach it
    assert torch.allclose(net.head_dist.weight, fresh.head_dist.weight, atol=1 - decay)


def test_a_student_without_a_token_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(ValueError, match="token of the student, and ConvNet has none"):
        check_training(prepare(tiny("deit")))


def test_teachers_are_asked_as_ever(tmp_path: Path) -> None:
    training = prepare(tiny("deit"), student=TwoHeads())
    batch = next(iter(training.train.batches(1)))
    lg = training.task.rows(training.student, training.teacher, batch)
    assert lg.token is not None
    assert torch.equal(lg.token.teacher, lg.teacher)
    assert not torch.equal(lg.token.student, lg.student)
