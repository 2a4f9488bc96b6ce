"""Variables of a call in the words of an agent: ``{caller}`` becomes who calls."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["filled"]

VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def filled(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with the variables it names; unknown ones stay, values are taken as they are."""
    return VARIABLE.sub(lambda found: variables.get(found[1], found[0]), text)
