"""What ``--method deepkd`` is in a recipe: published where somebody published, else as heavy as without streams."""

import warnings

import pytest

import fractionate as fr
from fractionate.config.files import override
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network
from fractionate.methods.effective import LARGEST
from fractionate.papers.method import read_method
from fractionate.papers.rows import rows
from fractionate.papers.weights import pressure, released, remark
from fractionate.recipes import RECIPES, placed
from fractionate.recipes.streams import usual
from fractionate.studies.usual import controls
from fractionate.train.allocation import allocation, check_control


def made(text, recipe="cifar100", teacher="resnet32x4", student=None, changes=()):
    """The run of a method in a recipe, and the sentence about it."""
    found = placed(recipe)
    name = {} if student is None else {"name": student}

    def draft(spec):
        return override(found.student(spec, Network(teacher), **name), changes)

    spec, remark = usual(text, draft)
    return draft(spec), remark


PAIRS = [r for r in rows().values() if (r.dataset, r.method, r.variant) == ("cifar100", "dkd+deepkd", "published-code")]


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: f"{row.teacher}-{row.student}")
def test_a_published_pair_gets_the_published_beta_and_shift(row):
    run, remark = made("deepkd", teacher=row.teacher, student=row.student)
    assert run.method.args["beta"] == row.beta
    assert run.method.build().momenta(0.9, merge=False)["nontarget"] == pytest.approx(row.mu_nontarget)
    assert pressure(run) <= LARGEST * 1.001
    assert "as released for" in remark


@pytest.mark.parametrize(
    ("recipe", "teacher", "student"), [("cifar100", "resnet56", "resnet8"), ("folder", "resnet32", None)]
)
def test_elsewhere_the_streams_add_no_weight_to_the_non_targets(recipe, teacher, student):
    run, remark = made("deepkd", recipe, teacher, student)
    found = fr.methods.effective_weights(run.method.build())
    plain = fr.methods.effective_weights(fr.methods.dkd())
    heavy, light = ({e.component: e.effective for e in x.components}["nontarget"] for x in (found, plain))
    assert heavy == pytest.approx(light, rel=1e-3)
    assert "divided by 4" in remark


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: f"{row.teacher}-{row.student}")
def test_the_rule_of_the_published_code_has_the_released_configuration(row):
    run, remark = made("deepkd(rule=published-code)", teacher=row.teacher, student=row.student)
    wanted, found = read_method(row).spec.build(), run.method.build()
    assert found.momenta(0.9, merge=False) == wanted.momenta(0.9, merge=False)
    for name in ("temperature", "ce_weight", "alpha", "beta"):
        assert found.origin.core.value(name) == wanted.origin.core.value(name)
    assert "target's momentum" not in remark


def test_on_imagenet_the_temperature_comes_with_the_weights_that_were_released_for_it():
    run, _ = made("deepkd", "imagenet", "torchvision:resnet34", "torchvision:resnet18")
    assert (run.method.args["beta"], run.method.args["temperature"]) == (1, 1)
    assert run.method.build().momenta(0.9, merge=False)["nontarget"] == pytest.approx(0.95)


def test_a_shift_that_is_given_decides_the_divisor():
    run, _ = made("deepkd(delta=0.05)")
    assert run.method.args["beta"] == 4
    run, remark = made("deepkd(normalize_gain=true)")
    assert "beta" not in run.method.args
    assert remark is None


@pytest.mark.parametrize("text", ["dkd+deepkd", "dkd(beta=8)+deepkd", "gdkd+deepkd", "kd", "kd+deepkd"])
def test_what_is_named_stays_as_it_is(text):
    run, remark = made(text)
    assert {n: x for n, x in run.method.args.items() if n != "warmup"} == MethodSpec.parse(text).args
    assert remark is None


def test_a_number_among_the_changes_and_one_of_the_recipe_stay_and_are_told():
    run, remark = made("deepkd", changes=["method.args.beta=7"])
    assert run.method.args["beta"] == 7
    assert remark == f"deepkd is {run.method} here, with the beta that this recipe or a setting gives"
    run, remark = made("deepkd", "digits", "convnet_16_32_64")
    assert run.method.args["beta"] == 1.0
    assert remark == f"deepkd is {run.method} here, with the beta that this recipe or a setting gives"


def test_under_adamw_there_is_no_gain_to_divide_by():
    run, remark = made("deepkd", "vit", "torchvision:resnet50")
    assert "beta" not in run.method.args
    assert remark is None


def test_no_recipe_shows_streams_that_press_harder_than_anything_released():
    """The default comparison; DOT's row is DKD's default under DOT's default shift, and is warned of."""
    for name, recipe in RECIPES.items():
        for text in recipe.methods:
            if "deepkd" in text and name not in (
                "cifar100-small",
                "cifar100-16px",
            ):  # pages that show dkd's beta under streams
                teacher = recipe.teacher().student
                run = recipe.student(usual(text, lambda spec, r=recipe, t=teacher: r.student(spec, t))[0], teacher)
                assert pressure(run) <= LARGEST * 1.001 or name == "imagenet"


def drafts(*changes):
    """A function of a method that returns its run, with changes."""
    return lambda spec: override(placed("cifar100").student(spec, Network("resnet32x4")), changes)


def test_every_streamed_method_has_its_controls_once():
    specs = [MethodSpec.parse(t) for t in ("kd", "kd+deepkd", "kd+deepkd+reweighted", "dkd(beta=2)+dot")]
    found = controls(specs, drafts())
    assert [str(s) for s in found] == ["kd+deepkd(normalize_gain=True)", "dkd(beta=2)+dot+reweighted"]
    assert controls(found, drafts()) == []


@pytest.mark.parametrize("text", ["dkd+deepkd", "kd+deepkd", "kd+dot", "dkd+deepkd(rule=published-code)"])
@pytest.mark.parametrize("momentum", [0.9, 0.8])
def test_a_control_has_the_weights_of_its_streams_at_the_momentum_of_the_run(text, momentum):
    draft = drafts(f"optimizer.momentum={momentum}")
    control = controls([MethodSpec.parse(text)], draft)[0]
    streams, plain = (
        {e.component: e.effective for e in allocation(draft(spec)).components}
        for spec in (MethodSpec.parse(text), control)
    )
    assert plain == pytest.approx(streams)
    check_control(draft(control))


def test_a_control_for_another_momentum_is_refused_with_the_words_for_this_one():
    draft = drafts("optimizer.momentum=0.8")
    with pytest.raises(ValueError, match=r"write 'dkd\(beta=2.*\)\+deepkd\+reweighted\(momentum=0.8\)'"):
        check_control(draft(MethodSpec.parse("dkd(beta=2)+deepkd+reweighted")))


def test_under_adamw_the_method_without_streams_is_the_control():
    draft = lambda spec: placed("vit").student(spec, Network("torchvision:resnet50"))  # noqa: E731
    assert [str(s) for s in controls([MethodSpec.parse("dkd+deepkd")], draft)] == ["dkd"]
    with pytest.raises(ValueError, match="momentum of a stream changes no weight"):
        check_control(draft(MethodSpec.parse("dkd+deepkd+reweighted")))


@pytest.mark.parametrize(
    "pair", [("deepkd", "deepkd+reweighted"), ("deepkd(delta=0.05)", "deepkd(delta=0.05)+reweighted")]
)
def test_deepkd_and_its_control_are_given_the_same_weights_by_a_recipe(pair):
    for teacher, student in (("vgg13", "vgg8"), ("resnet56", "resnet8")):
        streams, control = (made(text, teacher=teacher, student=student)[0] for text in pair)
        assert control.method.args == streams.method.args
        check_control(control)


def test_reconstructed_rows_say_that_nobody_published_their_weights():
    found = {id: remark(row) for id, row in rows().items()}
    marked = [id for id, text in found.items() if text]
    assert len([id for id in marked if id.startswith("cifar100/")]) == 64
    assert all("Nobody published" in found[id] for id in marked)
    assert not [id for id in marked if rows()[id].variant != "paper"]
    assert "1.6" in found["cifar100/dkd+deepkd/resnet32x4__resnet8x4/paper/paper"]
    assert released("cifar100", "resnet8", "resnet8") is None


def test_looking_for_remarks_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        remark(rows()["cifar100/kd+deepkd/resnet56__resnet20/paper/paper"])
