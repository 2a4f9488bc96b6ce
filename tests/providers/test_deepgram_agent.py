"""Deepgram's Voice Agent as a speech-to-speech model, over real sockets to a fake of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from rtcore.errors import ConfigError
from rtcore.ports import Message, ToolCall
from rtcore.providers import build_speech_model
from rtcore.providers._settings import Deadlines
from rtcore.providers.deepgram_agent import DeepgramAgent, DeepgramAgentSettings
from rtcore.speech_port import (
    CallerBegan,
    CallerEnded,
    CancelReply,
    Instruct,
    ReplyAudio,
    ReplyBegun,
    ReplyDone,
    Say,
    Tell,
    ToolCallDropped,
    ToolResult,
    Truncate,
)
from tests.fakes._faults import Fault
from tests.fakes._http import eventually
from tests.fakes._voice import mulaw_of
from tests.fakes.deepgram_agent import FakeDeepgramAgent
from tests.providers._harness import KEY, pause, said
from tests.providers._talk import (
    fault_that_ends,
    hang_up_at_any_instant,
    sounds_like,
    talking,
)

SECRETS = {"DEEPGRAM_API_KEY": KEY}
SHORT = Deadlines(connect_s=1.5, first_byte_s=1.5, stall_s=1.5)
QUIET = pause(100_000, 7)  # longer than the silence that ends a turn


async def _pair(
    nursery: trio.Nursery, fake: FakeDeepgramAgent | None = None, **settings: Any
) -> tuple[FakeDeepgramAgent, DeepgramAgent]:
    fake = fake or FakeDeepgramAgent()
    url = await nursery.start(fake.serve)
    given = DeepgramAgentSettings(base_url=url, deadlines=SHORT, **settings)
    return fake, DeepgramAgent(given, SECRETS)


async def test_a_turn_is_answered(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, temperature=0.5)
    assert model.turns == "theirs"
    async with talking(model) as talk:
        talk.tell(Say(reply="r1", text="Welcome. What can I do?"))
        assert (await talk.done("r1")).status == "whole"
        assert talk.text("r1") == "Welcome. What can I do?"
        assert sounds_like(talk.pcm("r1"), "Welcome.What can I do?")
        talk.tell(*said("one two"), *QUIET)
        assert (await talk.done("m1")).status == "whole"
        assert talk.text("m1") == "You said one two."
        assert sounds_like(talk.pcm("m1"), "You said one two.")
        assert [each.is_last for each in talk.of(ReplyAudio)].count(True) == 2
        assert talk.of(CallerBegan) == [CallerBegan(turn="t1")]
        assert talk.of(CallerEnded) == [CallerEnded(turn="t1")]
        assert (talk.said("t1").text, talk.said("t1").is_final) == ("one two", True)
        kinds = [type(each) for each in talk.events]
        assert kinds.index(CallerEnded) < len(kinds) - kinds[::-1].index(ReplyBegun)
    assert fake.sessions[0].headers["authorization"] == f"Token {KEY}"
    agent = fake.settings[0]["agent"]
    provider = {"type": "deepgram", "model": "nova-3", "language": "en", "keyterms": ["Plivo"]}
    assert agent["listen"] == {"provider": provider}
    assert agent["think"]["provider"] == {
        "type": "open_ai",
        "model": "gpt-4o-mini",
        "temperature": 0.5,
    }
    assert agent["think"]["prompt"] == "Be brief."
    assert agent["think"]["functions"][0]["name"] == "lookup"
    await eventually(lambda: fake.open_sessions == 0)


async def test_functions_are_called_and_the_reply_goes_on(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    async with talking(model) as talk:
        talk.tell(*said("my order number"), *QUIET)
        await talk.until(lambda: len(talk.calls("m1")) == 2)
        first, second = (each.call for each in talk.calls("m1"))
        await talk.until(lambda: any(each.is_last for each in talk.of(ReplyAudio)))
        talk.tell(ToolResult(reply="m1", call_id=first.id, text="sent"))
        talk.tell(Say(reply="m1", text="Still looking."))
        await talk.until(lambda: "Still" in talk.text("m1", 1))
        talk.tell(ToolResult(reply="m1", call_id=second.id, text="paid"))
        assert (await talk.done("m1")).status == "whole"
        assert talk.text("m1", 0) == "One moment."
        assert talk.text("m1", 2) == "It is sent and paid."
    assert [each["name"] for each in fake.results] == ["lookup", "lookup"]


async def test_an_interruption_is_its_own_and_the_prompt_says_what_was_heard(
    nursery: trio.Nursery,
) -> None:
    fake, model = await _pair(nursery, FakeDeepgramAgent(piece_s=0.01))
    async with talking(model) as talk:
        talk.tell(*said("one two three four five"), *QUIET)
        await talk.until(lambda: len(talk.of(ReplyAudio)) >= 2)
        talk.tell(*said("thank you"))
        await talk.until(lambda: len(talk.of(CallerBegan)) == 2)
        assert (await talk.done("m1")).status == "cancelled"
        heard = Truncate(reply="m1", step=0, heard_ms=100, heard_text="You said")
        talk.tell(CancelReply(reply="m1"), heard, *QUIET)
        assert (await talk.done("m2")).status == "whole"
        assert talk.text("m2") == "You said thank you."
        assert sounds_like(talk.pcm("m2"), "You said thank you.")
        talk.tell(Truncate(reply="m2", step=0, heard_ms=0))
        await eventually(lambda: len(fake.prompts) == 2)
    assert fake.prompts == [  # each is added to the prompt
        'Note: the caller interrupted your answer and heard only: "You said"',
        'Note: the caller did not hear your answer: "You said thank you."',
    ]


async def test_what_is_cancelled_is_not_passed_on(nursery: trio.Nursery) -> None:
    _, model = await _pair(nursery, FakeDeepgramAgent(piece_s=0.005))
    async with talking(model) as talk:
        talk.tell(Say(reply="r1", text="A rather long line it is."), Say(reply="r2", text="Two."))
        await talk.until(lambda: len(talk.of(ReplyAudio)) >= 1)
        talk.tell(CancelReply(reply="r1"), CancelReply(reply="r2"))
        talk.tell(Say(reply="r3", text="Three."))
        assert (await talk.done("r3")).status == "whole"
        assert [each.status for each in talk.of(ReplyDone)] == ["cancelled", "cancelled", "whole"]
        assert len(talk.pcm("r1")) < len(mulaw_of("A rather long line it is.")) * 2
        assert talk.pcm("r2") == b""
        assert talk.text("r3") == "Three."


async def test_functions_it_gives_up_are_dropped(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    async with talking(model) as talk:
        talk.tell(*said("my order"), *QUIET)
        await talk.until(lambda: bool(talk.calls("m1")))
        call = talk.calls("m1")[0].call
        talk.tell(*said("thank you"))
        await talk.until(lambda: bool(talk.of(ToolCallDropped)))
        talk.tell(ToolResult(reply="m1", call_id=call.id, text="sent"), *QUIET)
        await talk.done("m2")
    assert fake.results == []
    assert fake.prompts[-1] == f"Note: the function {call.id} has returned: sent"


async def test_keys_notes_and_other_instructions(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    async with talking(model) as talk:
        talk.tell(Tell(text="5", is_turn=True))
        await talk.done("m1")
        assert talk.text("m1") == "You told 5."
        assert talk.of(CallerBegan) == []
        talk.tell(Tell(text="(offer a discount)"), Instruct(instructions="Be long."))
        await eventually(lambda: len(fake.prompts) == 2)
    assert fake.prompts == [
        "(offer a discount)",
        "Be long.\n\n(offer a discount)",  # in place of all that
    ]


async def test_notes_do_not_pile_up_for_ever(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    notes = [f"note {number}" for number in range(50)]
    async with talking(model) as talk:
        talk.tell(*[Tell(text=note) for note in notes])
        await eventually(lambda: len(fake.prompts) == 50)
    assert fake.prompts[:40] == notes[:40]
    assert fake.prompts[40] == "\n\n".join(["Be brief.", *notes[31:41]])
    assert fake.prompts[41:] == notes[41:]


async def test_a_line_that_is_refused_has_failed(nursery: trio.Nursery) -> None:
    _, model = await _pair(nursery, FakeDeepgramAgent(refuses=True))
    async with talking(model) as talk:
        talk.tell(Say(reply="r1", text="Welcome."))
        done = await talk.done("r1")
    assert done.status == "refused"


async def test_the_conversation_so_far_is_told(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, listen_model="flux-general-en")
    call = ToolCall(id="c1", name="lookup", arguments="{}")
    messages = (
        Message(role="system", text="They called before."),
        Message(role="user", text="Is it sent?"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", text="yes", tool_call_id="c1"),
    )
    async with talking(model, *messages) as talk:
        talk.tell(Say(reply="r1", text="Hello again."))
        await talk.done("r1")
    agent = fake.settings[0]["agent"]
    asked = {"id": "c1", "name": "lookup", "client_side": True, "arguments": "{}"}
    assert agent["context"]["messages"] == [
        {"type": "History", "role": "user", "content": "Is it sent?"},
        {"type": "History", "function_calls": [asked | {"response": "yes"}]},
    ]
    assert agent["think"]["prompt"] == "Be brief.\n\nThey called before."
    assert agent["listen"]["provider"]["version"] == "v2"


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [
        (Fault(status=401), False),
        (Fault(status=400), False),
        (Fault(status=429, retry_after="3"), True),
        (Fault(status=503), True),
        (Fault(first_delay_s=5.0), True),
        (Fault(drop_after=0), True),
        (Fault(stall_after=0), True),
        (Fault(stall_after=1), True),
        (Fault(drop_after=4), True),
        (Fault(malformed_after=4), True),
        (Fault(error_after=4), True),
        (Fault(drop_after=4, close_code=1011), True),
        (Fault(drop_after=4, close_code=1008), False),
        (Fault(drop_after=4, close_code=1000), True),
    ],
    ids=repr,
)
async def test_each_fault_is_one_plain_error(
    nursery: trio.Nursery, fault: Fault, retryable: bool
) -> None:
    fake, model = await _pair(nursery)
    fake.faults.add(fault)

    error = await fault_that_ends(model, *said("one two"), *QUIET)
    assert error.retryable is retryable
    await eventually(lambda: fake.open_sessions == 0 or fault.stall_after is not None)


async def test_unknown_messages_are_ignored(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    fake.faults.add(Fault(unknown_messages=True))
    async with talking(model) as talk:
        talk.tell(*said("one"), *QUIET)
        assert (await talk.done("m1")).status == "whole"


async def test_a_hang_up_at_any_instant_leaves_nothing_open(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, FakeDeepgramAgent(piece_s=0.001))
    await hang_up_at_any_instant(model, *said("my order number"), *QUIET)
    await eventually(lambda: fake.open_sessions == 0)


def test_turns_of_ours_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"turns: this service cannot be told when a turn ends"):
        build_speech_model([{"provider": "deepgram_agent", "turns": "ours"}], SECRETS)


def test_it_is_built_by_name_and_needs_its_key() -> None:
    (model,) = build_speech_model([{"provider": "deepgram_agent"}], SECRETS).members
    assert (model.name, model.turns) == ("deepgram_agent", "theirs")
    assert KEY not in repr(model) + repr(vars(model))
    with pytest.raises(ConfigError, match="DEEPGRAM_API_KEY: is missing"):
        build_speech_model([{"provider": "deepgram_agent"}], {})


def test_options_reach_the_settings() -> None:
    spec = {"provider": "deepgram_agent", "think": {"context_length": "max"}}
    (model,) = build_speech_model([spec], SECRETS).members
    assert isinstance(model, DeepgramAgent)
    assert msgspec.structs.asdict(model._settings)["think"] == {"context_length": "max"}
