"""The size of the images of a stream of frames: a few of another size do not change it."""

from __future__ import annotations

# So many frames of another size in a row are a new resolution; fewer are of another camera. A size
# that was itself seen less often gives way as soon.
_MAX_FOREIGN_FRAMES = 8


class ImageSize:
    """
    Tells frames of a new resolution from those of another camera on the same topic.

    ``size`` is the height and width of the images in pixels, None before the first frame.
    """

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        self._num_seen = 0
        self._foreign_size: tuple[int, int] | None = None
        self._num_foreign = 0  # of that size, since the last frame of the right one

    def take(self, size: tuple[int, int]) -> bool:
        """Take the size of the next frame; return whether it is, or has become, the right one."""
        if size == self.size:
            self._num_seen += 1
            self._foreign_size = None
            return True
        if size != self._foreign_size:
            self._foreign_size, self._num_foreign = size, 0
        self._num_foreign += 1
        if self._num_foreign < min(self._num_seen, _MAX_FOREIGN_FRAMES):
            return False
        self.size, self._num_seen, self._foreign_size = size, self._num_foreign, None
        return True
