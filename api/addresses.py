"""Which URLs we may call: none that lead into our own network, unless allowed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

__all__ = ["UrlRefused", "check_url", "is_public"]

HOST_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}")
LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in other clothes
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UrlRefused(Exception):
    """The URL cannot be called; the message says why and what could be."""


def check_url(url: str, *, allow_private: bool) -> None:
    """What can be told of ``url`` without asking the network.

    Raises:
        UrlRefused: it may not be called. That its name resolves to public addresses alone must
            be checked again whenever it is called: names change.
    """
    if not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        raise UrlRefused("has characters that a URL cannot have: percent-encode them")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as exc:
        raise UrlRefused(f"is not a URL: {exc}") from exc
    if parts.scheme not in (("https", "http") if allow_private else ("https",)):
        raise UrlRefused("must begin with https://")
    if not host or port == 0:
        raise UrlRefused("has no host to call")
    if parts.username is not None or parts.password is not None:
        raise UrlRefused("must not carry a user or password: sign requests with a secret instead")
    if parts.fragment:
        raise UrlRefused("must not have a fragment (#...)")
    if allow_private:
        return
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        is_number = re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)", host.rpartition(".")[2])
        if is_number or HOST_NAME.fullmatch(host) is None:  # 0x7f.1 and the like are addresses
            raise UrlRefused("has no public host name") from None
        if host.endswith(LOCAL_SUFFIXES):
            raise UrlRefused("leads to a private network") from None
        return
    if not is_public([str(address)]):
        raise UrlRefused("leads to a private address")


def is_public(addresses: Iterable[str]) -> bool:
    """Whether every address is one of the public internet, whatever clothes it wears."""
    return all(_is_public(ipaddress.ip_address(each)) for each in addresses)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast
