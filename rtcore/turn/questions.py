"""Questions told by their words alone: many recognisers write no question mark.

A question opens with a question word ("where can i park") or turns verb and subject round ("can
i pay by card"). It is whole when what it opened is closed: the verb has its object, a "to be" its
complement. What is no question gets no vote.
"""

from __future__ import annotations

from rtcore.turn.language import Language

__all__ = ["question"]

WHOLE = 0.85  # short of the certainty of a written question mark: "... for tomorrow" may follow
LIKELY = 0.6
OPEN = 0.1
WORDS_BEFORE_VERB = 4  # "how much", "what kind of room"


def question(words: list[str], table: Language) -> float | None:
    """How complete ``words`` are as a question; None if they are none, or end in mid-phrase."""
    first = next((at for at, word in enumerate(words) if word not in table.leads), len(words))
    asked = words[first:]
    if asked and asked[-1] in table.courtesies:
        asked = asked[:-1]
    if not asked:
        return None
    if asked[0] in table.asked_being:  # "what's the price"
        return _being(asked[1:], asked[0], table)
    by_word = asked[0] in table.question_words
    for at, word in enumerate(asked[: WORDS_BEFORE_VERB + 1 if by_word else 1]):
        if word in table.auxiliaries:
            asks = " ".join(asked[:at])
            judge = _being if word in table.being else _doing
            return judge(asked[at + 1 :], asks, table)
        if word in table.subjects:  # "when i was", "what we need": no question
            return None
    return None


def _being(rest: list[str], asks: str, table: Language) -> float | None:
    """What follows a "to be": a subject, and unless that was asked for, what it is."""
    if len(rest) >= 2:
        return _ending(rest, asks, table)
    if not rest:
        return OPEN
    if not asks:
        return OPEN if rest[0] in table.subjects else None  # "is it", but not "no, is fine"
    if rest[0] in table.speakers and asks.split()[0] not in table.asks_no_object:
        return LIKELY  # "what are you", but not "where are you"
    if rest[0] in table.dangling or (
        rest[0] in table.determiners and rest[0] not in table.pronouns
    ):
        return OPEN
    return WHOLE  # "how much is it", "which one is cheaper"


def _doing(rest: list[str], asks: str, table: Language) -> float | None:
    """What follows another verb: a subject, what it does, and to what."""
    is_named = bool(rest) and rest[0] in table.determiners and rest[0] not in table.subjects
    if len(rest) < (3 if is_named else 2):
        return OPEN  # "can i", "what do you", "how much does a visit"
    if not is_named and rest[0] not in table.subjects:
        return None
    last, before = rest[-1], rest[-2]
    has_object = bool(asks) and asks not in table.asks_no_object
    if last in table.wanting and not has_object:
        return OPEN  # "can i get", "where can i find"
    if before in table.wanting and last in table.receivers:
        return OPEN  # "can you tell me"
    if len(rest) == 2 and not asks and rest[0] in table.speakers:
        return LIKELY  # "can i pay": with what is often added
    return _ending(rest, asks, table)


def _ending(rest: list[str], asks: str, table: Language) -> float | None:
    """Whether the last of several words closes the phrase."""
    last, before = rest[-1], rest[-2]
    if last in table.pronouns and before in table.dangling:  # "with that", "about it"
        return WHOLE
    if asks and last in table.stranded:  # "what is that for", "where are you from"
        return WHOLE if before in table.pronouns else LIKELY
    if last in table.dangling or last in table.fillers:
        return None
    if last in table.digits and before in table.digits:  # a number, which may go on
        return None
    return WHOLE
