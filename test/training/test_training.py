"""Training on a small scale: its batched forward is the library's, its data are sound."""

import json

from epvlm_ros.sim.question_maker import make_question
from epvlm_ros.sim.questions import (
    FAMILIES, MOTION, Name, NUMBERS, Question, SceneSnapshot, snapshot_scene)
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import COLOUR_VALUES, COLOURS, is_unseen, SHAPES, SYMBOLS
from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.patch_grid import PatchGeometry
from epvlm_ros.vlm.token_selection import noise_floor
from epvlm_ros.vlm.token_selection.saliency import combine, event_contrast, image_saliency
import numpy as np
import pytest
import torch
from training.batches import BatchDataset
from training.blocks import (
    BLOCK_LENGTH, encode_block, encode_words, find_mentions, prefix_tokens)
from training.checkpoint import build_model, save_checkpoint
from training.config import GRIDS, Mixture, TrainingConfig
from training.evaluate import evaluate, format_table, library_inputs, sparse_scorer
from training.free_tints import (
    LEAST_CONTRAST, LEAST_DISTANCE, names_a_colour, paint_freely)
from training.kept_tokens import choose_tokens, draw_kept_tokens, score_tokens
from training.losses import compute_losses
from training.pictures import draw_pictures, make_patches, NO_LABEL
from training.recipe import main as make_checkpoints
from training.sparse_forward import AuxiliaryHeads, encode_images, run_model
from training.token_scores import (
    combine_scores, token_contrast, token_detail, token_saliency)
from training.tokenizer import build_tokenizer, build_vocabulary
from training.train import build_optimizers, main
from transformers import AutoImageProcessor, AutoTokenizer, Qwen2VLForConditionalGeneration

pytestmark = pytest.mark.long

NUM_TORCH_THREADS = 2


@pytest.fixture(scope='module')
def batch():
    """Return three scenes with four questions each on a small grid that is not square."""
    return BatchDataset('train', 10, 3, 4, grid=(4, 6))[0]


@pytest.fixture(scope='module')
def pictures(batch):
    return draw_pictures(batch, torch.Generator().manual_seed(0))


@torch.no_grad()
def test_all_tokens_kept_is_the_dense_forward_of_the_library(model, batch, pictures):
    kept = torch.arange(24).expand(3, -1)
    logits = run_model(model, pictures.patches, kept, batch.grid, batch.tokens).logits
    for question in range(4):
        inputs = library_inputs(model, pictures.patches, batch.grid, batch.tokens[:, question])
        expected = model(**inputs).logits[:, -BLOCK_LENGTH:]
        torch.testing.assert_close(logits[:, question], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_dropped_tokens_are_the_masked_ones_of_the_library(model, batch, pictures, monkeypatch):
    kept = torch.tensor([[0, 5, 7, 13, 22], [1, 2, 3, 4, 23], [6, 9, 11, 12, 18]])
    result = run_model(model, pictures.patches, kept, batch.grid, batch.tokens)
    attend = torch.nn.functional.scaled_dot_product_attention
    for scene in range(3):
        keep = torch.zeros(24, dtype=torch.bool)
        keep[kept[scene]] = True
        sees = torch.cat([
            torch.ones(3, dtype=torch.bool), keep, torch.ones(BLOCK_LENGTH, dtype=torch.bool)])

        def masked(query, key, value, attn_mask=None, is_causal=False, **options):
            length = query.shape[2]
            mask = sees if length == len(sees) else keep.repeat_interleave(4)
            mask = mask.expand(length, -1)
            mask = mask & torch.ones(length, length).tril().bool() if length == len(sees) else mask
            return attend(query, key, value, attn_mask=mask, **options)

        monkeypatch.setattr(torch.nn.functional, 'scaled_dot_product_attention', masked)
        inputs = library_inputs(
            model, pictures.patches[scene:scene + 1], batch.grid, batch.tokens[scene:scene + 1, 1])
        expected = model(**inputs).logits[0, -BLOCK_LENGTH:]
        monkeypatch.undo()
        torch.testing.assert_close(result.logits[scene, 1], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_encoder_does_not_see_dropped_tokens(model, batch, pictures):
    kept = torch.tensor([[3, 8, 20]] * 3)
    changed = pictures.patches.clone()
    changed[:, [0, 1, 2, 9, 23]] = 100.0
    torch.testing.assert_close(
        encode_images(model, pictures.patches, kept, (4, 6)),
        encode_images(model, changed, kept, (4, 6)))
    changed[:, 8] = 100.0
    assert (encode_images(model, changed, kept, (4, 6))
            - encode_images(model, pictures.patches, kept, (4, 6))).abs().max() > 0.01


def test_patches_are_those_of_the_image_processor():
    processor = AutoImageProcessor.from_pretrained(EMBEDDED_MODEL, local_files_only=True)
    image = np.random.default_rng(0).integers(0, 256, (336, 448, 3)).astype(np.uint8)
    expected = processor(images=[image], return_tensors='pt')
    assert expected['image_grid_thw'].tolist() == [[1, 24, 32]]
    rgb = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255.0
    patches = make_patches(rgb).reshape(-1, 3, 1, 14, 14).expand(-1, -1, 2, -1, -1)
    torch.testing.assert_close(
        patches.reshape(-1, 1176), expected['pixel_values'].float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize('height, width, grid', [
    (480, 640, (12, 16)), (336, 336, (12, 12)), (720, 1280, (10, 18)), (180, 240, (9, 12)),
    (240, 320, (9, 11)), (1080, 1920, (10, 18)), (480, 480, (14, 14)), (640, 480, (16, 12))])
def test_camera_images_come_to_grids_of_training(height, width, grid):
    processor = AutoImageProcessor.from_pretrained(EMBEDDED_MODEL, local_files_only=True)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    found = processor(images=[image], return_tensors='pt')['image_grid_thw'][0].tolist()
    assert (found[1] // 2, found[2] // 2) == grid
    assert grid in [known for known, _ in GRIDS]


@pytest.mark.parametrize('text, expected', [
    ('What COLOUR is the circle?', 'what colour is the circle'),
    ("what's  the\ncolor of the red-star.", 'what is the color of the red star'),
    ('Please: count the rings!', 'please count the rings'),
    ('is the zebra left of the square', 'is the [UNK] left of the square'),
    ('a red circle, a ring and a star', 'a red circle , a ring and a star')])
def test_words(text, expected):
    tokenizer = build_tokenizer()
    assert ' '.join(tokenizer.tokenize(text)) == expected


def test_decoding_gives_readable_text():
    tokenizer = build_tokenizer()
    text = 'a red circle, a blue star and a ring'
    ids = tokenizer(text)['input_ids']
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text


def test_the_template_gives_the_tokens_of_training():
    tokenizer = build_tokenizer()
    content = [{'type': 'image'}, {'type': 'text', 'text': 'Where is the star?'}]
    text = tokenizer.apply_chat_template(
        [{'role': 'user', 'content': content}], tokenize=False, add_generation_prompt=True)
    numbers = build_vocabulary()
    tokens, start = encode_block('where is the star', 'top left', numbers)
    expected = [*prefix_tokens(), numbers['<|image_pad|>'], *tokens[:start]]
    assert tokenizer(text)['input_ids'] == expected
    assert tokens[start:] == [numbers['top'], numbers['left'], numbers['<|im_end|>']]


def test_simple_encoding_is_the_tokenizers():
    tokenizer, numbers = build_tokenizer(), build_vocabulary()
    random = np.random.default_rng(0)
    snapshot = snapshot_scene(sample_scene('train', 6), 0.5)
    made = [make_question(family, snapshot, random) for family in FAMILIES for _ in range(20)]
    texts = [text for item in made if item for text in (item[0].text, item[1])]
    assert len(texts) > 150
    for text in texts:
        assert encode_words(text, numbers) == tokenizer(text)['input_ids']


def test_a_question_that_is_too_long_is_no_block():
    assert encode_block('what is there ' * 10, 'yes', build_vocabulary()) is None


def test_batches_are_reproducible_and_different():
    dataset = BatchDataset('validation', 4, 2, 3)
    first, again, other = dataset[0], dataset[0], dataset[1]
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.scenes['anchor'], again.scenes['anchor'])
    assert not torch.equal(first.scenes['anchor'], other.scenes['anchor'])
    shifted = BatchDataset('validation', 4, 2, 3, first_batch=1)[0]
    assert torch.equal(shifted.tokens, other.tokens)
    train = BatchDataset('train', 4, 2, 3)[0]
    assert not torch.equal(first.scenes['anchor'], train.scenes['anchor'])


def test_answers_in_a_batch_are_what_the_scene_says():
    tokenizer = build_tokenizer()
    batch = BatchDataset('train', 10, 80, 4)[0]
    assert batch.tokens.shape == batch.is_answer.shape == (80, 4, BLOCK_LENGTH)
    num_counted = 0
    for scene in range(80):
        for question in range(4):
            block = batch.tokens[scene, question]
            answer = tokenizer.decode(block[batch.is_answer[scene, question]])
            assert answer.endswith('<|im_end|>')
            asked = ' '.join(tokenizer.convert_ids_to_tokens(block.tolist()))
            if any(f'how many {noun} are there' in asked for noun in ('objects', 'things')):
                there = batch.scenes['appears_s'][scene] <= batch.times_s[scene]
                number = int((there & (batch.scenes['radius'][scene] > 0)).sum())
                assert answer.split()[0] == NUMBERS[number]
                num_counted += 1
    assert num_counted


def test_mentions_by_hand():
    snapshot = SceneSnapshot(
        np.ones(2), np.array([0, 3]), np.array([0, 2]),
        np.array([(0.25, 0.5), (0.75, 0.125)], dtype=np.float32), np.array([-1, -1]),
        np.zeros(2, bool), np.zeros((2, 2)))
    circle, blue = Name(shape=0), Name(colour=2)
    question = Question(
        'relation', 'relation', 'please tell me is the circle left of the blue thing', circle,
        blue, 'left')
    # <|vision_end|> please tell me is the circle left of the blue thing
    first, second = find_mentions(question, snapshot)
    assert first[0] == 6 and first[1].tolist() == [0.25, 0.5]
    assert second[0] == 11 and second[1].tolist() == [0.75, 0.125]
    absent = Question('absent', 'colour', 'what colour is the ring', Name(shape=5))
    assert find_mentions(absent, snapshot) == [None, None]
    count = Question('count', 'count', 'how many circles are there', circle)
    assert find_mentions(count, snapshot) == [None, None]


def test_labels_and_activity_of_tokens():
    """A square of 168 px in the middle of 336 px covers 6 x 6 tokens."""
    dataset = BatchDataset('train', 10, 2, 1, grid=(12, 12))
    batch = dataset[0]
    scenes = {name: value.clone() for name, value in batch.scenes.items()}
    for name in ('radius', 'camera', 'zoom', 'light', 'shadow', 'spin', 'appears_s'):
        scenes[name][:] = 0.0
    scenes['symbol'][:] = -1
    scenes['symbol'][1, 0] = SYMBOLS.index('k')
    scenes['radius'][:, 0], scenes['anchor'][:, 0] = 0.25 / 0.8, 0.5
    scenes['orbit_radius'][:], scenes['angle'][:] = 0.0, 0.0
    scenes['shape'][:, 0], scenes['colour'][:, 0] = SHAPES.index('square'), COLOURS.index('blue')
    # The second one moves to the right by about 7 px in 20 ms.
    scenes['orbit_radius'][1, 0], scenes['orbit_rate'][1, 0] = 0.02, 50.0
    scenes['orbit_phase'][1, 0] = -50.0 * 0.5 + 1.5 * np.pi - 0.5
    still = batch._replace(scenes=scenes, times_s=torch.full((2, 1), 0.5))
    pictures = draw_pictures(still, torch.Generator().manual_seed(0), augment=False)
    expected = torch.full((12, 12), len(SHAPES))
    expected[3:9, 3:9] = SHAPES.index('square')
    assert torch.equal(pictures.shape[0].reshape(12, 12), expected)
    assert (pictures.colour[0].reshape(12, 12)[3:9, 3:9] == COLOURS.index('blue')).all()
    assert (pictures.colour[0] == len(COLOURS)).sum() == 144 - 36
    on_object = expected < len(SHAPES)
    assert (pictures.symbol[0] == len(SYMBOLS)).all()
    moved = pictures.shape[1].reshape(12, 12) < len(SHAPES)
    assert (pictures.symbol[1].reshape(12, 12)[moved] == SYMBOLS.index('k')).all()
    assert (pictures.symbol[1].reshape(12, 12)[~moved] == len(SYMBOLS)).all()
    still_motion, motion = pictures.motion.reshape(2, 12, 12)
    assert (still_motion[on_object] == 0).all() and (still_motion[~on_object] == 2).all()
    assert (motion[moved] == 1).all()
    with_camera = dict(scenes, zoom=torch.full((2, 3), 0.02))
    panned = draw_pictures(
        still._replace(scenes=with_camera), torch.Generator().manual_seed(0), augment=False)
    assert (panned.motion == NO_LABEL).all()
    activity = pictures.activity.reshape(2, 12, 12)
    assert activity[1, 4:8, 2].mean() > 5 * activity[0].mean()


@pytest.mark.slow
def test_colours_without_a_name_are_not_asked_for():
    batch = BatchDataset('train', 10, 60, 4, grid=(9, 12), mixture=Mixture(free_tints=0.5))[0]
    assert 15 < batch.has_names.sum() < 45
    pictures = draw_pictures(batch, torch.Generator().manual_seed(0))
    assert pictures.shape.shape == pictures.colour.shape
    on_object = pictures.shape < len(SHAPES)
    free = ~batch.has_names[:, None] & on_object
    assert (pictures.colour[free] == NO_LABEL).all()
    assert (pictures.colour[on_object & ~free] < len(COLOURS)).all()
    tokenizer = build_tokenizer()
    words = [word for blocks in batch.tokens[~batch.has_names] for block in blocks
             for word in tokenizer.convert_ids_to_tokens(block.tolist())]
    assert set(words) & set(SHAPES) and not set(words) & set(COLOURS)
    for scene in range(60):
        tints = batch.scenes['tint'][scene].numpy()
        values = COLOUR_VALUES[batch.scenes['colour'][scene]]
        is_near = np.abs(tints - values).max(axis=1) < 0.25
        assert is_near.all() == bool(batch.has_names[scene])


def test_free_tints_stay_away_from_the_colour_that_a_shape_never_has():
    random = np.random.default_rng(0)
    distances, tints = [], []
    for index in range(200):
        scene = sample_scene('train', index)
        painted = paint_freely(scene, random)
        for grey in np.linspace(0.15, 0.65, 11):
            assert np.linalg.norm(painted.tint - grey, axis=1).min() >= LEAST_CONTRAST
        for shape, tint in zip(painted.shape, painted.tint):
            unseen = is_unseen(np.full(len(COLOURS), shape), np.arange(len(COLOURS)))
            distances += [np.linalg.norm(tint - COLOUR_VALUES[unseen][0])]
            tints.append(tint)
    assert min(distances) >= LEAST_DISTANCE
    assert np.std(tints, axis=0).min() > 0.25  # of all colours
    assert np.array_equal(painted.anchor, scene.anchor)


@pytest.mark.parametrize('text, about, answer, expected', [
    ('what shape is the red object', 'shape', 'ring', True),
    ('what is left of the ring', 'relation', 'yes', False),
    ('what colour is the ring', 'colour', 'there is no such object', True),
    ('what is moving', 'moving', 'nothing', True),
    ('how many objects move', 'moving_count', 'two', False),
    ('count the stars', 'count', 'one', False),
    ('describe the image', 'description', 'a red ring, a star and a moon', True)])
def test_questions_that_need_names_of_colours(text, about, answer, expected):
    assert names_a_colour(Question(about, about, text), answer) == expected


def test_detail_is_the_gradient_of_all_colours():
    rgb = torch.full((1, 3, 56, 84), 0.5)
    rgb[:, 2, :28, 28:56] = 0.9  # a token whose blue alone differs
    detail = token_detail(rgb)
    assert detail.shape == (1, 2, 3)
    # a step of 0.4 within two of 14 x 14 samples a row, half of each border on either side
    column = 0.4 ** 2 / 14
    assert detail[0, 0, 0] == pytest.approx(column, rel=0.2)
    assert detail[0, 0, 1] == pytest.approx(3 * column, rel=0.2)
    assert detail[0, 1, 2] == pytest.approx(0.0, abs=0.01)


def test_kinds_of_selection_by_hand(pictures):
    activity = torch.tensor([[0.0, 9.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0]])
    detail = torch.tensor([[0.1, 0.0, 0.9, 0.0, 0.5, 0.0, 0.0, 0.0]])
    labels = torch.full((1, 8), len(SHAPES))
    labels[0, 6] = 0
    saliency = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.9]])
    scene = pictures._replace(activity=activity, detail=detail, shape=labels, saliency=saliency)
    noise = torch.linspace(0.9, 0.1, 8)[None]
    scores = score_tokens(scene, (2, 4), noise)
    assert choose_tokens(scores['random'], 2).tolist() == [[0, 1]]
    assert choose_tokens(scores['objects'], 1).tolist() == [[6]]
    assert choose_tokens(scores['events'], 2).tolist() == [[1, 3]]
    assert choose_tokens(scores['detail'], 2).tolist() == [[2, 4]]
    assert choose_tokens(scores['events_and_saliency'], 2).tolist() == [[5, 7]]


def test_the_default_selection_is_that_of_the_package():
    """The same scores as by ``core.selection``, up to how the image is reduced."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.uniform(0.3, 0.5, (1, 3, 6, 8)).astype(np.float32))
    rgb = torch.nn.functional.interpolate(coarse, size=(168, 224), mode='bilinear')
    rgb[:, 0, 60:100, 90:140] = 0.9
    image = (255 * rgb[0].permute(1, 2, 0)).round().byte().numpy()
    grid = PatchGeometry(14, 2, 3136, 10 ** 6).grid(168, 224)
    assert (grid.rows, grid.cols) == (6, 8)
    expected = image_saliency(image, grid)
    np.testing.assert_allclose(token_saliency(rgb)[0], expected, atol=0.04)
    assert np.ptp(expected) > 0.5
    activity = random.uniform(0.0, 400.0, (6, 8)).astype(np.float32)
    floor = noise_floor(grid, 0.04, VlmConfig().static_scene_rate)
    np.testing.assert_allclose(
        token_contrast(torch.from_numpy(activity / floor)[None])[0],
        event_contrast(activity, floor), atol=1e-5)
    saliency, contrast = random.uniform(0.0, 1.0, (2, 6, 8)).astype(np.float32)
    np.testing.assert_allclose(
        combine_scores(*(torch.from_numpy(item)[None] for item in (saliency, contrast)))[0],
        combine(saliency, contrast), atol=1e-6)


def test_what_no_token_is_asked_for_costs_nothing(model, batch, pictures):
    heads = AuxiliaryHeads(256)
    kept = torch.arange(24).expand(3, -1)
    with torch.no_grad():
        result = run_model(model, pictures.patches, kept, batch.grid, batch.tokens)
        unasked = pictures._replace(motion=torch.full_like(pictures.motion, NO_LABEL))
        losses = [
            compute_losses(result, heads, batch, item, kept, TrainingConfig())
            for item in (unasked, unasked._replace(symbol=unasked.symbol.clone().fill_(0)))]
    assert all(torch.isfinite(value) for item in losses for value in item.values())
    assert losses[0]['tokens'] != losses[1]['tokens']  # symbols are asked for


@pytest.mark.long
def test_which_way_something_moves_is_not_to_be_learned():
    """A picture does not show it: all such questions of training are answered so."""
    tokenizer = build_tokenizer()
    batch = BatchDataset('train', 10, 400, 8)[0]
    asked = batch.family == FAMILIES.index('direction')
    assert asked.any()
    answers = {tokenizer.decode(block[mask][:-1])
               for block, mask in zip(batch.tokens[asked], batch.is_answer[asked])}
    assert answers == {MOTION}


def test_choose_tokens_by_hand():
    scores = torch.tensor([[0.1, 5.0, 3.0, 4.0], [9.0, 0.0, 8.0, 1.0]])
    assert choose_tokens(scores, 2).tolist() == [[1, 3], [0, 2]]


def test_kept_tokens_are_ascending_and_as_many_as_the_configuration_allows(
        batch, pictures):
    generator = torch.Generator().manual_seed(0)
    config = TrainingConfig(dense_share=0.2, min_keep_ratio=0.3, max_keep_ratio=0.7)
    numbers = []
    for _ in range(60):
        kept, counts = draw_kept_tokens(pictures, batch, config, generator)
        assert counts == (kept.shape[1],)
        assert (kept.diff(dim=1) > 0).all() and kept.max() < 24
        numbers.append(kept.shape[1])
    assert set(numbers) == {8, 16, 24}
    assert 3 < numbers.count(24) < 25


@pytest.mark.slow
def test_a_run_learns_saves_and_goes_on(tmp_path):
    size = ['--device', 'cpu', '--batch-size', '2', '--questions-per-image', '3',
            '--warmup-steps', '1', '--dense-share', '0', '--max-keep-ratio', '0.2']
    first = main(['--out', str(tmp_path / 'first'), '--steps', '3', '--keep-state', *size])
    report = json.loads((tmp_path / 'first' / 'training.json').read_text())
    assert report['num_steps'] == 3 and report['config']['batch_size'] == 2
    saved = Qwen2VLForConditionalGeneration.from_pretrained(
        tmp_path / 'first', dtype=torch.float32)
    for name, value in saved.state_dict().items():
        torch.testing.assert_close(
            value, first.model.state_dict()[name].half().float(), atol=0, rtol=0)
    further = main([
        '--out', str(tmp_path / 'second'), '--steps', '4', '--resume', str(tmp_path / 'first'),
        *size])
    assert further.num_steps == 4
    assert further.course[0] == first.course[0]
    moved = further.model.state_dict()['model.visual.merger.mlp.0.weight']
    before = first.model.state_dict()['model.visual.merger.mlp.0.weight']
    assert 0 < (moved - before).abs().max() < 0.01
    assert (tmp_path / 'first' / 'training_state.pt').exists()
    assert not (tmp_path / 'second' / 'training_state.pt').exists()


@pytest.mark.slow
def test_a_run_starts_from_the_weights_of_another(tmp_path):
    size = ['--device', 'cpu', '--batch-size', '2', '--questions-per-image', '2', '--steps', '1']
    first = main(['--out', str(tmp_path / 'first'), *size])
    second = main(['--out', str(tmp_path / 'second'), '--start', str(tmp_path / 'first'),
                   '--learning-rate', '0', '--matrix-learning-rate', '0', *size])
    assert second.num_steps == 1
    for name, value in second.model.state_dict().items():
        torch.testing.assert_close(
            value, first.model.state_dict()[name].half().float(), atol=0, rtol=0)


@pytest.mark.slow
def test_the_recipe_makes_all_checkpoints_and_does_nothing_twice(tmp_path):
    arguments = ['--out', str(tmp_path), '--device', 'cpu', '--num-workers', '0',
                 '--start', str(EMBEDDED_MODEL), '--stages', 'dense_only', 'patch_dropout',
                 '--steps', '1', '--batch-size', '2']
    make_checkpoints(arguments)
    written = {}
    for name, dense_share in (('dense_only', 1.0), ('patch_dropout', 0.25)):
        report = json.loads((tmp_path / name / 'training.json').read_text())
        assert report['num_steps'] == 1 and report['config']['dense_share'] == dense_share
        written[name] = (tmp_path / name / 'model.safetensors').stat().st_mtime_ns
    # a stage that was interrupted goes on, one that is done stays as it is
    (tmp_path / 'patch_dropout' / 'done.json').unlink()
    make_checkpoints([*arguments[:-3], '2', *arguments[-2:]])
    report = json.loads((tmp_path / 'patch_dropout' / 'training.json').read_text())
    assert report['num_steps'] == 2
    weights = tmp_path / 'dense_only' / 'model.safetensors'
    assert weights.stat().st_mtime_ns == written['dense_only']


def test_a_run_that_kept_no_state_cannot_go_on(tmp_path):
    with pytest.raises(ValueError, match='give the folder of a run with --keep-state'):
        main(['--out', str(tmp_path / 'new'), '--resume', str(tmp_path), '--steps', '2',
              '--device', 'cpu', '--batch-size', '2'])


def test_muon_trains_the_matrices_of_the_layers_and_nothing_else():
    model = build_model()
    heads = AuxiliaryHeads(256)
    adam, muon = build_optimizers(model, heads, TrainingConfig())
    by_muon = {id(item) for group in muon.param_groups for item in group['params']}
    by_adam = {id(item) for group in adam.param_groups for item in group['params']}
    names = {id(value): name for part in (model, heads) for name, value in part.named_parameters()}
    assert not by_muon & by_adam and by_muon | by_adam == set(names)
    # query, key, value, output and three of the MLP in 8 layers; four in 6 of the encoder
    assert len(by_muon) == 8 * 7 + 6 * 4
    assert all('.layers.' in names[key] or '.blocks.' in names[key] for key in by_muon)
    without_decay = adam.param_groups[1]
    assert without_decay['weight_decay'] == 0.0
    assert all(item.ndim == 1 for item in without_decay['params'])


def test_a_run_without_an_end_is_refused(tmp_path):
    with pytest.raises(ValueError, match='give one of them'):
        main(['--out', str(tmp_path), '--steps', '0'])


def test_checkpoints_are_half_precision_and_leave_the_model_alone(tmp_path, model):
    before = model.state_dict()['lm_head.weight'].clone()
    save_checkpoint(model, tmp_path)
    assert model.state_dict()['lm_head.weight'].dtype == torch.float32
    assert torch.equal(model.state_dict()['lm_head.weight'], before)
    loaded = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path)
    assert {value.dtype for value in loaded.parameters()} == {torch.float16}
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token == '<|im_end|>'


def test_evaluation_counts_what_is_right(model):
    generator = torch.Generator().manual_seed(0)
    scorers = {
        'dense': sparse_scorer(model, 'events', 1.0, generator),
        'all right': lambda batch, _: torch.ones(batch.family.shape, dtype=torch.bool),
        'colours': lambda batch, _: batch.family == FAMILIES.index('colour')}
    table = evaluate(model, scorers, 'test', 2, torch.device('cpu'), batch_size=2)
    assert table['questions']['all'] == 16
    assert sum(table['questions'][family] for family in FAMILIES) == 16
    assert set(table['all right'].values()) == {1.0}
    assert table['dense']['all'] < 0.5  # random weights know nothing
    share = table['questions']['colour'] / 16
    assert table['colours']['all'] == pytest.approx(share, abs=1e-3)
    assert '| all right | 100.0 |' in format_table(table)
