"""With what each session of a speech-to-speech model begins, and what becomes of a lost one's work.

A session knows nothing of the one before it: it is told what was said and heard, and asked for
what that one left unanswered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from rtcore.agent.context import fit
from rtcore.agent.conversation import UNKNOWN_OUTCOME
from rtcore.answering import Answers
from rtcore.model_ears import ModelEars
from rtcore.model_lines import ModelLines
from rtcore.model_mouth import ModelMouth
from rtcore.model_replies import ModelReplies
from rtcore.model_reply import ModelReply
from rtcore.model_turns import OwnTurns
from rtcore.ports import Message
from rtcore.reply import Reply
from rtcore.speech_link import SpeechLink
from rtcore.speech_port import Respond, Say, SpeechCommand, SpeechSession, Tell
from rtcore.turn.events import AgentState

__all__ = ["ModelSessions"]


class Floor(Protocol):
    """Who speaks: the agent's turn, as the session that makes it sees it."""

    reply: Reply | None

    def discard(self) -> None:
        """Drop a reply that was only speculated: nothing of it remains."""
        ...

    def break_off(self) -> None:
        """Stop what is being thought or said; lines that wait for it are said after all."""
        ...

    def say(self, text: str) -> bool:
        """Say a fixed line as soon as the agent has the floor; False if too many wait."""
        ...

    def put_off(self) -> None:
        """Nothing of the line on the floor was heard: it is said once more, as soon as may be."""
        ...


class ModelSessions:
    """What one call tells each session, and takes over from it."""

    def __init__(
        self,
        call: Answers,
        link: SpeechLink,
        ears: ModelEars,
        voice: ModelMouth,
        replies: ModelReplies,
        own: OwnTurns,
        lines: ModelLines,
        floor: Floor,
    ) -> None:
        self._call = call
        self._link = link
        self._ears = ears
        self._voice = voice
        self._replies = replies
        self._own = own
        self._lines = lines
        self._floor = floor

    def begin(self) -> SpeechSession:
        """With what a session begins: the conversation so far, if there was one."""
        conversation, agent = self._call.conversation, self._call.agent
        self._replies.begin_session()
        if self._link.has_moved:
            provider = self._link.model.name
            self._call.note("failed_over", provider=provider, member=self._link.place)
        messages = self._ears.known(conversation.messages_until(len(conversation.log)))
        reply = self._floor.reply
        if isinstance(reply, ModelReply) and reply.has_acted:
            for text, calls, outcomes in self._voice.said(reply):
                messages.append(Message(role="assistant", text=text, tool_calls=calls))
                messages += [
                    Message(role="tool", text=o.result or UNKNOWN_OUTCOME, tool_call_id=id)
                    for id, o in outcomes.items()
                ]
        return SpeechSession(
            context=self._call.context,
            instructions=conversation.system,
            tools=tuple(tool.spec for tool in agent.offered),
            messages=fit(messages, agent.definition.context_max_tokens),
        )

    def pending(self) -> Iterator[SpeechCommand]:
        """What a session is to be asked at once: what the last one left unanswered."""
        self._own.begin_session()
        if keys := self._ears.untold_keys:
            # where turns are the model's own, these were one: nothing else asks for its answer
            is_turn = self._link.model.turns == "theirs"
            yield Tell(text=keys, is_turn=is_turn)
            if is_turn:
                self._own.owes_answer()
        reply = self._floor.reply
        if isinstance(reply, ModelReply) and not reply.is_done and not reply.has_acted:
            reply.begin_again()
            self._replies.asked(reply)
            if reply.text:
                yield Say(reply=reply.id, text=reply.text)
            else:
                yield Respond(reply=reply.id)

    def lost(self, provider: str) -> None:
        """A session has ended: what it was making cannot come any more."""
        self._call.note("session_lost", provider=provider, is_last=self._link.is_lost)
        reply = self._floor.reply
        if is_apologised_for := self._is_apologised_for(reply):
            self._ears.answered()  # in its way: the next session need not
        if not isinstance(reply, ModelReply):
            self._own.lost()
        elif not reply.committed.is_set():
            self._own.lost()
            self._floor.discard()  # made whole or not: the next session would not know of it
        else:
            if not reply.is_done and any(step.calls for step in reply.steps):
                self._ears.answered()  # heard once more, the turn would be acted on twice
            self._own.lost()
            if is_apologised_for:
                reply.close("no session could be had")
            elif not reply.is_done:
                self._lost(reply)
        self._ears.lost()
        if is_apologised_for and reply is None:
            self._floor.say(self._call.agent.definition.apology_line)
        if not self._link.is_lost and self._is_answered_next():
            self._call.floor(AgentState.THINKING)  # its time begins anew

    def _is_apologised_for(self, reply: Reply | None) -> bool:
        """Whether a caller who waits for an answer is told that none comes for now.

        They are once a session that was lost could not be had again, if anybody can tell them.
        """
        if not self._link.is_refused or self._link.is_lost or not self._lines.can_apologise:
            return False
        if isinstance(reply, ModelReply) and (reply.text or not reply.committed.is_set()):
            return False
        return not self._call.is_muted and self._is_answered_next()

    def _lost(self, reply: ModelReply) -> None:
        """What becomes of ``reply``, which the caller waits for or hears."""
        # what is in hand is let go in this very tick: too late to have it made by another
        is_out = self._link.is_lost or reply.is_in_hand
        if reply.text and not reply.has_acted:
            is_said_beside = self._link.is_refused and self._call.agent.has_voice
            if is_out or is_said_beside or self._own.goes_first:
                self._floor.put_off()
        elif is_out or reply.has_acted:
            reply.close("its session was lost")
        elif not reply.is_asked_for:
            self._floor.break_off()  # told again what was heard, the next begins another

    def _is_answered_next(self) -> bool:
        """Whether the next session begins with an answer, asked for or by itself."""
        reply = self._floor.reply
        if reply is None:
            return self._ears.is_told_anew and self._link.model.turns == "theirs"
        return isinstance(reply, ModelReply) and not reply.is_done and not reply.has_acted
