"""What is held against what was seen, and the table it makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rtcore.agent.speech_text import speakable
from rtcore.usage import Kind
from tests.adapters.kinds import Adapter
from tests.adapters.run import REFUSES, SLOW, Seen
from tests.adapters.talk import GATE_MARK, LONG, SENTENCES
from tests.fakes._faults import Fault

WAIT_MAX_MS = 5000.0  # what a fault may cost a caller: the limits of a call's stages and a turn
USAGE_SHARE = 0.01  # the record and the service differ by less,
PADDING_S = 0.08  # or by what a recogniser has its least message filled up with, each utterance


def _one_of_each(
    *, drop: int, stall: int, error: int, malformed: int, refusal: Fault = REFUSES
) -> dict[str, Fault]:
    """The six ways to go wrong, four of them after so many messages of the service."""
    return {
        "drop": Fault(drop_after=drop),
        "stall": Fault(stall_after=stall),
        "error": Fault(error_after=error),
        "malformed": Fault(malformed_after=malformed),
        f"{refusal.status}": refusal,
        "slow": SLOW,
    }


TOO_MANY = Fault(status=429, retry_after="1")
FAULTS: dict[Kind, dict[str, Fault]] = {
    "stt": _one_of_each(drop=4, stall=4, error=3, malformed=2),
    "llm": _one_of_each(drop=3, stall=3, error=2, malformed=2, refusal=TOO_MANY),
    "tts": _one_of_each(drop=2, stall=3, error=2, malformed=2),
    "speech": _one_of_each(drop=6, stall=6, error=6, malformed=6),
}
UNITS: dict[Kind, str] = {"stt": "s", "llm": "requests", "tts": "characters", "speech": "s"}
COLUMNS = (
    "adapter", "works", "cancel stops the service", "fail-over", "usage, record / service",
    "faults injected", "longest wait, ms",
)  # fmt: skip


@dataclass
class Row:
    """One line; a cell that is ``no``, or says why not, does not hold."""

    name: str
    works: str = ""
    cancel: str = ""
    fail_over: str = ""
    as_first: str = ""  # of a list, and unable to answer
    usage: str = ""
    faults: str = ""
    waited_ms: list[float] = field(default_factory=list)

    @property
    def cells(self) -> list[str]:
        longest = f"{max(self.waited_ms):.0f}" if self.waited_ms else ""
        return [
            self.name, self.works, self.cancel, self.fail_over + self.as_first, self.usage,
            self.faults, longest,
        ]  # fmt: skip

    @property
    def holds(self) -> bool:
        return not any(cell == "no" or "no: " in cell for cell in self.cells[1:])


def complaints(seen: Seen) -> list[str]:
    """What of the conversation was not as it should be."""
    record, report = seen.record, seen.report
    heard = [message.text for message in record.transcript if message.role == "user"]
    said = [m.text for m in record.transcript if m.role == "assistant" and m.text]
    found: list[str] = []
    if [text.lower().rstrip(".") for text in heard] != list(SENTENCES):
        found.append(f"heard {heard}")
    answer, found_order, story, goodbye = seen.said
    if len(said) != len(SENTENCES) or [*said[:2], said[3]] != [answer, found_order, goodbye]:
        found.append(f"said {said}")
    elif not story.startswith(said[2]) or said[2] == story:
        found.append("the story was not cut where it was heard")
    if seen.function_calls != 1:
        found.append(f"{seen.function_calls} calls of the function")
    if not _has_looked_up(seen):
        found.append(f"nobody looked for {GATE_MARK}")
    if len(record.barge_ins) != 1:
        found.append(f"{len(record.barge_ins)} barge-ins")
    if report.counts.stale_messages or report.violations:
        found.append("audio after its clear, or a broken protocol")
    if any(turn.response_ms is None for turn in report.turns):
        found.append("a turn without an answer")
    if found:
        stats = record.stats
        found.append(f"{stats.inserted_frames} frames late, {seen.late_ms:.0f} ms at the caller")
    return found


def _has_looked_up(seen: Seen) -> bool:
    """Whether what the document says reached the mind: before it was asked, or by ``look_up``."""
    model = seen.agent.get("speech")
    if model is not None:
        return GATE_MARK in model.results(seen.fakes["speech"][-1])
    return any(note.kind == "answered_from" for note in seen.record.notes)


def works(seen: Seen) -> str:
    """The first column."""
    found = complaints(seen)
    knowledge = "knowledge by `look_up`" if "speech" in seen.agent else "knowledge"
    turns = f"{len(seen.report.turns)} turns, function, {knowledge}, barge-in"
    return f"no: {'; '.join(found)}" if found else turns


def cancel(adapter: Adapter, seen: Seen) -> str:
    """Whether the service was told that nobody listens any more."""
    return adapter.told if adapter.is_cancelled(seen.fakes[adapter.kind][-1]) else "no"


def usage(adapter: Adapter, seen: Seen) -> str:
    """What the record says was used, beside what the service counted."""
    recorded = seen.used(adapter.kind)
    counted = adapter.counted(seen)
    ours = {
        "stt": recorded.audio_s,
        "llm": recorded.requests,
        "tts": recorded.characters,
        "speech": recorded.audio_s,
    }[adapter.kind]
    unit = UNITS[adapter.kind]
    slack = 0.0
    if unit == "s":
        slack = PADDING_S * (len(SENTENCES) + 1)
    elif unit == "requests":  # one may be given up before it is on its way
        slack = 1.0
    elif unit == "characters":  # a sentence may be cut as it is being asked for
        slack = adapter.ahead * max(len(_spoken(sentence)) + 1 for sentence in LONG.split(". "))
    is_same = abs(ours - counted) <= max(USAGE_SHARE * counted, slack)
    shown = f"{ours:g} / {counted:g} {unit}"
    return shown if is_same and counted else f"no: {shown}"


def _spoken(sentence: str) -> str:
    """As a voice is given it: numbers are longer in words."""
    return speakable(sentence, "en") or sentence


def fail_over(adapter: Adapter, seen: Seen) -> str:
    """Whether the second of a list did what the first refused."""
    first, second = (seen.used(adapter.kind, member) for member in (0, 1))
    found = complaints(seen)
    if found:
        return f"no: {'; '.join(found)}"
    if first.answered or not second.answered or not second.failovers or not first.failures:
        return f"no: first {first}, second {second}"
    return f"yes: {first.failures} refused, {second.answered} answered by the second"


def survived(seen: Seen) -> str:
    """Whether each turn of a troubled call ended in something heard, and the call in peace."""
    unheard = sum(turn.response_ms is None for turn in seen.report.turns)
    if seen.report.ended_by != "caller":
        return f"no: ended by {seen.record.ended_by}"
    if unheard:
        return f"no: {unheard} turns without a word"
    if seen.longest_wait_ms > WAIT_MAX_MS:
        return f"no: {seen.longest_wait_ms:.0f} ms of silence"
    return ""


def markdown(rows: Iterable[Row]) -> str:
    """The table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row.cells for row in rows)]
    return "".join(f"| {' | '.join(_plain(line))} |\n" for line in lines)


def _plain(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", "/") or "–" for cell in cells]
