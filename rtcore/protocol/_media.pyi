from typing import Final

from rtcore.protocol.events import Encoding, Media

NO_CHUNK: Final = -1

def decode_payload(payload: bytes, encoding: Encoding) -> bytes | None: ...
def read_media(message: bytes, encoding: Encoding) -> Media | None: ...
def write_audio(pcm: bytes, encoding: Encoding, head: bytes, tail: bytes) -> bytes: ...

class MediaReader:
    _plain_encoding: Encoding | None
    _malformed_in_a_row: int
    @property
    def chunk(self) -> int: ...
    def read_frame(self, message: bytes) -> bytes | None: ...

class MediaWriter(MediaReader):
    _play_head: bytes
    def write_piece(self, pcm: bytes) -> bytes | None: ...
