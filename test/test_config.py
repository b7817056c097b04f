"""The configuration classes refuse what is wrong and say what would be right."""

from dataclasses import fields
from pathlib import Path

from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.ros.config import EventSyncNodeConfig, VlmNodeConfig
from epvlm_ros.vlm.config import ServerConfig, VlmConfig
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize('config', [
    EventSyncConfig, FilterConfig, EventSyncNodeConfig, VlmConfig, ServerConfig, VlmNodeConfig])
def test_every_default_is_allowed_and_described(config):
    instance = config()
    for item in fields(config):
        assert len(item.metadata['description']) > 20, item.name
        assert getattr(instance, item.name) == item.default


@pytest.mark.parametrize('config, name, value, words', [
    (VlmConfig, 'keep_ratio', 1.5, 'keep_ratio is 1.5: give at most 1.0'),
    (VlmConfig, 'keep_ratio', 0.0, 'at least 0.01'),
    (VlmConfig, 'keep_ratio', float('nan'), 'finite'),
    (VlmConfig, 'keep_ratio', '0.5', 'type float'),
    (VlmConfig, 'max_new_tokens', True, 'type int'),
    (VlmConfig, 'warm_up_sizes', '640x480,1280x720', 'give widths and heights such as'),
    (VlmConfig, 'warm_up_sizes', '640x-480', 'give widths and heights such as'),
    (VlmConfig, 'temperature', 1e-38, 'give at least 0.001, or 0'),
    (VlmConfig, 'dtype', 'int8', 'one of auto, float32, bfloat16, float16'),
    (EventSyncConfig, 'homography', (1.0, 2.0), 'has 2 numbers: give 9'),
    (EventSyncConfig, 'homography', 'abc', 'list of numbers'),
    (EventSyncConfig, 'homography', (1, 0, 0, 0, 1, 0, 0, 0, float('inf')), 'finite'),
    (EventSyncConfig, 'window_length', -0.1, 'at least 0.001'),
    (EventSyncConfig, 'clock_offset', 1.7e18, 'at most 4000000000'),
    (EventSyncConfig, 'clock_offset', -1.7e18, 'at least -4000000000'),
    (EventSyncConfig, 'max_wait', 1.5, 'give a longer history_length'),
    (EventSyncConfig, 'registration', 'file', 'registration_file is empty'),
    (EventSyncConfig, 'sync_mode', 'gps', 'one of free_running, hardware_trigger'),
    (VlmNodeConfig, 'max_queued_queries', 0, 'at least 1'),
    (ServerConfig, 'server', 'host:8000', 'give a URL such as http://host:8000'),
    (ServerConfig, 'server', 'ftp://host', 'give a URL such as http://host:8000'),
    (ServerConfig, 'server', 'http://', 'give a URL such as http://host:8000'),
    (ServerConfig, 'server', 'http://host:99999', 'give a URL such as http://host:8000'),
    (ServerConfig, 'server', 'http://host\n', 'give a URL such as http://host:8000'),
    (ServerConfig, 'server', 'http://host:8000/v1/', 'leave out /v1'),
    (ServerConfig, 'server', 'http://host?key=1', 'leave out what follows the path'),
    (ServerConfig, 'server', 'http://me:secret@host', "'host': leave name and password out"),
    (ServerConfig, 'server_timeout', 0.0, 'at least 0.1'),
    (ServerConfig, 'server_fallback', 'other', 'one of none, embedded'),
])
def test_a_wrong_value_is_refused_by_name(config, name, value, words):
    with pytest.raises(ValueError) as error:
        config(**{name: value})
    assert name in str(error.value)
    assert words in str(error.value)


def test_a_bin_is_no_longer_than_the_history():
    with pytest.raises(ValueError, match='bin_length is 0.1, history_length 0.05: give at least'):
        EventSyncConfig(bin_length=0.1, history_length=0.05, max_wait=0.0)


@pytest.mark.parametrize('values, words', [
    ({'window_length': 0.6, 'history_length': 0.5},
     'window_length is 0.6, window_offset 0.0, exposure_time 0.0, history_length 0.5'),
    ({'window_mode': 'count', 'max_window_length': 2.0}, 'max_window_length is 2.0'),
    ({'window_mode': 'activity', 'max_window_length': 2.0}, 'max_window_length is 2.0'),
    ({'window_offset': -1.0}, 'a window that reaches 1.02 s back'),
    ({'window_offset': -0.6, 'exposure_time': 1.0, 'stamped_at': 'end'}, 'reaches 1.12 s back'),
    ({'window_mode': 'count', 'window_offset': -0.9}, 'reaches 1.08 s back'),
])
def test_a_window_longer_ago_than_the_history_is_refused(values, words):
    with pytest.raises(ValueError, match='is never whole; give a longer history_length') as error:
        EventSyncConfig(**values)
    assert words in str(error.value)
    EventSyncConfig(**{**values, 'history_length': 3.0})


@pytest.mark.parametrize('values', [
    {'window_length': 1.0}, {'window_offset': -0.98}, {'window_offset': 1.0},
    {'window_length': 0.1, 'window_offset': -0.95},
    {'window_mode': 'count', 'max_window_length': 1.0}, {'max_window_length': 10.0},
    {'window_offset': -0.6, 'exposure_time': 1.0, 'stamped_at': 'start'}])
def test_a_window_that_the_history_just_holds_is_allowed(values):
    EventSyncConfig(**values)


def test_an_integer_is_taken_for_a_float():
    assert VlmConfig(keep_ratio=1).keep_ratio == 1.0
    assert EventSyncConfig(homography=[1, 0, 0, 0, 1, 0, 0, 0, 1]).homography[0] == 1.0


def test_the_deployment_file_holds_known_parameters_with_allowed_values():
    nodes = yaml.safe_load((ROOT / 'config' / 'epvlm.yaml').read_text())
    homes = {'/**/event_sync_node': [EventSyncConfig, FilterConfig, EventSyncNodeConfig],
             '/**/vlm_node': [VlmConfig, ServerConfig, VlmNodeConfig]}
    assert set(nodes) == set(homes)
    for node, sections in nodes.items():
        given = dict(sections['ros__parameters'])
        for config in homes[node]:
            names = {item.name for item in fields(config)}
            config(**{name: given.pop(name) for name in list(given) if name in names})
        assert not given, f'{node} has no parameter {sorted(given)}'


@pytest.mark.parametrize(('values', 'end', 'late'), [
    ({}, None, None),
    ({'window_length': 0.5, 'max_wait': 0.25}, None, None),
    ({'window_length': 0.5, 'max_wait': 0.1}, '0.25', '0.15'),
    ({'window_offset': 0.2}, '0.22', '0.12'),
    # From the start of an exposure of 0.2 s to its middle, and half a window.
    ({'exposure_time': 0.2, 'max_wait': 0.05}, '0.12', '0.07'),
    ({'exposure_time': 0.2, 'max_wait': 0.05, 'stamped_at': 'end'}, None, None),
])
def test_a_wait_that_is_shorter_than_the_window_is_named(values, end, late):
    warning = EventSyncConfig(**values).warning
    if end is None:
        assert warning == ''
    else:
        assert f'a window ends {end} s after the stamp' in warning
        assert f'unless it arrives {late} s after' in warning
        assert f'give max_wait {end} or more' in warning
