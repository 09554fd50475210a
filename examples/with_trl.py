"""Gradient streams in TRL's distillation trainer: the student writes, the teacher grades, every stream steps by itself.

Needs ``trl``; models and tokenizer are tiny and start from random numbers, so nothing is downloaded:

    python examples/with_trl.py
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import fractionate as fr

METHOD = fr.methods.deepkd(fr.methods.gdkd(k=5, temperature=1.0, warmup=1))
WORDS = ["<pad>", "<end>", *(f"w{i}" for i in range(30))]


class Distil(trl.DistillationTrainer):
    """The optimizer that it was given holds what :meth:`compute_loss` differentiates."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Streams over the tokens that the student wrote, for which they are the labels."""
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, : inputs["prompt_ids"].shape[1]] = -100
        with torch.no_grad():
            teacher = self.teacher_model(ids, attention_mask=mask).logits
        rows = fr.rows.tokens(model(ids, attention_mask=mask).logits, teacher, labels)
        losses = METHOD.stream_losses(rows, fr.Progress(epoch=1, epochs=1))
        self.optimizer.optimizer.hold(fr.stream_grads(losses, model))  # inside Accelerate's wrapper
        loss = sum(losses.values()).detach().requires_grad_()
        return (loss, None) if return_outputs else loss


def llama(width: int) -> LlamaForCausalLM:
    """A Llama of a few thousand parameters."""
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.5,
        pad_token_id=0,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def words() -> PreTrainedTokenizerFast:
    """A token for each of a few words."""
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<end>", padding_side="left")


def main() -> list[float]:
    """The losses of all steps."""
    torch.manual_seed(0)
    student, teacher = llama(16), llama(32)
    optimizer = fr.StreamAdamW(student.parameters(), lr=2e-2, betas=METHOD.momenta(0.9), weight_decay=0.0)
    prompts = Dataset.from_dict({"prompt": [f"w{i} w{i + 1}" for i in range(16)]})
    with tempfile.TemporaryDirectory() as folder:
        arguments = trl.DistillationConfig(
            folder,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=1,
            max_completion_length=8,
            num_train_epochs=12,
            max_grad_norm=0,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Distil(
            model=student,
            teacher_model=teacher,
            args=arguments,
            train_dataset=prompts,
            processing_class=words(),
            optimizers=(optimizer, None),
        )
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    seen = main()
    print(f"{len(seen)} steps, loss {seen[0]:.3f} to {seen[-1]:.3f}")
