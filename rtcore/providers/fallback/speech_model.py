"""A list of speech-to-speech models as one: the next goes on with the conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rtcore.errors import ConfigError
from rtcore.providers.fallback.breaker import Breakers
from rtcore.providers.fallback.service import FallbackService
from rtcore.speech_port import SpeechModel

__all__ = ["FallbackSpeechModel"]


class FallbackSpeechModel(FallbackService[SpeechModel]):
    """Models in order; fills :class:`rtcore.speech_port.SpeechModels`.

    Only the call knows what was heard of the conversation, so the call itself goes through the
    list: when a session is lost, the next one's is told what was said and, as sound, what the
    caller said and nobody answered. A list of one opens another session of the same.
    """

    def __init__(
        self,
        members: Sequence[SpeechModel],
        *,
        breakers: Breakers | None = None,
        keys: Sequence[str] | None = None,
        name: str = "fallback_speech_model",
    ) -> None:
        """
        Raises:
            ConfigError: they differ in whose turns they go by.
        """
        super().__init__(name, members, breakers, keys)
        for place, member in enumerate(self.members):
            if member.turns != self.turns:
                what = f"must be {self.turns!r} as of the first: a call cannot change it midway"
                raise ConfigError(f"speech_model[{place}].turns", what)

    @property
    def turns(self) -> Literal["ours", "theirs"]:
        """Whose turns all of them go by."""
        return self.members[0].turns
