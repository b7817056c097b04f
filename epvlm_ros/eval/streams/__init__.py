"""How well a scene in memory answers while things change before the cameras."""
