"""Parameters of the nodes from files and arguments, without ROS."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Iterable

from epvlm_ros.clean_text import clean_text
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.parameter_files import parse_value, read_sections
from epvlm_ros.ros.config import VlmNodeConfig
from epvlm_ros.vlm.config import ServerConfig, VlmConfig
import yaml

CONFIGS: tuple[type, ...] = (
    EventSyncConfig, FilterConfig, VlmConfig, ServerConfig, VlmNodeConfig)
_NODES = ('event_sync_node', 'vlm_node')
_OF_ANY_NODE = ('use_sim_time',)
# What is for all nodes may be for others: there only what is spelt almost alike is an error.
_SIMILAR, _ALMOST_ALIKE = 0.6, 0.9


def read_configs(
    files: Iterable[Path], assignments: Iterable[str], values: dict[str, Any],
) -> dict[type, Any]:
    """
    Return the configuration of each of ``CONFIGS``.

    Parameters
    ----------
    files : iterable of Path
        ROS parameter files. Sections of event_sync_node, vlm_node, in any namespace, and of all
        nodes count; later ones beat earlier ones.
    assignments : iterable of str
        ``name:=value`` with a value in YAML, as after ``-p`` of ROS; they beat the files.
    values : dict
        Values by name; they beat both.

    Raises
    ------
    ValueError
        If a file cannot be read or has nothing for these nodes, a name is unknown (the nearest
        one is named), or a value is not allowed.

    """
    merged: dict[str, Any] = {}
    for file in files:
        merged.update(_read_file(file))
    merged.update(_read_assignment(text) for text in assignments)
    merged.update(values)
    return {config: config(**{
        item.name: merged[item.name] for item in fields(config) if item.name in merged})
        for config in CONFIGS}


def _known() -> list[str]:
    return sorted(item.name for config in CONFIGS for item in fields(config))


def _read_assignment(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition(':=')
    if not (separator and name):
        raise ValueError(f'parameter {clean_text(repr(text))} is not of the form name:=value')
    _check_name(name, 'there is')
    try:
        return name, parse_value(value) if value else ''
    except yaml.YAMLError:
        raise ValueError(f'parameter {name}: {clean_text(repr(value))} is no value in YAML') \
            from None


def _check_name(name: str, where: str) -> None:
    known = _known()
    if name not in known:
        nearest = get_close_matches(name, known, 1, _SIMILAR)
        raise ValueError(f'{where} no parameter {clean_text(name)}'
                         + (f': did you mean {nearest[0]}?' if nearest else ''))


def _read_file(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    sections = [(key.rsplit('/', 1)[-1], section) for key, section in read_sections(file).items()]
    sections = [(node, section) for node, section in sections if node in (*_NODES, '*', '**')]
    if not sections:
        raise ValueError(f'{file} has no ros__parameters of {" or ".join(_NODES)}')
    for node, parameters in sections:
        for name, value in parameters.items():
            if name in _OF_ANY_NODE or name.startswith('qos_overrides'):
                continue
            is_for_all = node not in _NODES
            if is_for_all and not get_close_matches(name, _known(), 1, _ALMOST_ALIKE):
                continue
            _check_name(name, f'{file} has a value for {clean_text(name)}, there is')
            values[name] = value
    return values
