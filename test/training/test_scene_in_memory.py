"""Training on a scene in memory: the language model sees what it sees in the package."""

from epvlm_ros.sim.questions import FAMILIES, MOTION_FAMILIES
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl
from epvlm_ros.vlm.sparse_qwen.scene.scene_forward import SceneForward
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput, VisualFeatures
import pytest
import torch
from training.batches import BatchDataset
from training.blocks import ASKED_FAMILIES
from training.config import Mixture, TrainingConfig
from training.evaluate import library_inputs
from training.kept_tokens import draw_kept_tokens
from training.pictures import draw_pictures
from training.sparse_forward import encode_images, run_model

NUM_TORCH_THREADS = 1
IN_MEMORY = Mixture(memory=1.0)


class WholePictures(SceneForward):
    """A memory whose features are given: here the encoder sees the whole of each picture."""

    given: VisualFeatures

    def _encode(self, scene, vision):
        return self.given


@pytest.fixture(scope='module')
def batch():
    return BatchDataset('train', 10, 3, 2, grid=(4, 6), mixture=IN_MEMORY)[1]


@pytest.fixture(scope='module')
def pictures(batch):
    return draw_pictures(batch, torch.Generator().manual_seed(0))


def choose(pictures, batch):
    return draw_kept_tokens(
        pictures, batch, TrainingConfig(), torch.Generator().manual_seed(0))


def test_questions_are_about_the_last_picture(batch):
    assert batch.in_memory and batch.num_moments == 3
    asked = {ASKED_FAMILIES[number] for number in batch.family.flatten().tolist()}
    assert asked <= set(FAMILIES) - set(MOTION_FAMILIES)


def test_all_of_the_first_picture_is_computed_and_of_later_ones_what_differs(batch, pictures):
    kept, counts = choose(pictures, batch)
    assert kept.shape == (3, sum(counts)) and counts[0] == 24 and counts[1] == counts[2] < 24
    assert (kept.diff(dim=1) > 0).all()
    for scene, row in enumerate(kept.tolist()):
        differs = pictures.difference[scene].nonzero()[:, 0].tolist()
        assert differs and set(differs) | set(range(24)) <= set(row)


@torch.no_grad()
def test_the_language_model_sees_what_it_sees_in_the_package(model, batch, pictures):
    kept, counts = choose(pictures, batch)
    found = run_model(
        model, pictures.patches, kept, batch.grid, batch.tokens, counts, in_memory=True)
    whole = torch.arange(72).expand(3, -1)
    features = encode_images(model, pictures.patches, whole, batch.grid, (24, 24, 24))
    package = SparseQwenVl(model)
    for number in range(3):
        inputs = library_inputs(
            model, pictures.patches[number:number + 1, :24], batch.grid,
            batch.tokens[number:number + 1, 0])
        prompt_ids = inputs['input_ids'][0]
        forward = WholePictures(package)
        scene = forward.begin(prompt_ids, 4, 6)
        for moment, part in enumerate(kept[number].split(list(counts))):
            forward.given = VisualFeatures(features[number, part], ())
            places = (part - 24 * moment).numpy()
            forward.refresh(scene, VisionInput(inputs['pixel_values'], 4, 6, places))
        prefix = scene.snapshot()
        expected = package.extend(prefix, prefix.text_after(prompt_ids)).logits
        torch.testing.assert_close(found.logits[number, 0, -1], expected, atol=1e-4, rtol=1e-4)
