"""What is talked about: the caller's sentences, what a mind says to each, what it is to know."""

from __future__ import annotations

from collections.abc import Callable

from rtcore.testing import Action, hang_up, interrupt_after, say, wait_for_agent_quiet
from tests.fakes._ears import teach

HOURS = "what are your hours"
ORDER = "find my order please"
STORY = "tell me a story"
STOP = "stop it and goodbye"
SENTENCES = (HOURS, ORDER, STORY, STOP)

GATE = "The opening hours are nine to five. The entrance is at gate fourteen."
GATE_MARK = "gate fourteen"
OPEN = "We are open from nine to five at gate fourteen."
FOUND = "Your order is on its way to you."
LONG = " ".join(
    f"This is part {number} of a story that is much too long for anyone to hear."
    for number in range(1, 21)
)
GOODBYE = "Goodbye then and thank you."
SAID = (OPEN, FOUND, LONG, GOODBYE)
FUNCTION = "find_order"
RESULT = b'{"order": "on its way"}'

ANSWER_MS = 12_000  # the slowest answer that still counts
QUIET_MS = 600
LINE_OPENS = bytes(8000)  # half a second before anyone speaks


def plan(said: str, *, is_result: bool) -> tuple[list[str], str | None]:
    """The pieces of the answer to the last message, or the function to call."""
    if is_result:
        return pieces(FOUND), None
    if "hours" in said:
        return pieces(OPEN), None
    if "order" in said:
        return [], FUNCTION
    return pieces(LONG if "story" in said else GOODBYE), None


def pieces(text: str) -> list[str]:
    """As models stream: a word each, with the space before it."""
    return [f" {word}" if at else word for at, word in enumerate(text.split())]


def conversation(sound_of: Callable[[str], bytes] = teach) -> list[Action]:
    """Two questions, one that needs a function, and one whose answer is talked over."""
    sound = {sentence: sound_of(sentence) for sentence in SENTENCES}
    quiet = wait_for_agent_quiet(QUIET_MS, begin_limit_ms=ANSWER_MS)
    return [
        say(LINE_OPENS),
        say(sound[HOURS]),
        quiet,
        say(sound[ORDER]),
        quiet,
        say(sound[STORY]),
        interrupt_after(1000, sound[STOP], ANSWER_MS),
        quiet,
        hang_up(),
    ]


def troubled(turns: int, sound_of: Callable[[str], bytes] = teach) -> list[Action]:
    """The same question over and over, each time given up only after the longest wait."""
    sound = sound_of(HOURS)
    quiet = wait_for_agent_quiet(QUIET_MS, begin_limit_ms=ANSWER_MS)
    return [say(LINE_OPENS), *[say(sound), quiet] * turns, hang_up()]
