"""The overlay image of an answer: frame, event activity, kept tokens, caption."""

from __future__ import annotations

import unicodedata

import cv2
from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np

MIN_WIDTH_PX = 640  # smaller frames are enlarged, so that the caption can be read
MIN_HEIGHT_PX = 360
MIN_CAPTION_WIDTH_PX = 320  # narrower pictures are widened, in the colour of the caption
DROPPED_BRIGHTNESS = 0.34
DROPPED_COLOUR = 0.35  # share of its colour that a dropped token keeps
HEAT_OPACITY = 0.85
FULL_HEAT_PERCENTILE = 99.0  # of the active cells: one hot pixel must not dim all others
FRAME_RGB = (64, 224, 208)
OLD_RGB = (148, 64, 255)  # a token of OLD_S seconds or more
OLD_S = 60.0
AGE_OPACITY = 0.35
CAPTION_RGB = (18, 20, 24)
QUESTION_RGB = (170, 178, 189)
ANSWER_RGB = (255, 255, 255)
FONT = cv2.FONT_HERSHEY_DUPLEX
MAX_LINES = 3  # of question and of answer; longer text ends in dots


def draw_overlay(
    image_rgb: np.ndarray,
    activity: ActivityGrid | None,
    kept_indices: np.ndarray,
    grid: PatchGrid,
    *,
    ages_s: np.ndarray | None = None,
    question: str = '',
    answer: str = '',
) -> np.ndarray:
    """
    Draw the frame with its events as heat, kept tokens framed and dropped ones darkened.

    Of a scene in memory, the tokens that were just computed are framed and the others tinted the
    more, the older they are.

    Parameters
    ----------
    image_rgb : numpy.ndarray
        uint8, shape (height, width, 3), red first; not changed.
    activity : ActivityGrid or None
        Of the frame; None draws no heat.
    kept_indices : numpy.ndarray
        int64, may be empty.
    grid : PatchGrid
        The tokens of the image.
    ages_s : numpy.ndarray, optional
        Of a scene in memory: float, shape (tokens,), the age of each token in seconds.
    question, answer : str
        The caption; letters that the font lacks become '?', empty text is left out.

    Returns
    -------
    numpy.ndarray
        uint8, red first: the image, enlarged by a whole number if it is small, with the
        caption below.

    Raises
    ------
    ValueError
        If grid or activity are about an image of another size, or an index is out of range.

    """
    height, width = image_rgb.shape[:2]
    for name, item in (('grid', grid), ('activity', activity)):
        if item is not None and (item.image_height, item.image_width) != (height, width):
            raise ValueError(
                f'the {name} is about an image of {item.image_width} x {item.image_height} '
                f'pixels, not of {width} x {height}: give the {name} of this image')
    if np.any((kept_indices < 0) | (kept_indices >= grid.num_tokens)):
        raise ValueError(f'kept_indices: give indices of {grid.num_tokens} tokens')
    kept_mask = np.zeros((grid.rows, grid.cols), dtype=bool)
    kept_mask.flat[kept_indices] = True
    scale = max(1, -(-MIN_WIDTH_PX // width), -(-MIN_HEIGHT_PX // height))
    scale = min(scale, max(1, 2 * MIN_WIDTH_PX // max(height, width)))  # long images stay small
    picture = cv2.resize(image_rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    picture = _darken(picture, kept_mask)
    budget = f'kept {int(kept_mask.sum())} of {grid.num_tokens} tokens'
    if ages_s is not None:
        ages = np.where(kept_mask, ages_s.reshape(kept_mask.shape), 0.0)
        picture = _tint_by_age(picture, ages)
        kept_mask &= ages <= 0.0
        budget = (f'{int(kept_mask.sum())} of {grid.num_tokens} tokens are new, the oldest is '
                  f'{ages.max():.1f} s old')
    if activity is not None:
        picture = add_heat(picture, activity)
    _frame(picture, kept_mask)
    picture = cv2.copyMakeBorder(
        picture, 0, 0, 0, max(0, MIN_CAPTION_WIDTH_PX - picture.shape[1]), cv2.BORDER_CONSTANT,
        value=CAPTION_RGB)
    return np.vstack([picture, _caption(picture.shape[1], question, answer, budget)])


def _edges(length_px: int, num_tokens: int) -> np.ndarray:
    return np.round(np.arange(num_tokens + 1) * (length_px / num_tokens)).astype(int)


def _darken(picture: np.ndarray, kept_mask: np.ndarray) -> np.ndarray:
    """Take light and colour from dropped tokens."""
    is_kept = _spread(kept_mask, picture)
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    faded = cv2.addWeighted(picture, DROPPED_COLOUR, grey, 1 - DROPPED_COLOUR, 0)
    faded = cv2.convertScaleAbs(faded, alpha=DROPPED_BRIGHTNESS)
    return np.where(is_kept[..., None], picture, faded)


def _tint_by_age(picture: np.ndarray, ages_s: np.ndarray) -> np.ndarray:
    """Lay a colour over tokens, on a logarithmic scale of their age."""
    level = np.clip(np.log1p(ages_s) / np.log1p(OLD_S), 0, 1).astype(np.float32)
    opacity = AGE_OPACITY * _spread(level, picture)[..., None]
    return (picture * (1 - opacity) + np.array(OLD_RGB) * opacity).astype(np.uint8)


def _spread(of_tokens: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Return the value of the token of each pixel, (height, width)."""
    rows, cols = (np.repeat(np.arange(count), np.diff(_edges(length, count)))
                  for count, length in zip(of_tokens.shape, picture.shape))
    return of_tokens[rows[:, None], cols[None]]


def add_heat(picture: np.ndarray, activity: ActivityGrid) -> np.ndarray:
    """Lay event counts over the picture, on a logarithmic scale, clear where there are none."""
    active = activity.counts[activity.counts > 0]
    if active.size == 0:
        return picture
    full = np.log1p(np.percentile(active, FULL_HEAT_PERCENTILE))
    level = np.clip(np.log1p(activity.counts) / full, 0, 1).astype(np.float32)
    # the last cells may reach beyond the image: enlarge whole cells, then cut
    scale = picture.shape[1] / activity.image_width
    cell_px = activity.cell_size_px * scale
    size = (round(level.shape[1] * cell_px), round(level.shape[0] * cell_px))
    level = cv2.resize(level, size, interpolation=cv2.INTER_LINEAR)
    level = level[:picture.shape[0], :picture.shape[1]]
    heat = cv2.applyColorMap((255 * (0.4 + 0.5 * level)).astype(np.uint8), cv2.COLORMAP_INFERNO)
    opacity = (HEAT_OPACITY * level ** 1.3)[..., None]  # noise stays in the background
    blended = picture * (1 - opacity) + cv2.cvtColor(heat, cv2.COLOR_BGR2RGB) * opacity
    return blended.astype(np.uint8)


def _frame(picture: np.ndarray, kept_mask: np.ndarray) -> None:
    """Draw faint lines between kept tokens and a bright one around each group of them."""
    height, width = picture.shape[:2]
    rows, cols = kept_mask.shape
    down, right = _edges(height, rows), _edges(width, cols)
    thickness = max(1, round(min(height, width) / 360))
    padded = np.pad(kept_mask, 1)
    inner = picture.copy()
    for row, col in zip(*np.nonzero(kept_mask)):
        corner = (int(right[col]), int(down[row]))
        cv2.rectangle(inner, corner, (int(right[col + 1]), int(down[row + 1])), FRAME_RGB, 1)
    cv2.addWeighted(inner, 0.3, picture, 0.7, 0, dst=picture)
    for row, col in zip(*np.nonzero(kept_mask)):
        top, bottom = int(down[row]), int(min(down[row + 1], height - 1))
        left, far = int(right[col]), int(min(right[col + 1], width - 1))
        neighbours = padded[row:row + 3, col:col + 3]
        for is_kept, start, end in (
            (neighbours[0, 1], (left, top), (far, top)),
            (neighbours[2, 1], (left, bottom), (far, bottom)),
            (neighbours[1, 0], (left, top), (left, bottom)),
            (neighbours[1, 2], (far, top), (far, bottom)),
        ):
            if not is_kept:
                cv2.line(picture, start, end, FRAME_RGB, thickness)


def _caption(width: int, question: str, answer: str, budget: str) -> np.ndarray:
    """Return a bar with the question and the budget, and the answer below them."""
    scale = float(np.clip(width / 1100, 0.55, 1.6))
    line_height, margin = round(38 * scale), round(22 * scale)
    budget_width = _text_width(budget, scale * 0.8)
    question_width = width - 3 * margin - budget_width
    is_narrow = question_width < width // 3  # the budget then takes a line of its own
    lines = [
        (line, scale * 0.8, QUESTION_RGB) for line in _wrap(
            question, scale * 0.8, width - 2 * margin if is_narrow else question_width)]
    lines += [(line, scale, ANSWER_RGB) for line in _wrap(answer, scale, width - 2 * margin)]
    if is_narrow or not lines:
        lines.insert(0, (budget if is_narrow else '', scale * 0.8, FRAME_RGB))
    bar = np.empty((len(lines) * line_height + margin, width, 3), dtype=np.uint8)
    bar[:] = CAPTION_RGB
    for index, (line, size, colour) in enumerate(lines):
        _write(bar, line, margin, (index + 1) * line_height, size, colour)
    if not is_narrow:
        _write(bar, budget, width - margin - budget_width, line_height, scale * 0.8, FRAME_RGB)
    return bar


def _write(
    bar: np.ndarray, text: str, left: int, base: int, scale: float, colour: tuple[int, int, int],
) -> None:
    cv2.putText(bar, text, (left, base), FONT, scale, colour, 1 + round(scale / 2.4), cv2.LINE_AA)


def _text_width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, FONT, scale, 1 + round(scale / 2.4))[0][0]


def _wrap(text: str, scale: float, width: int) -> list[str]:
    """Break text into at most ``MAX_LINES`` lines of letters that the font has."""
    plain = unicodedata.normalize('NFKD', text)
    plain = ''.join(letter for letter in plain if not unicodedata.combining(letter))
    plain = plain.encode('ascii', 'replace').decode('ascii')
    lines: list[str] = []
    for word in plain.split():
        longer = f'{lines[-1]} {word}' if lines else word
        if lines and _text_width(longer, scale) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    is_cut = len(lines) > MAX_LINES
    lines = [_shorten(line, scale, width, False) for line in lines[:MAX_LINES]]
    if is_cut:
        lines[-1] = _shorten(lines[-1], scale, width, True)
    return lines


def _shorten(line: str, scale: float, width: int, is_cut: bool) -> str:
    """Cut a line to the width; dots say that something is missing."""
    dots = '...' if is_cut else ''
    while line and _text_width(line + dots, scale) > width:
        line, dots = line[:-1], '...'
    return line + dots
