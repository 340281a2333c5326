"""Tables of free recall in psifr's format, in and out; extra `recall`.

One row an event: subject, list, trial_type ("study" or "recall"), position (from 1), item, and any other columns.
"""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ammon.cmr.lists import NONE, OTHER, Lists

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("subject", "list", "trial_type", "position", "item")


def read_table(table: "DataFrame", source: str | None = None) -> Lists:
    """The lists of a table, sorted by subject and list. source: the column of each studied item's source (task, category, ...).

    A recall of an item that was not in the list is an intrusion (`OTHER`). ValueError that names subject, list and item for what is wrong.
    """
    missing = [name for name in (*COLUMNS, *([source] if source else [])) if name not in table.columns]
    if missing:
        raise ValueError(f"read_table: the table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")
    for name in COLUMNS:
        if bool(table[name].isna().any()):
            row = table[table[name].isna()].iloc[0]
            raise ValueError(f"read_table: subject {row['subject']}, list {row['list']}: a row has no {name}.")
    kinds = set(table["trial_type"].unique()) - {"study", "recall"}
    if kinds:
        raise ValueError(f'read_table: trial_type must be "study" or "recall", got {sorted(map(str, kinds))[0]!r}.')
    table = table.sort_values(["subject", "list", "position"], kind="stable")
    code, labels = _codes(table[["subject", "list"]])
    position = _whole(table)
    study = (table["trial_type"] == "study").to_numpy()
    item, names = _factorize(table["item"])
    _check_positions(table, code, position, study, labels)
    studied = _pad(code[study], item[study], len(labels))
    recalled = _pad(code[~study], item[~study], len(labels))
    empty = (studied == NONE).all(1)
    if empty.any():
        subject, number = labels[int(empty.argmax())]
        raise ValueError(f"read_table: subject {subject}, list {number}: it has recalls but no studied items.")
    units, of_study = _units(studied)
    same = recalled[:, :, None] == units[:, None, :]
    unit = np.where(same.any(-1), same.argmax(-1), OTHER)
    recalls = np.where(recalled == NONE, NONE, unit)
    people: dict[Hashable, int] = {}
    subject_of = [people.setdefault(subject, len(people)) for subject, _ in labels]
    sources: Tensor | None = None
    if source:
        bad = table[source].isna().to_numpy() & study
        if bad.any():
            row = table[bad].iloc[0]
            raise ValueError(f"read_table: subject {row['subject']}, list {row['list']}: item {row['item']!r} has no {source}.")
        kind, _ = _factorize(table[source])
        sources = torch.from_numpy(_pad(code[study], _dense(kind[study]), len(labels)))
    return Lists(
        torch.from_numpy(of_study),
        torch.from_numpy(recalls),
        torch.from_numpy(units),
        tuple(names),
        torch.tensor(subject_of),
        tuple(people),
        tuple(number for _, number in labels),
        sources,
    )


def write_table(lists: Lists, times: Tensor | None = None, items: Tensor | None = None) -> "DataFrame":
    """The table of the lists. times: of each recall, in ms, as the column `time`. items: the pool's number of each recalled item, where
    it is known for intrusions too; else these are written as the item "(intrusion)". Sources of the lists are the column `source`.
    """
    import pandas

    columns: dict[str, list[Any]] = {
        name: [] for name in (*COLUMNS, *(["time"] if times is not None else []), *(["source"] if lists.sources is not None else []))
    }
    for row in range(len(lists)):
        subject, number = lists.subjects[int(lists.subject[row])], lists.numbers[row]
        item = [lists.names[index] for index in lists.items[row].tolist() if index != NONE]
        events = [("study", unit) for unit in lists.study[row].tolist() if unit != NONE]
        recalls = [("recall", unit) for unit in lists.recalls[row].tolist() if unit != NONE]
        for kind in (events, recalls):
            for position, (trial, unit) in enumerate(kind, start=1):
                name_of = item[unit] if unit != OTHER else "(intrusion)"
                if items is not None and trial == "recall":
                    name_of = lists.names[int(items[row, position - 1])]
                cells = (subject, number, trial, position, name_of)
                for name, cell in zip(COLUMNS, cells, strict=True):
                    columns[name].append(cell)
                if lists.sources is not None:
                    columns["source"].append(float(lists.sources[row, position - 1]) if trial == "study" else float("nan"))
                if times is not None:
                    columns["time"].append(float(times[row, position - 1]) if trial == "recall" else float("nan"))
    return pandas.DataFrame(columns)


def sample(name: str) -> "DataFrame":
    """A table that comes with psifr: "Morton2013" or "peers_notask"."""
    try:
        from psifr import fr
    except ImportError as error:
        raise ImportError("sample: the sample tables come with psifr; install it with: pip install 'ammon[recall]'.") from error
    names = ("Morton2013", "peers_notask")
    if name not in names:
        raise ValueError(f"sample: no sample table is called {name!r}; there are {', '.join(names)}.")
    table: DataFrame = fr.sample_data(name)
    return table


def _codes(keys: "DataFrame") -> tuple[Any, list[tuple[Hashable, Hashable]]]:
    """A number for each list in the order of the table, and subject and list of each number."""
    groups = keys.groupby(["subject", "list"], sort=True)
    code = groups.ngroup().to_numpy()
    labels = [(_plain(subject), _plain(number)) for subject, number in groups.groups]
    return code, labels


def _plain(value: Any) -> Hashable:
    item = value.item() if isinstance(value, np.generic) else value
    return int(item) if isinstance(item, float) and item.is_integer() else item


def _factorize(column: Any) -> tuple[Any, list[Hashable]]:
    import pandas

    code, names = pandas.factorize(column, sort=True)
    return code.astype(np.int64), [_plain(name) for name in names]


def _dense(code: Any) -> Any:
    return np.unique(code, return_inverse=True)[1].astype(np.int64)


def _whole(table: "DataFrame") -> Any:
    import pandas

    position = pandas.to_numeric(table["position"], errors="coerce").to_numpy(float)
    wrong = ~(position >= 1) | (position % 1 != 0)
    if wrong.any():
        row = table[wrong].iloc[0]
        raise ValueError(
            f"read_table: subject {row['subject']}, list {row['list']}, item {row['item']!r}: a position must be a whole number from 1, "
            f"got {row['position']}."
        )
    return position.astype(np.int64)


def _check_positions(table: "DataFrame", code: Any, position: Any, study: Any, labels: list[tuple[Hashable, Hashable]]) -> None:
    """Positions of study and of recall are 1, 2, 3, ... in each list."""
    for what, part in (("studied", study), ("recalled", ~study)):
        lists, places = code[part], position[part]
        new = np.r_[True, lists[1:] != lists[:-1]] if len(lists) else np.zeros(0, bool)
        start = np.maximum.accumulate(np.where(new, np.arange(len(lists)), 0)) if len(lists) else np.zeros(0, int)
        expected = np.arange(len(lists)) - start + 1
        wrong = places != expected
        if wrong.any():
            at = int(wrong.argmax())
            subject, number = labels[lists[at]]
            item = table["item"].to_numpy()[part][at]
            problem = "is there twice" if places[at] < expected[at] else f"is missing; the next is {places[at]}"
            which = places[at] if places[at] < expected[at] else expected[at]
            raise ValueError(f"read_table: subject {subject}, list {number}, item {item!r}: {what} position {which} {problem}.")


def _pad(code: Any, value: Any, count: int) -> Any:
    """Values of each list side by side, [list, most], NONE beyond their end."""
    lengths = np.bincount(code, minlength=count)
    rows = np.full((count, int(lengths.max()) if len(code) else 0), NONE, dtype=np.int64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = value
    return rows


def _units(studied: Any) -> tuple[Any, Any]:
    """The different items of each list in the order of first study [list, unit], and the unit studied at each position."""
    same = studied[:, :, None] == studied[:, None, :]
    first = same.argmax(-1)
    place = np.arange(studied.shape[1])
    new = (first == place) & (studied != NONE)
    number = new.cumsum(1) - 1
    unit = np.where(studied == NONE, NONE, np.take_along_axis(number, first, 1))
    units = np.full((len(studied), int(new.sum(1).max())), NONE, dtype=np.int64)
    row, column = new.nonzero()
    units[row, number[row, column]] = studied[row, column]
    return units, unit
