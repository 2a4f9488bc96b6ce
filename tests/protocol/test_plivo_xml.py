"""Answer documents: their text, their escaping, and what is refused."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.errors import LocalProtocolError
from rtcore.protocol.plivo import parse_extra_headers
from rtcore.protocol.plivo_xml import (
    Dial,
    Dtmf,
    GetDigits,
    Hangup,
    Number,
    Play,
    PreAnswer,
    Redirect,
    Speak,
    Stream,
    User,
    Wait,
    render,
)

SOCKET = "wss://node.example.com/plivo/media/abc"
URL = "https://node.example.com/plivo/after/abc"


def test_the_usual_answer() -> None:
    assert render(
        Stream(url=SOCKET + "?x=1&y=2", extra_headers={"session": "abc", "agent": "7"}),
        Redirect(url=URL, method="POST"),
    ).decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Response><Stream bidirectional="true" keepCallAlive="true"'
        ' contentType="audio/x-mulaw;rate=8000" extraHeaders="session=abc,agent=7">'
        "wss://node.example.com/plivo/media/abc?x=1&amp;y=2</Stream>"
        '<Redirect method="POST">https://node.example.com/plivo/after/abc</Redirect></Response>'
    )


def test_nothing_to_do_is_a_document_too() -> None:
    assert render().decode().endswith("<Response />")


def test_noise_cancellation() -> None:
    [stream] = ElementTree.fromstring(
        render(Stream(url=SOCKET, noise_cancellation=True, noise_cancellation_level=60))
    )
    assert stream.get("noiseCancellation") == "true"
    assert stream.get("noiseCancellationLevel") == "60"


@given(st.text(min_size=1, max_size=60))
def test_text_is_escaped_or_refused(text: str) -> None:
    try:
        document = render(Speak(text=text, voice=text))
    except LocalProtocolError as exc:
        assert "character" in str(exc)  # noqa: PT017 - the other outcome is as good
        return
    [speak] = ElementTree.fromstring(document)
    assert speak.get("voice") == text
    assert speak.text == text.replace("\r\n", "\n").replace("\r", "\n")  # XML 1.0, 2.11


@given(
    st.dictionaries(
        st.text("azAZ09_-", min_size=1, max_size=9),
        st.text("azAZ09_-", min_size=1, max_size=9),
        min_size=1,
        max_size=9,
    )
)
def test_extra_headers_come_back_as_they_were_sent(headers: dict[str, str]) -> None:
    [stream] = ElementTree.fromstring(render(Stream(url=SOCKET, extra_headers=headers)))
    assert parse_extra_headers(stream.get("extraHeaders", "")) == headers


ANY_NUMBER = (Number(number="14155550111"),)
REFUSED: dict[str, Any] = {
    "no socket URL": lambda: Stream(url=URL),
    "a URL with a space": lambda: Redirect(url=URL + " x"),
    "a URL with a line after it": lambda: Redirect(url=URL + "\n"),
    "a relative URL": lambda: Redirect(url="/plivo/after"),
    "a long URL": lambda: Stream(url=SOCKET + "x" * 2048),
    "a long callback URL": lambda: Stream(url=SOCKET, status_callback_url=URL + "x" * 2048),
    "another content type": lambda: Stream(
        url=SOCKET,
        content_type="audio/x-mulaw;rate=16000",  # type: ignore[arg-type]
    ),
    "both tracks both ways": lambda: Stream(url=SOCKET, audio_track="both"),
    "no time at all": lambda: Stream(url=SOCKET, stream_timeout=0),
    "a level alone": lambda: Stream(url=SOCKET, noise_cancellation_level=85),
    "a low level": lambda: Stream(url=SOCKET, noise_cancellation=True, noise_cancellation_level=59),
    "a header with a comma": lambda: Stream(url=SOCKET, extra_headers={"a": "b,c"}),
    "a header without a name": lambda: Stream(url=SOCKET, extra_headers={"": "b"}),
    "long headers": lambda: Stream(url=SOCKET, extra_headers={"a": "b" * 511}),
    "a number with letters": lambda: Dial(children=(Number(number="1415CALLME"),)),
    "no SIP address": lambda: Dial(children=(User(sip_uri="14155550111"),)),
    "a short password": lambda: Dial(
        children=(User(sip_uri="sip:a@b.example", sip_auth_password="short"),)
    ),
    "nobody to dial": lambda: Dial(children=()),
    "a long caller name": lambda: Dial(children=ANY_NUMBER, caller_name="x" * 51),
    "a number outside a dial": lambda: ANY_NUMBER[0],
    "a play inside a dial": lambda: Dial(children=(Play(url=URL),)),  # type: ignore[arg-type]
    "a wait among digits": lambda: GetDigits(children=(Wait(),)),  # type: ignore[arg-type]
    "a stream before the answer": lambda: PreAnswer(
        children=(Stream(url=SOCKET),)  # type: ignore[arg-type]
    ),
    "an unknown reason": lambda: Hangup(reason="bored"),  # type: ignore[arg-type]
    "keys of no telephone": lambda: Dtmf(digits="12x"),
    "nothing to say": lambda: Speak(text=""),
    "too much to say": lambda: Speak(text="x" * 100_001),
}


@pytest.mark.parametrize("build", REFUSED.values(), ids=REFUSED)
def test_refused(build: Any) -> None:
    with pytest.raises(LocalProtocolError):
        render(build())


def test_a_second_stream_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="more than one Stream"):
        render(Stream(url=SOCKET), Stream(url=SOCKET))


def test_headers_at_their_limit_pass() -> None:
    assert b"b" * 510 in render(Stream(url=SOCKET, extra_headers={"a": "b" * 510}))
