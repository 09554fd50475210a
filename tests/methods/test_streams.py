"""Wrappers put components in streams and change no weight; streams merge by coefficient alone."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

import fractionate as fr
from fractionate import Method, Progress
from fractionate.methods import Part
from fractionate.schedules import constant, phases
from tests import cases
from tests.asserts import assert_equal, student_gradients, with_leaf_students

EPOCH = Progress(epoch=3, epochs=240)  # within the warm-up, so that weights matter
LG = replace(cases.easy(n=8, c=10), weight=torch.linspace(0.5, 2, 8).double())
M = fr.methods
BASES = [M.kd(), M.dkd(), M.dkd_top1(), M.gdkd(), M.gdkd3(), M.kd(warmup=5, kd_weight=2.0, ce_weight=0.5)]
ROWS_BY_STREAM = {"task": ("task",), "target": ("target",), "nontarget": ("nontarget",)}


def roleless() -> Method:
    """A method of the user's own, without roles."""
    parts = {"task": Part(constant(1.0), "task"), "gap": Part(constant(2.0))}
    return Method(
        name="mine", parts=parts, terms=lambda lg, progress: {"gap": (lg.student - lg.teacher).square().sum(1)}
    )


# -- wrappers change no weight -----------------------------------------------------------------

WRAPPED = [
    (lambda base: M.dot(base)),
    (lambda base: M.deepkd(base)),
    (lambda base: M.deepkd(base, delta_task=0.01)),
    (lambda base: fr.resplit(base, {name: [name] for name in reversed(base.parts)}, {})),
]


@pytest.mark.parametrize("base", BASES, ids=repr)
@pytest.mark.parametrize("wrap", WRAPPED, ids=["dot", "deepkd", "deepkd, three shifts", "resplit"])
@pytest.mark.parametrize("merge", [None, True, False])
def test_the_streams_of_a_wrapped_method_add_up_to_its_own_loss(base: Method, wrap: object, merge: bool | None) -> None:
    lg = with_leaf_students(LG)
    streams = wrap(base).stream_losses(lg, EPOCH, merge=merge)
    total, expected = torch.stack(list(streams.values())).sum(), base.loss(lg, EPOCH)
    assert_equal(total, expected, "loss", 1e-12)
    (a, _), (b, _) = (student_gradients(x, lg) for x in (total, expected))
    assert_equal(a, b, "gradient", 1e-12)


@pytest.mark.parametrize("method", [*BASES, *(wrap(M.dkd()) for wrap in WRAPPED), M.deepkd(M.gdkd())], ids=repr)
@pytest.mark.parametrize("merge", [None, True, False])
def test_losses_and_momenta_name_the_same_streams_in_the_same_order(method: Method, merge: bool | None) -> None:
    assert list(method.stream_losses(LG, EPOCH, merge=merge)) == list(method.momenta(0.9, merge=merge))


@pytest.mark.parametrize("method", [M.dot(M.gdkd()), M.deepkd(M.gdkd()), M.deepkd(M.kd())], ids=repr)
def test_every_component_is_in_exactly_one_stream(method: Method) -> None:
    placed = [c for stream in method.streams for c in stream.components]
    assert sorted(placed) == sorted(method.components(LG, EPOCH))


@pytest.mark.parametrize(("base", "epochs"), [(M.kd(), 1), (M.kd(warmup=5), 5), (M.dkd(), 20), (M.gdkd(warmup=0), 0)])
def test_the_warm_up_scales_distillation_linearly_and_never_the_task(base: Method, epochs: int) -> None:
    dot = M.dot(base)
    early, late = (dot.stream_losses(LG, Progress(epoch=e)) for e in (3, 240))
    assert torch.equal(early["task"], late["task"])
    assert_equal(early["distillation"], min(1.0, 3 / max(epochs, 1)) * late["distillation"], "", 1e-12)


def test_without_rows_every_stream_is_zero_with_a_graph() -> None:
    for method in (M.dot(M.dkd()), M.deepkd(M.kd()), M.deepkd(M.gdkd())):
        empty = with_leaf_students(replace(LG[:0], strong=None))
        for loss in method.stream_losses(empty, EPOCH).values():
            assert float(loss.detach()) == 0
            assert student_gradients(loss, empty)[0].shape == (0, 10)


# -- roles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "streams"),
    [
        (M.kd(), ROWS_BY_STREAM),
        (M.dkd(), ROWS_BY_STREAM),
        (M.dkd_top1(), ROWS_BY_STREAM),
        (M.gdkd(), {"task": ("task",), "target": ("between",), "nontarget": ("top", "other")}),
        (M.gdkd3(), {"task": ("task",), "target": ("between",), "nontarget": ("top", "other")}),
    ],
    ids=lambda x: repr(x) if isinstance(x, Method) else "",
)
def test_deepkd_puts_components_where_their_roles_say(base: Method, streams: dict[str, tuple[str, ...]]) -> None:
    assert {s.name: s.components for s in M.deepkd(base).streams} == streams


def test_a_method_without_roles_is_refused_by_deepkd_and_works_under_dot() -> None:
    with pytest.raises(ValueError, match=r"without a role.*\['gap'\] of \['task', 'gap'\]. Use dot"):
        M.deepkd(roleless())
    assert list(M.dot(roleless()).stream_losses(LG)) == ["task", "distillation"]


def test_a_role_that_no_component_has_is_named() -> None:
    with pytest.raises(ValueError, match="no component of role target"):
        M.deepkd(fr.only(M.dkd(), ["task", "nontarget"]))


@pytest.mark.parametrize("names", [["task"], ["target", "nontarget"]])
def test_dot_needs_a_task_and_a_distillation(names: list[str]) -> None:
    with pytest.raises(ValueError, match="needs a task and at least one distillation component"):
        M.dot(fr.only(M.dkd(), names))


# -- KD in streams -------------------------------------------------------------------------------


def test_kd_in_streams_adds_up_to_kd_row_by_row() -> None:
    whole, parts = M.kd().components(LG), M.deepkd(M.kd()).components(LG)
    assert_equal(parts["target"] + parts["nontarget"], whole["kd"], "KD", 1e-12)


def test_the_published_code_multiplies_batch_means_in_kd() -> None:
    lg = replace(LG, weight=None)
    per_row = M.deepkd(M.kd(kd_weight=1.0), kd_form="per_row").components(lg)
    published = M.deepkd(M.kd(kd_weight=1.0), rule="published-code").components(lg)
    nckd = M.dkd().components(lg)["nontarget"]
    rest = per_row["nontarget"] / nckd
    assert_equal(published["nontarget"].mean(), rest.mean() * nckd.mean(), "product of means", 1e-12)
    assert torch.equal(published["target"], per_row["target"])


def test_the_published_code_sets_kd_s_weight_and_warm_up_to_one_and_says_so() -> None:
    with pytest.warns(UserWarning, match="kd_weight, warmup set to 1, as the published code does"):
        published = M.deepkd(M.kd(kd_weight=3.0, warmup=9), rule="published-code", kd_form="per_row")
    paper = M.deepkd(M.kd(kd_weight=3.0, warmup=9))
    a, b = (m.stream_losses(LG, EPOCH, merge=False) for m in (published, paper))
    for name in ("target", "nontarget"):
        assert_equal(b[name], 3.0 * 3 / 9 * a[name], name, 1e-12)
    assert torch.equal(a["task"], b["task"])


def test_nothing_is_said_where_nothing_is_ignored() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        M.deepkd(M.kd(), rule="published-code")
        M.deepkd(M.dkd(beta=2.0, warmup=5), rule="published-code")
        M.deepkd(M.kd(kd_weight=3.0))


# -- the mask ------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [M.kd(), M.dkd()], ids=repr)
@pytest.mark.parametrize("rule", ["paper", "published-code"])
def test_the_mask_changes_the_nontarget_stream_alone(base: Method, rule: str) -> None:
    masked, full = (M.deepkd(base, rule=rule, keep=k).components(LG, EPOCH) for k in (3, None))
    assert not torch.allclose(masked["nontarget"], full["nontarget"])
    for name in ("task", "target"):
        assert_equal(masked[name], full[name], name, 1e-12)


@pytest.mark.parametrize("base", [M.kd(), M.dkd()], ids=repr)
@pytest.mark.parametrize(("keep", "count_target"), [(0, True), (10, True), (9, False), (constant(1.0), True)])
def test_a_mask_that_keeps_all_is_no_mask(base: Method, keep: object, count_target: bool) -> None:
    masked = M.deepkd(base, keep=keep, count_target=count_target).components(LG, EPOCH)
    for name, rows in M.deepkd(base).components(LG, EPOCH).items():
        assert_equal(masked[name], rows, name, 1e-12)


def test_the_mask_follows_its_schedule() -> None:
    scheduled = M.deepkd(M.dkd(), keep=phases(plateau=0.6))
    for epoch, k in ((1, 2), (120, 6), (240, 10)):
        progress = Progress(epoch=epoch, epochs=240)
        fixed = M.deepkd(M.dkd(), keep=k).components(LG, progress)
        assert torch.equal(scheduled.components(LG, progress)["nontarget"], fixed["nontarget"])


@pytest.mark.parametrize("base", [M.gdkd(), M.dkd_top1(), M.gdkd3()], ids=repr)
def test_a_mask_needs_the_label_s_partition(base: Method) -> None:
    with pytest.raises(ValueError, match=f"keep masks the non-targets of a label partition .*{base.name} has none"):
        M.deepkd(base, keep=3)


@pytest.mark.parametrize("keep", [-1, 2.5, True])
def test_a_mask_is_a_count_or_a_schedule(keep: object, unchecked: None) -> None:
    with pytest.raises(ValueError, match="keep is a number of classes"):
        M.deepkd(M.dkd(), keep=keep)


@pytest.mark.parametrize(("keep", "message"), [(11, "k must be an integer in 1..10"), (constant(1.5), "fraction")])
def test_a_mask_larger_than_the_classes_is_refused_at_the_first_rows(keep: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        M.deepkd(M.dkd(), keep=keep).components(LG)


# -- merging and momenta -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "merge", "expected"),
    [
        (M.dkd(), None, {"loss": 0.9}),
        (M.dot(M.dkd()), None, {"task": 0.825, "distillation": 0.975}),
        (M.dot(M.dkd(), delta=0.0), None, {"task+distillation": 0.9}),
        (M.deepkd(M.dkd()), None, {"task+nontarget": 0.975, "target": 0.825}),
        (M.deepkd(M.dkd()), False, {"task": 0.975, "target": 0.825, "nontarget": 0.975}),
        (M.deepkd(M.dkd(), delta=0.0), None, {"task+target+nontarget": 0.9}),
        (M.deepkd(M.dkd(), delta_target=0.075), None, {"task+target+nontarget": 0.975}),
        (
            M.deepkd(M.dkd(), rule="published-code"),
            None,
            {"task": 0.825, "target": 0.825, "nontarget": 0.975},
        ),
        (M.deepkd(M.dkd(), rule="published-code"), True, {"task+target": 0.825, "nontarget": 0.975}),
    ],
)
def test_streams_of_equal_shift_merge_in_declared_order(
    method: Method, merge: bool | None, expected: dict[str, float]
) -> None:
    momenta = method.momenta(0.9, merge)
    assert list(momenta) == list(expected)
    assert dict(momenta) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("method", "merge", "stream"),
    [
        (M.dkd(), None, "loss"),
        (M.dot(M.dkd()), None, "task"),
        (M.deepkd(M.dkd()), None, "task+nontarget"),
        (M.deepkd(M.dkd()), False, "task"),
        (M.deepkd(M.dkd(), decay_on="target"), None, "target"),
        (M.deepkd(M.dkd(), decay_on="decoupled"), None, None),
        (M.deepkd(M.dkd(), rule="published-code"), None, "target"),
        (M.deepkd(M.dkd(), rule="published-code"), True, "task+target"),
        (fr.only(M.deepkd(M.dkd()), ["target"]), None, "target"),
        (fr.resplit(M.dkd(), {"a": ["task"], "b": ["target", "nontarget"]}, {"b": 0.01}, decay_on="b"), None, "b"),
    ],
)
def test_weight_decay_sits_in_one_stream(method: Method, merge: bool | None, stream: str | None) -> None:
    assert method.momenta(0.9, merge).decay_stream == stream


def test_merging_is_exact_unless_published_code_meets_weight_decay() -> None:
    paper, published = M.deepkd(M.dkd()), M.deepkd(M.dkd(), rule="published-code")
    assert [paper.exact_merge(0.0), paper.exact_merge(5e-4)] == [True, True]
    assert [published.exact_merge(0.0), published.exact_merge(5e-4)] == [True, False]


def test_normalized_gain_makes_the_steady_step_of_every_stream_that_of_plain_sgd() -> None:
    momenta = M.deepkd(M.dkd(), normalize_gain=True).momenta(0.9)
    for name, m in momenta.items():
        assert momenta.gains[name] / (1 - m) == pytest.approx(1 / (1 - 0.9))
    assert not M.deepkd(M.dkd()).momenta(0.9).gains


@pytest.mark.parametrize(("method", "m"), [(M.dot(M.dkd()), 0.95), (M.deepkd(M.dkd()), 0.05)], ids=repr)
def test_a_coefficient_outside_its_range_names_the_stream(method: Method, m: float) -> None:
    with pytest.raises(ValueError, match=r"coefficient of stream '\w+' must lie in \[0, 1\)"):
        method.momenta(m)


# -- resplit and only ------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [{"a": ["task"]}, {"a": ["task", "target"], "b": ["target", "nontarget"]}])
def test_resplit_needs_every_component_exactly_once(streams: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="every component must be in exactly one stream"):
        fr.resplit(M.dkd(), streams, {})


def test_a_shift_for_an_unknown_stream_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown stream 'fats': did you mean 'fast'"):
        fr.resplit(M.dkd(), {"fast": ["task", "target"], "slow": ["nontarget"]}, {"fats": 0.1})


def test_only_keeps_the_coefficient_of_what_is_left() -> None:
    kept = fr.only(M.deepkd(M.dkd()), ["task", "target"])
    assert dict(kept.momenta(0.9)) == pytest.approx({"task": 0.975, "target": 0.825})
    assert_equal(
        kept.stream_losses(LG, EPOCH)["target"], M.deepkd(M.dkd()).stream_losses(LG, EPOCH)["target"], "", 1e-14
    )


@pytest.mark.parametrize(
    ("names", "message"), [(["targt"], "did you mean 'target'"), ([], "name at least one component")]
)
def test_only_refuses_unknown_names_and_nothing(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fr.only(M.dkd(), names)


# -- words for people --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rule": "papr"}, ValueError, "unknown deepkd rule 'papr': did you mean 'paper'"),
        ({"kd_form": "per_rows"}, ValueError, "did you mean 'per_row'"),
        ({"decay_on": "tasks"}, ValueError, "did you mean 'task'"),
        ({"rule": "published-code", "decay_on": "task"}, ValueError, "puts weight decay in the target buffer"),
        ({"delta": float("inf")}, ValueError, "delta must be a finite number"),
        ({"delta_taget": 0.1}, TypeError, "unknown argument of deepkd 'delta_taget': did you mean 'delta_target'"),
    ],
    ids=str,
)
def test_a_wrong_option_says_what_was_meant(
    options: dict[str, object], error: type[Exception], message: str, unchecked: None
) -> None:
    with pytest.raises(error, match=message):
        M.deepkd(M.dkd(), **options)


def test_a_wrapped_method_can_be_rebuilt_with_other_arguments() -> None:
    changed = M.deepkd(M.dkd(beta=2.0), delta=0.05).with_args(delta_task=0.01)
    assert repr(changed) == "<Method deepkd(dkd(beta=2.0), delta=0.05, delta_task=0.01)>"
    assert dict(changed.momenta(0.9)) == pytest.approx({"task": 0.91, "target": 0.85, "nontarget": 0.95})
