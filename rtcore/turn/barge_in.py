"""Voice over our own speech: suspected, then confirmed or dismissed."""

from __future__ import annotations

import enum

from rtcore.turn._every_frame import VoiceSpell
from rtcore.turn._guard import LIVELY, LOUD, PERIODIC, STEADY
from rtcore.turn.config import TurnConfig

__all__ = ["BargeIn", "Verdict"]

SAMPLES_PER_MS = 8
FRAME_SAMPLES = 160
NOD_QUIET_SAMPLES = 960  # 120 ms: the gaps between words spoken in one breath are shorter
RECENT_SAMPLES = 16_000  # words may come up to 2 s after the voice they belong to

# Shares of the frames, over the first 300 to 400 ms of 96 interruptions and 240 noises; the
# 5th to 95th percentile of what each has to show:           voice      knocks  coughs  music
VOICED_SHARE = 0.45  # of all since the onset                .58-1.0    .1-.4   .2-.8   1.0
LIVELY_SHARE = 0.25  # of the voiced: the pitch moves        .41-.9     .3-1.0  0-.3    .1-.2
STEADY_SHARE = 0.6  # of the voiced: the pitch is a note's   0-.48      0-.5    0       .7-.9
TUNE_SHARE = 0.2  # of the voiced, lively, where most are steady: a voice holding a vowel has more
NOISE_SHARE = 0.1  # of the voiced, lively: less need not be waited for
ROUGH_SHARE = 0.15  # of the voiced, periodic: what a hoarse voice still has and hiss has not
JUDGED_FRAMES = 15  # 300 ms: the first look at what a suspicion rests on
CARRIED_FRAMES = 6  # 120 ms of it: blows and clicks are over sooner
CARRIED_SAMPLES = 8_000  # within 1 s of a dismissal it is the same caller who tries again


class Verdict(enum.Enum):
    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"
    BLIP = "blip"
    NO_WORDS = "no_words"
    BACKCHANNEL = "backchannel"


class Evidence:
    """The frames of a stretch of voice, by what they show."""

    __slots__ = ("frames", "lively", "periodic", "steady", "voiced")

    def __init__(self) -> None:
        self.restart(0)

    def restart(self, voiced: int) -> None:
        """Begin with ``voiced`` frames of an onset, of which only that is known."""
        self.frames = self.voiced = voiced
        self.lively = self.periodic = self.steady = 0

    def add(self, voiced: bool, flags: int) -> None:
        self.frames += 1
        if voiced:
            self.voiced += 1
            self.lively += flags & LIVELY != 0
            self.steady += flags & STEADY != 0
            self.periodic += flags & PERIODIC != 0

    @property
    def is_dense(self) -> bool:
        return self.voiced >= VOICED_SHARE * self.frames

    @property
    def is_lively(self) -> bool:
        return self.lively >= LIVELY_SHARE * self.voiced

    @property
    def is_noise(self) -> bool:
        return self.lively < NOISE_SHARE * self.voiced

    @property
    def is_tune(self) -> bool:
        return self.steady >= STEADY_SHARE * self.voiced and self.lively < TUNE_SHARE * self.voiced

    @property
    def is_rough(self) -> bool:
        """No clear voice, but neither hiss nor a note: what lasts like that is somebody."""
        return self.periodic >= ROUGH_SHARE * self.voiced and not self.is_tune


class BargeIn:
    """Weighs the evidence of the caller's voice over ours, frame by frame and word by word."""

    __slots__ = (
        "_config",
        "_dismissed_at",
        "_doubled_until",
        "_evidence",
        "_heard",
        "_muted",
        "_nods",
        "_since",
        "pending",
    )

    def __init__(self, config: TurnConfig) -> None:
        self._config = config
        self.pending = False
        self._evidence = Evidence()
        self._muted = False  # this spell was dismissed: it takes more to revive it
        self._nods = False  # the words so far only say "go on"
        self._heard = False  # there was voice since the agent began to speak
        self._since = 0  # when it was suspected, or dismissed
        self._dismissed_at = -CARRIED_SAMPLES  # what was speech all the same
        self._doubled_until = 0

    def configure(self, config: TurnConfig) -> None:
        self._config = config

    def may_suspect(self, spell: VoiceSpell) -> bool:
        """Whether more voice may rouse a suspicion: none is pending, nor was this one dismissed."""
        return not self.pending and not (self._muted and spell.active)

    def agent_speaks(self, now: int, spell: VoiceSpell) -> None:
        """The agent takes the floor: only voice from here on counts against it."""
        self.clear()
        self.sound_began(now)
        self._heard = spell.active
        self._evidence.restart(0)

    def sound_began(self, now: int) -> None:
        """Our speech has just become audible: its echo is not yet known."""
        self._doubled_until = now + self._config.edge_ms * SAMPLES_PER_MS

    def spell_started(self, spell: VoiceSpell) -> None:
        self._muted = False
        self._heard = True
        if self.pending:
            return
        onset = spell.voiced_frames - 1  # the frame itself follows
        if spell.onset_sample - self._dismissed_at > CARRIED_SAMPLES:
            self._evidence.restart(onset)
        else:
            for _ in range(onset):
                self._evidence.add(True, 0)

    def clear(self) -> None:
        self.pending = self._muted = False
        self._dismissed_at = -CARRIED_SAMPLES

    def weigh(
        self, now: int, spell: VoiceSpell, voiced: bool, flags: int, *, streaming: bool
    ) -> Verdict | None:
        """One frame of evidence while we speak.

        ``streaming``: a recogniser gives words while the caller talks, so one will confirm.
        """
        config, evidence = self._config, self._evidence
        if not self.pending and (not spell.active or config.barge_in in ("words", "off")):
            return None
        evidence.add(voiced, flags)
        doubled = 2 if spell.onset_sample < self._doubled_until else 1
        confirm_ms = config.confirm_ms
        if streaming and config.barge_in == "mixed":
            confirm_ms = config.confirm_streaming_ms
        if self._muted:
            return self._weigh_again(now, confirm_ms)
        if not self.pending:
            is_loud = flags & LOUD != 0  # counts for two, as in VoiceSpell.push
            if (evidence.voiced + is_loud) * 20 >= config.suspect_ms * doubled:
                return self._suspect(now)
            return None
        quiet = now - spell.end_sample
        if quiet >= config.blip_quiet_ms * SAMPLES_PER_MS:
            return self._dismiss(Verdict.BLIP, now, quiet // FRAME_SAMPLES)
        if self._nods and (verdict := self._weigh_nod(now, spell)):
            return verdict
        if (
            evidence.frames * 20 >= confirm_ms * doubled
            and evidence.is_dense
            and evidence.is_lively
        ):
            return self._confirm()
        if evidence.frames >= JUDGED_FRAMES:
            if not evidence.is_dense:
                return self._dismiss(Verdict.BLIP, now)
            if evidence.is_noise or evidence.is_tune:
                return self._dismiss(Verdict.NO_WORDS, now)
        if now - self._since >= config.no_words_ms * SAMPLES_PER_MS:
            if evidence.is_rough:
                return self._confirm()
            return self._dismiss(Verdict.NO_WORDS, now)
        return None

    def _weigh_again(self, now: int, confirm_ms: int) -> Verdict | None:
        """Voice that goes on after its dismissal: who does not stop gets the floor in the end."""
        evidence, waited_ms = self._evidence, (now - self._since) // SAMPLES_PER_MS
        if waited_ms < confirm_ms:
            return None
        if evidence.is_dense and evidence.is_lively:
            return self._confirm()
        if not evidence.is_dense or evidence.is_tune:
            self._listen_again(now)
        elif waited_ms >= self._config.no_words_ms:
            if evidence.is_rough:
                return self._confirm()
            self._listen_again(now)
        return None

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
            return self._confirm()
        self._nods = is_backchannel
        return self._weigh_nod(now, spell)

    def _weigh_nod(self, now: int, spell: VoiceSpell) -> Verdict | None:
        """A "yes" alone lets us go on; one still being spoken may be "yes, but"."""
        if self.pending and self._nods and now - spell.end_sample >= NOD_QUIET_SAMPLES:
            return self._dismiss(Verdict.BACKCHANNEL, now)
        return None

    def _suspect(self, now: int) -> Verdict:
        self.pending = True
        self._nods = False
        self._since = now
        return Verdict.SUSPECTED

    def _confirm(self) -> Verdict:
        self.clear()
        return Verdict.CONFIRMED

    def _dismiss(self, verdict: Verdict, now: int, quiet_frames: int = 0) -> Verdict:
        self.pending = False
        self._muted = True
        evidence = self._evidence
        is_speech = evidence.is_lively and evidence.voiced >= CARRIED_FRAMES
        if is_speech and verdict is not Verdict.BACKCHANNEL:
            self._dismissed_at = now
            evidence.frames -= quiet_frames
        else:
            self._listen_again(now)
        return verdict

    def _listen_again(self, now: int) -> None:
        self._since = now
        self._evidence.restart(0)
