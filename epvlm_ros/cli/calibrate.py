"""The command ``epvlm calibrate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from epvlm_ros.cli.picture import check_picture_path, write_picture
from epvlm_ros.events.config import EventSyncConfig


def add_calibrate_options(calibrate: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    calibrate.add_argument('bag', type=Path, help='rosbag2 folder, or a .db3 or .mcap file')
    calibrate.add_argument('--output', type=Path, default=Path('registration.yaml'),
                           metavar='YAML', help='file to write (default: %(default)s)')
    calibrate.add_argument('--picture', type=Path, metavar='PNG',
                           help='draw edges in grey and events in colour, before and after')
    calibrate.add_argument('--frames', type=int, default=32, metavar='NUMBER',
                           help='frames to measure on (default: %(default)s)')
    calibrate.add_argument('--window-length', type=float,
                           default=EventSyncConfig().window_length, metavar='SECONDS',
                           help='of the event window (default: %(default)s)')
    calibrate.add_argument('--event-topic', help='default: the only one of its type')
    calibrate.add_argument('--image-topic', help='default: the only one of its type')
    calibrate.set_defaults(run=calibrate_command)


def calibrate_command(options: argparse.Namespace) -> None:
    """Measure where event pixels are in the image, and write the file for the node."""
    from epvlm_ros.bag.calibrate import calibrate_bag
    from epvlm_ros.bag.reader import BagReader
    from epvlm_ros.events.calibration import draw_calibration
    from epvlm_ros.events.registration import HomographyFile, save_registration
    from tqdm import tqdm

    if options.picture:
        check_picture_path(options.picture)
    with BagReader(options.bag) as bag:
        measured = calibrate_bag(
            bag, options.frames, options.window_length, options.event_topic,
            options.image_topic, lambda steps: tqdm(steps, leave=False, disable=None))
    result = measured.result
    save_registration(options.output, HomographyFile(
        result.homography, measured.sensor_size, measured.image_size, result.residual_px,
        result.num_frames, result.window_offset_s))
    if options.picture:
        write_picture(options.picture, draw_calibration(
            measured.frames, result, measured.sensor_size, options.window_length))
    for name, text in (
            ('residual', f'{result.residual_px:.2f} px, on {result.num_held_out} other frames '
                         f'in {result.num_blocks} parts of the image'),
            ('standard error', f'{result.standard_error_px:.2f} px'),
            ('frames', f'{result.num_frames}'),
            ('correlation', f'{result.correlation:.2f}, was {result.correlation_before:.2f}'),
            ('window offset', f'{result.window_offset_s * 1e3:+.1f} ms'),
            ('homography', '\n'.join(
                ('' if row is result.homography[0] else ' ' * 16)
                + ' '.join(f'{number:12.6g}' for number in row) for row in result.homography))):
        print(f'{name:<16}{text}')
    values = (f'registration:=file registration_file:={options.output.resolve()} '
              f'window_offset:={result.window_offset_s:.4f}')
    print(f'written to {options.output}; give epvlm ask\n  '
          + ' '.join(f'-p {value}' for value in values.split())
          + f'\nand the launch files\n  {values}')
