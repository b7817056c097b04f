"""Event-guided sparse vision-language answers for robots with an event camera."""
