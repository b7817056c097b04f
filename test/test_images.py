"""Camera messages of every encoding, with pixels worked out by hand."""

import builtins
import importlib.util
import sys
from types import SimpleNamespace

import cv2
from epvlm_ros import images
from epvlm_ros.images import (
    check_image_encoding, check_image_size, compressed_to_rgb, IMAGE_ENCODINGS, image_to_rgb,
    WhiteLevel)
import numpy as np
import pytest

RANDOM = np.random.default_rng(6)


@pytest.fixture(params=['cv_bridge', 'opencv'], autouse=True)
def converter(request, monkeypatch):
    """Run every test with cv_bridge, where it is installed, and without."""
    if request.param == 'cv_bridge' and importlib.util.find_spec('cv_bridge') is None:
        pytest.skip('cv_bridge is not installed')
    if request.param == 'opencv':
        monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    images._bridge.cache_clear()
    assert (images._bridge() is None) == (request.param == 'opencv')
    yield request.param
    images._bridge.cache_clear()


def message(encoding, pixels, padding=0, is_bigendian=False):
    """Return a message of an array (height, width[, channels]) with padded rows."""
    if is_bigendian:
        pixels = pixels.astype(pixels.dtype.newbyteorder('>'))
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return SimpleNamespace(
        encoding=encoding, height=pixels.shape[0], width=pixels.shape[1], step=rows.shape[1],
        is_bigendian=int(is_bigendian), data=rows.tobytes())


RGB = RANDOM.integers(0, 256, (5, 7, 3)).astype(np.uint8)
GRAY = RANDOM.integers(0, 256, (5, 7)).astype(np.uint8)
ALPHA = RANDOM.integers(0, 256, (5, 7, 1)).astype(np.uint8)
FULL_GRAY = np.repeat(GRAY[..., None], 3, axis=2)


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize(('encoding', 'pixels', 'expected'), [
    ('rgb8', RGB, RGB), ('bgr8', RGB[..., ::-1], RGB), ('mono8', GRAY, FULL_GRAY),
    ('8UC1', GRAY, FULL_GRAY), ('8UC3', RGB[..., ::-1], RGB),
    ('rgba8', np.concatenate([RGB, ALPHA], axis=2), RGB),
    ('bgra8', np.concatenate([RGB[..., ::-1], ALPHA], axis=2), RGB),
    ('8UC4', np.concatenate([RGB[..., ::-1], ALPHA], axis=2), RGB)])
def test_eight_bits(encoding, pixels, expected, padding):
    rgb = image_to_rgb(message(encoding, pixels, padding))
    np.testing.assert_array_equal(rgb, expected)
    assert rgb.dtype == np.uint8 and rgb.flags.writeable and rgb.flags.owndata


@pytest.mark.parametrize('is_bigendian', [False, True])
@pytest.mark.parametrize('padding', [0, 2])
@pytest.mark.parametrize('encoding', ['mono16', '16UC1', 'rgb16', 'bgr16', '16UC3', 'rgba16',
                                      'bgra16', '16UC4'])
def test_sixteen_bits_are_scaled(encoding, padding, is_bigendian):
    wide = RGB.astype(np.uint16) * 257  # 0 to 65535
    wide += RANDOM.integers(0, 128, wide.shape).astype(np.uint16) * (wide < 65000)  # rounded off
    expected = RGB
    if encoding in ('mono16', '16UC1'):
        wide, expected = wide[..., 0], np.repeat(RGB[..., :1], 3, axis=2)
    elif encoding != 'rgb16' and encoding != 'rgba16':
        wide = wide[..., ::-1]
    if encoding in ('rgba16', 'bgra16', '16UC4'):
        wide = np.concatenate([wide, wide[..., :1]], axis=2)
    rgb = image_to_rgb(message(encoding, wide, padding, is_bigendian))
    np.testing.assert_array_equal(rgb, expected)


@pytest.mark.parametrize(('encoding', 'red', 'blue'), [
    ('bayer_rggb', (0, 0), (1, 1)), ('bayer_bggr', (1, 1), (0, 0)),
    ('bayer_gbrg', (1, 0), (0, 1)), ('bayer_grbg', (0, 1), (1, 0))])
@pytest.mark.parametrize('num_bits', [8, 16])
def test_bayer_patterns(encoding, red, blue, num_bits):
    scale = 1 if num_bits == 8 else 257
    mosaic = np.full((8, 8), 100 * scale, f'u{num_bits // 8}')  # green, wherever not said else
    mosaic[red[0]::2, red[1]::2] = 200 * scale
    mosaic[blue[0]::2, blue[1]::2] = 30 * scale
    rgb = image_to_rgb(message(f'{encoding}{num_bits}', mosaic))
    np.testing.assert_array_equal(rgb, np.broadcast_to([200, 100, 30], (8, 8, 3)))


@pytest.mark.parametrize(('encoding', 'order'), [
    ('yuv422', [1, 0, 2, 0]), ('uyvy', [1, 0, 2, 0]),
    ('yuv422_yuy2', [0, 1, 0, 2]), ('yuyv', [0, 1, 0, 2])])
def test_yuv(encoding, order):
    yuv = np.array([81, 90, 240], np.uint8)  # red in BT.601
    row = np.tile(yuv[order], 3)
    pixels = np.stack([row] * 4).reshape(4, 6, 2)
    rgb = image_to_rgb(message(encoding, pixels, padding=4))
    np.testing.assert_allclose(rgb, np.broadcast_to([255, 0, 0], (4, 6, 3)), atol=2)


def nv_message(encoding, padding=0):
    """Return 4 x 6 pixels: red in the left 2 columns, else black; colours are of 2 x 2 pixels."""
    brightness = np.full((4, 6), 16, np.uint8)
    brightness[:, :2] = 81
    colours = np.full((2, 6), 128, np.uint8)
    colours[:, :2] = (90, 240) if encoding == 'nv12' else (240, 90)  # BT.601
    made = message(encoding, np.concatenate([brightness, colours]), padding)
    made.height = 4
    return made


@pytest.mark.parametrize('padding', [0, 4])
@pytest.mark.parametrize('encoding', ['nv12', 'nv21'])
def test_a_plane_of_brightness_and_one_of_colours(encoding, padding):
    made = nv_message(encoding, padding)
    rgb = image_to_rgb(made)
    assert rgb.shape == (4, 6, 3)
    np.testing.assert_allclose(rgb[:, :2], np.broadcast_to([255, 0, 0], (4, 2, 3)), atol=2)
    np.testing.assert_array_equal(rgb[:, 2:], 0)
    made.data = made.data[:5 * (6 + padding) + 5]
    with pytest.raises(ValueError, match=f'take {5 * (6 + padding) + 6}: the message was cut off'):
        image_to_rgb(made)
    made.height = 3
    with pytest.raises(ValueError, match='cannot be converted to colours'):
        image_to_rgb(made)


def test_floats_are_scaled_by_what_is_there():
    pixels = np.array([[0.0, 0.25, 1.0], [np.nan, np.inf, -3.0]], np.float32)
    for is_bigendian in (False, True):
        rgb = image_to_rgb(message('32FC1', pixels, is_bigendian=is_bigendian))
        assert rgb[..., 0].tolist() == [[0, 64, 255], [0, 255, 0]]  # 63.75
    assert image_to_rgb(message('32FC1', 6 * pixels))[0, :, 0].tolist() == [0, 48, 191]  # of 8
    assert image_to_rgb(message('32FC1', 1e9 * pixels))[0, 2].tolist() == [255] * 3
    assert not image_to_rgb(message('32FC1', np.full((2, 2), np.nan, np.float32))).any()


@pytest.mark.parametrize(('largest', 'expected'), [
    (0, 0), (480, 128), (960, 255), (1023, 255), (1024, 68), (2112, 140), (3840, 255),
    (4095, 255), (4096, 68), (15360, 255), (16384, 64), (65535, 255)])
def test_values_of_fewer_than_16_bits_become_as_bright_as_those_of_8(largest, expected):
    pixels = np.array([[largest, 0]], np.uint16)
    assert image_to_rgb(message('mono16', pixels))[0, :, 0].tolist() == [expected, 0]


def test_images_of_a_stream_are_scaled_alike_and_the_log_says_so_once(caplog):
    level = WhiteLevel('/camera')

    def show(value, encoding='mono16'):
        pixels = np.full((2, 2), value, np.uint16)
        return int(image_to_rgb(message(encoding, pixels), level)[0, 0, 0])

    # 96 is a tenth of the white of 10 bits, and a fortieth of that of 12.
    assert [show(value) for value in (96, 3000, 96, 96, 3840, 96)] == [26, 199, 6, 6, 255, 6]
    assert [record.getMessage() for record in caplog.records] == [
        '/camera: the largest pixel value so far is 96, images are read as values of 10 bits',
        '/camera: the largest pixel value so far is 3000, images are read as values of 12 bits']
    assert show(65535) == 255 and show(3840) == 15
    assert len(caplog.records) == 2  # all 16 bits are what the encoding says


def test_alpha_does_not_count_as_brightness():
    pixels = np.full((2, 2, 4), 65535, np.uint16)
    pixels[..., :3] = 480
    np.testing.assert_array_equal(image_to_rgb(message('rgba16', pixels)), 128)


def test_a_compressed_image_of_12_bits():
    level = WhiteLevel()
    bright, dark = (compressed(np.full((4, 4), value, np.uint16)) for value in (1920, 192))
    assert compressed_to_rgb(bright, level)[0, 0].tolist() == [128] * 3
    assert compressed_to_rgb(dark, level)[0, 0].tolist() == [13] * 3


def test_what_can_be_converted_is_known_from_the_encoding():
    for encoding in IMAGE_ENCODINGS:
        check_image_encoding(SimpleNamespace(encoding=encoding))
    with pytest.raises(ValueError, match="'nv24' is unknown: publish one of mono8"):
        check_image_encoding(SimpleNamespace(encoding='nv24'))


def test_both_converters_agree(monkeypatch, converter):
    if converter == 'opencv':
        pytest.skip('there is nothing to compare with')
    for encoding in IMAGE_ENCODINGS:
        known = images._ENCODINGS[encoding]
        dtype = np.dtype(known.dtype)
        shape = (6, 8) if known.num_channels == 1 else (6, 8, known.num_channels)
        largest = 1 if dtype.kind == 'f' else np.iinfo(dtype).max
        pixels = RANDOM.integers(0, largest + 1, shape).astype(dtype)
        made = message(encoding, pixels)
        if encoding in ('nv12', 'nv21'):
            made.height = 4  # and two rows of colours
        with_bridge = image_to_rgb(made)
        with monkeypatch.context() as patch:
            patch.setattr(images, '_bridge', lambda: None)
            np.testing.assert_array_equal(image_to_rgb(made), with_bridge)


def test_a_bridge_that_does_not_work_is_not_used(monkeypatch):
    class CvBridge:
        """Fails as one does that was built for other versions."""

        def imgmsg_to_cv2(self, image, desired_encoding):
            raise TypeError('built for another version')

    monkeypatch.setitem(sys.modules, 'cv_bridge', SimpleNamespace(CvBridge=CvBridge))
    images._bridge.cache_clear()
    np.testing.assert_array_equal(image_to_rgb(message('rgb8', RGB)), RGB)


def test_only_the_last_row_may_lack_its_padding():
    full = message('rgb8', RGB, padding=3)
    short = SimpleNamespace(**{**vars(full), 'data': full.data[:-3]})
    np.testing.assert_array_equal(image_to_rgb(short), RGB)
    short.data = full.data[:-4]
    with pytest.raises(ValueError, match='116 bytes.*take 117'):
        image_to_rgb(short)


@pytest.mark.parametrize(('changes', 'text'), [
    ({'encoding': '64FC1'}, "'64FC1' is unknown: publish one of mono8, .*nv12, .*32FC1"),
    ({'encoding': ''}, 'is unknown'),
    ({'encoding': '\x1b[2J' + 1000 * 'x'}, r"'\\x1b\[2Jx+\.\.\. \(1009 characters\) is unknown"),
    ({'step': 20}, 'step is 20 bytes.*takes 21'),
    ({'step': 0}, 'step is 0'),
    ({'height': 6}, 'take 126'),
    ({'height': 0}, '7 x 0 pixels'),
    ({'width': 0}, '0 x 5 pixels'),
    ({'data': b''}, '0 bytes')])
def test_images_that_cannot_be(changes, text):
    with pytest.raises(ValueError, match=text):
        image_to_rgb(SimpleNamespace(**{**vars(message('rgb8', RGB)), **changes}))


@pytest.mark.parametrize(('height', 'width', 'step', 'num_bytes', 'is_good'), [
    (5, 7, 7, 35, True), (5, 7, 21, 105, True), (5, 7, 9, 4 * 9 + 7, True), (1, 7, 9, 7, True),
    (0, 7, 7, 0, True), (5, 0, 0, 0, True), (5, 7, 0, 35, True),
    (5, 7, 7, 34, False), (5, 7, 9, 4 * 9 + 6, False), (5, 7, 0, 34, False),
    (60000, 60000, 60000, 100, False), (2 ** 32 - 1, 1, 0, 100, False),
    (1, 2 ** 32 - 1, 0, 100, False)])
def test_a_size_that_the_data_cannot_have(height, width, step, num_bytes, is_good):
    stated = SimpleNamespace(height=height, width=width, step=step, data=bytes(num_bytes))
    if is_good:
        check_image_size(stated)
    else:
        with pytest.raises(ValueError, match=f'has {num_bytes} bytes, {width} x {height} pixels'):
            check_image_size(stated)


def test_an_odd_width_of_yuv_is_refused():
    with pytest.raises(ValueError, match='cannot be converted'):
        image_to_rgb(message('yuv422', np.zeros((4, 5, 2), np.uint8)))


def compressed(pixels, extension='.png', name='png'):
    ok, data = cv2.imencode(extension, pixels)
    assert ok
    return SimpleNamespace(format=name, data=data.tobytes())


def test_compressed_images():
    bgr = np.ascontiguousarray(RGB[..., ::-1])
    np.testing.assert_array_equal(compressed_to_rgb(compressed(bgr)), RGB)
    np.testing.assert_array_equal(compressed_to_rgb(compressed(GRAY)), FULL_GRAY)
    np.testing.assert_array_equal(
        compressed_to_rgb(compressed(GRAY.astype(np.uint16) * 257)), FULL_GRAY)
    np.testing.assert_array_equal(
        compressed_to_rgb(compressed(np.concatenate([bgr, ALPHA], axis=2))), RGB)
    flat = np.full((16, 16, 3), (10, 200, 90), np.uint8)
    jpeg = compressed(flat[..., ::-1], '.jpg', 'rgb8; jpeg compressed bgr8')
    np.testing.assert_allclose(compressed_to_rgb(jpeg), flat, atol=3)
    # What image_transport takes for red is the first channel that was encoded.
    for name in ('rgb8; jpeg compressed rgb8', 'bgr8; jpeg compressed rgb8',
                 'rgb8; jpeg compressed '):
        swapped = compressed(flat, '.jpg', name)
        np.testing.assert_allclose(compressed_to_rgb(swapped), flat, atol=3)
    plain = compressed(flat[..., ::-1], '.jpg', 'jpeg')
    np.testing.assert_allclose(compressed_to_rgb(plain), flat, atol=3)


def test_a_compressed_bayer_mosaic_gets_its_colours():
    mosaic = np.full((8, 8), 100, np.uint8)
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 200, 30
    rgb = compressed_to_rgb(compressed(mosaic, name='bayer_rggb8; png compressed '))
    np.testing.assert_array_equal(rgb, np.broadcast_to([200, 100, 30], (8, 8, 3)))


@pytest.mark.parametrize('data', [b'', b'not an image', compressed(GRAY).data[:20]])
def test_damaged_compressed_images(data):
    with pytest.raises(ValueError, match="format 'jpeg' cannot be decoded"):
        compressed_to_rgb(SimpleNamespace(format='jpeg', data=data))


def test_depth_images_are_refused():
    with pytest.raises(ValueError, match='depth'):
        compressed_to_rgb(SimpleNamespace(format='16UC1; compressedDepth png', data=b'x'))


def test_images_import_without_cv_bridge_and_ros(monkeypatch):
    real_import = builtins.__import__

    def without_ros(name, *args, **kwargs):
        assert name.split('.')[0] not in ('rclpy', 'sensor_msgs', 'cv_bridge'), name
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without_ros)
    monkeypatch.delitem(sys.modules, 'epvlm_ros.images')
    importlib.import_module('epvlm_ros.images')
