"""What a mind of one's own yields and raises: code that is not ours, its faults an answer's."""

from __future__ import annotations

import traceback
from pathlib import Path

import structlog

from rtcore.errors import ProviderError
from rtcore.ports import Delta, Finished, TextDelta, ToolCall

__all__ = ["broken", "delta_of"]

log = structlog.get_logger()


def delta_of(provider: str, piece: object) -> Delta:
    """``piece`` as a delta.

    Raises:
        ProviderError: it is neither text nor one.
    """
    if isinstance(piece, str):
        return TextDelta(text=piece)
    if isinstance(piece, TextDelta | ToolCall | Finished):
        return piece
    what = f"yielded {type(piece).__name__}: neither text nor a delta"
    log.warning("own_mind_failed", provider=provider, reason=what)
    raise ProviderError(provider, what, retryable=True)


def broken(provider: str, exc: Exception) -> ProviderError:
    """The failure of one answer, for ``exc``: its type and its line, for its author to find it.

    What it says may be the caller's words, and stays out.
    """
    if isinstance(exc, ProviderError):
        return exc
    *_, last = traceback.extract_tb(exc.__traceback__) or [None]
    where = f" at {Path(last.filename).name}:{last.lineno}" if last is not None else ""
    what = f"{type(exc).__name__}{where}"
    log.warning("own_mind_failed", provider=provider, reason=what)
    return ProviderError(provider, what, retryable=True)
