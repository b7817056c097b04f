"""The parameters of ``vlm_node`` beside those of the model, with their only defaults."""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.config_fields import parameter, Validated


@dataclass(frozen=True)
class VlmNodeConfig(Validated):
    """How the node takes queries, beside what the model does."""

    max_frame_age: float = parameter(
        1.0, 'A guided frame older than this, in seconds, is stale: the answer says so.',
        minimum=0.0, maximum=3600.0, dynamic=True)
    max_queued_queries: int = parameter(
        8, 'Most queries that wait for the model; a further one is answered BUSY.',
        minimum=1, maximum=1000)
    encode_ahead: str = parameter(
        'on_demand', 'When a frame is encoded: on_demand (when a question is asked), on_arrival '
        '(at once, so that a question costs its own text only; for models that are faster than '
        'the camera) or at_rate (encode_rate frames a second; the others are left out, and a '
        'question is about the last one that was not).',
        choices=('on_demand', 'on_arrival', 'at_rate'), dynamic=True)
    encode_rate: float = parameter(
        2.0, 'Frames per second in encode_ahead at_rate.',
        minimum=0.01, maximum=1000.0, dynamic=True)
    num_moments: int = parameter(
        1, 'Frames that a question is about: the latest one and earlier ones, each with its own '
        'kept tokens.', minimum=1, maximum=16, dynamic=True)
    moment_period: float = parameter(
        0.5, 'Least time from one frame to the next where a question is about several, in '
        'seconds.', minimum=0.0, maximum=60.0, dynamic=True)
    autostart: bool = parameter(
        True, 'Whether the node configures and activates itself when it starts.')
    publish_overlay: bool = parameter(
        False, 'Whether overlay (frame, events and kept tokens) is published for every answer.',
        dynamic=True)
