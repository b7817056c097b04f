"""Patches of some tokens: bit for bit those that the image processor cuts out of the whole."""

from epvlm_ros.vlm.patch_cutter import find_weights, PatchCutter
from epvlm_ros.vlm.patch_grid import PatchGeometry
import numpy as np
from PIL import Image
import pytest
import torch
from transformers import Qwen2VLImageProcessorPil

BOUNDS = {'shortest_edge': 32 * 784, 'longest_edge': 200 * 784}


def make(seed, height, width, **options):
    processor = Qwen2VLImageProcessorPil(size=BOUNDS, **options)
    geometry = PatchGeometry(
        processor.patch_size, processor.merge_size, *BOUNDS.values())
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[:height // 3] = image[:height // 3] // 128 * 255  # steps overshoot: values are clipped
    whole = processor(images=[image], input_data_format='channels_last', return_tensors='pt')
    return processor, image, geometry.grid(height, width), whole['pixel_values']


@pytest.mark.parametrize('height, width', [
    (480, 640), (1081, 1920), (61, 29), (100, 90), (224, 224), (28, 5000), (196, 333)])
@pytest.mark.parametrize('options', [
    {}, {'patch_size': 16, 'image_mean': [0.5] * 3, 'image_std': [0.5] * 3},
    {'temporal_patch_size': 1, 'merge_size': 1, 'do_normalize': False}])
def test_they_are_those_of_the_image_processor(height, width, options):
    processor, image, grid, whole = make(height, height, width, **options)
    cutter = PatchCutter(processor)
    everything = np.arange(grid.num_tokens)
    assert torch.equal(cutter.cut(image, grid, everything), whole)
    some = np.sort(np.random.default_rng(1).permutation(everything)[:grid.num_tokens // 9 + 1])
    cut = cutter.cut(image, grid, some)
    assert cut.shape == whole.shape
    by_token = (grid.num_tokens, -1, whole.shape[1])
    assert torch.equal(cut.reshape(by_token)[some], whole.reshape(by_token)[some])


def test_no_token_and_an_image_that_cannot_be_written():
    processor, image, grid, whole = make(3, 100, 200)
    assert PatchCutter(processor).cut(image, grid, np.zeros(0, np.int64)).shape == whole.shape
    image.setflags(write=False)
    one = PatchCutter(processor).cut(np.ascontiguousarray(image)[:, :, :], grid, np.array([5]))
    assert torch.equal(one[20:24], whole[20:24])


def test_another_filter_cuts_the_whole_picture():
    processor, image, grid, whole = make(4, 100, 200, resample=Image.Resampling.BILINEAR)
    assert torch.equal(PatchCutter(processor).cut(image, grid, np.array([5])), whole)


def test_an_image_of_another_size_is_refused():
    processor, image, grid, _ = make(5, 100, 200)
    with pytest.raises(ValueError, match='give the tokens of this image'):
        PatchCutter(processor).cut(image[1:], grid, np.array([0]))


def test_halving_weighs_by_the_bicubic_filter():
    # between pixels 2 and 3 of 8: the filter at distances 0.25, 0.75, ... of 4 pixels either side
    starts, weights = find_weights(8, 4)
    at = {0.25: 0.8671875, 0.75: 0.2265625, 1.25: -0.0703125, 1.75: -0.0234375}
    whole = dict(enumerate(weights[1] / 2 ** 22, starts[1]))
    shares = [whole.get(pixel, 0.0) for pixel in range(7)]
    expected = [at[1.25], at[0.75], at[0.25], at[0.25], at[0.75], at[1.25], at[1.75]]
    assert shares == pytest.approx(np.divide(expected, sum(expected)), abs=1e-6)


def test_weights_that_pillow_does_not_have_are_not_used(monkeypatch):
    monkeypatch.setattr('epvlm_ros.vlm.patch_cutter._SHARPNESS', -0.75)  # OpenCV's
    find_weights.cache_clear()
    assert find_weights(100, 56) is None
    find_weights.cache_clear()
