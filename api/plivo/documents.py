"""The answer documents we give, drawn from a call and where we are reached."""

from __future__ import annotations

import msgspec

from api.calls.records import StoredCall, Transfer
from rtcore.admission import MEDIA_PATH
from rtcore.agent.listening import Listening
from rtcore.protocol.plivo_xml import (
    Conference,
    Dial,
    GetDigits,
    Hangup,
    Number,
    Redirect,
    Speak,
    Stream,
    User,
    render,
)
from rtcore.tokens import MediaToken, issue

__all__ = [
    "TOKEN_LIFE_S",
    "Links",
    "brief",
    "busy",
    "dial",
    "goodbye",
    "join_as_caller",
    "join_as_human",
    "listen",
    "overflow",
    "rejected",
    "sorry",
    "stream",
    "too_late",
]

TOKEN_LIFE_S = 120.0  # the document is run as soon as it is read; a slow network has retries
INSISTS = "#rc=5&rp=ct,rt,5xx"  # retries: nothing else tells the end (Plivo's URL fragments)
OVERFLOW_RING_S = 45
KEY_WAIT_S = 8  # for a key, each of two times
SUMMARY_MAX_CHARS = 1500  # some 100 s
TOO_LATE = "The caller has hung up."
SORRY = "We are sorry, an application error has occurred. Please call again later."


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Where the carrier reaches us: public URLs, without a slash at the end."""

    base: str
    media_base: str = ""  # of the media sockets, where they have a port of their own

    def answer(self, agent_id: str, call_id: str | None = None) -> str:
        return self._of("answer", agent_id, call_id)

    def hangup(self, agent_id: str, call_id: str | None = None) -> str:
        return self._of("hangup", agent_id, call_id) + INSISTS

    def fallback(self, agent_id: str) -> str:
        return f"{self.base}/plivo/fallback/{agent_id}"

    def of_call(self, what: str, call_id: str) -> str:
        """``after``, ``ring``, ``machine`` or ``dial-result`` of one call."""
        return f"{self.base}/plivo/{what}/{call_id}"

    def of_human(self, what: str, call_id: str, attempt: str) -> str:
        """``answer``, ``key``, ``over``, ``ring`` or ``talked`` of the human fetched for a call."""
        return f"{self.base}/plivo/human-{what}/{call_id}?attempt={attempt}"

    def media(self, token: str) -> str:
        base = self.media_base or self.base
        return f"ws{base.removeprefix('http')}{MEDIA_PATH}{token}"

    def _of(self, what: str, agent_id: str, call_id: str | None) -> str:
        call = f"?call={call_id}" if call_id is not None else ""  # under the signature
        return f"{self.base}/plivo/{what}/{agent_id}{call}"


def stream(links: Links, secret: bytes, call: StoredCall, now_s: float) -> bytes:
    """Open the audio; when it is over, ask what next."""
    if call.plan.listening is not None:
        return listen(links, secret, call, call.plan.listening, now_s)
    return render(
        Stream(
            url=_media_url(links, secret, call, now_s),
            status_callback_url=f"{links.base}/plivo/stream-status",
            status_callback_method="POST",
        ),
        Redirect(url=links.of_call("after", call.id), method="POST"),
    )


def listen(
    links: Links, secret: bytes, call: StoredCall, listening: Listening, now_s: float
) -> bytes:
    """Open the audio one way; the call goes on meanwhile, if there is somewhere for it to go."""
    ours = call.to_number if call.direction == "inbound" else call.from_number
    goes_on: Dial | Redirect
    if listening.dial:
        goes_on = Dial(
            children=(_target(listening.dial),),
            action=links.of_call("dial-result", call.id),
            method="POST",
            redirect=True,
            timeout=listening.dial_timeout_s,
            caller_id=ours,
        )
    elif listening.then_url:
        goes_on = Redirect(url=listening.then_url, method="POST")
    else:
        goes_on = Redirect(url=links.of_call("after", call.id), method="POST")
    return render(
        Stream(
            url=_media_url(links, secret, call, now_s),
            bidirectional=False,
            keep_call_alive=not (listening.dial or listening.then_url),
            audio_track=listening.track,
            status_callback_url=f"{links.base}/plivo/stream-status",
            status_callback_method="POST",
        ),
        goes_on,
    )


def _media_url(links: Links, secret: bytes, call: StoredCall, now_s: float) -> str:
    assert call.carrier_id is not None
    assert call.media_nonce is not None
    token = MediaToken(
        call_id=call.carrier_id,
        agent_id=call.agent_id,
        expires_s=now_s + TOKEN_LIFE_S,
        nonce=call.media_nonce,
    )
    return links.media(issue(secret, token))


def dial(links: Links, call: StoredCall, transfer: Transfer) -> bytes:
    """Ring a human; the result is asked for, so that the agent can take the caller back."""
    return render(
        Dial(
            children=(_target(transfer.to),),
            action=links.of_call("dial-result", call.id),
            method="POST",
            redirect=True,
            timeout=transfer.ring_timeout_s,
            caller_id=transfer.caller_id,
        )
    )


def _target(to: str) -> Number | User:
    return User(sip_uri=to) if to.startswith("sip") else Number(number=to)


def brief(links: Links, call: StoredCall, transfer: Transfer) -> bytes:
    """Tell a human what a caller wants, and ask for the key that takes the call."""
    question = GetDigits(
        children=(Speak(text=_speakable(transfer.summary)),),
        action=links.of_human("key", call.id, transfer.attempt),
        method="POST",
        redirect=True,
        num_digits=1,
        valid_digits="12",
        timeout=KEY_WAIT_S,
        retries=2,
    )
    return render(question, Hangup())


def join_as_human(attempt: str) -> bytes:
    """Wait in the room for the caller; it is over with whoever leaves first."""
    return render(Conference(room=_room(attempt), end_conference_on_exit=True))


def join_as_caller(links: Links, call: StoredCall, transfer: Transfer) -> bytes:
    """Go to the room where the human waits."""
    return render(
        Conference(
            room=_room(transfer.attempt),
            end_conference_on_exit=True,
            action=links.of_human("talked", call.id, transfer.attempt),
            method="POST",
            redirect=True,
        )
    )


def too_late() -> bytes:
    """There is no caller (any more) for this human."""
    return render(Speak(text=TOO_LATE), Hangup())


def _room(attempt: str) -> str:
    return f"rtcore-{attempt}"


def _speakable(text: str) -> str:
    """``text`` without what XML does not know, and short enough to be listened to."""
    return "".join(c for c in text[:SUMMARY_MAX_CHARS] if c.isprintable() or c.isspace())


def busy() -> bytes:
    """No room: the caller hears a busy tone and pays nothing."""
    return render(Hangup(reason="busy"))


def overflow(to: str) -> bytes:
    """No room: ring who takes such calls, as if the caller had."""
    return render(Dial(children=(_target(to),), timeout=OVERFLOW_RING_S))


def rejected() -> bytes:
    """Nobody here answers this number."""
    return render(Hangup(reason="rejected"))


def goodbye() -> bytes:
    """End the call."""
    return render(Hangup())


def sorry() -> bytes:
    """The last resort, when we could not be reached a moment ago."""
    return render(Speak(text=SORRY), Hangup())
