"""The parameters of the nodes beside those of both halves, with their only defaults."""

from __future__ import annotations

from dataclasses import dataclass, replace
import re

from epvlm_ros.config_fields import parameter, Validated

_CAMERA_NAME = r'[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*'  # as of topics
MEGABYTE = 1e6  # bytes
EVENT_PACKET_MESSAGE = 'event_camera_msgs/msg/EventPacket'


@dataclass(frozen=True)
class EventSyncNodeConfig(Validated):
    """How event_sync_node starts."""

    autostart: bool = parameter(
        True, 'Whether the node configures and activates itself when it starts.')
    event_message: str = parameter(
        EVENT_PACKET_MESSAGE, 'Type of the messages of events: packets, or the event arrays of '
        'other drivers where their package is installed.',
        choices=(EVENT_PACKET_MESSAGE, 'dvs_msgs/msg/EventArray',
                 'prophesee_event_msgs/msg/EventArray'))


@dataclass(frozen=True)
class VlmNodeConfig(Validated):
    """How the node takes queries, beside what the model does."""

    max_frame_age: float = parameter(
        1.0, 'Maximum age of the guided frame in seconds; with an older one a query is answered '
        'STALE_FRAME.',
        minimum=0.0, maximum=3600.0, dynamic=True)
    max_queued_queries: int = parameter(
        8, 'Maximum number of queries about a camera that wait for the model; further ones are '
        'answered BUSY.',
        minimum=1, maximum=1000)
    encode_ahead: str = parameter(
        'on_demand', 'When frames are encoded: on_demand (when a question is asked), on_arrival '
        '(every frame at once; the question then costs only its own text; for models that are '
        'faster than the camera) or at_rate (encode_rate frames per second; the others are '
        'skipped, and a question is about the last encoded frame).',
        choices=('on_demand', 'on_arrival', 'at_rate'), dynamic=True)
    encode_rate: float = parameter(
        2.0, 'Frames encoded per second with encode_ahead at_rate.',
        minimum=0.01, maximum=1000.0, dynamic=True)
    num_moments: int = parameter(
        1, 'Number of frames that a question is about which does not say how many: the latest one '
        'and earlier ones, which keep what is no longer to be seen. They share the tokens of one '
        'frame.',
        minimum=1, maximum=16, dynamic=True)
    moment_period: float = parameter(
        0.5, 'Minimum time between two frames of one question in seconds (num_moments above 1).',
        minimum=0.0, maximum=60.0, dynamic=True)
    history_memory: float = parameter(
        256.0, 'Maximum memory for frames of the past that questions may be about (seconds_ago, '
        'at), of all cameras together, in megabytes; 0 keeps none.',
        minimum=0.0, maximum=1e6, dynamic=True)
    cameras: str = parameter(
        '', 'Names of the cameras, such as front rear: guided frames of each come on '
        '<name>/event_guided_frame, and queries name the camera; empty is one camera without a '
        'name, on event_guided_frame.')
    autostart: bool = parameter(
        True, 'Whether the node configures and activates itself at its start.')
    shadow_every: int = parameter(
        0, 'Every so many answers, one is computed a second time on all tokens of its frames when '
        'nothing else is to be done; how far both agree is in the diagnostics. 0 is never.',
        minimum=0, maximum=1000000, dynamic=True)
    max_watches: int = parameter(
        50, 'Maximum number of standing questions.', minimum=0, maximum=10000, dynamic=True)
    watches_file: str = parameter(
        '', 'File that keeps standing questions over a restart, JSON; empty keeps none.')
    watch_level: float = parameter(
        0.2, 'Activity from which on the condition of a standing question holds that gives no '
        'level, in events per sensor pixel and second.',
        minimum=0.001, maximum=1e6, dynamic=True)
    watch_min_gap: float = parameter(
        1.0, 'Minimum time between two questions of a standing question that gives none, in '
        'seconds.', minimum=0.0, maximum=86400.0, dynamic=True)
    watch_max_rate: float = parameter(
        60.0, 'Maximum number of questions in any 60 seconds of a standing question that gives '
        'none.', minimum=1.0, maximum=6000.0, dynamic=True)

    def __post_init__(self) -> None:
        """Check each value; names of cameras must be fit for topics, and differ."""
        super().__post_init__()
        names = self.cameras.split()
        for name in names:
            if not re.fullmatch(_CAMERA_NAME, name) or '__' in name or names.count(name) > 1:
                raise ValueError(
                    f'cameras is {self.cameras!r}: give different names of letters, digits and '
                    'single underscores, such as front rear')

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Return the names of the cameras; that of a single one may be empty."""
        return tuple(self.cameras.split()) or ('',)

    @property
    def history_bytes(self) -> float:
        """Memory for the past of each camera."""
        return self.history_memory * MEGABYTE / len(self.camera_names)

    def for_question(self, num_moments: int) -> VlmNodeConfig:
        """
        Return what holds for a question about so many frames, 0 for as many as set here.

        Raises a ValueError if there can be no such question.
        """
        # replace() checks the new value as it checks the parameter
        return replace(self, num_moments=num_moments) if num_moments else self


def below(camera: str, name: str) -> str:
    """Return the name of a topic or node of a camera; a single camera has no name."""
    return f'{camera}/{name}' if camera else name
