"""Peer: Plivo's agent-transport under LiveKit Agents, one process, sessions inside it.

Silero VAD of livekit-plugins-silero, endpointing by VAD with LiveKit's default delays (its turn
detector models are a separate download). The mock STT ends an utterance on 100 ms of quiet and
has its words ``STT_MS`` after that began; ``LLM_MS``, ``TTS_MS`` and ``REPLY_MS`` as for the other
peers.
"""

import asyncio
import math
import os
import struct
import sys

from agent_transport.audio_stream.livekit import AudioStreamServer, JobContext
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, Agent, AgentSession, llm, stt, tts
from livekit.plugins import silero

RATE_HZ = 8000
PIECE_BYTES = RATE_HZ // 10 * 2
STT_S, LLM_S, TTS_S, REPLY_S = (
    float(os.environ[name]) / 1000 for name in ("STT_MS", "LLM_MS", "TTS_MS", "REPLY_MS")
)
TONE = b"".join(
    struct.pack("<h", int(8000 * math.sin(math.tau * 440 * n / RATE_HZ)))
    for n in range(int(REPLY_S * RATE_HZ))
)
TEXT = "I have looked that up for you and it is all in order now ."
VOICE = 500  # of int16: any sample over it is the caller's voice
VOICED_S, QUIET_S = 0.2, 0.1


class HearStream(stt.RecognizeStream):
    async def _run(self):
        voiced, quiet = 0.0, 0.0
        async for frame in self._input_ch:
            if not hasattr(frame, "data"):
                continue  # a flush
            if max(frame.data) > VOICE:
                voiced, quiet = voiced + frame.duration, 0.0
                continue
            quiet += frame.duration
            if voiced > VOICED_S and quiet >= QUIET_S:
                voiced = 0.0
                asyncio.get_running_loop().call_later(max(0.0, STT_S - quiet), self._final)

    def _final(self):
        if not self._event_ch.closed:
            words = stt.SpeechData(language="en", text="What time do you open tomorrow?")
            self._event_ch.send_nowait(
                stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[words])
            )


class Hear(stt.STT):
    def __init__(self):
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))

    async def _recognize_impl(self, *args, **options):
        raise RuntimeError("this recogniser only streams")

    def stream(self, *, language=None, conn_options=None):
        return HearStream(stt=self, conn_options=DEFAULT_API_CONNECT_OPTIONS, sample_rate=None)


class ThinkStream(llm.LLMStream):
    async def _run(self):
        await asyncio.sleep(LLM_S)
        for word in TEXT.split():
            delta = llm.ChoiceDelta(role="assistant", content=word + " ")
            self._event_ch.send_nowait(llm.ChatChunk(id="mock", delta=delta))


class Think(llm.LLM):
    def chat(self, *, chat_ctx, tools=None, conn_options=None, **options):
        return ThinkStream(
            self, chat_ctx=chat_ctx, tools=tools or [], conn_options=DEFAULT_API_CONNECT_OPTIONS
        )


class SayStream(tts.ChunkedStream):
    async def _run(self, out):
        out.initialize(
            request_id="mock", sample_rate=RATE_HZ, num_channels=1, mime_type="audio/pcm"
        )
        await asyncio.sleep(TTS_S)
        for at in range(0, len(TONE), PIECE_BYTES):
            out.push(TONE[at : at + PIECE_BYTES])
        out.flush()


class Say(tts.TTS):
    def __init__(self):
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False),
            sample_rate=RATE_HZ,
            num_channels=1,
        )

    def synthesize(self, text, *, conn_options=None):
        return SayStream(tts=self, input_text=text, conn_options=DEFAULT_API_CONNECT_OPTIONS)


port = int(sys.argv[1])
server = AudioStreamServer(
    listen_addr=f"127.0.0.1:{port}",
    plivo_auth_id="",
    plivo_auth_token="",
    host="127.0.0.1",
    port=int(sys.argv[2]),
    sample_rate=RATE_HZ,
)


def prewarm(process):
    process.userdata["vad"] = silero.VAD.load()


server.setup_fnc = prewarm


@server.audio_stream_session()
async def entrypoint(ctx: JobContext):
    session = AgentSession(vad=ctx.proc.userdata["vad"], stt=Hear(), llm=Think(), tts=Say())
    ctx.session = session
    agent = Agent(instructions="You are a telephone assistant.")
    await session.start(agent=agent, room=ctx.room)


sys.argv = [sys.argv[0], "start"]
server.run()
