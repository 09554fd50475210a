"""Turning saved momentum buffers into those of another stream layout, where that is exact."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def fit_state(saved: Mapping[str, Tensor], streams: list[str]) -> dict[str, Tensor]:
    """Buffers of one parameter for ``streams``, from buffers saved under possibly other streams.

    Buffers are linear in the gradient, so those of separate streams add up to the merged one; the
    other way needs numbers that were never stored.

    Raises:
        ValueError: a saved buffer has no place in ``streams``.
    """
    fitted: dict[str, Tensor] = {}
    for name, buffer in saved.items():
        home = next((s for s in streams if set(name.split("+")) <= set(s.split("+"))), None)
        if home is None and streams == ["loss"]:
            home = "loss"  # one stream holds everything
        if home is None:
            raise ValueError(f"StreamSGD.load_state_dict: {_why(name, streams)}")
        fitted[home] = fitted[home] + buffer if home in fitted else buffer
    return fitted


def _why(name: str, streams: list[str]) -> str:
    parts = {part for stream in streams for part in stream.split("+")}
    if name == "loss" or parts & set(name.split("+")):
        return (
            f"the saved buffer {name!r} cannot be taken apart into the streams {streams}: only the sum of its "
            f"parts was stored. Load it into an optimizer with merged streams."
        )
    return f"the saved buffer {name!r} belongs to none of the streams {streams}; was another method trained?"
