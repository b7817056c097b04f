"""The checkpoint that comes with the package loads offline and answers."""

import json
from pathlib import Path

from epvlm_ros.sim.question_maker import make_question
from epvlm_ros.sim.questions import FAMILIES, snapshot_scene, UNKNOWN
from epvlm_ros.sim.renderer import SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import VlmEngine
import numpy as np
import pytest
from safetensors import safe_open
import torch
from training.evaluate import evaluate, library_scorer, sparse_scorer
from training.tokenizer import build_vocabulary
from transformers import AutoTokenizer, GenerationConfig, Qwen2VLForConditionalGeneration

pytestmark = pytest.mark.long

MAX_SIZE_BYTES = 25_000_000
NUM_TORCH_THREADS = 2


@pytest.fixture(scope='module')
def model():
    return Qwen2VLForConditionalGeneration.from_pretrained(
        EMBEDDED_MODEL, dtype=torch.float32, local_files_only=True).eval()


@pytest.fixture(scope='module')
def engine():
    return VlmEngine.from_config(VlmConfig(device='cpu', keep_ratio=1.0))


def test_it_is_small_and_half_precision():
    files = list(Path(EMBEDDED_MODEL).iterdir())
    assert sum(file.stat().st_size for file in files) < MAX_SIZE_BYTES
    assert not [file for file in files if file.suffix in ('.bin', '.pt', '.pkl', '.py')]
    with safe_open(Path(EMBEDDED_MODEL) / 'model.safetensors', framework='pt') as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.float16}


def test_its_words_are_those_of_the_simulator():
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_MODEL, local_files_only=True)
    # a later vocabulary has further words behind them
    assert tokenizer.get_vocab().items() <= build_vocabulary().items()
    generation = GenerationConfig.from_pretrained(EMBEDDED_MODEL)
    assert generation.eos_token_id == tokenizer.eos_token_id
    assert generation.pad_token_id == tokenizer.pad_token_id


@pytest.mark.slow
def test_it_answers_held_out_questions_through_the_library(model):
    table = evaluate(
        model, {'library': library_scorer(model)}, 'test', 24, torch.device('cpu'), batch_size=24)
    assert table['questions']['all'] == 192
    assert table['library']['all'] >= 0.9


@pytest.mark.long
def test_it_answers_from_half_of_the_tokens_too(model):
    generator = torch.Generator().manual_seed(0)
    scorers = {
        'events': sparse_scorer(model, 'events', 0.5, generator),
        'few': sparse_scorer(model, 'random', 0.1, generator)}
    table = evaluate(model, scorers, 'test', 24, torch.device('cpu'), batch_size=24)
    assert table['events']['all'] >= 0.85
    assert table['few']['all'] < table['events']['all']  # it does look at the picture


def render(scene, time_s, height, width):
    frames = SceneRenderer(stack_scenes([scene]), height, width).render(torch.tensor([[time_s]]))
    return (frames.rgb[0, 0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


@pytest.mark.long
def test_it_answers_camera_images_through_the_engine(engine):
    random = np.random.default_rng(0)
    right = []
    for index in range(6):
        scene = sample_scene('test', 5000 + index, aspect_ratio=4 / 3)
        image, snapshot = render(scene, 0.5, 480, 640), snapshot_scene(scene, 0.5)
        for family in ('colour', 'shape', 'count', 'place', 'existence'):
            made = make_question(family, snapshot, random)
            if made:
                answer = engine.answer(image, made[0].text.capitalize() + '?', None)
                right.append(answer.text == made[1])
    assert len(right) > 20
    assert np.mean(right) >= 0.9


def test_it_says_when_it_does_not_know(engine):
    image = render(sample_scene('test', 1), 0.5, 336, 336)
    assert engine.answer(image, 'Who painted the ceiling?', None).text == UNKNOWN


def test_the_model_card_gives_the_figures_of_the_evaluation():
    table = json.loads((Path(EMBEDDED_MODEL) / 'evaluation.json').read_text())
    card = (Path(EMBEDDED_MODEL) / 'README.md').read_text()
    assert set(FAMILIES) < set(table['dense 1.0'])
    for row in ('dense 1.0', 'events 0.5', 'events 0.3', 'random 0.5', 'random 0.3'):
        assert f'{100 * table[row]["all"]:.1f}' in card
    assert table['dense 1.0']['all'] >= 0.9
