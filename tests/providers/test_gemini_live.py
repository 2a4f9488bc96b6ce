"""Gemini Live as a speech-to-speech model, over real sockets to a fake of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import Message
from rtcore.providers import build_speech_model
from rtcore.providers._settings import Deadlines
from rtcore.providers.gemini_live import GeminiLive, GeminiLiveSettings
from rtcore.speech_port import (
    CallerBegan,
    CallerEnded,
    CancelReply,
    Forget,
    ReplyAudio,
    ReplyBegun,
    ReplyDone,
    Respond,
    Say,
    SpeechUsage,
    Tell,
    ToolCallDropped,
    ToolResult,
    Truncate,
)
from tests.fakes._faults import Fault
from tests.fakes._http import eventually
from tests.fakes.gemini_live import FakeGeminiLive
from tests.providers._harness import KEY, pause, said
from tests.providers._talk import (
    fault_that_ends,
    hang_up_at_any_instant,
    one_error,
    sounds_like,
    talking,
)

SECRETS = {"GEMINI_API_KEY": KEY}
SHORT = Deadlines(connect_s=1.5, first_byte_s=1.5, stall_s=1.5)


async def _pair(nursery: trio.Nursery, **how: Any) -> tuple[FakeGeminiLive, GeminiLive]:
    settings = {name: how.pop(name) for name in ("turns", "voice", "silence_ms") if name in how}
    fake = FakeGeminiLive(**how)
    url = await nursery.start(fake.serve)
    given = GeminiLiveSettings(base_url=url, deadlines=SHORT, **settings)
    return fake, GeminiLive(given, SECRETS)


async def test_a_turn_is_answered(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, voice="Puck")
    async with talking(model) as talk:
        talk.tell(*said("my number is three"), Respond(reply="r1"))
        done = await talk.done("r1")
        assert (done.status, done.usage) == ("whole", SpeechUsage())  # its cost is told after it
        assert talk.text("r1") == "You said my number is three."
        assert sounds_like(talk.pcm("r1"), "You said my number is three.")
        assert [each.is_last for each in talk.of(ReplyAudio)].count(True) == 1
        assert talk.said("r1").text.strip() == "my number is three"
        assert talk.said("r1").is_final
        talk.tell(*said("thank you", 90_000), Respond(reply="r2"))
        assert (await talk.done("r2")).usage == SpeechUsage(
            input_tokens=100,
            output_tokens=20,
            input_audio_tokens=60,
            output_audio_tokens=20,
            cached_tokens=5,
        )
        assert talk.said("r2").text.strip() == "thank you"
    assert fake.heard == ["my number is three", "thank you"]
    setup = fake.setups[0]
    assert setup["systemInstruction"]["parts"][0]["text"] == "Be brief."
    assert setup["generationConfig"]["speechConfig"]["voiceConfig"] == {
        "prebuiltVoiceConfig": {"voiceName": "Puck"}
    }
    assert setup["realtimeInputConfig"]["automaticActivityDetection"] == {"disabled": True}
    assert setup["tools"][0]["functionDeclarations"][0]["behavior"] == "BLOCKING"
    assert "historyConfig" not in setup
    assert fake.sessions[0].headers["x-goog-api-key"] == KEY
    await eventually(lambda: fake.open_sessions == 0)


async def test_a_line_is_said_word_for_word(nursery: trio.Nursery) -> None:
    _, model = await _pair(nursery)
    async with talking(model) as talk:
        talk.tell(Say(reply="r1", text="Good morning."))
        await talk.done("r1")
        assert talk.text("r1") == "Good morning."
        talk.tell(*said("one"), Say(reply="r2", text="Still there?"))  # after a noise
        await talk.done("r2")
        assert talk.text("r2") == "Still there?"
        talk.tell(*said("two", 90_000), Respond(reply="r3"))
        await talk.done("r3")
        assert talk.text("r3") == "You said two."


async def test_functions_are_called_and_the_reply_goes_on(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    async with talking(model) as talk:
        talk.tell(*said("my order number"), Respond(reply="r1"))
        await talk.until(lambda: len(talk.calls("r1")) == 2)
        first, second = talk.calls("r1")
        assert (first.call.name, first.call.arguments) == ("lookup", '{"id":"1"}')
        assert {first.step, second.step} == {0}
        talk.tell(ToolResult(reply="r1", call_id=second.call.id, text="lost"))
        talk.tell(Say(reply="r1", text="One moment."))  # a filler would cancel what it waits for
        await trio.sleep(0.05)
        assert fake.results == []  # until all have returned
        talk.tell(ToolResult(reply="r1", call_id=first.call.id, text="sent"))
        assert (await talk.done("r1")).status == "whole"
        assert (talk.text("r1", 0), talk.text("r1", 1)) == ("One moment.", "It is sent and lost.")
        assert sounds_like(talk.pcm("r1", 1), "It is sent and lost.")
    assert [each["name"] for each in fake.results] == ["lookup", "lookup"]


async def test_an_interruption_stops_it_and_tells_what_was_heard(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, piece_s=0.01)
    async with talking(model) as talk:
        talk.tell(*said("one two three four five six seven"), Respond(reply="r1"))
        await talk.until(lambda: len(talk.of(ReplyAudio)) >= 2)
        talk.tell(*said("my", 90_000))  # it may be nothing: the model does not hear it yet
        await trio.sleep(0.03)
        assert not any("activityStart" in str(text) for text in fake.sessions[0].texts[-3:])
        talk.tell(
            CancelReply(reply="r1"),
            Truncate(reply="r1", step=0, heard_ms=100, heard_text="You said one"),
            *said("thank you", 92_560),
            Respond(reply="r2"),
        )
        assert (await talk.done("r1")).status == "cancelled"
        await talk.done("r2")
        assert talk.text("r2") == "You said my thank you."
        assert sounds_like(talk.pcm("r2"), "You said my thank you.")
    told = [part["text"] for c in fake.contents for turn in c["turns"] for part in turn["parts"]]
    assert told == ['(The caller interrupted you and heard only: "You said one")']
    assert not any(content["turnComplete"] for content in fake.contents)


async def test_a_noise_while_it_speaks_reaches_nobody(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, piece_s=0.01, playback_s=0.2)
    async with talking(model) as talk:
        talk.tell(*said("one two three"), Respond(reply="r1"))
        await talk.until(lambda: len(talk.of(ReplyAudio)) >= 2)
        talk.tell(*said("eight", 90_000), Forget())
        assert (await talk.done("r1")).status == "whole"
        talk.tell(*said("nine", 95_000), Forget())  # it is still being heard
        talk.tell(*said("thank you", 150_000), Respond(reply="r2"))
        await talk.done("r2")
    assert fake.heard == ["one two three", "thank you"]


async def test_a_turn_that_goes_on_is_asked_again(nursery: trio.Nursery) -> None:
    _, model = await _pair(nursery, first_s=0.05)
    async with talking(model) as talk:
        talk.tell(*said("my number is"), Respond(reply="r1"))
        await trio.sleep(0.02)
        talk.tell(CancelReply(reply="r1"), *said("three", 20_000), Respond(reply="r2"))
        await talk.done("r2")
        assert talk.text("r2") == "You said three."
        assert [each.reply for each in talk.of(ReplyDone)] == ["r1", "r2"]
        assert talk.pcm("r1") == b""


async def test_an_answer_that_ends_unsaid_holds_nothing_up(nursery: trio.Nursery) -> None:
    _, model = await _pair(nursery, first_s=0.05, is_mute_before_start=True)
    async with talking(model) as talk:
        talk.tell(*said("one"), Respond(reply="r1"))
        await trio.sleep(0.02)
        talk.tell(CancelReply(reply="r1"), *said("two", 20_000), Respond(reply="r2"))
        assert (await talk.done("r2")).status == "whole"
        assert (await talk.done("r1")).status == "cancelled"
        assert talk.text("r2") == "You said two."
        talk.tell(*said("three", 90_000), Respond(reply="r3"))
        await talk.done("r3")
        assert talk.text("r3") == "You said three."


async def test_functions_of_a_cancelled_reply_are_dropped(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    async with talking(model) as talk:
        talk.tell(*said("my order"), Respond(reply="r1"))
        await talk.until(lambda: bool(talk.calls("r1")))
        call = talk.calls("r1")[0].call
        talk.tell(CancelReply(reply="r1"))
        assert (await talk.done("r1")).status == "cancelled"
        assert talk.of(ToolCallDropped) == [ToolCallDropped(reply="r1", call_id=call.id)]
        talk.tell(ToolResult(reply="r1", call_id=call.id, text="sent"))  # it had been done
        talk.tell(*said("thank you", 90_000), Respond(reply="r2"))
        await talk.done("r2")
    assert fake.results == []
    assert "The function lookup has returned: sent" in str(fake.contents)


async def test_keys_are_part_of_a_turn_or_one(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    async with talking(model) as talk:
        talk.tell(Tell(text="They pressed 5"), Respond(reply="r1"))
        await talk.done("r1")
        assert talk.text("r1").startswith("You told")
        talk.tell(Tell(text="They pressed 6"), *said("one"), Respond(reply="r2"))
        await talk.done("r2")
        assert talk.text("r2") == "You said one."
    assert "They pressed 6" in str(fake.contents[-1])


async def test_a_note_waits_until_it_interrupts_nothing(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, piece_s=0.01, playback_s=0.1)
    async with talking(model) as talk:
        talk.tell(*said("one two three"), Respond(reply="r1"))
        await talk.until(lambda: len(talk.of(ReplyAudio)) >= 1)
        talk.tell(Tell(text="(offer a discount)"))
        assert (await talk.done("r1")).status == "whole"
        talk.tell(Tell(text="(but not today)"))
        await trio.sleep(0.05)
        assert fake.contents == []  # it believes that it is still heard
        await eventually(lambda: "discount" in str(fake.contents))
        assert talk.text("r1") == "You said one two three."


async def test_its_own_turns(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, turns="theirs", silence_ms=240)
    assert model.turns == "theirs"
    async with talking(model) as talk:
        talk.tell(Say(reply="r1", text="Welcome."))
        await talk.done("r1")
        talk.tell(*said("one two"), *pause(5120, 6))
        await talk.done("m1")
        assert talk.text("m1") == "You said one two."
        assert [each.turn for each in talk.of(CallerBegan)] == ["t1"]
        assert [each.turn for each in talk.of(CallerEnded)] == ["t1"]
        assert talk.said("t1").text.strip() == "one two"
        order = [type(each) for each in talk.events if not isinstance(each, ReplyAudio)]
        assert order.index(CallerEnded) < len(order) - order[::-1].index(ReplyBegun)
        talk.tell(Tell(text="They pressed 5", is_turn=True))
        await talk.done("m2")
        assert len(talk.of(CallerBegan)) == 1  # what was told is no voice
    assert fake.setups[0]["realtimeInputConfig"]["automaticActivityDetection"] == {
        "disabled": False,
        "silenceDurationMs": 240,
    }


async def test_a_line_that_is_interrupted_before_it_begins_is_over(nursery: trio.Nursery) -> None:
    _, model = await _pair(nursery, turns="theirs", silence_ms=240, first_s=0.1)
    async with talking(model) as talk:
        talk.tell(Say(reply="r1", text="Welcome."), *said("one two"))
        assert (await talk.done("r1")).status == "cancelled"
        talk.tell(*pause(5120, 6))
        assert (await talk.done("m1")).status == "whole"


async def test_words_that_lag_behind_their_sound_begin_nothing(nursery: trio.Nursery) -> None:
    _, model = await _pair(nursery, turns="theirs", silence_ms=240, late_words=True)
    async with talking(model) as talk:
        talk.tell(*said("one two"), *pause(5120, 6))
        await talk.done("m1")
        talk.tell(*said("three", 20_000), *pause(22_560, 6))
        await talk.done("m2")
        assert [each.reply for each in talk.of(ReplyBegun)] == ["m1", "m2"]
        assert len(talk.of(CallerBegan)) == 2


async def test_a_line_while_its_own_ears_hear_the_caller(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, turns="theirs", silence_ms=240, piece_s=0.01)
    async with talking(model) as talk:
        talk.tell(*said("one two three four"), *pause(10_240, 4))
        await talk.until(lambda: len(talk.of(ReplyAudio)) >= 2)
        talk.tell(*said("thank you", 20_000))
        await talk.until(lambda: len(talk.of(CallerBegan)) == 2)
        talk.tell(Say(reply="r1", text="Excuse me."))
        assert (await talk.done("r1")).status == "whole"
        assert talk.text("r1") == "Excuse me."
    assert "activityEnd" not in str(fake.sessions[0].texts)


async def test_it_is_interrupted_by_its_own_ears(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, turns="theirs", silence_ms=240, piece_s=0.01)
    async with talking(model) as talk:
        talk.tell(*said("one two three four"), *pause(10_240, 4))
        await talk.until(lambda: len(talk.of(ReplyAudio)) >= 2)
        talk.tell(*said("thank you", 20_000))
        await talk.until(lambda: len(talk.of(CallerBegan)) == 2)
        assert (await talk.done("m1")).status == "cancelled"
        talk.tell(Truncate(reply="m1", step=0, heard_ms=100, heard_text="You"), *pause(25_120, 6))
        assert (await talk.done("m2")).status == "whole"
        assert talk.text("m2") == "You said thank you."
    assert fake.contents == []  # it counts by its own clock what was heard


async def test_the_conversation_so_far_is_told(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    messages = (
        Message(role="system", text="They called before."),
        Message(role="assistant", text="Hello."),
        Message(role="user", text="Is it sent?"),
    )
    async with talking(model, *messages) as talk:
        talk.tell(*said("one"), Respond(reply="r1"))
        await talk.done("r1")
    assert fake.setups[0]["historyConfig"] == {"initialHistoryInClientContent": True}
    assert [turn["role"] for turn in fake.contents[0]["turns"]] == ["user", "model", "user"]


async def test_a_connection_that_goes_away_is_replaced_unnoticed(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, go_away_after=1)
    async with talking(model, Message(role="user", text="Hello.")) as talk:
        talk.tell(*said("one"), Respond(reply="r1"))
        await talk.done("r1")
        await eventually(lambda: len(fake.sessions) == 2 and fake.open_sessions == 1)
        talk.tell(*said("two", 90_000), Respond(reply="r2"))
        await talk.done("r2")
        assert talk.text("r2") == "You said two."
    assert fake.setups[1]["sessionResumption"] == {"handle": "handle-1"}
    assert "historyConfig" not in fake.setups[1]


async def test_a_connection_that_goes_away_is_left_when_all_is_said(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, go_away_after=0, piece_s=0.005, playback_s=0.05)
    async with talking(model) as talk:
        talk.tell(*said("one two three"), Respond(reply="r1"))
        assert (await talk.done("r1")).status == "whole"
        assert talk.text("r1") == "You said one two three."
        assert len(fake.sessions) == 1  # the session is not saved with this turn yet
        await eventually(lambda: len(fake.sessions) == 2 and fake.open_sessions == 1)
        talk.tell(*said("two", 90_000), Respond(reply="r2"))
        await talk.done("r2")
    assert fake.setups[1]["sessionResumption"] == {"handle": "handle-1"}


async def test_a_connection_lost_in_a_pause_is_replaced_unnoticed(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    async with talking(model) as talk:
        talk.tell(*said("one"), Respond(reply="r1"))
        await talk.done("r1")
        await eventually(lambda: fake.handles == 1)
        await trio.sleep(0.05)  # it is on its way
        await trio.aclose_forcefully(fake.sessions[0].socket._stream)
        await eventually(lambda: len(fake.sessions) == 2)
        talk.tell(*said("two", 90_000), Respond(reply="r2"))
        await talk.done("r2")
        assert talk.text("r2") == "You said two."


async def test_a_session_that_cannot_be_resumed_is_lost(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)

    async def lose_it() -> None:
        async with talking(model) as talk:
            talk.tell(*said("one"), Respond(reply="r1"))
            await talk.done("r1")
            await trio.sleep(0.05)
            fake.faults.add(*[Fault(status=503)] * 5)
            await trio.aclose_forcefully(fake.sessions[0].socket._stream)
            await trio.sleep_forever()

    with pytest.raises(ProviderError) as caught:
        await one_error(lose_it)
    assert caught.value.retryable
    assert fake.refusals <= 4


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
        (Fault(drop_after=3), True),
        (Fault(malformed_after=3), True),
        (Fault(error_after=3), True),
        (Fault(drop_after=3, close_code=1011), True),
        (Fault(drop_after=3, close_code=1007), False),
        (Fault(drop_after=3, close_code=1008), False),
        (Fault(drop_after=3, close_code=1000), True),
    ],
    ids=repr,
)
async def test_each_fault_is_one_plain_error(
    nursery: trio.Nursery, fault: Fault, retryable: bool
) -> None:
    fake, model = await _pair(nursery, piece_s=0.005)
    fake.faults.add(fault)

    error = await fault_that_ends(model, *said("one two three four"), Respond(reply="r1"))
    assert error.retryable is retryable
    await eventually(lambda: fake.open_sessions == 0 or fault.stall_after is not None)


async def test_unknown_messages_are_ignored(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery)
    fake.faults.add(Fault(unknown_messages=True))
    async with talking(model) as talk:
        talk.tell(*said("one"), Respond(reply="r1"))
        assert (await talk.done("r1")).status == "whole"


async def test_a_hang_up_at_any_instant_leaves_nothing_open(nursery: trio.Nursery) -> None:
    fake, model = await _pair(nursery, piece_s=0.001)
    await hang_up_at_any_instant(model, *said("my order number"), Respond(reply="r1"))
    await eventually(lambda: fake.open_sessions == 0)


def test_it_is_built_by_name_and_needs_its_key() -> None:
    (model,) = build_speech_model([{"provider": "gemini_live", "turns": "theirs"}], SECRETS).members
    assert (model.name, model.turns) == ("gemini_live", "theirs")
    assert KEY not in repr(model) + repr(vars(model))
    with pytest.raises(ConfigError, match="GEMINI_API_KEY: is missing"):
        build_speech_model([{"provider": "gemini_live"}], {})
