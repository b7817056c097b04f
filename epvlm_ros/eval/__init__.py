"""How well a checkpoint answers when it computes on part of the picture; knows nothing of ROS."""
