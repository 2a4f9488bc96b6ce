"""When a pause is the end of a turn: eager first, commit after a curve of completeness."""

from __future__ import annotations

from rtcore.turn.config import TurnConfig

__all__ = ["NEVER", "Endpointer", "Patience", "commit_delay_ms"]

NEVER = 1 << 62  # a due sample that does not come
SAMPLES_PER_MS = 8
SURE = 0.1  # this near to 0 or 1 the words are as clear as they get
WORDS_LAG_MS = 100  # recognisers that stream are 250 to 350 ms behind the voice
EAGER_LEAD_MS = 640  # a model and its first sound take 600: no use in beginning earlier


def commit_delay_ms(config: TurnConfig, completeness: float, earned_ms: float = 0.0) -> float:
    """The silence a turn must end with: straight lines between the three numbers, no cliff.

    ``earned_ms`` is added where nothing is known of the words, up to ``unsure_max_ms``, and
    in proportion elsewhere: clearly complete words wait no longer for a slow caller.
    """
    most_ms = min(config.unsure_max_ms, config.unfinished_ms)
    unsure_ms = max(config.unsure_ms, min(config.unsure_ms + earned_ms, most_ms))
    share = min(max((completeness - SURE) / (1.0 - 2.0 * SURE), 0.0), 1.0)
    if share >= 0.5:
        return unsure_ms + (config.complete_ms - unsure_ms) * (share - 0.5) * 2.0
    return config.unfinished_ms + (unsure_ms - config.unfinished_ms) * share * 2.0


class Patience:
    """What the caller's own pauses have earned them, in ms of further waiting.

    Who has gone on after a pause will do so again, most of all within the same turn: each
    pause that was none of ours earns a step, and part is kept from turn to turn. And they will
    pause as long again: a turn waits a quarter longer than its own longest pause.
    """

    __slots__ = ("earned_ms", "longest_ms")

    STEP_MS = 60.0  # with what is kept: 5 cuts for 6 on the dev call, its median 22 ms later
    KEPT = 0.25  # of it when the agent has had its turn
    AGAIN = 1.25  # of this turn's longest pause: one cut less on the dev call, same median
    PAUSE_MS = (600, 1500)  # shorter needs no patience, longer was a lapse: another turn

    def __init__(self) -> None:
        self.earned_ms = 0.0
        self.longest_ms = 0.0  # pause of this turn

    def add(self, pause_ms: float) -> None:
        """A silence after which the caller went on, whether or not it was cut off."""
        shortest, longest = self.PAUSE_MS
        if pause_ms > longest:
            self.next_turn()
        elif pause_ms >= shortest:
            self.earned_ms += self.STEP_MS
            self.longest_ms = max(self.longest_ms, pause_ms)

    def next_turn(self) -> None:
        self.earned_ms *= self.KEPT
        self.longest_ms = 0.0

    def beyond_ms(self, unsure_ms: float) -> float:
        """What to wait beyond ``unsure_ms``, where nothing is known of the words."""
        return max(self.earned_ms, self.AGAIN * self.longest_ms - unsure_ms)


class Endpointer:
    """One caller's turns, one after the other: open, paused, speculated on, closed."""

    __slots__ = (
        "_config",
        "_dtmf_due",
        "_eagers",
        "_lags",
        "_speaking",
        "commit_due",
        "completeness",
        "eager_due",
        "is_eager",
        "is_open",
        "opened_at",
        "patience",
        "silent_from",
        "waits_for_words",
    )

    def __init__(self, config: TurnConfig) -> None:
        self._config = config
        self.patience = Patience()
        self.completeness = 0.5
        self.silent_from = 0
        self.close()

    def configure(self, config: TurnConfig) -> None:
        self._config = config
        self._schedule()

    def open(self, at_sample: int) -> None:
        self.close()
        self.is_open = True
        self.opened_at = at_sample

    def close(self) -> None:
        self.is_open = self.is_eager = self.waits_for_words = self._lags = self._speaking = False
        self.opened_at = self._eagers = 0
        self._dtmf_due = self.eager_due = self.commit_due = NEVER

    def agent_speaks(self) -> None:
        """The agent takes the floor: the caller's silence is no pause any more."""
        self.close()
        if self.silent_from:
            self.patience.next_turn()
        self.silent_from = 0

    def voice_on(self, onset_sample: int) -> None:
        """The caller speaks: nothing is due. Learns the pause, if there was one."""
        if self.silent_from:
            self.patience.add((onset_sample - self.silent_from) / SAMPLES_PER_MS)
        self._speaking = True
        self.is_eager = False
        self._dtmf_due = NEVER
        self._schedule()

    def voice_off(self, end_sample: int) -> None:
        """The caller fell silent at ``end_sample``."""
        self._speaking = False
        self.silent_from = end_sample
        self._schedule()

    def judge(self, completeness: float, *, waits_for_words: bool, lags: bool) -> None:
        """What is known of the words now.

        ``waits_for_words``: a recogniser has given none for this turn yet. ``lags``: those it
        gave end before the voice did, so a speculation on them would soon be void.
        """
        self.completeness = completeness
        self.waits_for_words = waits_for_words
        self._lags = lags
        self._schedule()

    def keys(self, now: int, wait_samples: int) -> None:
        """Keys were pressed: the turn ends after ``wait_samples`` unless more is heard."""
        self._dtmf_due = now + wait_samples
        self._speaking = False
        self.silent_from = now
        self._schedule()

    @property
    def ends_by_keys(self) -> bool:
        return self._dtmf_due < NEVER

    def restart_eager(self) -> None:
        """The words changed under a speculation: it starts again, if there is one left."""
        self.is_eager = False
        self._schedule()

    def mark_eager(self) -> None:
        self.is_eager = True
        self._eagers += 1
        self.eager_due = NEVER

    def _schedule(self) -> None:
        self.eager_due = self.commit_due = NEVER
        if not self.is_open:
            return
        if self._speaking:
            self.commit_due = self.opened_at + self._config.turn_max_ms * SAMPLES_PER_MS
            return
        if self.ends_by_keys:
            self.commit_due = self._dtmf_due
            return
        config = self._config
        delay_ms = commit_delay_ms(
            config, self.completeness, self.patience.beyond_ms(config.unsure_ms)
        )
        if self.waits_for_words:
            delay_ms = max(delay_ms, config.unfinished_ms)
        self.commit_due = self.silent_from + round(delay_ms) * SAMPLES_PER_MS
        if not self.is_eager and self._eagers < config.eager_max:
            earliest_ms = config.eager_ms + (WORDS_LAG_MS if self._lags else 0)
            eager_ms = max(earliest_ms, delay_ms - EAGER_LEAD_MS)
            self.eager_due = self.silent_from + round(eager_ms) * SAMPLES_PER_MS
