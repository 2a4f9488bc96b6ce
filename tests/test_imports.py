"""Imports point down, never up or sideways: the table of the style guide, held."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRIO_FREE = ("trio", "socket", "time", "logging", "structlog", "random")

# room -> what its modules may import of rtcore (None: anything below `api`)
ALLOWED: dict[str, set[str] | None] = {
    "errors": set(),
    "channels": set(),
    "audio": {"errors", "_audio", "_audio_py", "_streams"},
    "protocol": {"errors", "audio", "protocol", "_audio"},
    "turn": {"errors", "audio", "turn", "_audio"},
    "_far_end_py": {"audio", "media"},
    "ledger": {"_far_end", "errors", "audio"},
    "usage": set(),
    "weakly": set(),
    "ports": {"errors", "audio", "turn", "usage"},
    "rotation": {"errors", "usage"},
    "speech_port": {"ports", "rotation"},
    "config": {"errors", "audio", "turn"},
    "journal": {"errors", "audio"},
    "metrics": {"errors", "audio"},
    "media": {"errors", "audio", "protocol", "ports", "config", "ledger", "media", "metrics"},
    "agent": {
        "agent", "channels", "config", "errors", "ledger", "ports", "speech_port", "turn", "usage",
    },
    "_way_in_py": {"_far_end", "ears", "media", "ports", "protocol", "speech_link", "turn"},
    "call": {
        "_way_in", "agent", "answering", "audio", "config", "conversing", "ears", "errors",
        "journal", "media", "metrics", "ports", "protocol", "speech_link", "turn", "usage",
        "weakly",
    },
    "conversing": {
        "agent", "answering", "ears", "media", "model_floor", "model_reply", "model_session",
        "model_turns", "speech_link", "speech_port", "turn", "weakly",
    },
    "model_floor": {
        "agent", "answering", "errors", "ledger", "media", "metrics", "model_ears",
        "model_hands", "model_lines", "model_mouth", "model_replies", "model_reply",
        "model_turns", "reply", "speech_link", "speech_port", "turn", "usage",
        "weakly",
    },
    "model_ears": {"agent", "answering", "metrics", "ports", "speech_link", "speech_port"},
    "model_hands": {
        "agent", "answering", "model_reply", "ports", "reply", "speech_link", "speech_port",
        "weakly",
    },
    "model_mouth": {
        "agent", "answering", "audio", "errors", "ledger", "model_reply", "ports", "reply",
        "speech_port",
    },
    "model_lines": {
        "answering", "model_replies", "model_reply", "reply", "speech_link", "speech_port",
    },
    "model_replies": {
        "agent", "answering", "metrics", "model_hands", "model_mouth", "model_reply", "reply",
        "speech_link", "speech_port", "usage",
    },
    "model_session": {
        "agent", "answering", "model_ears", "model_lines", "model_mouth", "model_replies",
        "model_reply", "model_turns", "ports", "reply", "speech_link", "speech_port", "turn",
    },
    "model_turns": {
        "answering", "audio", "metrics", "model_ears", "model_mouth", "model_replies",
        "model_reply", "reply", "speech_link", "speech_port", "turn",
    },
    "model_reply": {"agent", "ports", "reply"},
    "speech_link": {
        "audio", "config", "ears", "errors", "metrics", "ports", "rotation", "speech_port", "turn",
        "usage",
    },
    "answering": {
        "agent", "config", "errors", "ledger", "media", "metrics", "ports", "reply", "turn",
        "weakly",
    },
    "hearing": {"ports"},
    "ears": {"audio", "config", "errors", "hearing", "metrics", "ports", "turn", "usage"},
    "reply": {
        "_far_end",
        "agent", "audio", "channels", "config", "errors", "ledger", "media", "metrics", "ports",
        "usage",
    },
    "providers": {
        "audio", "channels", "config", "errors", "ports", "providers", "rotation", "speech_port",
        "usage",
    },
}  # fmt: skip
NO_IO = ("audio", "protocol", "turn", "ledger", "errors", "usage")


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "rtcore").parts
    return parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names.add(module)
            if module in ("rtcore", "api"):
                names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


MODULES = sorted((ROOT / "rtcore").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    names = imported(path)
    if room not in ("cli",):
        assert not [n for n in names if n == "api" or n.startswith("api.")], "core imports api"
    if room in NO_IO:
        assert not [n for n in names if n.split(".")[0] in TRIO_FREE], f"{room} does I/O"
    allowed = ALLOWED.get(room)
    if allowed is None:
        return
    for name in names:
        if name.startswith("rtcore."):
            assert name.split(".")[1] in allowed, f"{room} imports {name}"


def test_a_provider_imports_no_other_provider() -> None:
    """What several share lies in an underscored module of theirs; a provider may be a package."""
    providers = ROOT / "rtcore" / "providers"
    for path in providers.rglob("*.py"):
        own = path.relative_to(providers).parts[0].removesuffix(".py")
        for name in imported(path):
            if name.startswith("rtcore.providers.") and not path.stem.startswith("_"):
                other = name.split(".")[2]
                assert other == own or other.startswith("_"), f"{path.stem} imports {name}"
