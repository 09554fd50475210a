"""What an epoch's end shows of the streams, against the same thing computed by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import fractionate as fr
from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.run import Monitors, Network, Run
from fractionate.monitors import GSNR
from fractionate.optim import StreamGrads
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.train.observed import by_layer, layers_of, sizes_by_rank, update_shares

ALL = Monitors(gsnr_window=2, cosines=True, norms=True, shares=True, layers=True, ranks=True)


def rows():
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(2, 30, 9, generator=generator, dtype=torch.float64)
    return fr.Logits(z[0], 2 * z[1], torch.arange(30) % 9)


@pytest.mark.parametrize("method", [fr.methods.deepkd(fr.methods.dkd()), fr.methods.dot(fr.methods.kd())])
def test_sizes_by_rank_are_those_of_the_gradient_row_by_row(method):
    lg = rows()
    found = sizes_by_rank(method, lg, fr.Progress.end())
    for stream in method.streams:
        sums = [0.0] * 9
        for i in range(30):
            z = lg.student[i : i + 1].clone().requires_grad_()
            one = fr.Logits(z, lg.teacher[i : i + 1], lg.target[i : i + 1])
            loss = method.stream_losses(one, fr.Progress.end(), merge=False)[stream.name]
            grad = torch.autograd.grad(loss, z)[0][0].abs()
            for rank, c in enumerate(sorted(range(9), key=lambda c, i=i: -float(lg.teacher[i, c]))):
                sums[rank] += float(grad[c]) / 30
        expected = {f"{stream.name}|{r}": sums[r - 1] for r in range(1, 6)} | {f"{stream.name}|6": sum(sums[5:]) / 4}
        assert {n: x for n, x in found.items() if n.startswith(f"{stream.name}|")} == pytest.approx(expected)


def test_the_label_alone_is_pushed_by_the_target_stream_at_certain_ranks():
    """TCKD pushes the label against all others, so that rank 1 of a teacher who is right has as much as they all."""
    lg = rows()
    lg = fr.Logits(lg.student, lg.teacher, lg.teacher.argmax(1))
    method = fr.methods.deepkd(fr.methods.dkd())
    found = sizes_by_rank(method, lg, fr.Progress.end())
    others = sum(found[f"target|{r}"] for r in range(2, 6)) + 4 * found["target|6"]
    assert found["target|1"] == pytest.approx(others)
    assert found["nontarget|1"] == pytest.approx(0, abs=1e-12)


def test_layers_are_the_modules_right_below_the_network():
    net = nn.Sequential()
    net.add_module("stem", nn.Linear(3, 4))
    net.add_module("body", nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    extra = nn.Parameter(torch.zeros(1))
    names = layers_of(net, [*net.parameters(), extra])
    assert names == ["stem"] * 2 + ["body"] * 4 + ["method"]


def test_the_ratio_of_a_layer_is_that_of_its_gradients_alone():
    p, q = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    layers, whole, alone = {id(p): "a", id(q): "b"}, GSNR(2), GSNR(2)
    for g in (1.0, 3.0):
        grads = StreamGrads({"task": (torch.full((2,), g), None)}, (p, q))
        whole.update(by_layer(grads, layers))
        alone.update({"task": [torch.full((2,), g)]})
    found = whole.read()
    assert found["a|task"] == alone.read()["task"]
    assert found["b|task"].ratio == 0


def test_shares_are_those_of_the_buffers_times_their_gain():
    method = fr.methods.deepkd(fr.methods.dkd(), normalize_gain=True)
    momenta = method.momenta(0.9, merge=False)
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = fr.StreamSGD([p], lr=0.1, momentum=momenta)
    assert set(update_shares(optimizer).values()) == {0.0}
    for _ in range(400):
        optimizer.step({name: [torch.tensor([1.0], dtype=torch.float64)] for name in momenta})
    assert update_shares(optimizer) == pytest.approx(dict.fromkeys(momenta, 1 / 3), rel=1e-3)  # gains are normalised


def test_under_adamw_the_gain_of_heavy_balls_counts_in_the_share():
    momenta = fr.methods.dot(fr.methods.kd()).momenta(0.9, merge=False)
    found = {}
    for gain in ("normalised", "heavy-ball"):
        p = nn.Parameter(torch.zeros(1))
        optimizer = fr.StreamAdamW([p], lr=0.1, betas=momenta, gain=gain)
        for _ in range(600):
            optimizer.step({name: [torch.ones(1)] for name in momenta})
        found[gain] = update_shares(optimizer)["task"]
    assert found["normalised"] == pytest.approx(0.5, rel=1e-3)
    assert found["heavy-ball"] == pytest.approx((1 / 0.175) / (1 / 0.175 + 1 / 0.025), rel=1e-3)


def tiny(monitors):
    data = Data(labels_per_class=4, batch_size=20, shift=1)
    net, spec = Network("convnet_4_8"), MethodSpec.parse("dkd+deepkd")
    return Run(net, spec, net, data=data, epochs=2, device="cpu", threads=1, monitors=monitors)


def test_observing_all_of_it_changes_no_weight(tmp_path):
    plain = run_in_folder(tiny(Monitors(norms=True)), tmp_path / "plain")
    full = run_in_folder(tiny(ALL), tmp_path / "full")
    assert full["last_top1"] == plain["last_top1"]
    one, other = ((tmp_path / n / "student.safetensors").read_bytes() for n in ("plain", "full"))
    assert one == other
    lines = (tmp_path / "full" / "metrics.jsonl").read_text()
    for column in ("share/nontarget", "layer/fc|task", "rank/target|1", "rank/nontarget|6", "gsnr/task"):
        assert f'"{column}"' in lines
    assert not [c for c in ("share/", "layer/", "rank/") if c in (tmp_path / "plain" / "metrics.jsonl").read_text()]


def test_every_window_is_told_in_the_epoch_in_which_it_ended_and_in_no_other(tmp_path):
    run = replace(tiny(Monitors(gsnr_window=3, layers=True)), epochs=7)  # of 2 steps: windows end after 3, 6, 9, 12
    run_in_folder(run, tmp_path)
    rows = RunFolder(tmp_path).metrics()
    for column in ("gsnr/task", "gsnr/target", "gsnr/nontarget", "layer/fc|task"):
        told = {row["epoch"]: row[column] for row in rows}
        assert [epoch for epoch, value in told.items() if value is not None] == [2, 3, 5, 6]
        assert len(set(told.values())) == 5, "four windows, and null"


def test_layers_need_a_window():
    with pytest.raises(ValueError, match="gsnr_window"):
        replace(ALL, gsnr_window=None)
