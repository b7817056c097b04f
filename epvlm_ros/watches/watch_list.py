"""All standing questions of a node, bounded in number, kept in a file if there is one."""

from __future__ import annotations

from collections.abc import Iterator

from epvlm_ros.watches.standing_question import StandingQuestion
from epvlm_ros.watches.watch import Watch
from epvlm_ros.watches.watch_file import WatchFile


class WatchList:
    """Standing questions in the order of their set-up; counts go on when one is ended."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}
        self._file: WatchFile | None = None
        self._ended = [0, 0, 0]

    def __iter__(self) -> Iterator[Watch]:
        return iter(list(self._watches.values()))

    def __len__(self) -> int:
        return len(self._watches)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return how often any was asked, held back and found busy, since the start."""
        asked, held_back, busy = self._ended
        for watch in self._watches.values():
            asked, held_back, busy = (
                asked + watch.num_asked, held_back + watch.num_held_back, busy + watch.num_busy)
        return asked, held_back, busy

    def load(self, file: WatchFile) -> str:
        """
        Take the standing questions of a file, in place of those there are, and keep it from now.

        Returns a line about a file that cannot be used; a ValueError if it has to stop.
        """
        questions, warning = file.read()
        for watch in self:
            self._end(watch)
        self._watches = {standing.watch_id: Watch(standing) for standing in questions}
        self._file = file
        return warning

    def make_id(self) -> str:
        """Return an id that none has."""
        number = 1
        while f'watch-{number}' in self._watches:
            number += 1
        return f'watch-{number}'

    def find(self, watch_id: str) -> Watch:
        """Return the watch of an id; a ValueError if there is none."""
        if watch_id not in self._watches:
            raise ValueError(f'there is no watch {watch_id!r}: list_watches lists those there are')
        return self._watches[watch_id]

    def add(self, standing: StandingQuestion, limit: int) -> Watch | None:
        """
        Set one up, and return the watch that it replaces.

        Raises
        ------
        ValueError
            If there are ``limit`` already, or the file cannot be written; nothing changes then.

        """
        before = self._watches.get(standing.watch_id)
        if before is None and len(self._watches) >= limit:
            raise ValueError(
                f'there are {len(self._watches)} watches, max_watches is {limit}: end one by '
                'unwatch, or raise it')
        watches = {**self._watches, standing.watch_id: Watch(standing)}
        self._keep(watches)
        if before is not None:
            self._end(before)
        return before

    def remove(self, watch_id: str) -> Watch:
        """End one and return it; a ValueError as ``find`` and ``add``."""
        watch = self.find(watch_id)
        self._keep({key: value for key, value in self._watches.items() if key != watch_id})
        self._end(watch)
        return watch

    def _keep(self, watches: dict[str, Watch]) -> None:
        if self._file is not None:
            self._file.write([watch.standing for watch in watches.values()])
        self._watches = watches

    def _end(self, watch: Watch) -> None:
        for index, count in enumerate((watch.num_asked, watch.num_held_back, watch.num_busy)):
            self._ended[index] += count
