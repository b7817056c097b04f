"""A camera beside an event camera, for soaks: pictures of which any share changes, and scores."""

from __future__ import annotations

from epvlm_ros.activity_grid import grid_shape
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.vlm.engine import Moment
import numpy as np
from vlm_models import GRIDS

IMAGES = ('640x480', '1280x720', '1920x1080')
CELL_PX = 4
FRAME_NS = 33_000_000


class Stream:
    """A camera beside an event camera: pictures, and what the events say has changed."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random, self._number, self._epoch = random, 0, 0
        self._begin(IMAGES[0])

    @property
    def is_largest(self) -> bool:
        """Whether pictures are of the largest size."""
        return self._image == IMAGES[-1]

    def change_size(self) -> None:
        """Go on with pictures of the next size."""
        self._begin(IMAGES[(IMAGES.index(self._image) + 1) % len(IMAGES)])

    def go_back(self) -> None:
        """Let time start anew, as a recording that is played in a loop."""
        self._now_ns = 0

    def begin_epoch(self) -> None:
        """Let the scores start anew, as with another node that counts."""
        self._epoch, self._num_doubts = self._epoch + 1, 0
        self._scores[:] = 0

    def lose_packets(self) -> None:
        """Change something of which no event arrives, but that some were lost."""
        self.change(0.05, is_seen=False)
        self._num_doubts += 1

    def move_camera(self) -> None:
        """Show something else everywhere."""
        height, width = self._size
        coarse = self._random.integers(40, 200, (-(-height // 8), -(-width // 8), 3), np.uint8)
        self._picture = np.repeat(np.repeat(coarse, 8, 0), 8, 1)[:height, :width].copy()
        self._scores += 2

    def change(self, share: float, *, is_seen: bool = True) -> None:
        """Change a share of the tokens, each in all cells that lie within it."""
        rows, cols = GRIDS[self._image]
        for place in self._random.choice(rows * cols, round(share * rows * cols), replace=False):
            row, col = divmod(int(place), cols)
            row_cells = _cells_within(row, self._size[0] / rows)
            col_cells = _cells_within(col, self._size[1] / cols)
            self._picture[_pixels(row_cells), _pixels(col_cells)] = \
                self._random.integers(40, 200, 3)
            if is_seen:
                self._scores[row_cells, col_cells] += 2

    def next_moment(self) -> Moment:
        """Return the next frame."""
        self._number += 1
        self._now_ns += FRAME_NS
        score = ChangeScore(
            self._scores.copy(), CELL_PX, *self._size, self._epoch, self._num_doubts)
        return Moment(self._picture.copy(), None, self._number, self._now_ns, score, 'camera')

    def _begin(self, image: str) -> None:
        width, height = map(int, image.split('x'))
        self._image, self._size = image, (height, width)
        self._scores = np.zeros(grid_shape(height, width, CELL_PX), np.uint16)
        self.begin_epoch()
        self.go_back()
        self.move_camera()


def _cells_within(place: int, length_px: float) -> slice:
    """Return the cells between both edges of a token, along one side."""
    return slice(-int(-place * length_px // CELL_PX), int((place + 1) * length_px // CELL_PX))


def _pixels(cells: slice) -> slice:
    return slice(CELL_PX * cells.start, CELL_PX * cells.stop)
