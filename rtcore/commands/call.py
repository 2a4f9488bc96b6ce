"""``rtcore call``: a telephone call without a telephone, to any node, one or many at once."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from operator import itemgetter
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import trio
from rich.console import Console
from rich.table import Table

from rtcore.audio import RATE_HZ
from rtcore.errors import ConfigError, ProviderError, RemoteProtocolError, RtcoreError
from rtcore.media.fast import connect
from rtcore.media.limits import SocketLimits
from rtcore.ports import CallContext, MediaSocket, Segment, SpeechAudio, Synthesizer
from rtcore.providers.embedded import EmbeddedVoice
from rtcore.testing import (
    CALL_LIMIT_S,
    Action,
    CarrierEvent,
    CarrierReport,
    FakeCarrier,
    LineClock,
    ScriptedSynthesizer,
    Summary,
    Tape,
    Utterance,
    WavTape,
    WavWriter,
    interrupt_after,
    read_wav,
    say,
    summarise,
    wait_for_agent_quiet,
)

__all__ = [
    "CallOptions",
    "NotConnected",
    "Outcome",
    "Summary",
    "call",
    "call_many",
    "run",
    "spoken",
]

WELL, UNWELL, BAD_USAGE, NOT_CONNECTED, INTERRUPTED = 0, 1, 2, 3, 130
NORMAL_CLOSE = 1000
GREETING_BEGIN_MS = 2000  # an agent that greets has begun by then; others wait for the caller
ANSWER_BEGIN_MS = 10_000  # the slowest answer that still counts as one
ANSWER_LIMIT_MS = 60_000
QUIET_MS = 1200  # longer than any pause inside a reply
PHASES = 10  # many callers speak in turn, 2 ms apart
START_EVERY_S = 0.05  # callers who all ask in the same instant are a test of nothing real
DIALS_MAX = 20  # at once: a listen queue holds more, a node's handshake is work
LATE_SHARE = 0.01  # of our own ticks: past it the callers are no measure of the node
VOICE_LIMIT_S = 30.0


class NotConnected(RtcoreError):
    """There is no call: nobody answered at that address, or refused it."""


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says; one of ``wav`` and ``say`` is what the caller says."""

    url: str
    wav: Path | None = None
    say: str | None = None
    interrupt_after_ms: int | None = None  # talk over the answer when it has lasted so long
    record: Path | None = None  # stereo WAV: left the caller, right what the caller heard
    as_json: bool = False
    calls: int = 1
    seconds: float | None = None  # ask again and again for so long; once, if not given


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the calls; ``failures`` says why some never were.

    If many of our own ticks were late (see :class:`rtcore.testing.LineClock`), this machine was
    too busy to call, and the numbers say little about the node.
    """

    summary: Summary
    calls: tuple[CarrierReport, ...]
    failures: tuple[str, ...]
    ticks: int
    late_ticks: int
    latest_ms: float

    @property
    def unanswered(self) -> list[CarrierReport]:
        """Calls in which nothing was heard after what the caller said; a greeting is no answer."""
        return [
            report
            for report in self.calls
            if all(turn.response_ms is None for turn in report.turns)
        ]

    @property
    def lost(self) -> list[CarrierReport]:
        """Calls whose line broke, or was given up with an error, before the caller hung up."""
        return [
            report
            for report in self.calls
            if report.ended_by == "node" and report.close_code != NORMAL_CLOSE
        ]

    @property
    def exit_code(self) -> int:
        """0 all went well, 1 one was not answered or was lost, 3 one could not be connected."""
        if self.failures:
            return NOT_CONNECTED
        return UNWELL if self.unanswered or self.lost else WELL


async def call(
    url: str,
    script: Sequence[Action],
    *,
    call_id: str = "call-1",
    record: Path | None = None,
    clock: LineClock | None = None,
    limit_s: float = CALL_LIMIT_S,
    on_event: Callable[[CarrierEvent], None] | None = None,
    dialling: trio.CapacityLimiter | None = None,
) -> CarrierReport:
    """Make one call to ``ws://host:port/path`` and say what happened.

    Raises:
        NotConnected: nobody there, or the call was refused.
        ConfigError: ``url`` is no address this can call.
        OSError: ``record`` cannot be written.

    Cancelled: hangs up; the recording holds what was heard by then.
    """
    host, port, path = _address(url)
    failure: NotConnected | None = None
    report: CarrierReport | None = None
    with ExitStack() as files:
        tape: Tape | None = None
        if record is not None:
            tape = WavTape(files.enter_context(WavWriter(record)))
        async with trio.open_nursery() as nursery:
            try:
                async with dialling or nullcontext():
                    socket = await _dial(host, port, path, nursery)
            except NotConnected as exc:
                failure = exc
            else:
                carrier = FakeCarrier(
                    script,
                    call_id=call_id,
                    stream_id=f"{call_id}-stream",
                    clock=clock,
                    tape=tape,
                    on_event=on_event,
                    limit_s=limit_s,
                )
                report = await carrier.call(socket)
            nursery.cancel_scope.cancel(reason="call over")
    if report is None:
        raise failure or NotConnected(url)
    return report


async def call_many(
    options: CallOptions,
    script: Sequence[Action],
    on_event: Callable[[str, CarrierEvent], None],
) -> Outcome:
    """Make ``options.calls`` calls, one every 50 ms, side by side; cancelled: hangs up.

    Each performs ``script``; ``on_event`` is told the call and what happened in it.
    """
    reports: list[CarrierReport] = []
    failures: list[str] = []
    clock, dialling = LineClock(PHASES), trio.CapacityLimiter(DIALS_MAX)

    async def one(call_id: str) -> None:
        def note(event: CarrierEvent) -> None:
            on_event(call_id, event)

        try:
            report = await call(
                options.url,
                script,
                call_id=call_id,
                record=options.record,
                clock=clock,
                limit_s=CALL_LIMIT_S if options.seconds is None else options.seconds,
                on_event=note,
                dialling=dialling,
            )
        except NotConnected as exc:
            failures.append(str(exc))
        else:
            reports.append(report)

    async with trio.open_nursery() as ticking:
        ticking.start_soon(clock.run)
        async with trio.open_nursery() as nursery:
            for number in range(1, options.calls + 1):
                nursery.start_soon(one, f"call-{number}")
                if number < options.calls:
                    await trio.sleep(START_EVERY_S)
        ticking.cancel_scope.cancel(reason="calls over")
    return Outcome(
        summary=summarise(reports),
        calls=tuple(reports),
        failures=tuple(failures),
        ticks=clock.ticks,
        late_ticks=clock.late_ticks,
        latest_ms=clock.latest_ms,
    )


async def spoken(text: str, voice: Synthesizer) -> bytes:
    """``text`` in that voice, int16 at 8000 Hz.

    Raises:
        ProviderError: the voice failed, or took more than 30 s.
    """
    segments_tx, segments_rx = trio.open_memory_channel[Segment](1)
    sound_tx, sound_rx = trio.open_memory_channel[SpeechAudio](0)
    pcm, failure = bytearray(), None

    async def synthesize() -> None:
        nonlocal failure
        async with sound_tx:
            try:
                await voice.synthesize(CallContext(call_id="caller"), segments_rx, sound_tx)
            except ProviderError as exc:  # kept: out of a nursery it would be a group
                failure = exc

    with trio.move_on_after(VOICE_LIMIT_S) as scope:
        await segments_tx.send(Segment(index=0, text=text))
        await segments_tx.aclose()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(synthesize)
            async for piece in sound_rx:
                pcm += piece.pcm
    if failure is not None:
        raise failure
    if scope.cancelled_caught:
        raise ProviderError(voice.name, "too slow to speak a sentence", retryable=False)
    return bytes(pcm)


def run(options: CallOptions, voice: Synthesizer | None = None) -> int:
    """The command: call, print, and return the exit code.

    ``voice`` speaks ``options.say``: by default the embedded one, or a speech-like sound
    without words where that is not installed.
    0 all answered, 1 one was not or was lost, 2 bad usage, 3 no connection, 130 interrupted.
    """
    err = _console(stderr=True)
    try:
        _check(options)
        return trio.run(_main, options, voice, err)
    except (ConfigError, ProviderError, OSError) as exc:  # an option, its file, its voice
        err.print(f"rtcore call: {exc}", style="red")
        return BAD_USAGE


async def _main(options: CallOptions, voice: Synthesizer | None, err: Console) -> int:
    script = script_of(options, await _speech(options, voice, err))
    outcome: Outcome | None = None
    with (
        _progress(options, err) as on_event,
        trio.open_signal_receiver(signal.SIGINT) as interrupts,
    ):
        async with trio.open_nursery() as nursery:

            async def hang_up_on_interrupt() -> None:
                async for _ in interrupts:
                    nursery.cancel_scope.cancel(reason="interrupted")

            nursery.start_soon(hang_up_on_interrupt)
            outcome = await call_many(options, script, on_event)
            nursery.cancel_scope.cancel(reason="calls over")
    if outcome is None:
        err.print("interrupted: hung up")
        return INTERRUPTED
    if options.as_json:
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
    else:
        _print(outcome, _console())
    return outcome.exit_code


def script_of(options: CallOptions, speech: bytes) -> list[Action]:
    """Let the agent greet, say ``speech``, hear the answer out; over again if there is time."""
    utterance = Utterance(speech)
    answer = wait_for_agent_quiet(QUIET_MS, ANSWER_LIMIT_MS, ANSWER_BEGIN_MS)
    ask: list[Action] = [say(utterance)]
    if options.interrupt_after_ms is not None:
        ask.append(interrupt_after(options.interrupt_after_ms, utterance, ANSWER_BEGIN_MS))
    rounds = 1
    if options.seconds is not None:  # the call is ended at that time, whatever is left to ask
        rounds = math.ceil(options.seconds * RATE_HZ / max(len(speech) // 2, 1))
    greeting = wait_for_agent_quiet(QUIET_MS, ANSWER_LIMIT_MS, GREETING_BEGIN_MS)
    return [greeting, *[*ask, answer] * rounds]


async def _speech(options: CallOptions, voice: Synthesizer | None, err: Console) -> bytes:
    if options.wav is not None:
        return read_wav(options.wav)
    assert options.say is not None, "checked before"
    if voice is not None:
        return await spoken(options.say, voice)
    try:
        embedded = EmbeddedVoice()
    except ConfigError as missing:
        err.print(f"{missing}; the caller makes a speech-like sound instead")
        return await spoken(options.say, ScriptedSynthesizer())
    failure: ProviderError | None = None
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(embedded.run)
            speech = await spoken(options.say, embedded)
        except ProviderError as exc:  # as above
            failure = exc
        nursery.cancel_scope.cancel(reason="spoken")
    if failure is not None:
        raise failure
    return speech


def _check(options: CallOptions) -> None:
    """Refuse what cannot work before anything is dialled."""
    _address(options.url)
    if (options.wav is None) == (options.say is None):
        raise ConfigError("wav, say", "give one of them: it is what the caller says")
    if options.calls < 1:
        raise ConfigError("calls", "at least 1")
    if options.record is not None:
        if options.calls > 1:
            raise ConfigError("record", "one call at a time can be recorded")
        options.record.open("ab").close()  # cannot be written: say so now


def _address(url: str) -> tuple[str, int, str]:
    """Host, port and path with query of a ``ws`` URL."""
    parts = urlsplit(url)
    if parts.scheme != "ws" or not parts.hostname:
        raise ConfigError("url", f"{url!r}: expected ws://host:port/path")
    try:
        port = parts.port or 80
    except ValueError as exc:
        raise ConfigError("url", f"{url!r}: {exc}") from exc
    query = f"?{parts.query}" if parts.query else ""
    return parts.hostname, port, f"{parts.path or '/'}{query}"


async def _dial(host: str, port: int, path: str, nursery: trio.Nursery) -> MediaSocket:
    try:
        return await connect(host, port, path, SocketLimits(), nursery)
    except trio.TooSlowError as exc:
        raise NotConnected(f"{host}:{port}: no connection in time") from exc
    except (OSError, RemoteProtocolError) as exc:
        raise NotConnected(f"{host}:{port}: {exc}") from exc


def _console(*, stderr: bool = False) -> Console:
    """What is printed comes from outside: no markup in it, and long lines stay whole."""
    return Console(stderr=stderr, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _progress(options: CallOptions, err: Console) -> Iterator[Callable[[str, CarrierEvent], None]]:
    """What happens, as it happens: a status line on a terminal, plain lines elsewhere."""
    if err.is_terminal:
        with err.status("calling") as status:
            yield lambda call_id, event: status.update(_line(call_id, event))
    elif options.as_json or options.calls > 1:
        yield lambda call_id, event: None
    else:
        yield lambda call_id, event: err.print(_line(call_id, event))


def _line(call_id: str, event: CarrierEvent) -> str:
    return f"{call_id} {event.at_sample / RATE_HZ:8.3f} s  {event.kind} {event.detail}".rstrip()


def _print(outcome: Outcome, out: Console) -> None:
    if len(outcome.calls) == 1:
        _print_call(outcome.calls[0], out)
    if outcome.calls:
        _print_summary(outcome, out)
    for report in outcome.unanswered:
        out.print(f"not answered: {report.call_id}", style="red")
    for report in outcome.lost:
        out.print(f"lost: {report.call_id}, closed with {report.close_code}", style="red")
    for failure in sorted(set(outcome.failures)):
        out.print(f"not connected: {failure}", style="red")


def _print_summary(outcome: Outcome, out: Console) -> None:
    table = Table(title="summary", show_header=False)
    for field in Summary.__struct_fields__:
        value = getattr(outcome.summary, field)
        if value is not None:
            table.add_row(
                field.replace("_", " "), f"{value:.1f}" if isinstance(value, float) else str(value)
            )
    out.print(table)
    if outcome.late_ticks > outcome.ticks * LATE_SHARE:
        out.print(
            f"this machine was busy: {outcome.late_ticks} of {outcome.ticks} ticks late, by up to "
            f"{outcome.latest_ms:.0f} ms",
            style="yellow",
        )


def _print_call(report: CarrierReport, out: Console) -> None:
    table = Table("what", "from s", "to s", "then ms", title=report.call_id)
    rows = [
        (turn.start_sample, turn.end_sample, "caller", "response", turn.response_ms)
        for turn in report.turns
    ]
    rows += [(start, end, "agent", "", None) for start, end in report.agent_runs]
    rows += [
        (b.start_sample, b.silence_sample or b.start_sample, "barge-in", "silent", b.silence_ms)
        for b in report.barge_ins
    ]
    for start, end, what, then, took_ms in sorted(rows, key=itemgetter(0)):
        took = f"{then} {took_ms:.0f}" if took_ms is not None else ""
        table.add_row(what, f"{start / RATE_HZ:.3f}", f"{end / RATE_HZ:.3f}", took)
    out.print(table)
    for violation in report.violations:
        out.print(f"violation: {violation}", style="red")
