"""Standing questions of a node: their services, and the frames that they are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import time
from typing import Any, Callable, Protocol

from epvlm_interfaces.msg import Answer, EventGuidedFrame, Query as QueryMessage
from epvlm_interfaces.srv import ListWatches, Unwatch, Watch as WatchService
from epvlm_ros.clean_text import clean_text
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.conversions import to_activity, to_change_score
from epvlm_ros.ros.qos import query_calls
from epvlm_ros.ros.query import MAX_MESSAGE_LENGTH, Query
from epvlm_ros.ros.watch_messages import to_message, to_query_message, to_standing_question
from epvlm_ros.time_units import stamp_to_ns
from epvlm_ros.watches import (
    EventRates, INTERVAL, RateReader, StandingQuestion, Watch, WatchDefaults, WatchFile, WatchList)
from rclpy.node import Node


class AskForWatch(Protocol):
    """Asks for a standing question; the answer may come at any time, from any thread."""

    def __call__(
        self, request: QueryMessage, reply: Callable[[Answer], None], *, watch_id: str,
        rank: int,
    ) -> Query:
        """Take a query with the id of the watch that asks, and its rank, see ``Worker``."""


@dataclass(frozen=True)
class WatchStatus:
    """How many standing questions there are, and counts since the start."""

    num_watches: int = 0
    num_asked: int = 0
    num_held_back: int = 0
    num_busy: int = 0
    faults: tuple[str, ...] = ()


class _Camera:
    """What was seen of a camera."""

    def __init__(self) -> None:
        self.reader = RateReader()
        self.image_size: tuple[int, int] | None = None  # width, height

    def look(self, message: EventGuidedFrame) -> EventRates | None:
        """Return where events came since the frame before; None if that is not known."""
        self.image_size = message.image.width, message.image.height
        try:
            activity, change = to_activity(message), to_change_score(message)
        except ValueError:  # a query about the frame is told why
            activity = change = None
        return self.reader.read(activity, change, stamp_to_ns(message.header.stamp))


class WatchServices:
    """
    Serves ``watch``, ``unwatch`` and ``list_watches`` and asks what is due.

    The questions outlast the services, which come and go with the model. All methods are for the
    executor's thread.

    Parameters
    ----------
    node : Node
        Has the services.
    config : callable
        Returns the parameters of now.
    check_query : callable
        Raises a ValueError if what is asked could not be answered.
    ask, cancel : callable
        Take a query, and take it back.

    """

    def __init__(
        self, node: Node, config: Callable[[], VlmNodeConfig],
        check_query: Callable[[QueryMessage], None], ask: AskForWatch,
        cancel: Callable[[Query], None],
    ) -> None:
        self._node, self._config, self._check_query = node, config, check_query
        self._ask, self._cancel = ask, cancel
        self._watches = WatchList()
        self._path = ''
        self._cameras: dict[str, _Camera] = {}
        self._open: dict[Watch, Query] = {}
        self._services: list[Any] = []

    def create(self) -> None:
        """Offer the services, with what the file has; a ValueError if it cannot be used."""
        path = self._config().watches_file
        if path and path != self._path:
            warning = self._watches.load(WatchFile(Path(path).expanduser()))
            if warning:
                self._node.get_logger().error(warning)
            elif len(self._watches):
                self._node.get_logger().info(
                    f'{len(self._watches)} standing questions of {path}')
            self._path = path
        self._warn_of_useless()
        self._services = [
            self._node.create_service(kind, name, callback, qos_profile=query_calls())
            for kind, name, callback in (
                (WatchService, 'watch', self._on_watch), (Unwatch, 'unwatch', self._on_unwatch),
                (ListWatches, 'list_watches', self._on_list))]

    def destroy(self) -> None:
        """Take the services away; the questions stay."""
        while self._services:
            self._node.destroy_service(self._services.pop())

    @property
    def status(self) -> WatchStatus:
        """Return what there is to report."""
        faults = tuple(f'watch {watch.standing.watch_id}: {watch.fault}'
                       for watch in self._watches if watch.fault)
        return WatchStatus(len(self._watches), *self._watches.counts, faults)

    def look(self, message: EventGuidedFrame, camera: str = '') -> None:
        """Judge all standing questions about a camera by its frame, and ask what is due."""
        eyes = self._cameras.setdefault(camera, _Camera())
        if not len(self._watches):
            eyes.reader = RateReader()
            eyes.image_size = message.image.width, message.image.height
            return
        self._open = {watch: query for watch, query in self._open.items() if watch.is_open}
        rates, now_s, defaults = eyes.look(message), time.monotonic(), self._defaults()
        for watch in self._watches:
            if watch.standing.camera in (camera, '') and watch.is_due(rates, now_s, defaults):
                watch.note_asked(now_s)
                self._open[watch] = self._ask(
                    to_query_message(watch.standing), self._make_reply(watch),
                    watch_id=watch.standing.watch_id,
                    rank=2 if watch.standing.condition == INTERVAL else 1)

    def _warn_of_useless(self) -> None:
        """Name what was set up before and cannot be answered by this model and these cameras."""
        for watch in self._watches:
            try:
                self._check_query(to_query_message(watch.standing))
            except ValueError as error:
                self._node.get_logger().warning(
                    f'watch {watch.standing.watch_id} cannot be answered: {error}')

    def _make_reply(self, watch: Watch) -> Callable[[Answer], None]:
        return lambda answer: watch.note_answered()

    def _defaults(self) -> WatchDefaults:
        config = self._config()
        return WatchDefaults(config.watch_level, config.watch_min_gap, config.watch_max_rate)

    def _on_watch(
        self, request: WatchService.Request, response: WatchService.Response,
    ) -> WatchService.Response:
        try:
            standing = to_standing_question(request.watch, self._watches.make_id())
            self._check(standing, request.watch.query)
            replaced = self._watches.add(standing, self._config().max_watches)
        except ValueError as error:
            response.message = clean_text(str(error), MAX_MESSAGE_LENGTH)
            return response
        if replaced is not None:
            self._withdraw(replaced)
        response.success, response.watch_id = True, standing.watch_id
        self._node.get_logger().info(
            f"watch {standing.watch_id}: '{clean_text(standing.question, 80)}', by "
            f'{standing.condition}')
        return response

    def _check(self, standing: StandingQuestion, query: QueryMessage) -> None:
        standing.check_pace(self._defaults())
        self._check_query(query)
        eyes = self._cameras.get(standing.camera)
        if eyes is not None and eyes.image_size is not None:
            standing.region.check_inside(*eyes.image_size)

    def _on_unwatch(
        self, request: Unwatch.Request, response: Unwatch.Response,
    ) -> Unwatch.Response:
        try:
            self._withdraw(self._watches.remove(request.watch_id))
        except ValueError as error:
            response.message = clean_text(str(error), MAX_MESSAGE_LENGTH)
            return response
        response.success = True
        self._node.get_logger().info(f'watch {request.watch_id} ended')
        return response

    def _on_list(
        self, request: ListWatches.Request, response: ListWatches.Response,
    ) -> ListWatches.Response:
        response.watches = [to_message(watch.standing) for watch in self._watches]
        response.asked = [watch.num_asked for watch in self._watches]
        response.held_back = [watch.num_held_back for watch in self._watches]
        return response

    def _withdraw(self, watch: Watch) -> None:
        """Take back the question of a watch that is no more."""
        query = self._open.pop(watch, None)
        if query is not None and watch.is_open:
            self._cancel(query)
