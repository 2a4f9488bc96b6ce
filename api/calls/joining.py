"""Gives an app its telephone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import structlog
from quart_trio import QuartTrio

from api.analysis import routes as analysis_routes
from api.calls import keeping, routes
from api.calls.control import transfer_call
from api.calls.examples import EXAMPLES
from api.calls.handing import take_back
from api.calls.records import get_call
from api.calls.sweeping import sweep_for_ever
from api.calls.telephony import EXTENSION, Telephony
from api.calls.views import TransferRequest
from api.campaigns import examples as campaign_examples
from api.campaigns import routes as campaign_routes
from api.campaigns.running import Runner
from api.nodes import routes as node_routes
from api.nodes.presence import PresenceConfig
from api.plivo import humans, numbers, webhooks
from api.plivo.client import PlivoAccount
from api.specs import TransferTarget
from api.store import Actor, Tx
from api.store.agents import get_agent
from api.web.problems import STORE_ERRORS, ApiError
from api.web.services import EXTENSION as SERVICES
from api.web.services import Services
from api.web.spec import MORE_EXAMPLES
from rtcore.errors import ToolError
from rtcore.node import NodeConfig
from rtcore.node_metrics import RecordingCollector
from rtcore.recording import Recordings

__all__ = ["add_telephony"]

log = structlog.get_logger()


AGENT = Actor("agent")  # in the audit log: the model asked for it, in a call


def add_telephony(
    app: QuartTrio,
    *,
    account: PlivoAccount | None,
    secret: bytes,
    node_config: NodeConfig | None = None,
    media_url: str = "",
    presence: PresenceConfig | None = None,
    recordings: Recordings | None = None,
) -> Telephony:
    """Let ``app`` make and take calls: its routes, its callbacks, its node.

    Args:
        account: at the carrier; None: calls come in unsigned and none can be steered.
        secret: signs media tokens: at least 16 octets, the same on all nodes.
        media_url: where the carrier reaches the media sockets, if not at the public URL.
        presence: how the node says that it is up, and looks after others on the same store.
        recordings: where calls are recorded whose agent wants it; None: nowhere.

    The node is not running yet: :func:`api.serve.serve_node` runs both.
    """
    own = app.extensions[SERVICES]
    assert isinstance(own, Services)
    line = Telephony(
        own,
        account=account,
        secret=secret,
        node_config=node_config,
        media_url=media_url,
        presence=presence,
        recordings=recordings,
    )
    if recordings is not None:
        own.registry.register(RecordingCollector(recordings))
    line.transferring = partial(_transfer, line)
    line.giving_up = partial(_give_up, line)
    app.extensions[EXTENSION] = line
    app.extensions[MORE_EXAMPLES] = {
        **EXAMPLES,
        **keeping.EXAMPLES,
        **campaign_examples.EXAMPLES,
    }
    runner = Runner(line, own.registry)
    line.on_end = runner.wake
    app.extensions[campaign_routes.EXTENSION] = runner
    app.url_map.converters["e164"] = numbers.E164Converter
    for module in (routes, keeping, numbers, webhooks, humans, node_routes, analysis_routes):
        app.register_blueprint(module.blueprint)
    app.register_blueprint(campaign_routes.blueprint)
    app.register_blueprint(campaign_routes.do_not_call)

    @app.before_serving
    async def begin() -> None:
        await app.nursery.start(line.run)  # which writes what is left when it is cancelled
        app.nursery.start_soon(partial(sweep_for_ever, line, asks_carrier=account is not None))
        if account is not None:
            line.start(runner.run)  # whose last requests the line outlives

    return line


async def _transfer(line: Telephony, call_id: str, name: str, summary: str) -> None:
    """Send a caller to one of the places its agent may send them to, by name.

    Raises:
        ToolError: there is no such target, or the carrier refused, and the agent goes on; the
            text is for the model.
    """
    try:
        targets = await line.store.read(_targets, call_id)
        if name not in targets:
            names = ", ".join(targets) or "none"
            raise ToolError(f"nobody is known as {name[:64]!r}; there are: {names}")
        target = targets[name]
        wanted = TransferRequest(
            to=target.to,
            mode=target.mode,
            summary=summary or None,
            ring_timeout_s=target.ring_timeout_s,
            hold_line=target.hold_line,
            take_back_line=target.take_back_line,
        )
        await transfer_call(line, AGENT, call_id, wanted, says_line=False)
    except (ApiError, *STORE_ERRORS) as exc:
        raise ToolError(f"the call could not be transferred: {exc}") from exc


def _targets(tx: Tx, call_id: str) -> Mapping[str, TransferTarget]:
    call = get_call(tx, call_id)
    return get_agent(tx, call.agent_id, call.agent_version).spec.transfer_targets


async def _give_up(line: Telephony, call_id: str, attempt: str) -> None:
    """A human was to be fetched, and nobody told what became of it."""
    try:
        await take_back(line, call_id, attempt, "failed", hangs_up=True)
    except STORE_ERRORS as exc:
        log.warning("waiting_not_given_up", reason=type(exc).__name__)
