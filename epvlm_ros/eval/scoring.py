r"""
Whether an answer is right.

Multiple choice is scored by the one letter that an answer names, read in this order:

1. a letter of an option alone, in either case, with or without brackets and marks: 'B', 'b.',
   '(B)', 'B!', '$\boxed{B}$';
2. what is said of letters: 'The answer is (B).', 'Answer: B', 'The correct option is B', 'B is
   correct'. The last statement counts; 'A or B' is none;
3. the text of one option, by the rule of free answers, 'the answer is' before it or not;
4. a letter that leads ('B. a bus', '(b) a bus', 'B, a bus'), stands in brackets or follows
   'option', if no other letter is named: a repeated list of options names several.

'A is wrong', 'not A' and the like take a letter out. What fits none of these names no option and
is wrong. Free answers are right when they are equal to the truth after both are put into lower
case, marks at the ends of words are dropped and white space is joined; one that has no words is
right only where the truth is the same marks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import re
import unicodedata

Options = tuple[tuple[str, str], ...]
_REACH = 60  # characters before and behind a letter that may say something of it
_MARKS = '.,;:!?"\'`()[]'
_BOX = re.compile(r'\$*\\boxed\s*\{\s*(?:\\text\s*\{)?\s*([^{}]*?)\s*\}+\$*')
_ALONE = re.compile(r'["\'`]*[(\[]?([A-Za-z])[)\]]?[.):,;!?"\'`]*')
_MENTION = re.compile(
    r'(?<![\w\'.\\-])(?:[(\[]\s*(?P<inside>[A-Za-z])\s*[)\]]|(?P<bare>[A-Za-z])(?![\w\'])(?!\.\w))'
    r'(?P<mark>["\'`]?[.):,;!?]*)')
_IS = r'(?:is|are|was|be|seems|looks|(?:would|should|must|has to) be)\b'
_ARTICLE = re.compile(rf'\s+(?!(?:or|and|but|not|because|since|{_IS})\b)[\w\'-]{{2,}}')
_STATED = re.compile(
    rf'(?:\banswer\s*(?:{_IS})?|\b(?:option|choice|letter|it)\s*(?:{_IS}|(?=[:=]))|\bit\'s|\bbut|'
    r'\b(?:choose|select|pick|go with))\s*[:=]?\s*(?:(?:clearly|definitely|probably|likely|most|'
    r'therefore|the|option|choice|letter)\s+)*["\'`]?$', re.IGNORECASE)
_JUDGED_RIGHT = re.compile(
    rf'\s*{_IS}\s+(?:\w+\s+){{0,3}}?(?:correct|right|true|best|answer)\b', re.IGNORECASE)
_JUDGED_WRONG = re.compile(
    rf'\s*(?:(?:{_IS})\s+(?:\w+\s+){{0,2}}?(?:not|wrong|incorrect|false|impossible)\b|isn\'t\b)',
    re.IGNORECASE)
_DENIED = re.compile(
    r'(?:\b(?:not|neither|nor|never|except|excluding|than|instead of|unlike)|n\'t)\s+'
    r'(?:option\s+|choice\s+)?$', re.IGNORECASE)
_NAMED = re.compile(r'\b(?:option|choice|letter)\s*$', re.IGNORECASE)
_ALTERNATIVE = re.compile(r'\s*(?:or|and|/|&)\s*(?:option\s+)?', re.IGNORECASE)
_PHRASE = re.compile(
    r'(?:(?:so|therefore|thus),?\s+)?(?:the\s+)?(?:(?:correct|right|final)\s+)?answer(?:\s+is)?'
    r'\s*:?\s+', re.IGNORECASE)


@dataclass(frozen=True)
class _Mention:
    """A place of an answer where a letter is named, and what is said of it there."""

    letter: str
    start: int
    end: int
    is_stated: bool
    is_denied: bool
    is_marked: bool


def find_letter(answer: str, options: Options) -> str | None:
    """Return the letter of the option that an answer names; None for none, or for several."""
    letters = {letter for letter, _ in options}
    text = unicodedata.normalize('NFKC', answer).replace('*', ' ').replace('\u2019', "'")
    text = ' '.join(_BOX.sub(r' the answer is \1 ', text).split())
    alone = _ALONE.fullmatch(text)
    if alone and alone.group(1).upper() in letters:
        return alone.group(1).upper()
    mentions = [mention for mention in _find_mentions(text) if mention.letter in letters]
    named = [mention for mention in mentions if not mention.is_denied]
    stated = [mention for mention in named if mention.is_stated]
    if stated:
        return stated[-1].letter if not _has_alternative(stated[-1], named, text) else None
    for said in (answer, _PHRASE.sub('', text, count=1)):
        same = [letter for letter, option in options if _are_same(option, said)]
        if same:
            return same[0] if len(same) == 1 else None
    distinct = {mention.letter for mention in named}
    return named[0].letter if len(distinct) == 1 and named[0].is_marked else None


def _find_mentions(text: str) -> Iterator[_Mention]:
    for found in _MENTION.finditer(text):
        before = text[max(0, found.start() - _REACH):found.start()]
        after = text[found.end():found.end() + _REACH]
        bare, mark = found.group('bare'), found.group('mark')
        is_stated = bool(_STATED.search(before) or _JUDGED_RIGHT.match(after))
        leads, is_named = not found.start(), bool(_NAMED.search(before))
        if bare and bare.islower() and not (leads and mark or is_stated and (mark or not after)):
            continue  # the article, or another word
        if bare in ('A', 'I') and not mark and not is_named and _ARTICLE.match(after):
            continue
        yield _Mention(
            (bare or found.group('inside')).upper(), found.start(), found.end(), is_stated,
            bool(_DENIED.search(before) or _JUDGED_WRONG.match(after)),
            leads or not bare or is_named)


def _has_alternative(chosen: _Mention, named: list[_Mention], text: str) -> bool:
    """Tell whether another letter is joined to one, as in 'B or C'."""
    return any(
        _ALTERNATIVE.fullmatch(text[first.end:second.start])
        for first, second in zip(named, named[1:])
        if chosen in (first, second) and first.letter != second.letter)


def normalise(text: str) -> str:
    """Return a text in lower case, words without marks at their ends, single spaces."""
    words = unicodedata.normalize('NFKC', text).replace('*', ' ').lower().split()
    return ' '.join(word for word in (word.strip(_MARKS) for word in words) if word)


def is_right(answer: str, truth: str, options: Options) -> bool:
    """Tell whether an answer is right; with options ``truth`` is a letter, else a text."""
    if options:
        return find_letter(answer, options) == truth
    return _are_same(answer, truth)


def _are_same(first: str, second: str) -> bool:
    """Compare two texts by their words, or by their marks where one has no words."""
    words = normalise(first), normalise(second)
    if all(words):
        return words[0] == words[1]
    return first.strip() == second.strip() != ''
