"""The language-model example runs, and its losses are those of the models' own logits."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import fractionate as fr
from tests.asserts import assert_equal

pytest.importorskip("transformers", reason="the example distils a Hugging Face model: pip install transformers")
pytest.importorskip("accelerate", reason="the Hugging Face Trainer needs it: pip install accelerate")

pytestmark = [
    pytest.mark.slow,  # importing transformers takes seconds
    pytest.mark.filterwarnings("default::DeprecationWarning"),
]
METHOD = fr.methods.deepkd(fr.methods.gdkd(k=5, temperature=1.0, warmup=1))


@pytest.fixture(scope="module")
def example() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "causal_lm.py"
    spec = importlib.util.spec_from_file_location("causal_lm", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setitem(sys.modules, "causal_lm", module)
        spec.loader.exec_module(module)
    return module


def llama(example: ModuleType) -> nn.Module:
    return example.llama(width=8, layers=1, spread=0.2)


def gpt2(example: ModuleType) -> nn.Module:
    """Its output matrix is the embedding; without dropout, so that two passes agree."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": example.VOCABULARY, "n_positions": example.LENGTH, "n_embd": 8, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))


def plain(student: nn.Module, teacher: nn.Module, batch: dict[str, Tensor]) -> fr.Logits:
    """Rows from the logits that the models give."""
    logits = [model(batch["input_ids"]).logits[:, :-1] for model in (student, teacher)]
    return fr.rows.tokens(*logits, batch["labels"][:, 1:])


def batch_of(example: ModuleType, count: int = 4) -> dict[str, Tensor]:
    data = example.sentences(count, seed=3)
    return {name: torch.stack([x[name] for x in data]) for name in data[0]}


@pytest.mark.parametrize("family", [llama, gpt2])
def test_streams_from_hidden_states_equal_those_of_the_models_logits(example: ModuleType, family: object) -> None:
    student, teacher, batch = family(example).double(), llama(example).double().requires_grad_(False), batch_of(example)
    arguments = example.Distillation(teacher, METHOD, 10).arguments(
        student, student.get_output_embeddings().weight, batch
    )
    found = fr.stream_grads(fr.linear_stream_losses(**arguments), student)
    expected = fr.stream_grads(METHOD.stream_losses(plain(student, teacher, batch)), student)
    assert list(found) == ["task+nontarget", "target"]
    for stream in expected:
        for a, b in zip(found[stream], expected[stream], strict=True):
            assert_equal(a, b, stream, rtol=1e-8)


def test_the_trainers_loss_is_the_mean_over_the_tokens_it_counted(example: ModuleType, tmp_path: Path) -> None:
    student, teacher, batch = llama(example), llama(example).requires_grad_(False), batch_of(example)
    distillation = example.Distillation(teacher, METHOD)
    trainer = example.with_trainer(student, distillation, example.sentences(16, seed=0), 1, str(tmp_path))
    loss, kept = METHOD.loss(plain(student, teacher, batch)), int((batch["labels"][:, 1:] != -100).sum())
    assert_equal(trainer.compute_loss(student, batch), loss, rtol=1e-5)
    assert_equal(trainer.compute_loss(student, batch, num_items_in_batch=2 * kept), loss / 2, rtol=1e-5)
    evaluated = trainer.evaluate(example.sentences(4, seed=3))["eval_loss"]
    assert evaluated == pytest.approx(float(loss.detach()), rel=1e-5)


def test_accumulated_batches_weigh_every_token_alike(example: ModuleType, tmp_path: Path) -> None:
    """One step of two batches with very different numbers of tokens moves the student as one large batch does."""
    teacher, data = llama(example).requires_grad_(False), example.sentences(16, seed=0)
    for sentence in data[:8]:
        sentence["labels"][:-2] = -100
    moved = []
    for size, accumulated in ((8, 2), (16, 1)):
        torch.manual_seed(1)
        student = llama(example)
        options = example.TrainingArguments(
            str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            optim="sgd",
            learning_rate=1.0,
            max_grad_norm=0,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = example.DistillationTrainer(
            student, options, train_dataset=data, distillation=example.Distillation(teacher, METHOD)
        )
        trainer.train()
        moved.append(torch.cat([p.detach().flatten() for p in student.parameters()]))
    assert_equal(moved[0], moved[1], rtol=1e-5)


def test_both_loops_bring_the_student_closer_to_the_teacher(example: ModuleType) -> None:
    for name, (before, after) in example.main(steps=60).items():
        assert after < 0.95 * before, name
