"""The work on a query: what the worker of the node does with the engine."""

from __future__ import annotations

from dataclasses import replace
import time
import traceback
from typing import Callable

from epvlm_interfaces.msg import Answer
from epvlm_ros.clean_text import clean_text
from epvlm_ros.ros.buffered_frame import BufferedFrame, mean_period_s
from epvlm_ros.ros.conversions import rgb_to_image
from epvlm_ros.ros.query import accept, Query, refuse
from epvlm_ros.ros.shadow_answers import ShadowAnswers
from epvlm_ros.time_units import SECOND
from epvlm_ros.vlm.engine import Engine, EngineAnswer, Moment
from epvlm_ros.vlm.model_error import ModelError
from epvlm_ros.vlm.overlay import draw_overlay
from rclpy.impl.rcutils_logger import RcutilsLogger
from sensor_msgs.msg import Image

MAX_LINE_LENGTH = 1000  # in the log
ShouldStop = Callable[[], bool]
Frames = tuple[BufferedFrame, ...]


class QueryHandler:
    """
    Runs the engine on frames and queries; all of it on one thread.

    ``find_overlay_publisher`` returns what publishes overlays of a camera, or None where none are
    wanted. Every ``shadow_every()``-th answer can be compared with the dense model.
    """

    def __init__(
        self, engine: Engine, logger: RcutilsLogger,
        find_overlay_publisher: Callable[[str], Callable[[Image], None] | None],
        shadow_every: Callable[[], int] = lambda: 0,
    ) -> None:
        self._engine, self._logger = engine, logger
        self.shadow = ShadowAnswers(engine, shadow_every)
        self._find_overlay_publisher = find_overlay_publisher

    def answer(self, query: Query, should_stop: ShouldStop) -> Answer:
        """Answer one query, whatever happens."""
        try:
            return self._answer(query, should_stop)
        except ModelError as error:
            return refuse(query, Answer.ERROR, str(error))
        except Exception as error:  # noqa: B902  the node lives on
            lines = traceback.format_exc().splitlines()
            self._logger.error('\n'.join(
                [f'{query.query_id}:', *(clean_text(line, MAX_LINE_LENGTH) for line in lines)]))
            return refuse(query, Answer.ERROR, f'{type(error).__name__}: {error}')

    def prepare(self, camera: str, frames: Frames, should_stop: ShouldStop) -> None:
        """Encode frames ahead of the question; what fails now fails with the question again."""
        latest = frames[-1]
        try:
            if len(frames) == 1 and self._engine.has_seen(
                    latest.change, latest.stamp_ns, latest.message.header.frame_id, camera):
                return
            self._engine.prepare(
                [frame.moment for frame in frames], camera=camera,
                seconds_between=mean_period_s(frames), should_stop=should_stop)
        except Exception as error:  # noqa: B902  the node lives on
            reason = clean_text(f'{type(error).__name__}: {error}', MAX_LINE_LENGTH)
            self._logger.warning(
                f'a frame was not encoded ahead: {reason}', throttle_duration_sec=10.0)

    def compare(self, should_stop: ShouldStop) -> None:
        """Compare the answer that waits for it with the dense model."""
        try:
            self.shadow.compare(should_stop)
        except Exception as error:  # noqa: B902  the node lives on
            reason = clean_text(f'{type(error).__name__}: {error}', MAX_LINE_LENGTH)
            self._logger.warning(
                f'an answer was not compared: {reason}', throttle_duration_sec=10.0)

    def _answer(self, query: Query, should_stop: ShouldStop) -> Answer:
        if should_stop():
            return refuse(query, Answer.ERROR, 'the node stopped before the answer')
        deadline_s = self._remaining_s(query)
        if deadline_s is not None and deadline_s <= 0.0:
            return refuse(query, Answer.DEADLINE, (
                'the deadline came while the query waited: give a later one, or ask less often'))
        try:
            moments = [frame.moment for frame in query.frames]
            result = self._engine.answer_about(
                moments, query.question, choices=query.choices, camera=query.camera,
                is_past=query.is_past, seconds_between=mean_period_s(query.frames),
                keep_ratio=query.keep_ratio, max_new_tokens=query.max_new_tokens,
                deadline_s=deadline_s, on_text=query.on_text,
                should_stop=lambda: should_stop() or query.cancelled.is_set())
        except ValueError as error:  # a question or a frame at fault, not the program
            return refuse(query, Answer.INVALID, str(error))
        publish_overlay = self._find_overlay_publisher(query.camera)
        if publish_overlay is not None:
            publish_overlay(self._draw_overlay(query, moments[-1], result))
        self.shadow.add(query, moments, result)
        return accept(query, result)

    def _remaining_s(self, query: Query) -> float | None:
        """Return the time that is left of the deadline of a query, None if it has none."""
        deadline_s = query.deadline_s or self._engine.config.deadline
        return deadline_s - (time.monotonic() - query.arrival_s) if deadline_s else None

    def _draw_overlay(self, query: Query, moment: Moment, result: EngineAnswer) -> Image:
        """Return the overlay of the latest moment."""
        grid = replace(  # whichever model has answered
            self._engine.patch_grid(*moment.image_rgb.shape[:2]), rows=result.rows,
            cols=result.cols)
        kept_indices = result.kept_indices - (result.num_moments - 1) * grid.num_tokens
        scene = result.scene
        overlay = draw_overlay(
            moment.image_rgb, moment.activity, kept_indices[kept_indices >= 0], grid,
            ages_s=scene.ages_ns / SECOND if scene is not None and scene.is_used else None,
            question=query.question, answer=result.text)
        return rgb_to_image(query.frames[-1].message.header, overlay)
