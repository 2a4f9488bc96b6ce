"""``/audio/speech`` as OpenAI documents it: JSON in, raw int16 pcm at 24 kHz out."""

from __future__ import annotations

from tests.fakes import _voice
from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, HttpRequest, Reply

INPUT_MAX_CHARS = 4096


class FakeOpenAISpeech(FakeHttpServer):
    """Streams in pieces of an odd number of octets, as networks cut them."""

    def __init__(self, *, rate_hz: int = 24_000) -> None:
        super().__init__()
        self.rate_hz = rate_hz

    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        body = request.json()
        if body.get("response_format") != "pcm" or len(body["input"]) > INPUT_MAX_CHARS:
            await reply.whole(400, b'{"error":{"message":"bad request"}}', "application/json")
            return
        pcm = _voice.pcm_of(body["input"], self.rate_hz)
        pieces = [pcm[at : at + 4001] for at in range(0, len(pcm), 4001)]
        await self.play(
            reply, pieces, fault, error=b"", unknown=b"", content_type="audio/pcm", malformed=b""
        )
