"""What went wrong at a service, said once, in our words."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from rtcore.errors import ProviderError
from rtcore.providers._settings import Secret

__all__ = ["refused", "service_fault", "timed_out"]

# asking again can help: timeout, conflict, too early, rate limit, the service's own trouble;
# 529 is Anthropic's "overloaded"
RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
DETAIL_MAX_CHARS = 200
RETRY_AFTER_MAX_S = 86_400  # more is a mistake of theirs: nobody here waits for longer
SECONDS_MAX_DIGITS = 9
# what a service calls a fault that is ours, or that time will not heal
FINAL_WORDS = (
    "invalid",
    "auth",
    "permission",
    "not_found",
    "unsupported",
    "billing",
    "insufficient",
)


def refused(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, secret: Secret | None
) -> ProviderError:
    """The error for an HTTP ``status`` of 400 and above (or a refused upgrade)."""
    if status in (401, 403):  # services repeat parts of the key here: their words stay out
        key = secret.name if secret else "no key was sent"
        return ProviderError(provider, f"{status}: the key was refused ({key})", retryable=False)
    detail = _detail(body)
    if secret is not None:
        detail = secret.censor(detail)
    return ProviderError(
        provider,
        f"{status}: {detail[:DETAIL_MAX_CHARS]}" if detail else f"{status}",
        retryable=status in RETRYABLE,
        retry_after_s=_retry_after_s(headers.get("retry-after", "")),
    )


def service_fault(provider: str, kind: str, message: str, *, status: int = 0) -> ProviderError:
    """The error for a fault told inside a stream; ``kind`` is the service's own word for it.

    A stream that had begun was asked for rightly: unless ``status`` or ``kind`` says otherwise,
    asking again can help.
    """
    is_final = any(word in kind.lower() for word in FINAL_WORDS)
    text = f"{kind}: {message}" if kind and message else kind or message or "unnamed error"
    return ProviderError(
        provider,
        text[:DETAIL_MAX_CHARS],
        retryable=status in RETRYABLE if status else not is_final,
    )


def timed_out(provider: str, stage: str, limit_s: float) -> ProviderError:
    """The error for a deadline missed while waiting for ``stage``."""
    return ProviderError(provider, f"{stage} took longer than {limit_s:g} s", retryable=True)


def _detail(body: bytes) -> str:
    """The readable part of an error body: ``{"error": {"message": ...}}`` and its relatives."""
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ""  # a proxy's HTML says nothing to us
    if isinstance(found, list) and found:  # Gemini wraps its errors in an array
        found = found[0]
    for member in ("error", "err_msg", "detail", "message"):
        if isinstance(found, dict) and member in found:
            found = found[member]
    return found if isinstance(found, str) else ""


def _retry_after_s(value: str) -> float | None:
    """Seconds of a ``Retry-After`` header: a number, or a date."""
    if value.isascii() and value.isdigit():
        return float(min(int(value[:SECONDS_MAX_DIGITS]), RETRY_AFTER_MAX_S))
    when = email.utils.parsedate_tz(value)
    if when is None:
        return None
    try:
        wait_s = email.utils.mktime_tz(when) - time.time()
    except (ValueError, OverflowError):  # a day that no calendar has
        return None
    return float(min(max(0.0, wait_s), RETRY_AFTER_MAX_S))
