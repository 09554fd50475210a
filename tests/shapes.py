"""The type checker behind the shape checks: beartype, with int accepted where float is asked."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
