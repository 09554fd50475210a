"""Properties that small changes of the code had slipped past: configs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fractionate.config.data import Data
from fractionate.config.files import from_plain, override
from fractionate.config.method import SPELLINGS, MethodSpec
from fractionate.config.optimizers import SGD, AdamW
from fractionate.config.run import Network, Run
from fractionate.config.task import Segmentation
from fractionate.config.yaml import load_yaml


def run(**given: object) -> Run:
    plain = {"student": Network("resnet8"), "method": MethodSpec.parse("ce"), "data": Data("digits")}
    return Run(**{**plain, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize("ema", [0.0, 1.0, 1.5])
def test_an_average_is_refused_without_memory_and_beyond_it(ema: float) -> None:
    with pytest.raises(ValueError, match="ema must lie between 0 and 1"):
        run(ema=ema)


def test_windows_need_their_size_and_whole_images_need_none() -> None:
    given = {"data": Data("masks", root="x"), "student": Network("smp:pspnet-resnet18")}
    assert run(task=Segmentation(), **given).task.evaluate != "sliding"
    with pytest.raises(ValueError, match=r"needs data\.crop"):
        run(task=Segmentation(evaluate="sliding"), **given)


@pytest.mark.parametrize("name", [name for name, stands_for in SPELLINGS.items() if len(stands_for) > 1])
def test_spellings_of_two_names_take_no_options(name: str) -> None:
    with pytest.raises(ValueError, match="to give options"):
        MethodSpec.parse(f"{name}(temperature=2)")


def test_second_moments_are_averaged_as_torch_does_and_crops_are_the_usual_ones() -> None:
    assert AdamW().beta2 == 0.999
    assert Data("folder").resized_crop


def test_levels_are_counted_anew_behind_every_list() -> None:
    deep = "[" * 21 + "]" * 21
    with pytest.raises(ValueError, match="nested in more than 20 levels"):
        load_yaml(f"a: [[1], [2], [3], [4]]\nb: {deep}\n", "x.yaml")


def test_scales_may_lie_closer_than_1() -> None:
    assert Data("masks", root="x", scale_step=0.25).scale_step == 0.25


def test_one_gradient_of_streams_with_several_momenta_is_refused() -> None:
    with pytest.raises(ValueError, match="one momentum"):
        run(method=MethodSpec.parse("dkd+deepkd"), teacher=Network("resnet20"), combine="pcgrad")


def test_a_recorded_step_is_refused_under_adamw() -> None:
    with pytest.raises(ValueError, match="cannot record adamw"):
        run(optimizer=AdamW(), graph=True)


def test_another_optimizer_keeps_what_both_have_and_refuses_what_only_the_first_has() -> None:
    sgd = run(optimizer=SGD(clip=2.0))
    found = override(sgd, ["optimizer.name=adamw", "optimizer.beta2=0.95"]).optimizer
    assert found == AdamW(clip=2.0, beta2=0.95)
    with pytest.raises(ValueError, match="nesterov=True belongs to sgd"):
        override(replace(sgd, optimizer=SGD(nesterov=True)), ["optimizer.name=adamw"])


def test_fields_of_a_task_stay_where_another_one_is_changed() -> None:
    data = Data("masks", root="x", crop=(64, 64))
    dense = run(task=Segmentation(evaluate="sliding"), data=data, student=Network("smp:pspnet-resnet18"))
    assert override(dense, ["task.ignore=254"]).task == Segmentation(evaluate="sliding", ignore=254)


def test_an_optimizer_that_is_no_mapping_is_answered_in_words() -> None:
    with pytest.raises(ValueError, match="optimizer"):
        from_plain({"student": "resnet8", "method": "ce", "data": {"name": "digits"}, "optimizer": 3}, "x.yaml")


@pytest.mark.parametrize("crop", [(48,), (48, 64, 3)])
def test_a_crop_has_a_height_and_a_width(crop: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"crop is \[HEIGHT, WIDTH\]"):
        Data("masks", root="x", crop=crop)
