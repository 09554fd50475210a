"""Methods as plain data: text, values and built methods say the same."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fractionate as fr
from fractionate.config.method import MethodSpec, Wrapper
from fractionate.methods import catalog

ARGS = st.dictionaries(
    st.sampled_from(["alpha", "beta", "warmup", "kl", "hard"]),
    st.one_of(
        st.integers(-5, 5),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.none(),
        st.text("abc-_'\" (),=+", max_size=6),
        st.lists(st.integers(0, 3), max_size=3),
    ),
    max_size=3,
)
WRAPPERS = st.lists(
    st.tuples(st.sampled_from(sorted(catalog.WRAPPERS)), ARGS), max_size=2, unique_by=lambda pair: pair[0]
)
NAMES = st.sampled_from(sorted(catalog.METHODS))
Named = tuple[str, dict[str, Any]]


@given(NAMES, ARGS, WRAPPERS)
def test_a_spec_survives_text_and_pickle(name: str, args: dict[str, Any], wrappers: list[Named]) -> None:
    spec = MethodSpec(name, args, tuple(Wrapper(n, a) for n, a in wrappers))
    assert MethodSpec.parse(str(spec)) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize("name", sorted(catalog.METHODS))
def test_a_name_builds_its_function(name: str) -> None:
    assert repr(MethodSpec.parse(name).build()) == repr(catalog.METHODS[name]())


def test_arguments_reach_the_function() -> None:
    assert repr(MethodSpec.parse("dkd(beta=2, kl=reverse)").build()) == repr(fr.methods.dkd(beta=2, kl="reverse"))


def test_wrappers_apply_from_left_to_right() -> None:
    built = MethodSpec.parse("dkd(beta=2)+deepkd(delta=0.05, rule=published-code)").build()
    by_hand = fr.methods.deepkd(fr.methods.dkd(beta=2), delta=0.05, rule="published-code")
    assert built.momenta(0.9) == by_hand.momenta(0.9)
    assert built.name == by_hand.name


def test_deepkd_alone_means_over_dkd() -> None:
    assert MethodSpec.parse("deepkd(delta=0.05)") == MethodSpec.parse("dkd+deepkd(delta=0.05)")


def test_a_schedule_is_written_as_a_call() -> None:
    spec = MethodSpec.parse("dkd+deepkd(keep=phases(plateau=0.55))")
    assert spec.wrappers[0].args == {"keep": "phases(plateau=0.55)"}
    assert len(spec.build().streams) == 3


def test_labels_alone_has_one_component_and_reads_no_teacher() -> None:
    spec = MethodSpec.parse("ce(label_smoothing=0.1)")
    assert list(spec.build().parts) == ["task"]
    assert not spec.distils


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dkdd", "unknown method 'dkdd': did you mean 'dkd'"),
        ("dot", "dot wraps a method: write for example 'kd[+]dot'"),
        ("kd+dkd", "unknown wrapper 'dkd'"),
        ("kd+deepk", "did you mean 'deepkd'"),
        ("dkd(2)", "expected NAME or NAME"),
        ("dkd beta", "cannot read 'dkd beta'"),
        ("", "cannot read ''"),
        ("dkd(beta=2", "cannot read"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MethodSpec.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dkd(bet=2)", "unknown argument of dkd 'bet': did you mean 'beta'"),
        ("dkd(temperature=-1)", "temperature must be positive"),
        ("dkd+deepkd(rule=paperr)", "did you mean 'paper'"),
        ("dkd+deepkd(keep=phase(plateau=0.5))", "unknown schedule 'phase': did you mean 'phases'"),
        ("dkd+deepkd(keep=phases(platea=0.5))", "platea"),
    ],
)
def test_what_cannot_be_built_is_explained(text: str, message: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=message):
        MethodSpec.parse(text).build()
