"""
Camera messages to RGB arrays: every common encoding of sensor_msgs/Image and CompressedImage.

Messages are duck typed. Rows are unpadded and bytes put in order here, because not every
cv_bridge does so; colours are converted by cv_bridge where it works and by OpenCV where not,
with the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
import functools
import logging
from types import SimpleNamespace
from typing import Any, Callable

import cv2
from epvlm_ros.clean_text import clean_text
import numpy as np

LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Encoding:
    """How pixels of one encoding lie in memory and which OpenCV code makes RGB of them."""

    dtype: type[np.generic]
    num_channels: int
    conversion: int | None  # None: it is RGB already
    # What cv_bridge calls it; empty where not every cv_bridge has such a conversion.
    bridge_name: str = ''
    has_half_colour_plane: bool = False  # below the brightness, of half as many rows


def _table() -> dict[str, _Encoding]:
    table = {
        'mono8': _Encoding(np.uint8, 1, cv2.COLOR_GRAY2RGB, 'mono8'),
        'rgb8': _Encoding(np.uint8, 3, None, 'rgb8'),
        'bgr8': _Encoding(np.uint8, 3, cv2.COLOR_BGR2RGB, 'bgr8'),
        'rgba8': _Encoding(np.uint8, 4, cv2.COLOR_RGBA2RGB, 'rgba8'),
        'bgra8': _Encoding(np.uint8, 4, cv2.COLOR_BGRA2RGB, 'bgra8'),
        'mono16': _Encoding(np.uint16, 1, cv2.COLOR_GRAY2RGB),
        'rgb16': _Encoding(np.uint16, 3, None),
        'bgr16': _Encoding(np.uint16, 3, cv2.COLOR_BGR2RGB),
        'rgba16': _Encoding(np.uint16, 4, cv2.COLOR_RGBA2RGB),
        'bgra16': _Encoding(np.uint16, 4, cv2.COLOR_BGRA2RGB),
        'yuv422': _Encoding(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
        'yuv422_yuy2': _Encoding(np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
        'nv12': _Encoding(
            np.uint8, 1, cv2.COLOR_YUV2RGB_NV12, has_half_colour_plane=True),
        'nv21': _Encoding(
            np.uint8, 1, cv2.COLOR_YUV2RGB_NV21, has_half_colour_plane=True),
        '32FC1': _Encoding(np.float32, 1, cv2.COLOR_GRAY2RGB),
        # Left to right, the first two pixels of the first row and of the second.
        'bayer_rggb8': _Encoding(np.uint8, 1, cv2.COLOR_BayerBG2RGB),
        'bayer_bggr8': _Encoding(np.uint8, 1, cv2.COLOR_BayerRG2RGB),
        'bayer_gbrg8': _Encoding(np.uint8, 1, cv2.COLOR_BayerGR2RGB),
        'bayer_grbg8': _Encoding(np.uint8, 1, cv2.COLOR_BayerGB2RGB),
    }
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
        table[f'bayer_{pattern}16'] = _Encoding(
            np.uint16, 1, table[f'bayer_{pattern}8'].conversion)
    # Names without a meaning of their own, read as the encodings they usually stand for.
    for name, meaning in (
            ('8UC1', 'mono8'), ('8UC3', 'bgr8'), ('8UC4', 'bgra8'), ('16UC1', 'mono16'),
            ('16UC3', 'bgr16'), ('16UC4', 'bgra16'), ('uyvy', 'yuv422'),
            ('yuyv', 'yuv422_yuy2')):
        table[name] = table[meaning]
    return table


_ENCODINGS = _table()
IMAGE_ENCODINGS: tuple[str, ...] = tuple(_ENCODINGS)


# Levels of white, by the bits that values have. Sensors of 10 to 14 bits saturate a little below
# the end of their range, since their black is above 0.
_WHITE_BY_BITS = {10: 960, 12: 3840, 14: 15360, 16: 65535}
_FLOAT_WHITES = tuple(2.0 ** exponent for exponent in range(17))


class WhiteLevel:
    """
    Which pixel value becomes white, for the images of one stream of more than 8 bits.

    An encoding such as mono16 does not say how many of its bits a camera uses, nor 32FC1 how large
    its values are. The level is the lowest usual one that the largest value so far fits into: that
    of 10, 12, 14 or 16 bits, or a power of two from 1 to 65536 for floats. It never falls, or
    images would flicker. A warning tells each level below the whole range.

    Parameters
    ----------
    name : str
        Names the stream in the log, such as its topic; empty for no log.

    """

    def __init__(self, name: str = '') -> None:
        self._name = name
        self._level = 0.0

    def to_8_bits(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint16 or float32 pixels as uint8, from 0 to the level; NaN becomes 0."""
        is_float = pixels.dtype == np.float32
        if is_float:
            pixels = np.nan_to_num(pixels, nan=0.0, posinf=np.inf, neginf=0.0)
            peak = float(pixels.max(where=np.isfinite(pixels), initial=0.0))
            level = next((white for white in _FLOAT_WHITES if peak <= white), _FLOAT_WHITES[-1])
            meaning = f'0 to {max(level, self._level):g}'
        else:
            peak = float(pixels.max())
            num_bits = next(bits for bits in _WHITE_BY_BITS if peak < 2 ** bits)
            level = float(_WHITE_BY_BITS[num_bits])
            meaning = f'values of {num_bits} bits'
        if level > self._level:
            self._level = level
            if self._name and (is_float or num_bits < 16):
                _logger.warning(
                    '%s: the largest pixel value so far is %g, images are read as %s',
                    self._name, peak, meaning)
        if is_float:
            return np.rint(np.clip(pixels, 0.0, self._level) * (255.0 / self._level)).astype(
                np.uint8)
        return _make_lookup(self._level)[pixels]


@functools.lru_cache(maxsize=len(_WHITE_BY_BITS))
def _make_lookup(level: float) -> np.ndarray:
    values = np.minimum(np.arange(2 ** 16), level)
    return np.rint(values * 255.0 / level).astype(np.uint8)


def check_image_size(message: Any) -> None:
    """
    Check that a ``sensor_msgs/msg/Image`` can be as large as it says, whatever its encoding.

    Memory is allocated for the size that a message states: one of a few bytes must not take all.

    Raises
    ------
    ValueError
        If the data are too short even for pixels of one byte, the smallest there are.

    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    needed = max(step, width) * (height - 1) + width
    if len(message.data) < needed:
        raise ValueError(
            f'image has {len(message.data)} bytes, {width} x {height} pixels with step {step} '
            f'take {needed} or more: the message was cut off, or the publisher has to set height, '
            'width and step to those of its data')


def check_image_encoding(message: Any) -> None:
    """Raise a ValueError that names all of ``IMAGE_ENCODINGS`` if a message has another one."""
    if message.encoding not in _ENCODINGS:
        raise ValueError(
            f'image encoding {clean_text(repr(message.encoding))} is unknown: publish one of '
            f'{", ".join(IMAGE_ENCODINGS)}')


def image_to_rgb(message: Any, white_level: WhiteLevel | None = None) -> np.ndarray:
    """
    Convert a ``sensor_msgs/msg/Image`` of one of ``IMAGE_ENCODINGS``.

    More than 8 bits are scaled down by the ``white_level`` of the stream, or of this image alone.

    Returns
    -------
    numpy.ndarray
        uint8 of shape (height, width, 3), RGB, an array of its own.

    Raises
    ------
    ValueError
        If the encoding is unknown, the image has no pixels, or the data are too short.

    """
    check_image_encoding(message)
    encoding = _ENCODINGS[message.encoding]
    return _convert(_pixels(message, encoding), encoding, white_level)


def compressed_to_rgb(message: Any, white_level: WhiteLevel | None = None) -> np.ndarray:
    """
    Decode a ``sensor_msgs/msg/CompressedImage``: JPEG, PNG or another format that OpenCV reads.

    More than 8 bits are scaled down by the ``white_level`` of the stream, or of this image alone.

    Returns
    -------
    numpy.ndarray
        uint8 of shape (height, width, 3), RGB.

    Raises
    ------
    ValueError
        If the data are no image, or a compressed depth image.

    """
    name = message.format
    shown = clean_text(repr(name))
    if 'compressedDepth' in name:
        raise ValueError(f'image format {shown} is a depth image: use the topic of the colours')
    data = np.frombuffer(message.data, np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f'compressed image of {data.size} bytes and format {shown} cannot be decoded: '
            'publish JPEG or PNG')
    num_bits = 8 * pixels.itemsize
    mosaic = name.split(';')[0].strip()
    if pixels.ndim == 2 and mosaic.startswith('bayer_') and mosaic in _ENCODINGS:
        return _convert(pixels, _ENCODINGS[mosaic], white_level)
    kind = {2: 'mono', 3: 'bgr', 4: 'bgra'}[2 if pixels.ndim == 2 else pixels.shape[2]]
    if kind == 'bgr' and ';' in name and 'compressed bgr' not in name:
        kind = 'rgb'  # as image_transport has it: red first where it does not say bgr
    return _convert(pixels, _ENCODINGS[f'{kind}{num_bits}'], white_level)


def _pixels(message: Any, encoding: _Encoding) -> np.ndarray:
    """Return the pixels, (height, width) or (height, width, channels), without row padding."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    dtype = np.dtype(encoding.dtype)
    row_size = width * encoding.num_channels * dtype.itemsize
    data = np.frombuffer(message.data, np.uint8)
    num_rows = height * 3 // 2 if encoding.has_half_colour_plane else height
    if height < 1 or width < 1:
        raise ValueError(f'image is {width} x {height} pixels: publish images with pixels')
    if step < row_size:
        raise ValueError(
            f'image step is {step} bytes, a row of {width} pixels of {message.encoding} takes '
            f'{row_size}: the publisher has to set step to the length of a row')
    needed = step * (num_rows - 1) + row_size
    if data.size < needed:
        raise ValueError(
            f'image has {data.size} bytes, {width} x {height} pixels of {message.encoding} with '
            f'step {step} take {needed}: the message was cut off or its size is wrong')
    rows = np.lib.stride_tricks.as_strided(
        data, (num_rows, row_size), (step, 1), writeable=False)
    ordered = np.ascontiguousarray(rows).view(
        dtype.newbyteorder('>' if message.is_bigendian else '<')).astype(dtype, copy=False)
    shape = (num_rows, width, encoding.num_channels)
    return ordered.reshape(shape[:2] if encoding.num_channels == 1 else shape)


def _convert(
    pixels: np.ndarray, encoding: _Encoding, white_level: WhiteLevel | None,
) -> np.ndarray:
    bridge = _bridge() if encoding.bridge_name else None
    if bridge is not None:
        return bridge(pixels, encoding.bridge_name)
    rgb = _convert_with_opencv(pixels, encoding)
    return rgb if rgb.dtype == np.uint8 else (white_level or WhiteLevel()).to_8_bits(rgb)


def _convert_with_opencv(pixels: np.ndarray, encoding: _Encoding) -> np.ndarray:
    if encoding.conversion is None:
        return pixels.copy()
    try:
        return cv2.cvtColor(pixels, encoding.conversion)
    except cv2.error as error:
        raise ValueError(
            f'image of {pixels.shape[1]} x {pixels.shape[0]} pixels cannot be converted to '
            f'colours: {error.err or "its size does not suit its encoding"}') from None


@functools.lru_cache(maxsize=None)
def _bridge() -> Callable[[np.ndarray, str], np.ndarray] | None:
    """Return a conversion through cv_bridge, or None where that is missing or does not work."""
    try:
        from cv_bridge import CvBridge
        bridge = CvBridge()

        def convert(pixels: np.ndarray, name: str) -> np.ndarray:
            height, width = pixels.shape[:2]
            message = SimpleNamespace(
                encoding=name, height=height, width=width, step=pixels.nbytes // height,
                is_bigendian=0, data=pixels.tobytes())
            # A copy, because cv_bridge may hand out a view of the message.
            return np.array(bridge.imgmsg_to_cv2(message, desired_encoding='rgb8'))

        probe = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
        if not np.array_equal(convert(probe, 'bgr8'), probe[..., ::-1]):
            raise RuntimeError('it returned wrong pixels')
    except Exception as error:  # noqa: B902  a broken installation fails in many ways
        _logger.info('cv_bridge is not used, OpenCV converts images: %s', error)
        return None
    return convert
