"""Standing questions: set up, ended and listed over the services of ``vlm_node``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from epvlm_interfaces.msg import Query, StandingQuestion
from epvlm_interfaces.srv import ListWatches, Unwatch, Watch
from epvlm_ros.ui.calls import call
from epvlm_ros.ui.requests import CONDITIONS, WatchRequest
from epvlm_ros.ui.robot import RobotError
from rclpy.node import Node
from sensor_msgs.msg import RegionOfInterest


class Watches:
    """Clients of the three services, below the namespace of ``node``."""

    def __init__(self, node: Node) -> None:
        self._watch: Any = node.create_client(Watch, 'watch')
        self._unwatch: Any = node.create_client(Unwatch, 'unwatch')
        self._list: Any = node.create_client(ListWatches, 'list_watches')

    async def watch(self, request: WatchRequest) -> str:
        """Set up a standing question and return its id."""
        left, top, width, height = request.region
        response = await call(self._watch, Watch.Request(watch=StandingQuestion(
            query=Query(**asdict(request.question)),
            condition=CONDITIONS.index(request.condition), level=request.level,
            interval=request.interval, min_gap=request.min_gap, max_rate=request.max_rate,
            region=RegionOfInterest(
                x_offset=left, y_offset=top, width=width, height=height))))
        if not response.success:
            raise RobotError(response.message or 'the node refused the watch')
        return response.watch_id

    async def unwatch(self, watch_id: str) -> None:
        """End a standing question."""
        response = await call(self._unwatch, Unwatch.Request(watch_id=watch_id))
        if not response.success:
            raise RobotError(response.message or f'the node refused to end watch {watch_id}')

    async def list(self) -> dict[str, Any]:  # noqa: A003
        """Return all standing questions as objects of JSON, or why there are none."""
        try:
            response = await call(self._list, ListWatches.Request())
        except RobotError as error:
            return {'fault': str(error), 'watches': []}
        return {'fault': '', 'watches': [
            {**_to_json(item), 'asked': asked, 'held_back': held_back}
            for item, asked, held_back in zip(
                response.watches, response.asked, response.held_back)]}


def _to_json(item: StandingQuestion) -> dict[str, Any]:
    known = item.condition < len(CONDITIONS)
    region = item.region
    return {
        'watch_id': item.watch_id, 'question': item.query.question, 'camera': item.query.camera,
        'choices': list(item.query.choices),
        'condition': CONDITIONS[item.condition] if known else f'condition {item.condition}',
        'level': item.level, 'interval': item.interval, 'min_gap': item.min_gap,
        'max_rate': item.max_rate,
        'region': [region.x_offset, region.y_offset, region.width, region.height]}
