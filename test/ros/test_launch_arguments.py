"""Arguments of the launch files are checked before anything starts."""

from pathlib import Path

from epvlm_ros.ros.launch_arguments import (
    check_arguments, describe_arguments, describe_exit, parse_bool, parse_rate, resolve)
import pytest

CONFIG = Path(__file__).resolve().parents[2] / 'config' / 'epvlm.yaml'
ROS_ARGUMENTS = ['--log-level', 'info']


def check(**changes):
    defaults = {name: default for name, (default, _) in describe_arguments().items()}
    assert not changes.keys() - defaults.keys() - {'config_file'}
    return check_arguments({'config_file': str(CONFIG), **defaults, **changes})


def parameters(options):
    return {node.full_name: node.parameters for node in options.nodes}


def test_without_arguments_both_nodes_have_the_values_of_the_file():
    options = check()
    assert parameters(options) == {
        '/event_sync_node': {'use_sim_time': False}, '/vlm_node': {'use_sim_time': False}}
    assert options.ros_arguments == ROS_ARGUMENTS
    assert options.nodes[0].remappings == [
        ('events', 'event_camera/events'), ('image', 'camera/image_raw'),
        ('event_camera_info', 'event_camera/camera_info'),
        ('image_camera_info', 'camera/camera_info'),
        ('event_guided_frame', 'event_guided_frame')]
    assert options.nodes[1].remappings == [('event_guided_frame', 'event_guided_frame')]
    assert not options.respawn and not options.shutdown_on_exit


def test_arguments_go_to_their_nodes_in_their_types():
    options = check(use_sim_time='True', keep_ratio='1', model='7', window_length='4e-2',
                    compressed='yes', autostart='0', registration='camera_info')
    assert parameters(options) == {
        '/event_sync_node': {
            'use_sim_time': True, 'compressed': True, 'window_length': 0.04,
            'registration': 'camera_info', 'autostart': False},
        '/vlm_node': {'use_sim_time': True, 'model': '7', 'keep_ratio': 1.0, 'autostart': False}}
    assert type(options.nodes[1].parameters['keep_ratio']) is float


def test_further_cameras_need_no_model_of_their_own():
    assert set(parameters(check(vlm_node='false'))) == {'/event_sync_node'}
    assert set(parameters(check(event_sync_node='False'))) == {'/vlm_node'}


def test_what_every_node_of_ros_can_have_is_passed_on():
    options = check(namespace='front', respawn='true', log_level='debug', enclave='/robot/eyes')
    assert set(parameters(options)) == {'/front/event_sync_node', '/front/vlm_node'}
    assert options.respawn
    assert options.ros_arguments == ['--log-level', 'debug', '--enclave', '/robot/eyes']


@pytest.mark.parametrize('namespace, prefix', [('', ''), ('/robot/', '/robot')])
def test_several_cameras_have_a_node_each_and_a_model_in_common(namespace, prefix):
    options = check(cameras='front, rear', namespace=namespace, registration='file',
                    registration_file='/maps/{camera}.yaml', image_topic='/usb/{camera}')
    assert parameters(options) == {
        f'{prefix}/front/event_sync_node': {
            'use_sim_time': False, 'registration': 'file',
            'registration_file': '/maps/front.yaml'},
        f'{prefix}/rear/event_sync_node': {
            'use_sim_time': False, 'registration': 'file',
            'registration_file': '/maps/rear.yaml'},
        f'{prefix}/vlm_node': {'use_sim_time': False, 'cameras': 'front rear'}}
    topics = dict(options.nodes[1].remappings)
    assert (topics['events'], topics['image']) == ('event_camera/events', '/usb/rear')
    assert options.nodes[2].remappings == []


def test_two_robots_read_nothing_of_each_other():
    read = [{resolve(node.namespace, topic) for node in check(
        namespace=robot, cameras='front,rear').nodes for _, topic in node.remappings}
        for robot in ('one', 'two')]
    assert len(read[0]) == len(read[1]) == 10 and not read[0] & read[1]


def test_drivers_publish_what_is_read_and_have_the_parameters_of_the_file():
    options = check(event_driver='metavision_driver', image_driver='usb_cam', cameras='front',
                    image_topic='/usb/{camera}')
    event_driver, image_driver, sync_node, _ = options.nodes
    assert (event_driver.full_name, event_driver.executable, event_driver.parameters) == (
        '/front/event_camera', 'driver_node', {})
    assert event_driver.remappings == [('~/events', 'event_camera/events')]
    assert (image_driver.full_name, image_driver.package) == ('/front/camera', 'usb_cam')
    assert image_driver.remappings == [
        ('image_raw', '/usb/front'), ('camera_info', 'camera/camera_info')]
    assert dict(sync_node.remappings)['image'] == '/usb/front'
    compressed = check(image_driver='realsense2_camera', compressed='true').nodes[0]
    assert compressed.remappings[0] == ('~/color/image_raw/compressed', 'camera/image_raw')


def test_a_davis_has_one_driver_whose_frames_are_best_effort():
    driver, sync_node, _ = check(
        event_driver='libcaer_driver', image_driver='libcaer_driver', namespace='robot').nodes
    assert driver.remappings == [
        ('~/events', 'event_camera/events'), ('~/image_raw', 'camera/image_raw'),
        ('~/camera_info', 'camera/camera_info')]
    assert sync_node.parameters == {
        'use_sim_time': False,
        'qos_overrides./robot/camera/image_raw.subscription.reliability': 'best_effort'}


def test_the_page_is_served_where_it_is_wanted():
    assert check().ui_command == ()
    assert check(ui='true', namespace='front', ui_port='0').ui_command == (
        'ui', '--address', '127.0.0.1', '--port', '0', '--namespace', 'front', '--frames',
        'event_guided_frame')
    assert check(ui='true', cameras='front,rear').ui_command[-1] == 'front/event_guided_frame'


@pytest.mark.parametrize('changes, words', [
    ({'cameras': 'front,front'}, "cameras is 'front front'"),
    ({'cameras': 'front,re-ar'}, "cameras is 'front re-ar'"),
    ({'cameras': 'front,rear', 'image_topic': '/usb'}, 'image_topic is /usb for each of front, r'),
    ({'cameras': 'front,rear', 'registration_file': 'a.yaml'}, 'registration_file is a.yaml for'),
    ({'cameras': 'front', 'event_guided_frame_topic': 'x'}, 'event_guided_frame_topic is x'),
    ({'event_driver': 'prophesee'}, "event_driver is 'prophesee': give one of metavision_driver"),
    ({'image_driver': 'webcam'}, "image_driver is 'webcam': give one of usb_cam"),
    ({'image_driver': 'libcaer_driver'}, 'give event_driver:=libcaer_driver too'),
    ({'ui': 'true', 'ui_port': '65536'}, "ui_port is '65536': give a port"),
    ({'ui': 'true', 'ui_port': '-1'}, "ui_port is '-1': give a port"),
    ({'keep_ratio': 'abc'}, "keep_ratio is 'abc': give a number"),
    ({'keep_ratio': '7'}, 'keep_ratio is 7.0: give at most 1.0'),
    ({'keep_ratio': 'nan'}, 'keep_ratio is nan: give a finite number'),
    ({'use_sim_time': 'maybe'}, "use_sim_time is 'maybe': give true or false"),
    ({'compressed': 'jpeg'}, "compressed is 'jpeg': give true or false"),
    ({'sync_mode': 'gps'}, "sync_mode is 'gps': give one of free_running"),
    ({'log_level': 'loud'}, "log_level is 'loud': give one of debug, info, warn, error, fatal"),
    ({'config_file': 'nowhere.yaml'}, "config_file is 'nowhere.yaml': there is no such file"),
    ({'vlm_node': 'no', 'event_sync_node': 'no'}, 'start at least one'),
    # A wrong value is told even where the node that it is for does not start.
    ({'vlm_node': 'no', 'keep_ratio': 'abc'}, 'keep_ratio')])
def test_a_wrong_value_is_one_line_with_its_name(changes, words):
    with pytest.raises(ValueError) as error:
        check(**changes)
    assert words in str(error.value) and '\n' not in str(error.value)


SYNC, VLM = '/**/event_sync_node', '/**/vlm_node'


@pytest.mark.parametrize('key, values, changes, words', [
    (SYNC, 'max_wait: soon', {}, "event_sync_node: max_wait is 'soon': give a value of type fl"),
    (SYNC, 'max_wait: 20', {}, 'event_sync_node: max_wait is 20.0: give at most '),
    (SYNC, 'hot_pixel_filter: 1', {}, 'hot_pixel_filter is 1: give a value of type bool'),
    (VLM, 'encode_ahead: never', {}, "vlm_node: encode_ahead is 'never': give one of on_demand"),
    ('vlm_node', 'keep_ratio: 2', {}, 'vlm_node: keep_ratio is 2.0: give at most 1.0'),
    ('front/vlm_node', 'keep_ratio: 2', {'namespace': '/front/'}, 'keep_ratio is 2.0'),
    ('/**', 'keep_ratio: 2', {}, 'keep_ratio is 2.0')])
def test_a_wrong_value_of_the_file_is_one_line_with_its_name(
        tmp_path, key, values, changes, words):
    path = tmp_path / 'robot.yaml'
    path.write_text(f'{key}: {{ros__parameters: {{{values}}}}}')
    with pytest.raises(ValueError) as error:
        check(config_file=str(path), **changes)
    assert words in str(error.value) and '\n' not in str(error.value)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize('key, values, changes', [
    (SYNC, 'max_wait: 1e-1, window_length: 1, no_such_name: 3', {}),
    ('/vlm_node', 'keep_ratio: 2', {'namespace': 'front'}),  # of another node
    (VLM, 'keep_ratio: 2', {'vlm_node': 'false'}),  # which does not start
    (VLM, 'keep_ratio: 2', {'keep_ratio': '0.5'}),  # the command line beats the file
    ('/**', 'keep_ratio: 0.1, use_sim_time: true', {})])
def test_what_a_node_does_not_take_from_the_file_is_no_matter(tmp_path, key, values, changes):
    path = tmp_path / 'robot.yaml'
    path.write_text(f'{key}: {{ros__parameters: {{{values}}}}}')
    assert check(config_file=str(path), **changes).config_file == str(path)


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_text('[')
    with pytest.raises(ValueError, match='robot.yaml is no YAML file'):
        check(config_file=str(path))


def test_every_argument_is_described():
    for name, (_, description) in describe_arguments().items():
        assert len(description) > 20 and description.endswith('.'), name


@pytest.mark.parametrize('text, expected', [
    ('true', True), ('True', True), ('1', True), ('ON', True), ('false', False), ('False', False),
    ('no', False), ('0', False)])
def test_truth_values_are_read_in_every_spelling_of_yaml(text, expected):
    assert parse_bool('loop', text) is expected


def test_a_rate_is_above_0():
    assert parse_rate('rate', '0.5') == 0.5
    for text in ('0', '-1', 'fast', 'nan', 'inf', ''):
        with pytest.raises(ValueError, match='rate is .*: give a number above 0'):
            parse_rate('rate', text)


@pytest.mark.parametrize('changes, words', [
    ({}, 'the rest goes on without it; respawn:=true starts it again'),
    ({'respawn': 'true'}, 'it is started again'),
    ({'shutdown_on_exit': 'true'}, 'all is shut down')])
def test_the_end_of_a_node_is_told(changes, words):
    text = describe_exit('vlm_node', -9, check(**changes))
    assert text.startswith('vlm_node ended with status -9: ') and words in text
