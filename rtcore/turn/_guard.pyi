from typing import Final

from typing_extensions import Buffer

AUDIBLE: Final = 1
FAR: Final = 2
PERIODIC: Final = 4
TONE: Final = 8
LIVELY: Final = 16
STEADY: Final = 32
LOUD: Final = 64

class Guard:
    noise_margin_db: float
    echo_margin_db: float
    voice_range_db: float
    relief_db: float
    far_window_frames: int
    def __init__(
        self,
        *,
        noise_margin_db: float = 11.0,
        echo_margin_db: float = 4.5,
        voice_range_db: float = 30.0,
        far_window_frames: int = 30,
    ) -> None: ...
    @property
    def level_dbfs(self) -> float: ...
    @property
    def far_dbfs(self) -> float: ...
    @property
    def floor_dbfs(self) -> float: ...
    @property
    def threshold_dbfs(self) -> float: ...
    @property
    def return_loss_db(self) -> float: ...
    @property
    def voice_dbfs(self) -> float: ...
    @property
    def periodicity(self) -> float: ...
    @property
    def lag_samples(self) -> int: ...
    @property
    def steady_frames(self) -> int: ...
    def push(self, pcm: Buffer, far: Buffer | None = None) -> int: ...
