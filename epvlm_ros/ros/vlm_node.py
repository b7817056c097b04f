"""The lifecycle node that answers questions about the latest guided frame."""

from __future__ import annotations

import time
from typing import Any, Callable

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import Answer, EventGuidedFrame
from epvlm_ros.ros.autostart_node import AutostartNode
from epvlm_ros.ros.camera_stream import CameraStream
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.node_parameters import NodeParameters
from epvlm_ros.ros.qos import publisher_options, QUERIES
from epvlm_ros.ros.query import describe, Query, refuse
from epvlm_ros.ros.query_handler import QueryHandler
from epvlm_ros.ros.query_interfaces import QueryInterfaces
from epvlm_ros.ros.query_maker import QueryMaker
from epvlm_ros.ros.server_settings import check_for_server
from epvlm_ros.ros.shadow_answers import ShadowStatus
from epvlm_ros.ros.vlm_diagnostics import VlmDiagnostics
from epvlm_ros.ros.watch_services import WatchServices
from epvlm_ros.ros.worker import Worker
from epvlm_ros.time_units import BACKWARD_JUMP_NS
from epvlm_ros.vlm.config import ServerConfig, VlmConfig
from epvlm_ros.vlm.engine import Engine
from epvlm_ros.vlm.open_engine import open_engine
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image

REPORT_PERIOD_S = 1.0
FINISH_TIMEOUT_S = 0.8  # beside that of the worker
LAST_WORDS_S = 0.3  # in which answers leave, and the result of a goal is asked for


class VlmNode(AutostartNode):
    """
    Answers queries with a Qwen-VL model that computes on the active patches only.

    Subscribes to ``event_guided_frame`` (epvlm_interfaces/EventGuidedFrame; that of each of the
    parameter ``cameras``, if there are several), ``query``
    (std_msgs/String) and ``query_with_options`` (epvlm_interfaces/Query), serves ``ask``
    (epvlm_interfaces/Ask), the action ``answer_query`` (epvlm_interfaces/AnswerQuery), and
    ``watch``, ``unwatch`` and ``list_watches`` for standing questions; publishes ``answer``
    (epvlm_interfaces/Answer) for every query
    of any kind, ``/diagnostics`` and, while somebody subscribes, ``overlay`` (sensor_msgs/Image).
    Parameters are the fields of `VlmConfig` and `ServerConfig` of `epvlm_ros.vlm.config`, and of
    `VlmNodeConfig`. Configuring loads the model, or looks for its server; it breaks off early once
    ``should_stop`` says so.
    """

    def __init__(
        self, *, should_stop: Callable[[], bool] = lambda: False, **options: Any,
    ) -> None:
        super().__init__('vlm_node', **options)
        self._should_stop = should_stop
        self._engine: Engine | None = None
        self._worker: Worker[Query] | None = None
        self._handler: QueryHandler | None = None
        self._interfaces: QueryInterfaces | None = None
        self._streams: dict[str, CameraStream] = {}  # by the names of the cameras
        self._report = VlmDiagnostics(self.get_fully_qualified_name())
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(REPORT_PERIOD_S, self._publish_report,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._entities: list[Callable[[], Any]] = []
        self._settings = NodeParameters(
            self, VlmConfig, ServerConfig, VlmNodeConfig, on_change=self._reconfigure,
            frozen=lambda: self._engine is not None)
        self._maker = QueryMaker(self, self._settings, self._streams)
        self._watches = WatchServices(
            self, lambda: self._settings.get(VlmNodeConfig),
            lambda request: self._maker.check(self._engine, request), self._take, self._cancel)
        # When time is set back, as when a bag loops, stamps of before say nothing about now.
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-BACKWARD_JUMP_NS),
                          on_clock_change=True),
            post_callback=self._follow_jump)
        if self._settings.get(VlmNodeConfig).autostart:
            self.start()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, then take frames and queries."""
        try:
            self._engine = self._open_engine()
            self._engine.warm_up(self._should_stop)
            self._handler = QueryHandler(
                self._engine, self.get_logger(), self._find_overlay_publisher,
                lambda: self._settings.get(VlmNodeConfig).shadow_every)
            self._create_entities()
        except Exception as error:  # of anything that came with a checkpoint
            self._release()
            return self._fail('configured', error)
        self.get_logger().info(
            f'{self._engine.description}; ask by topic {self.resolve_topic_name("query")}, '
            f'service {self.resolve_service_name("ask")} or action '
            f'{self.resolve_service_name("answer_query")}; all answers on '
            f'{self.resolve_topic_name("answer")}')
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to answer, unless an answer of before is still being computed."""
        if not self._stop_worker():
            return TransitionCallbackReturn.FAILURE
        self._worker = Worker(
            self._work, self._abandon, self._settings.get(VlmNodeConfig).max_queued_queries)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop to answer; open queries get an answer that says so."""
        self._stop_worker()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model, unless an answer is still being computed."""
        if not self._stop_worker():
            return TransitionCallbackReturn.FAILURE
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End in any state; what answers are sent with stays until the node is destroyed."""
        self._forget_model()
        return TransitionCallbackReturn.SUCCESS

    def finish(self, spin_once: Callable[[float], None]) -> None:
        """
        Give every open query its outcome before the context goes down.

        ``spin_once`` takes a timeout in s and runs what sends the answers.
        """
        self._stop_worker()
        deadline_s = time.monotonic() + FINISH_TIMEOUT_S
        last_open_s = time.monotonic()
        while time.monotonic() < min(deadline_s, last_open_s + LAST_WORDS_S):
            spin_once(0.05)
            if self._interfaces is not None and self._interfaces.num_open_calls:
                last_open_s = time.monotonic()

    def destroy_node(self) -> None:
        """Stop the worker before what it publishes with is gone."""
        self._release()
        super().destroy_node()

    def _open_engine(self) -> Engine:
        config, server = self._settings.get(VlmConfig), self._settings.get(ServerConfig)
        idle = check_for_server(server, config, self._settings.get(VlmNodeConfig))
        if idle:
            self.get_logger().warning(
                f'{", ".join(idle)}: without effect, since the model is on a server')
        return open_engine(config, server)

    def _create_entities(self) -> None:
        self._answers = self.create_publisher(
            Answer, 'answer', **publisher_options(self, 'answer', QUERIES))
        self._entities.append(lambda: self.destroy_publisher(self._answers))
        for name in self._settings.get(VlmNodeConfig).camera_names:
            stream = self._streams[name] = CameraStream(
                self, self._settings, name, self._on_frame)
            self._entities.append(stream.destroy)
        self._interfaces = QueryInterfaces(
            self, self._take, self._cancel, self._settings.get(VlmNodeConfig).max_queued_queries)
        self._entities.append(self._interfaces.destroy)
        self._entities.append(self._watches.destroy)
        self._watches.create()

    def _release(self) -> None:
        self._forget_model()
        while self._entities:
            self._entities.pop()()
        self._streams.clear()

    def _forget_model(self) -> None:
        self._stop_worker()
        self._engine = None
        self._handler = None
        for stream in self._streams.values():
            stream.frames.clear()

    def _stop_worker(self) -> bool:
        """Tell whether nothing is computed any more."""
        if self._worker is not None and not self._worker.stop():
            self.get_logger().error(
                'the answer at work did not stop in time: try again when it has ended')
            return False
        self._worker = None
        return True

    def _reconfigure(self) -> None:
        if self._engine is not None:
            self._engine.reconfigure(self._settings.get(VlmConfig))

    def _follow_jump(self, jump: TimeJump) -> None:
        for stream in self._streams.values():
            stream.follow_jump(jump)

    def _on_frame(self, stream: CameraStream, message: EventGuidedFrame) -> None:
        config, handler, name = self._settings.get(VlmNodeConfig), self._handler, stream.name
        if self._worker is None or handler is None:
            return
        self._watches.look(message, name)
        if config.encode_ahead != 'on_demand':
            frames = stream.frames.get(config)
            # a question about a newer frame, or another number, computes those by itself
            self._worker.when_idle(
                lambda should_stop: handler.prepare(name, frames, should_stop), name,
                gives_way_to=lambda query: query.frames != frames)

    def _take(
        self, request: Any, reply: Callable[[Answer], None],
        on_text: Callable[[str], None] | None = None, *, watch_id: str = '',
        rank: int = 0,
    ) -> Query:
        """Queue a query, or answer at once why not; those of watches give way to all others."""
        is_active = self._worker is not None and not self._worker.is_stopping
        query, refusal = self._maker.make(
            self._engine if is_active else None, request, reply, on_text, watch_id)
        if refusal is None and self._worker is not None and not self._worker.submit(
                query, query.camera, rank=rank):
            waiting = self._settings.get(VlmNodeConfig).max_queued_queries
            refusal = Answer.BUSY, f'{waiting} queries are waiting: ask again later'
        if refusal is not None:
            self._publish(query, refuse(query, *refusal))
        return query

    def _cancel(self, query: Query) -> None:
        """End the work on a query, or answer at once if it has not begun."""
        query.cancelled.set()
        if self._worker is not None and self._worker.withdraw(query):
            self._publish(query, refuse(query, Answer.CANCELLED, 'cancelled while it waited'))

    def _find_overlay_publisher(self, camera: str) -> Callable[[Image], None] | None:
        return self._streams[camera].publish_overlay

    def _work(self, query: Query, should_stop: Callable[[], bool]) -> None:
        """Answer one query; runs on the worker's thread."""
        assert self._handler is not None
        self._publish(query, self._handler.answer(query, should_stop))
        self._compare_when_idle()

    def _compare_when_idle(self) -> None:
        """Compare an answer with the dense model when nothing else is to be done."""
        worker, handler = self._worker, self._handler
        if worker is None or handler is None or not handler.shadow.is_waiting:
            return

        def compare(should_stop: Callable[[], bool]) -> None:
            handler.compare(should_stop)
            if not worker.is_stopping:
                self._compare_when_idle()  # once more if a question broke it off

        worker.when_idle(compare, gives_way_to=lambda query: True, comes_last=True)

    def _abandon(self, query: Query) -> None:
        self._publish(query, refuse(query, Answer.ERROR, 'the node stopped before the answer'))

    def _publish(self, query: Query, answer: Answer) -> None:
        if not query.settle():
            return  # it was abandoned, and the node may be gone
        self._report.add_answer(answer)
        if self.context.ok():
            self._answers.publish(answer)
        query.reply(answer)
        if answer.status in (Answer.OK, Answer.CANCELLED):
            self.get_logger().info(describe(query, answer))
        else:
            self.get_logger().warning(describe(query, answer))

    @property
    def _shadow_status(self) -> ShadowStatus | None:
        wanted = self._settings.get(VlmNodeConfig).shadow_every
        return self._handler.shadow.status if wanted and self._handler is not None else None

    def _publish_report(self) -> None:
        now = self.get_clock().now()
        worker, engine = self._worker, self._engine
        is_active = worker is not None and not worker.is_stopping
        state = 'active' if is_active else 'inactive' if engine else 'unconfigured'
        cameras = [
            stream.make_status(
                now.nanoseconds, engine.scene_status_of(name) if engine else None)
            for name, stream in self._streams.items()]
        self._diagnostics.publish(self._report.make(
            now.to_msg(), REPORT_PERIOD_S, state, engine.description if engine else 'none',
            worker.num_queued if worker else 0, cameras, engine.num_encoded if engine else 0,
            self._watches.status, engine.memory_taken if engine else None, self._shadow_status,
            engine.server_status if engine else None))
