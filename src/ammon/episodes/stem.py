"""Stem: English words without their endings (Porter 1980), so that "hiking" finds "hike". Other words pass almost unchanged.

A store's index holds stems, so they must be the same for ever and everywhere: no optional package decides them.
"""

import re
from functools import lru_cache

_TWO = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "abli": "able", "alli": "al", "entli": "ent",
    "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al", "iveness": "ive", "fulness": "ful",
    "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble",
}  # fmt: skip
_THREE = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_FOUR = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize",
)  # fmt: skip


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The stem of a word in small letters."""
    if len(word) <= 2 or not word.isascii():
        return word
    for step in (_plural, _past, _y, _double, _full, _last, _tidy):
        word = step(word)
    return word


def _form(word: str) -> str:
    """Consonants as c, vowels as v."""
    form = ""
    for at, letter in enumerate(word):
        form += "v" if letter in "aeiou" or (letter == "y" and at > 0 and form[-1] == "c") else "c"
    return form


def _measure(word: str) -> int:
    """m in the form [c](vc)^m[v], each letter a run."""
    return len(re.findall("v+c+", _form(word)))


def _plural(word: str) -> str:
    for end, new in (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")):
        if word.endswith(end):
            return word.removesuffix(end) + new
    return word


def _past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for end in ("ed", "ing"):
        if word.endswith(end) and "v" in _form(word.removesuffix(end)):
            word = word.removesuffix(end)
            if word.endswith(("at", "bl", "iz")):
                return word + "e"
            if len(word) > 1 and word[-1] == word[-2] and _form(word)[-1] == "c" and word[-1] not in "lsz":
                return word[:-1]
            return word + "e" if _measure(word) == 1 and _short(word) else word
    return word


def _y(word: str) -> str:
    return word[:-1] + "i" if word.endswith("y") and "v" in _form(word[:-1]) else word


def _double(word: str) -> str:
    return _replaced(word, _TWO)


def _full(word: str) -> str:
    return _replaced(word, _THREE)


def _last(word: str) -> str:
    for end in sorted(_FOUR, key=len, reverse=True):
        if word.endswith(end):
            rest = word.removesuffix(end)
            fits = _measure(rest) > 1 and (end != "ion" or rest.endswith(("s", "t")))
            return rest if fits else word
    return word


def _tidy(word: str) -> str:
    if word.endswith("e"):
        rest = word[:-1]
        if _measure(rest) > 1 or (_measure(rest) == 1 and not _short(rest)):
            word = rest
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word


def _replaced(word: str, endings: dict[str, str]) -> str:
    for end in sorted(endings, key=len, reverse=True):
        if word.endswith(end):
            rest = word.removesuffix(end)
            return rest + endings[end] if _measure(rest) > 0 else word
    return word


def _short(word: str) -> bool:
    """Ends consonant, vowel, consonant, the last not w, x or y."""
    return len(word) > 2 and _form(word)[-3:] == "cvc" and word[-1] not in "wxy"
