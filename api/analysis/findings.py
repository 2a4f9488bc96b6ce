"""What has been found of a call so far, as it is kept and shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

__all__ = ["Evaluation", "Extraction", "Findings", "PartState", "Score", "Summary"]

PartState = Literal["done", "failed"]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The call in a few sentences."""

    state: PartState
    reason: Annotated[str, Meta(description="Why it failed.")] = ""
    text: str = ""


class Extraction(msgspec.Struct, frozen=True, kw_only=True):
    """The data that was asked for; null unless it is what the schema says."""

    state: PartState
    reason: Annotated[str, Meta(description="Why it failed.")] = ""
    data: dict[str, Any] | None = None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One criterion, judged. Its ``quote`` was said in ``turn``: that is checked."""

    criterion: str
    score: Annotated[int | None, Meta(description="Null: the call does not show it.")]
    reason: str
    quote: str = ""
    turn: Annotated[int | None, Meta(description="From 0, in the call's transcript.")] = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The scores that hold; ``reason`` names those that do not."""

    state: PartState
    reason: Annotated[str, Meta(description="Why it failed.")] = ""
    scores: tuple[Score, ...] = ()


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; what is null was not asked for, or has not been found yet."""

    summary: Summary | None = None
    extraction: Extraction | None = None
    evaluation: Evaluation | None = None
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    left_out_turns: Annotated[
        int, Meta(description="Of a transcript too long for the model, from its middle.")
    ] = 0
    error: Annotated[str, Meta(description="Of the last attempt, if it was broken off.")] = ""

    @property
    def has_failed(self) -> bool:
        parts = (self.summary, self.extraction, self.evaluation)
        return any(part is not None and part.state == "failed" for part in parts)
