"""The resamplers: exact against their twin, close to scipy, and as flat as they claim."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from rtcore import _audio_py
from rtcore.audio import RATES_HZ, Resampler

PAIRS = [  # the ones that telephony, voices and recognisers need, and what delay they have
    (8000, 16000, 2.0),
    (16000, 8000, 2.0),
    (8000, 24000, 2.0),
    (24000, 8000, 2.0),
    (16000, 24000, 1.0),
    (24000, 16000, 1.0),
    (22050, 8000, 2.0),
]
PAIR = pytest.mark.parametrize(("from_hz", "to_hz"), [pair[:2] for pair in PAIRS])
EVERY_PAIR = [(a, b) for a in RATES_HZ for b in RATES_HZ]

Samples = NDArray[np.int16]


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    resampler = Resampler(from_hz, to_hz)
    return np.frombuffer(resampler.push(samples) + resampler.flush(), np.int16)


def ratio(from_hz: int, to_hz: int) -> tuple[int, int]:
    divisor = int(np.gcd(from_hz, to_hz))
    return to_hz // divisor, from_hz // divisor


def tone(hz: float, rate_hz: int, seconds: float = 0.25, amplitude: float = 16000.0) -> Samples:
    at = np.arange(int(rate_hz * seconds)) / rate_hz
    return np.round(amplitude * np.sin(2 * np.pi * hz * at)).astype(np.int16)


def power_db(samples: NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.mean(samples**2) + 1e-12))


def split_tone(samples: Samples, hz: float, rate_hz: int) -> tuple[float, float]:
    """Return the power in dB of the tone at ``hz`` in the settled part, and of all else."""
    settled = samples[len(samples) // 5 : -len(samples) // 5].astype(np.float64)
    phase = 2 * np.pi * hz * np.arange(len(settled)) / rate_hz
    basis = np.column_stack([np.sin(phase), np.cos(phase)])
    fit = basis @ np.linalg.lstsq(basis, settled, rcond=None)[0]
    return power_db(fit), power_db(settled - fit)


# --- against the twin and scipy ---


@pytest.mark.parametrize(("from_hz", "to_hz"), EVERY_PAIR)
def test_taps_meet_every_sample_as_the_twin_says(from_hz: int, to_hz: int) -> None:
    """Two full-scale impulses and noise, exactly: every phase of every filter takes part."""
    noise = np.random.default_rng(1).integers(-32768, 32768, 700).astype(np.int16)
    noise[:200] = 0
    noise[[0, 150]] = 32767, -32768
    twin = _audio_py.Resampler(from_hz, to_hz)
    got = np.frombuffer(Resampler(from_hz, to_hz).push(noise), np.int16)
    assert got.tolist() == twin.push(noise.tolist())


@PAIR
@given(data=st.data())
@settings(max_examples=20)
def test_any_input_resamples_as_the_twin_says(
    from_hz: int, to_hz: int, data: st.DataObject
) -> None:
    samples = data.draw(st.lists(st.integers(-32768, 32767), max_size=120))
    twin = _audio_py.Resampler(from_hz, to_hz)
    got = Resampler(from_hz, to_hz).push(np.array(samples, np.int16))
    assert np.frombuffer(got, np.int16).tolist() == twin.push(samples)


@PAIR
def test_equals_scipy_with_the_filter_it_documents(from_hz: int, to_hz: int) -> None:
    """numpy's sinc, scipy's window and polyphase filter, in floats: only rounding differs."""
    up, down = ratio(from_hz, to_hz)
    half = 16 * max(up, down)
    window = signal.windows.kaiser(2 * half + 1, 5.0)[:-1]
    taps = np.sinc(0.95 * (np.arange(2 * half) - half) / max(up, down)) * window
    taps[0] = 0  # the window is open at its ends, so that the middle is the middle
    for phase in range(up):
        taps[phase::up] /= taps[phase::up].sum()
    samples = np.random.default_rng(2).normal(0, 6000, from_hz // 5).clip(-32768, 32767)
    samples = samples.astype(np.int16)
    got = resample(samples, from_hz, to_hz)
    expected = signal.upfirdn(taps, samples.astype(float), up, down)[: len(got)]
    error = got[: len(expected)] - expected.clip(-32768, 32767)
    assert power_db(error) < power_db(expected) - 66  # taps of 14 bits: 67 to 75
    assert np.abs(error).max() <= 8


# --- what the docstring promises ---


@PAIR
def test_passband_is_flat(from_hz: int, to_hz: int) -> None:
    nyquist = min(from_hz, to_hz) / 2
    for share in (0.02, 0.075, 0.25, 0.4, 0.55, 0.7, 0.8, 0.85):
        hz = share * nyquist
        sent = tone(hz, from_hz)
        got, other = split_tone(resample(sent, from_hz, to_hz), hz, to_hz)
        assert got - split_tone(sent, hz, from_hz)[0] == pytest.approx(0, abs=0.03), share
        # images and rounding; 0.85 N mirrors to 1.15 N
        assert other < got - 52, share


@PAIR
def test_the_edge_of_the_band_is_as_documented(from_hz: int, to_hz: int) -> None:
    hz = 0.9 * min(from_hz, to_hz) / 2
    got, _ = split_tone(resample(tone(hz, from_hz), from_hz, to_hz), hz, to_hz)
    assert got - power_db(tone(hz, from_hz).astype(float)) == pytest.approx(-1.17, abs=0.08)


@pytest.mark.parametrize(("from_hz", "to_hz"), [p[:2] for p in PAIRS if p[0] > p[1]])
def test_aliases_are_rejected(from_hz: int, to_hz: int) -> None:
    nyquist = to_hz / 2
    for hz in np.linspace(1.05 * nyquist, 0.99 * from_hz / 2, 23):
        sent = tone(hz, from_hz)
        out = resample(sent, from_hz, to_hz).astype(float)[400:-400]
        assert power_db(out) < power_db(sent.astype(float)) - 52, hz


@pytest.mark.parametrize(("from_hz", "to_hz", "delay_ms"), PAIRS)
def test_delay_is_what_it_says_and_at_most_2_ms(from_hz: int, to_hz: int, delay_ms: float) -> None:
    resampler = Resampler(from_hz, to_hz)
    assert resampler.delay_samples * 1000 / to_hz == delay_ms
    hz = min(from_hz, to_hz) / 20
    out = np.frombuffer(resampler.push(tone(hz, from_hz)), np.int16).astype(float)
    settled = slice(to_hz // 20, None)
    at = np.arange(len(out)) / to_hz - delay_ms / 1000
    expected = 16000 * np.sin(2 * np.pi * hz * at)
    assert np.abs(out - expected)[settled].max() < 60  # -48 dB: a tenth of a sample would show


@pytest.mark.parametrize(("from_hz", "to_hz"), EVERY_PAIR)
def test_nothing_is_held_back_and_flush_returns_the_tail(from_hz: int, to_hz: int) -> None:
    resampler = Resampler(from_hz, to_hz)
    up, down = ratio(from_hz, to_hz)
    pushed = returned = 0
    for size in (1, 0, 7, 160, 961, 3000):
        pushed += size
        returned += len(resampler.push(bytes(2 * size))) // 2
        assert returned == -(-pushed * up // down)
    assert len(resampler.flush()) == 2 * resampler.delay_samples
    fresh = Resampler(from_hz, to_hz)
    noise = np.random.default_rng(3).integers(-9999, 9999, 50).astype(np.int16)
    assert resampler.push(noise) == fresh.push(noise)  # flush forgets all of it


@PAIR
def test_a_constant_comes_out_unchanged(from_hz: int, to_hz: int) -> None:
    """Every phase of the filter sums to exactly one: no tone at the phases' rhythm."""
    for value in (-32768, -1, 1, 1000, 32767):
        out = np.frombuffer(Resampler(from_hz, to_hz).push(np.full(2000, value, np.int16)), "h")
        assert set(out[200:].tolist()) == {value}


@PAIR
def test_full_scale_is_clipped_not_wrapped(from_hz: int, to_hz: int) -> None:
    """The overshoot of a full-scale square wave stays on its own side of zero."""
    half_wave = from_hz // 100
    square = np.where(np.arange(20 * half_wave) // half_wave % 2, 32767, -32768).astype(np.int16)
    out = resample(square, from_hz, to_hz).astype(int)
    out = out[len(out) // 10 : -(len(out) // 10)]
    assert out.max() == 32767
    assert out.min() == -32768
    turns = np.flatnonzero(np.diff(out >= 0))
    assert np.diff(turns).min() > 0.9 * to_hz // 100  # a wrap would add turns in between


def test_sums_of_taps_fit_in_32_bits() -> None:
    for from_hz, to_hz in EVERY_PAIR:
        up, down = ratio(from_hz, to_hz)
        taps = _audio_py.design(up, down)
        for phase in range(up):
            assert sum(abs(tap) for tap in taps[phase::up]) * 32768 < 2**31 - 2**13
            assert sum(taps[phase::up]) == 1 << 14


# --- pieces ---


@PAIR
@given(cuts=st.lists(st.integers(0, 3000), max_size=12))
@settings(max_examples=40)
def test_however_it_is_cut_the_output_is_the_same(
    from_hz: int, to_hz: int, cuts: list[int]
) -> None:
    samples = np.random.default_rng(4).integers(-32768, 32768, 3000).astype(np.int16)
    whole = Resampler(from_hz, to_hz)
    expected = whole.push(samples) + whole.flush()
    pieces = Resampler(from_hz, to_hz)
    edges = [0, *sorted(cuts), len(samples)]
    got = b"".join(pieces.push(samples[a:b]) for a, b in pairwise(edges)) + pieces.flush()
    assert got == expected


def test_equal_rates_pass_through() -> None:
    resampler = Resampler(8000, 8000)
    assert resampler.push(b"abcdef") == b"abcdef"
    assert resampler.delay_samples == 0
    assert resampler.flush() == b""


def test_an_unknown_rate_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="from_hz is 11025: use one of 8000, 16000, 22050"):
        Resampler(11025, 8000)
    with pytest.raises(ValueError, match="to_hz is 0: use one of"):
        Resampler(8000, 0)


def test_bad_input_leaves_the_state_as_it_was() -> None:
    resampler, other = Resampler(8000, 16000), Resampler(8000, 16000)
    assert resampler.push(b"abcdef") == other.push(b"abcdef")
    with pytest.raises(ValueError, match="even number"):
        resampler.push(b"abc")
    assert resampler.push(b"ghijkl") == other.push(b"ghijkl")
