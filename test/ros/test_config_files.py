"""What the files in config/ show is there: topics, fields, parts of the diagnostics."""

import json
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from epvlm_interfaces.msg import Answer
from epvlm_ros.ros.event_sync_node import EventSyncNode
from epvlm_ros.ros.launch_arguments import TOPICS
from epvlm_ros.ros.vlm_node import VlmNode
import pytest
from qwen_checkpoints import make_model, save_checkpoint
import rclpy
from rclpy.executors import SingleThreadedExecutor
from ros_graph import wait_until
import yaml

CONFIG = Path(__file__).resolve().parents[2] / 'config'
# Panels of Foxglove that come with it, and what their configurations must have.
PANELS = {
    'Image': {'imageMode'}, 'RawMessages': {'topicPath'}, 'Publish': {'topicName', 'datatype'},
    'DiagnosticSummary': {'topicToRender'}, 'DiagnosticStatusPanel': {'topicToRender'},
    'Plot': {'paths'}}


class Graph:
    """Both nodes as the launch file starts them, in this process."""

    def __init__(self, context, model_folder):
        sync = ['--ros-args', *(word for name, topic in TOPICS['event_sync_node'].items()
                                for word in ('-r', f'{name}:={topic}'))]
        vlm = ['--ros-args', '-p', f'model:={model_folder}', '-p', 'device:=cpu']
        self.nodes = [EventSyncNode(context=context, cli_args=sync),
                      VlmNode(context=context, cli_args=vlm)]
        client = rclpy.create_node('client', context=context)
        self.parts, executor = set(), SingleThreadedExecutor(context=context)
        client.create_subscription(DiagnosticArray, '/diagnostics', self._note, 10)
        for node in (*self.nodes, client):
            executor.add_node(node)
        wait_until(lambda: executor.spin_once(timeout_sec=0.05) or all(
            any(part.startswith(name) for part in self.parts)
            for name in ('vlm_node', 'event_sync_node')), 20, 'reports of both')
        self.types = {topic: types for node in self.nodes
                      for topic, types in node.get_topic_names_and_types()}
        executor.shutdown()

    def _note(self, report):
        self.parts |= {status.name for status in report.status}


@pytest.fixture
def graph(context, tmp_path):
    graph = Graph(context, save_checkpoint(tmp_path, make_model('narrow')))
    yield graph
    for node in graph.nodes:
        node.destroy_node()


def find_panels(layout):
    """Return the panels of a layout, a binary tree."""
    if isinstance(layout, str):
        return [layout]
    assert layout['direction'] in ('row', 'column')
    assert 0 < layout.get('splitPercentage', 50) < 100
    return find_panels(layout['first']) + find_panels(layout['second'])


def check_foxglove(graph):
    layout = json.loads((CONFIG / 'foxglove.json').read_text())
    assert set(layout) == {
        'configById', 'globalVariables', 'userNodes', 'playbackConfig', 'layout'}
    panels = layout['configById']
    assert sorted(find_panels(layout['layout'])) == sorted(panels)
    for name, panel in panels.items():
        assert PANELS[name.partition('!')[0]] <= set(panel), name
        topic = panel.get('topicPath') or panel.get('topicToRender') or panel.get('topicName') \
            or panel.get('imageMode', {}).get('imageTopic')
        if topic:
            assert topic in graph.types, name
        for path in panel.get('paths', []):
            topic, _, field = path['value'].partition('.')
            assert graph.types[topic] == ['epvlm_interfaces/msg/Answer']
            assert field in Answer.get_fields_and_field_types()
        if 'imageMode' in panel:
            assert graph.types[topic] == ['sensor_msgs/msg/Image']
    query = panels['Publish!query']
    assert graph.types['/query'] == [query['datatype']]
    assert list(json.loads(query['value'])) == ['data']
    assert panels['DiagnosticStatusPanel!queries']['selectedName'] in graph.parts


def check_rviz(graph):
    manager = yaml.safe_load((CONFIG / 'epvlm.rviz').read_text())['Visualization Manager']
    topics = [display['Topic']['Value'] for display in manager['Displays']]
    assert topics == ['/overlay', '/camera/image_raw']
    assert all(graph.types[topic] == ['sensor_msgs/msg/Image'] for topic in topics)
    assert {display['Class'] for display in manager['Displays']} == {'rviz_default_plugins/Image'}


def check_aggregator(graph):
    parameters = yaml.safe_load((CONFIG / 'diagnostics.yaml').read_text())['/**']
    analyzers = parameters['ros__parameters']
    assert analyzers.pop('path') == 'epvlm'
    claimed = {name: [part for part in graph.parts if any(
        text in part for text in analyzer['contains'])] for name, analyzer in analyzers.items()}
    assert {analyzer['type'] for analyzer in analyzers.values()} == {
        'diagnostic_aggregator/GenericAnalyzer'}
    assert all(type(analyzer['timeout']) is float for analyzer in analyzers.values())
    assert sorted(sum(claimed.values(), [])) == sorted(graph.parts)  # each by one of them
    assert len(claimed['event_sync_node']) == 4 and len(claimed['vlm_node']) >= 4


def test_what_the_files_show_is_there(graph):
    check_foxglove(graph)
    check_rviz(graph)
    check_aggregator(graph)
