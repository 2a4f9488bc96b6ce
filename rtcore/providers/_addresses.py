"""Where a URL that is not the operator's may lead: to the public internet, unless more is allowed.

The name is resolved here and the connection goes to the address that was checked, so a name
that changes its address between the two (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import httpx
import trio

from rtcore.errors import ConfigError

__all__ = ["addresses", "checked_url", "is_public", "reach_public"]

T = TypeVar("T")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
HOST_NAME = re.compile(  # RFC 1123, section 2.1; its last label is no number, which 127.1 ends in
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+"
    r"(?!([0-9]+|0x[0-9a-f]*)$)[a-z0-9-]{2,63}"
)
TRY_LIMIT_S = 1.0  # for one address while there are others: a SYN lost once costs that (RFC 6298)
# never on the public internet: RFC 6761, RFC 6762, RFC 8375; reserved by ICANN in 2024; by habit
LOCAL_SUFFIXES = (".localhost", ".local", ".home.arpa", ".internal", ".lan")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


def checked_url(
    url: str, field: str, *, allow_private: bool, schemes: Sequence[str] = ("https",)
) -> httpx.URL:
    """``url`` if it may be asked; a name's addresses are known only when it is.

    ``schemes``: those with TLS that will do; without it only where private addresses are allowed.

    Raises:
        ConfigError: it is no URL, has no TLS, holds a password, or leads inside.
    """
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # an international name is read here
    except (httpx.InvalidURL, ValueError) as exc:
        raise ConfigError(field, f"is no URL: {exc}") from exc
    plain = [scheme.removesuffix("s") for scheme in schemes] if allow_private else []
    if parsed.scheme not in (*schemes, *plain):
        raise ConfigError(field, f"must begin with {' or '.join(schemes)}://")
    if not host or " " in host:
        raise ConfigError(field, "names no host")
    if parsed.port is not None and not 0 < parsed.port < 1 << 16:
        raise ConfigError(field, f"{parsed.port} is no port")
    if parsed.userinfo:
        raise ConfigError(field, "holds a user or password: sign with a secret instead")
    if not allow_private:
        _check_public(parsed, field)
    return parsed


def _check_public(url: httpx.URL, field: str) -> None:
    address = _literal(url.host)
    if address is not None:
        if not is_public(address):
            message = f"{address} is a private address: allow private addresses first"
            raise ConfigError(field, message)
        return
    name = url.raw_host.decode("ascii").removesuffix(".")
    if HOST_NAME.fullmatch(name) is None or name.endswith(LOCAL_SUFFIXES):
        raise ConfigError(field, "has no public host name: allow private addresses first")


async def addresses(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of ``host`` that may be connected to, in the resolver's order.

    Raises:
        OSError: the name is unknown, or has none but private addresses.

    The resolver's thread is one of Trio's, whose number is bounded; cancelled, it is left.
    """
    try:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    except OSError as exc:
        raise OSError("host is unknown") from exc
    resolved = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    if allow_private:
        return resolved
    allowed = [
        each for each in resolved if (address := _literal(each)) is not None and is_public(address)
    ]
    if not allowed:
        raise OSError("host has a private address, which is not allowed")
    return allowed


async def reach_public(host: str, port: int, connect: Callable[[str], Awaitable[T]]) -> T:
    """What ``connect`` makes of the first public address of ``host`` that answers.

    Raises:
        OSError: the name is unknown or leads inside, or ``connect`` says so of its last address.
    """
    *others, last = await addresses(host, port, allow_private=False)
    for address in others:
        with trio.move_on_after(TRY_LIMIT_S), contextlib.suppress(OSError):
            return await connect(address)
    return await connect(last)


def is_public(address: Address) -> bool:
    """Whether ``address`` is on the public internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])  # a scope says only which link
    except ValueError:
        return None
