"""Labels, intervals and transcripts: plain functions of what is put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.turns.calls import NO_LAPSE_SAMPLES, label_call
from bench.turns.intervals import per_minute, quantiles, share
from bench.turns.labels import Samples, Span, active_dbfs, gaps, ms, speech_spans
from bench.turns.sounds import at_level, echo_of, noise_bed, through_mulaw
from bench.turns.sources import Call
from bench.turns.words import WORDS_LATE_SAMPLES, script_of


def recording(*parts: tuple[float, float], seed: int = 1) -> Samples:
    """Noise bursts: (seconds, level in dBFS), one after the other."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [
            rng.standard_normal(round(seconds * 8000)) * 32768 * 10 ** (dbfs / 20)
            for seconds, dbfs in parts
        ]
    )


def test_speech_is_found_where_it_was_put() -> None:
    pcm = recording((1.0, -75), (0.8, -20), (0.6, -75), (1.1, -25), (1.0, -75))
    spans = speech_spans(pcm)
    assert [(span.start, span.end) for span in spans] == [(8000, 14400), (19200, 28000)]


def test_a_stop_consonant_is_no_gap_and_a_tick_is_no_speech() -> None:
    pcm = recording(
        (0.5, -75), (0.4, -20), (0.09, -75), (0.4, -20), (1, -75), (0.05, -20), (1, -75)
    )
    assert speech_spans(pcm) == [Span(4000, 11120)]


def test_silence_has_no_speech() -> None:
    assert speech_spans(recording((2.0, -80))) == []
    assert speech_spans(np.zeros(0)) == []


def test_gaps_shorter_than_asked_are_left_out() -> None:
    spans = [Span(0, 100), Span(150, 300), Span(1000, 1200)]
    assert gaps(spans, 100) == [Span(300, 1000)]


def test_mulaw_keeps_its_relative_error_and_its_known_values() -> None:
    ramp = np.arange(-32000, 32001, 37, dtype=float)
    error = np.abs(through_mulaw(ramp) - ramp)
    assert np.all(error <= np.abs(ramp) / 16 + 8)
    # ITU-T G.711 table 2a: the largest output, the first steps, and silence
    assert list(through_mulaw(np.array([40000.0, -40000.0, 0.0, 8.0]))) == [32124, -32124, 0, 8]


def test_levels_are_set_where_asked() -> None:
    voice = recording((1.0, -31), (1.0, -80))
    assert active_dbfs(at_level(voice, -22.0)) == pytest.approx(-22.0, abs=0.1)
    rng = np.random.default_rng(3)
    bed = noise_bed(8000, -40.0, rng, None)
    assert 10 * np.log10(np.mean(bed**2) / 32768**2) == pytest.approx(-40.0, abs=0.01)


def test_echo_is_late_and_lower() -> None:
    far = recording((1.0, -20))
    for clipped in (False, True):
        back = echo_of(far, 25.0, 800, clipped=clipped)
        assert not back[:800].any()
        loss_db = 10 * np.log10(np.mean(far**2) / np.mean(back[800:] ** 2))
        assert loss_db == pytest.approx(25.0, abs=0.01)


def test_a_turn_ends_where_the_other_speaks_and_a_backchannel_is_none() -> None:
    caller = recording(
        (1.0, -75), (1.0, -20), (0.5, -75), (1.0, -20), (4.0, -75), (0.4, -20), (5.0, -75),
        (1.0, -20), (1.0, -75),
    )  # fmt: skip
    other = recording((4.0, -80), (7.0, -20), (4.0, -80), seed=2)
    heard = label_call(Call("made", caller, other))
    assert [len(turn) for turn in heard.turns] == [2, 1]
    assert [span.start for span in heard.backchannels] == [60000]


def test_a_long_silence_nobody_used_ends_a_turn() -> None:
    caller = recording((1.0, -75), (1.0, -20), (1.8, -75), (1.0, -20), (1.0, -75))
    other = recording((5.0, -80), (0.8, -80), seed=2)
    call = Call("made", caller, other)
    assert [len(turn) for turn in label_call(call).turns] == [1, 1]
    assert [len(turn) for turn in label_call(call, NO_LAPSE_SAMPLES).turns] == [2]


def test_words_arrive_after_they_were_spoken() -> None:
    spans = [Span(8000, 16000), Span(24000, 30000)]
    script = script_of(spans, ["i would like to", "Order a new one, please."], 4)
    assert [at for at, _ in script] == sorted(at for at, _ in script)
    for at, transcript in script:
        assert at == transcript.words[-1].end_sample + WORDS_LATE_SAMPLES
        assert len(transcript.text.split()) == len(transcript.words)
    finals = [(at, each.segment, each.text) for at, each in script if each.is_final]
    assert finals == [
        (16000 + WORDS_LATE_SAMPLES, 4, "i would like to"),
        (30000 + WORDS_LATE_SAMPLES, 5, "Order a new one, please."),
    ]


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share(counts: tuple[int, int]) -> None:
    hits, of = counts
    result = share(hits, of)
    low, high = result["ci95"]
    assert 0 <= low <= result["percent"] <= high <= 100


def test_known_intervals() -> None:
    # Wilson (1927) at 25 of 100; Poisson limits of 3 events: 0.62 and 8.77
    assert share(25, 100)["ci95"] == [17.5, 34.3]
    assert share(0, 0)["percent"] is None
    low, high = per_minute(3, 1.0)["ci95"]
    assert low == pytest.approx(0.62, abs=0.02)
    assert high == pytest.approx(8.77, abs=0.02)
    assert per_minute(0, 10.0)["ci95"][0] == 0.0


@given(st.lists(st.floats(0, 3000), min_size=1, max_size=40), st.randoms())
def test_quantiles_do_not_depend_on_order(values: list[float], shuffler: object) -> None:
    shuffled = sorted(values, key=lambda _: shuffler.random())  # type: ignore[attr-defined]
    assert quantiles(values) == quantiles(shuffled)
    result = quantiles(values)
    assert result["p50_ci95"][0] <= result["p50"] <= result["p50_ci95"][1]


def test_milliseconds_are_samples() -> None:
    assert ms(20) == 160
