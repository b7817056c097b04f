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


def image_to_rgb(message: Any) -> np.ndarray:
    """
    Convert a ``sensor_msgs/msg/Image`` of one of ``IMAGE_ENCODINGS``.

    16 bits are scaled down to 8 over their whole range.

    Returns
    -------
    numpy.ndarray
        uint8 of shape (height, width, 3), RGB, an array of its own.

    Raises
    ------
    ValueError
        If the encoding is unknown, the image has no pixels, or the data are too short.

    """
    encoding = _ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ValueError(
            f'image encoding {message.encoding!r} is unknown: publish one of '
            f'{", ".join(IMAGE_ENCODINGS)}')
    return _convert(_pixels(message, encoding), encoding)


def compressed_to_rgb(message: Any) -> np.ndarray:
    """
    Decode a ``sensor_msgs/msg/CompressedImage``: JPEG, PNG or another format that OpenCV reads.

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
    if 'compressedDepth' in name:
        raise ValueError(f'image format {name!r} is a depth image: use the topic of the colours')
    data = np.frombuffer(message.data, np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f'compressed image of {data.size} bytes and format {name!r} cannot be decoded: '
            'publish JPEG or PNG')
    num_bits = 8 * pixels.itemsize
    mosaic = name.split(';')[0].strip()
    if pixels.ndim == 2 and mosaic.startswith('bayer_') and mosaic in _ENCODINGS:
        return _convert(pixels, _ENCODINGS[mosaic])
    kind = {2: 'mono', 3: 'bgr', 4: 'bgra'}[2 if pixels.ndim == 2 else pixels.shape[2]]
    return _convert(pixels, _ENCODINGS[f'{kind}{num_bits}'])


def _pixels(message: Any, encoding: _Encoding) -> np.ndarray:
    """Return the pixels, (height, width) or (height, width, channels), without row padding."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    dtype = np.dtype(encoding.dtype)
    row_size = width * encoding.num_channels * dtype.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if height < 1 or width < 1:
        raise ValueError(f'image is {width} x {height} pixels: publish images with pixels')
    if step < row_size:
        raise ValueError(
            f'image step is {step} bytes, a row of {width} pixels of {message.encoding} takes '
            f'{row_size}: the publisher has to set step to the length of a row')
    needed = step * (height - 1) + row_size
    if data.size < needed:
        raise ValueError(
            f'image has {data.size} bytes, {width} x {height} pixels of {message.encoding} with '
            f'step {step} take {needed}: the message was cut off or its size is wrong')
    rows = np.lib.stride_tricks.as_strided(
        data, (height, row_size), (step, 1), writeable=False)
    ordered = np.ascontiguousarray(rows).view(
        dtype.newbyteorder('>' if message.is_bigendian else '<')).astype(dtype, copy=False)
    shape = (height, width, encoding.num_channels)
    return ordered.reshape(shape[:2] if encoding.num_channels == 1 else shape)


def _convert(pixels: np.ndarray, encoding: _Encoding) -> np.ndarray:
    bridge = _bridge() if encoding.bridge_name else None
    if bridge is not None:
        return bridge(pixels, encoding.bridge_name)
    return _convert_with_opencv(pixels, encoding)


def _convert_with_opencv(pixels: np.ndarray, encoding: _Encoding) -> np.ndarray:
    if encoding.conversion is None:
        rgb = pixels.copy()
    else:
        try:
            rgb = cv2.cvtColor(pixels, encoding.conversion)
        except cv2.error as error:
            raise ValueError(
                f'image of {pixels.shape[1]} x {pixels.shape[0]} pixels cannot be converted to '
                f'colours: {error.err or "its size does not suit its encoding"}') from None
    if rgb.dtype == np.uint16:
        rgb = np.rint(rgb / 257.0).astype(np.uint8)
    return rgb


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
