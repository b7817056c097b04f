"""Pictures for a server: kept tokens as in the JPEG of the whole picture, little else."""

from io import BytesIO

from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.remote.picture import encode_picture
import numpy as np
from PIL import Image
import pytest

ALL_28 = PatchGeometry(14, 2, 28 * 28, 28 * 28 * 1000)
ALL_32 = PatchGeometry(16, 2, 32 * 32, 32 * 32 * 1000)


def decode(encoded):
    return np.asarray(Image.open(BytesIO(encoded)))


def make_image(height, width):
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height)))


@pytest.mark.parametrize('geometry', [ALL_28, ALL_32])
@pytest.mark.parametrize('kept', [[0], [7, 8, 13], [3, 30, 53]])
def test_pixels_of_kept_tokens_are_those_of_the_whole_jpeg(geometry, kept):
    image = make_image(170, 250)
    grid = geometry.grid(170, 250)
    assert grid.num_tokens >= 40
    kept = np.array([index for index in kept if index < grid.num_tokens])
    whole = decode(encode_picture(image, grid, np.arange(grid.num_tokens), 90))
    part = decode(encode_picture(image, grid, kept, 90))
    assert whole.shape == part.shape == (grid.resized_height, grid.resized_width, 3)
    side = grid.token_size_px
    for index in kept:
        top, left = index // grid.cols * side, index % grid.cols * side
        assert np.array_equal(
            whole[top:top + side, left:left + side], part[top:top + side, left:left + side])


def test_what_no_kept_token_touches_is_grey():
    grid = ALL_28.grid(168, 252)
    sent = decode(encode_picture(make_image(168, 252), grid, np.array([0]), 90)).astype(int)
    assert np.abs(sent[32:] - 128).max() <= 1 and np.abs(sent[:28, :28] - 128).max() > 40


def test_dropped_tokens_take_hardly_a_byte():
    image = make_image(480, 640)
    grid = ALL_28.grid(480, 640)
    whole = len(encode_picture(image, grid, np.arange(grid.num_tokens), 90))
    tenth = len(encode_picture(image, grid, np.arange(0, grid.num_tokens, 10), 90))
    assert tenth < 0.35 * whole


def test_the_picture_is_resized_as_pillow_does_it():
    image = make_image(170, 250)
    grid = ALL_28.grid(170, 250)
    sent = decode(encode_picture(image, grid, np.arange(grid.num_tokens), 100)).astype(int)
    wanted = np.asarray(Image.fromarray(image).resize(
        (grid.resized_width, grid.resized_height), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(sent - wanted).mean() < 1.0


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match='give the tokens of this image'):
        encode_picture(make_image(64, 64), ALL_28.grid(128, 64), np.array([0]), 90)
