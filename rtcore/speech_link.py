"""What of the caller goes to a speech-to-speech model, and its session: held, or opened anew.

It takes the place of :mod:`rtcore.ears`. What was heard and is not yet answered is kept, so a
session that is lost in the midst of a turn costs the caller no word, whichever of the agent's
models holds the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import trio

from rtcore.audio import FRAME_BYTES, FRAME_SAMPLES, RATE_HZ
from rtcore.config import CallConfig
from rtcore.ears import Ears
from rtcore.errors import ProviderError, SessionOver, first_error
from rtcore.metrics import CallStats
from rtcore.ports import CallContext, CallerAudio
from rtcore.rotation import Rotation
from rtcore.speech_port import (
    SpeechCommand,
    SpeechEvent,
    SpeechModel,
    SpeechModels,
    SpeechSession,
)
from rtcore.turn._every_frame import SpeechGate
from rtcore.usage import Tally, Usage

__all__ = ["SpeechLink"]

CONTROL_MAX = 128  # commands beside audio that may wait; more, and the session is stuck
KEPT_SAMPLES = 30 * RATE_HZ  # of what is not answered; who speaks on for longer is understood
AGAIN_MAX = 4  # times that a model with no other beside it is asked again: 3.75 s of pauses
AGAIN_LIMIT_S = 8.0  # and for how long, where each failure takes its time: who waits hangs up
AGAIN_SPARE_S = 3.0  # to open a session and tell the turn again, before its silence counts
SILENCE = bytes(FRAME_BYTES)


class SpeechLink:
    """Gathers the caller's speech, carries commands, and keeps one session of a model open."""

    gate = None  # what it gathers goes two ways, and may be silence: frames come to `push`

    def __init__(
        self,
        model: SpeechModel | SpeechModels,
        config: CallConfig,
        stats: CallStats,
        ears: Ears | None = None,
    ) -> None:
        """``ears`` hear the same, for a recogniser of our own."""
        self._model = model
        self._rotation: Rotation[SpeechModel] | None = None  # through the models, once it runs
        self._ears = ears
        self._stats = stats
        self._gate = SpeechGate(
            preroll_ms=config.stt_preroll_ms,
            chunk_ms=config.stt_chunk_ms,
            pass_all=model.turns == "theirs",
        )
        self._audio_max = config.heard_max_chunks
        # one that says nothing for as long as it may has not held
        self._again_limit_s = max(AGAIN_LIMIT_S, config.first_token_limit_s + AGAIN_SPARE_S)
        self._tx: trio.MemorySendChannel[SpeechCommand] | None = None  # of the session, if any
        self._kept: deque[CallerAudio] = deque()
        self._kept_samples = 0
        self.now_samples = 0  # of the caller, heard so far
        self._asked_at = 0  # what was heard before is asked about already
        self._session = trio.CancelScope()
        self._is_wanted_anew = False
        self._has_progressed = False  # the session brought an answer
        self._used = Tally()
        self.is_muted = False  # the caller is not to be heard: all is silence
        self.has_moved = False  # the session is of another model than the one that was lost
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
        """What was asked about is answered: it need not be told again."""
        while self._kept and self._kept[0].start_sample < self._asked_at:
            self._kept_samples -= len(self._kept.popleft().pcm) // 2

    def forget(self) -> None:
        """What was heard and not asked about was a noise."""
        while self._kept and self._kept[-1].start_sample >= self._asked_at:
            self._kept_samples -= len(self._kept.pop().pcm) // 2

    # --- the session ------------------------------------------------------------------------

    @property
    def place(self) -> int:
        """Of the model that is asked, in its list."""
        return self._rotation.place if self._rotation is not None else 0

    @property
    def model(self) -> SpeechModel:
        """The model that is asked; the first, before any was."""
        return _members(self._model)[self.place]

    @property
    def voice_name(self) -> str:
        """By which the sound of a line that the model has said is known again."""
        return f"{self.model.name} {self.place}" if self.place else self.model.name

    @property
    def has_another(self) -> bool:
        """Whether there is a model left that was not tried since something was last answered."""
        return self._rotation is not None and self._rotation.has_another

    def progressed(self) -> None:
        """The session has brought something that was heard: failures before it count no more."""
        if self._rotation is not None and self.is_open:
            self._has_progressed = True
            self._rotation.progressed()

    @property
    def is_refused(self) -> bool:
        """Whether a session was lost and another could not be had, or brought nothing either."""
        return self._rotation is not None and self._rotation.has_failed_again

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

    def reopen(self, model: SpeechModel | SpeechModels) -> None:
        """Go on with a new session, of ``model``: what failed before counts no more."""
        if model is not self._model:
            self._model, self._rotation = model, None
        elif self._rotation is not None:
            self._rotation.begin_anew()
        self._is_wanted_anew = True
        self._tx = None
        self._session.cancel(reason="another session wanted")

    def give_up(self) -> None:
        """Nothing is said in this session any more: it is as good as lost."""
        self._tx = None
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
        stays = False  # with the model that was asked last
        failing_s = trio.current_time()  # since when nothing has been brought
        while not self.is_lost:
            rotation = self._rotation
            if rotation is None:
                rotation, stays = _rotation(self._model, context.usage), False
                self._rotation = rotation
            before = rotation.place
            if not stays:
                await rotation.next()
            if rotation is not self._rotation:
                continue  # another agent has taken over meanwhile
            self._used = rotation.used
            self.has_moved = rotation.place != before
            self._has_progressed = self._is_wanted_anew = False
            began_s = trio.current_time()
            reason = await self._hold(begin(), pending, emit)
            held_s = trio.current_time() - began_s
            stays = self._is_wanted_anew or (
                isinstance(reason, SessionOver) and self._has_progressed
            )
            if not stays:
                self._stats.provider_errors += 1
                if held_s > self._again_limit_s:
                    rotation.begin_anew()
                if not rotation.is_failing:
                    failing_s = trio.current_time()
                rotation.failed(reason)
                is_too_long = trio.current_time() - failing_s > self._again_limit_s
                self.is_lost = rotation.is_over or (rotation.has_failed_again and is_too_long)
            lost(reason.provider)

    async def _hold(
        self,
        session: SpeechSession,
        pending: Callable[[], Iterable[SpeechCommand]],
        emit: Callable[[SpeechEvent], None],
    ) -> ProviderError:
        """One session, to its end; returns why it ended."""
        model = self.model
        capacity = self._audio_max + CONTROL_MAX
        tx, rx = trio.open_memory_channel[SpeechCommand](capacity)
        self._tx, self._session = tx, trio.CancelScope()
        for command in (*self._kept_in_one(), *pending()):
            if isinstance(command, CallerAudio):
                self._used.audio_samples += len(command.pcm) // 2
            self._send(command)
        reason = ProviderError(model.name, "the session has ended", retryable=True)
        try:
            with tx, rx, self._session:
                await model.converse(session, rx, emit)
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


def _members(model: SpeechModel | SpeechModels) -> Sequence[SpeechModel]:
    return (model,) if isinstance(model, SpeechModel) else model.members


def _rotation(model: SpeechModel | SpeechModels, usage: Usage) -> Rotation[SpeechModel]:
    """The order in which the call goes through the models; one alone is nobody's to watch."""
    if isinstance(model, SpeechModel):
        return Rotation((model,), (), usage, "speech", AGAIN_MAX)
    again_max = AGAIN_MAX if len(model.members) == 1 else 1
    return Rotation(model.members, model.breakers, usage, "speech", again_max)
