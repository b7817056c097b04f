"""The parameters of the events half and the only home of their defaults."""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.config_fields import parameter, Validated

# How far the middle of the exposure is after the moment that is stamped, in exposure times.
_TO_MIDDLE = {'start': 0.5, 'middle': 0.0, 'end': -0.5}


@dataclass(frozen=True)
class EventSyncConfig(Validated):
    """How events are accumulated and matched with camera frames."""

    # The window of a frame.
    window_length: float = parameter(
        0.04, 'Length of the event window of a frame, in seconds.',
        minimum=0.001, maximum=1.0, dynamic=True)
    window_mode: str = parameter(
        'time', 'Length of a window: time (window_length), count (back from its end until it '
        'holds window_events) or activity (back until window_activity of the cells have events). '
        'The end is the same in all three.',
        choices=('time', 'count', 'activity'), dynamic=True)
    window_events: int = parameter(
        20000, 'Events in a window in window_mode count.', minimum=1, dynamic=True)
    window_activity: float = parameter(
        0.1, 'Share of grid cells with events in a window in window_mode activity.',
        minimum=0.0001, maximum=1.0, dynamic=True)
    max_window_length: float = parameter(
        0.2, 'Longest window in window_mode count or activity, in seconds.',
        minimum=0.001, maximum=10.0, dynamic=True)
    window_offset: float = parameter(
        0.0, 'Centre of the event window relative to the stamp of the frame, in seconds. With '
        'exposure_time it is relative to the middle of the exposure.',
        minimum=-1.0, maximum=1.0, dynamic=True)
    exposure_time: float = parameter(
        0.0, 'Exposure time of the camera, in seconds; 0 if unknown.',
        minimum=0.0, maximum=1.0, dynamic=True)
    max_exposure: float = parameter(
        0.04, 'How long before its stamp the exposure of a frame may have begun, in seconds, '
        'where exposure_time is 0: what changes after that moment may not be in the frame. Too '
        'short, and old parts of a scene pass for new; too long, and more is computed.',
        minimum=0.0, maximum=1.0, dynamic=True)
    stamped_at: str = parameter(
        'start', 'Part of the exposure that the stamp of a frame refers to.',
        choices=('start', 'middle', 'end'), dynamic=True)
    max_wait: float = parameter(
        0.1, 'Longest time that a frame waits for the events of its window, in seconds.',
        minimum=0.0, maximum=5.0, dynamic=True)
    max_pending_frames: int = parameter(
        16, 'Most frames that wait for events; the oldest is sent first, incomplete.',
        minimum=1, maximum=1000)
    compressed: bool = parameter(
        False, 'Whether the topic image is a sensor_msgs/CompressedImage.')

    # The clocks of sensor and camera.
    sync_mode: str = parameter(
        'free_running', 'How sensor time is related to frame stamps: free_running (estimated '
        'from the stamps of the event packets), hardware_trigger (each frame has an edge on a '
        'trigger input of the event sensor) or common_clock (sensor time plus clock_offset).',
        choices=('free_running', 'hardware_trigger', 'common_clock'))
    clock_offset: float = parameter(
        0.0, 'Frame stamp minus sensor time in sync_mode common_clock, in seconds.',
        minimum=-4e9, maximum=4e9, dynamic=True)  # in ns, and with a stamp added, an int64
    trigger_input: int = parameter(
        0, 'Number of the trigger input in sync_mode hardware_trigger.',
        minimum=0, maximum=255)
    trigger_edge: str = parameter(
        'rising', 'Edge on the trigger input at the moment of the frame stamp.',
        choices=('rising', 'falling'))

    # The grid.
    cell_size: int = parameter(
        0, 'Side of a cell of the activity grid, in image pixels; 0 chooses by the size of the '
        'image: 4 up to about 1280 x 800 pixels, then 8, 16, 32 or 64.', minimum=0, maximum=64)
    bin_length: float = parameter(
        0.001, 'Length of a time bin of the event counts, in seconds.',
        minimum=0.0001, maximum=0.1)
    history_length: float = parameter(
        1.0, 'How long events are remembered, in seconds.', minimum=0.01, maximum=10.0)
    max_grid_memory: float = parameter(
        1024.0, 'Most memory for the event counts of all time bins, in megabytes; frames that '
        'would need more are refused.', minimum=1.0, maximum=1000000.0)

    # Where event pixels are in the image.
    registration: str = parameter(
        'homography', 'Where event pixels are in the image: homography (parameters homography '
        'and scale_to_image), file (registration_file) or camera_info (both calibrations, their '
        'transform and scene_depth).',
        choices=('homography', 'file', 'camera_info'))
    homography: tuple[float, ...] = parameter(
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        'Homography from event pixels to image pixels, 9 numbers row by row; applied after '
        'scale_to_image.')
    scale_to_image: bool = parameter(
        True, 'Whether the event sensor is scaled to the size of the image first.')
    registration_file: str = parameter(
        '', 'YAML file written by epvlm calibrate, for registration file.')
    scene_depth: float = parameter(
        2.0, 'Distance of the scene along the optical axis of the camera, in metres, for '
        'registration camera_info.', minimum=0.01, maximum=10000.0, dynamic=True)

    # Overload.
    max_event_delay: float = parameter(
        0.08, 'Longest time that event packets wait to be processed, in seconds. From half of it '
        'on, every second packet is skipped, from three quarters on three of four, then all.',
        minimum=0.001, maximum=10.0)
    max_queued_event_data: float = parameter(
        32.0, 'Most event data that waits to be processed, in megabytes; beyond it the oldest '
        'packets are dropped.', minimum=0.1, maximum=4096.0)

    def __post_init__(self) -> None:
        """Check each value, and those that depend on each other."""
        super().__post_init__()
        if self.max_wait > self.history_length:
            raise ValueError(
                f'max_wait is {self.max_wait}, history_length {self.history_length}: a frame that '
                'waits longer than events are remembered has none; give a longer history_length')
        if self.bin_length > self.history_length:
            raise ValueError(
                f'bin_length is {self.bin_length}, history_length {self.history_length}: give at '
                'least one bin of history')
        self._check_reach()
        if self.registration == 'file' and not self.registration_file:
            raise ValueError(
                'registration is file, registration_file is empty: give the path of what epvlm '
                'calibrate wrote')

    @property
    def window_centre(self) -> float:
        """Return the centre of a window in seconds after the stamp of its frame."""
        return self.window_offset + self.exposure_middle

    @property
    def exposure_middle(self) -> float:
        """Return the middle of the exposure in seconds after the stamp of its frame."""
        return _TO_MIDDLE[self.stamped_at] * self.exposure_time

    @property
    def warning(self) -> str:
        """Return which values hardly go together, and the remedy; '' if all do."""
        end = round(self.window_centre + self.window_length / 2, 9)
        # No mistake for certain: frames of a slow camera arrive when their events are there.
        if end <= self.max_wait:
            return ''
        return (
            f'window_length is {self.window_length}, window_offset {self.window_offset}, '
            f'exposure_time {self.exposure_time}: a window ends {end:g} s after the stamp of its '
            f'frame, which waits for max_wait {self.max_wait} s; it lacks events unless it '
            f'arrives {end - self.max_wait:g} s after its stamp: give max_wait {end:g} or more, '
            'or a shorter window_length')

    def _check_reach(self) -> None:
        """Check that the start of a window is still remembered when its frame leaves."""
        name = 'window_length' if self.window_mode == 'time' else 'max_window_length'
        longest = getattr(self, name)
        # A frame leaves as soon as events reach the end of its window, so that max_wait does not
        # count; but where that end is before the stamp, time went on until the frame came.
        end = self.window_centre + self.window_length / 2
        reach = round(longest + max(-end, 0.0), 9)  # to the ns, as windows are
        if reach > self.history_length:
            raise ValueError(
                f'{name} is {longest}, window_offset {self.window_offset}, exposure_time '
                f'{self.exposure_time}, history_length {self.history_length}: a window that '
                f'reaches {reach:g} s back, further than events are remembered, is never whole; '
                'give a longer history_length')


@dataclass(frozen=True)
class FilterConfig(Validated):
    """Which events count. Every filter is off by default: all events count."""

    hot_pixel_filter: bool = parameter(
        False, 'Whether pixels that fire all the time are masked.')
    hot_pixel_rate: float = parameter(
        200.0, 'Lowest rate of a hot pixel with silent neighbours, in events per second.',
        minimum=1.0, maximum=1000000.0)
    background_filter: bool = parameter(
        False, 'Whether events without a recent event of a neighbour are dropped.')
    background_filter_time: float = parameter(
        0.01, 'Longest time between an event and one of its neighbour, in seconds.',
        minimum=0.0001, maximum=1.0)
    flicker_filter: bool = parameter(
        False, 'Whether events of pixels that follow flickering light are dropped.')
    flicker_frequency: float = parameter(
        100.0, 'Frequency of the flicker, in hertz: twice the frequency of the mains.',
        minimum=10.0, maximum=10000.0)
    max_pixel_rate: float = parameter(
        0.0, 'Most events of one pixel that count, per second; 0: no limit.', minimum=0.0)
    ego_motion_filter: bool = parameter(
        False, 'Whether activity caused by the motion of the camera is subtracted.',
        dynamic=True)
