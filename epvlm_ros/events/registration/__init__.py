"""
Registration: where in the image every pixel of the event sensor looks.

It comes from a homography (parameters, or the file of ``epvlm calibrate``) or from the
calibrations of both cameras and their transform. ``make_cell_lookup`` makes the table that events
are counted with; ``RegistrationMonitor`` notices when it is off.
"""

from epvlm_ros.events.registration.camera_model import camera_from_info, CameraModel
from epvlm_ros.events.registration.cell_lookup import find_pixel_density, make_cell_lookup
from epvlm_ros.events.registration.homography_file import (
    HomographyFile, load_homography_file, save_registration)
from epvlm_ros.events.registration.mapping import (
    CameraRegistration, HomographyRegistration, IDENTITY, load_registration, make_registration,
    Registration, scaling)
from epvlm_ros.events.registration.monitor import RegistrationMonitor
from epvlm_ros.events.registration.transform_tree import pose_from_message, TransformTree

__all__ = [
    'camera_from_info', 'CameraModel', 'CameraRegistration', 'find_pixel_density',
    'HomographyFile', 'HomographyRegistration', 'IDENTITY', 'load_homography_file',
    'load_registration', 'make_cell_lookup', 'make_registration', 'pose_from_message',
    'Registration', 'RegistrationMonitor', 'save_registration', 'scaling',
    'TransformTree',
]
