"""Signatures of webhooks, as Standard Webhooks defines them: its libraries verify ours.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from rtcore.errors import ConfigError

__all__ = ["signed", "verify"]

PREFIX = "whsec_"
AGE_MAX_S = 300  # the specification's libraries take a message this long after its signing


def signed(id: str, body: bytes, secret: str, now_s: int) -> dict[str, str]:
    """The headers of one attempt to deliver ``body``; ``id`` is that of all its attempts.

    Args:
        secret: ``whsec_`` and base64, or any text, whose octets are then the key.
        now_s: seconds since 1970.
    """
    digest = hmac.digest(_key(secret), f"{id}.{now_s}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def verify(headers: Mapping[str, str], body: bytes, secret: str, now_s: float) -> bool:
    """Whether ``body`` came with a signature of ``secret`` that is not old; for receivers.

    ``headers`` have lower-case names, or any if the mapping does not care.
    """
    id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isdecimal() or abs(now_s - int(stamp)) > AGE_MAX_S:
        return False
    wanted = signed(id, body, secret, int(stamp))["webhook-signature"].encode()
    given = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(wanted, each) for each in given)


def check_secret(secret: str, field: str) -> None:
    """
    Raises:
        ConfigError: it is empty, or said to be base64 and is not.
    """
    try:
        if not _key(secret):
            raise ConfigError(field, "is empty")
    except binascii.Error as exc:
        raise ConfigError(field, f"is not base64 after {PREFIX}") from exc


def _key(secret: str) -> bytes:
    if secret.startswith(PREFIX):
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    return secret.encode()
