"""``fractionate`` with a fault: in the first attempt, one process ends without a word after so many steps.

Started by torchrun: ``crash.py STEPS arguments...``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from fractionate.cli import main
from fractionate.train import Loop

step, steps = Loop._step, int(sys.argv[1])


def _step(loop: Loop, batch: Any) -> None:
    step(loop, batch)
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first and os.environ["RANK"] == "1" and loop.training.run.method.distils and loop.training.step == steps:
        os._exit(9)


if __name__ == "__main__":
    Loop._step = _step  # type: ignore[method-assign]
    sys.exit(main(sys.argv[2:]))
