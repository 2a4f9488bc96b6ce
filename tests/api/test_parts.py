"""Parts that stand alone: addresses, rates, webhooks."""

from __future__ import annotations

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from api.addresses import UrlRefused, check_url, is_public
from api.web.limits import BUCKETS_MAX, RateLimiter
from api.webhooks import Webhooks
from rtcore.agent.tools import ToolError


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/a/b?c=d",
        "https://hooks.example.co.uk/",
        "https://8.8.8.8/",
        "https://xn--bcher-kva.example/",
        "https://[2606:4700::1111]/",
    ],
)
def test_public_urls_may_be_called(url: str) -> None:
    check_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "http://example.com",
        "ftp://example.com",
        "https://",
        "https://localhost",
        "https://db.internal/",
        "https://printer.local",
        "https://intranet/",
        "https://127.0.0.1",
        "https://127.1",
        "https://0x7f000001",
        "https://0177.0.0.1",
        "https://2130706433",
        "https://10.1.2.3",
        "https://192.168.0.1",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1",
        "https://0.0.0.0",
        "https://224.0.0.1",
        "https://[::1]",
        "https://[fe80::1]",
        "https://[fc00::1]",
        "https://[::ffff:127.0.0.1]",
        "https://[64:ff9b::7f00:1]",
        "https://[2002:7f00:1::]",
        "https://user@example.com",
        "https://example.com#x",
        "https://example.com\\@127.0.0.1",
        "https://exa mple.com",
        "https://éxample.com",
        "https://example.com:0",
        "https://example.com:x",
        "https://[::1",
        "https://example.com/\r\nHost: x",
    ],
)
def test_other_urls_may_not(url: str) -> None:
    with pytest.raises(UrlRefused):
        check_url(url, allow_private=False)


def test_private_urls_may_be_allowed() -> None:
    check_url("http://127.0.0.1:9000/x", allow_private=True)
    with pytest.raises(UrlRefused):
        check_url("file:///etc/passwd", allow_private=True)


@given(st.ip_addresses())
def test_every_address_is_judged(address: object) -> None:
    assert is_public([str(address)]) in (True, False)


def answering(*responses: httpx.Response) -> tuple[Webhooks, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return responses[len(asked) - 1]

    return Webhooks(allow_private=False, transport=httpx.MockTransport(answer)), asked


class Names(trio.abc.HostnameResolver):
    """A name service that answers what it is told."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]
        return [(2, 1, 6, "", (address, port)) for address in self.addresses]

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise NotImplementedError


async def test_a_request_goes_to_the_address_that_was_checked(autojump_clock: object) -> None:
    trio.socket.set_custom_hostname_resolver(Names("93.184.215.14"))
    hooks, asked = answering(httpx.Response(200, text="ok"))
    said = await hooks.call("https://example.com/f?x=1", {}, key="k", secret=None, limit_s=5)
    assert said == "ok"
    assert str(asked[0].url) == "https://93.184.215.14/f?x=1"
    assert asked[0].headers["Host"] == "example.com"
    assert asked[0].extensions["sni_hostname"] == "example.com"


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "169.254.169.254"])
async def test_a_name_that_leads_inside_is_not_called(autojump_clock: object, address: str) -> None:
    trio.socket.set_custom_hostname_resolver(Names("93.184.215.14", address))
    hooks, asked = answering()
    with pytest.raises(ToolError, match="private address"):
        await hooks.call("https://example.com/", {}, key="k", secret=None, limit_s=5)
    assert asked == []


async def test_a_server_that_stalls_is_left(autojump_clock: object) -> None:
    async def stall(request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    hooks = Webhooks(allow_private=True, transport=httpx.MockTransport(stall))
    with pytest.raises(ToolError, match="no answer within 5 s"):
        await hooks.call("http://x.test/", {}, key="k", secret=None, limit_s=5)
    assert trio.current_time() == pytest.approx(5, abs=0.01)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    limiter = RateLimiter(rate_per_s=2, burst=3)
    assert [limiter.wait_s("a", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert limiter.wait_s("b", 0.0) == 0
    assert limiter.wait_s("a", 0.5) == 0
    assert limiter.wait_s("a", 0.5) == pytest.approx(0.5)
    assert [limiter.wait_s("a", 100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_the_buckets_are_bounded() -> None:
    limiter = RateLimiter(rate_per_s=1, burst=1)
    for number in range(BUCKETS_MAX + 10):
        limiter.wait_s(str(number), 0.0)
    assert len(limiter._buckets) == BUCKETS_MAX


@given(st.lists(st.floats(0, 10), max_size=60))
def test_no_stretch_of_time_gives_more_than_burst_and_rate(gaps_s: list[float]) -> None:
    limiter, now_s, taken = RateLimiter(rate_per_s=3, burst=5), 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        taken += limiter.wait_s("k", now_s) == 0
        assert taken <= 5 + 3 * now_s + 1e-6
