"""What the page needs of a robot; `epvlm_ros.ui.ros_robot` has the one in ROS."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Protocol

from epvlm_ros.ui.requests import AskRequest, SetRequest, WatchRequest


class RobotError(Exception):
    """What a robot cannot do now, in one line that is shown on the page."""


class Listener(Protocol):
    """Takes what a robot says; all of it on the thread of the event loop."""

    def on_answer(self, answer: dict[str, Any]) -> None:
        """Take an answer to a question of anybody."""

    def on_answer_picture(self, stamp: str, jpeg: bytes) -> None:
        """Take the picture of an answer: frame, events and kept tokens."""

    def on_live_picture(self, camera: str, jpeg: bytes) -> None:
        """Take the picture of now: frame and events. A single camera has no name."""

    def on_latest(self, kind: str, message: dict[str, Any]) -> None:
        """Take the state of something, in the place of the one before."""


class Robot(Protocol):
    """A robot that answers questions."""

    def start(self, listener: Listener) -> None:
        """Begin to tell ``listener`` what happens."""

    def show_pictures(self, live: set[str], answered: bool) -> None:
        """Begin or stop to send pictures of now, of these cameras, and pictures of answers."""

    async def ask(
        self, request: AskRequest, on_text: Callable[[str], None], cancelled: asyncio.Event,
    ) -> dict[str, Any]:
        """Return the answer; ``on_text`` takes the text so far. Raises `RobotError`."""

    async def watch(self, request: WatchRequest) -> str:
        """Set up a standing question and return its id. Raises `RobotError`."""

    async def unwatch(self, watch_id: str) -> None:
        """End a standing question. Raises `RobotError`."""

    async def set_parameter(self, request: SetRequest) -> None:
        """Change a parameter. Raises `RobotError` with the reason of a refusal."""

    async def refresh(self) -> None:
        """Tell the listener the watches and parameters of now."""
