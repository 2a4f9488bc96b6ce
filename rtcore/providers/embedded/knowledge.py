"""What an embedded agent knows: questions with their answers, and a booking it can take."""

from __future__ import annotations

import sqlite3
from importlib import resources
from math import log
from typing import Annotated

import msgspec
from msgspec import Meta

from rtcore.errors import ConfigError
from rtcore.providers.embedded._language import ENGLISH, words_of

__all__ = ["AgentData", "Booking", "Entry", "Index", "ScriptLine", "load_demo_agent"]

SCORE_MIN_PER_RARE = 0.7  # of what a word scores that one question alone has: below it only
# common words fit. Right and wrong answers of 140 recognised questions part at 0.6 to 0.8
Text = Annotated[str, Meta(min_length=1)]


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Entry(_Data, frozen=True):
    """One thing known: how it is asked for, and what is answered."""

    id: Text
    questions: Annotated[tuple[Text, ...], Meta(min_length=1)]
    answer: Text


class Booking(_Data, frozen=True):
    """An appointment to be taken down: a day, a time and a name, each asked for in turn."""

    triggers: Annotated[tuple[Text, ...], Meta(min_length=1)]
    days: Annotated[tuple[Text, ...], Meta(min_length=1)]
    ask_day: Text
    ask_time: Text
    ask_name: Text
    done: Text  # with {day}, {time} and {name}
    names: tuple[Text, ...] = ()  # to be expected by the recogniser; any name is taken


class ScriptLine(_Data, frozen=True):
    """One turn of a scripted caller, and the entry (or intent) that answers it."""

    say: Text
    expect: Text


class AgentData(_Data, frozen=True):
    """All there is to an embedded agent."""

    name: Text
    welcome: Text
    goodbye: Text
    entries: tuple[Entry, ...]
    booking: Booking | None = None
    script: tuple[ScriptLine, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """What callers may say to this agent, for ``CallContext.phrases``."""
        phrases = [question for entry in self.entries for question in entry.questions]
        if self.booking is not None:
            phrases += self.booking.triggers
            for day in self.booking.days:
                phrases += [f"on {day}", f"{day} please", f"{day} at"]
            for name in self.booking.names:
                phrases += [f"my name is {name}", f"it is {name}", name]
        return tuple(phrases)


def load_agent(toml: bytes) -> AgentData:
    """Read an agent from a TOML file's octets.

    Raises:
        ConfigError: a field is missing, unknown or of the wrong kind; the message names it.
    """
    try:
        return msgspec.toml.decode(toml, type=AgentData)
    except msgspec.DecodeError as exc:
        raise ConfigError("embedded.agent", str(exc)) from exc


def load_demo_agent() -> AgentData:
    """The agent of ``rtcore demo``: the front desk of a clinic."""
    return load_agent(resources.files(__package__).joinpath("demo_agent.toml").read_bytes())


class Index:
    """Finds the entry a question is about: SQLite FTS5, stemmed, ranked by BM25.

    0.3 to 0.5 ms for a question; used by one thread.
    """

    def __init__(self, entries: dict[str, tuple[str, ...]]) -> None:
        self._db = sqlite3.connect(":memory:")
        self._db.execute(
            "CREATE VIRTUAL TABLE asked USING fts5(id UNINDEXED, words, tokenize='porter ascii')"
        )
        rows = [
            (id, " ".join(_topic(question)))
            for id, questions in entries.items()
            for question in questions
        ]
        self._db.executemany("INSERT INTO asked VALUES (?, ?)", rows)
        # FTS5's weight of a word that 1 of n rows has; of no use below 3 rows, where any fits
        rare = log((len(rows) - 0.5) / 1.5) if len(rows) > 2 else 0.0
        self._score_min = SCORE_MIN_PER_RARE * rare

    def find(self, text: str) -> str | None:
        """Return the entry ``text`` asks for, or None when it fits none well enough."""
        topic = _topic(text)
        if not topic:
            return None
        best: tuple[str, float] | None = self._db.execute(
            "SELECT id, -bm25(asked) FROM asked WHERE asked MATCH ? ORDER BY 2 DESC LIMIT 1",
            (" OR ".join(f'"{word}"' for word in topic),),
        ).fetchone()
        return best[0] if best is not None and best[1] >= self._score_min else None


def _topic(text: str) -> list[str]:
    """The words of ``text`` that say what it is about, each once."""
    return [word for word in dict.fromkeys(words_of(text)) if word not in ENGLISH.stop_words]
