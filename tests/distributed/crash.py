"""``fractionate`` with a fault: in the first attempt, one process ends without a word after so many steps.

Started by torchrun: ``crash.py STEPS arguments...``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from fractionate.cli import main
from fractionate.train.loop import Loop

step = Loop._step


def crash_after(steps: int) -> None:
    """Replace the loop's step by one that may be the last."""

    def _step(loop: Loop, batch: Any) -> None:
        step(loop, batch)
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first and os.environ["RANK"] == "1" and loop.training.run.method.distils and loop.training.step == steps:
            os._exit(9)

    Loop._step = _step  # type: ignore[method-assign]


if __name__ == "__main__":
    crash_after(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
