"""Settings made in Python are held to the same limits as those that are read."""

from __future__ import annotations

import msgspec
import pytest

from rtcore.admission import MediaGate
from rtcore.config import CallConfig, checked
from rtcore.errors import ConfigError
from rtcore.media.limits import SocketLimits
from rtcore.node import Node, NodeConfig
from rtcore.turn import TurnConfig


def node_with(**fields: object) -> Node:
    return Node(MediaGate({}).admit, NodeConfig(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"socket": "quick"}, "^socket: 'quick' is none of fast, portable$"),
        ({"voice": None}, "^voice: None is none of webrtc, silero$"),
        ({"calls_max": 0}, "^calls_max: 0 .*>= 1"),
        ({"drain_s": "60"}, "^drain_s: '60' .*`float`"),
        ({"call": CallConfig(lead_ms=1)}, "^call.lead_ms: 1 .*>= 80"),
        ({"call": CallConfig(turn=TurnConfig(start_ms=1))}, "^call.turn.start_ms: 1 .*>= 20"),
        ({"call": SocketLimits()}, "^call: .*cannot be used"),
    ],
)
def test_a_node_refuses_what_a_setting_may_not_be(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        node_with(**fields)


def test_what_may_be_is_left_as_it_is() -> None:
    config = NodeConfig(
        socket="portable", drain_s=5, call=CallConfig(turn=TurnConfig(idle_ms=2000))
    )
    assert checked(config) is config


def test_a_setting_that_is_none_of_a_few_words_tells_its_type() -> None:
    class Odd(msgspec.Struct):
        names: tuple[str, ...] = ()

    with pytest.raises(ConfigError, match=r"^names: .*`str`"):
        checked(Odd(names=(1,)))  # type: ignore[arg-type]
