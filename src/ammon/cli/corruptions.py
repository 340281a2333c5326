"""Corruptions as the user types them: mask:0.5, flip:0.2, noise:0.5, blur:1.0."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ammon.cli.refusal import Refusal, refusing

if TYPE_CHECKING:
    from ammon.parts.corruption import Corruption

KINDS = {"mask": "mask:0.5", "flip": "flip:0.2", "noise": "noise:0.5", "blur": "blur:1.0"}


def read(text: str, shape: tuple[int, ...]) -> "Corruption":
    """The corruption that `text` names, for images of `shape`."""
    # torch takes a second to import: only once a command runs
    from ammon.parts.corruption import Blur, Corruption, Flip, Mask, Noise

    kind, _, number = text.partition(":")
    try:
        amount = float(number)
    except ValueError:
        amount = None
    if kind not in KINDS or amount is None:
        raise Refusal(f"--corrupt: a kind and a number such as {', '.join(KINDS.values())} is needed, got {text!r}.")
    made: dict[str, Callable[[float], Corruption]] = {"mask": Mask, "flip": Flip, "noise": Noise, "blur": lambda sigma: Blur(sigma, shape)}
    with refusing(f"--corrupt {text}: "):
        return made[kind](amount)


def words(texts: list[str]) -> str:
    """The corruptions as part of a sentence."""
    sentences = {
        "mask": lambda x: f"the last {100 * x:.3g} % of the pixels black",
        "flip": lambda x: f"{100 * x:.3g} % of the pixels inverted",
        "noise": lambda x: f"noise of standard deviation {x:.3g} added",
        "blur": lambda x: f"a blur of {x:.3g} px",
    }
    return ", then ".join(sentences[kind](float(amount)) for kind, _, amount in (text.partition(":") for text in texts))
