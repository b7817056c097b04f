"""A computation that does not stop in time is waited for, never run beside another one."""

import threading

from epvlm_ros.ros import worker
from epvlm_ros.ros.vlm_node import VlmNode
from qwen_checkpoints import make_model, save_checkpoint
import rclpy
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter


def test_the_node_waits_for_what_is_still_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, 'STOP_TIMEOUT_S', 0.2)
    context = Context()
    rclpy.init(context=context, domain_id=18)
    node = VlmNode(context=context, parameter_overrides=[
        Parameter('model', value=str(save_checkpoint(tmp_path, make_model('narrow')))),
        Parameter('device', value='cpu')])
    computing, may_end = threading.Event(), threading.Event()

    def compute(should_stop):
        computing.set()
        may_end.wait(20.0)

    node._worker.when_idle(compute)
    assert computing.wait(20.0)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert node.trigger_cleanup() == TransitionCallbackReturn.FAILURE
    may_end.set()
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    node.destroy_node()
    context.try_shutdown()
