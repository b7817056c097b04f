"""The arguments of the launch files and the check of their values, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from epvlm_ros.config_fields import check_value
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.parameter_files import is_match, read_sections
from epvlm_ros.ros.camera_drivers import (
    BEST_EFFORT_IMAGES, check_drivers, EVENT_DRIVERS, IMAGE_DRIVERS, remap_outputs)
from epvlm_ros.ros.config import EventSyncNodeConfig, VlmNodeConfig
from epvlm_ros.vlm.config import ServerConfig, VlmConfig

LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
PACKAGE = 'epvlm_ros'
CAMERA = '{camera}'  # in a value, stands for the name of each camera
# Topics of a node by their names before remapping; the launch argument is <name>_topic. In the
# namespace, so that two robots do not mix.
TOPICS = {
    'event_sync_node': {
        'events': 'event_camera/events', 'image': 'camera/image_raw',
        'event_camera_info': 'event_camera/camera_info',
        'image_camera_info': 'camera/camera_info', 'event_guided_frame': 'event_guided_frame'},
    'vlm_node': {'event_guided_frame': 'event_guided_frame'},
}
# Parameters that are launch arguments too, by node. Empty leaves a value to config_file, so that
# the command line beats the file and the file the defaults.
PARAMETERS = {
    'event_sync_node': {
        EventSyncConfig: ('compressed', 'window_length', 'window_offset', 'max_wait', 'sync_mode',
                          'registration', 'registration_file'),
        EventSyncNodeConfig: ('autostart',)},
    'vlm_node': {
        VlmConfig: ('model', 'device', 'keep_ratio'),
        ServerConfig: ('server', 'server_model', 'server_fallback'),
        VlmNodeConfig: ('autostart',)},
}
# All parameters of a node.
CONFIGS: dict[str, tuple[Any, ...]] = {
    'event_sync_node': (EventSyncConfig, FilterConfig, EventSyncNodeConfig),
    'vlm_node': (VlmConfig, ServerConfig, VlmNodeConfig),
}
_SWITCHES = {
    'event_sync_node': ('true', 'Whether event_sync_node is started.'),
    'vlm_node': ('true', 'Whether vlm_node is started; further cameras can share the first one, '
                 'by event_guided_frame_topic.'),
    'use_sim_time': ('false', 'Whether time comes from /clock, as in replays and simulations.'),
    'respawn': ('false', 'Whether a node that ends is started again.'),
    'shutdown_on_exit': ('false', 'Whether all ends when one node ends.'),
    'ui': ('false', 'Whether the page in the browser is served too, as epvlm ui does.'),
}
_TEXTS = {
    'namespace': ('', 'Namespace of all nodes, and of all topics that do not begin with /.'),
    'cameras': ('', 'Names of several pairs of cameras, such as front,rear: each has an '
                'event_sync_node in a namespace of its name, and vlm_node takes the frames of '
                f'all. {CAMERA} in a topic or in registration_file stands for the name.'),
    'event_driver': ('', 'Driver of the event cameras that is started too: '
                     f'{", ".join(EVENT_DRIVERS)}. Its parameters are those of event_camera in '
                     'config_file.'),
    'image_driver': ('', 'Driver of the cameras that is started too: '
                     f'{", ".join(IMAGE_DRIVERS)}. Its parameters are those of camera in '
                     'config_file.'),
    'log_level': ('info', f'Least severity that is logged: {", ".join(LOG_LEVELS)}.'),
    'ui_address': ('127.0.0.1', 'IP address that the page is served on; any other than loopback '
                   'wants a token in the environment variable EPVLM_UI_TOKEN.'),
    'ui_port': ('8080', 'Port that the page is served on.'),
    'enclave': ('', 'Security enclave of both nodes, for SROS 2.'),
}


@dataclass(frozen=True)
class LaunchedNode:
    """A node that is started; topics of ``remappings`` may be relative to its namespace."""

    package: str
    executable: str
    name: str
    namespace: str
    remappings: list[tuple[str, str]]
    parameters: dict[str, Any] = field(default_factory=dict)  # beside those of the file

    @property
    def full_name(self) -> str:
        """Return the name with its namespace."""
        return resolve(self.namespace, self.name)


@dataclass(frozen=True)
class LaunchOptions:
    """Checked values of launch arguments."""

    nodes: list[LaunchedNode]
    ros_arguments: list[str]
    config_file: str
    respawn: bool
    shutdown_on_exit: bool
    ui_command: tuple[str, ...]  # arguments of the executable epvlm; empty without a page


def describe_arguments() -> dict[str, tuple[str, str]]:
    """Return default and description of every argument but config_file, by name."""
    described = {**_SWITCHES, **_TEXTS}
    for topics in TOPICS.values():
        for name, default in topics.items():
            described[f'{name}_topic'] = default, f'Topic that {name} stands for.'
    for classes in PARAMETERS.values():
        for config_class, names in classes.items():
            for item in fields(config_class):
                if item.name in names:
                    described[item.name] = (
                        '', f'{item.metadata["description"]} Empty: as in config_file.')
    return described


def check_arguments(values: dict[str, str]) -> LaunchOptions:
    """
    Return what the values of the arguments mean.

    Raises
    ------
    ValueError
        In one line with the name of the argument, if a value is not allowed.

    """
    switches = {name: parse_bool(name, values[name]) for name in _SWITCHES}
    if values['log_level'] not in LOG_LEVELS:
        raise ValueError(
            f'log_level is {values["log_level"]!r}: give one of {", ".join(LOG_LEVELS)}')
    if not Path(values['config_file']).is_file():
        raise ValueError(f'config_file is {values["config_file"]!r}: there is no such file')
    check_drivers(values['event_driver'], values['image_driver'])
    nodes = _make_nodes(values, switches)
    for node in nodes:
        if node.package == PACKAGE:
            _check_file(values['config_file'], node)
    enclave = ['--enclave', values['enclave']] if values['enclave'] else []
    return LaunchOptions(
        nodes, ['--log-level', values['log_level'], *enclave], values['config_file'],
        switches['respawn'], switches['shutdown_on_exit'],
        _make_ui_command(values) if switches['ui'] else ())


def resolve(namespace: str, name: str) -> str:
    """Return the full name of a node or a topic."""
    if name.startswith('/'):
        return name
    return '/' + '/'.join(part for part in (namespace.strip('/'), name) if part)


def describe_exit(name: str, status: int | None, options: LaunchOptions) -> str:
    """Say in one line that a node ended and what comes next."""
    if options.shutdown_on_exit:
        consequence = 'all is shut down (shutdown_on_exit)'
    elif options.respawn:
        consequence = 'it is started again (respawn)'
    else:
        consequence = ('the rest goes on without it; respawn:=true starts it again, '
                       'shutdown_on_exit:=true ends all')
    return f'{name} ended with status {status}: {consequence}'


def parse_bool(name: str, text: str) -> bool:
    """Return the truth value of an argument, in any spelling that YAML knows."""
    if text.lower() in ('true', 'yes', 'on', '1'):
        return True
    if text.lower() in ('false', 'no', 'off', '0'):
        return False
    raise ValueError(f'{name} is {text!r}: give true or false')


def parse_rate(name: str, text: str) -> float:
    """Return the number above 0 of an argument."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.0 < rate < float('inf'):
        raise ValueError(f'{name} is {text!r}: give a number above 0')
    return rate


def _make_nodes(values: dict[str, str], switches: dict[str, bool]) -> list[LaunchedNode]:
    given = {node: {name: _parse(config_class, name, values[name])
                    for config_class, names in classes.items() for name in names if values[name]}
             for node, classes in PARAMETERS.items()}
    names = values['cameras'].replace(',', ' ').split()
    cameras = VlmNodeConfig(cameras=' '.join(names)).camera_names
    _check_shared(values, names)
    clock = {'use_sim_time': switches['use_sim_time']}
    nodes = []
    for camera in cameras:
        of_camera = {name: value.replace(CAMERA, camera) for name, value in values.items()}
        namespace = resolve(values['namespace'], camera).rstrip('/') if camera \
            else values['namespace']
        topics = {topic: of_camera[f'{topic}_topic'] for topic in TOPICS['event_sync_node']}
        nodes += _make_drivers(of_camera, namespace, topics)
        if switches['event_sync_node']:
            parameters = {**clock, **given['event_sync_node']}
            if values['registration_file']:
                parameters['registration_file'] = of_camera['registration_file']
            if values['image_driver'] in BEST_EFFORT_IMAGES:
                image = resolve(namespace, topics['image'])
                parameters[f'qos_overrides.{image}.subscription.reliability'] = 'best_effort'
            nodes.append(LaunchedNode(
                PACKAGE, 'event_sync_node', 'event_sync_node', namespace, list(topics.items()),
                parameters))
    if switches['vlm_node']:
        parameters = {**clock, **given['vlm_node']}
        remappings = [('event_guided_frame', values['event_guided_frame_topic'])]
        if names:
            parameters['cameras'], remappings = ' '.join(names), []
        nodes.append(LaunchedNode(
            PACKAGE, 'vlm_node', 'vlm_node', values['namespace'], remappings, parameters))
    if not nodes:
        raise ValueError(f'{" and ".join(PARAMETERS)} are both false: start at least one')
    return nodes


def _check_shared(values: dict[str, str], cameras: list[str]) -> None:
    """Raise a ValueError if several cameras would have something in common."""
    if not cameras:
        return
    default = TOPICS['vlm_node']['event_guided_frame']
    if values['event_guided_frame_topic'] != default:
        raise ValueError(
            f'event_guided_frame_topic is {values["event_guided_frame_topic"]}, but with cameras '
            f'it is <camera>/{default}: leave it out')
    for name in (*(f'{topic}_topic' for topic in TOPICS['event_sync_node']), 'registration_file'):
        value = values[name]
        is_shared = value.startswith('/') if name.endswith('_topic') else bool(value)
        if len(cameras) > 1 and is_shared and CAMERA not in value:
            raise ValueError(
                f'{name} is {value} for each of {", ".join(cameras)}: put {CAMERA} into it, '
                f'which stands for the name')


def _make_drivers(
    values: dict[str, str], namespace: str, topics: dict[str, str],
) -> list[LaunchedNode]:
    """Return the drivers of a pair of cameras; a DAVIS has one for both."""
    compressed = bool(values['compressed']) and parse_bool('compressed', values['compressed'])
    nodes: list[LaunchedNode] = []
    for argument, drivers, name in (('event_driver', EVENT_DRIVERS, 'event_camera'),
                                    ('image_driver', IMAGE_DRIVERS, 'camera')):
        package = values[argument]
        if not package:
            continue
        remappings = remap_outputs(drivers[package], topics, compressed=compressed)
        if nodes and nodes[-1].package == package:
            nodes[-1].remappings.extend(remappings)
        else:
            nodes.append(LaunchedNode(
                package, drivers[package].executable, name, namespace, remappings))
    return nodes


def _make_ui_command(values: dict[str, str]) -> tuple[str, ...]:
    port = values['ui_port']
    if not (port.isdecimal() and int(port) <= 65535):
        raise ValueError(f'ui_port is {port!r}: give a port, 0 to 65535')
    cameras = values['cameras'].replace(',', ' ').split()
    frames = values['event_guided_frame_topic']
    if cameras:  # the page shows the first
        frames = f'{cameras[0]}/{frames}'
    return ('ui', '--address', values['ui_address'], '--port', port,
            '--namespace', values['namespace'], '--frames', frames)


def _check_file(path: str, node: LaunchedNode) -> None:
    """Check the values that a node takes from a file, with those of arguments in their place."""
    merged: dict[str, Any] = {}
    for key, section in read_sections(Path(path)).items():
        if is_match(key, node.full_name):
            merged.update(section)
    merged.update(node.parameters)
    for config_class in CONFIGS[node.name]:
        try:
            config_class(**{item.name: merged[item.name] for item in fields(config_class)
                            if item.name in merged})
        except ValueError as error:
            raise ValueError(f'{path}: {node.name}: {error}') from None


def _parse(config_class: Any, name: str, text: str) -> Any:
    item = next(item for item in fields(config_class) if item.name == name)
    if isinstance(item.default, bool):
        return parse_bool(name, text)
    if isinstance(item.default, (float, int)):
        try:
            return check_value(item, type(item.default)(text))
        except ValueError as error:
            if name in str(error):
                raise
            raise ValueError(f'{name} is {text!r}: give a number') from None
    return check_value(item, text)
