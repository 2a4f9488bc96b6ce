"""TLS inside the process: a certificate that serves, is renewed, or cannot be used."""

from __future__ import annotations

import os
import ssl
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from rtcore import cli
from rtcore.admission import MediaGate
from rtcore.commands.serve import ServeOptions, serve
from rtcore.errors import ConfigError
from rtcore.node import Node, NodeConfig, open_listeners
from rtcore.tls import Certificate
from tests.test_node import agent

REQUEST = (
    b"GET /plivo/media/x HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Files:
    """A certificate's files, as an operator has them."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self._writes = 0
        self.issue()

    def issue(self) -> None:
        issued = self.authority.issue_cert("node")
        self.chain.write_bytes(issued.cert_chain_pems[0].bytes())
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.touch()

    def touch(self) -> None:
        """Two writes within one tick of the file system's clock are two all the same."""
        self._writes += 1
        os.utime(self.chain, ns=(self._writes, self._writes))

    async def ask(self, port: int) -> tuple[bytes, str]:
        """The answer to a request, and the serial number of the certificate it came under."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        plain = await trio.open_tcp_stream("127.0.0.1", port)
        async with trio.SSLStream(plain, context, server_hostname="node") as stream:
            await stream.send_all(REQUEST)
            answer = bytes(await stream.receive_some())
            return answer, str(stream.getpeercert()["serialNumber"])


async def test_calls_come_through_tls_and_a_renewed_certificate_serves_the_next(
    tmp_path: Path,
) -> None:
    files = Files(tmp_path)
    certificate = Certificate(files.chain, files.key)
    listeners = open_listeners("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    node = Node(MediaGate({}, default=agent()).admit, NodeConfig(socket="portable"))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(certificate.run, 0.01)
            await nursery.start(partial(node.serve, listeners, tls=certificate.context))
            answer, first = await files.ask(port)
            assert answer.startswith(b"HTTP/1.1 101")
            async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
                await plain.send_all(REQUEST)  # somebody who does not know
                assert not bytes(await plain.receive_some()).startswith(b"HTTP")
            files.key.write_bytes(b"nothing that is a key")
            files.touch()
            await trio.sleep(0.05)
            assert (await files.ask(port))[1] == first
            files.issue()
            while (await files.ask(port))[1] == first:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


def test_files_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with pytest.raises(ConfigError, match="PEM"):
        Certificate(files.chain, files.chain)
    with pytest.raises(ConfigError, match="cannot be read"):
        Certificate(files.chain, tmp_path / "gone.pem")


async def test_the_fast_socket_has_no_tls(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with pytest.raises(ConfigError, match="--socket portable"):
        await serve(ServeOptions(port=0, tls=(files.chain, files.key)))
    node = Node(MediaGate({}, default=agent()).admit)
    with pytest.raises(ConfigError, match="portable"):
        await node.serve([], tls=ssl.create_default_context())


@pytest.mark.parametrize(
    ("chain", "key", "database", "message"),
    [
        (Path("c"), None, None, "tls-key: is missing"),
        (None, Path("k"), None, "tls-cert: is missing"),
        (Path("c"), Path("k"), "sqlite:///x.db", "put TLS in front"),
    ],
)
def test_half_of_it_is_refused(
    chain: Path | None, key: Path | None, database: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        cli._tls(chain, key, database)


def test_without_the_options_there_is_no_tls() -> None:
    assert cli._tls(None, None, "sqlite:///x.db") is None
