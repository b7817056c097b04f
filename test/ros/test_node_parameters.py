"""Parameters of files and the command line reach the node, or are named."""

from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.ros.node_parameters import NodeParameters
from epvlm_ros.ros.parameter_overrides import find_ignored
import pytest
import rclpy
from rclpy.parameter import Parameter

KNOWN = {'window_length', 'max_wait', 'keep_ratio'}


@pytest.fixture
def start(context, monkeypatch):
    nodes = []

    def start(*arguments, namespace='', on_change=lambda: None):
        """Return the node and its parameters, as if its process had these arguments."""
        monkeypatch.setattr('sys.argv', ['event_sync_node', '--ros-args', *arguments])
        nodes.append(rclpy.create_node(
            'event_sync_node', context=context, namespace=namespace,
            cli_args=['--ros-args', *arguments]))
        return nodes[-1], NodeParameters(
            nodes[-1], EventSyncConfig, FilterConfig, on_change=on_change)
    yield start
    for node in nodes:
        node.destroy_node()


def write(path, text):
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize('key, namespace, expected', [
    ('event_sync_node', '', 0.25), ('/**/event_sync_node', '', 0.25),
    ('/**/event_sync_node', 'front', 0.25), ('event_sync_node', 'front', 0.04)])
def test_keys_with_two_stars_are_read_with_and_without_a_namespace(
        start, tmp_path, capfd, key, namespace, expected):
    path = write(tmp_path / 'some.yaml',
                 f'{key}: {{ros__parameters: {{window_length: 0.25, max_wait: 0.5}}}}')
    _, parameters = start('--params-file', path, namespace=namespace)
    assert parameters.get(EventSyncConfig).window_length == expected
    ignored = (f'{path}: its parameters of /event_sync_node are ignored, this node is '
               '/front/event_sync_node: write /**/event_sync_node for any namespace')
    assert (ignored in capfd.readouterr().err) is (expected == 0.04)


def test_misspelt_names_are_told_in_one_line_with_the_nearest_right_one(start, capfd, tmp_path):
    path = write(tmp_path / 'some.yaml',
                 'event_sync_node: {ros__parameters: {windw_length: 0.2, zzz: 1}}\n'
                 '/**: {ros__parameters: {robot_radius: 0.3, max_wiat: 0.2, model: tiny}}')
    start('--params-file', path, '-p', 'hot_pixel_filtre:=true', '-p', 'use_sim_time:=true',
          '-p', 'qos_overrides./image.subscription.depth:=3')
    warnings = [line for line in capfd.readouterr().err.splitlines() if 'WARN' in line]
    assert len(warnings) == 1
    assert warnings[0].endswith(
        '/event_sync_node has no parameter hot_pixel_filtre (did you mean hot_pixel_filter?), '
        'max_wiat (did you mean max_wait?), windw_length (did you mean window_length?), zzz: '
        'ignored')


def test_a_file_for_two_robots_is_no_mistake(tmp_path):
    path = write(tmp_path / 'some.yaml', ''.join(
        f'/{robot}/event_sync_node: {{ros__parameters: {{max_wait: 0.1}}}}\n'
        for robot in ('front', 'rear')))
    arguments = ['--params-file', path]
    assert not find_ignored('/rear/event_sync_node', {'max_wait'}, KNOWN, arguments)
    assert len(find_ignored('/left/event_sync_node', set(), KNOWN, arguments)) == 1


def test_integers_are_numbers_at_the_start_and_later(start):
    changed = []
    node, parameters = start(
        '-p', 'window_length:=1', '-p', 'history_length:=2', '-p', 'max_wait:=1',
        '-p', 'homography:=[2, 0, 0, 0, 2, 0, 0, 0, 1]', on_change=lambda: changed.append(1))
    config = parameters.get(EventSyncConfig)
    assert (config.window_length, config.history_length) == (1.0, 2.0)
    assert config.homography == (2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0)
    assert node.get_parameter('window_length').type_ is Parameter.Type.DOUBLE
    assert node.set_parameters([Parameter('window_offset', value=-1)])[0].successful
    assert node.set_parameters_atomically([Parameter('max_wait', value=2)]).successful
    assert parameters.get(EventSyncConfig).window_offset == -1.0 and len(changed) == 2
    assert node.get_parameter('window_offset').value == -1.0


@pytest.mark.parametrize('argument, words', [
    ('window_length:=abc', 'parameter window_length: '), ('window_length:=7.0', 'window_length'),
    ('window_length:=7', 'window_length'), ('max_pending_frames:=1.5', 'max_pending_frames'),
    ('window_length:=true', 'window_length')])
def test_other_values_are_refused_by_name(start, argument, words):
    with pytest.raises(ValueError, match=words):
        start('-p', argument)
