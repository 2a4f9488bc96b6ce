"""The node's own certificate, for TLS inside the process; a renewed one is taken up by itself."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog
import trio

from rtcore.errors import ConfigError

__all__ = ["Certificate"]

log = structlog.get_logger()

LOOK_EVERY_S = 60.0


class Certificate:
    """A chain and its key, as PEM files; ``context`` is what connections are served with.

    Raises:
        ConfigError: a file cannot be read, or they do not belong together.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain, self._key = chain, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.set_alpn_protocols(["http/1.1"])  # a WebSocket begins as that
        try:
            self._seen = self._changed_ns()
            self.context.load_cert_chain(chain, key, password=_none)
        except (OSError, ssl.SSLError, ValueError) as exc:
            raise ConfigError("tls-cert, tls-key", _reason(exc)) from exc

    async def run(self, look_every_s: float = LOOK_EVERY_S) -> None:
        """Take up what the files are replaced with, until cancelled; calls go on unharmed.

        A pair that cannot be used is logged, and the one before it stays.
        """
        while True:
            await trio.sleep(look_every_s)
            try:
                if (changed := self._changed_ns()) == self._seen:
                    continue
                self._seen = changed
                # into a new one first: half a pair must not reach the one that serves
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                    self._chain, self._key, password=_none
                )
                self.context.load_cert_chain(self._chain, self._key, password=_none)
            except (OSError, ssl.SSLError, ValueError) as exc:
                log.error("certificate_not_renewed", reason=_reason(exc))
            else:
                log.info("certificate_renewed")

    def _changed_ns(self) -> tuple[int, int]:
        return self._chain.stat().st_mtime_ns, self._key.stat().st_mtime_ns


def _none() -> str:
    """Instead of asking for a passphrase at the terminal."""
    raise ValueError("the key is protected by a passphrase: a node has nobody to ask for it")


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return f"not a certificate and its key in PEM ({exc.reason or 'unreadable'})"
    if isinstance(exc, OSError):
        return f"{exc.filename or 'a file'} cannot be read: {exc.strerror}"
    return str(exc)
