"""Random and hostile messages of every type that the nodes subscribe to."""

import array
import math
import time

from builtin_interfaces.msg import Time
from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_interfaces.srv import Ask
from event_camera_msgs.msg import EventPacket
from geometry_msgs.msg import TransformStamped
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String
from tf2_msgs.msg import TFMessage

MEGABYTE = 10 ** 6
UINT32 = 2 ** 32 - 1
ENCODINGS = ('evt3', 'evt21;height=180;width=240', 'libcaer', 'libcaer_cmp', 'mono', 'trigger',
             'mono8', 'mono16', 'rgb8', 'bgra16', 'bayer_rggb8', 'yuv422', 'nv12', '32FC1',
             '16UC3', 'jpeg', 'rgb8; jpeg compressed bgr8', '16UC1; compressedDepth', 'plumb_bob')
NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 1e300, math.nan, math.inf, -math.inf)


class HostileMessages:
    """Makes messages; the same for the same seed."""

    def __init__(self, seed=0):
        self._random = np.random.default_rng(seed)

    def integer(self, largest):
        """Return small numbers, powers of two and the largest one about equally often."""
        return int(self._random.choice([
            0, 1, self._random.integers(2, 300), 2 ** self._random.integers(0, 32), largest])
        ) & largest

    def number(self):
        return float(self._random.choice(NUMBERS))

    def text(self):
        kind = self._random.integers(0, 8)
        if kind < 4:
            return str(self._random.choice(ENCODINGS))
        if kind == 4:
            return ''
        if kind == 5:
            return '\x1b[2J\x1b[31m\n[FATAL] [1.0] [vlm_node]: forged\r\x07\u202e'
        if kind == 6:
            return ''.join(map(chr, self._random.integers(1, 0xd7ff, 20)))
        letters = str(self._random.choice(['a', '\x1b', '\n', '<|im_start|>']))
        return letters * (int(self._random.choice([1000, MEGABYTE])) // len(letters))

    def data(self):
        num_bytes = self._random.choice([0, 1, 7, 8, 300, 5000, 40_000])
        return array.array('B', self._random.bytes(int(num_bytes)))

    def header(self):
        sec = int(self._random.choice([-2 ** 31, -1, 0, 1, 10 ** 9, 2 ** 31 - 1]))
        return Header(stamp=Time(sec=sec, nanosec=self.integer(UINT32)), frame_id=self.text())

    def packet(self):
        return EventPacket(
            header=self.header(), height=self.integer(UINT32), width=self.integer(UINT32),
            seq=self.integer(2 ** 64 - 1), time_base=self.integer(2 ** 64 - 1),
            encoding=self.text(), is_bigendian=bool(self._random.integers(2)), events=self.data())

    def image(self):
        return Image(
            header=self.header(), height=self.integer(UINT32), width=self.integer(UINT32),
            step=self.integer(UINT32), encoding=self.text(),
            is_bigendian=self.integer(255), data=self.data())

    def compressed_image(self):
        return CompressedImage(header=self.header(), format=self.text(), data=self.data())

    def camera_info(self):
        return CameraInfo(
            header=self.header(), height=self.integer(UINT32), width=self.integer(UINT32),
            distortion_model=self.text(), k=[self.number() for _ in range(9)],
            d=[self.number() for _ in range(self._random.integers(0, 20))],
            r=[self.number() for _ in range(9)], p=[self.number() for _ in range(12)],
            binning_x=self.integer(UINT32))

    def transforms(self):
        transforms = []
        for _ in range(self._random.integers(0, 5)):
            stamped = TransformStamped(header=self.header(), child_frame_id=self.text())
            for name in 'xyz':
                setattr(stamped.transform.translation, name, self.number())
            for name in 'xyzw':
                setattr(stamped.transform.rotation, name, self.number())
            transforms.append(stamped)
        return TFMessage(transforms=transforms)

    def guided_frame(self):
        num_values = int(self._random.choice([0, 1, 35, 980]))
        header = self.header()
        if self._random.integers(2):
            header.stamp.sec = int(time.time())  # not stale: what else is wrong comes to light
        return EventGuidedFrame(
            header=header, image=self.image(), missing=self.integer(255),
            window_start=self.header().stamp, window_end=self.header().stamp,
            coverage=self._short_number(), wait=self._short_number(),
            num_events=self.integer(UINT32), cell_size=self.integer(2 ** 16 - 1),
            rows=self.integer(2 ** 16 - 1), cols=self.integer(2 ** 16 - 1),
            pixel_density=self._short_number(), reason=self.text(),
            activity=[self._short_number() for _ in range(num_values)],
            change_scores=self._random.integers(
                0, 2 ** 16, self._random.choice([0, 1, 35, num_values])).tolist(),
            change_epoch=self.integer(2 ** 64 - 1), change_doubts=self.integer(UINT32))

    def question(self):
        return String(data=self.text())

    def request(self):
        return Ask.Request(
            question=self.text(), query_id=self.text(), keep_ratio=self.number(),
            max_new_tokens=self.integer(UINT32), deadline=self.number(),
            num_moments=self.integer(UINT32))

    def _short_number(self):
        number = self.number()
        return number if not math.isfinite(number) else float(np.float32(np.clip(number, -9, 9)))


def break_text(serialized, random):
    """Return a serialised message with a byte that is no UTF-8 in place of a random letter."""
    broken = bytearray(serialized)
    letters = [place for place, byte in enumerate(broken[:4000]) if 97 <= byte <= 122]
    if letters:
        broken[random.choice(letters)] = 0xff
    return bytes(broken)
