"""What was not heard was not said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtcore.ledger import Ledger, TimedWord

TEXT = "one two three four five"


def spoken(samples: int, *, complete: bool = True) -> Ledger:
    """A ledger with ``TEXT`` of that length, all of it sent."""
    ledger = Ledger()
    span = ledger.begin((1, 0), TEXT)
    ledger.append(span, samples)
    span.is_complete = complete
    ledger.checkpoint("end")
    ledger.note_sent(samples)
    return ledger


def advance_all(ledger: Ledger, samples: int) -> None:
    for _ in range(samples // 160):
        ledger.advance(160)


def test_all_heard_is_all_said() -> None:
    ledger = spoken(8000)
    advance_all(ledger, 8000)
    assert ledger.is_drained
    assert ledger.heard_text((1, 0)) == TEXT


def test_no_more_is_heard_than_was_sent() -> None:
    ledger = spoken(8000)
    ledger.note_sent(1600)
    advance_all(ledger, 8000)
    assert ledger.heard == 1600
    assert not ledger.is_drained


def test_a_word_begun_is_not_heard() -> None:
    ledger = spoken(8000)
    ledger.advance(4000)
    assert ledger.heard_text((1, 0)) == "one two"  # half the letters lie inside "three"


def test_word_times_decide_where_the_voice_gives_them() -> None:
    ledger = spoken(8000)
    ledger.spans[0].words += [TimedWord(text_end=3, end_sample=100)]
    ledger.spans[0].words += [TimedWord(text_end=7, end_sample=7000)]
    ledger.advance(6999)
    assert ledger.heard_text((1, 0)) == "one"
    ledger.advance(1)
    assert ledger.heard_text((1, 0)) == "one two"


def test_a_cut_resolves_every_checkpoint_and_ends_the_count() -> None:
    ledger = spoken(8000)
    ledger.advance(1600)
    ledger.cut()
    assert ledger.is_drained
    assert not ledger.has_checkpoints
    advance_all(ledger, 8000)
    assert ledger.heard == 1600
    assert not ledger.acknowledge("end")  # late: means nothing any more


def test_an_acknowledgement_is_exact_and_teaches_the_lag() -> None:
    ledger = spoken(1600)
    ledger.advance(1600)  # our own count ran ahead: the line is 300 ms away
    span = ledger.begin((1, 1), "more")
    ledger.append(span, 8000)
    ledger.note_sent(9600)
    ledger.advance(2400)
    assert ledger.acknowledge("end")
    assert ledger.heard == 1600
    ledger.advance(8000)
    assert ledger.heard == 9600
    span = ledger.begin((2, 0), "again")  # the next run is heard as late
    ledger.append(span, 1600)
    ledger.note_sent(11200)
    advance_all(ledger, 2400)
    assert ledger.heard == 9600
    ledger.advance(160)
    assert ledger.heard == 9760


def test_an_acknowledgement_proves_what_came_before_it() -> None:
    ledger = spoken(800)
    span = ledger.begin((1, 0), "six")
    ledger.append(span, 800)
    ledger.checkpoint("later")
    ledger.note_sent(1600)
    assert ledger.acknowledge("later")
    assert not ledger.has_checkpoints


def test_what_is_repeated_is_not_heard_twice() -> None:
    ledger = spoken(8000)
    ledger.note_sent(4000)
    advance_all(ledger, 4000)
    ledger.repeat(800)
    assert ledger.appended == 8800
    before = ledger.heard_text((1, 0))
    ledger.note_sent(4800)
    advance_all(ledger, 800)
    assert ledger.heard_text((1, 0)) == before
    ledger.note_sent(8800)
    advance_all(ledger, 4000)
    assert ledger.heard_text((1, 0)) == TEXT
    assert ledger.is_drained


def test_replies_and_steps_are_told_apart() -> None:
    ledger = Ledger()
    for group, text in (((1, 0), "first"), ((1, 1), "second"), ((2, 0), "third")):
        span = ledger.begin(group, text)
        ledger.append(span, 160)
        span.is_complete = True
    ledger.note_sent(480)
    ledger.advance(480)
    assert [ledger.heard_text(g) for g in ((1, 0), (1, 1), (2, 0))] == ["first", "second", "third"]
    ledger.forget(1)
    assert ledger.heard_text((1, 0)) == ""
    assert ledger.heard_text((2, 0)) == "third"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 4000)),
            st.tuples(st.just("send"), st.integers(0, 4000)),
            st.tuples(st.just("advance"), st.integers(0, 4000)),
            st.tuples(st.just("ack"), st.integers(0, 20)),
            st.tuples(st.just("cut"), st.just(0)),
        ),
        max_size=60,
    )
)
def test_the_order_of_counts_always_holds(steps: list[tuple[str, int]]) -> None:
    ledger = Ledger()
    names = 0
    for number, (what, amount) in enumerate(steps):
        if what == "append":
            ledger.append(ledger.begin((number, 0), TEXT), amount)
            ledger.checkpoint(str(names))
            names += 1
        elif what == "send":
            ledger.note_sent(min(ledger.appended, ledger.sent + amount))
        elif what == "advance":
            ledger.advance(amount)
        elif what == "cut":
            ledger.cut()
        elif ledger.sent == ledger.appended:  # a carrier acknowledges only what it was sent
            ledger.acknowledge(str(amount))
        assert 0 <= ledger.heard <= ledger.sent <= ledger.appended
        for span in ledger.spans:
            assert TEXT.startswith(span.heard_text())
            assert 0 <= span.heard_samples <= span.samples
