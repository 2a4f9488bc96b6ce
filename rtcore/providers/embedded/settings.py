"""What can be chosen of the embedded providers, and what they need installed."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import msgspec
from msgspec import Meta

from rtcore.errors import ConfigError

__all__ = ["RecogniserSettings", "VoiceSettings", "require_extra"]


class VoiceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A voice of espeak-ng; ``name`` may carry a variant, as in ``en-us+f3``."""

    name: str = "en-us+f3"
    words_per_minute: Annotated[int, Meta(ge=80, le=450)] = 165
    pitch: Annotated[int, Meta(ge=0, le=99)] = 50
    workers: Annotated[int, Meta(ge=1, le=64)] = 1  # one speaks 1000 times faster than life


class RecogniserSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many calls can be listened to at once: ``workers`` times ``calls_per_worker``."""

    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    calls_per_worker: Annotated[int, Meta(ge=1, le=64)] = 16  # each talker takes 3 % of a core


def require_extra(module: str) -> None:
    """Check that ``module``, a part of the optional extra, can be imported.

    Raises:
        ConfigError: it cannot; the message says what to install.
    """
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            "embedded", f"{module} is not installed: pip install '.[embedded]' in the checkout"
        )
