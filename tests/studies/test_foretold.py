"""How long a job takes is said once, after its first steps, and only where that is worth a line."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console

from fractionate.studies.jobs import Event
from fractionate.studies.teachers import Foretold

PLACES = (0.25, 0.5, 0.75, 1.0, 1.25)  # epochs done at the steps, of 10


def foretold(seconds: float, events: list[Event]) -> tuple[list[Event], str]:
    """What a listener passes on and says, with so many seconds between events."""
    times: Iterator[float] = iter(seconds * n for n in range(100))
    heard: list[Event] = []
    text = StringIO()
    listen = Foretold(heard.append, Console(file=text, width=200), "the teacher x", clock=lambda: next(times))
    for event in events:
        listen(event)
    return heard, text.getvalue()


def steps() -> list[Event]:
    return [Event(0, 0, 10), *(Event(0, place, 10, images_per_s=123.0) for place in PLACES)]


def test_the_rest_is_told_once_from_the_pace_of_the_first_steps_and_every_event_passes() -> None:
    heard, text = foretold(3.0, steps())
    assert heard == steps()
    # a quarter of an epoch in 3 seconds at epoch 0.5: 9.5 epochs are left, 12 seconds each
    assert text.count("\n") == 1
    assert "the teacher x takes about 114 s (123 images/s" in text


def test_a_resumed_job_is_told_by_what_it_does_now_not_by_what_it_found_done() -> None:
    later = [Event(0, 8, 10), *(Event(0, 8 + place, 10, images_per_s=123.0) for place in PLACES)]
    _, text = foretold(20.0, later)
    assert "takes about" in text
    assert "about 2.0 minutes" in text  # 1.5 epochs of 80 seconds


@pytest.mark.parametrize("seconds", [0.3, 0.7])
def test_a_rest_of_less_than_half_a_minute_is_no_line(seconds: float) -> None:
    assert foretold(seconds, steps())[1] == ""


def test_steps_that_are_too_few_to_tell_say_nothing_yet() -> None:
    assert foretold(1.5, steps()[:3])[1] == ""
    assert "takes about" in foretold(1.5, steps()[:4])[1]
    still = [Event(0, 0.5, 10, images_per_s=9.0)] * 4  # no progress between them
    assert foretold(60.0, still)[1] == ""
