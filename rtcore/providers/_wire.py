"""JSON of the services: unknown members are ignored, malformed messages are the service's fault."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from rtcore.errors import ProviderError

__all__ = ["b64decode", "decode", "encode", "encode_text"]

T = TypeVar("T")
ENCODER = msgspec.json.Encoder()


def decode(provider: str, decoder: msgspec.json.Decoder[T], message: str | bytes) -> T:
    """Decode one message of a service.

    Raises:
        ProviderError: it is not what the service documents.
    """
    try:
        return decoder.decode(message)
    except msgspec.DecodeError as exc:
        raise ProviderError(provider, f"malformed message: {exc}", retryable=True) from exc


def encode(body: object) -> bytes:
    """``body`` as JSON, for an HTTP request."""
    return ENCODER.encode(body)


def encode_text(body: object) -> str:
    """``body`` as JSON text, for a WebSocket text frame."""
    return ENCODER.encode(body).decode()


def b64decode(provider: str, text: str) -> bytes:
    """Octets from base64.

    Raises:
        ProviderError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ProviderError(provider, "audio that is not base64", retryable=True) from exc
