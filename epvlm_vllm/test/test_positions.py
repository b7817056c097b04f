"""Positions of sparse prompts, by hand."""

from types import SimpleNamespace

from epvlm_vllm.models import SparseQwen2VLForConditionalGeneration
from epvlm_vllm.positions import make_dense
import pytest
import torch
from vllm.multimodal.inputs import (
    MultiModalFeatureSpec, MultiModalFieldElem, MultiModalKwargsItem, PlaceholderRange)

IMAGE, VIDEO = 7, 8


def make_feature(modality, offset, length, rows, cols, kept=None):
    """Return an image or video of so many tokens, as vLLM does."""
    values = {f'{modality}_grid_thw': torch.tensor([1, 2 * rows, 2 * cols])}
    if kept is not None:
        values['kept_indices'] = torch.tensor(kept)
    data = MultiModalKwargsItem({
        key: MultiModalFieldElem(data=value, field=None) for key, value in values.items()})
    return MultiModalFeatureSpec(
        data, modality, 'hash', PlaceholderRange(offset=offset, length=length))


def test_the_dense_prompt_of_two_images_and_a_video():
    token_ids = [1, IMAGE, IMAGE, 2, VIDEO, VIDEO, 3, IMAGE, 4]
    features = [
        make_feature('image', 7, 1, 1, 2, kept=[1]), make_feature('video', 4, 2, 1, 2),
        make_feature('image', 1, 2, 2, 2, kept=[0, 3])]
    dense_ids, dense_features, is_kept = make_dense(token_ids, features, merge_size=2)
    assert dense_ids == [1, *[IMAGE] * 4, 2, VIDEO, VIDEO, 3, IMAGE, IMAGE, 4]
    assert is_kept.astype(int).tolist() == [1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1]
    assert [(feature.mm_position.offset, feature.mm_position.length)
            for feature in dense_features] == [(1, 4), (6, 2), (9, 2)]


@pytest.fixture
def model():
    """Return a model without weights: positions need none."""
    model = SparseQwen2VLForConditionalGeneration.__new__(SparseQwen2VLForConditionalGeneration)
    torch.nn.Module.__init__(model)
    model.config = SimpleNamespace(vision_config=SimpleNamespace(spatial_merge_size=2))
    return model


def test_kept_tokens_have_their_rows_and_columns_and_text_starts_as_in_the_dense_prompt(model):
    # text, two tokens of an image of 2 x 3, text, one of an image of 3 x 1, two tokens of text
    token_ids = [1, 2, IMAGE, IMAGE, 3, IMAGE, 4, 5]
    features = [
        make_feature('image', 2, 2, 2, 3, kept=[2, 3]),
        make_feature('image', 5, 1, 3, 1, kept=[1])]
    positions, offset = model.get_mrope_input_positions(token_ids, features)
    # the first image begins at 2 and is 3 wide: text goes on at 5; the second begins at 6 and is
    # 3 high: text goes on at 9
    assert positions.tolist() == [
        [0, 1, 2, 2, 5, 6, 9, 10],
        [0, 1, 2, 3, 5, 7, 9, 10],
        [0, 1, 4, 2, 5, 6, 9, 10]]
    assert len(token_ids) + offset == 11  # where the answer begins


def test_text_alone_has_its_own_positions(model):
    positions, offset = model.get_mrope_input_positions([4, 5, 6], [])
    assert positions.tolist() == [[0, 1, 2]] * 3 and offset == 0
