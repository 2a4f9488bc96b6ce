"""What of the caller goes to a speech-to-speech model, and its session: held, or opened anew.

It takes the place of :mod:`rtcore.ears`. What was heard and is not yet answered is kept, so a
session that is lost in the midst of a turn costs the caller no word.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import trio

from rtcore.audio import FRAME_BYTES, FRAME_SAMPLES, RATE_HZ
from rtcore.config import CallConfig
from rtcore.ears import Ears
from rtcore.errors import ProviderError, first_error
from rtcore.metrics import CallStats
from rtcore.ports import CallContext, CallerAudio
from rtcore.speech_port import SpeechCommand, SpeechEvent, SpeechModel, SpeechSession
from rtcore.turn._every_frame import SpeechGate
from rtcore.usage import Tally

__all__ = ["SpeechLink"]

ATTEMPTS_MAX = 2  # sessions in a row that brought no answer: the model is given up
PAUSE_S = 0.2  # before the next one: who refuses at once may have had a hiccup
CONTROL_MAX = 128  # commands beside audio that may wait; more, and the session is stuck
KEPT_SAMPLES = 30 * RATE_HZ  # of what is not answered; who speaks on for longer is understood
SILENCE = bytes(FRAME_BYTES)


class SpeechLink:
    """Gathers the caller's speech, carries commands, and keeps one session of the model open."""

    gate = None  # what it gathers goes two ways, and may be silence: frames come to `push`

    def __init__(
        self, model: SpeechModel, config: CallConfig, stats: CallStats, ears: Ears | None = None
    ) -> None:
        """``ears`` hear the same, for a recogniser of our own."""
        self._model = model
        self._ears = ears
        self._stats = stats
        self._gate = SpeechGate(
            preroll_ms=config.stt_preroll_ms,
            chunk_ms=config.stt_chunk_ms,
            pass_all=model.turns == "theirs",
        )
        self._audio_max = config.heard_max_chunks
        self._tx: trio.MemorySendChannel[SpeechCommand] | None = None  # of the session, if any
        self._kept: deque[CallerAudio] = deque()
        self._kept_samples = 0
        self.now_samples = 0  # of the caller, heard so far
        self._asked_at = 0  # what was heard before is asked about already
        self._session = trio.CancelScope()
        self._is_wanted_anew = False
        self._is_good = False
        self._used = Tally()
        self.is_muted = False  # the caller is not to be heard: all is silence
        self.is_lost = False  # there is no model any more

    # --- the caller's voice -----------------------------------------------------------------

    def push(self, frame: bytes) -> None:
        """Take the next frame; it goes on when its chunk is full, if the gate is open."""
        if self._ears is not None:
            self._ears.push(frame)
        self.now_samples += FRAME_SAMPLES
        self._hear(self._gate.push(SILENCE if self.is_muted else frame))

    def open(self) -> None:
        """The caller's voice began: what came shortly before it goes first."""
        if self._ears is not None:
            self._ears.open()
        self._hear(self._gate.open())

    def close(self, at_sample: int) -> None:
        """The caller's voice ended at ``at_sample``."""
        if self._ears is not None:
            self._ears.close(at_sample)
        self._hear(self._gate.close())

    def flush(self) -> None:
        """Hand on what was heard until now: a command that follows speaks of it."""
        was_open = self._gate.is_open
        self._hear(self._gate.close())
        if was_open:
            self._gate.open()
        self._asked_at = self.now_samples

    def _hear(self, chunk: tuple[int, bytes] | None) -> None:
        if chunk is None:
            return
        audio = CallerAudio(start_sample=chunk[0], pcm=chunk[1])
        self._kept.append(audio)
        self._kept_samples += len(audio.pcm) // 2
        while self._kept_samples > KEPT_SAMPLES:
            self._kept_samples -= len(self._kept.popleft().pcm) // 2
        if self._tx is None:
            return
        if self._tx.statistics().current_buffer_used < self._audio_max:
            self._used.audio_samples += len(audio.pcm) // 2
            self._send(audio)
        else:
            self._stats.dropped_heard_chunks += 1  # live audio that late is useless

    def answered(self) -> None:
        """What was asked about is being answered: it need not be told again."""
        self._is_good = True
        while self._kept and self._kept[0].start_sample < self._asked_at:
            self._kept_samples -= len(self._kept.popleft().pcm) // 2

    def forget(self) -> None:
        """What was heard and not asked about was a noise."""
        while self._kept and self._kept[-1].start_sample >= self._asked_at:
            self._kept_samples -= len(self._kept.pop().pcm) // 2

    # --- the session ------------------------------------------------------------------------

    @property
    def has_unanswered(self) -> bool:
        """Whether something was heard that a new session would be told again."""
        return bool(self._kept)

    @property
    def is_open(self) -> bool:
        """Whether there is a session to tell something (it may still be connecting)."""
        return self._tx is not None

    def tell(self, command: SpeechCommand) -> None:
        """Hand a command to the session without waiting; without one it means nothing."""
        if self._tx is not None:
            self._send(command)

    def _send(self, command: SpeechCommand) -> None:
        assert self._tx is not None
        try:
            self._tx.send_nowait(command)
        except trio.WouldBlock:  # it takes no commands: it is as good as lost
            self._session.cancel(reason="session stuck")
        except trio.BrokenResourceError:
            self._tx = None  # it has just ended; what led to that is on its way

    def reopen(self, model: SpeechModel) -> None:
        """Go on with a new session, of ``model``."""
        self._model = model
        self._is_wanted_anew = True
        self._session.cancel(reason="another session wanted")

    def give_up(self) -> None:
        """Nothing is said in this session any more: it is as good as lost."""
        self._session.cancel(reason="session silent")

    async def run(
        self,
        context: CallContext,
        begin: Callable[[], SpeechSession],
        pending: Callable[[], Iterable[SpeechCommand]],
        emit: Callable[[SpeechEvent], None],
        lost: Callable[[str], None],
    ) -> None:
        """Hold a session until none can be had any more; then :attr:`is_lost`.

        ``begin`` says with what each begins and ``pending`` what it is to be asked at once,
        after what was heard and not answered; ``lost`` is told the reason when one ends.
        """
        failures = 0
        while failures < ATTEMPTS_MAX:
            if failures:
                await trio.sleep(PAUSE_S)
            self._is_good = self._is_wanted_anew = False
            self._used = context.usage.of("speech", self._model.name)
            reason = await self._hold(begin(), pending, emit)
            if not self._is_wanted_anew:
                self._stats.provider_errors += 1
                self._used.failures += 1
                failures = 1 if self._is_good else failures + 1
            if reason is not None and not reason.retryable:
                failures = ATTEMPTS_MAX
            self.is_lost = failures >= ATTEMPTS_MAX
            lost(reason.provider if reason is not None else self._model.name)

    async def _hold(
        self,
        session: SpeechSession,
        pending: Callable[[], Iterable[SpeechCommand]],
        emit: Callable[[SpeechEvent], None],
    ) -> ProviderError | None:
        """One session, to its end; returns why it ended, if it said so."""
        capacity = self._audio_max + CONTROL_MAX
        self._tx, rx = trio.open_memory_channel[SpeechCommand](capacity)
        self._session = trio.CancelScope()
        for command in (*self._kept_in_one(), *pending()):
            if isinstance(command, CallerAudio):
                self._used.audio_samples += len(command.pcm) // 2
            self._send(command)
        reason: ProviderError | None = None
        try:
            with self._tx, rx, self._session:
                await self._model.converse(session, rx, emit)
        except* ProviderError as group:
            reason = first_error(group)
        finally:
            self._tx = None
        return reason

    def _kept_in_one(self) -> Iterable[CallerAudio]:
        """What is not answered, each stretch without a gap as one piece."""
        stretches: list[tuple[int, bytearray]] = []
        for audio in self._kept:
            if stretches and stretches[-1][0] + len(stretches[-1][1]) // 2 == audio.start_sample:
                stretches[-1][1].extend(audio.pcm)
            else:
                stretches.append((audio.start_sample, bytearray(audio.pcm)))
        return [CallerAudio(start_sample=at, pcm=bytes(pcm)) for at, pcm in stretches]
