"""LoCoMo: long conversations of two people in many sessions, with questions and the turns that answer them (Maharana et al. 2024).

A file of the form of `locomo10.json` (plain or gzipped) in, conversations out. It is not part of this package: CC BY-NC 4.0.
"""

import gzip
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
TURN = re.compile(r"D\d+:\d+")


@dataclass(frozen=True)
class Turn:
    """What one speaker said; an image that was shared is told in brackets."""

    id: str
    session: str
    time: datetime
    speaker: str
    text: str


@dataclass(frozen=True)
class Question:
    """evidence: ids of the turns that answer it; of an adversarial one, those that seem to."""

    text: str
    category: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Conversation:
    name: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]


def load_locomo(path: str | os.PathLike[str]) -> list[Conversation]:
    """The conversations of a file. Questions without evidence among the turns are left out. ValueError if it is none."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"load_locomo: there is no file {file}; give LoCoMo's locomo10.json.")
    raw = file.read_bytes()
    try:
        samples = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
        return [_conversation(sample, number) for number, sample in enumerate(samples)]
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError) as error:
        raise ValueError(f"load_locomo: {file} is no file of LoCoMo ({type(error).__name__}: {error}).") from error


def _conversation(sample: dict[str, Any], number: int) -> Conversation:
    said = sample["conversation"]
    turns: list[Turn] = []
    names = [name for name in said if re.fullmatch(r"session_\d+", name)]
    for name in sorted(names, key=lambda name: int(name.removeprefix("session_"))):
        when = datetime.strptime(said[f"{name}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
        for turn in said[name]:
            caption = turn.get("blip_caption")
            text = f"{turn['text']} [shares {caption}]" if caption else turn["text"]
            turns.append(Turn(turn["dia_id"], name, when, turn["speaker"], text))
    known = {turn.id for turn in turns}
    questions = []
    for asked in sample["qa"]:
        # some lists hold several ids in one text
        evidence = tuple(dict.fromkeys(one for text in asked["evidence"] for one in TURN.findall(text) if one in known))
        if evidence:
            questions.append(Question(asked["question"], CATEGORIES[asked["category"]], evidence))
    return Conversation(sample.get("sample_id", f"conversation {number}"), tuple(turns), tuple(questions))
