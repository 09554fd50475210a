"""Arguments of a plainly wrong type are named in one sentence, at every public door."""

import pickle
import re

import pytest
import torch

import fractionate as fr
from fractionate.data import Batch
from fractionate.language import linear_loss
from fractionate.losses import SampledLogits, TopLogits
from fractionate.optim import StreamAdamW, StreamSGD, clip_total
from fractionate.teachers import LiveTeacher, TeacherTable

Z, Y = torch.randn(4, 6), torch.tensor([0, 1, 2, 3])
ROWS = fr.Logits(Z, Z.flip(1), Y)
NET = torch.nn.Linear(3, 6)
KD = fr.methods.kd()
IMAGES = torch.zeros(2, 3, 4, 4)

WRONG = {
    "progress": lambda: KD.loss(ROWS, 3),
    "lg": lambda: KD.stream_losses(Z),
    "momentum": lambda: KD.momenta("0.9"),
    "means": lambda: KD.combine(None, fr.rows.Progress()),
    "background": lambda: fr.rows.rois(Z, Z, Y, background="last"),
    "ignore_index|student": lambda: fr.rows.pixels("map", IMAGES),
    "teacher": lambda: fr.rows.tokens(Z[None], None),
    "weight": lambda: fr.rows.images(Z, Z, Y, weight=object()),
    "size": lambda: fr.rows.chunks(ROWS, "2"),
    "strong": lambda: fr.Logits(Z, Z, strong=Z),
    r"teachers\[0\]": lambda: fr.Logits(Z, Z, teachers=("one",)),
    "extra": lambda: fr.Logits(Z, Z, extra=[Z]),
    "epoch": lambda: fr.rows.Progress(epoch="3"),
    "parameters": lambda: fr.stream_grads({"loss": NET(torch.ones(2, 3)).sum()}, 3),
    r"losses\['loss'\]": lambda: fr.stream_grads({"loss": 3.0}, NET),
    "reduce": lambda: fr.stream_grads({"loss": NET(torch.ones(2, 3)).sum()}, NET, reduce=True),
    "grads": lambda: clip_total([Z], 1.0),
    "max_norm": lambda: clip_total(fr.stream_grads({"loss": NET(torch.ones(2, 3)).sum()}, NET), "1"),
    "lr": lambda: StreamSGD(NET.parameters(), lr="0.1"),
    "weight_decay": lambda: StreamAdamW(NET.parameters(), weight_decay=None),
    "state_dict": lambda: StreamSGD(NET.parameters()).load_state_dict(None),
    "gradients": lambda: StreamSGD(NET.parameters()).step([Z]),
    "losses": lambda: fr.combine.min_norm({"a": [Z]}, 3, log=True),
    "gradient": lambda: fr.combine.into_grad(NET, 3),
    "partition": lambda: fr.split_kl(Z, Z, 3),
    "labels": lambda: fr.losses.swap_target(Z, None),
    "k": lambda: fr.losses.by_target_top(ROWS, "two"),
    "method": lambda: fr.methods.dot(3),
    "groups": lambda: fr.methods.ltkd(groups=None),
    "values": lambda: TopLogits(3, Y, Z),
    "temperature": lambda: TopLogits.of(Z, 2, "T"),
    "log_probs": lambda: SampledLogits(Y, None, Y),
    "hidden": lambda: linear_loss(KD, "states", Z, Y, teacher=Z),
    "net": lambda: LiveTeacher("resnet20"),
    "batch": lambda: LiveTeacher(NET)(IMAGES),
    "images": lambda: TeacherTable(NET, Batch(IMAGES, Y[:2], Y[:2])),
    "window": lambda: fr.monitors.GSNR("200"),
    "start": lambda: fr.schedules.phases(plateau=0.5, start="0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_type_is_named_with_what_came_and_what_is_expected(name: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=rf"\b({name}).*\b(got|expected)\b") as caught:
        WRONG[name]()
    assert "\n" not in str(caught.value)


def test_the_outermost_function_speaks_for_its_own_argument(unchecked: None) -> None:
    with pytest.raises(ValueError, match=re.escape("Method.loss: progress must be a Progress or None, got the number")):
        KD.loss(ROWS, 3)  # type: ignore[arg-type]


def test_other_failures_stay_as_they_are(unchecked: None) -> None:
    def loss(part: fr.Logits) -> dict[str, torch.Tensor]:
        raise AttributeError("of the user's own function")

    with pytest.raises(AttributeError, match="own function"):
        fr.rows.chunked(loss, ROWS, 2)
    with pytest.raises(TypeError, match="missing 1 required"):
        fr.losses.by_top(ROWS)  # type: ignore[call-arg]


def test_functions_that_speak_still_pickle_and_compile(unchecked: None) -> None:
    assert pickle.loads(pickle.dumps(fr.losses.standardize)) is fr.losses.standardize
    compiled = torch.compile(lambda z: fr.losses.standardize(z), backend="eager", fullgraph=True)
    assert torch.equal(compiled(Z), fr.losses.standardize(Z))
