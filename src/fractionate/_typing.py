"""Shape annotations without a dependency: jaxtyping's names if it is loaded, harmless stand-ins otherwise.

The tests import jaxtyping before the package and switch its checks on; users never need it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
elif "jaxtyping" in sys.modules:
    Bool, Float, Int = (getattr(sys.modules["jaxtyping"], n) for n in ("Bool", "Float", "Int"))
else:

    class _Annotation:
        """``Float[Tensor, "n c"]`` reads as plain ``Tensor``."""

        def __class_getitem__(cls, item: Any) -> Any:
            return item[0]

    Bool = Float = Int = _Annotation

__all__ = ["Bool", "Float", "Int"]
