"""Configuration classes as declared, described and checked ROS parameters."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Callable, TypeVar

from epvlm_ros.config_fields import check_value
from epvlm_ros.ros.parameter_overrides import read_overrides, warn_of_ignored
from rcl_interfaces.msg import (
    FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult)
from rclpy.exceptions import (
    InvalidParameterTypeException, InvalidParameterValueException)
from rclpy.node import Node
from rclpy.parameter import Parameter

Config = TypeVar('Config')
LARGEST_INTEGER = 2 ** 63 - 1
LARGEST_FLOAT = 1.7976931348623157e308


class NodeParameters:
    """
    Declares the fields of configuration classes on a node and keeps their values.

    The classes are frozen dataclasses of `config_fields.parameter`; their field names must be
    distinct. ``on_change`` is called after values have changed; ``frozen`` returns whether values
    that are not dynamic can no longer change. Integers are taken for floats. A value from outside
    (command line, YAML) that is not allowed raises ValueError; names that the node does not have
    are logged.
    """

    def __init__(
        self, node: Node, *config_classes: type, on_change: Callable[[], None],
        frozen: Callable[[], bool] = lambda: True,
    ) -> None:
        self._fields = {item.name: item for cls in config_classes for item in fields(cls)}
        self._configs: dict[type, Any] = {}
        self._on_change = on_change
        self._frozen = frozen
        overrides = read_overrides(node)
        values = {name: self._declare(node, item, overrides.get(name))
                  for name, item in self._fields.items()}
        for cls in config_classes:
            self._configs[cls] = cls(**{item.name: values[item.name] for item in fields(cls)})
        node.add_on_set_parameters_callback(self._on_set_parameters)
        if hasattr(node, 'add_pre_set_parameters_callback'):  # since ROS 2 Iron
            node.add_pre_set_parameters_callback(self._with_floats)
        warn_of_ignored(node, set(overrides), set(self._fields))

    def get(self, config_class: type[Config]) -> Config:
        """Return the current values of one configuration class."""
        return self._configs[config_class]

    def _declare(self, node: Node, item: Any, override: Parameter | None) -> Any:
        value = list(item.default) if isinstance(item.default, tuple) else item.default
        number = override is not None and _to_float(item, override)
        if number:
            value = number.value
        try:
            return node.declare_parameter(
                item.name, value, describe(item), ignore_override=bool(number)).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ValueError(
                f'parameter {item.name}: {error}; {describe(item).description}') from error

    def _with_floats(self, parameters: list[Parameter]) -> list[Parameter]:
        return [_to_float(self._fields.get(parameter.name), parameter) or parameter
                for parameter in parameters]

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        """Accept all new values, or none and say why."""
        changes: dict[str, Any] = {}
        try:
            for parameter in parameters:
                item = self._fields.get(parameter.name)
                if item is None:
                    continue
                if not item.metadata['dynamic'] and self._frozen():
                    raise ValueError(f'{parameter.name} cannot change while the node runs: set '
                                     'it at the start or, on a lifecycle node, after cleanup')
                changes[parameter.name] = check_value(item, parameter.value)
            configs = {cls: _replace_known(config, changes)
                       for cls, config in self._configs.items()}
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if changes:
            self._configs = configs
            self._on_change()
        return SetParametersResult(successful=True)


def _replace_known(config: Any, changes: dict[str, Any]) -> Any:
    names = {item.name for item in fields(config)}
    return replace(config, **{name: changes[name] for name in names & changes.keys()})


def _to_float(item: Any, parameter: Parameter) -> Parameter | None:
    """Return the parameter with floats where a float field got integers, as YAML reads 1."""
    if item is None or not isinstance(item.default, (float, tuple)):
        return None
    if parameter.type_ is Parameter.Type.INTEGER:
        return Parameter(parameter.name, value=float(parameter.value))
    if parameter.type_ is Parameter.Type.INTEGER_ARRAY:
        return Parameter(parameter.name, value=[float(number) for number in parameter.value])
    return None


def describe(item: Any) -> ParameterDescriptor:
    """Return the descriptor of one configuration field: text, range, allowed values."""
    allowed = item.metadata
    descriptor = ParameterDescriptor(
        name=item.name, description=allowed['description'],
        additional_constraints=', '.join(allowed['choices']))
    bounded = allowed['minimum'] is not None or allowed['maximum'] is not None
    if bounded and isinstance(item.default, float):
        descriptor.floating_point_range = [FloatingPointRange(
            from_value=float(_or(allowed['minimum'], -LARGEST_FLOAT)),
            to_value=float(_or(allowed['maximum'], LARGEST_FLOAT)))]
    elif bounded and isinstance(item.default, int):
        descriptor.integer_range = [IntegerRange(
            from_value=int(_or(allowed['minimum'], -LARGEST_INTEGER)),
            to_value=int(_or(allowed['maximum'], LARGEST_INTEGER)), step=1)]
    return descriptor


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
