"""Conversion of what other tools write to recordings that everything here reads."""

from epvlm_ros.bag.convert.convert import convert, Converted

__all__ = ['convert', 'Converted']
