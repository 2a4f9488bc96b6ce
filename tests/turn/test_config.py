"""Settings: limits in the types, presets that exist, are valid and are documented."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from rtcore.errors import ConfigError
from rtcore.turn import TurnConfig, TurnDetector
from rtcore.turn.config import PRESETS

PAGE = Path(__file__).parents[2] / "docs" / "turn-taking.md"


def test_balanced_is_the_default() -> None:
    assert TurnConfig.preset("balanced") == TurnConfig()


def test_presets_are_ordered_by_patience() -> None:
    eager, balanced, patient = (TurnConfig.preset(name) for name in PRESETS)  # type: ignore[arg-type]
    for name in ("complete_ms", "unsure_ms", "unfinished_ms", "confirm_ms"):
        assert getattr(eager, name) < getattr(balanced, name) < getattr(patient, name), name
    # nothing begins before speech has stopped
    assert eager.stop_ms == eager.eager_ms == balanced.eager_ms < patient.eager_ms


def test_a_number_can_be_overridden() -> None:
    config = TurnConfig.preset("patient", eager_ms=400)
    assert (config.eager_ms, config.unsure_ms) == (400, TurnConfig.preset("patient").unsure_ms)


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"eager_ms": 5}, "eager_ms"),
        ({"no_such": 1}, "no_such"),
        ({"complete_ms": 4000}, "complete"),
    ],
)
def test_what_cannot_be_used_is_named(overrides: dict[str, int], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        TurnConfig.preset("balanced", **overrides)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ConfigError, match="hasty"):
        TurnConfig.preset("hasty")  # type: ignore[arg-type]


def test_settings_survive_json() -> None:
    config = TurnConfig.preset("patient")
    assert msgspec.json.decode(msgspec.json.encode(config), type=TurnConfig) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_change_in_mid_call(preset: str) -> None:
    detector = TurnDetector()
    detector.push(bytes(320))
    assert detector.configure(TurnConfig.preset(preset)) == []  # type: ignore[arg-type]


def test_the_page_for_operators_shows_the_presets_as_they_are() -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    )
    shown = {name for preset in PRESETS.values() for name in preset}
    for name in shown:
        cells = [cell.strip() for cell in rows[name].split("|")]
        wanted = [getattr(TurnConfig.preset(preset), name) for preset in PRESETS]  # type: ignore[arg-type]
        assert [int(cell.replace(",", "")) for cell in cells[:3]] == wanted, name
