"""A minute with three short spans of motion, live: three bursts of answers and no encoder else."""

import json
from pathlib import Path
import subprocess
import sys

import pytest

BENCH = Path(__file__).resolve().parents[2] / 'bench' / 'watches.py'


@pytest.mark.slow
@pytest.mark.process
def test_a_minute_with_three_spans_of_motion(tmp_path):
    report_path = tmp_path / 'report.json'
    subprocess.run([sys.executable, str(BENCH), '--json', str(report_path)], check=True)
    report = json.loads(report_path.read_text())
    for key in ('camera at rest', 'camera that moves, by a region'):
        values = report[key]
        assert values['bad answers'] == 0
        assert values['answers while something moves'] == values['answers'] >= 3
        assert all(0.0 <= first_s <= 0.5
                   for first_s in values['first frame after motion starts, s'])
        assert values['encoder calls while nothing moves'] == [0, 0, 0, 0]
    many = report['50 watches']
    assert many['watches'] == 50 and many['of them BUSY'] == 0
    assert many['furthest from its interval, s'] < 2.0
    assert all(number <= many['at most, by the gap'] for number in many['asked by activity'])
    assert all(number >= 3 for number in many['asked by activity'])
