"""Queries from requests of any kind, and why one cannot be answered."""

from __future__ import annotations

from collections.abc import Mapping
import math
from typing import Any, Callable

from epvlm_interfaces.msg import Answer
from epvlm_ros.clean_text import clean_text
from epvlm_ros.ros.camera_stream import CameraStream, FoundFrames, Refusal
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.node_parameters import NodeParameters
from epvlm_ros.ros.query import check_query_id, MAX_ID_LENGTH, Query, Reply
from epvlm_ros.time_units import SECOND, stamp_to_ns
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import Engine
from rclpy.node import Node


class QueryMaker:
    """
    Makes a query of a request with the fields of ``Query.msg``, about the frames of now or then.

    ``settings`` are the parameters of the node, ``streams`` its cameras by their names.
    """

    def __init__(
        self, node: Node, settings: NodeParameters, streams: Mapping[str, CameraStream],
    ) -> None:
        self._node, self._settings, self._streams = node, settings, streams
        self._num_queries = 0

    def make(
        self, engine: Engine | None, request: Any, reply: Reply,
        on_text: Callable[[str], None] | None = None, watch_id: str = '',
    ) -> tuple[Query, Refusal | None]:
        """
        Return the query and, if it cannot be answered, status and message that say why.

        ``engine`` is None while the node is not active.
        """
        self._num_queries += 1
        found = self._find_frames(request)
        query = Query(
            clean_text(request.query_id, MAX_ID_LENGTH) or f'query-{self._num_queries}',
            request.question,
            clean_text(request.question, self._settings.get(VlmConfig).max_question_length),
            request.keep_ratio or None, request.max_new_tokens or None, request.deadline or None,
            found.frames, found.age_ns, reply, on_text, tuple(request.choices), found.is_past,
            found.camera, watch_id)
        return query, self._find_fault(request, engine) or found.refusal

    def check(self, engine: Engine | None, request: Any) -> None:
        """Raise a ValueError if what is asked could not be answered at any time."""
        if self._streams:
            self._find_stream(request.camera)
        self._find_config(request)
        if engine is not None:
            engine.check_query(
                request.question, request.choices, num_moments=request.num_moments or 1,
                keep_ratio=request.keep_ratio or None,
                max_new_tokens=request.max_new_tokens or None,
                deadline_s=request.deadline or None)

    def _find_fault(self, request: Any, engine: Engine | None) -> Refusal | None:
        """Return why a request cannot be answered, whatever frames there are."""
        if engine is None:
            return Answer.ERROR, 'the node is not active: activate it'
        try:
            check_query_id(request.query_id)
            self.check(engine, request)
        except ValueError as error:
            return Answer.INVALID, str(error)
        return None

    def _find_frames(self, request: Any) -> FoundFrames:
        try:
            stream = self._find_stream(request.camera)
            now_ns = stream.frames.frame_time_ns(self._node.get_clock().now().nanoseconds)
            return stream.find_frames(
                find_time_ns(request, now_ns), now_ns, self._find_config(request))
        except ValueError as error:
            return FoundFrames(refusal=(Answer.INVALID, str(error)))

    def _find_config(self, request: Any) -> VlmNodeConfig:
        return self._settings.get(VlmNodeConfig).for_question(request.num_moments)

    def _find_stream(self, camera: str) -> CameraStream:
        """Return the stream that a request is about; a ValueError if there is no such camera."""
        if camera in self._streams:
            return self._streams[camera]
        if not camera and len(self._streams) == 1:
            return next(iter(self._streams.values()))
        if not camera:
            raise ValueError(f'the query names no camera: give one of {self._names}')
        if not self._names:
            raise ValueError(
                f'camera is {ascii(clean_text(camera, MAX_ID_LENGTH))}: leave it empty, this node '
                'has one camera without a name (parameter cameras)')
        raise ValueError(
            f'camera is {ascii(clean_text(camera, MAX_ID_LENGTH))}: give one of {self._names}')

    @property
    def _names(self) -> str:
        return ', '.join(name for name in self._streams if name)


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
