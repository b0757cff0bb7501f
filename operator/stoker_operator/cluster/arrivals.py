"""What was asked of each deployment in the last day, minute by minute: what simulations replay.

Knows counts and instants (passed in); does not know who reads them. Only minutes with requests are
kept, at most a day's worth each, in the memory of every operator process, so that a takeover loses
nothing and a restart of all loses everything. A deployment that is asked in every minute takes
58 KB: five numbers of eight bytes a minute.
"""

from __future__ import annotations

from array import array

COLUMNS = ("minute", "requests", "peak", "input_tokens", "output_tokens")
"""Unix minutes; requests, and the most of them within one second; tokens of their prompts, as
gateways estimate them, and of answers that ended then."""
KEPT_MINUTES = 24 * 60
MINUTE_S = 60


class ArrivalBook:
    """The minutes of all deployments."""

    def __init__(self) -> None:
        self._days: dict[str, array[int]] = {}
        self._seconds: dict[str, tuple[int, int]] = {}

    def note(self, key: str, requests: int, tokens: tuple[int, int], now: float) -> None:
        """Requests came, with prompts of so many tokens, and answers of so many ended."""
        if not requests and not any(tokens):
            return
        second, in_second = self._seconds.get(key, (0, 0))
        in_second = requests + (in_second if second == int(now) else 0)
        self._seconds[key] = (int(now), in_second)
        day = self._day(key, int(now) // MINUTE_S)
        day[-4] += requests
        day[-3] = max(day[-3], in_second)
        day[-2] += tokens[0]
        day[-1] += tokens[1]

    def rows(self, key: str, now: float) -> list[tuple[int, ...]]:
        """The last day, oldest first, by `COLUMNS`."""
        day, width = self._days.get(key, ()), len(COLUMNS)
        oldest = int(now) // MINUTE_S - KEPT_MINUTES
        rows = (tuple(day[at : at + width]) for at in range(0, len(day), width))
        return [row for row in rows if row[0] > oldest]

    def forget(self, key: str) -> None:
        """A deployment is gone."""
        self._days.pop(key, None)
        self._seconds.pop(key, None)

    def _day(self, key: str, minute: int) -> array[int]:
        """The numbers of a deployment; the last ones are those of this minute."""
        day = self._days.setdefault(key, array("q"))
        if not day or day[-5] < minute:
            day.extend((minute, 0, 0, 0, 0))
            del day[: max(0, len(day) - KEPT_MINUTES * len(COLUMNS))]
        return day
