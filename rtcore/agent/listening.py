"""An agent that only listens: what it hears, what it tells of, where the call goes meanwhile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = ["KeywordRule", "Listening", "Track", "heard_keywords", "mood_of"]

Track = Literal["inbound", "outbound"]  # what the caller says; what the caller hears
MOODS = ("positive", "neutral", "negative")
SPACES = re.compile(r"\s+")


class KeywordRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event of this name each time one of the words, or phrases, is said."""

    event: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}\Z")]
    words: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=100)], ...],
        Meta(min_length=1, max_length=50),
    ]
    track: Literal["inbound", "outbound", "both"] = "both"


class Listening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Listen to a call and say nothing in it.

    ``dial`` rings somebody, and the two are listened to; ``then_url`` is a document of your own
    that the carrier fetches instead. With neither the caller is listened to alone.
    """

    track: Literal["inbound", "outbound", "both"] = "both"
    keywords: Annotated[tuple[KeywordRule, ...], Meta(max_length=100)] = ()
    sentiment_every_s: Annotated[float, Meta(ge=5, le=3600)] | None = None  # asks the responder
    dial: Annotated[str, Meta(pattern=r"^(|\+?[1-9][0-9]{3,14}|sips?:[!-~]{1,200})\Z")] = ""
    dial_timeout_s: Annotated[int, Meta(ge=5, le=120)] = 30
    then_url: Annotated[str, Meta(max_length=2000, pattern=r"^(|https?://[!-~]+)\Z")] = ""

    def __post_init__(self) -> None:
        if self.dial and self.then_url:
            raise ValueError("dial and then_url: a call goes to one of them, leave the other out")

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks that are heard."""
        return ("inbound", "outbound") if self.track == "both" else (self.track,)


def heard_keywords(rules: Sequence[KeywordRule], track: Track, text: str) -> list[str]:
    """The events that ``text`` sets off on ``track``, each once, in the order of the rules."""
    found = (
        rule.event
        for rule in rules
        if rule.track in (track, "both") and _pattern(rule.words).search(SPACES.sub(" ", text))
    )
    return list(dict.fromkeys(found))


@lru_cache(maxsize=1000)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Any of ``words``, whole, whatever their capitals and the spaces inside."""
    options = "|".join(re.escape(SPACES.sub(" ", word.strip())) for word in words)
    return re.compile(rf"(?<!\w)(?:{options})(?!\w)", re.IGNORECASE)


def mood_of(answer: str) -> str:
    """What a model's answer calls the mood; empty where it calls it nothing we asked for."""
    said = [word.strip(".,!\"'*").lower() for word in answer.split()]
    return next((word for word in said if word in MOODS), "")
