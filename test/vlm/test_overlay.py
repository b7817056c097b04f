"""The overlay picture, pixel by pixel where that says something."""

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm.overlay import CAPTION_RGB, draw_overlay, FRAME_RGB, QUESTION_RGB
from epvlm_ros.vlm.patch_grid import PatchGeometry
import numpy as np
import pytest

HEIGHT, WIDTH = 360, 640  # drawn at its own size
GRID = PatchGeometry(10, 4, 1600, 640 * 360).grid(HEIGHT, WIDTH)  # 9 x 16 tokens of 40 px
NOTHING = np.array([], dtype=np.int64)


def make_activity(*busy_cells: tuple[int, int]) -> ActivityGrid:
    counts = np.zeros((45, 80), dtype=np.float32)
    for cell in busy_cells:
        counts[cell] = 50.0
    return ActivityGrid(
        counts=counts, cell_size_px=8, image_height=HEIGHT, image_width=WIDTH,
        window_start_ns=0, window_end_ns=40_000_000)


@pytest.fixture(name='image')
def image_fixture() -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), (200, 120, 60), dtype=np.uint8)
    image.setflags(write=False)
    return image


def test_kept_tokens_stay_and_dropped_ones_darken(image: np.ndarray) -> None:
    picture = draw_overlay(image, None, np.array([0, 17, 143]), GRID)
    for row in range(9):
        for col in range(16):
            inside = picture[40 * row + 8:40 * row + 32, 40 * col + 8:40 * col + 32]
            if 16 * row + col in (0, 17, 143):
                assert np.all(inside == image[0, 0])
            else:
                assert inside.max() < 80 and inside.std(axis=2).max() < 20


def test_kept_tokens_are_framed(image: np.ndarray) -> None:
    picture = draw_overlay(image, None, np.array([16 + 2, 16 + 3]), GRID)  # a pair: 80 x 40 px
    is_frame = np.all(picture[:HEIGHT] == FRAME_RGB, axis=2)
    rows, cols = np.nonzero(is_frame)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (40, 80, 80, 160)
    assert is_frame[40, 80:161].all() and is_frame[80, 80:161].all()
    assert is_frame[40:81, 80].all() and is_frame[40:81, 160].all()
    assert not is_frame[45:76, 120].any()  # the line between the two is faint


def test_all_and_no_tokens(image: np.ndarray) -> None:
    everything = draw_overlay(image, None, np.arange(144), GRID)
    assert np.all(everything[8:32, 8:32] == image[0, 0])
    nothing = draw_overlay(image, None, NOTHING, GRID)
    assert nothing[:HEIGHT].max() < 80


def test_heat_lies_where_the_events_are(image: np.ndarray) -> None:
    plain = draw_overlay(image, None, NOTHING, GRID)
    heated = draw_overlay(image, make_activity((10, 20), (11, 20)), NOTHING, GRID)
    changed = np.abs(heated.astype(int) - plain)[:HEIGHT].max(axis=2)
    rows, cols = np.nonzero(changed > 8)
    # cells of 8 px at rows 80 to 96 and columns 160 to 168, softened by one cell
    assert 72 <= rows.min() <= 80 and 95 <= rows.max() < 104
    assert 152 <= cols.min() <= 160 and 167 <= cols.max() < 176
    assert changed[80:96, 160:168].min() > 20


def test_no_events_leave_the_frame_as_it_is(image: np.ndarray) -> None:
    plain = draw_overlay(image, None, NOTHING, GRID)
    assert np.array_equal(draw_overlay(image, make_activity(), NOTHING, GRID), plain)


@pytest.mark.parametrize('height, width, drawn', [
    (180, 240, (540, 720)), (336, 336, (672, 672)), (720, 1280, (720, 1280)),
    (28, 400, (84, 1200)), (400, 28, (1200, 320))])
def test_small_frames_are_enlarged(height: int, width: int, drawn: tuple[int, int]) -> None:
    grid = PatchGeometry(14, 2, 3136, 12845056).grid(height, width)
    counts = np.ones((-(-height // 5), -(-width // 5)), dtype=np.float32)
    activity = ActivityGrid(counts, 5, height, width, 0, 1)
    image_rgb = np.zeros((height, width, 3), dtype=np.uint8)
    picture = draw_overlay(image_rgb, activity, np.array([0]), grid, question='a', answer='b')
    assert picture.dtype == np.uint8 and picture.shape[1] == drawn[1]
    assert drawn[0] + 20 < picture.shape[0] < drawn[0] + 200


def test_the_caption_holds_the_texts_and_no_more(image: np.ndarray) -> None:
    def caption(question: str, answer: str) -> np.ndarray:
        return draw_overlay(
            image, None, NOTHING, GRID, question=question, answer=answer)[HEIGHT:]

    bars = [caption('', ''), caption('what moves?', ''), caption('what moves?', 'red circle')]
    assert bars[0].shape == bars[1].shape  # the budget is on the line of the question
    assert bars[2].shape[0] > bars[1].shape[0]
    assert not np.all(bars[0] == CAPTION_RGB)  # the budget is always there
    left = [bar[:, :WIDTH // 3] for bar in bars]
    assert np.all(left[0] == CAPTION_RGB)
    assert np.any(np.all(left[1] == QUESTION_RGB, axis=2))


def test_long_texts_are_cut_inside_the_bar(image: np.ndarray) -> None:
    long = draw_overlay(
        image, None, NOTHING, GRID, question='w' * 5000 + ' ?' * 5000, answer='many words ' * 900)
    longer = draw_overlay(
        image, None, NOTHING, GRID, question='w' * 9000 + ' ?' * 9000, answer='many words ' * 999)
    assert np.array_equal(long, longer)
    assert long.shape[0] < HEIGHT + 200
    assert np.all(long[HEIGHT:, :5] == CAPTION_RGB) and np.all(long[HEIGHT:, -5:] == CAPTION_RGB)


def test_letters_that_the_font_lacks_become_question_marks(image: np.ndarray) -> None:
    def caption(answer: str) -> np.ndarray:
        return draw_overlay(image, None, NOTHING, GRID, answer=answer)

    assert np.array_equal(caption('über 何!\n\tx'), caption('uber ?! x'))


def test_what_does_not_fit_is_refused(image: np.ndarray) -> None:
    other = PatchGeometry(14, 2, 3136, 12845056).grid(480, 640)
    with pytest.raises(ValueError, match='give the grid of this image'):
        draw_overlay(image, None, NOTHING, other)
    with pytest.raises(ValueError, match='give the activity of this image'):
        draw_overlay(image[:352], make_activity(), NOTHING, PatchGeometry(
            10, 4, 1600, 640 * 360).grid(352, WIDTH))
    for index in (-1, 144):
        with pytest.raises(ValueError, match='144 tokens'):
            draw_overlay(image, None, np.array([index]), GRID)
