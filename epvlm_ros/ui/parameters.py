"""Parameters of a node that can change while it runs: read, described and set."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Union

from epvlm_ros.ros.launch_arguments import CONFIGS
from epvlm_ros.ui.calls import call
from epvlm_ros.ui.robot import RobotError
from rcl_interfaces.msg import Parameter as ParameterMessage, ParameterDescriptor
from rcl_interfaces.srv import (
    DescribeParameters, GetParameters, ListParameters, SetParameters)
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python

Value = Union[bool, int, float, str, tuple[float, ...]]


class RemoteParameters:
    """
    The parameters of one node as it describes them itself.

    ``name`` is that of the node in the package, ``full_name`` that in the graph.
    """

    def __init__(self, node: Node, name: str, full_name: str) -> None:
        self.full_name = full_name
        self._dynamic = {item.name for config_class in CONFIGS[name]
                         for item in fields(config_class) if item.metadata['dynamic']}
        self._shown: dict[str, dict[str, Any]] = {}
        self._fault = 'not asked yet'
        self._clients: dict[str, Any] = {
            service: node.create_client(kind, f'{full_name}/{service}')
            for service, kind in (
                ('list_parameters', ListParameters), ('describe_parameters', DescribeParameters),
                ('get_parameters', GetParameters), ('set_parameters', SetParameters))}

    def to_json(self) -> dict[str, Any]:
        """Return what is known, with the reason where nothing is."""
        return {'node': self.full_name, 'fault': self._fault,
                'parameters': list(self._shown.values())}

    async def refresh(self) -> None:
        """Ask the node for names, descriptions and values."""
        try:
            listed = await call(self._clients['list_parameters'], ListParameters.Request())
            names = [name for name in listed.result.names if name in self._dynamic]
            described = await call(
                self._clients['describe_parameters'], DescribeParameters.Request(names=names))
            got = await call(self._clients['get_parameters'], GetParameters.Request(names=names))
        except RobotError as error:
            self._shown, self._fault = {}, str(error)
            return
        self._fault = ''
        self._shown = {
            descriptor.name: {**_describe(descriptor), 'value': parameter_value_to_python(value)}
            for descriptor, value in zip(described.descriptors, got.values)}
        for item in self._shown.values():
            item['value'] = _to_json(item['value'])

    def note(self, changed: list[ParameterMessage]) -> bool:
        """Take new values that the node has told; return whether there are any."""
        known = [item for item in changed if item.name in self._shown]
        for item in known:
            self._shown[item.name]['value'] = _to_json(parameter_value_to_python(item.value))
        return bool(known)

    async def change(self, name: str, value: Value) -> None:
        """Set a parameter; `RobotError` with the reason of the node if it refuses."""
        shown = self._shown.get(name)
        if shown is None:
            raise RobotError(f'{self.full_name} has no parameter {name!r} that can change now')
        wanted = Parameter(name, value=_convert(shown['value'], value))
        response = await call(self._clients['set_parameters'], SetParameters.Request(
            parameters=[wanted.to_parameter_msg()]))
        result = response.results[0]
        if not result.successful:
            raise RobotError(result.reason or f'{self.full_name} refused {name}')
        shown['value'] = _to_json(wanted.value)


def _describe(descriptor: ParameterDescriptor) -> dict[str, Any]:
    ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
    low, high = (ranges[0].from_value, ranges[0].to_value) if ranges else (None, None)
    return {
        'name': descriptor.name, 'description': descriptor.description,
        'choices': [choice for choice in descriptor.additional_constraints.split(', ') if choice],
        'minimum': low if low is not None and abs(low) < 1e15 else None,
        'maximum': high if high is not None and abs(high) < 1e15 else None}


def _convert(now: Any, value: Value) -> Any:
    """Return a value in the type of the one that is there: 1 of a page may be 1.0."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(now, float) and type(value) is int:
        return float(value)
    return value


def _to_json(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else list(value)
