"""
The only home of defaults: one frozen, validated dataclass for each part of the system.

A node declares its ROS parameters from these classes, the command line takes its defaults from
them, and a test compares ``config/epvlm.yaml`` with them, so that no value is written twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
import math
from typing import Any


def parameter(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    dynamic: bool = False,
) -> Any:
    """
    Declare one field of a configuration class together with what is allowed in it.

    Parameters
    ----------
    default : bool, int, float, str or tuple of float
        The default; its type is the type of the parameter.
    description : str
        One sentence with the unit, shown by ``ros2 param describe``.
    minimum, maximum : float, optional
        Inclusive bounds of a number.
    choices : tuple of str, optional
        The allowed strings.
    dynamic : bool
        Whether a running node takes a new value.

    """
    metadata = {
        'description': description, 'minimum': minimum, 'maximum': maximum,
        'choices': choices, 'dynamic': dynamic,
    }
    return field(default=default, metadata=metadata)


class _Validated:
    """Checks every field of a configuration on construction."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            object.__setattr__(self, item.name, check_value(item, value))


def check_value(item: Any, value: Any) -> Any:
    """
    Return ``value`` in the type of the field ``item``.

    Raises
    ------
    ValueError
        If the type, the range or the choice is wrong; the text names value and remedy.

    """
    name, allowed = item.name, item.metadata
    value = _coerce(name, item.default, value)
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f'{name} is {number}: give a finite number')
        if allowed['minimum'] is not None and number < allowed['minimum']:
            raise ValueError(f'{name} is {number}: give at least {allowed["minimum"]}')
        if allowed['maximum'] is not None and number > allowed['maximum']:
            raise ValueError(f'{name} is {number}: give at most {allowed["maximum"]}')
    if allowed['choices'] and value not in allowed['choices']:
        raise ValueError(f'{name} is {value!r}: give one of {", ".join(allowed["choices"])}')
    return value


def _coerce(name: str, default: Any, value: Any) -> Any:
    wanted = type(default)
    if wanted is tuple:
        try:
            numbers = tuple(float(number) for number in value)
        except (TypeError, ValueError):
            raise ValueError(f'{name} is {value!r}: give a list of numbers') from None
        if len(numbers) != len(default):
            raise ValueError(
                f'{name} has {len(numbers)} numbers: give {len(default)}, row by row')
        return numbers
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f'{name} is {value!r}: give a value of type {wanted.__name__}')
    return value


@dataclass(frozen=True)
class EventSyncConfig(_Validated):
    """How events are accumulated and matched with camera frames."""

    window_length: float = parameter(
        0.04, 'Length of the event window of a frame, in seconds.',
        minimum=0.001, maximum=1.0, dynamic=True)
    window_offset: float = parameter(
        0.0, 'Centre of the event window after the time stamp of the frame, in seconds. Half of '
        'the exposure time where the camera stamps the start of the exposure.',
        minimum=-1.0, maximum=1.0, dynamic=True)
    max_wait: float = parameter(
        0.1, 'Longest time that a frame waits for the events of its window, in seconds.',
        minimum=0.0, maximum=5.0, dynamic=True)
    cell_size: int = parameter(
        4, 'Side of one cell of the activity grid, in image pixels.', minimum=1, maximum=64)
    bin_length: float = parameter(
        0.001, 'Length of one time bin of the accumulator, in seconds.',
        minimum=0.0001, maximum=0.1)
    history_length: float = parameter(
        1.0, 'How far back in time events are remembered, in seconds.',
        minimum=0.01, maximum=10.0)
    homography: tuple[float, ...] = parameter(
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        'Homography from event pixels to image pixels, 9 numbers row by row. It is applied after '
        'the event sensor was scaled to the size of the image unless scale_to_image is false.')
    scale_to_image: bool = parameter(
        True, 'Whether the event sensor is scaled to the size of the image before the homography.')
    max_pending_frames: int = parameter(
        16, 'Most frames that wait for their events; the oldest goes out first, as it is.',
        minimum=1, maximum=1000)
    compressed: bool = parameter(
        False, 'Whether image is a sensor_msgs/CompressedImage.')


@dataclass(frozen=True)
class VlmConfig(_Validated):
    """Which model answers, and how much of each frame it computes on."""

    model: str = parameter(
        '', 'Folder or hub name of a Qwen2-VL checkpoint; empty is the embedded one.')
    device: str = parameter(
        'auto', 'Device of the model: auto, cpu, cuda or cuda:N.')
    dtype: str = parameter(
        'auto', 'Number type of the model; auto is bfloat16 on a GPU and float32 on a CPU.',
        choices=('auto', 'float32', 'bfloat16', 'float16'))
    attention: str = parameter(
        'sdpa', 'Attention implementation of transformers.',
        choices=('sdpa', 'eager', 'flash_attention_2'))
    allow_download: bool = parameter(
        False, 'Whether a model that is not on this machine may be downloaded from the hub.')
    keep_ratio: float = parameter(
        0.5, 'Share of the visual tokens that is computed on; 1.0 is the dense model.',
        minimum=0.01, maximum=1.0, dynamic=True)
    selection: str = parameter(
        'events', 'How tokens are chosen: events (the most active ones), uniform (a regular '
        'pattern) or random.',
        choices=('events', 'uniform', 'random'), dynamic=True)
    static_scene_policy: str = parameter(
        'dense', 'What is computed when hardly any events came: dense (all tokens) or uniform '
        '(a regular pattern of keep_ratio).',
        choices=('dense', 'uniform'), dynamic=True)
    static_scene_rate: float = parameter(
        2.0, 'A scene is static when no visual token sees more than this many events per pixel '
        'of the event sensor and second.', minimum=0.0, dynamic=True)
    max_new_tokens: int = parameter(
        64, 'Most tokens that an answer is made of.', minimum=1, maximum=4096, dynamic=True)
    max_question_length: int = parameter(
        2000, 'Most characters of a question; a longer one is refused.',
        minimum=1, maximum=100000, dynamic=True)
    max_pixels: int = parameter(
        0, 'Most pixels of the image after the resize of the model; 0 leaves it to the model.',
        minimum=0)
    num_threads: int = parameter(
        0, 'CPU threads of torch; 0 leaves it to torch.', minimum=0, maximum=1024)


@dataclass(frozen=True)
class VlmNodeConfig(_Validated):
    """How the node takes queries, beside what the model does."""

    max_frame_age: float = parameter(
        1.0, 'A guided frame older than this, in seconds, is stale: the answer says so.',
        minimum=0.0, maximum=3600.0, dynamic=True)
    max_queued_queries: int = parameter(
        8, 'Most queries that wait for the model; a further one is answered BUSY.',
        minimum=1, maximum=1000)
    autostart: bool = parameter(
        True, 'Whether the node configures and activates itself when it starts.')
    publish_overlay: bool = parameter(
        False, 'Whether overlay (frame, events and kept tokens) is published for every answer.',
        dynamic=True)
