"""Scenes whose tokens are computed anew in their places, through the library's own layers."""
