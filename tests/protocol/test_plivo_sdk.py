"""Our signatures and answer documents beside those of Plivo's own SDK, where it is installed."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.protocol.plivo_signature import Tokens, sign_v2, sign_v3, verify_v3
from rtcore.protocol.plivo_xml import (
    Conference,
    Dial,
    Dtmf,
    Element,
    GetDigits,
    GetInput,
    Hangup,
    Number,
    Play,
    PreAnswer,
    Record,
    Redirect,
    Speak,
    Stream,
    User,
    Wait,
    render,
)

utils: Any = pytest.importorskip("plivo.utils")
xml: Any = pytest.importorskip("plivo.xml")

TOKEN, NONCE = "MWVkYTcwOTk4YTBkNGQ1ZmI3ZDRmMTIzNDU2Nzg5", "12429978183216904522"
EDGE = "https://edge.example.com"

names = st.text("abcAB-_", min_size=1, max_size=4)
ascii_text = st.text("abcABC019 +&=.~%/", max_size=8)  # it reads a query's UTF-8 as Latin-1
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
paths = st.sampled_from(["", "/", "/a", "/a/b.xml", "/p;v=1"])
queries = st.lists(st.tuples(names, ascii_text), max_size=4)
forms = st.dictionaries(names, st.lists(any_text, min_size=1, max_size=3), max_size=5)


@given(paths, queries, forms, st.booleans())
def test_v3_signatures_agree(
    path: str, query: list[tuple[str, str]], form: dict[str, list[str]], is_get: bool
) -> None:
    method, url = "GET" if is_get else "POST", EDGE + path
    if query:
        url += "?" + urlencode(query)
    params = {} if is_get else form
    pairs = [(name, value) for name, values in params.items() for value in values]
    signature = sign_v3(TOKEN, method, url, NONCE, pairs)
    assert utils.validate_v3_signature(method, url, NONCE, TOKEN, signature, dict(params))
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": NONCE}
    assert verify_v3(method, url, headers, Tokens(account=(TOKEN,)), form=pairs)


@given(paths, queries)
def test_v2_signatures_agree(path: str, query: list[tuple[str, str]]) -> None:
    url = f"{EDGE}{path}?{urlencode(query)}"
    assert utils.validate_signature(url, NONCE, sign_v2(TOKEN, url, NONCE), TOKEN)


def canonical(document: str | bytes) -> str:
    return ElementTree.canonicalize(document, strip_text=True)


URL = "https://node.example.com/x?a=1&b=2"
SOCKET = "wss://node.example.com/plivo/media/abc?x=1&y=2"
ELEMENTS: list[Element] = [
    Stream(
        url=SOCKET,
        audio_track="inbound",
        stream_timeout=86400,
        status_callback_url=URL,
        status_callback_method="POST",
        extra_headers={"session": "abc", "agent": "7"},
    ),
    Redirect(url=URL, method="POST"),
    Hangup(),
    Hangup(reason="busy", schedule=60),
    Speak(text="Grüße <& 'all'>", voice="WOMAN", language="en-US", loop=2),
    Play(url=URL, loop=1),
    Wait(length=120, silence=True, min_silence=300, beep=False),
    PreAnswer(children=(Play(url=URL), Wait(length=2))),
    Dtmf(digits="12#", is_async=True),
    Dial(
        children=(
            Number(number="14155550111", send_digits="1", send_on_preanswer=True),
            User(sip_uri="sip:a@b.example", sip_headers={"k": "v", "k2": "v2"}),
        ),
        action=URL,
        method="POST",
        redirect=False,
        timeout=30,
        time_limit=14400,
        caller_id="14155550199",
        caller_name="A & B",
        hangup_on_star=True,
        callback_url=URL,
        callback_method="GET",
        confirm_sound=URL,
        confirm_key="1",
        confirm_timeout=5,
        dial_music="real",
        digits_match="1,2",
        digits_match_b_leg="3",
        sip_headers={"a": "b"},
    ),
    GetDigits(
        children=(Speak(text="Which?"),),
        action=URL,
        method="POST",
        redirect=True,
        num_digits=4,
        timeout=5,
        digit_timeout=2,
        finish_on_key="#",
        retries=1,
        play_beep=False,
        valid_digits="1234",
        invalid_digits_sound=URL,
        log=False,
    ),
    GetInput(
        action=URL,
        method="POST",
        redirect=True,
        input_type="dtmf speech",
        execution_timeout=15,
        digit_end_timeout=2,
        speech_end_timeout=3,
        num_digits=3,
        finish_on_key="#",
        language="en-US",
        speech_model="phone_call",
        hints="yes,no",
        profanity_filter=True,
        interim_speech_results_callback=URL,
        interim_speech_results_callback_method="POST",
        log=True,
    ),
    Record(
        action=URL,
        method="POST",
        redirect=False,
        file_format="wav",
        timeout=15,
        max_length=3600,
        finish_on_key="#",
        play_beep=False,
        record_session=True,
        start_on_dial_answer=False,
        record_channel_type="stereo",
        transcription_type="auto",
        transcription_url=URL,
        callback_url=URL,
        callback_method="POST",
    ),
    Conference(
        room="r-1",
        muted=False,
        start_conference_on_enter=True,
        end_conference_on_exit=True,
        stay_alone=False,
        max_members=2,
        time_limit=600,
        wait_sound=URL,
        enter_sound="beep:1",
        exit_sound="beep:2",
        hangup_on_star=False,
        record=True,
        record_file_format="wav",
        action=URL,
        method="POST",
        redirect=True,
        callback_url=URL,
        callback_method="POST",
        digits_match="1",
        floor_event=True,
        relay_dtmf=False,
    ),
]
BODIES = ("url", "text", "digits", "number", "sip_uri", "room")


def theirs(ours: Any) -> Any:
    """The SDK's element of the same name, given the same values."""
    name = type(ours).__name__
    values = {
        key: value for key, value in msgspec.structs.asdict(ours).items() if value is not None
    }
    children = values.pop("children", ())
    bodies = [values.pop(key) for key in BODIES if key in values]
    for key, value in values.items():
        if isinstance(value, dict):
            values[key] = ",".join(map("=".join, value.items()))
    if name == "Dtmf":
        name, values["async_"] = "DTMF", values.pop("is_async")
    if name == "Stream":  # the one class of the SDK that takes its names as in the XML
        names = {field.name: field.encode_name for field in msgspec.structs.fields(ours)}
        values = {names[key]: value for key, value in values.items()}
    element = getattr(xml, f"{name}Element")(*bodies, **values)
    for child in children:
        element.add(theirs(child))
    return element


@pytest.mark.parametrize("ours", ELEMENTS, ids=lambda value: type(value).__name__)
def test_documents_agree(ours: Element) -> None:
    response = xml.ResponseElement().add(theirs(ours))
    assert canonical(render(ours)) == canonical(response.to_string())
