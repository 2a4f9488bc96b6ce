"""``rtcore fake-plivo``: a carrier for who has no account, and telephones that do as they are told.

Plivo's REST API is at ``/v1`` as the real one has it, its callbacks and audio are real; whom it
connects are the telephones below, told over HTTP:

``PUT /phones/{number}``   what happens when it rings: :class:`PhoneOrder`
``POST /ring``             somebody calls one of the account's numbers: :class:`RingOrder`
``GET /calls``             the calls so far: :class:`CallShown`
``POST /functions/{name}`` a function of an agent: says that it has done what it was asked
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import structlog
import trio
from msgspec import Meta

from rtcore.commands.call import spoken
from rtcore.errors import ConfigError
from rtcore.ports import Synthesizer
from rtcore.providers.embedded import EmbeddedVoice
from rtcore.testing import FakePlivo, Phone, ScriptedSynthesizer, hang_up, say, wait
from rtcore.testing.caller import Action, wait_for_agent_quiet
from rtcore.testing.plivo import PlacedCall
from rtcore.testing.plivo.http import Request, Response
from rtcore.testing.plivo.model import normal_number

__all__ = ["FakePlivoOptions", "Network", "run"]

log = structlog.get_logger()

QUIET_MS = 700  # an agent that is silent for so long has said what it had to
ANSWER_LIMIT_MS = 15_000
STAY_MS = 600_000
SCALE = 0.1  # seconds of ringing and waiting, so that a trial takes no minutes
NUMBER = r"^\+?[1-9][0-9]{3,14}$"
Number = Annotated[str, Meta(pattern=NUMBER)]
Said = Annotated[str, Meta(min_length=1, max_length=500)]


class FakePlivoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    port: int = 9090
    numbers: tuple[str, ...] = ("14155550199",)

    def __post_init__(self) -> None:
        for number in self.numbers:
            if not re.fullmatch(NUMBER, number):
                what = "is no telephone number: digits with the country code, as +14155550199"
                raise ConfigError("number", f"{number!r} {what}")


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person does on the telephone: says each line in turn, then hangs up or stays."""

    says: Annotated[tuple[Said, ...], Meta(max_length=50)] = ()
    stays: bool = False


class PhoneOrder(Behaviour, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A telephone that may be rung."""

    when_rung: Literal["answer", "busy", "reject", "ignore"] = "answer"
    is_machine: bool = False
    talk_s: Annotated[float, Meta(ge=0, le=600)] = 1.0  # with a caller who was handed over


class RingOrder(Behaviour, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call that comes in."""

    to: Number
    from_: Number = msgspec.field(name="from")


class CallShown(msgspec.Struct, frozen=True, kw_only=True):
    """A call as the network sees it."""

    call_uuid: str
    direction: str
    state: str
    heard_turns: int  # answers that were heard
    handed_to: list[str]
    keys_heard: str
    hangup: str


class Network:
    """The telephones behind a :class:`FakePlivo`; ``voice`` speaks for the people on them."""

    def __init__(self, plivo: FakePlivo, voice: Synthesizer) -> None:
        self._plivo = plivo
        self._voice = voice
        plivo.beside = self.answer

    async def answer(self, request: Request) -> Response:
        """Answer one request that is not for Plivo's API."""
        match request.method, request.path.strip("/").split("/"):
            case "PUT", ["phones", number]:
                return await self._put_phone(number, request.body)
            case "POST", ["ring"]:
                return await self._ring(request.body)
            case "GET", ["calls"]:
                return _json(200, {"items": [_shown(call) for call in self._plivo.calls.values()]})
            case "POST", ["functions", name]:
                given = ", ".join(f"{key} {each}" for key, each in _arguments(request.body).items())
                done = f"{name.replace('_', ' ')} is done: {given}"
                return Response(body=done.encode(), content_type="text/plain")
        return _json(404, {"error": "there is /phones/{number}, /ring, /calls, /functions/{name}"})

    async def _put_phone(self, number: str, body: bytes) -> Response:
        try:
            order = msgspec.json.decode(body or b"{}", type=PhoneOrder)
            number = normal_number(msgspec.convert(number, Number))
        except msgspec.DecodeError as exc:
            return _json(422, {"error": str(exc)})
        self._plivo.phones[number] = Phone(
            scripts=[await self._script(order)],
            when_rung=order.when_rung,
            is_machine=order.is_machine,
            talk_s=order.talk_s,
        )
        return Response(status=204)

    async def _ring(self, body: bytes) -> Response:
        try:
            order = msgspec.json.decode(body, type=RingOrder)
        except msgspec.DecodeError as exc:
            return _json(422, {"error": str(exc)})
        phone = Phone(scripts=[await self._script(order)])
        try:
            call = self._plivo.ring(order.from_, order.to, phone)
        except KeyError:
            return _json(404, {"error": f"nobody answers {order.to}: bind it to an agent first"})
        return _json(201, {"call_uuid": call.uuid})

    async def _script(self, order: Behaviour) -> Sequence[Action]:
        quiet = wait_for_agent_quiet(QUIET_MS, ANSWER_LIMIT_MS)
        script: list[Action] = [quiet]
        for line in order.says:
            script += [say(await spoken(line, self._voice)), quiet]
        return [*script, wait(STAY_MS) if order.stays else hang_up()]


def _shown(call: PlacedCall) -> CallShown:
    return CallShown(
        call_uuid=call.uuid,
        direction=call.order.direction,
        state=call.state,
        heard_turns=sum(
            turn.response_ms is not None for report in call.reports for turn in report.turns
        ),
        handed_to=list(call.dialled),
        keys_heard=call.keys_heard,
        hangup=call.hangup.name if call.hangup is not None else "",
    )


class _Asked(msgspec.Struct):
    arguments: dict[str, Any] = {}


def _arguments(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=_Asked).arguments
    except msgspec.DecodeError:
        return {}


def _json(status: int, body: object) -> Response:
    return Response(status=status, body=msgspec.json.encode(body))


async def run(options: FakePlivoOptions) -> None:
    """Serve until cancelled.

    Raises:
        OSError: the port cannot be listened on.
    """
    plivo = FakePlivo(scale=SCALE, port=options.port)
    async with trio.open_nursery() as nursery:
        voice: Synthesizer = ScriptedSynthesizer()  # a speech-like sound
        try:
            embedded = EmbeddedVoice()
        except ConfigError as missing:
            log.warning("callers_only_hum", reason=str(missing))
        else:
            await nursery.start(embedded.run)
            voice = embedded
        Network(plivo, voice)
        for number in options.numbers:
            plivo.rent(number)
        url = await nursery.start(plivo.run)
        log.info("fake_plivo", RTCORE_PLIVO_API_URL=url, numbers=len(options.numbers))
