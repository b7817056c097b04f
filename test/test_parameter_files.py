"""Parameter files of ROS: their sections, their patterns of names, their numbers."""

from epvlm_ros.parameter_files import is_match, parse_value, read_sections
import pytest


@pytest.mark.parametrize('pattern, name, expected', [
    ('/event_sync_node', '/event_sync_node', True),
    ('/event_sync_node', '/front/event_sync_node', False),
    ('/**/event_sync_node', '/event_sync_node', True),
    ('/**/event_sync_node', '/front/event_sync_node', True),
    ('/**/event_sync_node', '/robot/front/event_sync_node', True),
    ('/*/event_sync_node', '/front/event_sync_node', True),
    ('/*/event_sync_node', '/robot/front/event_sync_node', False),
    ('/**', '/front/event_sync_node', True),
    ('/**/vlm_node', '/event_sync_node', False)])
def test_keys_match_nodes(pattern, name, expected):
    assert is_match(pattern, name) is expected


def test_sections_of_a_file_are_read_however_they_are_nested(tmp_path):
    path = tmp_path / 'all.yaml'
    path.write_text(
        'event_sync_node: {ros__parameters: {max_wait: 0.1, qos_overrides: {/image: {depth: 1}}}}'
        '\nfront: {vlm_node: {ros__parameters: {model: a}}}\n/**: {ros__parameters: {b: 1}}\n')
    assert read_sections(path) == {
        '/event_sync_node': {'max_wait': 0.1, 'qos_overrides./image.depth': 1},
        '/front/vlm_node': {'model': 'a'}, '/**': {'b': 1}}


@pytest.mark.parametrize('text, expected', [
    ('1e-3', 0.001), ('-2E3', -2000.0), ('.5e1', 5.0), ('1.e2', 100.0), ('1.5', 1.5), ('1', 1),
    ('e3', 'e3'), ('1e', '1e'), ("'1e3'", '1e3'), ('1e3x', '1e3x')])
def test_numbers_are_those_of_ros(text, expected):
    value = parse_value(text)
    assert value == expected and type(value) is type(expected)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    path = tmp_path / 'some.yaml'
    with pytest.raises(ValueError, match='cannot read .*some.yaml: No such file'):
        read_sections(path)
    for content in (b'a: [', b'\xff\xfe\x00'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match='some.yaml is no YAML file') as error:
            read_sections(path)
        assert str(error.value).isprintable()
