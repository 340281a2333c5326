"""Tuning: the blend that finds most of the right episodes among the first k, by coordinate search over a grid of its weights.

Few questions say little about many weights, so one weight moves at a time, and only for a gain.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ammon.episodes.blend import Blend
from ammon.episodes.context import Drift, Spread

# what is tried for each weight in turn, coarsely, for questions are few; content + words stay 1, for only their ratio to the rest counts
SHARES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8)
FORWARD = (0.0, 0.25, 0.5, 0.75, 1.0)
BACKWARD = (0.0, 0.15, 0.3, 0.45, 0.6)
RHO = (0.5, 0.7, 0.85)
WEIGHT = (0.0, 0.2, 0.4, 0.6, 0.8)
DATE = (0.0, 1.0, 2.0, 3.0)
SPEAKER = (0.0, 0.25, 0.5, 1.0)
ROUNDS = 2

Changed = Callable[[Blend], list[Blend]]


def coordinates() -> dict[str, Changed]:
    """For each weight, how the blends that differ in it alone are made; none where a blend has no such weight."""

    def inside(name: str, values: Iterable[float]) -> Changed:
        def change(b: Blend) -> list[Blend]:
            if not (isinstance(b.context, Spread | Drift) and hasattr(b.context, name)):
                return []
            return [replace(b, context=replace(b.context, **{name: v})) for v in values]  # type: ignore[arg-type]

        return change

    def plain(name: str, values: Iterable[float]) -> Changed:
        return lambda b: [replace(b, **{name: v}) for v in values]  # type: ignore[arg-type]

    return {
        "share": lambda b: [replace(b, content=1 - share, words=share) for share in SHARES],
        "forward": inside("forward", FORWARD),
        "backward": inside("backward", BACKWARD),
        "rho": inside("rho", RHO),
        "weight": inside("weight", WEIGHT),
        "date": plain("date", DATE),
        "speaker": plain("speaker", SPEAKER),
    }


def climb(blend: Blend, value: Callable[[Blend], float], ways: Sequence[Changed] | None = None) -> Blend:
    """Coordinate ascent from `blend`, along `ways` or all coordinates; of equals the one that came first stays."""
    best, most = blend, value(blend)
    seen = {blend: most}
    for _ in range(ROUNDS):
        before = best
        for change in coordinates().values() if ways is None else ways:
            for tried in change(best):
                if tried not in seen:
                    seen[tried] = value(tried)
                if seen[tried] > most:
                    best, most = tried, seen[tried]
        if best == before:
            break
    return best


def recall_at(found: Sequence[int], right: Iterable[int], k: int) -> float:
    """The share of the right ids among the first k found."""
    wanted = set(right)
    return len(wanted & set(found[:k])) / len(wanted)
