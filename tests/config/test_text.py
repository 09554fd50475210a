"""Fields of text take what is written: no word, number or sign of YAML changes it."""

from __future__ import annotations

import pytest

from fractionate.config import MethodSpec, Network, Run, from_yaml, override, to_yaml

RUN = Run(student=Network("convnet_8_16"), method=MethodSpec("kd"), teacher=Network("convnet_8_16"))


@pytest.mark.parametrize(
    "text", ["off", "no", "on", "007", "1e3", "1_000", "my #1", "a: b", "[x].pth", "{x}", "2024-01-01"]
)
def test_a_path_is_taken_as_it_is_written(text: str) -> None:
    run = override(RUN, [f"data.root={text}", f"teacher.checkpoint={text}"])
    assert (run.data.root, run.teacher and run.teacher.checkpoint) == (text, text)
    assert from_yaml(to_yaml(run)) == run


@pytest.mark.parametrize("text", ["off", "'off'", '"off"', " off "])
def test_off_is_a_word_where_a_field_has_that_word(text: str) -> None:
    assert override(RUN, ["teacher_table=lazy", f"teacher_table={text}"]) == RUN


@pytest.mark.parametrize("word", ["off", "no", "false"])
def test_off_stays_false_where_a_field_is_true_or_false(word: str) -> None:
    assert override(override(RUN, ["data.flip=true"]), [f"data.flip={word}"]) == RUN


def test_a_config_written_by_hand_may_leave_out_the_quotes_of_off() -> None:
    assert from_yaml("student: a\nmethod: ce\nteacher_table: off").teacher_table == "off"


def test_null_leaves_a_path_out() -> None:
    assert override(override(RUN, ["data.root=x"]), ["data.root=null"]) == RUN


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_a_device_is_named_as_torch_names_it(device: str) -> None:
    assert override(RUN, [f"device={device}"]).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CPU", "", "cuda:1 "])
def test_an_unknown_device_is_refused_with_the_choices(device: str) -> None:
    if device.strip() != device:  # blanks around a value mean nothing
        assert override(RUN, [f"device={device}"]).device == device.strip()
    else:
        with pytest.raises(ValueError, match="device"):
            override(RUN, [f"device={device}"])
