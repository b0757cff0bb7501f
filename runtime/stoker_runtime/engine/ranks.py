"""The other ranks of an engine, as its leader sees them: processes that repeat what it does.

Knows their processes, what they are told and what they propose; does not know what they compute
(`follower`) or how tensors meet (`parallel`). An engine that is alone has none, and all of this
does nothing. A rank that ends takes the engine along: its share of the model is nowhere else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from stoker_runtime.config import NO_MODEL, Config
from stoker_runtime.engine.failure import explain, revive
from stoker_runtime.engine.link import Link
from stoker_runtime.engine.orders import Agreed, Compute, Order, Replies, Reply, Tables, Work
from stoker_runtime.errors import EngineCrashed
from stoker_runtime.parallel.share import WHOLE, Share
from stoker_runtime.spawn import EngineProcess, spawn_engine
from stoker_runtime.wire import Failed, Load, Wake

Fail = Callable[[Failed], None]
"""Says why the engine ends, and ends it."""
_FOR_EVER_S = 3600.0


class Peers(Protocol):
    """The other ranks, for what is done by all of them; a leader's (`Ranks`) or a follower's."""

    @property
    def share(self) -> Share:
        """Which part of the model is this process's."""
        ...

    def tell(self, order: Order) -> None:
        """Let the others do what the leader does now."""
        ...

    def agree(self, num_blocks: int) -> Agreed:
        """What all have room for, once all have their weights; raises what went wrong elsewhere."""
        ...

    def call_off(self) -> None:
        """What was told failed here: nobody has to wait for this rank."""
        ...

    def together(self, work: Work) -> contextlib.AbstractContextManager[None]:
        """While all ranks do the same work."""
        ...


class Ranks:
    """The leader's followers."""

    def __init__(self, share: Share = WHOLE, meeting: str = "") -> None:
        """meeting: the path of an empty file, at which tensors meet."""
        self.share = share
        self._meeting = meeting
        self._followers: list[_Follower] = []
        self._tables = Tables()
        self._are_replying = False

    def start(self, config: Config, fail: Fail) -> None:
        """Start a process for each; they wait for what they are told."""
        flags = replace(config, model=NO_MODEL).to_args()
        for rank in range(1, self.share.ranks):
            process = spawn_engine(["--rank", str(rank), *flags])
            self._followers.append(_Follower(process, f"rank {rank} of {self.share.ranks}", fail))

    def tell(self, order: Order) -> None:
        """See `Peers`."""
        self._are_replying = bool(self._followers) and isinstance(order, Load | Wake)
        for follower in self._followers:
            follower.link.send(order)

    def agree(self, num_blocks: int) -> Agreed:
        """See `Peers`."""
        proposals = [num_blocks]
        for follower, reply in self._take_replies():
            if isinstance(reply, Failed):
                raise revive(reply, follower.name)
            proposals.append(reply.num_blocks)
        agreed = Agreed(min(proposals), self._meeting)
        self.tell(agreed)
        return agreed

    def call_off(self) -> None:
        """See `Peers`; followers learn of it by the `Unload` that comes next."""
        self._take_replies()

    @contextlib.contextmanager
    def together(self, work: Work) -> Iterator[None]:
        """See `Peers`. Whoever fails in the middle leaves the others waiting for its tensors, and
        so ends the engine."""
        if not self._followers:
            yield
            return
        self.tell(self._tables.shorten(work.chunks) if isinstance(work, Compute) else work)
        try:
            yield
        except Exception as error:
            self._followers[0].fail(explain(error))
            raise

    def _take_replies(self) -> Sequence[tuple[_Follower, Reply]]:
        """Of all followers, if there are any to come."""
        if not self._are_replying:
            return ()
        self._are_replying = False
        return [(follower, follower.wait()) for follower in self._followers]


ALONE = Ranks()
"""No other ranks."""


class _Follower:
    """A process and the link to it."""

    def __init__(self, process: EngineProcess, name: str, fail: Fail) -> None:
        self.name = name
        self.fail = fail
        self._process = process
        self.link = Link(process.sock, Replies(), self._on_close)

    def wait(self) -> Reply:
        """Its reply; if it ends instead, so does this process."""
        while True:
            for reply in self.link.take(_FOR_EVER_S):
                return reply

    def _on_close(self) -> None:
        """Its last words, or how it ended."""
        how = self._process.describe_exit()
        words = [reply for reply in self.link.take(0) if isinstance(reply, Failed)]
        error = revive(words[-1], self.name) if words else EngineCrashed(f"{self.name} {how}")
        self.fail(explain(error))


def make_ranks(config: Config) -> Ranks:
    """As many as the config says, this process included; `start` starts them."""
    if config.tensor_parallel == 1:
        return ALONE
    meeting = os.memfd_create("meeting")  # no name in a folder: it goes with this process
    return Ranks(Share(0, config.tensor_parallel), f"/proc/{os.getpid()}/fd/{meeting}")
