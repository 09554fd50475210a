"""Processes that train hear of Ctrl-C from the process that gives them orders, not from the terminal."""

import os
import signal
import sys

import pytest

from fractionate.studies.crew import _deaf


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_what_is_started_ignores_an_interrupt_and_the_chief_does_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    with _deaf():
        os.kill(os.getpid(), signal.SIGINT)  # would end the test
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before
