"""When a pause is the end of a turn: eager first, commit after a curve of completeness."""

from __future__ import annotations

from rtcore.turn.config import TurnConfig

__all__ = ["NEVER", "Endpointer", "PauseHabit", "commit_delay_ms"]

NEVER = 1 << 62  # a due sample that does not come
SAMPLES_PER_MS = 8
SURE = 0.1  # this near to 0 or 1 the words are as clear as they get
EAGER_LEAD_MS = 640  # a model and its first sound take 600: no use in beginning earlier


def commit_delay_ms(config: TurnConfig, completeness: float, habit_ms: float = 0.0) -> float:
    """The silence a turn must end with: straight lines between the three numbers, no cliff.

    ``habit_ms``, the caller's own long pause, stretches what goes beyond ``complete_ms``, up
    to ``unsure_max_ms`` where nothing is known of the words.
    """
    share = min(max((completeness - SURE) / (1.0 - 2.0 * SURE), 0.0), 1.0)
    if share >= 0.5:
        delay = config.unsure_ms + (config.complete_ms - config.unsure_ms) * (share - 0.5) * 2.0
    else:
        delay = config.unfinished_ms + (config.unsure_ms - config.unfinished_ms) * share * 2.0
    unsure_ms = min(max(habit_ms, config.unsure_ms), max(config.unsure_max_ms, config.unsure_ms))
    if unsure_ms == config.unsure_ms or config.unsure_ms == config.complete_ms:
        return delay
    stretch = (unsure_ms - config.complete_ms) / (config.unsure_ms - config.complete_ms)
    return config.complete_ms + (delay - config.complete_ms) * stretch


class PauseHabit:
    """How long this caller pauses inside a turn, so that who thinks slowly is given time.

    ``long_ms`` follows the 90th percentile of the pauses seen, false cut-offs among them: a step
    up at each longer one, a ninth of it down at each shorter.
    """

    __slots__ = ("_high_ms", "_seen")

    FIRST_MS = 700.0  # 90th percentile of the pauses on the two calls
    ENOUGH = 3  # pauses before it says anything
    STEP_MS = 45.0
    LONGEST_MS = 2500  # more is not a pause but another turn

    def __init__(self) -> None:
        self._high_ms = self.FIRST_MS
        self._seen = 0

    def add(self, pause_ms: float) -> None:
        """A pause after which the same turn went on."""
        if pause_ms <= self.LONGEST_MS:
            self._seen += 1
            self._high_ms += self.STEP_MS if pause_ms > self._high_ms else -self.STEP_MS / 9.0

    @property
    def long_ms(self) -> float:
        """The caller's long pause; 0 while too few were heard."""
        return self._high_ms if self._seen >= self.ENOUGH else 0.0


class Endpointer:
    """One caller's turns, one after the other: open, paused, speculated on, closed."""

    __slots__ = (
        "_config",
        "_dtmf_due",
        "_eagers",
        "_speaking",
        "commit_due",
        "completeness",
        "eager_due",
        "habit",
        "is_eager",
        "is_open",
        "opened_at",
        "silent_from",
        "waits_for_words",
    )

    def __init__(self, config: TurnConfig) -> None:
        self._config = config
        self.habit = PauseHabit()
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
        self.is_open = self.is_eager = self.waits_for_words = self._speaking = False
        self.opened_at = self._eagers = 0
        self._dtmf_due = self.eager_due = self.commit_due = NEVER

    def agent_speaks(self) -> None:
        """The agent takes the floor: the caller's silence is no pause any more."""
        self.close()
        self.silent_from = 0

    def voice_on(self, onset_sample: int) -> None:
        """The caller speaks: nothing is due. Learns the pause, if there was one."""
        if self.silent_from:
            self.habit.add((onset_sample - self.silent_from) / SAMPLES_PER_MS)
        self._speaking = True
        self.is_eager = False
        self._dtmf_due = NEVER
        self._schedule()

    def voice_off(self, end_sample: int) -> None:
        """The caller fell silent at ``end_sample``."""
        self._speaking = False
        self.silent_from = end_sample
        self._schedule()

    def judge(self, completeness: float, *, waits_for_words: bool) -> None:
        """The words changed, or are awaited from a recogniser that has given none yet."""
        self.completeness = completeness
        self.waits_for_words = waits_for_words
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
        delay_ms = commit_delay_ms(config, self.completeness, self.habit.long_ms)
        if self.waits_for_words:
            delay_ms = max(delay_ms, config.unfinished_ms)
        self.commit_due = self.silent_from + round(delay_ms) * SAMPLES_PER_MS
        if not self.is_eager and self._eagers < config.eager_max:
            eager_ms = max(config.eager_ms, delay_ms - EAGER_LEAD_MS)
            self.eager_due = self.silent_from + round(eager_ms) * SAMPLES_PER_MS
