"""The launch files where a distribution has launch, which PyPI has not."""

import importlib.util
import logging
from pathlib import Path

import pytest

actions = pytest.importorskip(
    'launch.actions', reason='launch is not on PyPI: a distribution has it')
launch = pytest.importorskip('launch')
# launch makes all loggers that are made after it keep their lines from pytest.
logging.setLoggerClass(logging.Logger)
ROOT = Path(__file__).resolve().parents[2]


def execute(name, **arguments):
    """Return the actions that a launch file starts, as they come."""
    spec = importlib.util.spec_from_file_location('launch_file', ROOT / 'launch' / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = launch.LaunchContext()
    context.launch_configurations.update(
        {'config_file': str(ROOT / 'config' / 'epvlm.yaml'), **arguments})
    started = []
    for entity in module.generate_launch_description().entities:
        if isinstance(entity, actions.DeclareLaunchArgument):
            entity.execute(context)
        elif isinstance(entity, actions.OpaqueFunction):
            started += entity.execute(context) or []
        else:
            started.append(entity)
    return started


@pytest.mark.parametrize('arguments, executables', [
    ({}, ['event_sync_node', 'vlm_node']),
    ({'vlm_node': 'false', 'namespace': 'rear', 'use_sim_time': 'True'}, ['event_sync_node']),
    ({'event_sync_node': 'false', 'respawn': '1', 'keep_ratio': '1'}, ['vlm_node']),
    ({'cameras': 'front,rear', 'event_driver': 'libcaer_driver', 'image_driver': 'usb_cam'},
     ['driver_node', 'usb_cam_node_exe', 'event_sync_node'] * 2 + ['vlm_node'])])
def test_nodes_that_are_switched_on_start(arguments, executables):
    nodes = execute('epvlm.launch.py', **arguments)
    assert [node.node_executable for node in nodes] == executables


def test_the_page_starts_with_the_nodes(monkeypatch):
    monkeypatch.delenv('EPVLM_UI_TOKEN', raising=False)
    nodes = execute('epvlm.launch.py', ui='true')
    assert [type(node) for node in nodes[2:]] == [actions.ExecuteProcess]
    with pytest.raises(ValueError, match='can be reached by others: give a token'):
        execute('epvlm.launch.py', ui='true', ui_address='0.0.0.0')


@pytest.mark.parametrize('name, arguments, words', [
    ('epvlm.launch.py', {'keep_ratio': 'abc'}, "keep_ratio is 'abc'"),
    ('replay.launch.py', {'bag': 'x', 'rate': 'fast'}, "rate is 'fast'"),
    ('replay.launch.py', {'bag': 'x', 'loop': 'maybe'}, "loop is 'maybe'")])
def test_a_wrong_value_stops_a_launch(name, arguments, words):
    with pytest.raises(ValueError, match=words):
        execute(name, **arguments)
