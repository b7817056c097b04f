"""Parameters of the nodes on the command line: what is taken, and what is refused by name."""

from pathlib import Path

from epvlm_ros.cli.config_values import read_configs
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.vlm.config import VlmConfig
import pytest

CONFIG = Path(__file__).resolve().parents[2] / 'config' / 'epvlm.yaml'


def test_nothing_given_is_the_defaults():
    configs = read_configs([], [], {})
    assert configs[EventSyncConfig] == EventSyncConfig()
    assert configs[FilterConfig] == FilterConfig()
    assert configs[VlmConfig] == VlmConfig()


def test_the_file_of_the_launch_files_is_taken():
    assert read_configs([CONFIG], [], {})[EventSyncConfig].window_length == 0.04


@pytest.mark.parametrize(('text', 'name', 'value'), [
    ('window_length:=0.1', 'window_length', 0.1), ('window_length:=1', 'window_length', 1.0),
    ('scale_to_image:=false', 'scale_to_image', False),
    ('registration_file:=/a:=b.yaml', 'registration_file', '/a:=b.yaml'),
    ('registration_file:=', 'registration_file', ''),
    ('homography:=[1, 0, 2, 0, 1, 3, 0, 0, 1]', 'homography', (1, 0, 2, 0, 1, 3, 0, 0, 1))])
def test_values_are_yaml(text, name, value):
    assert getattr(read_configs([], [text], {})[EventSyncConfig], name) == value


@pytest.mark.parametrize(('text', 'words'), [
    ('window_length', "'window_length' is not of the form name:=value"),
    (':=1', "':=1' is not of the form"),
    ('windw_length:=1', 'there is no parameter windw_length: did you mean window_length?'),
    ('zzz:=1', 'there is no parameter zzz$'),
    ('\x1b[2J:=1', r'there is no parameter \\x1b\[2J$'),
    ('window_length:=[', 'window_length: .* is no value in YAML'),
    ('window_length:=long', "window_length is 'long': give a value of type float"),
    ('window_length:=9', 'window_length is 9.0: give at most 1.0')])
def test_what_is_wrong_is_named(text, words):
    with pytest.raises(ValueError, match=words):
        read_configs([], [text], {})


@pytest.mark.parametrize(('content', 'words'), [
    ('[', 'is no YAML file'),
    ('', 'has no ros__parameters of event_sync_node or vlm_node'),
    ('other_node: {ros__parameters: {window_length: 1}}', 'has no ros__parameters of event_sync'),
    ('vlm_node: {ros__parameters: {keep_ration: 1}}', 'did you mean keep_ratio?'),
    ('"/**": {ros__parameters: {keep_ration: 1}}', 'did you mean keep_ratio?'),
    ('a: {vlm_node: {ros__parameters: {keep_ratio: 2}}}', 'keep_ratio is 2.0: give at most 1.0')])
def test_files_that_are_wrong_are_named(tmp_path, content, words):
    file = tmp_path / 'parameters.yaml'
    file.write_text(content)
    with pytest.raises(ValueError, match=words):
        read_configs([file], [], {})
