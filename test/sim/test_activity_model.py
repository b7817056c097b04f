"""The cheap model of event activity: by hand, and in one rank with the event simulator."""

from epvlm_ros.sim.activity_model import LOG_OFFSET, token_activity
from epvlm_ros.sim.event_simulator import EventCameraConfig, EventSimulator
from epvlm_ros.sim.renderer import luminance, SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
import numpy as np
import pytest
import torch


def test_activity_by_hand():
    logs = torch.full((1, 3, 4, 6), -1.0)
    logs[0, 1, 0, 0] = -0.5  # there and back: 0.5 twice
    logs[0, 2, 3, 5] = -1.3  # 0.3 once
    activity = token_activity(torch.exp(logs) - LOG_OFFSET, 2, contrast_threshold=0.1)
    expected = torch.zeros(1, 2, 3)
    expected[0, 0, 0], expected[0, 1, 2] = 10.0, 3.0
    torch.testing.assert_close(activity, expected, atol=1e-4, rtol=1e-4)


def test_one_picture_has_no_activity_and_noise_has_its_mean():
    still = torch.full((2, 1, 56, 56), 0.3)
    assert token_activity(still, 28).abs().max() == 0.0
    noise = torch.tensor([0.0, 0.5])
    activity = token_activity(
        still, 28, noise_events_per_px=noise, generator=torch.Generator().manual_seed(0))
    assert activity[0].abs().max() == 0.0
    # Four tokens of 784 px: 392 each, standard deviation 20.
    assert (activity[1] - 392).abs().max() < 100


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match='give multiples of 28 pixels'):
        token_activity(torch.zeros(1, 2, 28, 30), 28)
    with pytest.raises(ValueError, match='contrast_threshold is 0'):
        token_activity(torch.zeros(1, 2, 28, 28), 28, contrast_threshold=0.0)


def ranks(values):
    return np.argsort(np.argsort(values, kind='stable'), kind='stable')


@pytest.mark.parametrize('index', [0, 1, 2, 11])
def test_agrees_in_rank_with_the_event_simulator(index):
    scene = sample_scene('train', index, camera_moves=True)
    renderer = SceneRenderer(stack_scenes([scene]), 168, 168)
    times_s = torch.linspace(1.0, 1.04, 21)
    brightness = luminance(renderer.render(times_s[None]).rgb)
    cheap = token_activity(brightness[:, ::10], 28)[0].numpy().ravel()
    counts = np.zeros((6, 6))
    config = EventCameraConfig(refractory_s=0.0, leak_rate_hz=0.0, shot_noise_rate_hz=0.0)
    for seed in range(8):  # one sensor sees few events in dull tokens
        simulator = EventSimulator(168, 168, config, seed)
        for time_s, picture in zip(times_s.tolist(), brightness[0].numpy()):
            events = simulator.step(picture, round(time_s * 1e9))
            np.add.at(counts, (events.y // 28, events.x // 28), 1)
    assert counts.sum() > 1000
    assert np.corrcoef(ranks(cheap), ranks(counts.ravel()))[0, 1] > 0.85
    assert np.corrcoef(cheap, counts.ravel())[0, 1] > 0.9
