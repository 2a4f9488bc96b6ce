"""A call as somebody steers it who listens: muted, whispered to, kept waiting for a human."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.conversation import HINT, UNKNOWN_WORDS
from rtcore.agent.definition import AgentDefinition
from rtcore.call import Call, CallRecord, run_call
from rtcore.config import CallConfig
from rtcore.ports import Delta, ResponderRequest
from rtcore.speech_port import SpeechModel, Tell
from rtcore.testing import (
    Action,
    FakeCarrier,
    ScriptedResponder,
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    hang_up,
    memory_sockets,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)

VOICE = speak("tell me this then please").pcm
ASKS: list[Action] = [wait_for_agent_quiet(300), say(VOICE), wait_for_agent_quiet(400)]
ANSWER = "We open at nine in the morning. On Sundays we are closed."


class Noting(ScriptedResponder):
    """Remembers what it was asked."""

    requests: list[ResponderRequest]

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        self.requests.append(request)
        await super().respond(request, out)


class Steered:
    """One call on a simulated clock, and what was done to it at which second."""

    def __init__(
        self,
        script: list[Action],
        *steps: tuple[float, Callable[[Call], object]],
        model: SpeechModel | None = None,
    ) -> None:
        self.model = model
        self.responder = Noting([ANSWER, "It is behind the house.", "Indeed."], 350)
        self.responder.requests = []
        self.carrier = FakeCarrier([*script, hang_up()])
        self.steps = steps
        self.record: CallRecord | None = None
        simulate(self._run)

    async def _run(self) -> None:
        definition = AgentDefinition(name="desk", welcome_message="Welcome.")
        if self.model is not None:
            agent = Agent(definition, speech_model=self.model)
        else:
            agent = Agent(
                definition,
                transcriber=ScriptedTranscriber(["when do you open", "where is it", "well"], 150),
                responder=self.responder,
                synthesizer=ScriptedSynthesizer(120),
            )
        ours, theirs = memory_sockets()
        async with trio.open_nursery() as nursery:

            def started(call: Call) -> None:
                for after_s, do in self.steps:
                    nursery.start_soon(self._later, call, after_s, do)

            nursery.start_soon(self.carrier.call, theirs)
            self.record = await run_call(ours, agent, CallConfig(), on_start=started)
            nursery.cancel_scope.cancel()

    async def _later(self, call: Call, after_s: float, do: Callable[[Call], object]) -> None:
        await trio.sleep(after_s)
        do(call)

    @property
    def said(self) -> list[tuple[str, str]]:
        assert self.record is not None
        return [(message.role, message.text) for message in self.record.transcript]

    @property
    def kinds(self) -> list[str]:
        assert self.record is not None
        return [noted.kind for noted in self.record.notes]


def test_a_muted_agent_listens_and_answers_nothing() -> None:
    call = Steered([*ASKS, wait(30_000)], (0.5, Call.mute))
    assert ("user", "when do you open") in call.said
    assert [text for role, text in call.said if role == "assistant"] in ([], ["Welcome."])
    assert call.responder.requests == []
    assert "turn_unanswered" in call.kinds
    assert call.record is not None
    assert call.record.ended_by == "hung_up"  # not abandoned, whatever the silence
    assert call.record.stats.floor_lost == 0


def test_mute_cuts_what_is_being_said() -> None:
    heard: list[str] = []

    def mute(call: Call) -> None:
        heard.append(call.saying)
        call.mute()

    call = Steered([*ASKS, wait(3000)], (5.0, mute))
    assert 0 < len(heard[0]) < len(ANSWER)
    assert ("assistant", heard[0]) in call.said


def test_a_line_is_said_in_place_of_a_muted_agent() -> None:
    line = partial(Call.say, text="This is the manager.")
    call = Steered([wait(12_000)], (0.5, Call.mute), (3.0, line))
    assert ("assistant", "This is the manager.") in call.said


def test_an_unmuted_agent_answers_the_next_turn() -> None:
    call = Steered([*ASKS, *ASKS, wait(500)], (0.5, Call.mute), (4.5, Call.unmute))
    texts = [text for _, text in call.said]
    assert "when do you open" in texts
    assert texts[-2:] == ["where is it", "It is behind the house."]
    assert "when do you open" in [m.text for m in call.responder.requests[0].messages]


def test_a_whisper_is_told_to_the_model_and_to_nobody_else() -> None:
    hint = partial(Call.whisper, text="Offer a discount.")
    call = Steered([*ASKS, wait(500)], (0.5, hint))
    told = [m for m in call.responder.requests[-1].messages if m.role == "system"]
    assert [m.text for m in told if m.text.startswith(HINT)] == [f"{HINT}Offer a discount."]
    assert ("system", f"{HINT}Offer a discount.") in call.said
    assert ("assistant", ANSWER) in call.said


def test_a_whisper_reaches_an_answer_that_is_only_a_guess() -> None:
    """At any moment around the end of a turn: no answer that is heard was begun without it."""
    hint = partial(Call.whisper, text="Offer a discount.")
    began_anew = 0
    for step in range(20):
        call = Steered([*ASKS, wait(500)], (2.0 + step / 20, hint))
        assert call.record is not None
        began_anew += call.record.stats.discarded
        if call.kinds.index("whispered") < call.kinds.index("turn_committed"):
            last = call.responder.requests[-1].messages
            assert f"{HINT}Offer a discount." in [m.text for m in last]
    assert began_anew


def test_a_silent_caller_who_waits_for_a_human_is_told_so_and_kept() -> None:
    def wait_for_human(call: Call) -> None:
        call.waiting_line = "One moment more."

    call = Steered([wait(90_000)], (0.5, wait_for_human))
    assert [text for _, text in call.said].count("One moment more.") >= 5
    assert call.record is not None
    assert call.record.ended_by == "hung_up"


def test_what_the_caller_is_saying_is_known_before_the_turn_is_over() -> None:
    heard: list[str] = []
    look = [(2.0 + n / 20, lambda call: heard.append(call.hearing)) for n in range(40)]
    Steered([*ASKS, wait(500)], *look)
    assert "when do you open" in heard
    assert heard[-1] == ""


@pytest.mark.parametrize("turns", ["ours", "theirs"])
def test_a_speech_model_is_muted_and_whispered_to(turns: Literal["ours", "theirs"]) -> None:
    model = ScriptedSpeechModel([ANSWER], ["when do you open"], first_audio_ms=300, turns=turns)
    hint = partial(Call.whisper, text="Offer a discount.")
    call = Steered([*ASKS, wait(20_000)], (1.5, Call.mute), (1.6, hint), model=model)
    assert [text for role, text in call.said if role == "assistant"] == ["Welcome."]
    # under our turn-taking a model tells the words of a turn only with its answer to it
    words = "when do you open" if turns == "theirs" else UNKNOWN_WORDS
    assert [text for role, text in call.said if role == "user"] == [words]
    told = [each.text for each in model.told if isinstance(each, Tell)]
    assert told == [f"({HINT}Offer a discount.)"]
    assert call.record is not None
    assert call.record.ended_by == "hung_up"


@pytest.mark.parametrize("turns", ["ours", "theirs"])
def test_what_a_speech_model_is_saying_is_known(turns: Literal["ours", "theirs"]) -> None:
    model = ScriptedSpeechModel([ANSWER], ["when do you open"], first_audio_ms=300, turns=turns)
    heard: list[str] = []
    look = [(4.0 + n / 10, lambda call: heard.append(call.saying)) for n in range(30)]
    Steered([*ASKS, wait(3000)], *look, model=model)
    growing = [text for text in heard if text and ANSWER.startswith(text)]
    assert len(set(growing)) > 2
