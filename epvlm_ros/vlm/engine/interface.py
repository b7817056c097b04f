"""What a node asks of an engine, wherever its model computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TYPE_CHECKING

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.answer import EngineAnswer
from epvlm_ros.vlm.engine.dense_check import Agreement
from epvlm_ros.vlm.engine.limits import Limits
from epvlm_ros.vlm.engine.living_scene import SceneStatus
from epvlm_ros.vlm.engine.moment import Moment
from epvlm_ros.vlm.patch_grid import PatchGrid

if TYPE_CHECKING:
    from epvlm_ros.change_score import ChangeScore
    from typing_extensions import Unpack


@dataclass(frozen=True)
class ServerStatus:
    """
    What came of questions to a server since the start.

    ``circuit`` is closed (it is asked), open (it failed, and is left alone for a while) or
    half_open (the next question is a trial).
    """

    circuit: str = 'closed'
    num_asked: int = 0
    num_failed: int = 0
    num_retries: int = 0
    num_by_fallback: int = 0  # answered by the embedded model
    failures_in_a_row: int = 0
    last_fault: str = ''
    latency_s: float | None = None  # of the last answer, from the request to its first token
    num_bytes_sent: int = 0
    num_bytes_received: int = 0


class Engine(Protocol):
    """
    Answers questions about frames: ``VlmEngine`` by itself, ``RemoteEngine`` by a server.

    For one thread; where a method says so, for any. ``VlmEngine`` says what arguments mean.
    """

    @property
    def config(self) -> VlmConfig:
        """Return what the engine goes by now."""

    @property
    def description(self) -> str:
        """Return one line for a log: model, size, and where it computes; any thread may ask."""

    @property
    def memory_taken(self) -> int:
        """Return bytes; any thread may ask."""

    @property
    def num_encoded(self) -> int:
        """Return how many frames an encoder has run on here; any thread may ask."""

    @property
    def server_status(self) -> ServerStatus | None:
        """Return what came of questions to a server, None without one; any thread may ask."""

    def scene_status_of(self, camera: str) -> SceneStatus | None:
        """Return what a scene in memory is and did, None without one; any thread may ask."""

    def warm_up(self, should_stop: Callable[[], bool] = ...) -> None:
        """Get ready, so that the first question does not take longer than others."""

    def reconfigure(self, config: VlmConfig) -> None:
        """Take new values of the dynamic parameters; a ValueError if another one differs."""

    def check_query(
        self, question: str, choices: Sequence[str] = ..., num_moments: int = ...,
        **limits: Unpack[Limits],
    ) -> None:
        """Raise a ValueError if a query could not be answered at any time; for any thread."""

    def patch_grid(self, image_height: int, image_width: int) -> PatchGrid:
        """Return the visual tokens of an image of this size."""

    def answer_about(
        self, moments: Sequence[Moment], question: str, *, choices: Sequence[str] = ...,
        camera: str = ..., is_past: bool = ..., seconds_between: float = ...,
        should_stop: Callable[[], bool] | None = ...,
        on_text: Callable[[str], None] | None = ..., **limits: Unpack[Limits],
    ) -> EngineAnswer:
        """
        Answer a question about moments.

        Raises a ValueError if an argument is at fault, a ``ModelError`` if the model, or the
        server, cannot answer.
        """

    def has_seen(
        self, change: ChangeScore | None, stamp_ns: int, source: str, camera: str = ...,
    ) -> bool:
        """Tell whether ``prepare`` would find nothing new in a frame."""

    def prepare(
        self, moments: Sequence[Moment], *, camera: str = ..., seconds_between: float = ...,
        should_stop: Callable[[], bool] | None = ...,
    ) -> None:
        """Compute what can be computed before a question is asked."""

    def compare_with_dense(
        self, answer: EngineAnswer, moments: Sequence[Moment], question: str, *,
        choices: Sequence[str] = ..., seconds_between: float = ...,
        should_stop: Callable[[], bool] | None = ..., **limits: Unpack[Limits],
    ) -> Agreement | None:
        """Compare an answer with that of the dense model; None if it was stopped."""
