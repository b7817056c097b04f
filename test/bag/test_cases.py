"""Recordings that the package got wrong once, with the right results by their README."""

from epvlm_ros.bag import BagReader


def test_12_bits_in_mono16_are_not_dark(shared_cases, caplog):
    with BagReader(shared_cases / 'mono16_12bit') as bag:
        brightest = [image.rgb.max() for image in bag.images()]
    # The values are those of an 8-bit camera times 16, up to 132 and 129.
    assert all(133 <= value <= 141 for value in brightest)
    line, = (record.getMessage() for record in caplog.records)
    assert line == ('/camera/image_raw: the largest pixel value so far is 2112, images are read '
                    'as values of 12 bits')


def test_nv12_is_converted(shared_cases):
    with BagReader(shared_cases / 'nv12') as bag:
        images = list(bag.images())
    assert [image.rgb.shape for image in images] == [(180, 240, 3)] * 2
    assert all(image.rgb.std() > 10 for image in images)
