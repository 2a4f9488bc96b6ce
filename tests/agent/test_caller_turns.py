"""The caller's turns of a speech model enter the conversation once, in order, with their words."""

from __future__ import annotations

from rtcore.agent.caller_turns import OPEN_MAX, SAID_MAX, CallerTurns
from rtcore.agent.conversation import UNKNOWN_WORDS, Conversation
from rtcore.speech_port import CallerSaid


def said(turn: str, text: str, *, is_final: bool = True) -> CallerSaid:
    return CallerSaid(turn=turn, text=text, is_final=is_final)


def texts(conversation: Conversation) -> list[str]:
    return [message.text for message in conversation.log]


def test_a_turn_is_written_when_its_words_are_known() -> None:
    talk = Conversation()
    turns = CallerTurns(talk)
    turns.over(("a",))
    turns.said(said("a", "Hel", is_final=False))
    assert texts(talk) == []
    turns.said(said("a", " Hello. "))
    assert texts(talk) == ["Hello."]


def test_words_may_come_before_the_turn_is_over() -> None:
    talk = Conversation()
    turns = CallerTurns(talk)
    turns.said(said("a", "Hello."))
    turns.over(("a",))
    assert texts(talk) == ["Hello."]


def test_the_parts_of_a_turn_are_joined_and_keys_follow_them() -> None:
    talk = Conversation()
    turns = CallerTurns(talk)
    turns.over(("a", "b"), keys="(pressed 1)")
    turns.said(said("b", "five six"))
    assert texts(talk) == []
    turns.said(said("a", "My number is"))
    assert texts(talk) == ["My number is five six (pressed 1)"]


def test_a_later_turn_waits_for_the_earlier_one() -> None:
    talk = Conversation()
    turns = CallerTurns(talk)
    turns.over(("a",))
    turns.over(("b",))
    turns.said(said("b", "Second."))
    assert texts(talk) == []
    turns.said(said("a", "First."))
    assert texts(talk) == ["First.", "Second."]


def test_what_must_be_written_without_words_gets_them_later() -> None:
    talk = Conversation()
    turns = CallerTurns(talk)
    turns.over(("a",))
    turns.write(is_last_chance=True)
    talk.assistant("Yes?")
    assert texts(talk) == [UNKNOWN_WORDS, "Yes?"]
    turns.over(("b",))
    turns.said(said("b", "Second."))  # does not wait for what is written already
    turns.said(said("a", "First."))
    assert texts(talk) == ["First.", "Yes?", "Second."]


def test_words_of_somebody_else_need_no_waiting() -> None:
    talk = Conversation()
    turns = CallerTurns(talk)
    turns.over(("a",), words="Hello there.")
    turns.said(said("a", "hello dear"))
    assert texts(talk) == ["Hello there."]


def test_a_turn_told_again_stays_one() -> None:
    talk = Conversation()
    turns = CallerTurns(talk)
    turns.again(("z",))  # nothing was told yet
    turns.over(("a",))
    turns.said(said("a", "Helo."))
    turns.again(("b",))
    turns.said(said("b", "Hello."))
    assert texts(talk) == ["Hello."]


def test_neither_turns_nor_words_pile_up() -> None:
    talk = Conversation()
    turns = CallerTurns(talk)
    for number in range(OPEN_MAX + 10):
        turns.over((f"t{number}",))
    for number in range(SAID_MAX + 10):
        turns.said(said(f"never{number}", "?"))
    turns.write(is_last_chance=True)
    assert len(talk.log) == OPEN_MAX
    assert len(turns._said) == SAID_MAX
