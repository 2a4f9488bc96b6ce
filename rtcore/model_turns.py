"""The turns a speech-to-speech model takes by itself, where they are its own to find.

It says when the caller began and ended, and begins its replies unasked. What is on the line stays
ours: it is stopped when the model heard the caller, and replies wait until it is free.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import trio

from rtcore.answering import Answers
from rtcore.audio import RATE_HZ
from rtcore.metrics import BargeIn
from rtcore.model_ears import ModelEars
from rtcore.model_mouth import first_sign_limit_s
from rtcore.model_replies import ModelReplies
from rtcore.model_reply import ModelReply
from rtcore.reply import Reply
from rtcore.speech_link import SpeechLink
from rtcore.speech_port import CallerBegan, CancelReply
from rtcore.turn import events
from rtcore.turn.events import AgentState

__all__ = ["THEIRS", "WAITING_MAX", "OwnTurns"]

WAITING_MAX = 4  # replies a model may begin while one is still being heard
# what the turn machine decides, and the model in its stead where turns are its own
THEIRS: frozenset[type[events.Event]] = frozenset(
    {
        events.TurnEager,
        events.TurnResumed,
        events.BargeInSuspected,
        events.BargeInConfirmed,
        events.BargeInDismissed,
    }
)


class Floor(Protocol):
    """Who speaks: the agent's turn, as its model's own turns see it."""

    reply: Reply | None

    @property
    def heard_samples(self) -> int: ...

    def start(self, reply: Reply) -> None:
        """Begin to say ``reply``: the floor is free."""
        ...

    def stop(self, reply: ModelReply) -> None:
        """Have the model stop, and know what of ``reply`` was heard and what became of it."""
        ...

    def next(self) -> None:
        """The floor is free: say what waits."""
        ...

    def interrupt(self) -> bool:
        """Stop what is being thought or said; False if there was nothing."""
        ...


class OwnTurns:
    """What the model begins and ends by itself in one call."""

    def __init__(
        self, call: Answers, link: SpeechLink, ears: ModelEars, replies: ModelReplies, floor: Floor
    ) -> None:
        self._call = call
        self._link = link
        self._ears = ears
        self._replies = replies
        self._floor = floor
        self._waiting: deque[ModelReply] = deque()  # begun before their turn to speak
        self._owed = trio.Event()  # a turn is over; set once its answer was begun, or another turn
        self._is_open = False  # the caller is in the midst of one
        self._ended: str | None = None  # the one that was over last, in this session
        self._again: trio.Event | None = None  # told to a new session; set once that answers it

    # --- another session ----------------------------------------------------------------------

    @property
    def goes_first(self) -> bool:
        """Whether the model answers a turn of before, by itself, ahead of the lines that wait."""
        return self._again is not None

    def lost(self) -> None:
        """A session has ended: the next one is told the turn that nobody has answered.

        It hears the caller begin once more, and stops what it is making: so a line waits.
        """
        self.drop_waiting()
        is_told_again = self._link.model.turns == "theirs" and not self._link.is_lost
        is_unanswered = self._is_open or self._ears.is_told_anew
        self._again = trio.Event() if is_told_again and is_unanswered else None
        self._is_open, self._ended = False, None

    def begin_session(self) -> None:
        """Another session is told what nobody has answered."""
        if self._again is not None:
            self._call.start(self._let_it_go_first, self._again)

    async def _let_it_go_first(self, again: trio.Event) -> None:
        with trio.move_on_after(first_sign_limit_s(self._call)):
            await again.wait()
        if self._again is again:  # it makes nothing of that turn
            self._again = None
            self._floor.next()

    # --- what the model hears and begins ------------------------------------------------------

    def caller_began(self, began: CallerBegan) -> None:
        """The model heard the caller: it stopped what it said, so must the line."""
        self._owed.set()
        self._is_open, self._ended = True, None
        self._call.note("caller_began")
        reply = self._floor.reply
        if reply is None or not reply.is_interruptible:
            return
        heard_ms, late_ms = self._floor.heard_samples * 1000 / RATE_HZ, 0.0
        if began.at_sample is not None:
            late_ms = (self._link.now_samples - began.at_sample) * 1000 / RATE_HZ
        if self._floor.interrupt():
            self._call.stats.barge_ins += 1
            barge_in = BargeIn(pause_ms=late_ms, clear_ms=late_ms, heard_ms=heard_ms)
            self._call.barge_ins.append(barge_in)

    def caller_ended(self, turn: str) -> None:
        """The model takes the caller's turn to be over: an answer is due. Once for each turn."""
        if turn == self._ended:
            return
        self._is_open, self._ended = False, turn
        self._link.flush()
        self._ears.over_by_model(turn)
        self._call.floor(AgentState.THINKING)
        self.owes_answer()

    def answer_keys(self) -> None:
        """Keys are a turn of their own where the model finds the others."""
        if self._ears.tell_keys(is_turn=True):
            self._ears.over()
            self.owes_answer()

    def owes_answer(self) -> None:
        """The model knows of a turn that is over: it has so long to begin its answer."""
        self._owed.set()
        self._owed = trio.Event()
        self._call.start(self._see_to_an_answer, self._owed)

    async def _see_to_an_answer(self, begun: trio.Event) -> None:
        """A model that owes an answer and begins none is given up: another session hears the turn.

        Something else that is being said has its own limits, and is an answer once it is heard.
        """
        with trio.move_on_after(first_sign_limit_s(self._call)):
            await begun.wait()
            return
        is_wanted = self._ears.is_told_anew and not self._call.is_muted
        if is_wanted and self._floor.reply is None:
            self._link.give_up()

    def reply_begun(self, id: str) -> None:
        """The model has begun to answer by itself."""
        self._owed.set()
        if self._again is not None:
            self._again.set()
            self._again = None
        if self._call.is_muted:
            self._link.tell(CancelReply(reply=id))
            if self._floor.reply is None:
                self._call.floor(AgentState.LISTENING)  # nobody waits for it
            self._floor.next()
            return
        reply = self._replies.new(id, clock=self._ears.answered_unasked())
        self._replies.asked(reply)
        reply.is_asked_for = False
        reply.committed.set()
        if self._floor.reply is None:
            self._floor.start(reply)
            self._call.floor(AgentState.THINKING)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append(reply)
        else:
            self._link.tell(CancelReply(reply=id))
            self._replies.drop(reply)

    def next(self) -> ModelReply | None:
        """The reply that has waited longest, if one has."""
        return self._waiting.popleft() if self._waiting else None

    def drop_waiting(self) -> None:
        """What waits to be said is not wanted any more."""
        self._owed.set()
        while self._waiting:
            waiting = self._waiting.popleft()
            self._floor.stop(waiting)
            self._replies.drop(waiting)
