"""Who has the floor: joins voice, words, keys and the agent's state into decisions."""

from __future__ import annotations

from rtcore.turn._every_frame import (
    FAR_GAP_SAMPLES,
    STARTED,
    STOPPED,
    FrameWatch,
    VoiceSpell,
)
from rtcore.turn._guard import Guard
from rtcore.turn.barge_in import BargeIn, Verdict
from rtcore.turn.completeness import FREE, Expectation
from rtcore.turn.config import TurnConfig
from rtcore.turn.endpointing import NEVER, Endpointer
from rtcore.turn.events import (
    AgentState,
    BargeInConfirmed,
    BargeInDismissed,
    BargeInSuspected,
    Event,
    SpeechStarted,
    SpeechStopped,
    Transcript,
    TurnEager,
    TurnEnded,
    TurnResumed,
)
from rtcore.turn.floor import FloorWatch
from rtcore.turn.vad import VoiceDetector
from rtcore.turn.webrtc import WebRtcVoice
from rtcore.turn.words import TurnWords

__all__ = ["TurnDetector"]

SAMPLES_PER_MS = 8
TONE_TAIL_SAMPLES = 960  # 120 ms: the in-band rest of a key whose event has come
RELIEF_DB = 3.0  # what has begun as voice may go on a little softer
RECENT_SAMPLES = 480  # 60 ms: a voice pauses no longer inside a syllable
STIRRING_SAMPLES = 800  # a commit waits so long for what may be the caller going on

LISTENING, THINKING, SPEAKING = AgentState.LISTENING, AgentState.THINKING, AgentState.SPEAKING


class TurnDetector(FrameWatch):
    """One call's turn-taking: frames and facts in, decisions out; no clock, no I/O.

    Call :meth:`push` once for each 20 ms frame of the caller, in order. Time is the number of
    samples pushed. All other methods may be called at any moment between frames; each returns
    the decisions it led to. If :meth:`agent` is never called, the agent is taken to speak
    while ``far`` is audible. Without ``voice`` webrtcvad is used.
    """

    def __init__(
        self, config: TurnConfig | None = None, *, voice: VoiceDetector | None = None
    ) -> None:
        self._config = config = TurnConfig() if config is None else config
        self._voice = WebRtcVoice(config.vad_mode) if voice is None else voice
        spell = VoiceSpell(config.start_ms, config.stop_ms)
        super().__init__(Guard(), self._voice.push, spell, Endpointer(config))
        self._barge = BargeIn(config)
        self._floor = FloorWatch(config)
        self._words = TurnWords(config.language)
        self._agent = LISTENING
        self._is_inferred = True  # nobody has told us the agent's state
        self._is_over = False
        self._keyed = 0  # digits entered in this turn
        self._keys_wait = False  # some were pressed before we began to speak: still to be answered
        self._tune()

    @property
    def now_samples(self) -> int:
        """Samples of the caller's audio pushed so far: what every position refers to."""
        return self._now

    @property
    def agent_state(self) -> AgentState:
        """What the agent does, as told or inferred; ``TurnEnded`` makes it think."""
        return self._agent

    @property
    def is_turn_open(self) -> bool:
        """Whether the caller has the floor; never while the agent speaks or thinks."""
        return self._turn.is_open

    @property
    def is_caller_audible(self) -> bool:
        """Whether the caller's voice is heard just now: no moment to begin to speak."""
        spell = self._spell
        is_voiced = spell.active and self._now - spell.end_sample <= RECENT_SAMPLES
        return is_voiced or spell.is_stirring

    @property
    def due_sample(self) -> int | None:
        """When something will be decided if nothing more is heard; None: the agent's move."""
        return None if self._due == NEVER else self._due

    # --- audio ------------------------------------------------------------------------------

    def _look(self, change: int, voiced: bool, flags: int, sounds: bool) -> list[Event]:
        """The rare path of :meth:`push`: something changed, is due, or must be weighed.

        ``sounds``: this is the first sound of ours for a while.
        """
        out: list[Event] = []
        if self._is_over:
            return out
        if sounds:
            self._our_sound_began(out)
        self._decide(change, voiced, flags, out)
        return self._settle(out)

    def _our_sound_began(self, out: list[Event]) -> None:
        self._barge.sound_began(self._now)
        if self._agent is SPEAKING:
            self._floor.await_sound(self._now)
        elif self._is_inferred:
            self._agent_becomes(SPEAKING, out)

    def _decide(self, change: int, voiced: bool, flags: int, out: list[Event]) -> None:
        spell = self._spell
        if change == STARTED:
            out.append(SpeechStarted(at_sample=spell.onset_sample))
            self._voice_on(out)
        if self._agent is SPEAKING:
            if spell.active or self._barge.pending:
                verdict = self._barge.weigh(
                    self._now,
                    spell,
                    voiced,
                    flags,
                    streaming=self._words.is_streaming,
                )
                self._act(verdict, out)
        elif (
            self._agent is THINKING
            and spell.active
            and spell.voiced_frames * 20 >= self._config.thinking_ms
        ):
            self._take_floor(spell.onset_sample, out)
        if change == STOPPED:
            out.append(SpeechStopped(at_sample=spell.end_sample))
            self._voice_off()
        self._run_timers(out)

    def _voice_on(self, out: list[Event]) -> None:
        self._barge.spell_started(self._spell)
        if self._agent is not LISTENING:
            return
        if not self._turn.is_open:
            self._open_turn(self._spell.onset_sample)
        if self._turn.is_eager:
            out.append(TurnResumed(at_sample=self._spell.onset_sample))
        self._turn.voice_on(self._spell.onset_sample)

    def _voice_off(self) -> None:
        if not self._turn.is_open:
            return
        self._words.voiced_frames += self._spell.voiced_frames
        if (
            self._words.voiced_frames * 20 < self._config.turn_min_voiced_ms
            and not self._words.has_words
        ):
            self._turn.close()
            self._floor.await_caller(self._now)
            return
        self._judge_words()
        self._turn.voice_off(self._spell.end_sample)

    # --- what others know -------------------------------------------------------------------

    def transcript(self, transcript: Transcript) -> list[Event]:
        """Take words from the recogniser, interim or final."""
        out: list[Event] = []
        if self._is_over:
            return out
        changed = self._words.add(transcript, self._now)
        if self._agent is SPEAKING and not self._is_protected:
            self._act(
                self._barge.words(
                    self._now,
                    self._spell,
                    self._words.real_words(transcript),
                    is_backchannel=self._words.is_backchannel(transcript),
                ),
                out,
            )
        elif self._turn.is_open:
            if self._turn.is_eager and changed:
                out.append(TurnResumed(at_sample=self._now))
                self._turn.restart_eager()
            self._judge_words()
            self._run_timers(out)
        elif self._agent is LISTENING and changed and self._words.real_words(transcript):
            self._open_turn(self._now)  # too soft for our ear, not for theirs
            self._judge_words()
            self._turn.voice_off(self._now)
        return self._settle(out)

    def agent(self, state: AgentState, interruptible: bool = True) -> list[Event]:
        """The agent's state changed; ``interruptible`` says whether what it speaks may be cut.

        While it speaks uninterruptibly the caller's audio counts as silence: no event, so
        nothing reaches a recogniser either.
        """
        out: list[Event] = []
        if self._is_over:
            return out
        self._is_inferred = False
        was_protected = self._is_protected
        protects = state is SPEAKING and not interruptible
        if protects and not was_protected:
            self._protect(out)
        elif was_protected and not protects:
            self._deaf_until = self._now
        self._agent_becomes(state, out)
        return self._settle(out)

    def dtmf(self, digits: str) -> list[Event]:
        """The caller pressed keys: the first interrupts, the last of those expected ends a turn."""
        out: list[Event] = []
        if self._is_over or self._is_protected:
            return out
        now = self._now
        self._deaf_until = max(self._deaf_until, now + TONE_TAIL_SAMPLES)
        if self._agent is not LISTENING:
            self._take_floor(now, out)
        elif not self._turn.is_open:
            self._open_turn(now)
        if self._turn.is_eager:
            out.append(TurnResumed(at_sample=now))
            self._turn.restart_eager()
        self._keyed += len(digits)
        wanted = self._words.expected.count if self._words.expected.kind == "digits" else None
        is_whole = "#" in digits or (wanted is not None and self._keyed >= wanted)
        wait_ms = 0 if is_whole else self._config.dtmf_flush_ms
        self._turn.keys(now, wait_ms * SAMPLES_PER_MS)
        self._run_timers(out)
        return self._settle(out)

    def expect(self, expectation: Expectation = FREE) -> list[Event]:
        """What the agent has asked for; holds for the next turn."""
        out: list[Event] = []
        if self._is_over:
            return out
        self._words.expected = expectation
        if self._turn.is_open:
            self._judge_words()
            self._run_timers(out)
        return self._settle(out)

    def configure(self, config: TurnConfig) -> list[Event]:
        """Change the numbers in mid-call; what is due is reckoned anew."""
        out: list[Event] = []
        if self._is_over:
            return out
        self._config = config
        self._tune()
        self._run_timers(out)
        return self._settle(out)

    def close(self) -> list[Event]:
        """The call is over: settle what is open. Nothing comes after."""
        out: list[Event] = []
        if self._is_over:
            return out
        if self._barge.pending:
            self._dismiss("ended", out)
        if self._turn.is_eager:
            out.append(TurnResumed(at_sample=self._now))
        self._turn.close()
        self._is_over = True
        return out

    # --- the machine ------------------------------------------------------------------------

    @property
    def _is_protected(self) -> bool:
        return self._deaf_until == NEVER

    def _protect(self, out: list[Event]) -> None:
        if self._barge.pending:
            self._dismiss("protected", out)
        if self._spell.active:
            out.append(SpeechStopped(at_sample=self._spell.end_sample))
        self._spell.reset()
        self._deaf_until = NEVER

    def _agent_becomes(self, state: AgentState, out: list[Event]) -> None:
        before, self._agent = self._agent, state
        if state is SPEAKING:
            if before is not SPEAKING:
                self._keys_wait = self._keys_wait or self._turn.ends_by_keys
                self._withdraw_turn(out)
                self._turn.agent_speaks()
                self._barge.agent_speaks(self._now, self._spell)
                if not self._spell.active:  # else the caller is in the midst of saying them
                    self._words.forget()
            if self._far_at >= 0:
                self._floor.await_sound(self._now)
            else:  # we are not told what is played, so silence proves nothing
                self._floor.rest()
            return
        if self._barge.pending:
            self._agent_stopped(state, out)
        if state is THINKING:
            self._withdraw_turn(out)
            self._floor.await_reply(self._now)
        elif not self._turn.is_open:
            if before is SPEAKING:
                self._words.forget()
            if self._spell.active:
                self._open_turn(self._spell.onset_sample)
                self._turn.voice_on(self._spell.onset_sample)
            elif self._keys_wait:
                self._open_turn(self._now)
                self._turn.keys(self._now, 0)
            else:
                self._floor.await_caller(self._now)

    def _withdraw_turn(self, out: list[Event]) -> None:
        """The agent acts of its own accord: a turn left open is closed without an answer."""
        if self._turn.is_eager:
            out.append(TurnResumed(at_sample=self._now))
        self._turn.close()

    def _agent_stopped(self, state: AgentState, out: list[Event]) -> None:
        """It stopped by itself under a suspicion: who still talks has the floor."""
        if state is LISTENING and self._spell.active:
            self._take_floor(self._spell.onset_sample, out)
        else:
            self._dismiss("yielded", out)

    def _act(self, verdict: Verdict | None, out: list[Event]) -> None:
        match verdict:
            case None:
                pass
            case Verdict.SUSPECTED:
                out.append(BargeInSuspected(at_sample=self._spell.onset_sample))
            case Verdict.CONFIRMED:
                self._take_floor(self._spell.onset_sample, out)
            case _:
                self._dismiss(verdict.value, out)

    def _dismiss(self, reason: str, out: list[Event]) -> None:
        self._barge.pending = False
        out.append(BargeInDismissed(at_sample=self._now, reason=reason))

    def _take_floor(self, at_sample: int, out: list[Event]) -> None:
        """The caller interrupts: a turn opens, as after any onset."""
        out.append(BargeInConfirmed(at_sample=at_sample))
        self._barge.clear()
        self._agent = LISTENING
        self._open_turn(at_sample)
        if self._spell.active:
            self._turn.voice_on(self._spell.onset_sample)
        else:
            self._words.voiced_frames = self._spell.voiced_frames
            self._judge_words()
            self._turn.voice_off(self._spell.end_sample)

    def _open_turn(self, at_sample: int) -> None:
        self._turn.open(at_sample)
        self._words.open_turn()
        self._keyed, self._keys_wait = 0, False
        self._floor.rest()

    def _end_turn(self, out: list[Event]) -> None:
        turn, words = self._turn, self._words
        reason = "silence"
        if turn.ends_by_keys:
            reason = "dtmf"
        elif self._spell.active:
            reason = "too_long"
        elif turn.waits_for_words:
            reason = "no_words"
        out.append(TurnEnded(at_sample=turn.silent_from or self._now, reason=reason))
        turn.close()
        words.end_turn()
        if not self._is_inferred:
            self._agent = THINKING
        self._floor.await_reply(self._now)

    def _judge_words(self) -> None:
        words, end_sample = self._words, self._spell.end_sample
        self._turn.judge(
            words.completeness(end_sample),
            waits_for_words=words.is_streaming and not words.has_words,
            lags=words.lags(end_sample),
        )

    def _run_timers(self, out: list[Event]) -> None:
        now, turn = self._now, self._turn
        late = now - turn.commit_due
        if late >= STIRRING_SAMPLES or (late >= 0 and not self._spell.is_stirring):
            self._end_turn(out)
        elif now >= turn.eager_due:
            turn.mark_eager()
            out.append(TurnEager(at_sample=turn.silent_from))
        if self._agent is SPEAKING:
            if self._far_at + FAR_GAP_SAMPLES > now:
                self._floor.await_sound(self._far_at)
            elif self._is_inferred:
                self._agent_becomes(LISTENING, out)
        if now >= self._floor.due:
            out.append(self._floor.fire(now))

    def _settle(self, out: list[Event]) -> list[Event]:
        """Reckon when to look again; every path out of the machine ends here."""
        turn = self._turn
        self._due = min(turn.eager_due, turn.commit_due, self._floor.due)
        if self._agent is SPEAKING and self._is_inferred:
            self._due = min(self._due, self._far_at + FAR_GAP_SAMPLES)
        self._guard.relief_db = RELIEF_DB if self._spell.active or self._barge.pending else 0.0
        self._weighs = self._agent is not LISTENING and (self._spell.active or self._barge.pending)
        self._is_wary = self._agent is SPEAKING and self._barge.may_suspect(self._spell)
        return out

    def _tune(self) -> None:
        config, guard = self._config, self._guard
        guard.noise_margin_db = config.noise_margin_db
        guard.echo_margin_db = config.echo_margin_db
        guard.voice_range_db = config.voice_range_db
        guard.far_window_frames = config.far_window_ms // 20
        if isinstance(self._voice, WebRtcVoice):
            self._voice.set_mode(config.vad_mode)
        self._spell.configure(config.start_ms, config.stop_ms)
        self._turn.configure(config)
        self._barge.configure(config)
        self._floor.configure(config)
        self._words.configure(config.language)
