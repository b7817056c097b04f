"""The states of the sync node."""

from lifecycle_msgs.msg import State
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

SUCCESS = TransitionCallbackReturn.SUCCESS


def state(node):
    return node._state_machine.current_state[0]


def test_the_node_works_in_its_active_state_only(start_sync_node):
    graph = start_sync_node(autostart='false', max_wait=0.0)
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


def test_a_registration_file_that_is_missing_leaves_the_node_unconfigured(
        start_sync_node, capfd, tmp_path):
    path = tmp_path / 'registration.yaml'
    graph = start_sync_node(registration='file', registration_file=path)
    assert state(graph.node) == State.PRIMARY_STATE_UNCONFIGURED
    log = capfd.readouterr().err
    assert 'not configured: ' in log and str(path) in log and 'Traceback' not in log
