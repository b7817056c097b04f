"""Simulated scenes, events, questions and recordings, for training, tests and demonstrations."""
