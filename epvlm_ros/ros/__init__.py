"""ROS 2 nodes: they convert, call the core and publish."""
