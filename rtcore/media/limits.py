"""What bounds one media socket: octets, seconds, and why."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["SocketLimits"]

Seconds = Annotated[float, Meta(gt=0, le=60)]


class SocketLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of a media socket, the same for both fillings."""

    # a signed URL and a proxy's headers take under 4 KiB; h11 has the same default
    head_max_bytes: Annotated[int, Meta(ge=1024, le=65_536)] = 16_384
    # from accepting to a whole request head: what trickles slower is refused
    handshake_limit_s: Seconds = 5.0
    # 20 ms of media is 0.4 kB; the largest a carrier documents is 16 kB of base64
    message_max_bytes: Annotated[int, Meta(ge=125, le=2**30)] = 65_536
    # read in one wake-up: 40 media messages, so one flooding peer cannot hold up the others
    receive_max_bytes: Annotated[int, Meta(ge=1024, le=2**20)] = 16_384
    # kept for a peer that does not read: 6 s of 20 ms mu-law messages; past it they are refused
    outbox_max_bytes: Annotated[int, Meta(ge=1024, le=2**30)] = 65_536
    # taken by the kernel but not yet sent (TCP_NOTSENT_LOWAT): 0.7 s of such messages. More
    # would lie where a flush can no longer discard it
    unsent_max_bytes: Annotated[int, Meta(ge=1024, le=2**20)] = 8_192
    # nothing at all taken by the peer for so long: it is gone
    send_stall_s: Seconds = 5.0
    # writing the close, then waiting for the peer's: of a call nothing is left after 100 ms; a
    # peer further away than this reads our close all the same, only unanswered
    close_limit_s: Seconds = 0.08
