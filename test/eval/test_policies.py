"""Controls choose what they say, and budgets are kept."""

from epvlm_ros.eval.budget import Budget, count_flops
from epvlm_ros.eval.policies import activity_for, POLICIES, selection_of
from epvlm_ros.eval.question_set import Observation
from epvlm_ros.eval.settings import configure, make_settings
from epvlm_ros.eval.still_image_events import still_image_activity
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.flops import ModelShape, prefill_flops
from epvlm_ros.vlm.patch_grid import PatchGeometry, token_activity
import numpy as np
import pytest
from transformers import Qwen2VLConfig

SEED = 3
GRID = PatchGeometry(14, 2, 784, 10 ** 6).grid(112, 140)


@pytest.fixture(scope='module')
def observation():
    """Return a picture of 4 x 5 tokens that changed in token (1, 2), an object in (3, 0)."""
    random = np.random.default_rng(0)
    before = random.integers(0, 256, (112, 140, 3)).astype(np.uint8)
    now = before.copy()
    now[28:56, 56:84] = 255 - now[28:56, 56:84]
    mask = np.zeros((112, 140), bool)
    mask[84:, :28] = True
    return Observation(now, still_image_activity(now), before, mask)


@pytest.mark.parametrize('policy, token', [('frame_difference', (1, 2)), ('oracle', (3, 0))])
def test_a_control_scores_only_what_it_is_about(observation, policy, token):
    scores = token_activity(activity_for(policy, observation, SEED), GRID)
    assert np.argwhere(scores).tolist() == [list(token)]


def test_frame_difference_is_the_change_of_brightness(observation):
    now = observation.previous_rgb.copy()
    now[0, 0] = (10, 20, 30)
    changed = Observation(now, observation.activity, observation.previous_rgb)
    red, green, blue = observation.previous_rgb[0, 0].astype(float)
    expected = abs(0.299 * (10 - red) + 0.587 * (20 - green) + 0.114 * (30 - blue))
    scores = token_activity(activity_for('frame_difference', changed, SEED), GRID)
    assert scores.sum() == scores[0, 0] == pytest.approx(expected, abs=1.0)  # bytes are rounded


def test_random_scores_depend_on_the_seed_alone(observation):
    first, again = (activity_for('random', observation, SEED).counts for _ in range(2))
    other = activity_for('random', observation, SEED + 1).counts
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_random_scores_favour_no_token(observation):
    kept = np.zeros(20)
    for number in range(400):
        scores = token_activity(activity_for('random', observation, number), GRID)
        kept[np.argsort(scores.ravel())[10:]] += 1
    assert abs(kept / 400 - 0.5).max() < 0.1  # four standard errors


def test_random_scores_favour_no_token_at_an_odd_border():
    height, width = 113, 141  # a pixel more than whole cells
    rgb = np.zeros((height, width, 3), np.uint8)
    observation = Observation(rgb, still_image_activity(rgb))
    grid = PatchGeometry(14, 2, 784, 10 ** 6).grid(height, width)
    kept = np.zeros((grid.rows, grid.cols))
    for number in range(400):
        scores = token_activity(activity_for('random', observation, number), grid)
        kept += scores >= np.median(scores)
    assert abs(kept / 400 - 0.5).max() < 0.1


def test_policies_of_the_robot_get_the_events(observation):
    for policy in POLICIES:
        if policy not in ('random', 'frame_difference', 'oracle'):
            assert activity_for(policy, observation, SEED) is observation.activity
            assert selection_of(policy) == policy
    assert selection_of('oracle') == selection_of('dense') == 'events'


def test_no_policy_leaves_its_budget_in_a_static_scene():
    for policy in POLICIES:
        config = configure(VlmConfig(), policy)
        assert config.static_scene_policy != 'dense'
        is_control = policy in ('random', 'frame_difference', 'oracle')
        assert config.static_scene_rate == (0.0 if is_control else VlmConfig().static_scene_rate)


@pytest.fixture(scope='module')
def shape():
    return ModelShape.from_config(Qwen2VLConfig())


def test_a_budget_of_flops_is_used_up_and_not_exceeded(shape):
    rows, cols, num_text = 17, 23, 60
    costs = [prefill_flops(shape, number, num_text) for number in range(1, rows * cols + 1)]
    for saved in np.arange(0.0, 0.8, 0.02):
        kept = Budget('saved', saved).num_tokens(shape, rows, cols, num_text)
        allowed = (1 - saved) * costs[-1]
        assert kept == max(i + 1 for i, cost in enumerate(costs) if cost <= allowed)
        assert count_flops(shape, rows, cols, kept, num_text) == costs[kept - 1]


def test_a_budget_of_tokens_by_hand(shape):
    assert Budget('keep', 0.3).num_tokens(shape, 9, 12, 40) == 32  # of 108
    assert Budget('keep', 0.3).name == 'keep 0.3' and Budget('saved', 0.65).name == 'saved 0.65'


@pytest.mark.parametrize('kind, value', [('keep', 0.0), ('keep', 1.2), ('saved', 1.0),
                                         ('saved', -0.1)])
def test_impossible_budgets_are_refused(kind, value):
    with pytest.raises(ValueError, match=f'--{kind} {value}: give'):
        Budget(kind, value)


def test_a_budget_that_the_text_alone_exceeds_is_refused(shape):
    with pytest.raises(ValueError, match='the text alone'):
        Budget('saved', 0.99).num_tokens(shape, 4, 4, 500)


def test_settings_start_with_dense():
    settings = make_settings(['events', 'random'], [Budget('keep', 0.5), Budget('saved', 0.8)])
    assert [item.name for item in settings] == [
        'dense', 'events, keep 0.5', 'random, keep 0.5', 'events, saved 0.8', 'random, saved 0.8']
