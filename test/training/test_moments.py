"""Training on several moments: its forward is the library's and the package's, its truth sound."""

from dataclasses import replace
from pathlib import Path

from epvlm_ros.sim.arrangement import Arrangement
from epvlm_ros.sim.motion_questions import find_changes
from epvlm_ros.sim.questions import MOTION, MOVED, NOTHING_TO_SEE, STILL, TOO_BRIGHT, TOO_DARK
from epvlm_ros.sim.rearrangement import sample_still_scene
from epvlm_ros.sim.renderer import SceneRenderer, stack_scenes
from epvlm_ros.sim.scene import SHAPES
from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput
import numpy as np
import pytest
import torch
from training.arranged_scenes import draw_arranged, render_at_once, Step
from training.batches import BatchDataset
from training.blocks import ASKED_FAMILIES, BLOCK_LENGTH
from training.checkpoint import build_model, load_weights, save_checkpoint
from training.config import Mixture, TrainingConfig
from training.evaluate import library_inputs
from training.kept_tokens import choose_in_moments, draw_kept_tokens, share_out
from training.moments import draw_arrangements
from training.pictures import draw_pictures, NO_LABEL
from training.sparse_forward import run_model
from training.tokenizer import build_tokenizer
from training.train import Trainer
from transformers import Qwen2VLForConditionalGeneration

NUM_TORCH_THREADS = 1
MOMENTS = Mixture(motion=1.0)


@pytest.fixture(scope='module')
def batch():
    return BatchDataset('train', 10, 2, 3, grid=(4, 6), mixture=MOMENTS)[0]


@pytest.fixture(scope='module')
def pictures(batch):
    return draw_pictures(batch, torch.Generator().manual_seed(0))


@torch.no_grad()
def test_all_tokens_of_three_moments_are_the_dense_forward_of_the_library(model, batch, pictures):
    assert batch.num_moments == 3 and pictures.patches.shape[:2] == (2, 72)
    kept = torch.arange(72).expand(2, -1)
    logits = run_model(
        model, pictures.patches, kept, batch.grid, batch.tokens, (24, 24, 24)).logits
    for question in range(3):
        inputs = library_inputs(
            model, pictures.patches, batch.grid, batch.tokens[:, question], num_moments=3)
        expected = model(**inputs).logits[:, -BLOCK_LENGTH:]
        torch.testing.assert_close(logits[:, question], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('counts', [(4, 4, 4), (2, 2, 7), (3, 5, 1)])
def test_kept_tokens_of_three_moments_are_those_of_the_package(model, batch, pictures, counts):
    random = np.random.default_rng(0)
    kept = torch.tensor(np.stack([np.concatenate([
        24 * moment + np.sort(random.permutation(24)[:count])
        for moment, count in enumerate(counts)]) for _ in range(2)]))
    result = run_model(model, pictures.patches, kept, batch.grid, batch.tokens, counts)
    package = SparseQwenVl(model)
    for scene in range(2):
        prompt_ids = library_inputs(
            model, pictures.patches[scene:scene + 1], batch.grid, batch.tokens[scene:scene + 1, 1],
            num_moments=3)
        vision = VisionInput(
            prompt_ids['pixel_values_videos'], 4, 6, kept[scene].numpy(), 3, 0.4)
        expected = package.prompt_logits(
            prompt_ids['input_ids'][0], vision, package.encode(vision))[-BLOCK_LENGTH:]
        torch.testing.assert_close(result.logits[scene, 1], expected, atol=1e-4, rtol=1e-4)


def test_moments_are_drawn_as_streams_show_them():
    """The GPU's drawing against ``Arrangement``, which paints one picture of one scene."""
    batch = BatchDataset('train', 10, 12, 1, grid=(4, 6), mixture=MOMENTS)[0]
    camera_moves, phases = batch.scenes['camera'][:, 0] > 0, batch.moments['camera_phase']
    assert camera_moves.any() and not camera_moves.all()
    assert (phases.diff(dim=1).abs().amin(dim=1) > 1.0).equal(camera_moves)
    # under covers before both kinds of cameras, at the last moment
    assert batch.moments['is_covered'][camera_moves, 2].any()
    assert batch.moments['is_covered'][~camera_moves, 2].any()
    steps = [Step(2, 2, 1.0), Step(0, 1, 0.25), Step(1, 2, 0.75)]
    drawn, _ = draw_arranged(batch, steps, 112, 168)
    for rgb, (start, end, share) in zip(drawn.unbind(dim=1), steps):
        for number in range(12):
            scene = sample_still_scene(
                'train', number, 1.5, beside_middle=bool(camera_moves[number]))
            phase = float(
                (1.0 - share) * phases[number, start] + share * phases[number, end])
            camera = np.array([scene.camera[0], 0.0, phase], np.float32)
            at = [Arrangement(
                *(batch.moments[name][number, moment].numpy()
                  for name in ('anchor', 'radius', 'is_covered')), scene.radius,
                batch.moments['cover_colour'][number].numpy(), scene.extent, 0.04)
                for moment in (start, end)]
            now = at[0].towards(at[1], share)
            fields = stack_scenes([replace(
                scene, anchor=now.anchor, radius=now.radius, camera=camera)])
            picture = SceneRenderer(fields, 112, 168).render(torch.zeros(1, 1)).rgb[0, 0]
            expected = picture.permute(1, 2, 0).numpy().copy()
            now.paint_covers(
                expected, scene.camera[0] * np.array([np.sin(phase), np.cos(phase)]))
            difference = np.abs(rgb[number].permute(1, 2, 0).numpy() - expected).max(axis=2)
            assert (difference > 0.01).mean() < 0.012  # borders of covers are rounded
            covers = (now.is_covered & (now.radius > 0)).any()
            assert covers or difference.max() < 1e-4


def test_before_a_camera_that_moves_the_truth_is_that_of_the_world():
    scene = sample_still_scene('train', 7, 1.5, beside_middle=True)
    moments = draw_arrangements(scene, np.random.default_rng(2))
    assert all(1.2 <= abs(after.camera_phase - before.camera_phase) <= 2.6
               for before, after in zip(moments, moments[1:]))
    seen = [moment.see(scene) for moment in moments]
    for moment, (view, items) in zip(moments, seen):
        places = moment.objects.anchor[items] - view.centres
        np.testing.assert_allclose(
            places, np.broadcast_to(0.03 * np.array(
                [np.sin(moment.camera_phase), np.cos(moment.camera_phase)]), places.shape),
            atol=1e-6)
    first, last = moments[0].objects, moments[-1].objects
    stands = set(np.flatnonzero((first.anchor == last.anchor).all(axis=1)))
    stands &= set(seen[0].items) & set(seen[1].items) & set(seen[2].items)
    kinds = {item: change.kind for item, change in find_changes(seen).items()}
    assert stands and {item for item, kind in kinds.items() if kind == STILL} == stands
    assert MOVED in kinds.values()


def test_scenes_in_memory_are_seen_by_cameras_that_stand_still():
    batch = BatchDataset('train', 10, 40, 1, grid=(4, 6), mixture=Mixture(memory=1.0))[0]
    assert batch.in_memory
    assert not batch.scenes['camera'].any() and not batch.moments['camera_phase'].any()


def test_times_drawn_at_once_are_those_drawn_one_by_one():
    batch = BatchDataset('train', 10, 3, 1, grid=(4, 6))[0]
    times_s = torch.tensor([[0.2, 1.1], [0.4, 2.0], [0.0, 0.7]])
    found = render_at_once(batch.scenes, times_s, 56, 84)
    expected = SceneRenderer(batch.scenes, 56, 84).render(times_s)
    assert torch.equal(found.rgb, expected.rgb) and torch.equal(found.owner, expected.owner)


def test_changes_of_tokens_by_hand():
    """On 4 x 6 tokens object 0 moves right by 2 tokens, 1 appears, 2 is taken away, 3 stands."""
    batch = BatchDataset('train', 10, 1, 1, grid=(4, 6), mixture=MOMENTS)[1]  # by good cameras
    scenes = {name: value.clone() for name, value in batch.scenes.items()}
    scenes['radius'][:] = torch.tensor([[0.15, 0.15, 0.15, 0.15, 0.0, 0.0]])
    scenes['shape'][:] = SHAPES.index('square')
    scenes['angle'][:], scenes['shadow'][:] = 0.0, 0.0
    places = torch.tensor([[0.125, 0.125], [0.125, 1.375], [0.875, 0.125], [0.875, 1.375]])
    anchor = torch.zeros(1, 3, 6, 2)
    anchor[:, :, :4] = places
    anchor[:, 2, 0] = torch.tensor([0.125, 0.625])
    radius = scenes['radius'][:, None].repeat(1, 3, 1)
    radius[:, 0, 1], radius[:, 2, 2] = 0.0, 0.0
    moments = dict(batch.moments, anchor=anchor, radius=radius,
                   is_covered=torch.zeros(1, 3, 6, dtype=torch.bool))
    batch = batch._replace(
        scenes=scenes, moments=moments, is_readable=torch.ones(1, dtype=torch.bool))
    pictures = draw_pictures(batch, torch.Generator().manual_seed(0))
    change = pictures.change.reshape(3, 4, 6)
    assert (change[0] == NO_LABEL).all()
    assert change[1].tolist() == [
        [0, 4, 4, 4, 4, 2], [4] * 6, [4] * 6, [0, 4, 4, 4, 4, 0]]
    assert change[2].tolist() == [
        [3, 4, 1, 4, 4, 2], [4] * 6, [4] * 6, [3, 4, 4, 4, 4, 0]]
    way_y, way_x = pictures.way_y.reshape(3, 4, 6), pictures.way_x.reshape(3, 4, 6)
    assert way_y[2, 0, 2] == 1 and way_x[2, 0, 2] == 2
    assert (way_x != NO_LABEL).sum() == 1
    activity = pictures.activity.reshape(3, 4, 6)
    assert activity[0].max() < 2.0  # all is at rest before
    assert activity[1, 0, 5] > 5 * activity[1, :, 1].max()
    assert activity[2, 0, :3].min() > 3 * activity[2, 1:3].max()  # the whole way
    assert activity[2, 3, 0] > 5 * activity[2, 3, 5]
    difference = pictures.difference.reshape(3, 4, 6)
    # where it was and where it is, not what it passed; and what came and went away
    ever = [[0, 0], [0, 2], [0, 5], [3, 0]]
    assert [(item > 0.0).nonzero().tolist() for item in difference] == [
        ever, [ever[0], ever[1], ever[3]], ever]


def test_what_stands_is_not_gone_where_the_camera_turned():
    """On 4 x 6 tokens an object of one token's size moves by 0.06 units, a quarter of a token."""
    batch = BatchDataset('train', 10, 1, 1, grid=(4, 6), mixture=MOMENTS)[1]
    scenes = {name: value.clone() for name, value in batch.scenes.items()}
    scenes['radius'][:] = torch.tensor([[0.15, 0.15, 0.0, 0.0, 0.0, 0.0]])
    scenes['shape'][:] = SHAPES.index('square')
    scenes['angle'][:], scenes['shadow'][:] = 0.0, 0.0
    scenes['camera'][:] = torch.tensor([0.03, 0.0, 0.0])
    anchor = torch.zeros(1, 3, 6, 2)
    anchor[:, :, :2] = torch.tensor([[0.625, 0.56], [0.125, 1.345]])
    radius = scenes['radius'][:, None].repeat(1, 3, 1)
    radius[:, 2, 1] = 0.0
    moments = dict(
        batch.moments, anchor=anchor, radius=radius,
        is_covered=torch.zeros(1, 3, 6, dtype=torch.bool),
        camera_phase=torch.tensor([[0.0, 0.0, np.pi]]))
    batch = batch._replace(
        scenes=scenes, moments=moments, is_readable=torch.ones(1, dtype=torch.bool))
    change = draw_pictures(batch, torch.Generator().manual_seed(0)).change.reshape(3, 4, 6)
    assert change[1, 2, :4].tolist() == [4, 0, 0, 4]
    assert change[2, 2, :4].tolist() == [4, NO_LABEL, 0, 4]
    assert change[1, 0, 5] == 0 and change[2, 0, 5] == 3


def test_what_moves_on_and_on_is_asked_about_and_labelled():
    """Three moments of a scene in which one object turns on the spot and another stands."""
    mixture = Mixture(motion=1.0, going=1.0)
    batch = BatchDataset('train', 10, 40, 8, grid=(4, 6), mixture=mixture)[0]
    assert not batch.moments and batch.num_moments == 3
    assert (batch.times_s.diff(dim=1) > 0.29).all() and batch.times_s.min() > 0.05
    asked = [ASKED_FAMILIES[number] for number in batch.family.flatten()]
    assert {'moving', 'still', 'moving_count', 'colour'} < set(asked)
    assert not {'direction', 'motion', 'moved'} & set(asked)
    scenes = {name: value[:1].clone() for name, value in batch.scenes.items()}
    for name in ('radius', 'camera', 'zoom', 'light', 'shadow', 'spin', 'appears_s',
                 'orbit_radius'):
        scenes[name][:] = 0.0
    scenes['radius'][:, :2] = 0.15
    scenes['anchor'][0, :2] = torch.tensor([[0.125, 0.125], [0.875, 1.375]])
    scenes['shape'][:], scenes['spin'][:, 0] = SHAPES.index('square'), 2.0
    one = batch._replace(
        scenes=scenes, camera={name: value[:1] for name, value in batch.camera.items()},
        **{name: getattr(batch, name)[:1] for name in ('times_s', 'is_readable', 'has_names')})
    change = draw_pictures(one, torch.Generator().manual_seed(0)).change.reshape(3, 4, 6)
    assert (change[0] == NO_LABEL).all()
    for moment in (1, 2):
        assert change[moment, 0, 0] == 1 and change[moment, 3, 5] == 0
        assert (change[moment] == 4).sum() > 16


def test_moments_share_the_tokens_of_one_picture(batch, pictures):
    generator = torch.Generator().manual_seed(0)
    config = TrainingConfig(dense_share=0.3, all_moments_share=0.2)
    seen = set()
    for _ in range(60):
        kept, counts = draw_kept_tokens(pictures, batch, config, generator)
        assert kept.shape == (2, sum(counts)) and (kept.diff(dim=1) > 0).all()
        moments, numbers = np.unique(kept[0].numpy() // 24, return_counts=True)
        assert moments.tolist() == [0, 1, 2] and tuple(numbers) == counts
        seen.add(counts)
    assert seen == {(8, 8, 8), (24, 24, 24)}


@pytest.mark.parametrize('num_kept', [48, 96, 192])
def test_the_latest_moment_has_most_of_the_tokens(num_kept):
    random = np.random.default_rng(0)
    for draws in random.random((100, 5)):
        oldest, middle, latest = share_out(num_kept, 3, True, draws)
        assert oldest + middle + latest == num_kept
        assert latest >= 0.5 * num_kept
    assert share_out(num_kept, 3, False, random.random(5)) == (num_kept // 3 // 8 * 8,) * 3
    assert share_out(num_kept, 1, False, random.random(5)) == (num_kept,)


def test_what_changed_is_kept_first_and_half_of_the_latest_is_left_for_the_rest(batch, pictures):
    """Scores of the training leave little to chance but for tokens that did not change."""
    counts, kind = (6, 6, 8), torch.zeros(2, dtype=torch.int64)
    kept = choose_in_moments(
        pictures, batch, counts, kind, torch.Generator().manual_seed(0), by_change=True)
    difference = pictures.difference.unflatten(1, (3, 24))
    for scene, chosen in enumerate(zip(*kept.split(counts, dim=1))):
        for moment, tokens in enumerate(chosen):
            amounts = difference[scene, moment]
            limit = 4 if moment == 2 else counts[moment]
            first = amounts.topk(min(limit, int((amounts > 0.0).sum()))).indices
            assert set(first.tolist()) <= set((tokens - 24 * moment).tolist())


def test_unreadable_frames_are_black_white_or_even_and_answered_so():
    tokenizer = build_tokenizer()
    batch = BatchDataset(
        'train', 10, 12, 2, grid=(4, 6), mixture=Mixture(motion=1.0, unreadable=1.0))[0]
    assert not batch.is_readable.any()
    pictures = draw_pictures(batch, torch.Generator().manual_seed(0), augment=False)
    assert (pictures.shape == NO_LABEL).all() and (pictures.change == NO_LABEL).all()
    mean = pictures.patches.flatten(1).mean(dim=1)
    said = {}
    for scene in range(12):
        words = {tokenizer.decode(batch.tokens[scene, number][batch.is_answer[scene, number]][:-1])
                 for number in range(2)}
        said.setdefault(words.pop(), []).append(float(mean[scene]))
        assert not words
    assert set(said) == {TOO_DARK, TOO_BRIGHT, NOTHING_TO_SEE}
    assert max(said[TOO_DARK]) < -1.3 and min(said[TOO_BRIGHT]) > 1.7
    assert max(said[TOO_DARK]) < min(said[NOTHING_TO_SEE])
    assert max(said[NOTHING_TO_SEE]) < min(said[TOO_BRIGHT])


def test_batches_of_moments_are_equal_for_equal_numbers():
    mixture = Mixture(motion=0.5, randomised=0.5, unreadable=0.2)
    first, again = (BatchDataset('train', 6, 3, 2, mixture=mixture) for _ in range(2))
    kinds = set()
    for number in range(6):
        one, other = first[number], again[number]
        kinds.add((one.num_moments, bool(one.scenes['ground_range'][0, 1] > 0.9)))
        for name in ('scenes', 'moments', 'camera'):
            pairs = zip(getattr(one, name).items(), getattr(other, name).items())
            assert all(key == same and torch.equal(value, twin)
                       for (key, value), (same, twin) in pairs)
        assert torch.equal(one.tokens, other.tokens)
    assert kinds == {(3, False), (1, False), (1, True)}


@pytest.mark.slow
def test_a_batch_shown_again_and_again_is_learned():
    batch = BatchDataset('train', 1, 2, 3, grid=(4, 6), mixture=MOMENTS)[0]
    config = TrainingConfig(
        steps=100, warmup_steps=5, dense_share=0.0, min_keep_ratio=0.9, all_moments_share=1.0)
    trainer = Trainer(config, torch.device('cpu'))
    # Muon takes seconds a step on a CPU
    trainer.optimizers = [torch.optim.AdamW(
        [*trainer.model.parameters(), *trainer.heads.parameters()])]
    losses = [trainer.step(batch) for _ in range(40)]
    assert losses[0]['answer'] > 3.0 and losses[-1]['answer'] < 0.3
    assert losses[-1]['changes'] < 0.5 * losses[0]['changes']
    assert losses[-1]['right'] > 0.8


def test_weights_of_a_smaller_vocabulary_are_taken_over(model):
    torch.manual_seed(3)
    fresh = build_model()
    drawn = fresh.get_input_embeddings().weight.detach().clone()
    load_weights(fresh, Path(EMBEDDED_MODEL))
    saved = Qwen2VLForConditionalGeneration.from_pretrained(
        EMBEDDED_MODEL, dtype=torch.float32, local_files_only=True)
    known = saved.get_input_embeddings().weight
    weight = fresh.get_input_embeddings().weight
    assert torch.equal(weight[:len(known)], known)
    assert torch.equal(weight[len(known):], drawn[len(known):])
    assert fresh.lm_head.weight is weight
    same = saved.state_dict()['model.visual.merger.ln_q.weight']
    assert torch.equal(fresh.state_dict()['model.visual.merger.ln_q.weight'], same)


def test_weights_with_other_words_are_refused(tmp_path, model):
    save_checkpoint(model, tmp_path)
    path = tmp_path / 'tokenizer.json'
    path.write_text(path.read_text().replace('"circle"', '"disc"'))
    with pytest.raises(ValueError, match='give a checkpoint of this vocabulary'):
        load_weights(build_model(), tmp_path)


def test_fresh_heads_learn_first_and_alone():
    batch = BatchDataset('train', 1, 2, 2, grid=(4, 6), mixture=MOMENTS)[0]
    config = TrainingConfig(steps=3, heads_only_steps=1, warmup_steps=1, all_moments_share=1.0)
    trainer = Trainer(config, torch.device('cpu'))
    trainer.optimizers = trainer.optimizers[:1]  # Muon takes seconds a step on a CPU
    weight, head = trainer.model.lm_head.weight, trainer.heads.change.weight
    first = weight.detach().clone(), head.detach().clone()
    trainer.step(batch)
    assert torch.equal(weight, first[0]) and not torch.equal(head, first[1])
    trainer.step(batch)
    assert not torch.equal(weight, first[0])


@pytest.mark.slow
def test_one_picture_is_asked_about_changes_that_it_does_not_show():
    tokenizer = build_tokenizer()
    batch = BatchDataset('train', 1, 60, 8, grid=(9, 12))[0]
    told = {'appeared', 'disappeared', 'gone', 'new', 'view', 'sight', 'happened', 'did'}
    answers = set()
    for tokens, is_answer in zip(batch.tokens.flatten(0, 1), batch.is_answer.flatten(0, 1)):
        if told & set(tokenizer.convert_ids_to_tokens(tokens.tolist())):
            answers.add(tokenizer.decode(tokens[is_answer][:-1]))
    assert answers == {MOTION}
