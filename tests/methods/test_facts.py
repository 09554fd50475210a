"""Facts about a teacher, and the weights that follow from them, against the formula word by word and at its limits."""

import math

import pytest
import torch

import fractionate as fr
from fractionate.config.method import MethodSpec
from fractionate.methods.facts import STIFFNESS
from tests.reference.gdkd import knee


def slow_facts(logits, target, temperature, k):
    """Row after row, in plain numbers."""
    sums = dict.fromkeys(
        ("label", "label_soft", "modes", "relations", "top_mass", "top_relations", "rest_relations"), 0.0
    )
    for z, y in zip(logits.double().tolist(), target.tolist(), strict=True):
        p = [math.exp(x) for x in z]
        p = [x / sum(p) for x in p]
        q = [math.exp(x / temperature) for x in z]
        q = [x / sum(q) for x in q]
        order = sorted(range(len(z)), key=lambda c: -z[c])
        size = knee(z, 100) if k == "auto" else k
        top, rest = [q[c] for c in order[:size]], [q[c] for c in order[size:]]
        sums["label"] += p[y]
        sums["label_soft"] += q[y]
        sums["modes"] += effective(p)
        sums["relations"] += effective([x for c, x in enumerate(q) if c != y]) - 1
        sums["top_mass"] += sum(top)
        sums["top_relations"] += effective(top) - 1
        sums["rest_relations"] += effective(rest) - 1
    return {name: total / len(logits) for name, total in sums.items()}


def effective(masses):
    shares = [x / sum(masses) for x in masses]
    return math.exp(-sum(x * math.log(x) for x in shares))


@pytest.mark.parametrize(("temperature", "k"), [(1.0, 1), (4.0, 3), (2.5, 6), (4.0, "auto")])
def test_facts_are_those_of_the_formula(temperature, k):
    generator = torch.Generator().manual_seed(3)
    logits, target = 3 * torch.randn(17, 8, generator=generator), torch.randint(8, (17,), generator=generator)
    found = fr.teacher_facts(logits, target, temperature=temperature, k=k)
    for name, value in slow_facts(logits, target, temperature, k).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-12, abs=1e-12)
    share = max(0.0, (found.label - 1 / 8) / (1 - 1 / 8)) / STIFFNESS
    assert found.weights("dkd")["beta"] == pytest.approx(1 - found.label_soft + share * found.relations, rel=1e-3)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_group_of_the_smallest_has_the_mass_of_the_smallest(k):
    logits = 3 * torch.randn(17, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    small, rest = (fr.teacher_facts(logits, k=n, largest=x) for n, x in ((k, False), (8 - k, True)))
    assert small.top_mass == pytest.approx(1 - rest.top_mass)
    assert small.top_relations == pytest.approx(rest.rest_relations)


def test_on_z_scores_all_but_what_is_at_temperature_1_is_of_z_scores():
    logits = 3 * torch.randn(17, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 5
    target = torch.arange(17) % 8
    scores = (logits - logits.mean(1, keepdim=True)) / logits.std(1, keepdim=True)
    raw, there, found = (
        fr.teacher_facts(z, target, temperature=2, k=3, standardized=s)
        for z, s in ((logits, False), (scores, False), (logits, True))
    )
    for name in ("label", "modes", "accuracy"):
        assert getattr(found, name) == getattr(raw, name)
    for name in ("label_soft", "relations", "top_mass", "top_relations", "rest_relations"):
        assert getattr(found, name) == pytest.approx(getattr(there, name), rel=1e-5)
    assert "at T 2 of z-scores" in str(found)


def certain(classes, rest=0.0):
    """A teacher that interpolates: label at 200, the others at ``rest``."""
    y = torch.arange(classes)
    return torch.full((classes, classes), rest).scatter(1, y[:, None], 200.0), y


def test_an_interpolating_teacher_that_is_flat_over_100_classes_gets_the_published_beta():
    facts = fr.teacher_facts(*certain(100))
    assert facts.confidence == pytest.approx(1)
    assert facts.weights("dkd")["beta"] == pytest.approx(98 / STIFFNESS, rel=1e-3)
    assert round(facts.weights("dkd")["beta"]) == 8
    assert facts.weights("kd")["nontarget"] == pytest.approx(98 / STIFFNESS, rel=1e-3)  # nothing of KD's own is left


def test_a_guessing_teacher_leaves_kd_as_it_is():
    facts = fr.teacher_facts(torch.zeros(6, 10), torch.arange(6), k=4)
    assert facts.weights("kd") == {"nontarget": 0.0}
    assert facts.weights("dkd") == {"beta": 0.9}
    assert facts.weights("gdkd") == {"w1": 0.4, "w2": 0.6}


def test_a_teacher_that_knows_one_other_class_alone_has_no_relations_to_give():
    """All mass beside the label in one class: the term is 0 whatever its weight, and the rule adds nothing."""
    logits, y = certain(10)
    logits = logits.scatter(1, ((y + 1) % 10)[:, None], 150.0) - 150 * (logits == 0)
    facts = fr.teacher_facts(logits, y)
    assert facts.relations == pytest.approx(0, abs=1e-9)


def test_the_weight_grows_with_confidence_and_a_wrong_teacher_is_none():
    logits, y = certain(10)
    weaker = [fr.teacher_facts(x * logits / 200, y).weights("kd")["nontarget"] for x in (0, 1, 3, 9)]
    assert weaker == sorted(weaker)
    assert len(set(weaker)) == 4
    assert fr.teacher_facts(logits, (y + 1) % 10).weights("kd") == {"nontarget": 0.0}


def test_weights_are_divided_by_the_gain_of_the_stream():
    facts = fr.teacher_facts(*certain(100))
    assert facts.weights("dkd", gain=4)["beta"] == pytest.approx(facts.weights("dkd")["beta"] / 4, rel=1e-3)


def test_facts_refuse_what_they_cannot_read():
    for wrong in (
        {"logits": torch.zeros(0, 5)},
        {"logits": torch.zeros(2, 2)},
        {"logits": torch.full((2, 5), torch.nan)},
        {"temperature": 0.0},
        {"k": 0},
        {"k": 2.5},
        {"k": "auto", "largest": False},
        {"target": torch.tensor([0, 5])},
        {"target": torch.tensor([0, -1])},
    ):
        with pytest.raises((ValueError, TypeError), match="teacher_facts"):
            fr.teacher_facts(**{"logits": torch.zeros(2, 5), **wrong})
    with pytest.raises(ValueError, match="give numbers"):
        fr.teacher_facts(torch.zeros(2, 5)).weights("dist")


def test_without_labels_the_best_class_stands_for_them():
    logits = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    alone, given = fr.teacher_facts(logits), fr.teacher_facts(logits, logits.argmax(1))
    assert alone.label == given.label
    assert (alone.accuracy, given.accuracy) == (None, 1.0)


# What the weights mean in kd


def rows(classes=7):
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(2, 6, classes, generator=generator, dtype=torch.float64)
    return fr.Logits(z[0], 2 * z[1], torch.arange(6) % classes)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_kd_with_nontarget_is_kd_plus_so_much_nckd(direction):
    lg, more = rows(), 0.7
    kd = fr.methods.kd(direction=direction)
    nckd = fr.methods.dkd(alpha=0, beta=0.9 * more, ce_weight=0, direction=direction, warmup=1)
    expected = kd.loss(lg) + nckd.loss(lg)
    torch.testing.assert_close(fr.methods.kd(nontarget=more, direction=direction).loss(lg), expected)


def test_kd_with_nontarget_goes_into_streams_and_masks():
    lg = rows()
    for streams in (fr.methods.deepkd, lambda m: fr.methods.deepkd(m, keep=7)):
        method = streams(fr.methods.kd(nontarget=0.7))
        torch.testing.assert_close(method.loss(lg), fr.methods.kd(nontarget=0.7).loss(lg))
    assert fr.methods.deepkd(fr.methods.kd(nontarget=0.7), keep=2).loss(lg) < method.loss(lg)


# In configs


def test_auto_is_settled_once_and_given_numbers_stay():
    assert MethodSpec.parse("dkd(weights=auto)").unsettled == ("beta",)
    assert MethodSpec.parse("dkd(weights=auto, beta=2)").unsettled == ()
    assert MethodSpec.parse("dkd(weights=auto, beta=2)").build().parts["nontarget"].weight(fr.Progress.end()) == 2
    assert MethodSpec.parse("dkd").unsettled == ()
    with pytest.raises(ValueError, match="weights"):
        MethodSpec.parse("dkd(weights=automatic)").build()
    with pytest.raises(ValueError, match="weights"):
        MethodSpec.parse("nkd(weights=auto)").build()


def test_the_spread_runs_from_the_least_to_the_largest_and_its_middle_is_the_median() -> None:
    z = torch.randn(41, 10, generator=torch.Generator().manual_seed(0)) * 4
    y = torch.arange(41) % 10
    spread, label = fr.teacher_facts(z, y).spread, z.double().softmax(1)[torch.arange(41), y].sort().values
    assert set(spread) == {"label", "label_soft", "modes"}
    assert len(spread["label"]) == 21
    torch.testing.assert_close(torch.tensor(spread["label"]).double(), label[::2], rtol=1e-5, atol=1e-8)


def test_who_gives_weights_auto_to_a_method_is_told_what_does_it_there():
    with pytest.raises(TypeError, match=r"\*\*fr.teacher_facts\(logits, labels\).weights\('dkd'\)"):
        fr.methods.dkd(weights="auto")
