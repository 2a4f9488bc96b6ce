"""``rtcore fake-plivo``: which numbers it can have."""

from __future__ import annotations

import pytest

from rtcore.cli import app
from rtcore.commands.fake_plivo import FakePlivoOptions
from rtcore.errors import ConfigError


@pytest.mark.parametrize("number", ["abc", "", "+", "0123456", "+1 415 555 0199", "1" * 16])
def test_what_is_no_telephone_number_is_refused(number: str) -> None:
    with pytest.raises(ConfigError, match=r"^number: .* is no telephone number: .* \+14155550199"):
        app(["fake-plivo", "--number", "14155550199", "--number", number], standalone_mode=False)


def test_a_number_may_be_said_with_its_plus() -> None:
    assert FakePlivoOptions(numbers=("+14155550199", "4940123456")).port == 9090
