"""Word tables, one module a language: data only. Add a module and name it here."""

from __future__ import annotations

from rtcore.turn.language import en
from rtcore.turn.language._table import Language

__all__ = ["LANGUAGES", "Language", "language"]

LANGUAGES: dict[str, Language] = {"en": en.LANGUAGE}


def language(tag: str) -> Language | None:
    """The tables for a BCP 47 tag (``en-GB`` finds ``en``), or None where there are none."""
    return LANGUAGES.get(tag.replace("_", "-").split("-")[0].lower())
