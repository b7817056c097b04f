"""Queries from requests of any kind, and why one cannot be answered."""

from __future__ import annotations

import math
from typing import Any, Callable

from epvlm_interfaces.msg import Answer
from epvlm_ros.clean_text import clean_text
from epvlm_ros.ros.buffered_frame import BufferedFrame
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.frame_faults import explain_no_frame, explain_no_past, explain_stale_frame
from epvlm_ros.ros.guided_frame_buffer import GuidedFrameBuffer
from epvlm_ros.ros.node_parameters import NodeParameters
from epvlm_ros.ros.query import check_query_id, MAX_ID_LENGTH, Query, Reply
from epvlm_ros.time_units import SECOND, stamp_to_ns
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import VlmEngine
from rclpy.node import Node

Refusal = tuple[int, str]  # status and message of an answer


class QueryMaker:
    """
    Makes a query of a request with the fields of ``Query.msg``, about the frames of now or then.

    ``settings`` are the parameters of the node, ``frames`` what it has seen.
    """

    def __init__(self, node: Node, settings: NodeParameters, frames: GuidedFrameBuffer) -> None:
        self._node, self._settings, self._frames = node, settings, frames
        self._num_queries = 0

    def make(
        self, engine: VlmEngine | None, request: Any, reply: Reply,
        on_text: Callable[[str], None] | None = None, watch_id: str = '',
    ) -> tuple[Query, Refusal | None]:
        """
        Return the query and, if it cannot be answered, status and message that say why.

        ``engine`` is None while the node is not active.
        """
        self._num_queries += 1
        now_ns = self._frames.frame_time_ns(self._node.get_clock().now().nanoseconds)
        frames, refusal = self._find_frames(request, now_ns)
        query = Query(
            clean_text(request.query_id, MAX_ID_LENGTH) or f'query-{self._num_queries}',
            request.question,
            clean_text(request.question, self._settings.get(VlmConfig).max_question_length),
            request.keep_ratio or None, request.max_new_tokens or None, request.deadline or None,
            frames, now_ns - frames[-1].stamp_ns if frames else 0, reply, on_text,
            tuple(request.choices), bool(frames) and frames[-1].key != self._frames.latest_key,
            watch_id)
        return query, self._find_fault(request, engine) or refusal

    def check(self, engine: VlmEngine | None, request: Any) -> None:
        """Raise a ValueError if what is asked could not be answered at any time."""
        if engine is not None:
            engine.check_query(
                request.question, request.choices, keep_ratio=request.keep_ratio or None,
                max_new_tokens=request.max_new_tokens or None,
                deadline_s=request.deadline or None)

    def _find_fault(self, request: Any, engine: VlmEngine | None) -> Refusal | None:
        """Return why a request cannot be answered, whatever frames there are."""
        if engine is None:
            return Answer.ERROR, 'the node is not active: activate it'
        try:
            check_query_id(request.query_id)
            self.check(engine, request)
        except ValueError as error:
            return Answer.INVALID, str(error)
        return None

    def _find_frames(
        self, request: Any, now_ns: int,
    ) -> tuple[tuple[BufferedFrame, ...], Refusal | None]:
        """Return what a request is about, or why there is nothing."""
        config = self._settings.get(VlmNodeConfig)
        try:
            time_ns = find_time_ns(request, now_ns)
        except ValueError as error:
            return (), (Answer.INVALID, str(error))
        frames = self._frames.get(config)
        if not frames:
            return (), (Answer.NO_FRAME, explain_no_frame(self._node))
        if time_ns is not None:
            return self._find_past(time_ns, now_ns, config)
        age_s = (now_ns - frames[-1].stamp_ns) / SECOND
        if abs(age_s) <= config.max_frame_age:
            return frames, None
        return frames, (Answer.STALE_FRAME, explain_stale_frame(
            self._node, age_s, config.max_frame_age, self._frames.silent_s))

    def _find_past(
        self, time_ns: int, now_ns: int, config: VlmNodeConfig,
    ) -> tuple[tuple[BufferedFrame, ...], Refusal | None]:
        history = self._frames.history
        found = history.around(time_ns, config.num_moments, config.moment_period)
        span, reach_ns = history.span, round(config.max_frame_age * SECOND)
        if span is not None and span.start_ns <= time_ns <= span.end_ns + reach_ns and \
                any(abs(frame.stamp_ns - time_ns) <= reach_ns for frame in found):
            return found, None
        return (), (Answer.NO_FRAME, explain_no_past(
            time_ns, now_ns, span, config.history_memory))


def find_time_ns(request: Any, now_ns: int) -> int | None:
    """Return when a request is about, None for now; a ValueError if it says so in a wrong way."""
    seconds_ago, at_ns = request.seconds_ago, stamp_to_ns(request.at)
    if not (0.0 <= seconds_ago < math.inf):
        raise ValueError(f'seconds_ago is {seconds_ago}: give a finite number from 0 on')
    if seconds_ago and at_ns:
        raise ValueError(f'seconds_ago is {seconds_ago} and at is set as well: give one of them')
    if at_ns < 0:
        raise ValueError(f'at is {at_ns / SECOND:.3f} s: give a time after 1970')
    if at_ns:
        return at_ns
    return now_ns - round(seconds_ago * SECOND) if seconds_ago else None
