"""A wrong name is answered with those that exist, and of very many with the nearest."""

from fractionate._choices import SHOWN, unknown


def test_of_a_librarys_many_names_the_nearest_are_shown_and_the_others_counted() -> None:
    names = [f"net{i}" for i in range(20 * SHOWN)]
    said = unknown("model", "net77x", names)
    assert "did you mean 'net77'?" in said
    assert f"{len(names):,} are known" in said
    assert len(said) < 300
    assert all(name in unknown("model", "x", names[:SHOWN]) for name in names[:SHOWN])


def test_of_many_names_none_of_which_is_near_some_are_shown() -> None:
    names = [f"net{i}" for i in range(20 * SHOWN)]
    assert "among them net0, net1" in unknown("model", "", names)
