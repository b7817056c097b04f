"""A client of the VLM node, and a checkpoint that never ends an answer by itself."""

import array
from pathlib import Path
import threading
import time

from epvlm_interfaces.action import AnswerQuery
from epvlm_interfaces.msg import Answer, EventGuidedFrame
from epvlm_interfaces.srv import Ask
from epvlm_ros.ros.qos import FRAMES, QUERIES
import numpy as np
from qwen_checkpoints import make_model, save_checkpoint, write_json
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.action import ActionClient
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_services_default
from ros_graph import wait_for_start, wait_until
from sensor_msgs.msg import Image
from std_msgs.msg import String

HEIGHT, WIDTH, CELL = 112, 140, 4  # 4 x 5 visual tokens of 28 pixels


def save_endless_model(folder: Path) -> Path:
    """Write a checkpoint with random weights that never ends an answer by itself."""
    save_checkpoint(folder, make_model('narrow'))
    write_json(folder / 'generation_config.json', {'eos_token_id': [999_999]})
    return folder


def make_clients(node, qos=qos_profile_services_default):
    """Return clients of service and action; by default as most people make them."""
    return node.create_client(Ask, 'ask', qos_profile=qos), ActionClient(
        node, AnswerQuery, 'answer_query', goal_service_qos_profile=qos,
        result_service_qos_profile=qos, cancel_service_qos_profile=qos)


class Asker:
    """A client of the node: gives frames, asks, collects answers."""

    def __init__(self, graph, frames='event_guided_frame', overlay='overlay'):
        self.node = graph.node
        self._overlay = overlay
        self.answers = []
        self.overlays = []
        self._matched = threading.Event()
        self._frames = self.node.create_publisher(EventGuidedFrame, frames, FRAMES)
        self._queries = self.node.create_publisher(String, 'query', QUERIES)
        self.node.create_subscription(Answer, 'answer', self.answers.append, QUERIES)
        self.service, self.action = make_clients(self.node)
        self._parameters = self.node.create_client(GetParameters, 'vlm_node/get_parameters')

    def wait_for_node(self, process):
        wait_for_start(process, self.service.service_is_ready, 'the service of the node')
        assert self.action.wait_for_server(20), process.log.read_text()
        assert self._parameters.wait_for_service(20), process.log.read_text()
        wait_until(lambda: self._frames.get_subscription_count()
                   and self._queries.get_subscription_count()
                   and self.node.count_publishers('answer')
                   and self.node.count_publishers(self._overlay), 20, 'the topics of the node')
        # Discovery is mutual: the node has found this side when an answer comes back by topic.
        for number in range(100):
            query_id = f'greeting {number}'
            self.ask('', query_id=query_id)
            deadline = time.monotonic() + 0.2
            while time.monotonic() < deadline:
                if any(answer.query_id == query_id for answer in self.answers):
                    self.answers.clear()
                    return
                time.sleep(0.01)
        raise AssertionError('no answer of the node came by topic')

    def make_frame(self, age_s=0.0, active_cells=((0, 28), (0, 28)), encoding='rgb8',
                   size=(HEIGHT, WIDTH), frame_id='', reason='', painted=(), change=None):
        """
        Return a frame of now.

        It has 100 events in each active cell; ``painted`` tokens are white. ``change`` is (epoch,
        changed tokens): those have 2 more in each of their change scores.
        """
        height, width = size
        counts = np.zeros((height // CELL, width // CELL), np.float32)
        (top, bottom), (left, right) = active_cells
        counts[top // CELL:bottom // CELL, left // CELL:right // CELL] = 100.0
        pixels = np.random.default_rng(0).integers(0, 255, height * width * 3, np.uint8)
        for token in painted:
            _area(pixels.reshape(height, width, 3), token, 28)[:] = 255
        now_ns = self.node.get_clock().now().nanoseconds - round(age_s * 1e9)
        message = EventGuidedFrame(cell_size=CELL, rows=counts.shape[0], cols=counts.shape[1],
                                   coverage=1.0, num_events=int(counts.sum()), pixel_density=1.0,
                                   reason=reason)
        message.header.frame_id = frame_id
        message.image = Image(height=height, width=width, encoding=encoding, step=3 * width,
                              data=array.array('B', pixels.tobytes()))
        message.activity = array.array('f', counts.tobytes())
        if change is not None:
            message.change_epoch, tokens = change
            scores = np.zeros(counts.shape, np.uint16)
            for token in tokens:
                _area(scores, token, 28 // CELL)[:] += 2
            message.change_scores = array.array('H', scores.tobytes())
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 10 ** 9)
        message.window_start.sec = message.window_end.sec = message.header.stamp.sec
        message.window_end.nanosec = 40_000_000
        return message

    def show(self, **fields):
        """Publish a frame, see ``make_frame``, wait until the node has it, and return it."""
        return self.publish(self.make_frame(**fields))

    def publish(self, message):
        """Publish a frame and wait until the node has it."""
        self._frames.publish(message)
        if len(message.image.data) > 3 * 10 ** 6:  # in pieces, some of them again
            assert self._frames.wait_for_all_acked(Duration(seconds=30))
        # The node does one thing after the other: what it answers now comes after the frame.
        future = self._parameters.call_async(GetParameters.Request())
        wait_until(future.done, 20, 'a sign of life')
        return message

    def set_parameter(self, name, value):
        """Set a parameter of the node and return what came of it."""
        client = self.node.create_client(SetParameters, 'vlm_node/set_parameters')
        assert client.wait_for_service(20)
        future = client.call_async(SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]))
        return wait_until(lambda: future.done() and future.result(), 10, 'set').results[0]

    def subscribe_to_overlays(self):
        """Let the node draw overlays from now on; it notices within moments."""
        self.node.create_subscription(Image, self._overlay, self.overlays.append, FRAMES)

    def query(self, text):
        self._queries.publish(String(data=text))

    def ask_async(self, question, **fields):
        return self.service.call_async(Ask.Request(question=question, **fields))

    def ask(self, question, timeout_s=60.0, **fields):
        future = self.ask_async(question, **fields)
        return wait_until(lambda: future.done() and future.result(), timeout_s, 'answer').answer

    def send_goal(self, question, **fields):
        return Goal(self.action, question=question, **fields)


def _area(array, token, side):
    row, col = divmod(token, WIDTH // 28)
    return array[row * side:(row + 1) * side, col * side:(col + 1) * side]


class Goal:
    """A query by action, and what comes back."""

    def __init__(self, client, **fields):
        self.texts = []
        self.pieces = []
        self._accepted = client.send_goal_async(AnswerQuery.Goal(**fields), self._on_feedback)
        self._handle = wait_until(
            lambda: self._accepted.done() and self._accepted.result(), 20, 'goal response')
        assert self._handle.accepted
        self._result = self._handle.get_result_async()

    def cancel(self):
        cancelled = self._handle.cancel_goal_async()
        return wait_until(lambda: cancelled.done() and cancelled.result(), 20, 'cancel response')

    def result(self):
        """Return the state of the goal (GoalStatus) and the answer."""
        result = wait_until(
            lambda: self._result.done() and self._result.result(), 60, 'result of the goal')
        return result.status, result.result.answer

    def _on_feedback(self, message):
        self.texts.append(message.feedback.text)
        self.pieces.append(message.feedback.piece)


def start(graph, model_folder, **parameters):
    process = graph.start('vlm_node', parameters={
        'model': model_folder, 'max_new_tokens': 4, 'device': 'cpu', 'num_threads': 1,
        'max_frame_age': 3600.0, **parameters})
    asker = Asker(graph)
    asker.wait_for_node(process)
    return process, asker
