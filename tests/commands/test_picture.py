"""A call's picture is whole, well-formed, to scale and of bounded size."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import trio.testing

from rtcore.commands.picture import (
    PART_COLOUR,
    CallPicture,
    Mark,
    Response,
    Span,
    draw,
    picture_of,
    save,
)
from rtcore.testing import FakeCarrier, memory_sockets, say, speak, wait

SVG = "{http://www.w3.org/2000/svg}"
SPEECH = speak("where is my parcel").pcm


def titles(svg: str) -> list[str]:
    """What a reader sees when pointing at things."""
    return [title.text or "" for title in ElementTree.fromstring(svg).iter(f"{SVG}title")]


def boxes(svg: str, colour: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    return [box for box in root.iter(f"{SVG}rect") if box.get("fill") == colour]


def test_every_turn_mark_and_part_is_drawn() -> None:
    parts = (("endpointing", 300.0), ("stt_final", 20.5), ("playout", 1.5))
    svg = draw(
        CallPicture(
            caller=SPEECH,
            agent=bytes(len(SPEECH)),
            title="a < b & c",
            spans=(Span(party="caller", kind="turn", start_ms=0, end_ms=1200, label="<where>"),),
            marks=(Mark(kind="clear", at_ms=700.25), Mark(kind="never_heard_of", at_ms=1)),
            responses=(Response(start_ms=1200, parts=parts, label="where?"),),
        )
    )
    shown = titles(svg)
    assert shown[0] == "a < b & c"
    assert "turn 0.00–1.20 s <where>" in shown
    assert "clear 0.700 s" in shown
    assert "never_heard_of 0.001 s" in shown
    assert shown.count("stt_final 20.5 ms") == 2  # at its time, and in the table
    assert "322 ms  where?" in svg
    assert "<script" not in svg
    assert "href" not in svg


def test_parts_are_drawn_to_one_scale_and_touch() -> None:
    responses = (
        Response(start_ms=100, parts=(("endpointing", 200.0), ("playout", 100.0))),
        Response(start_ms=900, parts=(("endpointing", 400.0), ("playout", 200.0))),
    )
    svg = draw(CallPicture(caller=SPEECH, agent=SPEECH, responses=responses))
    first, second = boxes(svg, PART_COLOUR["endpointing"])[-2:]
    playout = boxes(svg, PART_COLOUR["playout"])[-1]
    assert float(second.get("width", 0)) == pytest.approx(2 * float(first.get("width", 0)), abs=0.2)
    end = float(second.get("x", 0)) + float(second.get("width", 0))
    assert end == pytest.approx(float(playout.get("x", 0)), abs=0.2)


def test_an_empty_call_is_still_a_picture() -> None:
    assert ElementTree.fromstring(draw(CallPicture(caller=b"", agent=b""))).tag == f"{SVG}svg"


def test_a_long_call_is_no_larger_than_a_screen_can_show() -> None:
    hour = bytes(16000 * 600)
    svg = draw(CallPicture(caller=hour, agent=hour))
    assert len(svg) < 500_000
    assert float(ElementTree.fromstring(svg).get("width", 0)) < 6200


async def test_a_carriers_report_can_be_drawn(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    here, _ = memory_sockets()
    report = await FakeCarrier([wait(100), say(SPEECH), wait(100)]).call(here)
    path = tmp_path / "call.svg"
    save(picture_of(report, SPEECH, b""), path)
    assert "turn 0.10–1.30 s" in titles(path.read_text(encoding="utf-8"))
