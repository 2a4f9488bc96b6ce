"""The service's requests of us: form or query, signed as the real one signs, tried again."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import trio

from rtcore.protocol.plivo_signature import sign_v3
from rtcore.testing.plivo.model import Account, Callback

__all__ = ["Callbacks", "signature_headers"]

READ_LIMIT_S = 15.0  # what an answer may take, in Plivo's own words
Fields = dict[str, str]
TRIES = 2  # one retry, unless the URL's fragment says otherwise


def signature_headers(account: Account, method: str, url: str, form: Fields) -> dict[str, str]:
    """The V3 headers of one request: of the account, and again as the main account's."""
    nonce = str(secrets.randbelow(10**20))
    signed = sign_v3(account.auth_token, method, url, nonce, form.items())
    return {
        "X-Plivo-Signature-V3": signed,
        "X-Plivo-Signature-Ma-V3": signed,
        "X-Plivo-Signature-V3-Nonce": nonce,
    }


class Callbacks:
    """Makes the callbacks of one account and remembers each."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client = httpx.AsyncClient(timeout=READ_LIMIT_S, trust_env=False)
        self.made: list[Callback] = []
        self.is_cut_off = False  # nobody can be reached

    async def aclose(self) -> None:
        await self._client.aclose()

    async def ask(self, kind: str, method: str, url: str, fields: Fields) -> httpx.Response | None:
        """Make one callback; None if nobody answered, however often it was tried."""
        parts = urlsplit(url)
        tuning = dict(parse_qsl(parts.fragment))
        tries = int(tuning.get("rc", TRIES - 1)) + 1
        target = urlunsplit((*parts[:4], ""))
        form = fields
        if method == "GET":
            query = "&".join(filter(None, (parts.query, urlencode(fields))))
            target, form = urlunsplit((*parts[:3], query, "")), {}
        headers = signature_headers(self._account, method, target, form)
        response: httpx.Response | None = None
        for _ in range(0 if self.is_cut_off else tries):
            response = await self._try(method, target, form, headers)
            if response is not None and response.status_code < 500:
                break
        status = 0 if response is None else response.status_code
        made = Callback(kind=kind, method=method, url=target, fields=fields, status=status)
        self.made.append(made)
        return response

    async def _try(
        self, method: str, url: str, form: Fields, headers: dict[str, str]
    ) -> httpx.Response | None:
        try:
            with trio.fail_after(READ_LIMIT_S):
                if method == "GET":
                    return await self._client.get(url, headers=headers)
                return await self._client.post(url, data=form, headers=headers)
        except (httpx.HTTPError, trio.TooSlowError):
            return None
