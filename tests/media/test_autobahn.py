"""Autobahn's fuzzing client (package ``autobahntestsuite``, 25.10.1) against both fillings.

It needs Python 2.7, so it runs where ``RTCORE_WSTEST`` names its command and is skipped
elsewhere; its sections are held sans-I/O, everywhere, by test_frames.py::

    python2.7 -m pip install --target /opt/wstest autobahntestsuite
    touch /opt/wstest/zope/__init__.py  # a namespace package, which --target breaks
    RTCORE_WSTEST="env PYTHONPATH=/opt/wstest python2.7 -m autobahntestsuite.wstest" \\
        python -m pytest tests/media/test_autobahn.py

Sections 12 and 13 are left out: compression is not offered. Cases that expect a binary echo run
apart, on the fast filling made to send binary, since a media socket sends text. All 301 pass;
NON-STRICT are 8 (fast) and 10 (portable) of 266: a message sent in one segment with the fault
that follows it is handed up, but no longer echoed.
"""

from __future__ import annotations

import json
import os
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from rtcore.errors import RemoteProtocolError, SocketClosed
from rtcore.media import fast, portable
from rtcore.media._frames import BINARY
from rtcore.media.handshake import UpgradeRequest
from rtcore.media.limits import SocketLimits

WSTEST = os.environ.get("RTCORE_WSTEST", "")
pytestmark = pytest.mark.skipif(not WSTEST, reason="RTCORE_WSTEST names no wstest command")

# section 9 echoes messages of 16 MiB
LIMITS = SocketLimits(message_max_bytes=2**26, outbox_max_bytes=2**28, receive_max_bytes=2**16)
BINARY_ECHO = ["1.2.*", "9.2.*", "9.4.*", "9.6.*", "9.8.*"]
COMPRESSION = ["12.*", "13.*"]
RUN_LIMIT_S = 300


async def let_in(request: UpgradeRequest) -> None:
    return None


async def echo(accept: Any, stream: trio.SocketStream) -> None:
    async with trio.open_nursery() as nursery:
        sock = await accept(stream, let_in, LIMITS, nursery)
        if sock is None:
            return
        try:
            while True:
                for message in await sock.receive():
                    sock.send(message)
        except (SocketClosed, RemoteProtocolError):
            pass
        finally:
            await sock.aclose()


@pytest.mark.parametrize(
    ("accept", "cases", "excluded"),
    [
        (fast.accept, ["*"], BINARY_ECHO + COMPRESSION),
        (fast.accept, BINARY_ECHO, []),
        (portable.accept, ["*"], BINARY_ECHO + COMPRESSION),
    ],
    ids=["fast", "fast-binary", "portable"],
)
async def test_autobahn_finds_no_fault(
    accept: Any,
    cases: list[str],
    excluded: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nursery: trio.Nursery,
) -> None:
    if cases is BINARY_ECHO:
        monkeypatch.setattr(fast, "TEXT", BINARY)
    serve = partial(trio.serve_tcp, partial(echo, accept), 0, host="127.0.0.1")
    [listener] = await nursery.start(serve)
    port = listener.socket.getsockname()[1]
    spec = {
        "outdir": str(tmp_path),
        "servers": [{"agent": "rtcore", "url": f"ws://127.0.0.1:{port}"}],
        "cases": cases,
        "exclude-cases": excluded,
        "exclude-agent-cases": {},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [*shlex.split(WSTEST), "-m", "fuzzingclient", "-s", str(tmp_path / "spec.json")]
    with trio.fail_after(RUN_LIMIT_S):
        await trio.run_process(command, capture_stdout=True, capture_stderr=True)
    results = json.loads((tmp_path / "index.json").read_text())["rtcore"]
    assert len(results) >= 35
    passed = {"OK", "NON-STRICT", "INFORMATIONAL"}
    assert not {
        case: (result["behavior"], result["behaviorClose"])
        for case, result in results.items()
        if not {result["behavior"], result["behaviorClose"]} <= passed
    }
