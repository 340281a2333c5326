"""Dates: the days that a question names, as "8 May 2023", "May 8th", "in May 2023", "2023-05-08" or "2023".

A date may lack its day or its year; then every such day of the store's time is meant.
"""

import calendar
import re
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
SHORT = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name} | {"sept": 9}
# "may", "march" and "mar" are words too: they count as months with a day or a year beside them, or after "in", or "of"
_MONTH = "|".join(sorted([*MONTHS, *SHORT], key=len, reverse=True))
_DAY, _YEAR = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?", r"(?P<year>(?:19|20)\d\d)"
PATTERNS = [
    re.compile(rf"\b{_YEAR}-(?P<number>[01]\d)-(?P<day>[0-3]\d)\b"),
    re.compile(rf"\b{_DAY}\s+(?:of\s+)?(?P<month>{_MONTH})\b\.?(?:,?\s+{_YEAR}\b)?", re.IGNORECASE),
    re.compile(rf"\b(?P<month>{_MONTH})\b\.?\s+{_DAY}\b(?:,?\s+{_YEAR}\b)?", re.IGNORECASE),
    re.compile(rf"\b(?P<month>{_MONTH})\b\.?,?\s+(?:of\s+)?{_YEAR}\b", re.IGNORECASE),
    re.compile(rf"\b(?:in|during|since|last|this|early|late|mid|of)\s+(?P<month>{_MONTH})\b(?!\s*\d)", re.IGNORECASE),
    re.compile(rf"\b(?:in|during|of|year)\s+{_YEAR}\b", re.IGNORECASE),
]


class Named(NamedTuple):
    """A date as far as it was named."""

    year: int | None
    month: int | None
    day: int | None

    def periods(self, first: int, last: int) -> list[tuple[int, int]]:
        """The periods (first and last day since 1970) that it can mean between two such days."""
        begin, end = date.fromordinal(first + _EPOCH), date.fromordinal(last + _EPOCH)
        found = []
        for year in [self.year] if self.year else range(begin.year, end.year + 1):
            if self.month is None:
                found.append((date(year, 1, 1), date(year, 12, 31)))
                continue
            days = calendar.monthrange(year, self.month)[1]
            if self.day is None:
                found.append((date(year, self.month, 1), date(year, self.month, days)))
            elif self.day <= days:
                found.append((date(year, self.month, self.day),) * 2)
        return [(a.toordinal() - _EPOCH, b.toordinal() - _EPOCH) for a, b in found if a <= end and b >= begin]


_EPOCH = date(1970, 1, 1).toordinal()


def named(text: str) -> list[Named]:
    """The dates that a text names, each once; a part of one that was read already is not read again."""
    found: list[Named] = []
    taken: list[tuple[int, int]] = []
    for pattern in PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if any(start < b and a < end for a, b in taken):
                continue
            parts = match.groupdict()
            word = (parts.get("month") or "").lower()
            month = MONTHS.get(word) or SHORT.get(word) or int(parts.get("number") or 0) or None
            day, year = (int(parts[name]) if parts.get(name) else None for name in ("day", "year"))
            if (day is not None and not 1 <= day <= 31) or (month is not None and not 1 <= month <= 12):
                continue
            taken.append((start, end))
            if (one := Named(year, month, day)) not in found:
                found.append(one)
    return found


def periods(text: str, span: tuple[int, int] | None) -> tuple[tuple[int, int], ...] | None:
    """The periods that a text names within `span`, first and last day; None if it names no date, () if none that could be meant."""
    dates: Sequence[Named] = named(text)
    if not dates or span is None:
        return None
    return tuple(sorted({period for one in dates for period in one.periods(*span)}))
