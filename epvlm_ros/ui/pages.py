"""All open pages: what they see, and what they ask the robot for."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Callable, Coroutine

from epvlm_ros.ui.history import AnswerHistory
from epvlm_ros.ui.outbox import Outbox
from epvlm_ros.ui.requests import (
    AskRequest, CancelRequest, find_id, LiveRequest, parse_request, Request, SetRequest,
    UnwatchRequest, WatchRequest)
from epvlm_ros.ui.robot import Robot, RobotError

_LOGGER = logging.getLogger(__name__)
MAX_PAGES = 16
MAX_OPEN_REQUESTS = 8  # of one page


class Pages:
    """
    Everybody who looks: a `Listener` that passes on what the robot says.

    A page that is opened gets the answers so far and the state of everything.
    """

    def __init__(self, robot: Robot, namespace: str = '/') -> None:
        self.history = AnswerHistory()
        self._robot = robot
        self._pages: set[Page] = set()
        self._state: dict[str, dict[str, Any]] = {}
        self._hello = {'type': 'hello', 'namespace': namespace}
        self._tasks = _Tasks()

    @property
    def is_full(self) -> bool:
        """Whether there are as many pages as are served."""
        return len(self._pages) >= MAX_PAGES

    def join(self) -> Page:
        """Return a new page, with all that it has to know on its way."""
        page = Page(self._robot, self._follow_looks)
        page.outbox.put({**self._hello, 'answers': self.history.answers})
        for kind, message in self._state.items():
            page.outbox.put_latest(kind, message)
        self._pages.add(page)
        self._follow_looks()
        self._tasks.start(self._robot.refresh())
        return page

    def leave(self, page: Page) -> None:
        """Forget a page; what it asked is answered for the history."""
        self._pages.discard(page)
        self._follow_looks()

    def on_answer(self, answer: dict[str, Any]) -> None:
        """Pass an answer on to all pages."""
        has_picture = answer['has_picture'] and bool(self._pages)
        answer = self.history.add_answer({**answer, 'has_picture': has_picture})
        for page in self._pages:
            page.outbox.put({'type': 'answer', 'answer': answer})

    def on_answer_picture(self, stamp: str, jpeg: bytes) -> None:
        """Tell all pages that an answer has its picture."""
        answer = self.history.add_picture(stamp, jpeg)
        if answer is not None:
            for page in self._pages:
                page.outbox.put({'type': 'answer', 'answer': answer})

    def on_live_picture(self, camera: str, jpeg: bytes) -> None:
        """Pass the picture of now on to those who look at this camera."""
        for page in self._pages:
            if page.looks_at == camera:
                page.outbox.put_latest('live', jpeg)

    def on_latest(self, kind: str, message: dict[str, Any]) -> None:
        """Pass the state of something on to all pages."""
        self._state[kind] = {'type': kind, **message}
        for page in self._pages:
            page.outbox.put_latest(kind, self._state[kind])

    def _follow_looks(self) -> None:
        cameras = {page.looks_at for page in self._pages if page.looks_at is not None}
        self._robot.show_pictures(cameras, bool(self._pages))


class Page:
    """One open page: takes its requests and fills its outbox."""

    def __init__(self, robot: Robot, on_look: Callable[[], None]) -> None:
        self.outbox = Outbox()
        self.looks_at: str | None = ''  # the name of a camera
        self._robot, self._on_look = robot, on_look
        self._asked: dict[int, asyncio.Event] = {}
        self._tasks = _Tasks()

    def receive(self, text: str) -> None:
        """Take a message; what is wrong with it is told to the page."""
        try:
            request = parse_request(text)
        except ValueError as error:
            self._reply(find_id(text), error=str(error))
            return
        if isinstance(request, LiveRequest):
            self.looks_at = request.camera if request.on else None
            self.outbox.forget('live')
            self._on_look()
            self._reply(request.request_id)
        elif isinstance(request, CancelRequest):
            if request.asked in self._asked:
                self._asked[request.asked].set()
            self._reply(request.request_id)
        elif len(self._tasks) >= MAX_OPEN_REQUESTS:
            self._reply(
                request.request_id, error=f'{MAX_OPEN_REQUESTS} requests are open: wait for one')
        elif request.request_id in self._asked:
            self._reply(
                request.request_id, error='a question of this id is open: give another one')
        else:
            self._tasks.start(self._work(request))

    async def _work(self, request: Request) -> None:
        try:
            self._reply(request.request_id, **await self._do(request))
        except RobotError as error:
            self._reply(request.request_id, error=str(error))
        except Exception as error:  # noqa: B902  the page lives on
            _LOGGER.exception('a request of a page failed')
            self._reply(request.request_id, error=f'{type(error).__name__}: {error}')

    async def _do(self, request: Request) -> dict[str, Any]:
        if isinstance(request, AskRequest):
            return {'answer': await self._ask(request)}
        if isinstance(request, WatchRequest):
            return {'watch_id': await self._robot.watch(request)}
        if isinstance(request, UnwatchRequest):
            await self._robot.unwatch(request.watch_id)
        elif isinstance(request, SetRequest):
            await self._robot.set_parameter(request)
        return {}

    async def _ask(self, request: AskRequest) -> dict[str, Any]:
        kind = f'text {request.request_id}'

        def show(text: str) -> None:
            self.outbox.put_latest(kind, {'type': 'text', 'id': request.request_id, 'text': text})

        cancelled = self._asked[request.request_id] = asyncio.Event()
        try:
            return await self._robot.ask(request, show, cancelled)
        finally:
            del self._asked[request.request_id]
            self.outbox.forget(kind)

    def _reply(self, request_id: int | None, *, error: str = '', **results: Any) -> None:
        self.outbox.put({
            'type': 'reply', 'id': request_id, 'ok': not error, 'error': error, **results})


class _Tasks:
    """What goes on in the background, to its end, whatever becomes of the page."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
