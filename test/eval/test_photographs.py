"""Annotations of photographs in the formats of COCO, with pictures that the tests make."""

import json

import cv2
from epvlm_ros.eval.photographs import HALVES, read_photographs
import numpy as np
import pytest


def write_image(path, height=40, width=60):
    """Write a picture of its own colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    cv2.imwrite(str(path), image)
    return image[:, :, ::-1]


def test_boxes_of_yolo_are_shares_of_the_image(tmp_path):
    rgb = write_image(tmp_path / 'images' / 'a.png')
    (tmp_path / 'boxes').mkdir()
    (tmp_path / 'boxes' / 'a.txt').write_text('7 0.5 0.25 0.1 0.5\n')
    photograph, = read_photographs(tmp_path)
    assert np.array_equal(photograph.read(), rgb)
    mask, = photograph.box_masks(40, 60)
    assert mask[:20, 27:33].min() == 1.0 and mask.sum() == 20 * 6
    assert photograph.object_masks(40, 60) == []


def test_a_box_counts_parts_of_pixels(tmp_path):
    write_image(tmp_path / 'a.png')
    (tmp_path / 'found.json').write_text(json.dumps({
        'images': [{'id': 3, 'file_name': 'a.png'}], 'annotations': [
            {'image_id': 3, 'bbox': [1.5, 2.0, 2.0, 1.25], 'iscrowd': 0}]}))
    mask, = read_photographs(tmp_path)[0].box_masks(40, 60)
    assert mask[2, :5].tolist() == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert mask[3, 2] == 0.25 and mask.sum() == 2.5


def test_outlines_as_polygons_and_as_runs(tmp_path):
    write_image(tmp_path / 'images' / 'a.png', 4, 5)
    annotation = {'image_id': 1, 'bbox': [0, 0, 2, 2], 'iscrowd': 0}
    (tmp_path / 'instances.json').write_text(json.dumps({
        'images': [{'id': 1, 'file_name': 'a.png'}], 'annotations': [
            {**annotation, 'segmentation': [[1, 1, 3, 1, 3, 2, 1, 2]]},
            # by columns: two off, three on, the rest off
            {**annotation, 'segmentation': {'counts': [2, 3, 15], 'size': [4, 5]}},
            {**annotation, 'iscrowd': 1, 'segmentation': {'counts': [0, 20], 'size': [4, 5]}},
            {**annotation, 'image_id': 9}]}))
    photograph, = read_photographs(tmp_path)
    polygon, runs = photograph.object_masks(4, 5)
    assert np.argwhere(polygon).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    assert np.argwhere(runs).tolist() == [[0, 1], [2, 0], [3, 0]]
    assert len(photograph.box_masks(4, 5)) == 2
    photograph.outlines.append({'counts': 'PPYo0', 'size': [4, 5]})
    with pytest.raises(ValueError, match='give polygons or plain counts'):
        photograph.object_masks(4, 5)


def test_panoptic_masks_of_things_that_are_no_crowd(tmp_path):
    write_image(tmp_path / 'images' / 'a.jpg')
    owner = np.zeros((40, 60), np.uint32)
    owner[:5], owner[5:10], owner[10:15, 7] = 8345037, 2, 70000
    colours = np.stack([owner >> shift & 255 for shift in (16, 8, 0)], axis=2)  # blue first
    (tmp_path / 'masks').mkdir()
    cv2.imwrite(str(tmp_path / 'masks' / 'b.png'), colours.astype(np.uint8))
    (tmp_path / 'masks.json').write_text(json.dumps({
        'images': [{'id': 1, 'file_name': 'a.jpg'}],
        'categories': [{'id': 1, 'isthing': 1}, {'id': 2, 'isthing': 0}],
        'annotations': [{'image_id': 1, 'file_name': 'b.png', 'segments_info': [
            {'id': 70000, 'category_id': 1, 'iscrowd': 0}, {'id': 2, 'category_id': 2},
            {'id': 8345037, 'category_id': 1, 'iscrowd': 1}]}]}))
    mask, = read_photographs(tmp_path)[0].object_masks(40, 60)
    assert np.argwhere(mask).tolist() == [[row, 7] for row in range(10, 15)]


def test_halves_are_a_hash_of_the_name(tmp_path):
    # the first bytes that sha256sum gives for the names: 7f, 5f, 58, a1; odd ones report
    for name in ('a.png', 'b.png', 'c.png', 'd.png'):
        write_image(tmp_path / name, 8, 8)
    (tmp_path / 'boxes').mkdir()
    (tmp_path / 'boxes' / 'a.txt').write_text('0 0.5 0.5 1 1\n')
    halves = {item.path.name: item.half for item in read_photographs(tmp_path)}
    assert halves == {
        'a.png': 'report', 'b.png': 'report', 'c.png': 'choose', 'd.png': 'report'}
    assert HALVES == ('choose', 'report')


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(ValueError, match='give a folder with images'):
        read_photographs(tmp_path)
    write_image(tmp_path / 'a.png', 8, 8)
    with pytest.raises(ValueError, match='has no annotations'):
        read_photographs(tmp_path)
    (tmp_path / 'bad.png').write_text('no image')
    (tmp_path / 'boxes').mkdir()
    (tmp_path / 'boxes' / 'a.txt').write_text('0 0.5 0.5 1 1\n')
    with pytest.raises(ValueError, match='bad.png cannot be read'):
        read_photographs(tmp_path)[1].read()
