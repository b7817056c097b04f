"""Parameters from files and the command line that do not reach the node they were meant for."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
import sys
from typing import Iterator

from epvlm_ros.parameter_files import is_match, read_sections
from rclpy.node import Node
from rclpy.parameter import Parameter

# Under /** stands what is for other nodes too: there only what is spelt almost alike is an error.
SIMILAR, ALMOST_ALIKE = 0.6, 0.85


def read_overrides(node: Node) -> dict[str, Parameter]:
    """Return the parameters that files and the command line give to a node, by name."""
    with node.handle:
        return dict(node.handle.get_parameters(Parameter))


def find_ignored(full_name: str, given: set[str], known: set[str], arguments: list[str]) \
        -> list[str]:
    """
    Say which parameters are ignored, one line for a cause.

    Parameters
    ----------
    full_name : str
        Of the node, with its namespace.
    given : set of str
        Names of the parameters that ROS gives to the node.
    known : set of str
        Names of the parameters that the node has.
    arguments : list of str
        The command line; the files after ``--params-file`` are read.

    """
    base_name = full_name.rsplit('/', 1)[-1]
    lines: list[str] = []
    only_for_all: set[str] = set()
    for_node: set[str] = set()
    for path in _parameter_files(arguments):
        try:
            sections = read_sections(path)
        except ValueError:
            continue  # ROS refuses such a file itself
        meant = [key for key in sections if key.rsplit('/', 1)[-1] == base_name]
        if meant and not any(is_match(key, full_name) for key in meant):
            lines.append(
                f'{path}: its parameters of {", ".join(meant)} are ignored, this node is '
                f'{full_name}: write /**/{base_name} for any namespace')
        for key, names in sections.items():
            (only_for_all if key.endswith('*') else for_node).update(names)
    only_for_all -= for_node
    unknown = [
        _with_nearest(name, known) for name in sorted(given - known)
        if not name.startswith('qos_overrides.') and not (
            name in only_for_all and not get_close_matches(name, known, 1, ALMOST_ALIKE))]
    if unknown:
        lines.append(f'{full_name} has no parameter {", ".join(unknown)}: ignored')
    return lines


def warn_of_ignored(node: Node, given: set[str], known: set[str]) -> None:
    """Log every line of `find_ignored` for a node of this process."""
    known = known | {name for name in given if node.has_parameter(name)}
    for line in find_ignored(node.get_fully_qualified_name(), given, known, sys.argv):
        node.get_logger().warning(line)


def _parameter_files(arguments: list[str]) -> Iterator[Path]:
    for flag, value in zip(arguments, arguments[1:]):
        if flag == '--params-file':
            yield Path(value)


def _with_nearest(name: str, known: set[str]) -> str:
    nearest = get_close_matches(name, sorted(known), 1, SIMILAR)
    return f'{name} (did you mean {nearest[0]}?)' if nearest else name
