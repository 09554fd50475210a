"""What momentum does to weights: against optimizers that are given the same gradient again and again."""

import warnings

import pytest
import torch

import fractionate as fr
from fractionate.methods.effective import LARGEST, said, warning_of
from fractionate.papers.recipes import papers

STEPS = 1500


def last_move(optimizer, p, grads):
    """How far the weight goes in the last of many steps with the same gradient in every stream."""
    for _ in range(STEPS):
        before = p.detach().clone()
        optimizer.step({name: [g] for name, g in grads.items()})
    return before - p.detach()


def one_hot(names):
    """Every stream pushes another weight, so that one step shows every stream's own."""
    return {name: torch.eye(len(names), dtype=torch.float64)[i] for i, name in enumerate(names)}


METHODS = {
    "paper rule": fr.methods.deepkd(fr.methods.dkd()),
    "published code": fr.methods.deepkd(fr.methods.dkd(), rule="published-code", delta_nontarget=0.05),
    "normalised": fr.methods.deepkd(fr.methods.dkd(), normalize_gain=True),
    "dot": fr.methods.dot(fr.methods.kd()),
    "plain": fr.methods.dkd(),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("option", [{}, {"nesterov": True}, {"dampening": 0.3}])
def test_the_gain_is_what_a_constant_gradient_moves_by_under_sgd(name, option):
    method = METHODS[name]
    if method.update.sequence and option:
        pytest.skip("moves its streams one after the other, without these options")
    momenta = method.momenta(0.9, merge=False)
    p = torch.nn.Parameter(torch.zeros(len(momenta), dtype=torch.float64))
    move = last_move(fr.StreamSGD([p], lr=0.01, momentum=momenta, **option), p, one_hot(momenta))
    found = fr.methods.effective_weights(method, 0.9, dampening=option.get("dampening", 0.0))
    gains = {e.stream: e.gain for e in found.components}
    torch.testing.assert_close(
        move / 0.01, torch.tensor([gains[s] for s in momenta], dtype=torch.float64), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("gain", ["normalised", "heavy-ball"])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_under_adamw_a_shift_weighs_nothing_and_a_common_factor_cancels(gain, scale):
    """Both streams push one weight: the step is sum gain_c g_c / |sum g_c|."""
    method = fr.methods.dot(fr.methods.kd())
    momenta = method.momenta(0.9, merge=False)
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    given = {"task": 3.0 * scale, "distillation": -1.0 * scale}
    grads = {name: torch.tensor([x], dtype=torch.float64) for name, x in given.items()}
    optimizer = fr.StreamAdamW([p], lr=0.01, betas=momenta, weight_decay=0.0, gain=gain, eps=0.0)
    found = fr.methods.effective_weights(method, 0.9, update="adamw" if gain == "normalised" else "adamw-heavy-ball")
    gains = {e.stream: e.gain for e in found.components}
    expected = sum(gains[name] * x for name, x in given.items()) / abs(sum(given.values()))
    assert last_move(optimizer, p, grads).item() / 0.01 == pytest.approx(expected, rel=1e-6)
    assert (set(gains.values()) == {1.0}) == (gain == "normalised")


@pytest.mark.parametrize("decay_on", ["task", "target", "decoupled"])
def test_weight_decay_has_the_gain_of_the_buffer_it_rides_in(decay_on):
    """From a weight that one step hardly changes, with no gradient: the move is lr lambda theta times the gain."""
    method = fr.methods.deepkd(fr.methods.dkd(), decay_on=decay_on)
    momenta = method.momenta(0.9, merge=False)
    p = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = fr.StreamSGD([p], lr=1e-6, momentum=momenta, weight_decay=1e-3)
    move = last_move(optimizer, p, {name: torch.zeros(1, dtype=torch.float64) for name in momenta})
    found = fr.methods.effective_weights(method)
    assert move.item() == pytest.approx(1e-9 * found.decay_gain, rel=1e-4)
    assert found.base_decay_gain == pytest.approx(10)


def test_the_published_rule_decays_by_a_bit_more_than_half():
    found = fr.methods.effective_weights(fr.methods.deepkd(fr.methods.dkd(), rule="published-code"))
    assert found.decay_on == "target"
    assert found.decay_gain / found.base_decay_gain == pytest.approx(0.1 / 0.175)


def test_reweighted_has_the_effective_weights_of_the_streams_it_replaces():
    streams = fr.methods.deepkd(fr.methods.dkd(beta=2))
    plain = fr.methods.reweighted(streams)
    one, other = (
        {e.component: e.effective for e in fr.methods.effective_weights(m).components} for m in (streams, plain)
    )
    assert one == pytest.approx(other)
    assert [e.base for e in fr.methods.effective_weights(plain).components] == pytest.approx([10, 10, 20])


def test_normalize_gain_leaves_every_effective_weight_and_the_decay():
    found = fr.methods.effective_weights(fr.methods.deepkd(fr.methods.dkd(), normalize_gain=True))
    assert not found.streamed
    assert fr.methods.effective_weights(fr.methods.deepkd(fr.methods.dkd())).streamed


def test_kd_in_streams_is_compared_with_kd():
    found = fr.methods.effective_weights(fr.methods.deepkd(fr.methods.kd(kd_weight=0.9)))
    assert {e.component: e.base_weight for e in found.components} == {"task": 0.1, "target": 0.9, "nontarget": 0.9}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        published = fr.methods.deepkd(fr.methods.kd(kd_weight=0.9), rule="published-code")
    weights = {e.component: (e.weight, e.base_weight) for e in fr.methods.effective_weights(published).components}
    assert weights["nontarget"] == (1.0, 0.9)


def pressure(id):
    run = papers()[id].run()
    found = fr.methods.effective_weights(run.method.build(), run.optimizer.base)
    return found.pressure(run.optimizer.lr)[0]


def released(dataset):
    return [
        r.id for r in papers().values() if r.row.dataset == dataset and r.variant == "published-code" and r.runnable
    ]


def test_the_largest_published_pressure_is_that_of_the_released_cifar100_configurations():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert max(map(pressure, released("cifar100"))) == pytest.approx(LARGEST)
        # the docstring's other half: the same product is not bounded by it at T = 1
        assert max(map(pressure, released("imagenet"))) == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("pair", "beta", "value"), [("resnet56__resnet20", 0.5, 0.1), ("vgg13__mobilenet_v2", 1, 0.05)]
)
def test_the_released_pairs_lower_beta_where_memory_is_long(pair, beta, value):
    recipe = papers()[f"cifar100/dkd+deepkd/{pair}/deepkd/published-code"]
    assert recipe.row.beta == beta
    assert pressure(recipe.id) == pytest.approx(value)


def test_the_default_presses_twice_as_hard_as_anything_released_and_is_warned_of():
    method = fr.methods.deepkd(fr.methods.dkd(beta=8))
    found = fr.methods.effective_weights(method)
    assert found.pressure(0.05)[0] == pytest.approx(1.6)
    text = warning_of(found, 0.05)
    assert all(word in text for word in ("1.6", "normalize_gain", "at most 4"))
    at_bound = fr.methods.effective_weights(fr.methods.deepkd(fr.methods.dkd(beta=4)))
    assert warning_of(at_bound, 0.05) is None
    assert warning_of(fr.methods.effective_weights(fr.methods.dkd(beta=80)), 0.05) is None  # no stream, no gain


def test_the_line_says_weights_and_where_decay_is():
    line = said(fr.methods.effective_weights(fr.methods.deepkd(fr.methods.dkd(beta=8))))
    assert all(words in line for words in ("nontarget 320 (base 80)", "task 40 (base 10)", "buffer of task"))


@pytest.mark.parametrize(
    ("method", "warned"),
    [
        (fr.methods.deepkd(fr.methods.dkd()), True),
        (fr.methods.reweighted(fr.methods.deepkd(fr.methods.dkd())), True),
        (fr.methods.deepkd(fr.methods.kd(nontarget=8.0)), True),
        (fr.methods.deepkd(fr.methods.kd()), False),
        (fr.methods.dkd(beta=40.0), False),  # heavy, and no stream's doing
        (fr.methods.deepkd(fr.methods.dkd(), normalize_gain=True), False),
    ],
    ids=str,
)
def test_streams_and_their_control_are_warned_of_where_they_press_harder_than_what_was_released(method, warned):
    text = warning_of(fr.methods.effective_weights(method), lr=0.05)
    assert (text is not None) == warned
    if text is not None and len(method.streams) == 1:
        assert "give a weight of at most" in text


def test_what_kd_adds_to_its_non_targets_counts():
    plain, heavy = (fr.methods.effective_weights(fr.methods.deepkd(fr.methods.kd(nontarget=x))) for x in (0.0, 8.0))
    assert heavy.pressure(0.05)[0] == pytest.approx(9 * plain.pressure(0.05)[0])


@pytest.mark.parametrize("around", [fr.methods.dot, fr.methods.deepkd])
@pytest.mark.parametrize("inner", [fr.methods.kd(), fr.methods.kd(nontarget=0.5), fr.methods.dkd(), fr.methods.gdkd()])
def test_streams_move_a_weight_by_their_gain_alone(inner, around):
    for e in fr.methods.effective_weights(around(inner)).components:
        assert e.effective / e.base == pytest.approx(e.ratio)


def test_a_method_without_streams_has_no_other_weights_than_itself():
    assert not fr.methods.effective_weights(fr.methods.kd(nontarget=0.5)).streamed
