"""Blend: how much each kind of evidence counts when episodes are recalled. Every weight is a parameter.

The defaults were chosen on conversations (docs/episodes.md); `Episodes.tune` fits them to questions of one's own.
"""

from dataclasses import dataclass, field, fields

from ammon.episodes.context import Context, Spread


@dataclass(frozen=True)
class Blend:
    """s = content · z(similarity) + words · z(BM25), then what the context gives, then + date and + speaker where they match.

    z is taken over all episodes in question. saturation and length: k1 and b of BM25. context: `Spread`, `Drift` or None.
    hits: how many of the best by s reinstate their context, as far as they stand out: by what s exceeds both that of the best episode
    that is no hit and the threshold.
    date: where the cue names a date and the episode is of that day, month or year. speaker: where the cue names one speaker, whose
    episode it is. postings: at most so many entries of the index of words are read for one cue, those of rare words first.
    """

    content: float = 0.7
    words: float = 0.3
    saturation: float = 0.9
    length: float = 0.4
    context: Context | None = field(default_factory=Spread)
    hits: int = 10
    threshold: float = 1.0
    date: float = 2.0
    speaker: float = 0.0
    postings: int = 8_000

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name != "context" and not (isinstance(value, int | float) and 0 <= value < float("inf")):
                raise ValueError(f"Blend: {one.name} must be a finite number of at least 0, got {value!r}.")
        if self.length > 1:
            raise ValueError(f"Blend: length is a share of the correction for length, in [0, 1], got {self.length}.")
        if self.content == self.words == 0:
            raise ValueError("Blend: content and words are both 0, so nothing would be compared; give one of them weight.")
