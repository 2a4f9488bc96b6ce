"""What a call used of each provider: plain counts, kept by whoever holds the provider.

A list counts each of its members, the call counts a provider that stands alone; both count where
audio, text and sound are handed over. Each reply counts apart, in a :class:`Usage` of its own,
until it is known whether it was spoken or thrown away.
"""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Protocol, Self

import msgspec

__all__ = ["Kind", "Named", "ProviderUsage", "Request", "Tally", "Usage"]

Kind = Literal["stt", "llm", "tts", "speech"]
RATE_HZ = 8000  # of all audio that is counted here
CHARS_PER_TOKEN = 4  # of English, for the tokenisers of all three large services


class ProviderUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What was used of one provider, or of one member of a list.

    Tokens are the service's own count. Where it told none (an answer that was cut, a server that
    counts nothing) they are estimated at four characters each, and ``estimated_tokens`` says how
    many of them are.
    """

    kind: Kind
    provider: str
    member: int = 0  # its place in its list, from 0: above it, a backup
    requests: int = 0  # sessions of a recogniser, answers of a model, replies of a voice
    answered: int = 0  # of these, those that brought words or sound
    failures: int = 0
    failovers: int = 0  # requests that came to it because another failed or was slow
    audio_s: float = 0.0  # of the caller, sent to it
    input_tokens: int = 0
    cached_tokens: int = 0  # of these, those the service had cached
    output_tokens: int = 0
    audio_tokens: int = 0  # of input and output, those of a speech model that are sound
    estimated_tokens: int = 0  # of input and output
    characters: int = 0  # of text, given to a voice
    speech_s: float = 0.0  # of sound, got of it
    wasted_tokens: int = 0  # input and output of answers that were thrown away
    wasted_characters: int = 0
    wasted_speech_s: float = 0.0


class Tally(msgspec.Struct, kw_only=True):
    """The counts of :class:`ProviderUsage` as they grow, audio in samples at 8000 Hz."""

    requests: int = 0
    answered: int = 0
    failures: int = 0
    failovers: int = 0
    audio_samples: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    audio_tokens: int = 0
    estimated_tokens: int = 0
    characters: int = 0
    speech_samples: int = 0
    wasted_tokens: int = 0
    wasted_characters: int = 0
    wasted_speech_samples: int = 0

    def add(self, other: Tally, *, is_wasted: bool = False) -> None:
        """Take the counts of ``other``; ``is_wasted``: what they were for was thrown away."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if is_wasted:  # some of it may have been waste already
            self.wasted_tokens += other.input_tokens + other.output_tokens - other.wasted_tokens
            self.wasted_characters += other.characters - other.wasted_characters
            self.wasted_speech_samples += other.speech_samples - other.wasted_speech_samples

    def report(self, kind: Kind, provider: str, member: int) -> ProviderUsage:
        """The counts as they stand, audio in seconds."""
        counts = {
            name.replace("_samples", "_s"): value / RATE_HZ if "samples" in name else value
            for name, value in msgspec.structs.asdict(self).items()
        }
        return ProviderUsage(kind=kind, provider=provider, member=member, **counts)


class Request:
    """One answer asked of a model; as a block, over when the block is.

    ``input_chars`` is what the model was given to read: the ground of an estimate, should it
    never tell. One that failed before it had answered is taken to cost nothing.
    """

    def __init__(self, tally: Tally, input_chars: int) -> None:
        tally.requests += 1
        self._tally = tally
        self._input_chars = input_chars
        self._output_chars = 0
        self._has_answered = self._has_told = False
        self.is_wasted = False  # another answered in its place

    def got(self, chars: int) -> None:
        """The next ``chars`` of the answer came."""
        if not self._has_answered:
            self._has_answered = True
            self._tally.answered += 1
        self._output_chars += chars

    def told(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> None:
        """The service told what the answer cost; nothing, if it counts nothing."""
        if input_tokens or output_tokens:
            self._has_told = True
            self._count(input_tokens, output_tokens)
            self._tally.cached_tokens += cached_tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        has_failed = isinstance(exc, Exception)
        self._tally.failures += has_failed
        if self._has_told or (has_failed and not self._has_answered):
            return
        read, written = (n // CHARS_PER_TOKEN for n in (self._input_chars, self._output_chars))
        self._count(read, written)
        self._tally.estimated_tokens += read + written

    def _count(self, input_tokens: int, output_tokens: int) -> None:
        self._tally.input_tokens += input_tokens
        self._tally.output_tokens += output_tokens
        if self.is_wasted:
            self._tally.wasted_tokens += input_tokens + output_tokens


class Named(Protocol):
    """What all ports have."""

    @property
    def name(self) -> str: ...


class Usage:
    """The counts of all providers of a call, or of one reply of it."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[Kind, str, int], Tally] = {}

    def of(self, kind: Kind, provider: str, member: int = 0) -> Tally:
        """The counts of the provider called ``provider``, at its place in its list."""
        return self._tallies.setdefault((kind, provider, member), Tally())

    def alone(self, kind: Kind, provider: Named) -> Tally:
        """The counts of a provider that the call itself holds.

        A list counts its members itself (``counts_usage``): for it, one that nobody reads.
        """
        if getattr(provider, "counts_usage", False):
            return Tally()
        return self.of(kind, provider.name)

    def add(self, other: Usage, *, is_wasted: bool = False) -> None:
        """Take the counts of a reply; ``is_wasted``: it was thrown away unheard."""
        for key, tally in other._tallies.items():
            self._tallies.setdefault(key, Tally()).add(tally, is_wasted=is_wasted)

    def report(self) -> tuple[ProviderUsage, ...]:
        """What was used so far, by kind, the first of each list first."""
        used = sorted(self._tallies.items(), key=lambda each: (each[0][0], each[0][2], each[0][1]))
        return tuple(tally.report(*key) for key, tally in used)
