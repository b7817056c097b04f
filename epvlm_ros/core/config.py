"""
The only home of defaults: one frozen, validated dataclass for each part of the system.

A node declares its ROS parameters from these classes, the command line takes its defaults from
them, and a test compares ``config/epvlm.yaml`` with them, so that no value is written twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.core.parameter import parameter, Validated

# How far the middle of the exposure is after the moment that is stamped, in exposure times.
_TO_MIDDLE = {'start': 0.5, 'middle': 0.0, 'end': -0.5}

_LOWEST_TEMPERATURE = 0.001  # logits are divided by it


@dataclass(frozen=True)
class EventSyncConfig(Validated):
    """How events are accumulated and matched with camera frames."""

    # The window of a frame.
    window_length: float = parameter(
        0.04, 'Length of the event window of a frame, in seconds.',
        minimum=0.001, maximum=1.0, dynamic=True)
    window_mode: str = parameter(
        'time', 'How long a window is: time (window_length), count (back from its end until '
        'window_events events) or activity (back from its end until window_activity of the '
        'cells have seen an event); the end is the same in all three.',
        choices=('time', 'count', 'activity'), dynamic=True)
    window_events: int = parameter(
        20000, 'Events of a window in window_mode count.', minimum=1, dynamic=True)
    window_activity: float = parameter(
        0.1, 'Share of the cells of the grid that a window in window_mode activity has events in.',
        minimum=0.0001, maximum=1.0, dynamic=True)
    max_window_length: float = parameter(
        0.2, 'Longest window in window_mode count or activity, in seconds.',
        minimum=0.001, maximum=10.0, dynamic=True)
    window_offset: float = parameter(
        0.0, 'Centre of the event window after the moment of the frame, in seconds. The moment '
        'is the time stamp, or the middle of the exposure where exposure_time is given.',
        minimum=-1.0, maximum=1.0, dynamic=True)
    exposure_time: float = parameter(
        0.0, 'Exposure time of the camera, in seconds; 0 where it is not known.',
        minimum=0.0, maximum=1.0, dynamic=True)
    stamped_at: str = parameter(
        'start', 'Moment of the exposure that the camera stamps its frames with.',
        choices=('start', 'middle', 'end'), dynamic=True)
    max_wait: float = parameter(
        0.1, 'Longest time that a frame waits for the events of its window, in seconds.',
        minimum=0.0, maximum=5.0, dynamic=True)
    max_pending_frames: int = parameter(
        16, 'Most frames that wait for their events; the oldest goes out first, as it is.',
        minimum=1, maximum=1000)
    compressed: bool = parameter(
        False, 'Whether image is a sensor_msgs/CompressedImage.')

    # The clocks of sensor and camera.
    sync_mode: str = parameter(
        'free_running', 'How sensor time meets the stamps of the frames: free_running (by the '
        'stamps of the event packets), hardware_trigger (each frame has an edge on a trigger '
        'input of the event sensor) or common_clock (stamps are sensor time plus clock_offset).',
        choices=('free_running', 'hardware_trigger', 'common_clock'))
    clock_offset: float = parameter(
        0.0, 'Frame stamps minus sensor time in sync_mode common_clock, in seconds.',
        minimum=-4e9, maximum=4e9, dynamic=True)  # in ns, and with a stamp added, an int64
    trigger_input: int = parameter(
        0, 'Number of the trigger input in sync_mode hardware_trigger.',
        minimum=0, maximum=255)
    trigger_edge: str = parameter(
        'rising', 'Edge on the trigger input that marks the moment which the camera stamps.',
        choices=('rising', 'falling'))

    # The grid.
    cell_size: int = parameter(
        4, 'Side of one cell of the activity grid, in image pixels.', minimum=1, maximum=64)
    bin_length: float = parameter(
        0.001, 'Length of one time bin of the accumulator, in seconds.',
        minimum=0.0001, maximum=0.1)
    history_length: float = parameter(
        1.0, 'How far back in time events are remembered, in seconds.',
        minimum=0.01, maximum=10.0)

    # Where event pixels are in the image.
    registration: str = parameter(
        'homography', 'Where event pixels are in the image: homography (the parameters '
        'homography and scale_to_image), file (registration_file, as epvlm calibrate writes it) '
        'or camera_info (both calibrations, their transform and scene_depth).',
        choices=('homography', 'file', 'camera_info'))
    homography: tuple[float, ...] = parameter(
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        'Homography from event pixels to image pixels, 9 numbers row by row. It is applied after '
        'the event sensor was scaled to the size of the image unless scale_to_image is false.')
    scale_to_image: bool = parameter(
        True, 'Whether the event sensor is scaled to the size of the image before the homography.')
    registration_file: str = parameter(
        '', 'YAML file of epvlm calibrate, for registration file.')
    scene_depth: float = parameter(
        2.0, 'Distance of the scene along the optical axis of the camera, in metres, for '
        'registration camera_info.', minimum=0.01, maximum=10000.0, dynamic=True)

    # What happens when too much comes.
    max_event_delay: float = parameter(
        0.08, 'Longest time that event packets wait to be processed, in seconds. From half of it '
        'on, where that lasts, the events of every second packet are shed, from three quarters on '
        'those of three of four, then all.', minimum=0.001, maximum=10.0)
    max_backlog: float = parameter(
        32.0, 'Most event data that waits to be processed, in megabytes; what waits longest is '
        'dropped.', minimum=0.1, maximum=4096.0)

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
        """Return the centre of a window, in seconds after the moment that is stamped."""
        return self.window_offset + _TO_MIDDLE[self.stamped_at] * self.exposure_time

    def _check_reach(self) -> None:
        """Check that the start of a window is still remembered when a frame gets its events."""
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
        False, 'Whether pixels that fire all the time are found and masked.')
    hot_pixel_rate: float = parameter(
        200.0, 'Lowest rate of a hot pixel, in events per second, where its neighbours are '
        'silent.', minimum=1.0, maximum=1000000.0)
    background_filter: bool = parameter(
        False, 'Whether events without a neighbour shortly before them are dropped.')
    background_filter_time: float = parameter(
        0.01, 'How long before an event a neighbour supports it, in seconds.',
        minimum=0.0001, maximum=1.0)
    flicker_filter: bool = parameter(
        False, 'Whether pixels that follow flickering light are dropped.')
    flicker_frequency: float = parameter(
        100.0, 'Frequency of the flicker in hertz: twice that of the mains.',
        minimum=10.0, maximum=10000.0)
    max_pixel_rate: float = parameter(
        0.0, 'Most events of one pixel that count, per second; 0 is no limit.', minimum=0.0)
    ego_motion_filter: bool = parameter(
        False, 'Whether the activity that a moving camera makes everywhere is taken off, so that '
        'what moves by itself stands out.', dynamic=True)


@dataclass(frozen=True)
class VlmConfig(Validated):
    """Which model answers, and how much of each frame it computes on."""

    model: str = parameter(
        '', 'Folder or hub name of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint; empty is the '
        'embedded one.')
    device: str = parameter(
        'auto', 'Device of the model: auto, cpu, cuda or cuda:N.')
    dtype: str = parameter(
        'auto', 'Number type of the model; auto is bfloat16 on a GPU and float32 on a CPU.',
        choices=('auto', 'float32', 'bfloat16', 'float16'))
    attention: str = parameter(
        'sdpa', 'Attention implementation of transformers.',
        choices=('sdpa', 'eager', 'flash_attention_2'))
    acceleration: str = parameter(
        'auto', 'How the model runs: auto (recorded functions of fixed shapes on a GPU, where '
        'there are any for its family) or eager (as the library runs it).',
        choices=('auto', 'eager'))
    cache_tokens: int = parameter(
        4096, 'Most tokens of a prompt and its answer that recorded functions take, kept ones of '
        'the image included; longer ones run eagerly.', minimum=64, maximum=32768)
    warm_up_sizes: str = parameter(
        '', 'Sizes of images whose functions are recorded before the first question, such as '
        '640x480 1280x720; others are recorded when they come for the second time.')
    allow_download: bool = parameter(
        False, 'Whether a model that is not on this machine may be downloaded from the hub.')
    keep_ratio: float = parameter(
        0.5, 'Share of the visual tokens that is computed on; 1.0 is the dense model.',
        minimum=0.01, maximum=1.0, dynamic=True)
    selection: str = parameter(
        'events_and_saliency',
        'How tokens are chosen: events (the most active ones), events_and_detail (the moving '
        'ones, and still_share for the detail of the still scene), events_and_coverage (moving '
        'regions, and still_share for even coverage), events_and_saliency (what stands out by '
        'its colour or its events), detail, saliency, centre, uniform (a regular pattern) or '
        'random.',
        choices=('events', 'events_and_detail', 'events_and_coverage', 'events_and_saliency',
                 'detail', 'saliency', 'centre', 'uniform', 'random'), dynamic=True)
    still_share: float = parameter(
        0.25, 'Share of the kept tokens for what stands still, in selection events_and_detail '
        'and events_and_coverage.', minimum=0.0, maximum=1.0, dynamic=True)
    static_scene_policy: str = parameter(
        'dense', 'What is computed when hardly any events came: dense (all tokens), uniform (a '
        'regular pattern of keep_ratio), detail (keep_ratio, where the image shows most) or '
        'saliency (keep_ratio, where its colour stands out).',
        choices=('dense', 'uniform', 'detail', 'saliency'), dynamic=True)
    static_scene_rate: float = parameter(
        2.0, 'Nothing moves in a visual token that sees no more than this many events per pixel '
        'of the event sensor and second; a scene is static where that holds for all tokens.',
        minimum=0.0, dynamic=True)
    max_new_tokens: int = parameter(
        64, 'Most tokens that an answer is made of.', minimum=1, maximum=4096, dynamic=True)
    deadline: float = parameter(
        0.0, 'Longest time from a question to the end of its answer, in seconds; what there is '
        'by then is the answer. 0 is no limit.', minimum=0.0, maximum=3600.0, dynamic=True)
    temperature: float = parameter(
        0.0, '0 takes the most probable token each time; above, tokens are drawn, the more evenly '
        'the higher.', minimum=0.0, maximum=10.0, dynamic=True)
    top_p: float = parameter(
        1.0, 'Tokens are drawn from the fewest that have this probability together; counts with '
        'a temperature above 0.', minimum=0.01, maximum=1.0, dynamic=True)
    seed: int = parameter(
        0, 'Start of the drawing of tokens: the same seed draws the same answer to the same '
        'question.', minimum=0, maximum=2 ** 31 - 1, dynamic=True)
    repetition_penalty: float = parameter(
        0.0, 'Factor by which tokens of the prompt and of the answer so far lose, 1.0 for none; 0 '
        'takes what the checkpoint sets.', minimum=0.0, maximum=10.0, dynamic=True)
    max_question_length: int = parameter(
        2000, 'Most characters of a question; a longer one is refused.',
        minimum=1, maximum=100000, dynamic=True)
    system_prompt: str = parameter(
        '', 'What the model is told before every question, for models that follow instructions; '
        'empty leaves it to the chat template.')
    max_pixels: int = parameter(
        0, 'Most pixels of the image after the resize of the model; 0 leaves it to the model.',
        minimum=0)
    num_threads: int = parameter(
        0, 'CPU threads of torch; 0 leaves it to torch.', minimum=0, maximum=1024)

    def __post_init__(self) -> None:
        """Check each value, that a temperature can be computed with and a penalty is one."""
        super().__post_init__()
        self.read_warm_up_sizes()
        if 0.0 < self.temperature < _LOWEST_TEMPERATURE:
            raise ValueError(
                f'temperature is {self.temperature}: give at least {_LOWEST_TEMPERATURE}, or 0 '
                'for the most probable token each time')
        if 0.0 < self.repetition_penalty < 1.0:
            raise ValueError(
                f'repetition_penalty is {self.repetition_penalty}, which would reward '
                'repetition: give at least 1.0, or 0 for what the checkpoint sets')

    def read_warm_up_sizes(self) -> list[tuple[int, int]]:
        """
        Return (width, height) of each of ``warm_up_sizes``.

        Raises
        ------
        ValueError
            If it is not made of sizes.

        """
        sizes = []
        for size in self.warm_up_sizes.split():
            numbers = size.split('x')
            if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
                raise ValueError(
                    f'warm_up_sizes is {self.warm_up_sizes!r}: give widths and heights such as '
                    '640x480 1280x720')
            sizes.append((int(numbers[0]), int(numbers[1])))
        return sizes


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
