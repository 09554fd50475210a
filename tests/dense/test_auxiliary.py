"""Distillation between two auxiliary heads, as published: every component once more, with a weight of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate.cli import main
from fractionate.config import MethodSpec, Network, Run
from fractionate.config.task import Segmentation as Settings
from fractionate.data import Batch
from fractionate.runs.folder import RunFolder
from fractionate.studies.chosen import for_teacher
from fractionate.tasks import Segmentation
from fractionate.teachers import LiveTeacher
from fractionate.train.lockstep import Answers
from tests.dense import nets, trees

C, VOID, WEIGHT = 4, 255, 0.4


def batch() -> Batch:
    g = torch.Generator().manual_seed(3)
    labels = torch.randint(C, (2, 8, 12), generator=g)
    labels[:, :2] = VOID
    return Batch(torch.rand(2, 3, 8, 12, generator=g), labels, torch.arange(2))


def networks() -> tuple[nets.WithAuxiliary, nets.WithAuxiliary]:
    torch.manual_seed(1)
    return nets.WithAuxiliary(C).double(), nets.WithAuxiliary(C).double()


def rows(maps: Tensor, target: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1)[target != VOID]


@pytest.mark.parametrize("text", ["kd(temperature=1)", "gdkd(k=2)", "dkd+deepkd", "dist", "kd+dot"])
def test_the_loss_is_that_of_both_heads_and_the_second_counts_as_it_is_told(text: str) -> None:
    student, teacher = networks()
    b = batch()
    b = Batch(b.images.double(), b.target, b.index)
    plain = MethodSpec.parse(text).build()
    task = Segmentation(Settings(auxiliary=WEIGHT, auxiliary_kd=WEIGHT))
    method = task.completed(plain)
    lg = task.rows(student, LiveTeacher(teacher, task.ask), b)
    own, other = student(b.images), teacher(b.images)
    y = b.target[b.target != VOID]
    main, aux = (fr.Logits(rows(own[k], b.target), rows(other[k], b.target).detach(), y) for k in ("out", "aux"))
    alone = plain.components(aux)
    distilled = sum(plain.parts[n].weight(fr.Progress.end()) * x.mean() for n, x in alone.items() if n != "task")
    expected = plain.loss(main) + WEIGHT * (torch.nn.functional.cross_entropy(aux.student, y) + distilled)
    assert float(method.loss(lg).detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    found, wanted = (torch.autograd.grad(x, list(student.parameters())) for x in (method.loss(lg), expected))
    for a, e in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-8, atol=1e-10)


def test_each_component_joins_the_stream_and_has_the_role_of_its_own() -> None:
    method = Segmentation(Settings(auxiliary_kd=WEIGHT)).completed(MethodSpec.parse("dkd+deepkd").build())
    for stream in method.streams:
        for name in stream.components:
            if name != "task" and not name.startswith("auxiliary"):
                assert f"auxiliary_{name}" in stream.components
                assert method.parts[f"auxiliary_{name}"].role == method.parts[name].role


def test_students_side_by_side_ask_a_teacher_s_heads_once() -> None:
    student, teacher = networks()
    asked = []
    teacher.backbone.register_forward_hook(lambda *_: asked.append(1))
    task, b = Segmentation(Settings(auxiliary_kd=WEIGHT)), batch()
    b = Batch(b.images.double(), b.target, b.index)
    shared = Answers(LiveTeacher(teacher, task.ask))
    first, second = (task.rows(student, shared, b) for _ in range(2))
    assert len(asked) == 1
    assert first.token is not None
    assert second.token is not None
    assert torch.equal(first.token.teacher, second.token.teacher)


def test_labels_alone_need_no_head_of_a_teacher_and_a_teacher_without_one_is_refused_in_words() -> None:
    student, _ = networks()
    task, b = Segmentation(Settings(auxiliary_kd=WEIGHT)), batch()
    b = Batch(b.images.double(), b.target, b.index)
    assert task.rows(student, None, b).token is None
    assert task.completed(MethodSpec("ce").build()).parts.keys() == {"task"}
    without = LiveTeacher(nets.plain(C).double(), task.ask)
    with pytest.raises(ValueError, match=r"the teacher of this run returns no map 'aux'.*task\.auxiliary_kd=0"):
        task.rows(student, without, b)
    with pytest.raises(ValueError, match=r"the student Sequential returns no map 'aux'"):
        task.rows(nets.plain(C).double(), LiveTeacher(student, task.ask), b)
    with pytest.raises(ValueError, match="auxiliary_kd must be at least 0"):
        Run(student=Network("resnet8"), method=MethodSpec("kd"), task=Settings(auxiliary_kd=-1.0))


@pytest.mark.parametrize(
    ("said", "weight"),
    [
        (["task.auxiliary=0.2", "task.auxiliary_kd=0.4"], ["task.auxiliary=0.2"]),
        (["task.auxiliary_kd=1"], ["task.auxiliary=0.4"]),  # the published one: the head has to learn something
        (["task.auxiliary=0.2"], []),  # the student's own head; the teacher may have none
        (["task.auxiliary_kd=0", "task.auxiliary=0.2"], []),
        (["task.auxiliary_kd=much"], []),  # refused where the student's run is made
    ],
)
def test_a_head_that_is_distilled_is_trained_with_the_teacher(said: list[str], weight: list[str]) -> None:
    assert for_teacher(said, "camvid") == weight


def test_a_teacher_whose_auxiliary_head_learnt_nothing_is_refused_and_one_of_the_command_has_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, net = trees.camvid(tmp_path / "camvid"), "tests.dense.nets:with_auxiliary"
    words = ["train", "segmentation", "--data", str(root), "--teacher", net, "--student", net, "--epochs", "1"]
    words += ["--teacher-epochs", "1", "data.crop=[16, 16]", "data.batch_size=3", "device=cpu", "threads=1"]
    both = [*words, "--no-export", "task.auxiliary=0.4", "task.auxiliary_kd=0.4"]
    assert main([*both, "--out", str(tmp_path / "out")]) == 0
    (place,) = (tmp_path / "out").glob("teacher-*")
    taught = RunFolder(place)
    assert taught.config().task == Settings(auxiliary=0.4)
    again = [*both, "--teacher-checkpoint", str(taught.student)]
    assert main([*again, "--out", str(tmp_path / "again")]) == 0
    begun = taught.config()
    (place / "config.yaml").write_text(fr.config.to_yaml(replace(begun, task=Settings())))
    capsys.readouterr()
    assert main([*again, "--out", str(tmp_path / "refused")]) == 2
    error = capsys.readouterr().err
    assert "task.auxiliary_kd=0.4: the auxiliary head of the teacher" in error
    assert "was not trained" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "refused").exists()
