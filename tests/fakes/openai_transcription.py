"""``/audio/transcriptions`` as OpenAI documents it: multipart in, JSON or events out."""

from __future__ import annotations

import email.parser
import io
import wave

import msgspec

from rtcore.audio import RATE_HZ, pcm_to_mulaw
from tests.fakes._ears import Ears
from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, HttpRequest, Reply, sse


class FakeOpenAITranscription(FakeHttpServer):
    """Hears the language of the fakes; ``streams`` false ignores ``stream`` as whisper-1 does."""

    def __init__(self, *, streams: bool = True) -> None:
        super().__init__()
        self.streams = streams
        self.forms: list[dict[str, str]] = []
        self.samples = 0  # of all files

    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        fields = _fields(request)
        self.forms.append(
            {name: value.decode() for name, value in fields.items() if name != "file"}
        )
        words, samples = _words(fields["file"])
        self.samples += samples
        if not (self.streams and fields.get("stream") == b"true"):
            body = msgspec.json.encode({"text": " ".join(words)})
            await self.play(
                reply, [body], fault, error=b"{", unknown=b" ", content_type="application/json"
            )
            return
        deltas = [f" {word}" if position else word for position, word in enumerate(words)]
        events = [sse({"type": "transcript.text.delta", "delta": delta}) for delta in deltas]
        usage = {"type": "tokens", "input_tokens": 10, "output_tokens": len(words)}
        done = {"type": "transcript.text.done", "text": " ".join(words), "usage": usage}
        await self.play(
            reply,
            [*events, sse(done), sse(b"[DONE]")],
            fault,
            error=b"data: {\n\n",
            unknown=sse({"type": "transcript.novelty"}),
        )


def _fields(request: HttpRequest) -> dict[str, bytes]:
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser().parsebytes(head + request.body)
    fields: dict[str, bytes] = {}
    for part in message.walk():
        octets = part.get_payload(decode=True)
        if isinstance(octets, bytes):  # the whole has none of its own
            fields[str(part.get_param("name", header="content-disposition"))] = octets
    return fields


def _words(wav: bytes) -> tuple[list[str], int]:
    """What is said in a file, and its length."""
    with wave.open(io.BytesIO(wav), "rb") as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (
            RATE_HZ,
            1,
            2,
        )
        pcm = reader.readframes(reader.getnframes())
    ears = Ears()
    ears.feed(pcm_to_mulaw(pcm))
    return [word.text for word in ears.take()], ears.samples
