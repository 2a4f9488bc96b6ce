"""Who may open a media stream: the path, the carrier's signature, our own token."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from rtcore.agent.agent import Agent
from rtcore.errors import ConfigError
from rtcore.media.handshake import Rejection, UpgradeRequest
from rtcore.node import Admission
from rtcore.protocol.plivo_signature import NonceWindow, Tokens, upgrade_form_v3
from rtcore.tokens import BadToken, MediaToken, SpentTokens, redeem

__all__ = ["MEDIA_PATH", "MediaGate", "check_exposure"]

MEDIA_PATH = "/plivo/media/"
NONCE_HEADER = "x-plivo-signature-v3-nonce"

log = structlog.get_logger()


class MediaGate:
    """Judges each request for a media stream; closed by default.

    A request must be for ``/plivo/media/{token}``. With ``plivo`` tokens its V3 signature must
    be right and its nonce new; with a ``secret`` the token must be genuine, unexpired and
    unspent. ``agents`` gives the agent a token names; ``find`` is asked for one that is not
    there, and may refuse the token by raising ``BadToken``, or answer otherwise, which leaves it
    unspent. ``default`` serves where there is no
    secret, which only a node on loopback should be without.
    """

    def __init__(
        self,
        agents: Mapping[str, Agent],
        *,
        find: Callable[[MediaToken], Awaitable[Agent | Rejection | None]] | None = None,
        default: Agent | None = None,
        secret: bytes | None = None,
        plivo: Tokens | None = None,
        public_url: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._agents = agents
        self._find = find
        self._default = default
        self._secret = secret
        self._plivo = plivo
        self._public_url = public_url.rstrip("/")
        self._clock = clock
        self._spent = SpentTokens()
        self._nonces = NonceWindow()

    async def admit(self, request: UpgradeRequest) -> Admission | Rejection:
        """The call the bearer may open, or the refusal it gets: 404, 403."""
        if not request.path.startswith(MEDIA_PATH) or len(request.path) == len(MEDIA_PATH):
            return Rejection(status=404, body=f"media streams are at {MEDIA_PATH}{{token}}")
        if self._plivo is not None and not self._is_signed(request):
            return Rejection(status=403, body="the carrier's signature is missing or wrong")
        if self._secret is None:
            if self._default is None:
                return Rejection(status=403, body="no stream is expected here")
            return Admission(agent=self._default)
        try:
            now_s = self._clock()
            token = redeem(self._secret, request.path.removeprefix(MEDIA_PATH), now_s)
            self._spent.spend(token, now_s)
            agent: Agent | Rejection | None = self._agents.get(token.agent_id)
            if agent is None and self._find is not None:
                agent = await self._find(token)
            if isinstance(agent, Rejection):
                self._spent.restore(token)
                return agent
        except BadToken as exc:
            return Rejection(status=403, body=f"the media token is not valid: {exc}")
        agent = agent or self._default
        if agent is None:
            return Rejection(status=403, body="the agent of this token cannot be used here")
        return Admission(agent=agent, call_id=token.call_id)

    def _is_signed(self, request: UpgradeRequest) -> bool:
        assert self._plivo is not None
        base = self._public_url or f"https://{request.headers.get('host', '')}"
        query = f"?{request.query}" if request.query else ""
        form = upgrade_form_v3(f"{base}{request.path}{query}", request.headers, self._plivo)
        if form is None:
            return False
        log.debug("upgrade_signed", form=form)
        return self._nonces.admit(request.headers.get(NONCE_HEADER, ""), self._clock())


def check_exposure(host: str, *, is_guarded: bool, is_insecure: bool) -> None:
    """A node that anybody may use must not be reachable by everybody.

    Raises:
        ConfigError: listening on ``host`` it would be.
    """
    if is_guarded or is_insecure:
        return
    try:
        is_local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = False
    if not is_local:
        raise ConfigError(
            "host",
            f"{host} is reachable from outside, and nothing keeps strangers out: set "
            "RTCORE_SECRET and RTCORE_PLIVO_AUTH_TOKEN, or say --insecure",
        )
