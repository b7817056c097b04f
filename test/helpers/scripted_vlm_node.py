"""A vlm_node with the real interfaces and parameters, whose answers are written by the test."""

from __future__ import annotations

import threading

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import Answer
from epvlm_interfaces.srv import ListWatches, Unwatch, Watch
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.ros.conversions import rgb_to_image
from epvlm_ros.ros.diagnostics import make_status
from epvlm_ros.ros.node_parameters import NodeParameters
from epvlm_ros.ros.qos import FRAMES, QUERIES
from epvlm_ros.ros.query_interfaces import QueryInterfaces
from epvlm_ros.ros.spinning_node import SpinningNode
from epvlm_ros.vlm.config import ServerConfig, VlmConfig
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header


class ScriptedVlmNode:
    """
    A context manager: says two words to every question, or waits where it is asked to 'wait'.

    ``watches`` False leaves out the services of standing questions.
    """

    def __init__(self, domain_id, namespace='', watches=True):
        self._spinning = SpinningNode('vlm_node', domain_id, namespace=namespace)
        self.node = node = self._spinning.node
        self.config = NodeParameters(
            node, VlmConfig, ServerConfig, VlmNodeConfig, on_change=lambda: None)
        self.requests = []
        self._is_closed = False
        self.watches = {}
        self._parts = {}
        self._waiting = {}
        self._answers = node.create_publisher(Answer, 'answer', QUERIES)
        self.overlays = node.create_publisher(Image, 'overlay', FRAMES)
        self._diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._interfaces = QueryInterfaces(node, self._take, self._cancel, 8)
        if watches:
            node.create_service(Watch, 'watch', self._on_watch)
            node.create_service(Unwatch, 'unwatch', self._on_unwatch)
            node.create_service(ListWatches, 'list_watches', self._on_list)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Leave the graph; once more does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._spinning.close()
        self._interfaces.destroy()  # or the graph keeps the action
        self.node.destroy_node()

    def report(self, part, values, faults=()):
        """Publish diagnostics of one part, with those that were reported before."""
        name = self.node.get_fully_qualified_name().lstrip('/')
        self._parts[part] = make_status(name, part, list(faults), values)
        self._diagnostics.publish(DiagnosticArray(status=list(self._parts.values())))

    def forget_reports(self):
        """Report no part of before any more."""
        self._parts.clear()

    def publish(self, answer):
        self._answers.publish(answer)

    def _take(self, request, reply, on_text=None):
        self.requests.append(request)
        query = object()
        answer = Answer(
            header=Header(stamp=Time(sec=len(self.requests), nanosec=5)), text='so far',
            question=request.question, query_id=f'query-{len(self.requests)}', tokens=20,
            tokens_kept=10, flops_dense=100, flops_used=40, choices=request.choices,
            mean_log_probability=float('nan'))
        if on_text is not None:
            on_text('so ')
            on_text('far')
        if request.question == 'wait':
            self._waiting[query] = answer, reply
        else:
            threading.Thread(target=self._finish, args=(answer, reply, Answer.OK)).start()
        return query

    def _cancel(self, query):
        answer, reply = self._waiting.pop(query)
        self._finish(answer, reply, Answer.CANCELLED)

    def _finish(self, answer, reply, status):
        answer.status = status
        self.overlays.publish(rgb_to_image(answer.header, np.zeros((12, 16, 3), np.uint8)))
        self._answers.publish(answer)
        reply(answer)

    def _on_watch(self, request, response):
        if not request.watch.query.question:
            response.message = 'the question is empty: give one'
            return response
        request.watch.watch_id = response.watch_id = f'watch-{len(self.watches) + 1}'
        self.watches[response.watch_id] = request.watch
        response.success = True
        return response

    def _on_unwatch(self, request, response):
        response.success = self.watches.pop(request.watch_id, None) is not None
        if not response.success:
            response.message = f'there is no watch {request.watch_id!r}: see list_watches'
        return response

    def _on_list(self, request, response):
        response.watches = list(self.watches.values())
        response.asked = [3] * len(self.watches)
        response.held_back = [1] * len(self.watches)
        return response
