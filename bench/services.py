"""Services of the protocols of Deepgram and OpenAI that take exactly the times they are told.

``python -m bench.services --told F`` serves the fakes of the tests on loopback, so that a
node under measurement runs its real adapters. The recogniser hears any voice: every 180 ms of
it is the next word of ``HEARD``, known ``--stt-ms`` after it was spoken.
"""

from __future__ import annotations

import argparse
from collections import deque
from pathlib import Path

import msgspec
import trio

from rtcore.audio import FRAME_SAMPLES, RATE_HZ, frame_power, mulaw_to_pcm
from tests.fakes._ears import Ears, HeardWord
from tests.fakes._faults import Fault
from tests.fakes.deepgram_listen import FakeDeepgramListen
from tests.fakes.deepgram_speak import FakeDeepgramSpeak
from tests.fakes.openai_chat import Answer, FakeOpenAIChat

HEARD = ("What", "time", "do", "you", "open", "tomorrow?")
ANSWER = (
    "We open at nine, and the kitchen closes at ten in the evening. Shall I book a table for "
    "you, or would you rather hear what is on the menu today?"
)
WORD_FRAMES = 9  # 180 ms: six words fit the shortest question of bench.load
PAUSE_FRAMES = 5  # after the last word, so much silence and the next voice is a new question
VOICED_POWER = 300.0**2  # over the noise of an idle line, under any speech


class VoicedEars(Ears):
    """Counts voice as words; ``words`` holds those that have been thought about long enough."""

    def __init__(self, lag_s: float) -> None:
        super().__init__()
        self._lag_s = lag_s
        self._due: deque[tuple[float, HeardWord]] = deque()
        self._voiced = self._silent = self._count = 0

    @property
    def known_at_s(self) -> float:
        """When all that was heard so far is known."""
        return self._due[-1][0] if self._due else 0.0

    def feed(self, octets: bytes) -> None:
        for at in range(0, len(octets), FRAME_SAMPLES):
            frame = octets[at : at + FRAME_SAMPLES]
            self.samples += len(frame)
            if frame_power(mulaw_to_pcm(frame)) < VOICED_POWER:
                self._silent += 1
                continue
            if self._count == len(HEARD) and self._silent >= PAUSE_FRAMES:
                self._count = self._voiced = 0
            self._silent = 0
            self._voiced += 1
            if self._voiced >= WORD_FRAMES * (self._count + 1) and self._count < len(HEARD):
                start_s = self.samples / RATE_HZ
                word = HeardWord(HEARD[self._count], start_s, start_s + 0.02)
                self._due.append((trio.current_time() + self._lag_s, word))
                self._count += 1
        self._pass_on(trio.current_time())

    def take(self) -> list[HeardWord]:
        self._pass_on(self.known_at_s)
        words, self.words = self.words, []
        return words

    def _pass_on(self, now_s: float) -> None:
        while self._due and self._due[0][0] <= now_s:
            self.words.append(self._due.popleft()[1])


class Recogniser(FakeDeepgramListen):
    """Answers a Finalize as soon as it knows what was said before it."""

    async def settle(self, ears: Ears) -> None:
        assert isinstance(ears, VoicedEars)
        await trio.sleep_until(max(ears.known_at_s, trio.current_time()))


async def serve(stt_s: float, llm_s: float, token_s: float, tts_s: float, told: Path) -> None:
    """Serve until cancelled; ``told`` is written once all are up: a node's ``--live`` file."""
    ear, voice = Recogniser(), FakeDeepgramSpeak()
    ear.new_ears = lambda: VoicedEars(stt_s)
    voice.first_s = tts_s
    words = [word if not at else f" {word}" for at, word in enumerate(ANSWER.split())]
    mind = FakeOpenAIChat(Answer(words))
    # the first of its events has no text in it, and each waits for its gap
    mind.faults.usual = Fault(first_delay_s=max(0.0, llm_s - 2 * token_s), gap_s=token_s)
    async with trio.open_nursery() as nursery:
        specs = {
            "transcriber": {"provider": "deepgram", "base_url": await nursery.start(ear.serve)},
            "responder": {
                "provider": "openai_compatible",
                "model": "scripted",
                "base_url": await nursery.start(mind.serve),
            },
            "synthesizer": {"provider": "deepgram", "base_url": await nursery.start(voice.serve)},
        }
        await trio.Path(told).write_bytes(msgspec.json.encode(specs))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.services", description=__doc__)
    for name in ("stt", "llm", "token", "tts"):
        parser.add_argument(f"--{name}-ms", type=float, default=0.0)
    parser.add_argument("--told", type=Path, required=True, help="where to write what is served")
    given = parser.parse_args()
    times_ms = (given.stt_ms, given.llm_ms, given.token_ms, given.tts_ms)
    stt_s, llm_s, token_s, tts_s = (ms / 1000 for ms in times_ms)
    trio.run(serve, stt_s, llm_s, token_s, tts_s, given.told)


if __name__ == "__main__":
    main()
