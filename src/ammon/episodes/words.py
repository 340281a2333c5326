"""Words: the terms of an episode, and how well those of a cue fit it by BM25 (Robertson & Zaragoza 2009, eq. 3.15).

Both engines index these terms, so that they rank alike. Scores [episode] over the episodes that hold any of the terms.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from ammon.episodes.base import Postings
from ammon.episodes.records import Draft
from ammon.episodes.stem import stem

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
# words longer than this are no words: hashes, encoded files
LONGEST = 64
# scripts that put no spaces between words are cut into single characters
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")

# they say who stands to whom how, not what is spoken of
_FUNCTION_WORDS = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its itself
they them their theirs themselves what which who whom this that these those am is are was were be been being have has had
having do does did doing would could should shall will can may might must a an the and but if or because as until while of at
by for with about against between into through during before after above below to from up down in out on off over under again
further then once here there when where why how all any both each few more most other some such no nor not only own same so
than too very just now im ive id ill youre youve youd youll hes shes its were weve well theyre theyve theyd theyll isnt arent
wasnt werent dont doesnt didnt wont cant couldnt shouldnt wouldnt hasnt havent hadnt whats thats lets s t d m re ve ll
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def terms(text: str) -> dict[str, str]:
    """The terms of a text, each with the word that it stands for, in order."""
    found: dict[str, str] = {}
    for word, term in _words(text):
        found.setdefault(term, word)
    return found


def sequence(text: str) -> list[str]:
    """The terms of a text as they come."""
    return [term for _, term in _words(text)]


def tally(draft: Draft) -> Counter[str]:
    """How often each term occurs in what is said and in the name of who says it."""
    if not draft.text:
        return Counter()
    return Counter(term for part in (draft.speaker, draft.text) if part for _, term in _words(part))


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


def _words(text: str) -> Iterator[tuple[str, str]]:
    """Words without case, accents and possessive s, and their stems; function words are left out."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    for word in WORD.findall(UNSPACED.sub(lambda match: f" {match[0]} ", plain)):
        word = word.replace("’", "'").removesuffix("'s").replace("'", "")
        if word and word not in FUNCTION_WORDS and len(word) <= LONGEST:
            yield word, stem(word)
