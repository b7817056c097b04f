"""Recordings: reading, writing and summing up rosbag2, without a ROS graph."""

from epvlm_ros.bag.info import bag_info
from epvlm_ros.bag.messages import BagMessage, BagTopic
from epvlm_ros.bag.reader import BagImage, BagReader
from epvlm_ros.bag.writer import BagWriter

__all__ = ['bag_info', 'BagImage', 'BagMessage', 'BagReader', 'BagTopic', 'BagWriter']
