"""A queue in which lanes take turns."""

from __future__ import annotations

from collections import deque, OrderedDict
from collections.abc import Iterator
from itertools import chain
from typing import Generic, TypeVar

Item = TypeVar('Item')


class FairQueue(Generic[Item]):
    """
    Items in lanes: the first of each lane in turn, so that no lane waits for a longer one.

    A lane that was served goes behind all others that wait.
    """

    def __init__(self) -> None:
        self._lanes: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(self._lanes.values())

    def length_of(self, lane: str) -> int:
        """Return how many items wait in a lane."""
        return len(self._lanes.get(lane, ()))

    def append(self, item: Item, lane: str) -> None:
        """Put an item at the end of a lane."""
        self._lanes.setdefault(lane, deque()).append(item)

    def popleft(self) -> Item:
        """Take the item whose turn it is; an IndexError if there is none."""
        if not self._lanes:
            raise IndexError('the queue is empty')
        lane, items = self._lanes.popitem(last=False)
        item = items.popleft()
        if items:
            self._lanes[lane] = items
        return item

    def remove(self, item: Item) -> bool:
        """Take an item out; False if it is not there."""
        for lane, items in self._lanes.items():
            for place, waiting in enumerate(items):
                if waiting is item:
                    del items[place]
                    if not items:
                        del self._lanes[lane]
                    return True
        return False

    def drain(self) -> list[Item]:
        """Take all items out, in their turns."""
        drained = []
        while self._lanes:
            drained.append(self.popleft())
        return drained
