"""Tables of free recall as the user names them: a file or a sample, some of its rows, a similarity; and fits that were saved."""

import json
import tempfile
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ammon.cli.refusal import Refusal

if TYPE_CHECKING:
    from ammon.cmr.layers import Pool
    from ammon.cmr.lists import Lists

MISSING = "free recall needs psifr and pandas; install them with: pip install 'ammon[recall]'."


@dataclass(frozen=True)
class Material:
    """What a command works on."""

    name: str
    table: Any  # as it came, the rows asked for
    lists: "Lists"
    similarity: "Pool | None"


@dataclass(frozen=True)
class SavedFit:
    """What `ammon free-recall fit` left in a folder."""

    model: str
    fixed: dict[str, float]
    table: Any  # a row for each subject
    free: list[str]

    def common(self, subjects: Sequence[Hashable]) -> list[Hashable]:
        """The subjects that were fitted. Refusal if there are none."""
        known = {str(subject) for subject in self.table["subject"]}
        both = [subject for subject in subjects if str(subject) in known]
        if not both:
            raise Refusal("--fit: none of the subjects of the data was fitted there; fit the same data.")
        return both

    def values(self, subjects: Sequence[Hashable]) -> dict[str, Any]:
        """The parameters of these subjects, in this order."""
        import torch

        rows = self.table.set_index(self.table["subject"].astype(str)).loc[[str(subject) for subject in subjects]]
        return {**self.fixed, **{name: torch.tensor(rows[name].to_numpy(float)) for name in self.free}}


def read_material(data: str, where: list[str] | None, subjects: str | None, similarity: str | None, source: str | None) -> Material:
    """The table and what goes with it, checked."""
    try:
        import pandas

        from ammon.cmr.psifr_tables import read_table, sample
    except ImportError as error:
        raise Refusal(MISSING) from error
    if data.startswith("sample:"):
        table = sample(data.removeprefix("sample:"))
    else:
        try:
            table = pandas.read_csv(data)
        except (OSError, ValueError) as error:
            raise Refusal(f"--data: a CSV table that can be read is needed, got {data!r} ({error}).") from error
    table = _chosen(table, where, subjects)
    lists = read_table(table, source)
    if similarity is None and data == "sample:Morton2013":
        similarity = data
    return Material(
        Path(data).name if not data.startswith("sample:") else data, table, lists, _similarity(similarity) if similarity else None
    )


def read_fit(folder: Path) -> SavedFit:
    """A fit from its folder."""
    import pandas

    try:
        said = json.loads((folder / "fit.json").read_text())
        table = pandas.read_csv(folder / "parameters.csv")
        saved = SavedFit(said["model"], said["fixed"], table, said["free"])
        lacking = [name for name in ("subject", *saved.free) if name not in table.columns]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(
            f"--fit: a folder in which `ammon free-recall fit` left fit.json and parameters.csv is needed, got {str(folder)!r}."
        ) from error
    if lacking:
        raise Refusal(f"--fit: parameters.csv in {str(folder)!r} has no column {lacking[0]}, which fit.json names; fit again.")
    return saved


def writable(out: Path) -> None:
    """Make the folder and try it: better to fail before the work than after."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Refusal(f"--out: a folder that can be written is needed, got {str(out)!r} ({error.strerror}); name another.") from error


def _chosen(table: Any, where: list[str] | None, subjects: str | None) -> Any:
    for text in where or []:
        column, equals, value = text.partition("=")
        if not equals or column not in table.columns:
            raise Refusal(
                f"--where: COLUMN=VALUE with a column of the table is needed, got {text!r}; it has {', '.join(map(str, table.columns))}."
            )
        kept = table[table[column].astype(str) == value]
        if not len(kept):
            there = ", ".join(sorted(table[column].astype(str).unique())[:8])
            raise Refusal(f"--where: no row has {text}; values are {there}.")
        table = kept
    if subjects is not None and "subject" in table.columns:
        names = [name.strip() for name in subjects.split(",")]
        known = set(table["subject"].astype(str))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise Refusal(f"--subjects: there is no subject {unknown[0]!r} in the data.")
        table = table[table["subject"].astype(str).isin(names)]
    if not len(table):
        raise Refusal("--data: the table has no rows.")
    return table


def _similarity(text: str) -> "Pool":
    import numpy
    import torch

    from ammon.cmr.layers import Pool, cosine_similarity

    if text == "sample:Morton2013":
        from psifr import fr

        items, distances = fr.sample_distances("Morton2013")
        return Pool(tuple(items.tolist()), torch.from_numpy(1 - distances))
    try:
        with numpy.load(text, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files if name in ("names", "words", "vectors", "similarity")}
    except (OSError, ValueError) as error:
        raise Refusal(f"--similarity: an .npz file that can be read is needed, got {text!r}.") from error
    names = held.get("names", held.get("words"))
    if names is None or not ("vectors" in held or "similarity" in held):
        raise Refusal(
            f"--similarity: arrays `names` and `vectors` (or `similarity`) are needed, {text!r} holds {', '.join(held) or 'none'}."
        )
    words = tuple(names.tolist())
    if "similarity" in held:
        return Pool(words, torch.from_numpy(held["similarity"]).double())
    vectors = torch.from_numpy(held["vectors"]).double()
    some = (vectors != 0).any(-1)
    # words without a vector: an item of the data among them is refused by its name when it is looked up
    return cosine_similarity([word for word, there in zip(words, some.tolist(), strict=True) if there], vectors[some])
