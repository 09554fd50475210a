"""What docs/frameworks.md says of saving, resuming and recomputing in the loops of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fractionate as fr

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("unchecked")]
METHOD = fr.methods.deepkd(fr.methods.dkd(warmup=1))


def streams_of(net: nn.Module) -> fr.StreamAdamW:
    return fr.StreamAdamW(net.parameters(), lr=5e-3, betas=METHOD.momenta(0.9))


def test_accelerate_restores_the_buffers_of_streams(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="its loop is tested: pip install accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    x, y, t = torch.randn(8, 6), torch.arange(8), torch.randn(8, 10)
    net = nn.Linear(6, 10)
    opt = streams_of(net)
    net, wrapped = accelerator.prepare(net, opt)

    def steps() -> Tensor:
        for _ in range(3):
            opt.hold(fr.stream_grads(METHOD.stream_losses(fr.Logits(net(x), t, y)), net))
            wrapped.step()
            wrapped.zero_grad()
        return net.weight.detach().clone()

    steps()
    accelerator.save_state(tmp_path)
    expected = steps()
    accelerator.load_state(tmp_path)
    assert torch.equal(steps(), expected)


def tiny(transformers: Any, width: int) -> nn.Module:
    torch.manual_seed(width)
    config = transformers.ViTConfig(
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
        num_labels=10,
        hidden_dropout_prob=0.0,
    )
    return transformers.ViTForImageClassification(config)


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("accelerate", reason="the Hugging Face Trainer needs it: pip install accelerate")
    return pytest.importorskip("transformers", reason="its Trainer is tested: pip install transformers")


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 10)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.head(pixel_values.flatten(1))


def trained(transformers: Any, folder: Path, resume: bool) -> nn.Module:
    torch.manual_seed(0)
    student, teacher = Flat(), Flat().requires_grad_(False)  # resuming renames weights of some models of transformers'
    opt = streams_of(student)

    class Distil(transformers.Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None):
            pixels = inputs["pixel_values"]
            rows = fr.Logits(model(pixels), teacher(pixels), inputs["labels"])
            losses = METHOD.stream_losses(rows)
            opt.hold(fr.stream_grads(losses, model))
            return sum(losses.values()).detach().requires_grad_()

    random = torch.Generator().manual_seed(0)
    data = [{"pixel_values": torch.randn(3, 8, 8, generator=random), "labels": i} for i in range(8)]
    arguments = transformers.TrainingArguments(
        str(folder),
        per_device_train_batch_size=4,
        num_train_epochs=3,
        max_grad_norm=0,
        use_cpu=True,
        save_steps=3,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Distil(student, arguments, train_dataset=data, optimizers=(opt, None))
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-3") if resume else None)
    return student


def test_the_hugging_face_trainer_resumes_with_the_buffers_of_streams(transformers: Any, tmp_path: Path) -> None:
    whole, resumed = trained(transformers, tmp_path, False), trained(transformers, tmp_path, True)
    for (name, p), q in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-5, atol=1e-7, msg=name)


def test_a_hugging_face_model_that_recomputes_layers_is_trained_or_refused(transformers: Any) -> None:
    plain, recomputed = tiny(transformers, 8).train(), tiny(transformers, 8).train()
    x = torch.randn(2, 3, 8, 8)
    recomputed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    grads = [fr.stream_grads({"loss": net(x).logits.square().sum()}, net)["loss"] for net in (plain, recomputed)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)
    recomputed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(ValueError, match="use_reentrant=False"):
        fr.stream_grads({"loss": recomputed(x).logits.square().sum()}, recomputed)
