"""Deepgram ``v1/listen`` as documented: interim and final results, Finalize, keep-alive expiry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import trio

from rtcore.audio import RATE_HZ
from tests.fakes._ears import Ears, HeardWord
from tests.fakes._ws import FakeSocketServer, Session

INTERIM_EVERY = 4  # messages of audio


class FakeDeepgramListen(FakeSocketServer):
    """Hears the language of the fakes; ``idle_limit_s`` is ten seconds at the real one."""

    hears_alone: ClassVar[bool] = True

    def __init__(self, *, final_delay_s: float = 0.0, idle_limit_s: float = 10.0) -> None:
        super().__init__()
        self.final_delay_s = final_delay_s
        self.idle_limit_s = idle_limit_s
        self.new_ears: Callable[[], Ears] = Ears

    async def settle(self, ears: Ears) -> None:
        """Take the time that final words take."""
        await trio.sleep(self.final_delay_s)

    async def session(self, session: Session) -> None:
        if session.path != "/v1/listen" or session.param("encoding") != "mulaw":
            await session.socket.aclose(1008, "DATA-0000")
            return
        ears = self.new_ears()
        segment_words: list[HeardWord] = []
        while True:
            with trio.move_on_after(self.idle_limit_s) as idle:
                message = await self.hear(session)
            if idle.cancelled_caught:
                await session.socket.aclose(1011, "NET-0001")
                return
            if isinstance(message, bytes):
                ears.feed(message)
                segment_words += ears.words
                ears.words.clear()
                if _ended(session, ears) and segment_words:
                    await self._results(session, ears, segment_words, speech_final=True)
                elif len(session.binary_sizes) % INTERIM_EVERY == 0:
                    await self._results(session, ears, segment_words, is_final=False)
            elif message["type"] in ("Finalize", "CloseStream"):
                await self.settle(ears)
                segment_words += ears.take()
                await self._results(session, ears, segment_words, from_finalize=True)
                if message["type"] == "CloseStream":
                    metadata = {"type": "Metadata", "request_id": "r1", "channels": 1}
                    await self.say(session, metadata | {"duration": ears.samples / RATE_HZ})
                    await session.socket.aclose(1000)
                    return

    async def _results(
        self,
        session: Session,
        ears: Ears,
        words: list[HeardWord],
        *,
        is_final: bool = True,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> None:
        text = " ".join(word.text for word in words)
        listed = [
            {
                "word": word.text.lower(),
                "start": word.start_s,
                "end": word.end_s,
                "confidence": 0.98,
                "punctuated_word": word.text,
            }
            for word in words
        ]
        message: dict[str, Any] = {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": 1.0,
            "start": words[0].start_s if words else ears.samples / RATE_HZ,
            "is_final": is_final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {
                "alternatives": [{"transcript": text, "confidence": 0.98, "words": listed}]
            },
            "metadata": {"request_id": "r1", "model_info": {"name": "nova-3"}, "model_uuid": "u"},
        }
        if is_final:
            words.clear()
        await self.say(session, message)


def _ended(session: Session, ears: Ears) -> bool:
    """Whether the service would end an utterance here by itself."""
    endpointing = session.param("endpointing") or "10"
    return endpointing != "false" and ears.silent_samples >= int(endpointing) * RATE_HZ // 1000
