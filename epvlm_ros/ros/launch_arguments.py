"""The arguments of the launch files and the check of their values, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from epvlm_ros.config_fields import check_value
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.parameter_files import is_match, read_sections
from epvlm_ros.ros.config import EventSyncNodeConfig, VlmNodeConfig
from epvlm_ros.vlm.config import VlmConfig

LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
# Topics of a node by their names before remapping; the launch argument is <name>_topic.
TOPICS = {
    'event_sync_node': {
        'events': '/event_camera/events', 'image': '/camera/image_raw',
        'event_camera_info': '/event_camera/camera_info',
        'image_camera_info': '/camera/camera_info', 'event_guided_frame': 'event_guided_frame'},
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
        VlmNodeConfig: ('autostart',)},
}
# All parameters of a node.
CONFIGS: dict[str, tuple[Any, ...]] = {
    'event_sync_node': (EventSyncConfig, FilterConfig, EventSyncNodeConfig),
    'vlm_node': (VlmConfig, VlmNodeConfig),
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
    'namespace': ('', 'Namespace of both nodes.'),
    'log_level': ('info', f'Least severity that is logged: {", ".join(LOG_LEVELS)}.'),
    'ui_address': ('127.0.0.1', 'IP address that the page is served on; any other than loopback '
                   'wants a token in the environment variable EPVLM_UI_TOKEN.'),
    'ui_port': ('8080', 'Port that the page is served on.'),
    'enclave': ('', 'Security enclave of both nodes, for SROS 2.'),
}


@dataclass(frozen=True)
class LaunchOptions:
    """Checked values of launch arguments."""

    parameters: dict[str, dict[str, Any]]  # by node, only of the nodes that are started
    ros_arguments: list[str]
    config_file: str
    namespace: str
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
    parameters = {}
    for node, classes in PARAMETERS.items():
        given = {name: _parse(config_class, name, values[name])
                 for config_class, names in classes.items() for name in names if values[name]}
        if switches[node]:
            parameters[node] = {'use_sim_time': switches['use_sim_time'], **given}
            _check_file(values['config_file'], values['namespace'], node, given)
    if not parameters:
        raise ValueError(f'{" and ".join(PARAMETERS)} are both false: start at least one')
    enclave = ['--enclave', values['enclave']] if values['enclave'] else []
    return LaunchOptions(
        parameters, ['--log-level', values['log_level'], *enclave], values['config_file'],
        values['namespace'], switches['respawn'], switches['shutdown_on_exit'],
        _make_ui_command(values) if switches['ui'] else ())


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


def _make_ui_command(values: dict[str, str]) -> tuple[str, ...]:
    port = values['ui_port']
    if not (port.isdecimal() and int(port) <= 65535):
        raise ValueError(f'ui_port is {port!r}: give a port, 0 to 65535')
    return ('ui', '--address', values['ui_address'], '--port', port,
            '--namespace', values['namespace'], '--frames', values['event_guided_frame_topic'])


def _check_file(path: str, namespace: str, node: str, given: dict[str, Any]) -> None:
    """Check the values that a node takes from a file, with those of arguments in their place."""
    full_name = '/' + '/'.join([*namespace.strip('/').split('/'), node]).lstrip('/')
    merged: dict[str, Any] = {}
    for key, section in read_sections(Path(path)).items():
        if is_match(key, full_name):
            merged.update(section)
    merged.update(given)
    for config_class in CONFIGS[node]:
        try:
            config_class(**{item.name: merged[item.name] for item in fields(config_class)
                            if item.name in merged})
        except ValueError as error:
            raise ValueError(f'{path}: {node}: {error}') from None


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
