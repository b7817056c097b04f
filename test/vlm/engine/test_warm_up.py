"""After the warm-up nothing is compiled: no packet of a stream and no question waits for that."""

import subprocess
import sys

import pytest

LIST_COMPILED = """
import gc

from numba.core.dispatcher import Dispatcher


def compiled():
    return {(item.py_func.__module__, item.py_func.__name__, str(signature))
            for item in gc.get_objects() if isinstance(item, Dispatcher)
            for signature in item.signatures}


"""
COUNT_AFTER_PACKETS = LIST_COMPILED + """
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3, ENCODINGS
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer, warm_up
import numpy as np

filters = FilterConfig(
    hot_pixel_filter=True, background_filter=True, flicker_filter=True, max_pixel_rate=100.0)
warm_up(filters)
before = compiled()
random = np.random.default_rng(0)
turned = (0.9, -0.1, 5.0, 0.1, 0.9, 3.0, 0.0, 0.0, 1.0)
for encoding in ENCODINGS:
    for config in (EventSyncConfig(max_wait=0.0), EventSyncConfig(max_wait=0.0, homography=turned),
                   EventSyncConfig(max_wait=0.0, window_mode='activity')):
        for used in (FilterConfig(), filters):
            sync = FrameSynchronizer(config, used)
            sync.add_frame(Frame(0, 48, 64), 0.0)
            for seq in range(6):
                payload = random.integers(0, 256, 4000).astype(np.uint8)
                if encoding == 'evt3':
                    events = Events(*(random.integers(0, 40, 500).astype(kind)
                                      for kind in (np.uint16, np.uint16)),
                                    np.ones(500, np.uint8), np.arange(500) * 1000)
                    payload = encode_evt3(events, start_ns=0)
                sync.add_packet(
                    EventPacket(seq, 64, 48, seq, 0, encoding, payload), 0.0, shed=seq % 3 == 2)
            sync.poll(1.0)
new = {item for item in compiled() - before if not item[1].startswith('_encode')}
print(sorted((item[0], item[1]) for item in new if 'encoder' not in item[0]))
"""

COUNT_AFTER_QUESTIONS = LIST_COMPILED + """
from dataclasses import replace

from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import VlmEngine
from epvlm_ros.vlm.token_selection import POLICIES
import numpy as np

engine = VlmEngine.from_config(VlmConfig(device='cpu', max_new_tokens=1))
assert not compiled()
engine.warm_up()
before = compiled()
assert before
for height, width in ((224, 224), (101, 333)):
    for policy in POLICIES:
        for is_writable in (True, False):
            counts = np.full(grid_shape(height, width, 4), 9, np.float32)
            counts.setflags(write=is_writable)
            engine.reconfigure(replace(engine.config, selection=policy))
            engine.answer(np.zeros((height, width, 3), np.uint8), 'what moves ?', ActivityGrid(
                counts, 4, height, width, 0, 50_000_000))
print(sorted(compiled() - before))
"""


def _run(code):
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)


@pytest.mark.process
def test_after_the_warm_up_no_packet_waits_for_a_compiler():
    done = _run(COUNT_AFTER_PACKETS)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.process
def test_after_the_warm_up_no_question_waits_for_a_compiler():
    done = _run(COUNT_AFTER_QUESTIONS)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr
