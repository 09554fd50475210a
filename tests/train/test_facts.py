"""A teacher is looked at once, on images without augmentation; what follows is in the config and stays."""

import pytest
import torch
from torch import nn

from fractionate.config.data import Data
from fractionate.config.files import to_plain
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.data import Normalization, SmallImages
from fractionate.models import logits_of
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.train import facts as module
from fractionate.train.allocation import allocation, gain_of_rest
from fractionate.train.facts import facts_of, plain_batches, settled

PIXELS = torch.arange(40 * 36, dtype=torch.int64).remainder(251).to(torch.uint8).view(40, 1, 6, 6)


def images(**options):
    rule = Normalization((0.5,), (0.25,))
    return SmallImages(PIXELS, torch.arange(40) % 4, 4, rule, batch_size=7, **options)


def tiny(method="dkd(weights=auto)", **changes):
    data = Data(labels_per_class=4, batch_size=20, shift=1)
    net, spec = Network("convnet_4_8"), MethodSpec.parse(method)
    return Run(student=net, teacher=net, method=spec, data=data, epochs=1, device="cpu", threads=1, **changes)


READ = {
    "kd+lskd": (2.0, True),
    "dkd(temperature=3)+lskd(temperature=null)": (3.0, True),
    "kd+lskd+dot": (2.0, True),
    "dkd(temperature=3)+deepkd": (3.0, False),
}


@pytest.mark.parametrize("text", READ)
def test_the_facts_are_at_the_temperature_and_of_the_rows_that_the_method_reads(text):
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    found = facts_of(tiny(text), net, images(), logits_of)
    assert (found.temperature, found.standardized) == READ[text]


@pytest.mark.parametrize("text", ["dkd(weights=auto)+deepkd", "dkd(weights=auto)+dot", "kd(weights=auto)+dot"])
def test_weights_from_the_teacher_are_as_effective_in_streams_as_in_their_control(text):
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    found = facts_of(tiny(text), net, images(), logits_of)
    runs = [settled(tiny(method), found) for method in (text, f"{text}+reweighted")]
    assert runs[0].method.args == runs[1].method.args
    heavy, plain = ({e.component: e.effective for e in allocation(run).components} for run in runs)
    assert plain == pytest.approx(heavy)
    alone = settled(tiny(text.partition("+")[0]), found).method.args
    for name in MethodSpec.parse(text).unsettled:
        assert runs[0].method.args[name] == pytest.approx(alone[name] / gain_of_rest(runs[0]), rel=1e-3)


def test_images_are_shown_without_augmentation_whatever_training_does():
    plain, moved = (
        [torch.cat(x) for x in zip(*plain_batches(images(**o)), strict=True)]
        for o in ({"shuffle": False}, {"shift": 2, "flip": True, "mixup": 0.5, "seed": 9})
    )
    expected = torch.cat([b.images for b in images(shuffle=False).batches(1)])
    assert torch.equal(plain[0], expected)
    assert torch.equal(moved[0], expected)
    assert torch.equal(moved[1], torch.arange(40) % 4)


def test_a_sample_is_spread_over_all_images():
    labels = torch.cat([target for _, target in plain_batches(images(), most=10)])
    assert len(labels) == 10
    assert set(labels.tolist()) == {0}  # every fourth image, and so every fourth label


def test_a_source_without_plain_images_is_not_measured():
    assert plain_batches([]) is None


def test_the_facts_are_those_of_the_teachers_logits_and_its_mode_stays():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Dropout(0.5)).train()
    found = facts_of(tiny("dkd(temperature=2)"), net, images(), logits_of)
    assert (found.images, found.temperature) == (40, 2.0)
    assert net.training
    with torch.no_grad():
        p = net.eval()(torch.cat([x for x, _ in plain_batches(images())])).softmax(1)
    assert found.label == pytest.approx(float(p.gather(1, (torch.arange(40) % 4)[:, None]).mean()), rel=1e-5)


def test_auto_weights_are_settled_recorded_and_never_measured_again(tmp_path, monkeypatch):
    summary = run_in_folder(tiny(), tmp_path / "run")
    kept = RunFolder(tmp_path / "run").config().method
    assert kept.args["weights"] == "auto"
    assert kept.args["beta"] > 0
    assert summary["effective_weights"]["components"]["nontarget"]["weight"] == kept.args["beta"]
    assert 0 < summary["teacher_facts"]["label"] < 1

    def never(*args):
        raise AssertionError("the teacher was looked at again")

    monkeypatch.setattr(module, "teacher_facts", never)
    again = run_in_folder(tiny(), tmp_path / "run", resume=True)
    assert again["effective_weights"] == summary["effective_weights"]


def test_auto_weights_in_deepkds_streams_are_divided_by_their_gain(tmp_path):
    found = {}
    for name in ("dkd(weights=auto)", "dkd(weights=auto)+deepkd", "dkd(weights=auto)+deepkd(normalize_gain=True)"):
        run_in_folder(tiny(name), tmp_path / name)
        found[name] = RunFolder(tmp_path / name).config().method.args["beta"]
    plain, streams, memory = found.values()
    assert streams == pytest.approx(plain / 4, rel=1e-3)
    assert memory == plain


def test_auto_weights_without_images_to_look_at_are_refused():
    with pytest.raises(ValueError, match="give beta as numbers"):
        module.settled(tiny(), None)


def test_a_recipes_own_numbers_do_not_stand_for_auto():
    from fractionate.recipes import detection, digits, segmentation

    for make in (lambda m: digits.settings(m, 30), segmentation.of_pixels, detection.of_regions):
        assert make(MethodSpec.parse("dkd(weights=auto)")).unsettled == ("beta",)
        assert make(MethodSpec.parse("gdkd(weights=auto)")).unsettled == ("w1", "w2")
    assert to_plain(tiny())["method"]["args"] == {"weights": "auto"}
