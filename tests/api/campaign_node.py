"""``python -m tests.api.campaign_node …``: ``rtcore serve …`` that gives up sooner.

A node waits 20 s before it asks after another's call, and three minutes before it gives one
up: here it is 2 and 6, so that a test sees it. And it is slow between its claim and its
request, so that some of those who kill it come just then.
"""

from __future__ import annotations

import random
import sys

import trio

from api.campaigns import resolving
from api.plivo.client import OutboundCall, PlivoClient
from api.store import attempts
from rtcore.cli import main

SLOW_S = 0.3

attempts.LEASE_MS = 2000
resolving.UNKNOWN_AFTER_MS = 6000
make_call = PlivoClient.make_call


async def make_call_slowly(client: PlivoClient, call: OutboundCall, *, repeats: bool) -> str:
    await trio.sleep(random.uniform(0, SLOW_S))
    return await make_call(client, call, repeats=repeats)


PlivoClient.make_call = make_call_slowly  # type: ignore[assignment,method-assign]  # in this process alone

if __name__ == "__main__":
    sys.argv[0] = "rtcore"
    main()
