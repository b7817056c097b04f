"""What the numbers of packets tell: which were lost, which come late, and a new beginning."""

from __future__ import annotations

from dataclasses import dataclass

# A number further back than this is that of a driver that started again, not of a late packet.
_MAX_REORDERED_PACKETS = 16


@dataclass
class StreamCounters:
    """What happened to the packets of a stream since its start."""

    num_packets: int = 0
    num_bytes: int = 0  # of payload
    num_events: int = 0  # before filters, and without those of shed packets
    num_bad_packets: int = 0  # of unknown encoding or size, or of another than those before
    num_lost_packets: int = 0  # by their numbers
    num_reordered_packets: int = 0  # came after one of a higher number, counted as lost before
    num_shed_packets: int = 0  # only their times were read
    num_resets: int = 0  # the sensor or time itself started anew
    num_change_epochs: int = 0  # of the change score
    num_change_doubts: int = 0  # the same as in the scores, of all epochs


class PacketOrder:
    """
    Follows the numbers of packets; ``counters`` is counted up in place.

    ``after_loss`` is set by the first packet after lost ones; the caller clears it.
    """

    def __init__(self, counters: StreamCounters) -> None:
        self._counters = counters
        self.reset()

    def reset(self) -> None:
        """Forget all numbers."""
        self._last: int | None = None
        self.after_loss = False

    def has_restarted(self, number: int) -> bool:
        """Return whether a number is that of a driver that started again."""
        return self._last is not None and number < self._last - _MAX_REORDERED_PACKETS

    def take(self, number: int) -> bool:
        """Count lost packets, and return whether this one comes after one of a higher number."""
        last = self._last
        if last is not None and number < last:
            self._counters.num_reordered_packets += 1
            return True
        if last is not None and number > last + 1:
            self._counters.num_lost_packets += number - last - 1
            self.after_loss = True
        self._last = number
        return False
