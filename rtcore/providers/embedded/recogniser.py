"""The embedded recogniser: pocketsphinx in worker processes, no key, no network."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import structlog
import trio

from rtcore.errors import ProviderError
from rtcore.ports import CallContext, CallerAudio, Hearing, Transcript
from rtcore.providers._tasks import run_beside
from rtcore.providers.embedded import _wire
from rtcore.providers.embedded._language import words_of
from rtcore.providers.embedded._wire import Heard, Kind, Listen
from rtcore.providers.embedded._worker import Job, WorkerPool
from rtcore.providers.embedded.settings import RecogniserSettings, require_extra

__all__ = ["EmbeddedRecogniser"]

log = structlog.get_logger()

PHRASES_MAX = 500  # a language model of so many takes a worker 0.3 s, once
PHRASE_MAX_CHARS = 200
INBOX_MAX_FRAMES = 256  # a transcript each 80 ms: 20 s
TAUGHT_END = 0.9  # belief that a turn is over which ends as a taught phrase does
GOODBYES = ("goodbye", "bye")  # nothing follows them
FINAL_LIMIT_S = 2.0  # from an utterance's end to its text: milliseconds, but for new phrases


class EmbeddedRecogniser:
    """A :class:`~rtcore.ports.Transcriber`; :meth:`run` keeps its workers.

    It expects what ``CallContext.phrases`` holds (the first 500 count), said in any of the
    usual ways. What fits none of that becomes an empty final rather than a wrong one.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, settings: RecogniserSettings = RecogniserSettings()) -> None:  # noqa: B008
        for module in ("pocketsphinx", "numpy"):
            require_extra(module)
        self.pool = WorkerPool(
            self.name,
            "rtcore.providers.embedded._sphinx",
            workers=settings.workers,
            jobs_max=settings.calls_per_worker,
            inbox_max_frames=INBOX_MAX_FRAMES,
        )

    @property
    def name(self) -> str:
        return "embedded.recogniser"

    @property
    def wants_all_audio(self) -> bool:
        return False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers alive until cancelled; started when they can listen."""
        await self.pool.run(task_status=task_status)

    async def transcribe(
        self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
    ) -> None:
        """Transcribe until ``hearing`` ends; each utterance's end gets exactly one final.

        A worker that dies costs the utterance under way: its final is empty, and the call
        goes on with another worker.

        Raises:
            ProviderError: no worker is to be had.
        """
        session = _Session(hearing, emit, context.phrases)
        phrases = tuple(phrase[:PHRASE_MAX_CHARS] for phrase in context.phrases[:PHRASES_MAX])
        order = msgspec.json.encode(Listen(phrases=phrases))
        while not session.is_over:
            with await self.pool.open() as job:
                try:
                    await job.send(Kind.OPEN, order)
                    await session.serve(job)
                except ProviderError as exc:
                    if not exc.retryable:
                        raise
                    log.warning("utterance_lost", provider=self.name, reason=str(exc))
                    session.give_up()


class _Session:
    """One call's hearing, across the workers that serve it."""

    def __init__(
        self, hearing: Hearing, emit: Callable[[Transcript], None], phrases: tuple[str, ...]
    ) -> None:
        self._hearing, self._emit = hearing, emit
        self._taught = tuple(" ".join(words_of(phrase)) for phrase in phrases)
        self._segment = 0
        self._unanswered = 0  # utterance ends without their final
        self._hearing_ended = False
        self._answer_by = trio.CancelScope()  # its deadline is that of the oldest unanswered

    @property
    def is_over(self) -> bool:
        return self._hearing_ended and not self._unanswered

    async def serve(self, job: Job) -> None:
        """Serve until hearing ends and its last final is out.

        Raises:
            ProviderError: the worker was lost or did not answer in time.
        """
        with trio.CancelScope() as self._answer_by:
            await run_beside(lambda: self._collect(job), lambda: self._forward(job))
        if self._answer_by.cancelled_caught and not self.is_over:
            job.condemn()
            raise ProviderError("embedded.recogniser", "no final in time", retryable=True)

    def give_up(self) -> None:
        """Answer the utterances that ended, with nothing: their worker is lost."""
        while self._unanswered:
            self._take(Heard(text="", is_final=True, was_asked=True))

    async def _forward(self, job: Job) -> None:
        async for heard in self._hearing:
            if isinstance(heard, CallerAudio):
                position = _wire.POSITION.pack(heard.start_sample)
                await job.send(Kind.HEAR, position + heard.pcm)
                continue
            self._unanswered += 1
            if self._unanswered == 1:
                self._answer_by.deadline = trio.current_time() + FINAL_LIMIT_S
            await job.send(Kind.UTTERANCE_END, _wire.POSITION.pack(heard.at_sample))
        self._hearing_ended = True
        if self.is_over:
            self._answer_by.cancel(reason="hearing ended")

    async def _collect(self, job: Job) -> None:
        while not self.is_over:
            frame = await job.receive()
            self._take(msgspec.json.decode(frame.payload, type=Heard))

    def _end_of_turn(self, text: str) -> float | None:
        """A question that ends as one of those taught is over; of others we know nothing."""
        ends = (*self._taught, *GOODBYES)
        if any(text == taught or text.endswith(f" {taught}") for taught in ends):
            return TAUGHT_END
        return None

    def _take(self, heard: Heard) -> None:
        transcript = Transcript(
            segment=self._segment,
            text=heard.text,
            words=heard.words,
            is_final=heard.is_final,
            end_of_turn=self._end_of_turn(heard.text),
        )
        if heard.is_final:
            self._segment += 1
        if heard.was_asked:
            self._unanswered -= 1
            waiting = self._unanswered > 0
            self._answer_by.deadline = trio.current_time() + FINAL_LIMIT_S if waiting else math.inf
        self._emit(transcript)
