"""Plivo's signatures, checked and made: pure functions of a request's URL, headers and form.

V3 signs voice callbacks and the WebSocket upgrade, V2 messaging callbacks. Give the URL that
Plivo was told to dial: public scheme, host, port, path and raw query, not the proxy's view.

Source: Plivo's signature-validation page (V3), and where it and the official SDKs differ, what
the SDKs do and live calls confirm.
"""

from __future__ import annotations

import base64
import hmac
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlparse, urlsplit, urlunsplit

import msgspec

__all__ = [
    "NonceWindow",
    "Tokens",
    "sign_v2",
    "sign_v3",
    "upgrade_form_v3",
    "verify_v2",
    "verify_v3",
]

Form = Iterable[tuple[str, str]]  # decoded fields in any order, blank values kept
Headers = Mapping[str, str]  # names in any case

# The upgrade is signed as plain http without its query (seen on live calls). The others are
# what documents and SDKs say instead, should Plivo come to mean them.
UPGRADE_SCHEMES: Final = ("http", "https", "wss", "ws")


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """The auth tokens that may have signed; an empty token never matches anything."""

    account: tuple[str, ...] = ()  # of the account or subaccount that owns the call
    main: tuple[str, ...] = ()  # of the main account, which signs as well (``-Ma-`` headers)


def sign_v3(token: str, method: str, url: str, nonce: str, form: Form = ()) -> str:
    """Sign as Plivo signs a voice callback.

    Raises:
        ValueError: ``url`` is no URL, or ``token`` is empty.
    """
    return _hmac(token, f"{_signed_text(method, url, form)}.{nonce}")


def sign_v2(token: str, url: str, nonce: str) -> str:
    """Sign as Plivo signs a messaging callback: neither query nor body is covered.

    Raises:
        ValueError: ``url`` is no URL, or ``token`` is empty.
    """
    return _hmac(token, _base(url) + nonce)


def verify_v3(method: str, url: str, headers: Headers, tokens: Tokens, *, form: Form = ()) -> bool:
    """Say whether one of ``tokens`` signed this callback.

    ``form`` holds the fields of a form-encoded POST; a GET is signed through its URL alone.
    """
    try:
        text = _signed_text(method, url, form)
    except ValueError:
        return False
    return _is_signed("V3", text + ".", headers, tokens)


def verify_v2(url: str, headers: Headers, tokens: Tokens) -> bool:
    """Say whether one of ``tokens`` signed this callback in the older way."""
    try:
        base = _base(url)
    except ValueError:
        return False
    return _is_signed("V2", base, headers, tokens)


def upgrade_form_v3(url: str, headers: Headers, tokens: Tokens) -> str | None:
    """Say in which form one of ``tokens`` signed this WebSocket upgrade; None: in no form.

    The answer is for the log: the scheme that was signed, with ``?`` behind it when the query
    was signed too. The usual form, ``"http"``, leaves the query of the URL **unauthenticated**:
    what the media route trusts belongs into the path.
    """
    try:
        _, netloc, path, query, _ = urlsplit(url)
    except ValueError:
        return None
    for scheme in UPGRADE_SCHEMES:
        for signed_query in ("", query) if query else ("",):
            signed = urlunsplit((scheme, netloc, path, signed_query, ""))
            if verify_v3("GET", signed, headers, tokens):
                return f"{scheme}?" if signed_query else scheme
    return None


class NonceWindow:
    """Remembers the nonces of signed requests, so that a copied request is seen as one.

    Ask it only about requests whose signature held: then nobody else can fill it.

    Args:
        window_s: how long a nonce is remembered.
        max_nonces: at most so many are; past it the oldest is forgotten first.
    """

    def __init__(self, *, window_s: float = 300.0, max_nonces: int = 10_000) -> None:
        self._window_s = window_s
        self._max_nonces = max_nonces
        self._seen_s: OrderedDict[str, float] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._seen_s)

    def admit(self, nonce: str, now_s: float) -> bool:
        """Say whether ``nonce`` is new at ``now_s``, on any clock that does not run back."""
        while self._seen_s and next(iter(self._seen_s.values())) <= now_s - self._window_s:
            self._seen_s.popitem(last=False)
        if nonce in self._seen_s:
            return False
        if len(self._seen_s) >= self._max_nonces:
            self._seen_s.popitem(last=False)
        self._seen_s[nonce] = now_s
        return True


def _is_signed(version: str, text: str, headers: Headers, tokens: Tokens) -> bool:
    """Whether a signature over ``text`` and the nonce is among those of the headers."""
    named = {name.lower(): value for name, value in headers.items()}
    prefix, suffix = "x-plivo-signature-", version.lower()
    nonce = named.get(f"{prefix}{suffix}-nonce")
    if not nonce:
        return False
    for header, candidates in (("", tokens.account), ("ma-", tokens.main)):
        given = [_octets(sig.strip()) for sig in named.get(prefix + header + suffix, "").split(",")]
        for token in filter(None, candidates):
            expected = _octets(_hmac(token, text + nonce))
            if any(hmac.compare_digest(expected, signature) for signature in given):
                return True
    return False


def _signed_text(method: str, url: str, form: Form) -> str:
    """The text under a V3 signature, up to the nonce and the dot before it.

    A lone ``?`` stands before the fields of a POST even where the URL has no query; the dot
    between the two only where it has one.
    """
    query = "&".join(
        f"{name}={value}"
        for name, value in sorted(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    )
    fields = "" if method.upper() == "GET" else "".join(map("".join, sorted(form)))
    text = _base(url)
    if query or fields:
        text += "?" + query
    if fields:
        text += "." * bool(query) + fields
    return text


def _base(url: str) -> str:
    """Scheme, host and path as written: no parameters, query or fragment."""
    scheme, netloc, path, *_ = urlparse(url)
    return f"{scheme}://{netloc}{path}"


def _hmac(token: str, text: str) -> str:
    if not token:
        raise ValueError("an empty token signs nothing")
    return base64.b64encode(hmac.digest(_octets(token), _octets(text), "sha256")).decode()


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # what a server made of odd octets, one to one
