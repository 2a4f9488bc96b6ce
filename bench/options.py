"""What the command lines of the benches have in common."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["Parser", "count", "counts"]


class Parser(argparse.ArgumentParser):
    """One whose help tells the default of each option."""

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        default = settings.get("default")
        if default not in (None, argparse.SUPPRESS):
            settings["help"] = f"{settings.get('help', '')} (default: {default})".lstrip()
        return super().add_argument(*names, **settings)


def count(text: str) -> int:
    """A number of things of which there is at least one.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 up is needed")
    return int(text)


def counts(text: str) -> list[int]:
    """Such numbers with commas between, each once, the smallest first.

    Raises:
        ArgumentTypeError: one is none.
    """
    return sorted({count(part) for part in text.split(",")})
