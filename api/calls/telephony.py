"""The telephone of a node: its media gate, its live calls, its line to the carrier.

Joined to an app by :func:`add_telephony`; :meth:`Telephony.run` is its background work.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

import trio
from prometheus_client import Counter
from quart import current_app

from api.calls.binding import agent_of_call
from api.calls.live import CallEvent, Listeners, LiveCall, RecordKeeper
from api.calls.pacing import Pace
from api.calls.records import StoredCall, open_stream
from api.plivo.client import PlivoAccount, PlivoClient
from api.store.errors import NotFound, StoreUnavailable, VaultLocked
from api.web.problems import ApiError
from api.web.services import Services
from rtcore.admission import MediaGate
from rtcore.agent.agent import Agent
from rtcore.call import Call, CallRecord
from rtcore.errors import RemoteProtocolError
from rtcore.node import Node, NodeConfig
from rtcore.protocol.plivo_signature import NonceWindow, Tokens
from rtcore.tokens import BadToken, MediaToken

__all__ = ["EXTENSION", "Telephony", "telephony"]

EXTENSION = "rtcore-telephony"
ENDINGS_MAX = 10_000  # streams that ended lately: the carrier asks what next within seconds
OPENING_MAX = 10_000  # streams that were let in and have not said which call they are


Transferring = Callable[[str, str], Awaitable[None]]
"""Send a call (our id) to a number or SIP address; raises ToolError if it stays."""


class Telephony:
    """One for each app.

    Args:
        own: the services of the app.
        account: whose calls they are; None: calls come in unsigned and none can be steered,
            which only a node on loopback should allow.
        secret: signs media tokens, at least 16 octets, the same on all nodes.
        media_url: where the carrier reaches the media sockets, if not at the public URL.
        now_s: Unix time.
    """

    def __init__(
        self,
        own: Services,
        *,
        account: PlivoAccount | None,
        secret: bytes,
        node_config: NodeConfig | None = None,
        media_url: str = "",
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.store = own.store
        self.public_url = own.settings.public_url
        self.media_url = media_url.rstrip("/") or self.public_url
        self.secret = secret
        self.now_s = now_s
        self.tokens: Tokens | None = None
        self.pace = Pace(account.calls_per_s if account is not None else 1.0)
        self.nonces = NonceWindow()
        self.live: dict[str, LiveCall] = {}  # by our id: the newest stream of each
        self.listeners = Listeners()
        self.keeper = RecordKeeper(own.store)
        self.callbacks = Counter(
            "rtcore_plivo_callbacks",
            "Callbacks of the carrier",
            ["route", "outcome"],
            registry=own.registry,
        )
        self.transferring: Transferring | None = None  # what an agent's transfer does
        self._own = own
        self._nursery: trio.Nursery | None = None
        self._client: PlivoClient | None = None
        if account is not None:
            main = (account.main_token or account.auth_token,)
            self.tokens = Tokens(account=(account.auth_token,), main=main)
            self._client = PlivoClient(account)
        self._streams: dict[str, LiveCall] = {}  # by the carrier's id of the stream
        self._opening: OrderedDict[str, StoredCall] = OrderedDict()  # by the carrier's id
        self._endings: OrderedDict[str, str] = OrderedDict()  # why the last stream ended
        gate = MediaGate(
            {}, find=self._find, secret=secret, plivo=self.tokens, public_url=self.media_url
        )
        self.node = Node(
            gate.admit, node_config, on_start=self._on_start, on_record=self._on_record
        )

    @property
    def carrier(self) -> PlivoClient:
        """
        Raises:
            ApiError: 503, no account is configured.
        """
        if self._client is None:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "this node has no Plivo account: set RTCORE_PLIVO_AUTH_ID and"
                " RTCORE_PLIVO_AUTH_TOKEN",
            )
        return self._client

    async def run(self) -> None:
        """Keep records for ever. Cancelled: connections to the carrier are closed."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self.keeper.run(self._held)
        finally:
            if self._client is not None:
                with trio.CancelScope(shield=True):  # closing waits for nobody
                    await self._client.aclose()

    def ending_of(self, call: StoredCall) -> str:
        """Why the last stream of ``call`` ended, as far as this node knows; else empty."""
        held = self.live.get(call.id)
        return held.call.ended_by if held is not None else self._endings.get(call.id, "")

    def tell_state(self, call: StoredCall) -> None:
        """Tell those who listen what has become of the call."""
        self.listeners.tell(call.id, CallEvent(event="state", data={"state": call.state}))
        if call.ended_at_ms is not None:
            self.listeners.end(call.id)

    def on_machine(self, call: StoredCall) -> None:
        """No human has answered ``call``: leave the message, if one was given for that."""
        self.listeners.tell(call.id, CallEvent(event="machine_detected"))
        held = self.live.get(call.id)
        if held is not None:
            _leave_message(held.call, call)
        elif call.carrier_id is not None and call.carrier_id in self._opening:
            self._opening[call.carrier_id] = call  # said once its stream has begun

    # --- media --------------------------------------------------------------------------

    async def _find(self, token: MediaToken) -> Agent | None:
        """The agent of the call that a token is for; the token is spent with it.

        Raises:
            BadToken: it was spent, here or on another node, or its call is over.
        """
        try:
            call = await self.store.write(open_stream, token.call_id, token.nonce)
            if call is None:
                raise BadToken("spent, or its call is over")
            if call.streams > 1:
                await self.keeper.flush()  # what was said before is read below
            agent = await agent_of_call(self.store, self._own.webhooks, self._own.agent_for, call)
        except (NotFound, VaultLocked, StoreUnavailable):
            return None
        self._opening[token.call_id] = call
        if len(self._opening) > OPENING_MAX:
            self._opening.popitem(last=False)
        return agent

    def _on_start(self, call: Call) -> None:
        stored = self._opening.pop(call.context.call_id, None)
        if stored is None:  # two sockets were let in for it, and the other one was first
            raise RemoteProtocolError("the stream is not expected any more", close_code=1008)
        held = LiveCall(stored.id, stored.streams, call, self.listeners, trio.current_time())
        self.live[stored.id] = self._streams[call.stream_id] = held
        self._endings.pop(stored.id, None)
        held.begin()
        if self.transferring is not None:
            call.steering.transferring = partial(self.transferring, stored.id)
        if stored.is_machine and self._nursery is not None:
            self._nursery.start_soon(_leave_message_soon, call, stored)

    def _on_record(self, record: CallRecord) -> None:
        held = self._streams.pop(record.stream_id, None)
        if held is None:  # it ended before the carrier had said which call it is
            return
        self._endings[held.call_id] = record.ended_by
        if len(self._endings) > ENDINGS_MAX:
            self._endings.popitem(last=False)
        self.keeper.put(held.call_id, held.number, record, is_final=True)
        if self.live.get(held.call_id) is held:
            del self.live[held.call_id]

    def _held(self) -> list[LiveCall]:
        """The streams that go on; one that failed leaves no record and is let go here."""
        for stream_id, held in list(self._streams.items()):
            if self.node.calls.get(held.call.context.call_id) is not held.call:
                del self._streams[stream_id]
                if self.live.get(held.call_id) is held:
                    del self.live[held.call_id]
        return list(self._streams.values())


def _leave_message(call: Call, stored: StoredCall) -> None:
    if stored.plan.on_machine == "leave_message":
        call.say(stored.plan.machine_message, is_interruptible=False, ends_call=True)


async def _leave_message_soon(call: Call, stored: StoredCall) -> None:
    """In the next tick: a call that is just beginning cannot speak yet."""
    _leave_message(call, stored)


def telephony() -> Telephony:
    """That of the app that serves the current request."""
    found = current_app.extensions[EXTENSION]
    assert isinstance(found, Telephony)
    return found
