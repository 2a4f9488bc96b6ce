"""A function behind a URL, as a user would run one."""

from __future__ import annotations

import trio

from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, HttpRequest, Reply


class FakeFunction(FakeHttpServer):
    """Answers every request with ``body``."""

    def __init__(
        self, body: bytes = b'{"ok": true}', kind: str = "application/json", **headers: str
    ) -> None:
        super().__init__()
        self.body, self.kind, self.headers = body, kind, headers
        self.status = 200
        self.url = ""  # where it is served; set by who serves it

    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        await trio.sleep(fault.first_delay_s)
        await reply.whole(self.status, self.body, self.kind, **self.headers)
