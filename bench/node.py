"""A node with scripted providers: what load generators are pointed at.

``python -m bench.node --port P`` accepts any WebSocket path on 127.0.0.1, without a token. Its
providers take exactly the times they are told (STT final after speech end, LLM first token,
TTS first byte), so what a measured response holds beyond them is turn-taking and the node.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import structlog
import trio
import typer

from bench.delays import PUBLISHED, DrawnResponder, DrawnSynthesizer, DrawnTranscriber
from bench.probe import Probe
from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.call import Call
from rtcore.config import CallConfig
from rtcore.heap import keep_heap
from rtcore.media.handshake import Rejection, UpgradeRequest
from rtcore.media.in_wait import BeatingClock
from rtcore.node import Admission, Node, NodeConfig, open_listeners
from rtcore.providers._registry import (
    build_responder,
    build_synthesizer,
    build_transcriber,
    serve_providers,
    warm_providers,
)
from rtcore.recording import Recordings, file_name
from rtcore.testing import ScriptedResponder, ScriptedSynthesizer, ScriptedTranscriber
from rtcore.tls import Certificate
from rtcore.turn import TurnConfig
from rtcore.turn.silero import find_model

HEARD = "What time do you open tomorrow?"  # reads as complete
PARTIAL_MS = 500  # of audio for each word of a partial: with the pre-roll, the first comes some
# 200 ms after a voice began, as recognisers that stream give it
ANSWER = "I have looked that up for you and it is all in order now."


def scripted_agent(
    stt_ms: float, llm_ms: float, tts_ms: float, reply_ms: float, partial_ms: float = PARTIAL_MS
) -> Agent:
    """An agent that understands ``HEARD`` and says ``ANSWER`` over ``reply_ms``, always."""
    return Agent(
        AgentDefinition(name="bench"),
        transcriber=ScriptedTranscriber([HEARD], stt_ms, partial_ms=partial_ms or None),
        responder=ScriptedResponder([ANSWER], llm_ms),
        synthesizer=ScriptedSynthesizer(tts_ms, reply_ms / len(ANSWER.split())),
    )


def drawn_agent(seed: int, reply_ms: float) -> Agent:
    """The same agent, whose providers take as long as published ones do."""
    agent = scripted_agent(0, 0, 0, reply_ms)
    return Agent(
        agent.definition,
        transcriber=DrawnTranscriber(agent.transcriber, PUBLISHED["stt"], seed),
        responder=DrawnResponder(agent.responder, PUBLISHED["llm"], seed),
        synthesizer=DrawnSynthesizer(agent.synthesizer, PUBLISHED["tts"], seed),
    )


def live_agent(specs: Path) -> Agent:
    """An agent of real services: ``specs`` is JSON, one provider's spec for each of three kinds.

    Raises:
        ConfigError: an unknown provider or option, or a key that the environment has not.
    """
    chosen = msgspec.json.decode(specs.read_bytes(), type=dict[str, dict[str, Any]])
    return Agent(
        AgentDefinition(name="bench"),
        transcriber=build_transcriber([chosen["transcriber"]], os.environ),
        responder=build_responder([chosen["responder"]], os.environ),
        synthesizer=build_synthesizer([chosen["synthesizer"]], os.environ),
    )


def call_config(commit_ms: int | None, *, speculates: bool = True) -> CallConfig:
    """Turn-taking at its defaults; or every turn ended after ``commit_ms``, none speculated."""
    if commit_ms is None:
        return CallConfig(speculate=speculates)
    turn = TurnConfig(
        stop_ms=min(commit_ms, TurnConfig().stop_ms),
        eager_ms=commit_ms,
        complete_ms=commit_ms,
        unsure_ms=commit_ms,
        unfinished_ms=commit_ms,
    )
    return CallConfig(turn=turn, speculate=False)


async def serve(
    agent: Agent,
    config: NodeConfig,
    port: int,
    probe: Probe,
    recordings: Recordings | None = None,
    certificate: Certificate | None = None,
) -> None:
    async def admit(request: UpgradeRequest) -> Admission | Rejection:
        return Admission(agent=agent)

    def on_start(call: Call) -> None:
        if recordings is not None:
            call.recorder = recordings.begin(file_name(call.context.call_id))

    node = Node(admit, config, on_start=on_start, on_record=probe.on_record)
    tls = certificate.context if certificate is not None else None
    with trio.open_signal_receiver(2, 15) as signals:
        providers = (agent.transcriber, agent.responder, agent.synthesizer)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_providers, providers)
            await warm_providers(providers)
            if recordings is not None:
                nursery.start_soon(recordings.run)
            await nursery.start(partial(node.serve, open_listeners("127.0.0.1", port), tls=tls))
            nursery.start_soon(probe.run, node, recordings)
            nursery.start_soon(keep_heap, lambda: not node.calls)
            typer.echo(f"listening on {'ws' if tls is None else 'wss'}://127.0.0.1:{port}/")
            async for _ in signals:
                nursery.cancel_scope.cancel(reason="signal")
                break


def main(
    port: Annotated[int, typer.Option(min=1, max=65535)],
    stt_ms: Annotated[float, typer.Option(min=0)] = 0,
    llm_ms: Annotated[float, typer.Option(min=0)] = 0,
    tts_ms: Annotated[float, typer.Option(min=0)] = 0,
    reply_ms: Annotated[float, typer.Option(min=100)] = 3000,
    partial_ms: Annotated[
        float, typer.Option(min=0, help="of speech for each word of a partial; 0: no partials")
    ] = PARTIAL_MS,
    commit_ms: Annotated[int | None, typer.Option(min=100, max=5000)] = None,
    no_speculation: Annotated[bool, typer.Option(help="no answer before its turn is over")] = False,
    socket: Annotated[str, typer.Option(help="fast or portable")] = "fast",
    voice: Annotated[str, typer.Option(help="webrtc or silero")] = "webrtc",
    recordings: Annotated[Path | None, typer.Option(help="a folder: record each call")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="speak TLS: PEM; portable only")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="its key, PEM")] = None,
    pump: Annotated[bool, typer.Option(help="the media clock reads all fast sockets")] = True,
    in_wait: Annotated[bool, typer.Option(help="the media clock beats in Trio's wait")] = True,
    drawn_seed: Annotated[
        int | None, typer.Option(help="draw provider times from published percentiles")
    ] = None,
    live: Annotated[Path | None, typer.Option(help="JSON: real providers, keys from env")] = None,
    records: Annotated[Path | None, typer.Option(help="JSON lines, one a call")] = None,
    stats: Annotated[Path | None, typer.Option(help="JSON lines, ten a second")] = None,
    stages: Annotated[bool, typer.Option(help="sample CPU by stage into --stats")] = False,
) -> None:
    """Serve calls with scripted providers on 127.0.0.1."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    if voice == "silero":
        find_model()  # a node goes on with the default instead: here that would be a wrong number
    config = NodeConfig(
        socket=msgspec.convert(socket, Literal["fast", "portable"]),
        voice=msgspec.convert(voice, Literal["webrtc", "silero"]),
        is_pumped=pump,
        call=call_config(commit_ms, speculates=not no_speculation),
        calls_max=10_000,
        calls_per_source_max=10_000,
        lag_max_ms=10_000,  # the load decides how many, not the door
        one_stream_per_call=False,  # generators send the same call id again and again
    )
    if live is not None:
        agent = live_agent(live)
    elif drawn_seed is None:
        agent = scripted_agent(stt_ms, llm_ms, tts_ms, reply_ms, partial_ms)
    else:
        agent = drawn_agent(drawn_seed, reply_ms)
    probe = Probe(records, stats, samples_stages=stages)
    kept = Recordings(recordings) if recordings is not None else None
    certificate = Certificate(tls_cert, tls_key) if tls_cert and tls_key else None
    clock = BeatingClock() if in_wait and not stages else None  # stages are of Python: none there
    trio.run(serve, agent, config, port, probe, kept, certificate, clock=clock)


if __name__ == "__main__":
    typer.run(main)
