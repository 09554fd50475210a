"""The digits recipe: complete runs, the same for every method but for the method."""

from dataclasses import replace

import pytest

from fractionate.config.files import from_yaml, to_yaml
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network
from fractionate.recipes import RECIPES, digits, find

TAUGHT = Network("convnet_16_32_64", "teacher.safetensors")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_runs_that_survive_yaml(name: str) -> None:
    recipe = find(name)
    teacher = recipe.teacher()
    student = recipe.student(MethodSpec.parse("dkd+deepkd"), teacher.student)
    assert from_yaml(to_yaml(teacher)) == teacher
    assert from_yaml(to_yaml(student)) == student


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown recipe 'digit': did you mean 'digits'"):
        find("digit")


@pytest.mark.parametrize("method", ["kd", "dkd", "gdkd", "dkd+dot", "dkd+deepkd"])
def test_methods_are_compared_under_equal_conditions(method: str) -> None:
    labels_alone = digits.student(MethodSpec("ce"), TAUGHT)
    other = digits.student(MethodSpec.parse(method), TAUGHT)
    assert replace(other, method=labels_alone.method) == labels_alone


def test_a_default_warm_up_keeps_its_share_of_the_run() -> None:
    dkd = MethodSpec("dkd")
    assert [digits.settings(dkd, epochs).args["warmup"] for epochs in (2, 40, 120, 240)] == [1, 3, 10, 20]


def test_arguments_that_are_given_are_kept() -> None:
    given = MethodSpec.parse("dkd(warmup=7, beta=8, temperature=2)+deepkd(delta=0.05)")
    assert digits.settings(given, 40) == given


def test_methods_without_such_arguments_stay_as_they_are() -> None:
    for name in ("ce", "kd"):
        assert digits.settings(MethodSpec(name), 40) == MethodSpec(name)


def test_the_student_sees_few_labels_and_the_teacher_all() -> None:
    assert digits.student(MethodSpec("kd"), TAUGHT).data.labels_per_class == 10
    assert digits.teacher().data.labels_per_class is None
