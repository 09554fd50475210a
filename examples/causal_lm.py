"""Distil a Hugging Face causal language model: in its Trainer, and in a loop of your own with one stream per component.

Needs ``transformers`` and ``accelerate``; the models are tiny and start from random numbers, so nothing is downloaded:

    python examples/causal_lm.py
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import fractionate as fr

VOCABULARY, LENGTH, PROMPT = 97, 24, 4


def llama(width: int, layers: int, spread: float) -> nn.Module:
    """A Llama of a few thousand parameters; ``spread`` of the initial weights (large: a teacher with opinions)."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        initializer_range=spread,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def sentences(count: int, seed: int) -> list[dict[str, Tensor]]:
    """Random tokens; the prompt's are not to be learned."""
    ids = torch.randint(VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(seed))
    labels = ids.clone()
    labels[:, :PROMPT] = -100
    return [
        {"input_ids": i, "attention_mask": torch.ones_like(i), "labels": y} for i, y in zip(ids, labels, strict=True)
    ]


@dataclass(frozen=True)
class Distillation:
    """What the loss needs of a batch, without logits of all tokens.

    Args:
        teacher: frozen model with the student's vocabulary.
        method: any method whose rows are independent.
        chunk: tokens whose logits are held at once.
    """

    teacher: nn.Module
    method: fr.Method
    chunk: int = 64

    def arguments(self, student: nn.Module, head: Tensor, batch: dict[str, Tensor]) -> dict[str, Any]:
        """Arguments of ``fr.linear_loss``; token t predicts token t + 1."""
        with torch.no_grad():
            seen = hidden_states(self.teacher, batch)
        return {
            "method": self.method,
            "hidden": hidden_states(student, batch),
            "weight": head,
            "target": batch["labels"][:, 1:],
            "teacher": fr.LinearLogits(seen, self.teacher.get_output_embeddings().weight),
            "chunk": self.chunk,
        }


def hidden_states(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """``[b, t - 1, d]`` what the output matrix is applied to; the model itself computes one token's logits only."""
    out = model(batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True, logits_to_keep=1)
    return out.hidden_states[-1][:, :-1]


class DistillationTrainer(Trainer):
    """The Trainer with a distillation loss; everything else stays as it is."""

    def __init__(self, *args: Any, distillation: Distillation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.distillation = distillation

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The mean over the tokens of all accumulated batches, where the Trainer has counted them."""
        head = self.accelerator.unwrap_model(model).get_output_embeddings().weight
        loss = fr.linear_loss(**self.distillation.arguments(model, head, inputs), count=num_items_in_batch)
        return (loss, {}) if return_outputs else loss


def with_trainer(student: nn.Module, distillation: Distillation, data: list, steps: int, folder: str) -> Trainer:
    """Train with AdamW and gradient accumulation, as the Trainer does."""
    options = TrainingArguments(
        folder,
        max_steps=steps,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=3e-3,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        prediction_loss_only=True,
    )
    trainer = DistillationTrainer(student, options, train_dataset=data, distillation=distillation)
    trainer.train()
    return trainer


def with_streams(student: nn.Module, distillation: Distillation, data: list, steps: int) -> fr.StreamSGD:
    """Train with one gradient stream per component group, each with its own momentum."""
    momenta = distillation.method.momenta(0.9)
    optimizer = fr.StreamSGD(student.parameters(), lr=0.05, momentum=momenta)
    head = student.get_output_embeddings().weight
    for step in range(steps):
        first = 16 * step % len(data)
        batch = {name: torch.stack([x[name] for x in data[first : first + 16]]) for name in data[0]}
        losses = fr.linear_stream_losses(**distillation.arguments(student, head, batch))
        optimizer.step(fr.stream_grads(losses, student))
    return optimizer


@torch.no_grad()
def divergence(student: nn.Module, teacher: nn.Module, data: list) -> float:
    """KL(teacher || student) per token, in nats."""
    ids = torch.stack([x["input_ids"] for x in data])
    log_s, log_t = (model(ids).logits.log_softmax(-1) for model in (student, teacher))
    return float((log_t.exp() * (log_t - log_s)).sum(-1).mean())


def main(steps: int = 150) -> dict[str, tuple[float, float]]:
    """Distil twice; the divergence from the teacher on held-out sentences before and after."""
    torch.manual_seed(0)
    teacher = llama(width=32, layers=1, spread=0.3).requires_grad_(False).eval()
    data, held_out = sentences(512, seed=0), sentences(64, seed=1)
    gdkd = fr.methods.gdkd(k=5, temperature=1.0, w2=1.0, warmup=1, ce_weight=0.0)
    found = {}
    for name in ("Trainer", "StreamSGD"):
        student = llama(width=16, layers=1, spread=0.02)
        before = divergence(student, teacher, held_out)
        if name == "Trainer":
            with tempfile.TemporaryDirectory() as folder:
                with_trainer(student, Distillation(teacher, gdkd), data, steps, folder)
        else:
            with_streams(student, Distillation(teacher, fr.methods.deepkd(gdkd)), data, steps)
        found[name] = before, divergence(student, teacher, held_out)
        print(f"{name:10} divergence from the teacher {before:.3f} -> {found[name][1]:.3f}")
    return found


if __name__ == "__main__":
    main()
