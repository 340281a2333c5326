"""Bank: rows that grow. Appending costs amortised constant time, and state_dict holds the rows written, not the room kept."""

from typing import Any

import torch
from torch import Tensor, nn

from ammon.shapes import Rows


class Bank(nn.Module):
    """Rows [pattern, dim]; the dtype and device of the first append, then those of the module (`.to`, `.double`, ...)."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.count = 0
        self._room: Tensor
        self.register_buffer("_room", torch.empty(0, dim or 0), persistent=False)

    @property
    def rows(self) -> Rows:
        """The rows written, [pattern, dim]: a view, not to be changed."""
        return self._room[: self.count]

    def append(self, rows: Rows) -> None:
        rows = rows.detach()
        if self.count == 0:
            self.dim, self._room = rows.shape[1], rows.clone()
        else:
            if self.count + len(rows) > len(self._room):
                grown = self._room.new_empty(max(self.count + len(rows), 2 * self.count), self._room.shape[1])
                grown[: self.count] = self.rows
                self._room = grown
            # through .data: no graph of an earlier recall reads beyond its own rows, so none must be invalidated
            self._room.data[self.count : self.count + len(rows)] = rows.to(self._room)
        self.count += len(rows)

    def clear(self) -> None:
        self.count, self._room = 0, self._room[:0]

    def __len__(self) -> int:
        return self.count

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "rows"] = self.rows if keep_vars else self.rows.detach()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        rows = state_dict.pop(prefix + "rows", None)
        if rows is not None:
            self.count, self.dim, self._room = len(rows), rows.shape[1], rows.detach().clone()
        super()._load_from_state_dict(state_dict, prefix, *args)
        if rows is not None:
            state_dict[prefix + "rows"] = rows
        else:
            # the fourth argument of the hook collects what is missing
            args[2].append(prefix + "rows")
