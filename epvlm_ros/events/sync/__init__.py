"""Frames meet the events of their windows: clocks, triggers, event stream, synchronizer."""
