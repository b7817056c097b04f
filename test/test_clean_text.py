"""Text from outside cannot forge log lines, nor fill them."""

from epvlm_ros.clean_text import clean_text
import pytest


@pytest.mark.parametrize('text, clean', [
    ('', ''),
    ('mono8', 'mono8'),
    ('/camera/größe 7 C:\\new', '/camera/größe 7 C:\\new'),
    ('one\ntwo\r\tthree', 'one\\ntwo\\r\\tthree'),
    ('\x1b[31m[ERROR] forged\x1b[0m', '\\x1b[31m[ERROR] forged\\x1b[0m'),
    ('\x00\x7f\x9b', '\\x00\\x7f\\x9b'),
    ('abc\u202edef\u2028', 'abc\\u202edef\\u2028'),
    ('\ud800', '\\ud800'),
    ('\U000e0001', '\\U000e0001'),
])
def test_what_does_not_print_is_escaped(text, clean):
    assert clean_text(text) == clean
    assert clean_text(text).isprintable()


def test_long_text_is_cut_and_says_how_long_it_was():
    assert clean_text('a' * 10, 10) == 'a' * 10
    assert clean_text('abcdefghijk', 10) == 'abcdefghij... (11 characters)'
    assert clean_text('\n' * 1_000_000, 2) == '\\n\\n... (1000000 characters)'
    assert len(clean_text('\U000e0001' * 1_000_000)) < 2100
