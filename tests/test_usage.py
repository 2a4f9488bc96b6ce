"""What a call used: told or estimated, of each provider, spoken or thrown away."""

from __future__ import annotations

import dataclasses

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from rtcore.agent.agent import Agent
from rtcore.errors import ProviderError
from rtcore.media.handshake import Rejection, UpgradeRequest
from rtcore.node import Node
from rtcore.node_metrics import NodeCollector
from rtcore.providers import build_responder
from rtcore.providers.fallback import (
    Breakers,
    BreakerSettings,
    FallbackResponder,
    FallbackSynthesizer,
    FallbackTranscriber,
)
from rtcore.testing import (
    Action,
    ProviderFault,
    ScriptedResponder,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    hang_up,
    say,
    simulate,
    wait,
    wait_for_agent_quiet,
)
from rtcore.usage import ProviderUsage, Request, Tally, Usage
from tests.test_call import (
    ANSWERS,
    QUESTIONS,
    TWICE,
    VOICE,
    WELCOME,
    make_call,
    scripted,
)

DOWN = ConnectionError("down")


def test_what_the_service_told_is_what_counts() -> None:
    tally = Tally()
    with Request(tally, input_chars=400) as asked:
        asked.got(40)
        asked.got(40)
        asked.told(90, 15, cached_tokens=64)
    assert (tally.requests, tally.answered, tally.failures) == (1, 1, 0)
    assert (tally.input_tokens, tally.output_tokens, tally.cached_tokens) == (90, 15, 64)
    assert tally.estimated_tokens == 0


async def test_an_answer_that_was_cut_is_estimated() -> None:
    tally = Tally()
    with trio.CancelScope() as scope, Request(tally, input_chars=400) as asked:
        asked.got(80)
        scope.cancel()
        await trio.lowlevel.checkpoint()
    assert (tally.input_tokens, tally.output_tokens, tally.estimated_tokens) == (100, 20, 120)
    assert tally.failures == 0


def test_one_that_counts_nothing_is_estimated() -> None:
    tally = Tally()
    with Request(tally, input_chars=400) as asked:
        asked.told(0, 0)
    assert tally.estimated_tokens == 100


def test_a_failure_before_the_answer_costs_nothing() -> None:
    tally = Tally()
    with pytest.raises(ConnectionError), Request(tally, input_chars=400):
        raise DOWN
    assert (tally.requests, tally.answered, tally.failures) == (1, 0, 1)
    assert tally.input_tokens == 0


def test_the_loser_of_a_race_is_waste() -> None:
    tally = Tally()
    with Request(tally, input_chars=400) as asked:
        asked.is_wasted = True
    assert tally.wasted_tokens == tally.input_tokens == 100


def test_a_list_counts_itself() -> None:
    class Alone:
        name = "mine"

    class Listed(Alone):
        counts_usage = True

    usage = Usage()
    usage.alone("llm", Alone()).requests += 1
    usage.alone("llm", Listed()).requests += 1
    (used,) = usage.report()
    assert (used.provider, used.member, used.requests) == ("mine", 0, 1)


def test_a_reply_thrown_away_is_waste_in_the_whole() -> None:
    call, spoken, thrown = Usage(), Usage(), Usage()
    for reply in (spoken, thrown):
        with Request(reply.of("llm", "m"), input_chars=40) as asked:
            asked.told(10, 5)
        voice = reply.of("tts", "v")
        voice.characters += 20
        voice.speech_samples += 8000
    call.add(spoken)
    call.add(thrown, is_wasted=True)
    mind, voice_used = call.report()
    assert (mind.input_tokens, mind.output_tokens, mind.wasted_tokens) == (20, 10, 15)
    assert (voice_used.characters, voice_used.wasted_characters) == (40, 20)
    assert (voice_used.speech_s, voice_used.wasted_speech_s) == (2.0, 1.0)


counts = st.integers(0, 1000)


@given(st.lists(st.tuples(counts, counts, st.booleans(), st.booleans()), max_size=20))
def test_waste_is_never_more_than_was_used(replies: list[tuple[int, int, bool, bool]]) -> None:
    call = Usage()
    for read, written, lost, thrown in replies:
        reply = Usage()
        with Request(reply.of("llm", "m"), 0) as asked:
            asked.is_wasted = lost
            asked.told(read, written)
        call.add(reply, is_wasted=thrown)
    for used in call.report():
        expected = sum(r + w for r, w, lost, thrown in replies if lost or thrown)
        assert used.wasted_tokens == expected
        assert used.wasted_tokens <= used.input_tokens + used.output_tokens


# --- in a call ----------------------------------------------------------------------------


def used_by(agent: Agent, script: list[Action]) -> dict[tuple[str, int], ProviderUsage]:
    record = simulate(make_call, agent, script).record
    return {(used.kind, used.member): used for used in record.usage}


def test_providers_that_stand_alone_are_counted_by_the_call() -> None:
    agent = scripted(welcome="")
    used = used_by(agent, [wait(500), *TWICE])
    ear, mind, voice = used["stt", 0], used["llm", 0], used["tts", 0]
    assert (ear.requests, ear.answered, ear.failures) == (1, 1, 0)
    spoken_s = 2 * len(VOICE) / 2 / 8000
    assert spoken_s < ear.audio_s < spoken_s + 2 * 1.5  # pre-roll and tail, no silence
    assert (mind.provider, mind.requests, mind.failures) == ("scripted-llm", 2, 0)
    assert mind.output_tokens == sum(len(answer.split()) for answer in ANSWERS)
    assert mind.estimated_tokens == mind.wasted_tokens == 0
    assert (voice.requests, voice.answered) == (2, 2)
    words = sum(len(answer.split()) for answer in ANSWERS)
    assert voice.speech_s == pytest.approx(words * 0.3, abs=0.01)
    assert voice.characters == sum(
        len(sentence) for answer in ANSWERS for sentence in answer.replace(". ", ".|").split("|")
    )


def test_a_cached_line_costs_nothing() -> None:
    agent = scripted()
    first = used_by(agent, [wait_for_agent_quiet(1000)])
    assert first["tts", 0].characters == len(WELCOME)
    assert not used_by(agent, [wait_for_agent_quiet(1000)]).get(("tts", 0))


def test_a_speculation_that_came_to_nothing_is_waste() -> None:
    agent = scripted(questions=("We come on Monday", "What time do you open then?"), welcome="")
    pause = [wait(500), say(VOICE), wait(450), say(VOICE), wait_for_agent_quiet(1000), hang_up()]
    mind = used_by(agent, pause)["llm", 0]
    assert mind.requests == 2
    assert 0 < mind.wasted_tokens < mind.input_tokens + mind.output_tokens
    assert mind.wasted_tokens == mind.estimated_tokens  # it was cut before it could tell


def test_the_member_that_answered_is_named() -> None:
    down = ProviderFault(kind="raise")
    agent = scripted(welcome="")
    always = {n: down for n in range(99)}
    agent = dataclasses.replace(
        agent,
        transcriber=FallbackTranscriber(
            [ScriptedTranscriber(QUESTIONS, 150, name="a", faults=always), agent.transcriber]
        ),
        responder=FallbackResponder(
            [ScriptedResponder(ANSWERS, name="b", faults=always), agent.responder]
        ),
        synthesizer=FallbackSynthesizer(
            [ScriptedSynthesizer(name="c", faults=always), agent.synthesizer]
        ),
    )
    used = used_by(agent, [wait(500), *TWICE])
    for kind, name in (("stt", "a"), ("llm", "b"), ("tts", "c")):
        first, second = used[kind, 0], used[kind, 1]
        assert (first.provider, first.answered, first.failovers) == (name, 0, 0)
        assert 0 < first.failures <= first.requests  # a guess dropped at once has not failed
        assert second.provider.startswith("scripted")
        assert second.answered == second.requests > 0
        assert second.failovers > 0


def test_a_breaker_belongs_to_one_service_at_one_address() -> None:
    breakers = Breakers(BreakerSettings(failures_max=1))
    specs = [
        {"provider": "openai_compatible", "model": "m", "base_url": f"http://{host}.test"}
        for host in ("one", "two")
    ]
    lists = [build_responder([spec], {}, breakers=breakers) for spec in (*specs, specs[0])]
    one, two, again = (each.breakers[0] for each in lists)  # type: ignore[attr-defined] # a list
    one.failed(0.0, ProviderError("openai_compatible", "down", retryable=True))
    assert not again.allows(1.0)  # another agent's list of the same service
    assert two.allows(1.0)


def test_what_a_node_s_calls_used_is_shown_to_prometheus() -> None:
    async def admit(request: UpgradeRequest) -> Rejection:
        return Rejection(status=404)

    node, registry = Node(admit), CollectorRegistry()
    registry.register(NodeCollector(node))
    call = Usage()
    call.of("stt", "deepgram", 1).audio_samples += 12_000
    for _ in range(2):
        node.used.add(call)
    labels = {"kind": "stt", "provider": "deepgram", "member": "1"}
    assert registry.get_sample_value("rtcore_provider_audio_seconds_total", labels) == 3.0
    assert registry.get_sample_value("rtcore_provider_failures_total", labels) == 0.0
    assert registry.get_sample_value("rtcore_provider_wasted_speech_seconds_total", labels) == 0.0
