"""The bandwidth of the pixels: time constants and attenuation as those of a first-order filter."""

import math

from epvlm_ros.sim.activity_model import LOG_OFFSET
from epvlm_ros.sim.photoreceptor import Photoreceptor
import numpy as np
import pytest


def lights(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize('num_steps', [1, 10, 1000])
def test_time_constants_in_the_light_and_in_the_dark(num_steps):
    # 100 Hz in white: 1 / (2 pi 100) = 1.5915 ms. A current of 0.07 instead of 1.02: 23.19 ms.
    before, after = lights(0.5, 0.01), lights(1.0, 0.05)
    start, end = np.log([0.52, 0.03]), np.log([1.02, 0.07])
    for pixel, time_constant_s in ((0, 1.5915e-3), (1, 23.19e-3)):
        receptor = Photoreceptor(100.0)
        receptor.follow(before, 0.0)
        receptor.follow(after, 1e-7)  # a step
        for _ in range(num_steps):
            found = receptor.follow(after, time_constant_s / num_steps)
        expected = start + (end - start) * (1.0 - math.exp(-1.0))
        assert found[pixel] == pytest.approx(expected[pixel], abs=2e-3)


def test_a_ramp_is_followed_with_the_delay_of_the_time_constant():
    receptor = Photoreceptor(100.0)
    logs = np.linspace(math.log(0.1), math.log(0.1) + 0.2, 201)
    receptor.follow(lights(np.exp(logs[0]) - LOG_OFFSET), 0.0)
    for log in logs[1:]:  # 200 ms, 2 a second
        found = receptor.follow(lights(np.exp(log) - LOG_OFFSET), 0.002)
    # the current is 0.122: a time constant of 1.5915 ms * 1.02 / 0.122 = 13.3 ms
    assert logs[-1] - found[0] == pytest.approx(0.5 * 13.3e-3, rel=0.02)


def test_attenuation_at_the_cutoff():
    receptor = Photoreceptor(50.0)
    found, phases = [], np.arange(8000) * (2 * math.pi / 400)  # 20 periods of 20 ms
    for phase in phases:
        found.append(receptor.follow(lights(1.0 + 0.01 * math.sin(phase)), 0.02 / 400)[0])
    last = np.array(found[-4000:], float) - math.log(1.02)
    quadratures = [2 * np.mean(last * wave(phases[-4000:])) for wave in (np.sin, np.cos)]
    amplitude = math.hypot(*quadratures) / (0.01 / 1.02)
    assert amplitude == pytest.approx(math.sqrt(0.5), rel=0.01)
    assert math.atan2(quadratures[1], quadratures[0]) == pytest.approx(-math.pi / 4, abs=0.02)


def test_no_limit_is_the_logarithm():
    receptor = Photoreceptor(0.0)
    for light in (0.3, 0.9, 0.0):
        assert receptor.follow(lights(light), 1e-4)[0] == pytest.approx(
            math.log(light + LOG_OFFSET), abs=1e-6)
