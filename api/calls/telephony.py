"""The telephone of a node: its media gate, its live calls, its line to the carrier.

Joined to an app by :func:`add_telephony`; :meth:`Telephony.run` is its background work.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

import msgspec
import structlog
import trio
from prometheus_client import Counter
from quart import current_app

from api.binding import bind_agent
from api.calls.binding import agent_of_call, agent_with_prompt
from api.calls.commands import Become, End, Ending, Machine, ask, perform
from api.calls.erasing import Swept
from api.calls.following import Followers, Told
from api.calls.live import CallEvent, Listeners, LiveCall, RecordKeeper
from api.calls.pacing import Pace
from api.calls.recordings import begin_recording, name_of
from api.calls.records import StoredCall, get_streams, open_stream
from api.nodes.bus import Bus
from api.nodes.presence import Presence, PresenceConfig
from api.nodes.records import NODE_LOST, NodeState
from api.plivo.client import PlivoAccount, PlivoClient, PlivoError
from api.store.errors import (
    AgentUnusable,
    Conflict,
    NotFound,
    StoreUnavailable,
    VaultLocked,
)
from api.store.records import new_id
from api.web.problems import CONTENT_TYPE, ApiError, as_problem, from_store
from api.web.services import Services
from rtcore.admission import MediaGate
from rtcore.agent.agent import Agent
from rtcore.call import Call, CallRecord
from rtcore.errors import RemoteProtocolError
from rtcore.media.handshake import Rejection
from rtcore.node import Node, NodeConfig
from rtcore.protocol.plivo_signature import NonceWindow, Tokens
from rtcore.recording import Recording, Recordings
from rtcore.tokens import BadToken, MediaToken

__all__ = ["EXTENSION", "Telephony", "telephony"]

log = structlog.get_logger()

EXTENSION = "rtcore-telephony"
ANSWER_LIMIT_S = 20.0  # past its ring timeout: the carrier queues a call, and tells us late
OPENING_LIMIT_S = 10.0  # from a callback to its stream: the carrier takes well under a second
ENDINGS_MAX = 10_000  # streams that ended lately: the carrier asks what next within seconds
OPENING_MAX = 10_000  # streams that were let in and have not said which call they are
ENDING_LIMIT_S = 1.0  # a node that died with a call: the caller hears nothing meanwhile
PARTIALS_EVERY_S = 0.25  # to those who listen
ON_THE_WAY = ("queued", "ringing")
TOLD: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)


Transferring = Callable[[str, str, str], Awaitable[None]]
"""Send a call (our id) to a target of its agent, by name, with a summary for who takes it (or
none); raises ToolError if it stays."""


class Telephony:
    """One for each app.

    Args:
        own: the services of the app.
        account: whose calls they are; None: calls come in unsigned and none can be steered,
            which only a node on loopback should allow.
        secret: signs media tokens, at least 16 octets, the same on all nodes.
        media_url: where the carrier reaches the media sockets, if not at the public URL.
        presence: how this node says that it is up, and looks after others.
        recordings: where the calls of agents that want it are recorded; None: nowhere.
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
        presence: PresenceConfig | None = None,
        recordings: Recordings | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.node_id = new_id("node")
        self.store = own.store
        self.settings = own.settings
        self.recordings = recordings
        self.swept = Swept()
        self.public_url = own.settings.public_url
        self.media_url = media_url.rstrip("/") or self.public_url
        self.secret = secret
        self.now_s = now_s
        self.tokens: Tokens | None = None
        self.pace = Pace(account.calls_per_s if account is not None else 1.0)
        self.nonces = NonceWindow()
        self.live: dict[str, LiveCall] = {}  # by our id: the newest stream of each
        self.listeners = Listeners()
        self.keeper = RecordKeeper(own.store, self.node_id)
        self.followers = Followers(self)
        self.bus = Bus(
            own.store,
            self.node_id,
            partial(perform, self),
            self._hear,
            own.registry,
            is_alone=lambda: self.presence.nodes == 1,
        )
        self.presence = Presence(
            own.store,
            self.node_id,
            presence or PresenceConfig(),
            partial(self._state, media_url.rstrip("/")),
            self._lost,
        )
        self.no_room = Counter(
            "rtcore_calls_without_room",
            "Calls this node had no room for, and what became of them",
            ["answer"],
            registry=own.registry,
        )
        self.no_agent = Counter(
            "rtcore_calls_without_agent",
            "Calls whose agent cannot be used as it is stored, by where that was found",
            ["found_at"],
            registry=own.registry,
        )
        self.lost_calls = Counter(
            "rtcore_lost_calls", "Calls of nodes that died, ended here", registry=own.registry
        )
        self.callbacks = Counter(
            "rtcore_plivo_callbacks",
            "Callbacks of the carrier",
            ["route", "outcome"],
            registry=own.registry,
        )
        self.transferring: Transferring | None = None  # what an agent's transfer does
        self.giving_up: Callable[[str, str], Awaitable[None]] | None = None  # no human came
        self.on_end: Callable[[], None] | None = None  # a call is over, as far as this node knows
        self._own = own
        self._nursery: trio.Nursery | None = None
        self._client: PlivoClient | None = None
        if account is not None:
            main = (account.main_token or account.auth_token,)
            self.tokens = Tokens(account=(account.auth_token,), main=main)
            self._client = PlivoClient(account)
        self._streams: dict[str, LiveCall] = {}  # by the carrier's id of the stream
        self._opening: OrderedDict[str, StoredCall] = OrderedDict()  # by the carrier's id
        self._recorded: dict[str, str] = {}  # of those: the name of the recording
        self._endings: OrderedDict[tuple[str, int], str] = OrderedDict()  # why a stream ended
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

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep records and be one of the nodes, for ever; ready once the others know of it.

        Cancelled: connections to the carrier are closed.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                await self._nursery.start(self.presence.run)
                self._nursery.start_soon(self.bus.run)
                self._nursery.start_soon(self._tell_partials)
                if self.recordings is not None:
                    self._nursery.start_soon(self.recordings.run)
                task_status.started()
                await self.keeper.run(self._held)
        finally:
            if self._client is not None:
                with trio.CancelScope(shield=True):  # closing waits for nobody
                    await self._client.aclose()

    def start(self, fn: Callable[..., Awaitable[None]], *args: object) -> None:
        """Start a task that ends with the node at the latest; :meth:`run` must be running."""
        assert self._nursery is not None, "run() is not running"
        self._nursery.start_soon(fn, *args)

    def ended_here(self, call_id: str, number: int) -> str:
        """Why that stream of a call ended, as far as this node knows; else empty."""
        held = self.live.get(call_id)
        if held is not None and held.number == number:
            return held.call.ended_by
        return self._endings.get((call_id, number), "")

    async def ending_of(self, call: StoredCall) -> str:
        """Why the last stream of ``call`` ended, whichever node held it; empty: nobody knows.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ended_by = self.ended_here(call.id, call.streams)
        if ended_by or not call.streams:
            return ended_by
        if call.node_id not in (None, self.node_id):
            wanted = Ending(call_id=call.id, number=call.streams)
            try:
                return str((await ask(self, call, wanted, ENDING_LIMIT_S))["ended_by"])
            except (ApiError, Conflict):  # it is gone, and with it the call's stream
                return ""
        records = await self.store.read(get_streams, call.id)
        return records[-1].ended_by if len(records) == call.streams else ""

    def expect_answer(self, call: StoredCall, ring_timeout_s: int) -> None:
        """A call is about to ring somebody: who answers is not sent away by a drain."""
        self.node.expect(call.id, ring_timeout_s + ANSWER_LIMIT_S)

    def expect_stream(self, carrier_id: str, media_url: str) -> None:
        """A call is about to be told to open its stream there: if here, a drain lets it in."""
        if media_url == self.media_url:
            self.node.expect(carrier_id, OPENING_LIMIT_S)

    # --- who listens ----------------------------------------------------------------------

    def tell(self, call_id: str, event: CallEvent, *, ends: bool = False) -> None:
        """Tell those who listen to a call, on this node and on the others."""
        told = Told(call_id=call_id, event=event, ends=ends)
        self._tell_here(told)
        if self.presence.nodes > 1:
            self.bus.tell(None, msgspec.json.encode(told))

    def tell_state(self, call: StoredCall) -> None:
        """Tell those who listen what has become of the call."""
        state = CallEvent(event="state", data={"state": call.state})
        self.tell(call.id, state, ends=call.ended_at_ms is not None)
        if call.ended_at_ms is not None and self.on_end is not None:
            self.on_end()

    async def _tell_partials(self) -> None:
        """What the agent is saying grows by itself, without an event to tell it at."""
        while True:
            await trio.sleep(PARTIALS_EVERY_S)
            for held in tuple(self.live.values()):
                held.tell_partials()

    def _tell_here(self, told: Told) -> None:
        self.listeners.tell(told.call_id, told.event, relays=False)  # the others know
        if told.ends:
            self.node.expect_no_more(told.call_id)
            self.listeners.end(told.call_id)

    def _hear(self, body: bytes) -> None:
        """Another node tells of a call."""
        try:
            told = TOLD.decode(body)
        except msgspec.DecodeError as exc:  # of a newer node, or of a stranger to the channel
            log.warning("event_not_understood", reason=str(exc))
            return
        held = self.live.get(told.call_id)
        if told.ends and held is not None:
            held.call.end("hung_up")
        if told.event.event == "state" and told.event.data.get("state") not in ON_THE_WAY:
            self.node.expect_no_more(told.call_id)  # it was answered there
        self._tell_here(told)

    # --- the other nodes ------------------------------------------------------------------

    def _state(self, url: str) -> NodeState:
        node = self.node
        return NodeState(
            url=url,
            calls=len(node.calls),
            capacity=node.config.calls_max,
            has_room=node.has_room,
            is_draining=node.is_draining,
        )

    async def _lost(self, calls: tuple[StoredCall, ...]) -> None:
        """A node died with these calls: whoever is still on the line is not kept waiting."""
        for call in calls:
            self.lost_calls.inc()
            log.warning("call_lost", call_id=call.id, reason=NODE_LOST)
            self.tell_state(call)
            if self._client is not None and call.carrier_id is not None:
                self.start(self._hang_up_lost, self._client, call.carrier_id)

    async def _hang_up_lost(self, client: PlivoClient, carrier_id: str) -> None:
        try:
            await client.hang_up(carrier_id)
        except PlivoError as exc:
            log.warning("lost_call_not_hung_up", reason=type(exc).__name__)

    def on_machine(self, call: StoredCall) -> None:
        """No human has answered ``call``: leave the message, if one was given for that."""
        self.tell(call.id, CallEvent(event="machine_detected"))
        if call.node_id in (None, self.node_id):
            self.meet_machine(call)
        else:
            self.start(self._tell_of_machine, call)

    async def _tell_of_machine(self, call: StoredCall) -> None:
        try:
            await ask(self, call, Machine(call_id=call.id))
        except (ApiError, Conflict, StoreUnavailable) as exc:
            log.warning("machine_not_told", reason=type(exc).__name__)

    def meet_machine(self, call: StoredCall) -> None:
        """Leave the message in a call of this node."""
        held = self.live.get(call.id)
        if held is not None:
            _leave_message(held.call, call)
        elif call.carrier_id is not None and call.carrier_id in self._opening:
            self._opening[call.carrier_id] = call  # said once its stream has begun

    async def give_up_waiting(self, held: LiveCall, attempt: str, limit_s: float) -> None:
        """See to it that a caller does not wait for a human for ever: nobody told the end of it."""
        await trio.sleep(limit_s)
        if held.waiting_for == attempt and self.giving_up is not None:
            await self.giving_up(held.call_id, attempt)

    async def end_stream(self, call: StoredCall, reason: str) -> None:
        """Let the agent's part of the call end now; the carrier would end it a moment later."""
        try:
            await ask(self, call, End(call_id=call.id, reason=reason))
        except (ApiError, StoreUnavailable) as exc:
            log.warning("stream_not_ended", reason=type(exc).__name__)

    async def agent_at(self, call: StoredCall, change: Become) -> Agent:
        """The agent that is to go on with ``call``, its variables filled in.

        Raises:
            NotFound, AgentUnusable, VaultLocked, StoreUnavailable: as
                :func:`api.binding.bind_agent`.
        """
        own = self._own
        return await agent_with_prompt(
            self.store,
            own.webhooks,
            own.agent_for,
            call,
            (change.agent_id, change.version, change.prompt),
            own.meanings,
        )

    async def check_agent(self, id: str, version: int | None = None) -> None:
        """See that an agent could talk, at ``version`` or as it is published.

        Raises:
            NotFound, AgentUnusable, VaultLocked, StoreUnavailable: as
                :func:`api.binding.bind_agent`.
        """
        own = self._own
        given = self.store, own.webhooks, own.agent_for, id, version
        await bind_agent(*given, meanings=own.meanings)

    def agent_failed(self, call: StoredCall, found_at: str, exc: Exception) -> None:
        """Count and log that the agent of ``call`` cannot be used."""
        self.no_agent.labels(found_at).inc()
        log.error("agent_unusable", call_id=call.id, found_at=found_at, reason=str(exc))

    # --- media --------------------------------------------------------------------------

    async def _find(self, token: MediaToken) -> Agent | Rejection | None:
        """The agent of the call that a token is for; the token is spent with it.

        A store that is away is no fault of the token: 503.

        Raises:
            BadToken: it was spent, here or on another node, or its call is over.
        """
        call: StoredCall | None = None
        try:
            call = await self.store.write(open_stream, token.call_id, token.nonce, self.node_id)
            if call is None:
                raise BadToken("spent, or its call is over")
            if call.streams > 1:
                await self.keeper.flush()  # what was said before is read below
            agent = await agent_of_call(
                self.store, self._own.webhooks, self._own.agent_for, call, self._own.meanings
            )
            if agent.definition.recording:
                await self._begin_recording(call, token.call_id)
        except (AgentUnusable, VaultLocked) as exc:
            assert call is not None
            self.agent_failed(call, "media", exc)
            return None
        except NotFound:
            return None
        except StoreUnavailable as exc:
            return _away(exc)
        for each in (call.id, token.call_id):
            self.node.expect_no_more(each)
        self._opening[token.call_id] = call
        if len(self._opening) > OPENING_MAX:
            carrier_id, _ = self._opening.popitem(last=False)
            self._recorded.pop(carrier_id, None)
        return agent

    async def _begin_recording(self, call: StoredCall, carrier_id: str) -> None:
        """See that the file which the next stream is recorded to is known before it is there."""
        if self.recordings is None:
            log.warning("call_not_recorded", call_id=call.id, reason="start with --recordings")
            return
        name = name_of(call.id, self.now_s())
        await self.store.write(begin_recording, call.id, call.streams, self.recordings.id, name)
        self._recorded[carrier_id] = name

    def _on_recorded(self, call_id: str, number: int, recording: Recording) -> None:
        self.keeper.put_recording((call_id, number), recording.samples, recording.dropped_samples)

    def _on_start(self, call: Call) -> None:
        stored = self._opening.pop(call.context.call_id, None)
        if stored is None:  # two sockets were let in for it, and the other one was first
            raise RemoteProtocolError("the stream is not expected any more", close_code=1008)
        held = LiveCall(stored.id, stored.streams, call, self.listeners, trio.current_time())
        self.live[stored.id] = self._streams[call.stream_id] = held
        held.begin()
        name = self._recorded.pop(call.context.call_id, None)
        if name is not None and self.recordings is not None:
            on_kept = partial(self._on_recorded, stored.id, stored.streams)
            call.recorder = self.recordings.begin(name, on_kept)
        if self.transferring is not None:
            call.steering.transferring = partial(self.transferring, stored.id)
        if stored.is_machine and self._nursery is not None:
            self._nursery.start_soon(_leave_message_soon, call, stored)

    def _on_record(self, record: CallRecord) -> None:
        held = self._streams.pop(record.stream_id, None)
        if held is None:  # it ended before the carrier had said which call it is
            return
        self._endings[held.call_id, held.number] = record.ended_by
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


def _away(exc: StoreUnavailable) -> Rejection:
    error = from_store(exc)
    return Rejection(
        status=error.status,
        body=msgspec.json.encode(as_problem(error, new_id("media"))).decode(),
        content_type=CONTENT_TYPE,
        headers=tuple(error.headers.items()),
    )


def _leave_message(call: Call, stored: StoredCall) -> None:
    if stored.plan.on_machine == "leave_message" and not call.is_over:
        call.say(stored.plan.machine_message, is_interruptible=False, ends_call=True)


async def _leave_message_soon(call: Call, stored: StoredCall) -> None:
    """In the next tick: a call that is just beginning cannot speak yet."""
    _leave_message(call, stored)


def telephony() -> Telephony:
    """That of the app that serves the current request."""
    found = current_app.extensions[EXTENSION]
    assert isinstance(found, Telephony)
    return found
