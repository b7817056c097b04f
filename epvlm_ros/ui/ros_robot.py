"""A robot in ROS: topics, services, action and parameters of both nodes, for an event loop."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
import time
from typing import Any, Callable

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.action import AnswerQuery
from epvlm_interfaces.msg import Answer, EventGuidedFrame
from epvlm_ros.clean_text import clean_text
from epvlm_ros.images import image_to_rgb
from epvlm_ros.ros.config import below
from epvlm_ros.ros.qos import FRAMES, QUERIES, query_calls
from epvlm_ros.ui.answers import format_stamp, to_json
from epvlm_ros.ui.calls import to_asyncio
from epvlm_ros.ui.gauges import make_gauges
from epvlm_ros.ui.parameters import RemoteParameters
from epvlm_ros.ui.pictures import encode_jpeg, LivePictures
from epvlm_ros.ui.presence import Presence
from epvlm_ros.ui.requests import AskRequest, SetRequest, WatchRequest
from epvlm_ros.ui.robot import Listener, RobotError
from epvlm_ros.ui.watches import Watches
from rcl_interfaces.msg import ParameterEvent
from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_parameter_events, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

REPORT_PERIOD_S = 1.0
AWAY_AFTER_S = 3.0
ACCEPT_TIMEOUT_S = 15.0
CANCEL_TIMEOUT_S = 10.0
LOG_PERIOD_S = 10.0
# One frame at most waits: what comes later is more of now.
LIVE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class RosRobot:
    """
    The `Robot` of the namespace of ``node``, which spins on a thread of its own.

    Callbacks of ROS run on that thread and hand over to ``loop``, all else runs on the loop.
    ``frames_topic`` has the guided frames (below the name of the camera where there are several),
    ``max_rate`` of which are drawn in a second.
    """

    def __init__(
        self, node: Node, loop: asyncio.AbstractEventLoop, frames_topic: str, max_rate: float,
    ) -> None:
        self._node, self._loop = node, loop
        self._namespace = node.get_namespace().rstrip('/') + '/'
        self._presence = Presence(self._namespace)
        self._parameters: dict[str, RemoteParameters] = {}  # by the full names of their nodes
        self._watches = Watches(node)
        qos = query_calls()
        self._action: Any = ActionClient(
            node, AnswerQuery, 'answer_query', goal_service_qos_profile=qos,
            result_service_qos_profile=qos, cancel_service_qos_profile=qos)
        self._frames_topic = frames_topic
        self._max_rate = max_rate
        self._frame_sizes: dict[str, tuple[int, int]] = {}
        self._subscriptions: dict[tuple[str, str], Any] = {}  # by what is shown, and the camera
        self._looked_at: set[str] = set()
        self._is_open = False
        self._answer: dict[str, Any] | None = None
        self._states: list[str] = []
        self._listing: asyncio.Task[None] | None = None

    def start(self, listener: Listener) -> None:
        """Begin to tell ``listener`` what happens."""
        self._listener = listener
        node = self._node
        node.create_subscription(Answer, 'answer', self._on_answer, QUERIES)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._presence.add, 10)
        node.create_subscription(ParameterEvent, '/parameter_events', self._on_parameter_event,
                                 qos_profile_parameter_events)
        node.create_timer(REPORT_PERIOD_S, self._report, clock=Clock(
            clock_type=ClockType.STEADY_TIME))

    def show_pictures(self, live: set[str], answered: bool) -> None:
        """Subscribe to what is looked at, and to nothing else."""
        self._looked_at, self._is_open = live, answered
        executor = self._node.executor
        assert executor is not None
        executor.create_task(self._subscribe)

    async def ask(
        self, request: AskRequest, on_text: Callable[[str], None], cancelled: asyncio.Event,
    ) -> dict[str, Any]:
        """Return the answer; ``on_text`` takes the text so far."""
        if not self._action.server_is_ready():
            raise RobotError('nobody answers questions: vlm_node is not there, or not configured')
        sent = self._action.send_goal_async(
            AnswerQuery.Goal(**asdict(request.question)),
            lambda message: self._tell(on_text, message.feedback.text))
        try:
            goal = await asyncio.wait_for(to_asyncio(sent, self._loop), ACCEPT_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise RobotError('vlm_node did not take the question: is it busy or gone?') from None
        if not goal.accepted:
            raise RobotError('vlm_node did not take the question')
        return to_json((await self._follow(goal, cancelled)).result.answer)

    async def watch(self, request: WatchRequest) -> str:
        """Set up a standing question and return its id."""
        watch_id = await self._watches.watch(request)
        await self._list_watches()
        return watch_id

    async def unwatch(self, watch_id: str) -> None:
        """End a standing question."""
        try:
            await self._watches.unwatch(watch_id)
        finally:
            await self._list_watches()

    async def set_parameter(self, request: SetRequest) -> None:
        """Change a parameter of one of the nodes."""
        parameters = self._parameters.get(request.node)
        if parameters is None:
            raise RobotError(f'there is no node {request.node!r} here')
        try:
            await parameters.change(request.name, request.value)
        finally:
            self._tell_parameters()

    async def refresh(self) -> None:
        """Tell the listener the watches and parameters of now."""
        await asyncio.gather(
            self._list_watches(), *(item.refresh() for item in self._follow_nodes()))
        self._tell_parameters()

    async def _follow(self, goal: Any, cancelled: asyncio.Event) -> Any:
        """Wait for the result of a goal, unless its node goes away."""
        result = to_asyncio(goal.get_result_async(), self._loop)
        wish = asyncio.ensure_future(cancelled.wait())
        seen_s, give_up_s = time.monotonic(), float('inf')
        try:
            while not result.done():
                waited = [result] if give_up_s < float('inf') else [result, wish]
                await asyncio.wait(
                    waited, timeout=REPORT_PERIOD_S, return_when=asyncio.FIRST_COMPLETED)
                now_s = time.monotonic()
                if wish.done() and give_up_s == float('inf'):
                    goal.cancel_goal_async()
                    give_up_s = now_s + CANCEL_TIMEOUT_S
                if self._action.server_is_ready():
                    seen_s = now_s
                if not result.done() and now_s > min(seen_s + AWAY_AFTER_S, give_up_s):
                    raise RobotError('vlm_node went away before the end of the answer')
            return result.result()
        finally:
            wish.cancel()
            result.cancel()

    def _subscribe(self) -> None:
        """Follow what is looked at; on the thread of ROS."""
        known = self._presence.cameras or ['']
        wanted = {('live', camera) for camera in self._looked_at if camera in known}
        if self._is_open:
            wanted |= {('answered', camera) for camera in known}
        for key in self._subscriptions.keys() - wanted:
            self._node.destroy_subscription(self._subscriptions.pop(key))
        for kind, camera in wanted - self._subscriptions.keys():
            self._subscriptions[kind, camera] = (
                self._subscribe_to_frames(camera) if kind == 'live' else
                self._node.create_subscription(
                    Image, below(camera, 'overlay'), self._on_overlay, FRAMES))

    def _subscribe_to_frames(self, camera: str) -> Any:
        def show(jpeg: bytes, size: tuple[int, int]) -> None:
            if self._frame_sizes.get(camera) != size:
                self._frame_sizes[camera] = size
                self._tell(self._listener.on_latest, 'frames', {'sizes': {**self._frame_sizes}})
            self._tell(self._listener.on_live_picture, camera, jpeg)

        return self._node.create_subscription(
            EventGuidedFrame, below(camera, self._frames_topic),
            LivePictures(show, self._warn, self._max_rate).add, LIVE, raw=True)

    def _on_answer(self, message: Answer) -> None:
        answer = to_json(message)
        if answer['tokens']:
            self._answer = answer
        self._tell(self._listener.on_answer, answer)
        if message.watch_id and self._is_open:
            self._tell(self._list_soon)

    def _on_overlay(self, message: Image) -> None:
        try:
            jpeg = encode_jpeg(image_to_rgb(message))
        except ValueError as error:
            self._warn(str(error))
            return
        self._tell(self._listener.on_answer_picture, format_stamp(message.header.stamp), jpeg)

    def _on_parameter_event(self, event: ParameterEvent) -> None:
        if event.node in self._parameters:
            self._tell(self._note_parameters, event)

    def _note_parameters(self, event: ParameterEvent) -> None:
        if self._parameters[event.node].note(event.changed_parameters):
            self._tell_parameters()

    def _report(self) -> None:
        """Tell once a second which nodes are there and how they do, if anybody looks."""
        if not self._is_open:
            return
        there = {f'{namespace.rstrip("/")}/{name}'.lstrip('/')
                 for name, namespace in self._node.get_node_names_and_namespaces()}
        nodes = self._presence.states(there)
        gauges = make_gauges(
            {camera: self._presence.parts(name)
             for camera, name in self._presence.sync_names.items()},
            self._presence.parts('vlm_node'), self._answer)
        self._tell(self._listener.on_latest, 'nodes', {
            'nodes': nodes, 'cameras': self._presence.cameras})
        self._subscribe()  # cameras may have come
        self._tell(self._listener.on_latest, 'gauges', {'gauges': gauges})
        states = [f'{node["node"]} {node["state"]}' for node in nodes]
        if states != self._states:
            self._states = states
            self._tell(lambda: self._loop.create_task(self.refresh()))

    def _follow_nodes(self) -> list[RemoteParameters]:
        """Return the parameters of the nodes of the cameras that are known, as they are by now."""
        followed = []
        for name in self._presence.names:
            full_name = self._namespace + name
            if full_name not in self._parameters:
                self._parameters[full_name] = RemoteParameters(
                    self._node, name.rpartition('/')[2], full_name)
            followed.append(self._parameters[full_name])
        return followed

    def _list_soon(self) -> None:
        if self._listing is None or self._listing.done():
            self._listing = self._loop.create_task(self._list_watches())

    async def _list_watches(self) -> None:
        self._listener.on_latest('watches', await self._watches.list())

    def _tell_parameters(self) -> None:
        self._listener.on_latest('parameters', {
            'nodes': [item.to_json() for item in self._follow_nodes()]})

    def _tell(self, callback: Callable[..., Any], *arguments: Any) -> None:
        """Call something on the thread of the loop."""
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            pass  # the loop has ended

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(clean_text(text), throttle_duration_sec=LOG_PERIOD_S)
