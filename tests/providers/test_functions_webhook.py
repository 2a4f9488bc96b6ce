"""A function behind a URL: signed, bounded, asked again only where that can help."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from rtcore.errors import ConfigError, ToolError
from rtcore.ports import ToolUse
from rtcore.providers import _http
from rtcore.providers._addresses import addresses, is_public
from rtcore.providers._settings import Secret
from rtcore.providers.functions import Webhook, WebhookSettings, checked_url
from rtcore.providers.functions.signing import signed, verify
from tests.fakes._faults import Fault
from tests.fakes._http import eventually
from tests.fakes.function import FakeFunction

NOW_S = 1_700_000_000
SECRET = Secret("hook", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
USE = ToolUse(arguments={"n": 1}, key="call-1-1-1-0", call_id="call-1")


async def ask(
    server: FakeFunction, *, secret: Secret | None = None, limit_s: float = 5.0, asks: int = 1
) -> str:
    """Ask ``server`` and return its last answer."""
    async with trio.open_nursery() as nursery:
        url = await nursery.start(server.serve)
        settings = WebhookSettings(url=f"{url}/book", limit_s=limit_s, allow_private=True)
        async with Webhook("book", settings, secret, now=lambda: NOW_S) as hook:
            for _ in range(asks):
                answer = await hook.run(USE)
        nursery.cancel_scope.cancel()
    return answer


async def refusal(server: FakeFunction, **settings: Any) -> str:
    """What the model is told when ``server`` cannot be used."""
    with pytest.RaisesGroup(pytest.RaisesExc(ToolError), flatten_subgroups=True) as caught:
        await ask(server, **settings)
    return str(caught.value.exceptions[0])


# --- what is sent -------------------------------------------------------------------------


async def test_arguments_are_posted_and_the_answer_returned() -> None:
    server = FakeFunction()
    assert await ask(server, asks=2) == '{"ok": true}'
    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/book")
    assert request.json() == {"function": "book", "arguments": {"n": 1}, "call_id": "call-1"}
    assert request.headers["idempotency-key"] == USE.key
    assert request.headers["content-type"] == "application/json"
    assert server.connections == 1  # kept between calls
    assert server.open_connections == 0


async def test_the_signature_is_that_of_the_octets_sent() -> None:
    server = FakeFunction()
    await ask(server, secret=SECRET)
    request = server.requests[0]
    key = SECRET.reveal()
    assert verify(request.headers, request.body, key, NOW_S + 299)
    assert not verify(request.headers, request.body, key, NOW_S + 301)
    assert not verify(request.headers, request.body + b" ", key, NOW_S)
    assert not verify(request.headers, request.body, "another secret", NOW_S)
    assert not verify({}, request.body, key, NOW_S)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The vector was made by the specification's own library, standardwebhooks 1.1.0."""
    headers = signed("msg_1", b'{"test": 1}', SECRET.reveal(), NOW_S)
    assert headers["webhook-signature"] == "v1,pz23racjDQSveLk0HSgyenZkxT20jU0lZrUvWbnRvvY="


# --- what comes back ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "told"),
    [
        (FakeFunction(b"<html>", "text/html; charset=utf-8"), "answered with text/html, not JSON"),
        (FakeFunction(b"x" * 70_000), "an answer longer than 65536 octets"),
        (FakeFunction(b"\xff", "text/plain"), "not UTF-8"),
        (FakeFunction(b"x", content_encoding="gzip"), "compressed"),
    ],
    ids=lambda each: each.kind if isinstance(each, FakeFunction) else "",
)
async def test_an_answer_that_cannot_be_used_is_told(server: FakeFunction, told: str) -> None:
    assert told in await refusal(server)
    assert len(server.requests) == 1


async def test_an_empty_answer_is_done() -> None:
    assert await ask(FakeFunction(b"", "")) == "done"


async def test_redirects_are_not_followed() -> None:
    server = FakeFunction(location="http://169.254.169.254/")
    server.status = 302
    assert "redirects are not followed" in await refusal(server)
    assert len(server.requests) == 1


# --- asking again -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(status=429, retry_after="0")])
async def test_what_may_pass_is_asked_again_with_the_same_key(fault: Fault) -> None:
    server = FakeFunction()
    server.faults.add(fault)
    assert await ask(server, secret=SECRET) == '{"ok": true}'
    assert [request.headers["idempotency-key"] for request in server.requests] == [USE.key] * 2


async def test_what_will_not_pass_is_not_asked_again() -> None:
    server = FakeFunction()
    server.faults.add(Fault(status=404, error_body=b'{"detail": "no such table"}'))
    assert "404: no such table" in await refusal(server)
    assert len(server.requests) == 1


async def test_it_is_asked_no_more_than_twice() -> None:
    server = FakeFunction()
    server.faults.add(*[Fault(status=503)] * 3)
    assert "503" in await refusal(server)
    assert len(server.requests) == 2


async def test_the_limit_is_that_of_all_attempts() -> None:
    server = FakeFunction()
    server.faults.add(Fault(status=503), Fault(first_delay_s=30))
    assert "no answer within 0.4 s" in await refusal(server, limit_s=0.4)


async def test_a_host_that_is_not_there_is_told() -> None:
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        settings = WebhookSettings(url=f"http://127.0.0.1:{port}/", allow_private=True)
        async with Webhook("book", settings) as hook:
            with pytest.raises(ToolError, match="the function failed"):
                await hook.run(USE)


async def test_cancelled_the_request_is_closed() -> None:
    server = FakeFunction()
    server.faults.add(Fault(first_delay_s=30))
    async with trio.open_nursery() as nursery:
        url = await nursery.start(server.serve)
        settings = WebhookSettings(url=url, allow_private=True)
        async with Webhook("book", settings) as hook:
            with trio.move_on_after(0.1):
                await hook.run(USE)
            await eventually(lambda: server.open_connections == 0)
        nursery.cancel_scope.cancel()


# --- where it may be ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://example.com/", "must begin with https"),
        ("ftp://example.com/", "must begin with https"),
        ("https://user:pw@example.com/", "user or password"),
        ("https:///x", "names no host"),
        ("https://[::1/", "is no URL"),
        ("https://127.0.0.1/", "private address"),
        ("https://[::ffff:10.0.0.1]/", "private address"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_by_name(url: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        Webhook("book", WebhookSettings(url=url))
    assert caught.value.field == "functions.book.url"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/a/b?c=d",
        "https://hooks.example.co.uk./",
        "https://8.8.8.8/",
        "https://xn--bcher-kva.example/",
        "https://bücher.example/",
        "https://[2606:4700::1111]/",
    ],
)
def test_public_urls_may_be_called(url: str) -> None:
    assert checked_url(url, "url", allow_private=False) == url


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "https://localhost", "https://LOCALHOST.", "https://db.internal/",
        "https://printer.local", "https://intranet/", "https://127.1", "https://0x7f000001",
        "https://0177.0.0.1", "https://2130706433", "https://10.1.2.3", "https://192.168.0.1",
        "https://169.254.169.254/latest/meta-data", "https://100.64.0.1", "https://0.0.0.0",
        "https://224.0.0.1", "https://[::1]", "https://[fe80::1]", "https://[fc00::1]",
        "https://[64:ff9b::7f00:1]", "https://[2002:7f00:1::]", "https://user@example.com",
        "https://example.com\\@127.0.0.1", "https://exa mple.com", "https://example.com:0",
        "https://example.com:99999", "https://example.com:x", "https://example.com/\r\nHost: x",
    ],
)  # fmt: skip
def test_urls_that_do_not_lead_to_the_public_internet_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^url: "):
        checked_url(url, "url", allow_private=False)


def test_private_urls_may_be_allowed() -> None:
    for url in ("http://127.0.0.1:9000/x", "http://intranet/", "https://db.internal"):
        assert checked_url(url, "url", allow_private=True) == url
    with pytest.raises(ConfigError):
        checked_url("file:///etc/passwd", "url", allow_private=True)


@given(st.ip_addresses())
def test_every_address_is_judged(address: IPv4Address | IPv6Address) -> None:
    assert is_public(address) in (True, False)


@pytest.mark.parametrize("secret", ["whsec_!", "whsec_"])
def test_a_secret_that_cannot_be_used_is_refused_by_name(secret: str) -> None:
    with pytest.raises(ConfigError, match="hook"):
        Webhook("book", WebhookSettings(url="https://example.com"), Secret("hook", secret))


class Resolver(trio.abc.HostnameResolver):
    """Answers each question with the next of ``answers``, the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    async def getaddrinfo(self, host: Any, port: Any, *_: Any) -> Any:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(0, 0, 0, "", (address, port)) for address in found]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1",
        "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1",
    ],
)  # fmt: skip
async def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver([address]))
    with pytest.raises(OSError, match="private address"):
        await addresses("rebound.example", 443, allow_private=False)
    assert await addresses("rebound.example", 443, allow_private=True) == [address]


async def test_of_mixed_addresses_the_public_ones_are_left() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(["10.0.0.1", "8.8.8.8", "2001:4860::1"]))
    found = await addresses("mixed.example", 443, allow_private=False)
    assert found == ["8.8.8.8", "2001:4860::1"]


async def test_a_name_is_checked_at_each_call() -> None:
    """Public when it was configured, private when it is called."""
    trio.socket.set_custom_hostname_resolver(Resolver(["127.0.0.1"]))
    async with Webhook("book", WebhookSettings(url="https://rebound.example/")) as hook:
        with pytest.raises(ToolError, match="private address"):
            await hook.run(USE)


async def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The certificate is still that of the name, and the second answer is never asked for."""
    authority = trustme.CA()
    client, host = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(client)
    authority.issue_cert("hook.example").configure_cert(host)
    monkeypatch.setattr(_http, "tls_context", lambda: client)
    seen: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with trio.SSLStream(stream, host, server_side=True, https_compatible=True) as tls:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await tls.receive_some()
            seen.append(head)
            await tls.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        resolver = Resolver(["127.0.0.1"], ["192.0.2.1"])
        trio.socket.set_custom_hostname_resolver(resolver)
        settings = WebhookSettings(url=f"https://hook.example:{port}/", allow_private=True)
        async with Webhook("book", settings) as hook:
            assert await hook.run(USE) == "done"
        nursery.cancel_scope.cancel()
    assert f"host: hook.example:{port}".encode() in seen[0].lower()
    assert resolver.answers == [["192.0.2.1"]]
