"""
Questions about several frames of streams in which things move, come and go.

They ask what happened over the frames, or what the latest shows, which several frames should tell
no worse than one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.eval.question_set import Case, Observation, Problem
from epvlm_ros.eval.still_image_events import activity_of_events
from epvlm_ros.eval.streams.conditions import Condition, CONDITIONS
from epvlm_ros.events.packet import Events
from epvlm_ros.sim.motion_questions import ask_about_changes
from epvlm_ros.sim.question_maker import ask_about_picture
from epvlm_ros.sim.questions import Question
from epvlm_ros.sim.rearrangement import simulate_stream, StreamConfig, StreamFrame
from epvlm_ros.sim.scene import RANDOMISED_SPLITS, SPLITS
import numpy as np

VERSION = 1  # to be raised where equal configurations come to give other questions or images
NUM_FRAMES = 3  # that questions are about
CHANGES, LATEST = 'changes', 'latest'  # what questions are about
_NUM_UPDATES_BEFORE = 2  # so that something may have gone that comes back


@dataclass(frozen=True)
class MotionConfig:
    """
    Streams, and how many of their last frames the model is shown.

    Attributes
    ----------
    num_questions : int
        At least 1.
    split, first_scene : str, int
        Of the scenes; no randomised one, where what is moved could be lost before the ground.
    num_moments : int
        1 to 3: the last frames that are shown.
    about : str
        'changes' over the last three frames, or the 'latest' of them, as of one picture.
    stream : StreamConfig
        Scene and cameras; the number of updates does not count.

    """

    num_questions: int = 1000
    split: str = 'test'
    first_scene: int = 0
    num_moments: int = NUM_FRAMES
    about: str = CHANGES
    stream: StreamConfig = StreamConfig()

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        splits = [name for name in SPLITS if name not in RANDOMISED_SPLITS]
        if self.num_questions < 1:
            raise ValueError(f'num_questions is {self.num_questions}: give at least 1')
        if self.split not in splits:
            raise ValueError(f'split is {self.split!r}: give one of {", ".join(splits)}')
        if not 1 <= self.num_moments <= NUM_FRAMES:
            raise ValueError(f'--moments is {self.num_moments}: give 1 to {NUM_FRAMES}')
        if self.about not in (CHANGES, LATEST):
            raise ValueError(f'--about is {self.about!r}: give {CHANGES} or {LATEST}')


def stream_under(names: Sequence[str]) -> StreamConfig:
    """
    Return the streams of the condition that ``--conditions`` names, the usual one without any.

    Raises
    ------
    ValueError
        If there are several, or one that is unknown or is more than scene and cameras: here
        events are neither filtered nor shifted, and the last frames come before any burst.

    """
    possible = [
        name for name, condition in CONDITIONS.items()
        if condition == Condition(condition.stream) and not condition.stream.frames_between_bursts]
    if not names:
        return StreamConfig()
    if len(names) > 1 or names[0] not in possible:
        raise ValueError(
            f'--conditions {" ".join(names)}: give one of {", ".join(possible)} for questions '
            'about several frames')
    return CONDITIONS[names[0]].stream


class MotionSet:
    """
    Questions about the last three frames of streams, one of every family that has an answer.

    Equal configurations give equal questions and images; fewer questions are the first ones.
    """

    def __init__(self, config: MotionConfig) -> None:
        self._config = config
        self._known: tuple[int, list[StreamFrame]] = (-1, [])  # the last stream
        self.problems: list[Problem] = []

    def describe(self) -> dict[str, Any]:
        """Return the configuration without the number of questions, which only ends the set."""
        settings = asdict(self._config)
        del settings['num_questions']
        return {'kind': 'simulated-motion', 'version': VERSION, **settings}

    def __len__(self) -> int:
        """Return the number of questions."""
        return self._config.num_questions

    def __iter__(self) -> Iterator[Case]:
        """Yield the questions, stream by stream."""
        number, index = 1, self._config.first_scene
        while True:
            random = np.random.default_rng([51, index])
            for question, answer in self._ask(self._frames(index), random):
                if number > self._config.num_questions:
                    return
                yield Case(number, str(index), question.text + '?', answer, question.family)
                number += 1
            index += 1

    def _ask(
        self, frames: list[StreamFrame], random: np.random.Generator,
    ) -> Iterator[tuple[Question, str]]:
        if self._config.about == CHANGES:
            return ask_about_changes(frames, random)
        return ask_about_picture(frames[-1].view, random)

    def observe(self, case: Case) -> Observation:
        """Take the frames of a case with the events of the time before each."""
        frames = self._frames(int(case.image))
        seen: list[Observation] = []
        for number, frame in enumerate(frames):
            before = frames[number - 1].rgb if number else frame.rgb
            seen.append(Observation(frame.rgb, self._activity(frame, is_first=not number), before))
        shown = seen[-self._config.num_moments:]
        return replace(shown[-1], earlier=tuple(shown[:-1]))

    def _frames(self, index: int) -> list[StreamFrame]:
        if self._known[0] != index:
            config = replace(
                self._config.stream, num_updates=_NUM_UPDATES_BEFORE + NUM_FRAMES - 1)
            frames = list(simulate_stream(self._config.split, index, config))
            self._known = (index, frames[-NUM_FRAMES:])
        return self._known[1]

    def _activity(self, frame: StreamFrame, is_first: bool) -> ActivityGrid:
        """Count the events since the frame before; of the first one, since things are at rest."""
        stream = self._config.stream
        window_s = stream.period_s - stream.motion_s if is_first else stream.period_s
        is_recent = frame.events.t_ns > frame.time_ns - round(window_s * 1e9)
        return activity_of_events(
            Events(*(part[is_recent] for part in frame.events)),
            (stream.sensor_height, stream.sensor_width),
            (stream.image_height, stream.image_width), window_s)
