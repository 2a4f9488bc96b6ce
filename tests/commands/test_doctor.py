"""``rtcore doctor``: what it looks at, and what it never shows."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from rtcore.commands.doctor import Finding, examine, report

ROOT = Path(__file__).parent.parent.parent
OPERATING = ROOT / "docs" / "operating.md"


def test_every_setting_of_the_environment_that_operators_are_told_of_is_looked_at() -> None:
    told = re.findall(r"^\| `(RTCORE_\w+)` \|", OPERATING.read_text(), re.MULTILINE)
    assert len(told) >= 4
    states = " ".join(found.state for found in examine())
    assert [name for name in told if f"{name} is" not in states] == []


def test_a_key_is_told_to_be_set_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("RTCORE_PLIVO_AUTH_ID", "MAXXXXXXXXXXXXXXXXXX")
    monkeypatch.delenv("RTCORE_SECRET_KEYS", raising=False)
    report(as_json=True)
    printed = capfdbinary.readouterr().out
    assert b"MAXX" not in printed
    found = {each.state: each.is_well for each in msgspec.json.decode(printed, type=list[Finding])}
    assert found["RTCORE_PLIVO_AUTH_ID is set"]
    assert not found["RTCORE_SECRET_KEYS is not set"]
    (fix,) = (each.fix for each in examine() if each.state.startswith("RTCORE_SECRET_KEYS"))
    assert "rtcore keys secret" in fix
