"""What went wrong at a service, in our words: what can be tried again, and when."""

from __future__ import annotations

import email.utils
import time

import pytest

from rtcore.providers._faults import refused, service_fault
from rtcore.providers._settings import Secret

KEY = Secret("THE_KEY", "sk-0123456789")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"error": {"message": "too long", "type": "invalid_request_error"}}', "too long"),
        (b'[{"error": {"message": "of Gemini", "status": "INVALID_ARGUMENT"}}]', "of Gemini"),
        (b'{"err_code": "X", "err_msg": "of Deepgram"}', "of Deepgram"),
        (b'{"detail": {"status": "x", "message": "of ElevenLabs"}}', "of ElevenLabs"),
        (b'{"error": "plain"}', "plain"),
        (b'{"error": {"message": "has sk-0123456789 in it"}}', "has *** in it"),
        (b"<html>502</html>", ""),
        (b"", ""),
        (b"[]", ""),
        (b'{"error": ' + b'"' + b"x" * 5000 + b'"}', "x" * 200),
    ],
)
def test_the_readable_part_of_a_refusal(body: bytes, detail: str) -> None:
    error = refused("p", 400, {}, body, KEY)
    assert str(error) == (f"p: 400: {detail}" if detail else "p: 400")


def test_a_refused_key_is_named_and_nothing_repeated() -> None:
    error = refused("p", 401, {}, b'{"error": {"message": "sk-01*** is wrong"}}', KEY)
    assert str(error) == "p: 401: the key was refused (THE_KEY)"
    assert not error.retryable


def test_retry_after_as_a_date() -> None:
    when = email.utils.formatdate(time.time() + 30, usegmt=True)
    error = refused("p", 503, {"retry-after": when}, b"", None)
    assert error.retry_after_s == pytest.approx(30, abs=2)
    assert refused("p", 503, {"retry-after": "soon"}, b"", None).retry_after_s is None


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("\u00b2", None),  # a digit that is no number
        ("9" * 5000, 86_400.0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("Wed, 21 Oct 9999 07:28:00 GMT", 86_400.0),
    ],
)
def test_no_retry_after_is_too_odd(said: str, meant: float | None) -> None:
    assert refused("p", 503, {"retry-after": said}, b"", None).retry_after_s == meant


@pytest.mark.parametrize(
    ("kind", "status", "retryable"),
    [
        ("overloaded_error", 0, True),
        ("INTERNAL_SERVER_ERROR", 0, True),
        ("3005", 0, True),
        ("RESOURCE_EXHAUSTED", 0, True),
        ("", 0, True),
        ("authentication_error", 0, False),
        ("invalid_request_error", 0, False),
        ("insufficient_quota", 0, False),
        ("voice_error", 404, False),
        ("invalid_but_busy", 503, True),
    ],
)
def test_faults_told_inside_a_stream(kind: str, status: int, retryable: bool) -> None:
    assert service_fault("p", kind, "words", status=status).retryable is retryable
