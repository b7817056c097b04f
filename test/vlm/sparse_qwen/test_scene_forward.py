"""A scene in memory against the dense and the sparse run of the same model."""

from dataclasses import replace

from epvlm_ros.vlm.sparse_qwen import SparseQwenVl
import numpy as np
import pytest
from qwen_checkpoints import make_model, make_prompt_for, make_vision
from qwen_shapes import SHAPES
import torch

TOLERANCE = 1e-4
ROWS, COLS = 5, 9
NUM_TOKENS = ROWS * COLS
SOME = np.array([0, 7, 8, 20, 21, 33, 44])


@pytest.fixture(params=SHAPES, name='shape')
def shape_fixture(request):
    return request.param


@pytest.fixture(name='model')
def model_fixture(shape):
    return SparseQwenVl(make_model(shape))


@pytest.fixture(name='vision')
def vision_fixture(shape):
    return make_vision(ROWS, COLS, 1.0, shape=shape)


@pytest.fixture(name='prompt_ids')
def prompt_fixture(shape):
    return make_prompt_for(shape, NUM_TOKENS)


def ask(model, scene, prompt_ids):
    prefix = scene.snapshot()
    return model.extend(prefix, prefix.text_after(prompt_ids)).logits


def run(model, vision, prompt_ids):
    return model.prefill(prompt_ids, vision, model.encode(vision)).logits


def fill(model, vision, prompt_ids, attends_to_scene=True):
    forward = model.scene_forward(attends_to_scene)
    scene = forward.begin(prompt_ids, ROWS, COLS)
    forward.refresh(scene, vision)
    return forward, scene


def other_pixels(vision, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return replace(vision, pixel_values=torch.randn(
        vision.pixel_values.shape, generator=generator))


def test_a_scene_filled_at_once_equals_the_dense_run(model, vision, prompt_ids):
    expected = run(model, vision, prompt_ids)
    _, scene = fill(model, vision, prompt_ids)
    assert expected.std() > 0.1
    assert (ask(model, scene, prompt_ids) - expected).abs().max() <= TOLERANCE


def test_tokens_recomputed_from_the_same_pixels_stay_as_they_were(model, vision, prompt_ids):
    expected = run(model, vision, prompt_ids)
    forward, scene = fill(model, vision, prompt_ids)
    for tokens in (SOME, np.array([44]), np.arange(NUM_TOKENS)):
        forward.refresh(scene, replace(vision, kept_indices=tokens))
        assert (ask(model, scene, prompt_ids) - expected).abs().max() <= TOLERANCE


def test_a_part_of_a_scene_equals_the_sparse_run(model, vision, prompt_ids):
    part = replace(vision, kept_indices=SOME)
    expected = run(model, part, prompt_ids)
    _, scene = fill(model, part, prompt_ids)
    assert (ask(model, scene, prompt_ids) - expected).abs().max() <= TOLERANCE


def test_refreshing_every_token_with_another_image_leaves_nothing_of_the_first(
        model, vision, prompt_ids):
    other = other_pixels(vision)
    expected = run(model, other, prompt_ids)
    forward, scene = fill(model, vision, prompt_ids)
    assert (ask(model, scene, prompt_ids) - expected).abs().max() > 100 * TOLERANCE
    forward.refresh(scene, other)
    assert (ask(model, scene, prompt_ids) - expected).abs().max() <= TOLERANCE


def test_a_refreshed_token_sees_the_others_as_they_are_kept(model, vision, prompt_ids):
    # The last token of the image sees all others; of the first layer it sees what they were
    # computed from, so that with the pixels of a mixed image that layer is exact.
    mixed = vision.pixel_values.clone().unflatten(0, (NUM_TOKENS, -1))
    mixed[SOME] = other_pixels(vision).pixel_values.unflatten(0, (NUM_TOKENS, -1))[SOME]
    mixed = replace(vision, pixel_values=mixed.flatten(0, 1))
    forward, scene = fill(model, vision, prompt_ids)
    forward.refresh(scene, replace(mixed, kept_indices=SOME))
    _, whole = fill(model, mixed, prompt_ids)
    first, expected = scene.encoder[0], whole.encoder[0]
    assert (first.keys - expected.keys).abs().max() <= TOLERANCE
    assert (first.values - expected.values).abs().max() <= TOLERANCE


def test_an_answer_goes_on_from_a_snapshot(model, vision, prompt_ids):
    forward, scene = fill(model, vision, prompt_ids)
    prefix = scene.snapshot()
    before = model.extend(prefix, prefix.text_after(prompt_ids)).logits
    forward.refresh(scene, other_pixels(vision))
    after = model.extend(prefix, prefix.text_after(prompt_ids)).logits
    assert torch.equal(before, after)


def test_the_encoder_goes_back_to_its_own_attention(model, vision, prompt_ids):
    expected = model.encode(vision).tokens
    fill(model, vision, prompt_ids)
    assert torch.equal(model.encode(vision).tokens, expected)


def test_tokens_encoded_alone_keep_no_state_of_the_encoder(model, vision, prompt_ids):
    forward, scene = fill(model, vision, prompt_ids, attends_to_scene=False)
    assert not scene.encoder
    expected = run(model, vision, prompt_ids)
    assert (ask(model, scene, prompt_ids) - expected).abs().max() <= TOLERANCE
    part = replace(other_pixels(vision), kept_indices=SOME)
    forward.refresh(scene, part)
    alone = model.encode(part).tokens
    assert (scene.features[0][SOME] - alone).abs().max() <= TOLERANCE


def test_another_text_before_the_image_leaves_the_encoder_as_it_is(model, vision, prompt_ids):
    longer = torch.cat([torch.tensor([97, 98, 99]), prompt_ids])
    forward, scene = fill(model, vision, prompt_ids)
    features = [part.clone() for part in scene.features]
    forward.rerun_language_model(scene, longer)
    assert all(torch.equal(old, new) for old, new in zip(features, scene.features))
    expected = run(model, vision, longer)
    assert (ask(model, scene, longer) - expected).abs().max() <= TOLERANCE


def test_what_cannot_be_is_refused(model, vision, prompt_ids):
    forward = model.scene_forward()
    scene = forward.begin(prompt_ids, ROWS, COLS)
    with pytest.raises(ValueError, match='nothing of the scene is known'):
        scene.snapshot()
    turned = replace(vision, rows=COLS, cols=ROWS)
    with pytest.raises(ValueError, match='begin a new scene'):
        forward.refresh(scene, turned)
