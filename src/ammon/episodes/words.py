"""Words: the terms of a text, and how well the terms of a cue fit each episode by BM25 (Robertson & Zaragoza 2009, eq. 3.15).

Both engines index these terms, so that they rank alike. Scores [episode] over the episodes that hold any of the terms.
"""

import re
import unicodedata
from collections import Counter

import torch
from torch import Tensor

from ammon.episodes.base import Postings

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
# words longer than this are no words: hashes, encoded files
LONGEST = 64
# scripts that put no spaces between words are cut into single characters
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")


def terms(text: str) -> list[str]:
    """The words of a text in order, without case, accents and possessive s, plural s taken off (Harman 1991)."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    found: list[str] = []
    for word in WORD.findall(UNSPACED.sub(lambda match: f" {match[0]} ", plain)):
        stem = _singular(word.replace("’", "'").removesuffix("'s").replace("'", ""))
        if stem and len(stem) <= LONGEST:
            found.append(stem)
    return found


def counts(text: str | None) -> Counter[str]:
    """How often each term occurs."""
    return Counter(terms(text)) if text else Counter()


def bm25(postings: Postings, saturation: float, length: float) -> tuple[Tensor, Tensor]:
    """Ids [episode], ascending, and scores [episode]: Σ idf(w) tf (k1 + 1) / (tf + k1 (1 - b + b length/mean length)).

    saturation: k1; length: b. idf = ln(1 + (N - n + ½)/(n + ½)), which is never negative.
    """
    frequencies = torch.tensor(postings.frequencies, dtype=torch.float64)
    idf = torch.log1p((postings.total - frequencies + 0.5) / (frequencies + 0.5))
    tf, lengths = postings.counts.double(), postings.lengths.double()
    norm = saturation * (1 - length + length * lengths / max(postings.mean_length, 1e-9))
    gains = idf[postings.term] * tf * (saturation + 1) / (tf + norm)
    ids, place = torch.unique(postings.ids, return_inverse=True)
    # each sum runs over the terms in the same order, so both engines get the same bits
    return ids, torch.zeros(len(ids), dtype=torch.float64).index_add_(0, place, gains)


def _singular(word: str) -> str:
    """Harman's S stemmer: three rules, tried in turn."""
    if len(word) > 3 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word
