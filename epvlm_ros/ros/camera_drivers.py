"""The usual drivers of event cameras and cameras: what they are called and what they publish."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Driver:
    """
    A driver, of the package that has its name.

    ``outputs`` are its topics, before remapping, by what ``event_sync_node`` calls them.
    """

    executable: str
    outputs: dict[str, str]


# As in the sources of their main branches of 2026.
EVENT_DRIVERS = {
    'metavision_driver': Driver('driver_node', {'events': '~/events'}),
    'libcaer_driver': Driver('driver_node', {'events': '~/events'}),
}
IMAGE_DRIVERS = {
    'usb_cam': Driver(
        'usb_cam_node_exe', {'image': 'image_raw', 'image_camera_info': 'camera_info'}),
    'v4l2_camera': Driver(
        'v4l2_camera_node', {'image': 'image_raw', 'image_camera_info': 'camera_info'}),
    'realsense2_camera': Driver('realsense2_camera_node', {
        'image': '~/color/image_raw', 'image_camera_info': '~/color/camera_info'}),
    # A DAVIS has both in one sensor, and one driver.
    'libcaer_driver': Driver(
        'driver_node', {'image': '~/image_raw', 'image_camera_info': '~/camera_info'}),
}
BEST_EFFORT_IMAGES = {'libcaer_driver'}  # which a reliable subscription never matches


def check_drivers(event_driver: str, image_driver: str) -> None:
    """Raise a ValueError if a driver is not known, or cannot be alone."""
    for name, value, known in (('event_driver', event_driver, EVENT_DRIVERS),
                               ('image_driver', image_driver, IMAGE_DRIVERS)):
        if value and value not in known:
            raise ValueError(
                f'{name} is {value!r}: give one of {", ".join(known)}, or start the driver '
                'yourself')
    if image_driver in EVENT_DRIVERS and image_driver != event_driver:
        raise ValueError(
            f'image_driver is {image_driver}, whose frames come from the event camera: give '
            f'event_driver:={image_driver} too')


def remap_outputs(
    driver: Driver, topics: dict[str, str], *, compressed: bool,
) -> list[tuple[str, str]]:
    """
    Return remappings of a driver to the topics that ``event_sync_node`` reads.

    ``topics`` are those of each of its inputs; of ``compressed`` images, the compressed ones.
    """
    return [
        (f'{output}/compressed' if name == 'image' and compressed else output, topics[name])
        for name, output in driver.outputs.items()]
