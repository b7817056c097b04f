"""ROS parameter files: sections of nodes, or of patterns of their names, with values."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any, Iterator

from epvlm_ros.clean_text import clean_text
import yaml


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as ROS does; PyYAML wants a point and a sign in it."""


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?([0-9]+\.?|[0-9]*\.[0-9]+)[eE][-+]?[0-9]+$'),
    list('-+.0123456789'))


def parse_value(text: str) -> Any:
    """Return the value of a text in YAML; raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


def read_sections(path: Path) -> dict[str, dict[str, Any]]:
    """
    Return values by the names of their parameters, by the node names or patterns they are for.

    Keys are absolute, as in ``/front/vlm_node`` or ``/**``; nested names have dots.

    Raises
    ------
    ValueError
        In one line, if the file cannot be read or is no YAML.

    """
    try:
        content = parse_value(path.read_text())
    except OSError as error:
        raise ValueError(f'cannot read {path}: {error.strerror}') from None
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f'{path} is no YAML file: {clean_text(str(error))}') from None
    sections: dict[str, dict[str, Any]] = {}
    for keys, parameters in _walk(content, ()):
        name = '/' + '/'.join(keys).replace('//', '/').lstrip('/')
        sections.setdefault(name, {}).update(_flatten(parameters, ''))
    return sections


def is_match(pattern: str, full_name: str) -> bool:
    """Whether a key of a parameter file is for a node: * is one part of its name, ** any."""
    expression = re.escape(pattern).replace(r'/\*\*', r'(/\w+)*').replace(r'/\*', r'(/\w+)')
    return re.fullmatch(expression, full_name) is not None


def _walk(content: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in content.items() if isinstance(content, dict) else ():
        if key == 'ros__parameters':
            yield keys, value
        else:
            yield from _walk(value, (*keys, str(key)))


def _flatten(parameters: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in parameters.items() if isinstance(parameters, dict) else ():
        if isinstance(value, dict):
            yield from _flatten(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value
