"""Voice over our own speech: suspected, then confirmed or dismissed."""

from __future__ import annotations

import enum

from rtcore.turn.config import TurnConfig
from rtcore.turn.vad import VoiceSpell

__all__ = ["BargeIn", "Verdict"]

SAMPLES_PER_MS = 8
FRAME_SAMPLES = 160
VOICED_SHARE = 0.6  # of the frames since the onset: speech has short gaps, clicks long ones
LIVELY_SHARE = 0.35  # of the voiced frames: coughs have no pitch, tunes hold it
TUNE_SHARE = 0.15  # less, and it need not be waited for any longer
RECENT_SAMPLES = 16_000  # words may come up to 2 s after the voice they belong to


class Verdict(enum.Enum):
    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"
    BLIP = "blip"
    NO_WORDS = "no_words"
    BACKCHANNEL = "backchannel"


class BargeIn:
    """Weighs the evidence of one spell of voice at a time, frame by frame and word by word."""

    __slots__ = (
        "_config",
        "_doubled_until",
        "_from",
        "_heard",
        "_lively",
        "_muted",
        "_since",
        "_voiced",
        "pending",
    )

    def __init__(self, config: TurnConfig) -> None:
        self._config = config
        self.pending = False
        self._muted = False  # this spell was dismissed: only words can revive it
        self._heard = False  # there was voice since the agent began to speak
        self._from = 0  # where the evidence begins
        self._since = 0  # when it was suspected
        self._doubled_until = 0
        self._voiced = self._lively = 0

    def configure(self, config: TurnConfig) -> None:
        self._config = config

    def agent_speaks(self, now: int, spell: VoiceSpell) -> None:
        """The agent takes the floor: only voice from here on counts against it."""
        self.clear()
        self.sound_began(now)
        self._heard = spell.active
        self._from = now
        self._voiced = self._lively = 0

    def sound_began(self, now: int) -> None:
        """Our speech has just become audible: its echo is not yet known."""
        self._doubled_until = now + self._config.edge_ms * SAMPLES_PER_MS

    def spell_started(self, spell: VoiceSpell) -> None:
        self._muted = False
        self._heard = True
        if not self.pending:
            self._from = spell.onset_sample
            self._voiced = self._lively = spell.voiced_frames - 1  # the frame itself follows

    def clear(self) -> None:
        self.pending = self._muted = False

    def weigh(
        self, now: int, spell: VoiceSpell, voiced: bool, lively: bool, *, streaming: bool
    ) -> Verdict | None:
        """One frame of evidence while we speak.

        ``streaming``: a recogniser gives words while the caller talks, so one will confirm.
        """
        config = self._config
        self._voiced += voiced
        self._lively += voiced and lively
        doubled = 2 if spell.onset_sample < self._doubled_until else 1
        if not self.pending:
            if self._muted or not spell.active or config.barge_in in ("words", "off"):
                return None
            if self._voiced * 20 >= config.suspect_ms * doubled:
                return self._suspect(now)
            return None
        if now - spell.end_sample >= config.blip_quiet_ms * SAMPLES_PER_MS:
            return self._dismiss(Verdict.BLIP)
        elapsed = now - self._from
        confirm_ms = config.confirm_ms
        if streaming and config.barge_in == "mixed":
            confirm_ms = config.confirm_streaming_ms
        if elapsed >= confirm_ms * doubled * SAMPLES_PER_MS and self._is_dense(elapsed):
            if self._lively >= LIVELY_SHARE * self._voiced:
                self.clear()
                return Verdict.CONFIRMED
            if self._lively < TUNE_SHARE * self._voiced:
                return self._dismiss(Verdict.NO_WORDS)
        if now - self._since >= config.no_words_ms * SAMPLES_PER_MS:
            return self._dismiss(Verdict.NO_WORDS)
        return None

    def _is_dense(self, elapsed: int) -> bool:
        return self._voiced * FRAME_SAMPLES >= VOICED_SHARE * elapsed

    def words(
        self, now: int, spell: VoiceSpell, real: int, *, is_backchannel: bool
    ) -> Verdict | None:
        """Words of the caller while we speak; of old ones (no voice near) nothing follows."""
        if self._config.barge_in in ("voice", "off"):
            return None
        if not self._heard:
            return None
        if not spell.active and now - spell.end_sample > RECENT_SAMPLES:
            return None
        if real >= self._config.min_words:
            self.clear()
            return Verdict.CONFIRMED
        if self.pending and is_backchannel:
            return self._dismiss(Verdict.BACKCHANNEL)
        return None

    def _suspect(self, now: int) -> Verdict:
        self.pending = True
        self._since = now
        return Verdict.SUSPECTED

    def _dismiss(self, verdict: Verdict) -> Verdict:
        self.pending = False
        self._muted = True
        return verdict
