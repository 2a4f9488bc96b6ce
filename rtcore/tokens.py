"""The capability in a media URL: signed, self-contained, short-lived, bound to one call.

Any worker or node that knows the secret can check it without asking another. It travels in the
path, because the carrier's signature of an upgrade does not cover the query.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from rtcore.errors import RtcoreError

__all__ = ["BadToken", "MediaToken", "SpentTokens", "issue", "redeem"]

MAC_BYTES = 16  # 128 bits: forging one takes 2^127 tries
TOKEN_MAX_CHARS = 1024


class BadToken(RtcoreError):
    """The token is forged, broken, expired or spent; the message says which."""


class MediaToken(msgspec.Struct, frozen=True, kw_only=True):
    """What the bearer may do: open one stream, of this call, with this agent."""

    call_id: str
    agent_id: str
    expires_s: float  # Unix time
    nonce: str  # makes two tokens of one call differ, and one spendable once


def issue(secret: bytes, token: MediaToken) -> str:
    """``token`` as a path segment of URL-safe characters.

    Raises:
        ValueError: the secret is shorter than 16 octets.
    """
    if len(secret) < 16:
        raise ValueError("the secret needs at least 16 octets")
    body = msgspec.json.encode(token)
    return urlsafe_b64encode(body + _mac(secret, body)).rstrip(b"=").decode()


def redeem(secret: bytes, text: str, now_s: float) -> MediaToken:
    """The token that ``text`` carries, if it is genuine and ``now_s`` is in its time.

    Raises:
        BadToken: it is not.
    """
    if len(text) > TOKEN_MAX_CHARS:
        raise BadToken("too long")
    try:
        raw = urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
    except ValueError as exc:
        raise BadToken("not base64") from exc
    body, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
    if not hmac.compare_digest(_mac(secret, body), mac):
        raise BadToken("forged")
    token = msgspec.json.decode(body, type=MediaToken)
    if now_s >= token.expires_s:
        raise BadToken("expired")
    return token


class SpentTokens:
    """Which tokens were used, for as long as they would be valid. Bounded by their life."""

    def __init__(self, max_tokens: int = 100_000) -> None:
        self._spent: dict[str, float] = {}  # nonce -> expiry, oldest first
        self._max = max_tokens

    def spend(self, token: MediaToken, now_s: float) -> None:
        """Use ``token`` up.

        Raises:
            BadToken: it was used before, or so many are outstanding that we cannot tell.
        """
        for nonce in [n for n, expires_s in self._spent.items() if expires_s <= now_s]:
            del self._spent[nonce]
        if token.nonce in self._spent:
            raise BadToken("spent")
        if len(self._spent) >= self._max:
            raise BadToken("too many outstanding")
        self._spent[token.nonce] = token.expires_s

    def restore(self, token: MediaToken) -> None:
        """``token`` may be used after all: nothing came of it."""
        self._spent.pop(token.nonce, None)


def _mac(secret: bytes, body: bytes) -> bytes:
    return hmac.new(secret, body, hashlib.sha256).digest()[:MAC_BYTES]
