"""``rtcore demo``: a node, and a caller who asks, interrupts and says goodbye, on one machine.

Nothing is scripted on the node's side: the caller's sound goes over a real WebSocket, is
recognised, answered from the agent's knowledge and spoken.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import msgspec
import structlog
import trio
from rich.console import Console
from rich.table import Table

from rtcore.admission import MEDIA_PATH, MediaGate
from rtcore.call import Call, CallRecord
from rtcore.commands.call import call as dial
from rtcore.commands.picture import Response, draw, picture_of
from rtcore.commands.serve import embedded_agent
from rtcore.journal import Noted
from rtcore.media.in_wait import BeatingClock
from rtcore.metrics import TurnTiming
from rtcore.node import Node, NodeConfig, open_listeners
from rtcore.providers.embedded import AgentData, load_demo_agent, say
from rtcore.testing import (
    Action,
    CarrierReport,
    hang_up,
    interrupt_after,
    wait_for_agent_quiet,
)
from rtcore.testing import say as caller_says

__all__ = ["DemoOptions", "DemoResult", "run"]

INTERRUPT_AFTER_MS = 1400  # into the second answer: some words of it were heard by then
DEMO_LIMIT_S = 120.0
PARTS = {  # of a response, with their headings
    "endpointing_ms": "endpoint",
    "stt_final_ms": "STT",
    "llm_first_token_ms": "LLM",
    "first_sentence_ms": "sentence",
    "tts_first_audio_ms": "TTS",
    "playout_ms": "playout",
}


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    out: Path = Path("out")
    as_json: bool = False
    node: NodeConfig = NodeConfig()


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """The demo call as both ends knew it, and whether each answer was the right one."""

    record: CallRecord
    report: CarrierReport
    rights: tuple[bool, ...]
    recording: str
    picture: str

    @property
    def exit_code(self) -> int:
        """0 if every turn was heard and answered right and the barge-in was taken, else 1."""
        is_well = bool(self.rights) and all(self.rights) and len(self.record.barge_ins) == 1
        return 0 if is_well and self.report.counts.stale_messages == 0 else 1


def run(options: DemoOptions) -> int:
    """Hold the demo call, print it as it goes, write its recording and picture."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    out = Console(stderr=options.as_json)
    result = trio.run(_main, options, out, clock=BeatingClock())
    if options.as_json:
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    else:
        _print_result(result, out)
    return result.exit_code


async def _main(options: DemoOptions, out: Console) -> DemoResult:
    data = load_demo_agent()
    embedded = embedded_agent(data)
    records: list[CallRecord] = []
    served = trio.Event()
    watcher = _Watcher(out)

    def keep(record: CallRecord) -> None:
        records.append(record)
        served.set()

    node = Node(
        MediaGate({}, default=embedded.agent).admit,
        options.node,
        on_start=watcher.follow,
        on_record=keep,
    )
    listeners = open_listeners("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    options.out.mkdir(parents=True, exist_ok=True)
    recording = options.out / "demo.wav"
    with trio.fail_after(DEMO_LIMIT_S):
        async with trio.open_nursery() as nursery:
            with _status(out, "the voices and the recogniser start"):
                await nursery.start(embedded.run)
                await nursery.start(node.serve, listeners)
                speech = [await say(line.say) for line in data.script]
            out.print(f"calling ws://127.0.0.1:{port}{MEDIA_PATH}demo\n", highlight=False)
            url = f"ws://127.0.0.1:{port}{MEDIA_PATH}demo"
            report = await dial(url, _script(speech), call_id="demo", record=recording)
            await served.wait()
            nursery.cancel_scope.cancel(reason="demo over")
    picture = options.out / "demo.svg"
    picture.write_text(_draw(report, records[0], recording), encoding="utf-8")
    return DemoResult(
        record=records[0],
        report=report,
        rights=tuple(_judge(data, records[0])),
        recording=str(recording),
        picture=str(picture),
    )


def _script(speech: Sequence[bytes]) -> list[Action]:
    """Hear the welcome; ask in turn; the third question comes in the middle of an answer."""
    actions: list[Action] = [wait_for_agent_quiet(700)]
    for number, pcm in enumerate(speech):
        if number == 2:
            actions[-1] = interrupt_after(INTERRUPT_AFTER_MS, pcm)
        else:
            actions.append(caller_says(pcm))
        actions.append(wait_for_agent_quiet(700))
    return [*actions, hang_up()]


def _judge(data: AgentData, record: CallRecord) -> list[bool]:
    """Whether each question got the answer the agent's data has for it, as far as heard."""
    answers = {entry.id: entry.answer for entry in data.entries} | {"goodbye": data.goodbye}
    said = [m.text for m in record.transcript if m.role == "assistant" and m.text]
    said = said[1:]  # after the welcome
    return [
        number < len(said) and bool(said[number]) and answers[line.expect].startswith(said[number])
        for number, line in enumerate(data.script)
    ]


class _Watcher:
    """Prints the conversation as the node understands it."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._call: Call | None = None

    def follow(self, call: Call) -> None:
        self._call = call
        call.journal.listen = self.hear

    def hear(self, note: Noted) -> None:
        assert self._call is not None
        at = f"{note.at_ms / 1000:6.2f} s"
        if note.kind == "turn_committed":
            self._out.print(f"{at}  [bold]caller[/]  {self._call.conversation.log[-1].text}")
        elif note.kind == "reply_settled":
            mark = "" if note.fields["is_whole"] else "  [yellow]— interrupted[/]"
            log = self._call.conversation.log
            text = next((m.text for m in reversed(log) if m.role == "assistant"), "")
            self._out.print(f"{at}  [cyan]agent[/]   {text}{mark}")
        elif note.kind == "response":
            ms = note.fields["response_ms"]
            self._out.print(f"{at}  [dim]        first sound {ms:.0f} ms after the caller[/]")
        elif note.kind == "cleared":
            self._out.print(f"{at}  [dim]        clearAudio[/]")


def _draw(report: CarrierReport, record: CallRecord, recording: Path) -> str:
    """The picture a carrier can draw, with the node's parts of each response in it."""
    stereo = array("h")
    stereo.frombytes(recording.read_bytes()[44:])
    picture = picture_of(report, stereo[0::2].tobytes(), stereo[1::2].tobytes())
    responses = [
        Response(
            start_ms=response.start_ms,
            parts=tuple((part.removesuffix("_ms"), getattr(timing, part)) for part in PARTS),
        )
        for response, timing in zip(picture.responses, record.turns, strict=False)
    ]
    return draw(msgspec.structs.replace(picture, title="demo", responses=tuple(responses)))


def _print_result(result: DemoResult, out: Console) -> None:
    table = Table(title="\nfrom the caller's last sound to the agent's first, ms", box=None)
    table.add_column("turn", justify="right")
    for heading in (*PARTS.values(), "= response", "at the ear"):
        table.add_column(heading, justify="right", no_wrap=True)
    at_ear = [turn.response_ms for turn in result.report.turns if turn.response_ms is not None]
    for number, timing in enumerate(result.record.turns):
        ear = f"{at_ear[number]:.0f}" if number < len(at_ear) else "-"
        table.add_row(str(number + 1), *_cells(timing), ear)
    out.print(table)
    for barge_in, ear_side in zip(result.record.barge_ins, result.report.barge_ins, strict=False):
        silence = ear_side.silence_ms
        out.print(
            f"\nbarge-in: playout held {barge_in.pause_ms:.0f} ms after the caller's first sound, "
            f"cleared after {barge_in.clear_ms:.0f} ms, silent at the ear after "
            f"{silence or 0:.0f} ms, stale frames {result.report.counts.stale_messages}",
            highlight=False,
        )
    rights = sum(result.rights)
    out.print(f"answers right: {rights} of {len(result.rights)}", highlight=False)
    out.print(f"recording {result.recording}, picture {result.picture}", highlight=False)


def _cells(timing: TurnTiming) -> list[str]:
    return [*(f"{getattr(timing, part):.0f}" for part in PARTS), f"{timing.response_ms:.0f}"]


def _status(out: Console, text: str) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(out.status(text) if out.is_terminal else nullcontext())
    return stack
