"""All lanes of one worker, and the names under which clients find them.

Knows which deployments exist; pure. `backends` fills it, `app` and `proxy` read it.
"""

from __future__ import annotations

from collections.abc import Iterator

from stoker_gateway import errors
from stoker_gateway.admission import Directory
from stoker_gateway.lane import Bounds, Lane
from stoker_gateway.target import Target


class Fleet:
    """The deployments that this worker serves."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._lanes: dict[str, Lane] = {}
        self.directory = Directory()

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def get(self, key: str) -> Lane | None:
        """A lane by `namespace/name`."""
        return self._lanes.get(key)

    def lane(self, key: str, now: float) -> Lane:
        """The lane of that key; a pod may be heard of before its deployment."""
        lane = self._lanes.get(key)
        if lane is None:
            namespace, _, name = key.partition("/")
            lane = self._lanes[key] = Lane(Target(namespace, name, name), self._bounds, now)
        return lane

    def put(self, target: Target, now: float) -> Lane:
        """A deployment is new or changed."""
        lane = self.lane(target.key, now)
        lane.target = target
        self.directory.put(target)
        return lane

    def remove(self, key: str, now: float) -> Lane | None:
        """A deployment is gone: who waits for it is told; what runs may end."""
        self.directory.remove(key)
        lane = self._lanes.get(key)
        if lane is not None:
            known = (name for name, _ in self.directory.listed())
            lane.fail_waiting(errors.model_not_found(lane.target.served_name, known), now)
        return lane

    def forget_empty(self) -> list[Lane]:
        """Drop lanes without deployment, pods or requests; those dropped."""
        wanted = {target.key for target in self.directory}
        empty = [
            lane
            for key, lane in self._lanes.items()
            if key not in wanted and not lane.busy and not any(lane.routes)
        ]
        for lane in empty:
            del self._lanes[lane.target.key]
        return empty
