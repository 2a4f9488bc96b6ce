"""One call's connection: WebSocket in, Plivo's messages out and in, and a network in between."""

from __future__ import annotations

import random
import socket
import ssl
from base64 import b64encode
from collections import deque
from os import urandom
from urllib.parse import urlsplit

import msgspec
from wsproto.utilities import generate_accept_token

from bench.load.caller import Caller
from rtcore.media._frames import TEXT, FrameCodec
from rtcore.testing.wire import Checkpoint, ClearAudio, PlayAudio, read

__all__ = ["Address", "Line", "Network"]

MESSAGE_MAX_BYTES = 1 << 20
READ_BYTES = 1 << 16
FRAME_MS = 20
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
REFUSED_MAX = 250  # frames in a row that the server does not take, 5 s: the call is lost


# whose certificate it is does not matter here: only what it costs to speak TLS
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS.check_hostname = False
_TLS.verify_mode = ssl.CERT_NONE


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What lies between caller and node, each way; order is kept, as TCP keeps it."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0  # drawn evenly from 0 to this, for each message

    @property
    def is_none(self) -> bool:
        return self.delay_ms == 0 and self.jitter_ms == 0


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where the calls go."""

    host: str
    port: int
    path: str
    is_tls: bool = False

    @classmethod
    def of(cls, url: str) -> Address:
        """Of ``ws://host:port/path`` or ``wss://…``; raises ValueError for any other."""
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"{url!r}: expected ws://host:port/path")
        is_tls = parts.scheme == "wss"
        query = f"?{parts.query}" if parts.query else ""
        return cls(
            host=parts.hostname,
            port=parts.port or (443 if is_tls else 80),
            path=(parts.path or "/") + query,
            is_tls=is_tls,
        )


class Line:
    """A call on a non-blocking socket; the engine says when to tick and when to read."""

    def __init__(self, caller: Caller, address: Address, network: Network, seed: int) -> None:
        """Connect and ask for a WebSocket; raises OSError if nobody is there."""
        self.caller = caller
        self.network = network
        self.is_open = False  # upgraded, and the server has not gone
        self.is_lost = False
        self.opened_s = 0.0  # when the call was begun
        self._dice = random.Random(f"{seed}/{caller.number}")
        self._codec = FrameCodec(is_client=True, max_message_bytes=MESSAGE_MAX_BYTES)
        self._head = b""
        self._rest = b""  # of a frame the kernel took in part
        self._refused = 0
        self._chunk = 0
        self._out: deque[tuple[float, bytes]] = deque()  # on the network, until when
        self._in: deque[tuple[float, bytes]] = deque()
        name = b"call-%d" % caller.number
        self._stream = b"%b-stream" % name
        self._prefix = (
            b'{"event":"media","sequenceNumber":%%d,"streamId":"%b","media":{"track":"inbound",'
            b'"timestamp":"%%d","chunk":%%d,"payload":"%%b"},"extra_headers":"{}"}'
        ) % self._stream
        self._start = (
            b'{"event":"start","sequenceNumber":0,"start":{"callId":"%b","streamId":"%b",'
            b'"accountId":"MABENCH0000000000000","tracks":["inbound"],"mediaFormat":'
            b'{"encoding":"audio/x-mulaw","sampleRate":8000}},"extra_headers":"{}"}'
        ) % (name, self._stream)
        self._key = b64encode(urandom(16))
        self.sock = socket.create_connection((address.host, address.port), timeout=5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.is_tls:
            self.sock = _TLS.wrap_socket(self.sock, server_hostname=address.host)
        request = (
            f"GET {address.path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {self._key.decode()}\r\n\r\n"
        )
        self.sock.sendall(request.encode())
        self.sock.setblocking(False)

    # --- the caller's side --------------------------------------------------------------

    def tick(self, due_s: float, now_s: float) -> None:
        """Send the 20 ms that end at ``due_s``."""
        if not self.is_open:
            return
        caller = self.caller
        while (name := caller.ear.played(now_s)) is not None:
            self._send(
                b'{"event":"playedStream","streamId":"%b","name":"%b"}'
                % (self._stream, name.encode()),
                now_s,
            )
        payload = caller.next_frame(due_s)
        self._chunk += 1
        caller.counts.frames += 1
        chunk = self._chunk
        self._send(self._prefix % (chunk, chunk * FRAME_MS, chunk, payload), now_s)

    def _send(self, message: bytes, now_s: float) -> None:
        frame = self._codec.encode(TEXT, message)
        if self.network.is_none:
            self._write(frame)
        else:
            self._out.append((self._arrives(now_s, self._out), frame))

    def _arrives(self, now_s: float, queue: deque[tuple[float, bytes]]) -> float:
        jitter_ms = self._dice.random() * self.network.jitter_ms
        at_s = now_s + (self.network.delay_ms + jitter_ms) / 1000
        return max(at_s, queue[-1][0]) if queue else at_s

    def _write(self, frame: bytes) -> None:
        if self._rest:
            self.caller.counts.refused_frames += 1
            self._refused += 1
            if self._refused > REFUSED_MAX:
                self._lose()
                return
            frame, self._rest = self._rest, b""  # what was begun must be finished
        try:
            sent = self.sock.send(frame)
        except WOULD_BLOCK:
            sent = 0
        except OSError:
            self._lose()
            return
        if sent < len(frame):
            self._rest = frame[sent:]
        else:
            self._refused = 0

    # --- the server's side --------------------------------------------------------------

    def read(self, now_s: float) -> None:
        """Take in what has come."""
        try:
            data = self.sock.recv(READ_BYTES)
        except WOULD_BLOCK:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        if not self.is_open:
            data = self._upgrade(data, now_s)
            if not data:
                return
        for message in self._codec.feed(data):
            if self.network.is_none:
                self._obey(message, now_s)
            else:
                self._in.append((self._arrives(now_s, self._in), message))
        for reply in self._codec.take_replies():
            self._write(reply)
        if self._codec.close_code:
            self._lose()

    def pass_on(self, now_s: float) -> None:
        """Let the network deliver what is due by now."""
        while self._out and self._out[0][0] <= now_s:
            self._write(self._out.popleft()[1])
        while self._in and self._in[0][0] <= now_s:
            due_s, message = self._in.popleft()
            self._obey(message, due_s)

    def _upgrade(self, data: bytes, now_s: float) -> bytes:
        """Read the answer to our request; return what came behind it."""
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return b""
        if b" 101 " not in head[:16] or generate_accept_token(self._key) not in head:
            self._lose()
            return b""
        self.is_open, self.opened_s = True, now_s
        self._write(self._codec.encode(TEXT, self._start))
        return rest

    def _obey(self, message: bytes, now_s: float) -> None:
        try:
            command = read(message)
        except msgspec.DecodeError:
            return  # what no carrier knows it ignores
        caller = self.caller
        if isinstance(command, PlayAudio):
            caller.on_audio(command.media.payload, now_s)
        elif isinstance(command, Checkpoint):
            caller.ear.checkpoint(command.name, now_s)
        elif isinstance(command, ClearAudio):
            caller.on_clear(now_s)
            self._send(
                b'{"event":"clearedAudio","streamId":"%b"}' % self._stream,
                now_s,
            )

    # --- the end ------------------------------------------------------------------------

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost, self.is_open = True, False
            self.caller.counts.lost_calls += 1

    def close(self) -> None:
        """Hang up: a close frame if it can be written, then nothing more."""
        if self.is_open and not self._rest:
            self._write(self._codec.encode_close(1000))
        self.is_open = False
        self.sock.close()
