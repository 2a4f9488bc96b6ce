"""What is due, when, and never too much of it."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from rtcore.audio import FRAME_BYTES, FRAME_SAMPLES
from rtcore.media.playout import Playout
from rtcore.protocol.events import Checkpoint

MS = 8  # samples
LOUD = array("h", [9000, -9000] * 80).tobytes()  # one frame
QUIET = bytes(FRAME_BYTES)


def samples(pieces: list[bytes | Checkpoint]) -> int:
    return sum(len(each) // 2 for each in pieces if isinstance(each, bytes))


def test_the_first_piece_goes_at_once_up_to_the_lead() -> None:
    playout = Playout(lead_ms=120, chunk_ms=40)
    playout.append(LOUD * 50)
    assert samples(playout.due(5.0)) == 120 * MS
    assert playout.due(5.0) == []


def test_the_lead_is_kept_and_never_passed() -> None:
    playout = Playout(lead_ms=120, chunk_ms=40)
    playout.append(LOUD * 500)
    sent = samples(playout.due(0.0))
    for tick in range(1, 200):
        sent += samples(playout.due(tick * 0.02))
        played = tick * 20 * MS
        assert played < sent <= played + 120 * MS


def test_a_stall_is_caught_up_in_one_piece() -> None:
    playout = Playout(lead_ms=120, chunk_ms=40)
    playout.append(LOUD * 500)
    playout.due(0.0)
    assert samples(playout.due(0.1)) == 100 * MS  # still 20 ms ahead: no gap was heard
    assert playout.underruns == 0


def test_running_dry_is_counted_with_its_length() -> None:
    playout = Playout(lead_ms=120, chunk_ms=40)
    playout.append(LOUD * 100)
    playout.due(0.0)
    assert samples(playout.due(0.5)) == 120 * MS
    assert (playout.underruns, playout.underrun_samples) == (1, 380 * MS)


def test_a_new_reply_is_no_underrun() -> None:
    playout = Playout()
    playout.append(LOUD)
    playout.due(0.0)
    playout.start_anew()
    playout.append(LOUD)
    playout.due(9.0)
    assert playout.underruns == 0


def test_a_checkpoint_follows_its_audio_at_once() -> None:
    playout = Playout()
    playout.append(LOUD * 3)
    playout.mark("a")
    playout.append(LOUD)
    playout.mark("b")
    commands = playout.due(0.0)
    assert [type(c) for c in commands] == [bytes, Checkpoint, bytes, Checkpoint]
    assert [c.name for c in commands if isinstance(c, Checkpoint)] == ["a", "b"]


def test_a_tail_is_filled_up_with_silence() -> None:
    playout = Playout()
    playout.append(LOUD[:100])
    assert playout.align() == FRAME_SAMPLES - 50
    assert playout.unsent_samples == FRAME_SAMPLES
    assert playout.align() == 0


def test_pausing_keeps_everything() -> None:
    playout = Playout(lead_ms=120, chunk_ms=40)
    playout.append(LOUD * 20)
    sent = samples(playout.due(0.0))
    playout.pause()
    assert playout.due(0.1) == []
    assert playout.resume(0.11, rewind_limit=4800) == 0  # 10 ms of lead left: nothing was missed
    sent += samples(playout.due(0.11))
    for tick in range(1, 40):
        sent += samples(playout.due(0.11 + tick * 0.02))
    assert sent == 20 * FRAME_SAMPLES


def test_resuming_goes_back_to_the_last_pause_in_our_speech() -> None:
    playout = Playout(lead_ms=120, chunk_ms=20)
    playout.append(LOUD * 3 + QUIET + LOUD * 20)
    playout.due(0.0)  # three loud frames, the pause, two loud ones
    playout.pause()
    assert playout.resume(1.0, rewind_limit=4800) == 2 * FRAME_SAMPLES
    assert playout.due(1.0)[0] == LOUD * 6
    assert playout.unsent_samples == (20 + 2 - 2 - 6) * FRAME_SAMPLES


def test_without_a_pause_it_goes_back_to_the_quietest_frame() -> None:
    soft = array("h", [900, -900] * 80).tobytes()
    playout = Playout(lead_ms=120, chunk_ms=20)
    playout.append(LOUD * 2 + soft + LOUD * 20)
    playout.due(0.0)
    playout.pause()
    assert playout.resume(1.0, rewind_limit=4800) == 4 * FRAME_SAMPLES  # begins with the soft one


def test_clearing_drops_all_that_was_not_heard() -> None:
    playout = Playout()
    playout.append(LOUD * 50)
    playout.mark("end")
    playout.due(0.0)
    assert playout.clear(heard=160) == 49 * FRAME_SAMPLES
    assert not playout.is_waiting
    assert playout.due(1.0) == []
    assert (playout.sent, playout.end) == (160, 160)


def test_the_far_end_is_what_is_heard_now() -> None:
    playout = Playout()
    frames = [array("h", [n + 1] * 160).tobytes() for n in range(5)]
    playout.append(b"".join(frames))
    playout.due(0.0)
    assert playout.heard_frame(160) == frames[0]
    assert playout.heard_frame(480) == frames[2]
    assert playout.heard_frame(100) is None  # nothing was playing before the first frame


@given(st.lists(st.tuples(st.sampled_from("apdrc"), st.integers(1, 60)), max_size=80))
def test_whatever_happens_nothing_is_lost_or_overfed(steps: list[tuple[str, int]]) -> None:
    playout = Playout(lead_ms=120, chunk_ms=40)
    now_s, heard = 0.0, 0
    for what, amount in steps:
        if what == "a":
            playout.append(LOUD * amount)
        elif what == "p":
            playout.pause()
        elif what == "r":
            playout.resume(now_s, rewind_limit=1600)
        elif what == "c":
            playout.clear(heard)
        else:
            now_s += amount / 100
            heard = playout.sent
            before = playout.sent
            written = samples(playout.due(now_s))
            assert playout.sent == before + written
            assert written <= 120 * MS
        assert playout.sent <= playout.end


@given(
    st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 70)), min_size=1, max_size=30),
    st.sampled_from([20, 40, 60]),
)
def test_nothing_is_due_before_it_says_and_something_when_it_says(
    steps: list[tuple[int, int]], chunk_ms: int
) -> None:
    playout, now_s = Playout(lead_ms=120, chunk_ms=chunk_ms), 10.0
    for samples, wait_ms in steps:
        playout.append(bytes(2 * samples))
        playout.due(now_s)
        now_s += wait_ms / 1000
        if playout.unsent_samples and now_s < playout.due_s:
            assert playout.due(now_s) == []
            now_s = playout.due_s + 0.0002
        if playout.unsent_samples:
            assert playout.due(now_s)
