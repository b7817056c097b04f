"""Messages about cameras as a robot publishes them."""

from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage


def camera_info(frame_id, width, height, focal, **change):
    message = CameraInfo(
        width=width, height=height, distortion_model='plumb_bob', d=[0.0] * 5,
        k=[focal, 0.0, width / 2 - 0.5, 0.0, focal, height / 2 - 0.5, 0.0, 0.0, 1.0])
    message.header.frame_id = frame_id
    for name, value in change.items():
        setattr(message, name, value)
    return message


def transform(parent, child, x=0.0, w=1.0):
    stamped = TransformStamped(child_frame_id=child)
    stamped.header.frame_id = parent
    stamped.transform.translation.x = x
    stamped.transform.rotation.w = w
    return TFMessage(transforms=[stamped])
