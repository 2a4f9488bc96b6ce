"""What the tests of the API share: a client that checks what holds of every answer."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from cryptography.fernet import Fernet
from quart.typing import TestClientProtocol

from api.web.problems import CONTENT_TYPE, Problem

SECRET_KEY = Fernet.generate_key().decode()


class Answer:
    """A response, read."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def problem(self) -> Problem:
        return msgspec.json.decode(self.body, type=Problem)

    @property
    def fields(self) -> list[str]:
        """The fields a problem names."""
        return [error.field for error in self.problem.errors or []]


class Api:
    """Asks the app with a key."""

    def __init__(self, client: TestClientProtocol, token: str) -> None:
        self.client, self.token = client, token

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> Answer:
        sent = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            options["data"] = msgspec.json.encode(body)
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        response = await self.client.open(path, method=method, headers=sent, **options)
        octets = await response.get_data(as_text=False)
        answer = Answer(response.status_code, response.headers, octets)
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers["X-Request-ID"])
        if answer.status >= 400:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            assert answer.problem.status == answer.status
            assert answer.problem.request_id == answer.headers["X-Request-ID"]
            assert answer.problem.detail
        return answer

    async def create(self, path: str, body: Any) -> Any:
        """POST that must succeed; what was created."""
        answer = await self.ask("POST", path, body)
        assert answer.status == 201, answer.body
        return answer.json

    def with_token(self, token: str) -> Api:
        return Api(self.client, token)
