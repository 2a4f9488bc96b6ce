"""A function behind a webhook, in nothing but Python's standard library.

    python examples/webhook.py 8090 whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw

It books tables. Three things make it safe to be called by an agent on the telephone:
the signature says that the call comes from your node and was not altered, its time that it is
not an old one played again, and the idempotency key that a repeated call books no second table.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

AGE_MAX_S = 300
BODY_MAX_BYTES = 65_536

booked: dict[str, dict[str, Any]] = {}  # idempotency key -> what was answered; yours: a table
lock = Lock()


def is_signed(headers: Any, body: bytes, secret: str) -> bool:
    """Standard Webhooks (standardwebhooks.com): any of its libraries does the same."""
    id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isdecimal() or abs(time.time() - int(stamp)) > AGE_MAX_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256)
    wanted = f"v1,{base64.b64encode(digest).decode()}"
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(wanted, each) for each in given)


def book(arguments: dict[str, Any]) -> dict[str, Any]:
    """The work itself: what is returned is told to the model."""
    return {"booked": True, "day": arguments["day"], "seats": arguments.get("seats", 2)}


class Handler(BaseHTTPRequestHandler):
    secret = ""

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(min(length, BODY_MAX_BYTES))
        if not is_signed(self.headers, body, self.secret):
            self.answer(401, {"error": {"message": "the signature is not ours"}})
            return
        key = self.headers["idempotency-key"]
        with lock:  # a key is looked up and kept in one step: two attempts may run at once
            if key not in booked:
                booked[key] = book(json.loads(body)["arguments"])
        self.answer(200, booked[key])

    def answer(self, status: int, content: dict[str, Any]) -> None:
        octets = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what is booked by whom belongs in no log."""


def main() -> None:
    if len(sys.argv) != 3 or not sys.argv[1].isdecimal():
        sys.exit("usage: python examples/webhook.py PORT SECRET   (e.g. 8090 whsec_...)")
    port, Handler.secret = int(sys.argv[1]), sys.argv[2]
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}/\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
