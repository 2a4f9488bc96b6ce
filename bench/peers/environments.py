"""A virtual environment for each peer, made on demand and kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

import msgspec

__all__ = ["PEERS", "Peer", "Unavailable", "python_of"]

INSTALL_LIMIT_S = 900
HERE = Path(__file__).parent


class Unavailable(Exception):
    """This peer cannot be had here."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A server of this folder and what it needs."""

    name: str
    script: str
    packages: tuple[str, ...]
    environment: dict[str, str] = {}  # variables


PIPECAT = ("pipecat-ai[silero,websocket]==1.14.0", "uvloop", "uvicorn", "fastapi")
PEERS = (
    Peer(name="pipecat", script="pipecat_server.py", packages=PIPECAT),
    Peer(
        name="agent-transport, pipecat",
        script="transport_pipecat_server.py",
        packages=(*PIPECAT, "agent-transport==0.2.2"),
    ),
    Peer(
        name="agent-transport, livekit",
        script="transport_livekit_server.py",
        # its adapter fails on later releases of livekit-agents, and those on openai 3
        packages=(
            "agent-transport[livekit]==0.2.2",
            "livekit-agents==1.5.15",
            "livekit-plugins-silero==1.5.15",
            "openai<3",
            "httpx",
        ),
    ),
)


def python_of(peer: Peer) -> Path:
    """The interpreter of ``peer``'s environment, which is made first if it is not there.

    Raises:
        Unavailable: its packages cannot be had.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rtcore-bench"
    key = hashlib.sha256(repr((peer.packages, sys.version_info[:2])).encode()).hexdigest()[:12]
    folder = cache / f"{peer.script.removesuffix('_server.py')}-{key}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists():
        return python
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, *peer.packages],
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise Unavailable(f"not installed after {INSTALL_LIMIT_S} s") from exc
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line]
        raise Unavailable(lines[-1] if lines else f"pip ended with {done.returncode}")
    ready.touch()
    return python
