"""The ways to ask a node: two topics, a service and an action."""

from __future__ import annotations

from typing import Any, Callable, Protocol

from action_msgs.msg import GoalStatus
from epvlm_interfaces.action import AnswerQuery
from epvlm_interfaces.msg import Answer, Query as QueryMessage
from epvlm_interfaces.srv import Ask
from epvlm_ros.ros.qos import QUERIES, query_calls, subscription_options
from epvlm_ros.ros.query import Query
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String


class TakeQuery(Protocol):
    """Makes a query of a request; the answer and its pieces may come at any time."""

    def __call__(
        self, request: Any, reply: Callable[[Answer], None],
        on_text: Callable[[str], None] | None = None,
    ) -> Query:
        """Take a request with the fields of ``Query.msg``."""


class QueryInterfaces:
    """
    Serves the topics, the service and the action that questions come by.

    Those are ``query`` and ``query_with_options``, ``ask``, and ``answer_query``. ``take`` gets
    every request, ``cancel`` a query that is not wanted any more, which is to be answered none the
    less. ``max_queued`` is how many queries may wait.
    """

    def __init__(
        self, node: Node, take: TakeQuery, cancel: Callable[[Query], None], max_queued: int,
    ) -> None:
        self._node, self._take, self._cancel = node, take, cancel
        self._goals: dict[bytes, Query] = {}
        self._num_open_calls = 0
        # A call that awaits its answer would keep the other callbacks of its group from running.
        group = ReentrantCallbackGroup()
        self._topics = [
            node.create_subscription(
                message_type, topic, take_message, **subscription_options(node, topic, QUERIES))
            for topic, message_type, take_message in (
                ('query', String, self._on_text),
                ('query_with_options', QueryMessage, self._on_query))]
        qos = query_calls(max_queued)
        self._service = node.create_service(
            Ask, 'ask', self._on_ask, callback_group=group, qos_profile=qos)
        self._action = ActionServer(
            node, AnswerQuery, 'answer_query', self._on_goal, callback_group=group,
            cancel_callback=self._on_cancel, goal_service_qos_profile=qos,
            result_service_qos_profile=qos, cancel_service_qos_profile=qos,
            feedback_pub_qos_profile=qos)

    @property
    def num_open_calls(self) -> int:
        """Service calls and goals that have no outcome yet."""
        return self._num_open_calls + len(self._goals)

    def destroy(self) -> None:
        """Take all of them away."""
        self._action.destroy()
        self._node.destroy_service(self._service)
        for topic in self._topics:
            self._node.destroy_subscription(topic)

    def _on_text(self, message: String) -> None:
        self._on_query(QueryMessage(question=message.data))

    def _on_query(self, message: QueryMessage) -> None:
        self._take(message, lambda answer: None)

    async def _on_ask(self, request: Ask.Request, response: Ask.Response) -> Ask.Response:
        answered = self._make_future()
        self._num_open_calls += 1
        self._take(request, answered.set_result)
        response.answer = await answered
        self._num_open_calls -= 1
        return response

    async def _on_goal(self, goal: ServerGoalHandle) -> AnswerQuery.Result:
        feedback = AnswerQuery.Feedback()

        def publish(piece: str) -> None:
            feedback.piece = piece
            feedback.text += piece
            goal.publish_feedback(feedback)

        answered, goal_id = self._make_future(), bytes(goal.goal_id.uuid)
        query = self._goals[goal_id] = self._take(goal.request, answered.set_result, publish)
        if goal.is_cancel_requested:  # before this began
            self._cancel(query)
        answer = await answered
        del self._goals[goal_id]
        self._end_goal(goal, answer)
        return AnswerQuery.Result(answer=answer)

    def _end_goal(self, goal: ServerGoalHandle, answer: Answer) -> None:
        if answer.status == Answer.OK:
            goal.succeed()
        elif answer.status == Answer.CANCELLED and goal.status == GoalStatus.STATUS_CANCELING:
            goal.canceled()
        else:
            goal.abort()

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        query = self._goals.get(bytes(goal.goal_id.uuid))
        if query is not None:
            self._cancel(query)
        return CancelResponse.ACCEPT

    def _make_future(self) -> Future:
        future: Future = Future(executor=self._node.executor)
        # Setting the result wakes the executor only when there is a callback to run.
        future.add_done_callback(lambda done: None)
        return future
