"""The states of the sync node."""

from lifecycle_msgs.msg import State
import pytest
import rclpy
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from spun_sync_node import SpunSyncNode

SUCCESS = TransitionCallbackReturn.SUCCESS


@pytest.fixture
def start():
    context = Context()
    rclpy.init(context=context, domain_id=13)
    graphs = []

    def start(**parameters):
        graphs.append(SpunSyncNode(context, **parameters))
        return graphs[-1]
    yield start
    for graph in graphs:
        graph.close()
    context.try_shutdown()


def state(node):
    return node._state_machine.current_state[0]


def test_the_node_works_in_its_active_state_only(start):
    graph = start(autostart='false', max_wait=0.0)
    node, client = graph.node, graph.client
    assert state(node) == State.PRIMARY_STATE_UNCONFIGURED
    assert node.set_parameters([Parameter('cell_size', value=7)])[0].successful
    assert node.trigger_configure() is SUCCESS
    refused, = node.set_parameters([Parameter('cell_size', value=14)])
    assert not refused.successful and 'after cleanup' in refused.reason
    assert client.count_subscribers('image') == 0  # a driver without subscribers may rest
    for _ in range(2):
        assert node.trigger_activate() is SUCCESS
        graph.until_connected()
        assert graph.until_frame().rows == 4  # 28 pixels in cells of 7
        assert node.trigger_deactivate() is SUCCESS
        graph.until(lambda: client.count_subscribers('image') == 0, 'the end of subscriptions')
    assert node.trigger_cleanup() is SUCCESS
    assert node.set_parameters([Parameter('cell_size', value=14)])[0].successful
    node.start()
    graph.until_connected()
    assert graph.until_frame().rows == 2
    assert node.trigger_shutdown() is SUCCESS
    graph.until(lambda: client.count_subscribers('image') == 0, 'the end of subscriptions')


def test_a_registration_file_that_is_missing_leaves_the_node_unconfigured(start, capfd, tmp_path):
    path = tmp_path / 'registration.yaml'
    graph = start(registration='file', registration_file=path)
    assert state(graph.node) == State.PRIMARY_STATE_UNCONFIGURED
    log = capfd.readouterr().err
    assert 'not configured: ' in log and str(path) in log and 'Traceback' not in log
