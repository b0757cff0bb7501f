"""The one model that lives in this process, and how it moves in, sleeps, wakes and moves out.

Knows the order of a load and what each state keeps; does not know sockets or requests. Driven by
`process`. Torch is imported by the first load, or before it in a standby.

               engine and KV cache   decoder   weights
    awake      yes                   yes       yes
    asleep 1   no                    on a CPU  in host memory
    asleep 2   no                    no        no
    vacant     no                    no        only what `residents` keeps
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import mmap
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import msgspec

from stoker_runtime.config import Config
from stoker_runtime.engine.imports import blas_threads, ready_torch
from stoker_runtime.engine.loading import Recipe, prepare
from stoker_runtime.engine.machine import Machine, observe_machine
from stoker_runtime.engine.orders import WarmUp
from stoker_runtime.engine.ranks import ALONE, Peers
from stoker_runtime.engine.resident import Residents
from stoker_runtime.errors import CheckpointBroken, EngineCrashed
from stoker_runtime.model.reader import BlobReader
from stoker_runtime.wire import NOT_FINITE, Load, Loaded, LoadPath, Sleep, Unload, Wake

if TYPE_CHECKING:
    from stoker_runtime.engine.engine import Engine
    from stoker_runtime.model.decoder import Decoder


class Tenancy:
    """At most one model. `report` is told of every phase of a load that ended."""

    def __init__(
        self, residents: Residents, report: Callable[[str], None], peers: Peers = ALONE
    ) -> None:
        self.engine: Engine | None = None
        self._peers = peers
        self._residents = residents
        self._report = report
        self._recipe: Recipe | None = None
        self._model: Decoder | None = None
        self._parked: mmap.mmap | None = None
        """The weights of a sleeper whose decoder is on a device."""

    def warm_up(self, config: Config, machine: Machine) -> None:
        """What a standby does in advance: import torch and all of an engine, link its kernels."""
        dtype = "bfloat16" if machine.has_bf16 else "float32"
        self._peers.tell(WarmUp())
        ready_torch(blas_threads(machine.count_threads(config.threads), dtype))
        importlib.import_module("stoker_runtime.engine.assembly")
        importlib.import_module("stoker_runtime.kernels.native").find_library()
        self._report("imports")

    def load(self, config: Config) -> Loaded:
        """From the folder to an engine that made a token; on any error nothing is left behind."""
        assert self._recipe is None, "the API process unloads before it loads"
        try:
            self._peers.tell(Load(config.to_args()))
            return self._load(config)
        except BaseException:
            self._peers.call_off()
            self.unload()
            raise

    def unload(self) -> None:
        """Let go of everything: nothing of this model can be read afterwards."""
        self._peers.tell(Unload())
        self.engine = self._model = self._parked = self._recipe = None
        _give_back_memory()

    def sleep(self, level: Literal[1, 2]) -> None:
        """Let go of the cache, at level 2 of the weights too; at level 1 they stay on the host."""
        assert self._recipe, "only a model that was loaded sleeps"
        self._peers.tell(Sleep(level))
        self.engine = None
        if level == 2:
            self._model = self._parked = None
        elif self._recipe.device != "cpu" and self._parked is None:
            self._parked = _start_reading(self._recipe).wait()
            self._model = None
        _give_back_memory()

    def wake(self) -> Loaded:
        """An engine that made a token, as before the sleep."""
        recipe = self._recipe
        assert recipe, "only a model that sleeps wakes"
        path: LoadPath = "resident" if self._model or self._parked else "warm"
        has_worked = path == "resident"
        try:
            self._peers.tell(Wake())
            if self._model is None:
                self._build_model(recipe, self._parked or _start_reading(recipe))
                self._parked = None
            return self._begin(recipe, path, has_worked)
        except BaseException:
            self._peers.call_off()
            self.unload()
            raise

    @property
    def may_rehearse(self) -> bool:
        """Whether there is, or is about to be, something to rehearse."""
        return self._recipe is None and self._residents.has_untried

    def rehearse(self) -> None:
        """Have a model that waits in host memory make a token, while there is no other.

        So a damaged one is told of before anybody asks for it, and a wake is spared that token.
        """
        config = self._residents.next_untried() if self._recipe is None else None
        if config is None:
            return
        try:
            self._residents.note_trial(config.model, self._rehearse(config))
        except Exception as error:  # whatever it is, it would meet the wake as well
            self._residents.drop(config.model, str(error))
        finally:
            _give_back_memory()

    def _rehearse(self, config: Config) -> bool:
        """Whether it did: devices and other ranks are not kept busy with it."""
        from stoker_runtime.engine import assembly

        machine = _count_residents(observe_machine(), self._residents.num_bytes(config.model))
        recipe = prepare(config, machine)
        if recipe.device != "cpu" or not self._peers.share.is_whole:
            return False
        blob = self._residents.claim(recipe)
        if blob is None:
            return False
        model = assembly.build_model(recipe, blob, owns_blob=False)
        engine, _ = assembly.build_engine(recipe, model, self._peers)
        _make_token(engine, recipe)
        return True

    def _load(self, config: Config) -> Loaded:
        was_warm = "torch" in sys.modules
        machine = observe_machine().divide(self._peers.share)
        if not self._peers.share.leads:  # others have begun to load: what all have the leader saw
            machine = replace(machine, available_bytes=sys.maxsize)
        machine = _count_residents(machine, self._residents.num_bytes(config.model))
        recipe = self._recipe = prepare(config, machine)
        source = self._residents.claim(recipe) or _start_reading(recipe)
        path: LoadPath = "resident" if isinstance(source, mmap.mmap) else "warm"
        has_worked = self._residents.has_worked(config.model)
        ready_torch(blas_threads(recipe.num_threads, recipe.dtype))
        self._report("imports")
        self._build_model(recipe, source)
        loaded = self._begin(recipe, path if was_warm else "fresh", has_worked)
        self._residents.note_trial(config.model, True)
        return loaded

    def _build_model(self, recipe: Recipe, source: mmap.mmap | BlobReader) -> None:
        from stoker_runtime.engine import assembly  # not before: it imports torch

        blob = source if isinstance(source, mmap.mmap) else source.wait()
        self._model = assembly.build_model(recipe, blob, owns_blob=blob is not source)
        self._report("weights")

    def _begin(self, recipe: Recipe, path: LoadPath, has_worked: bool) -> Loaded:
        from stoker_runtime.engine import assembly

        assert self._model, "the model was built"
        self.engine, loaded = assembly.build_engine(recipe, self._model, self._peers)
        is_needed = not has_worked or recipe.device != "cpu"  # on a GPU graphs are recorded with it
        if self._peers.share.leads and is_needed:
            _make_token(self.engine, recipe)
        self._report("firstToken")
        return msgspec.structs.replace(loaded, path=path)


def _start_reading(recipe: Recipe) -> BlobReader:
    return BlobReader(recipe.placed).start()


def _make_token(engine: Engine, recipe: Recipe) -> None:
    """See that a model works. Raises `CheckpointBroken` and `EngineCrashed`."""
    try:
        engine.warm_up()
    except EngineCrashed as error:
        if NOT_FINITE not in str(error):
            raise
        message = f"{recipe.config.model}: {error}: its weights are damaged"
        raise CheckpointBroken(message) from error


def _count_residents(machine: Machine, num_bytes: int) -> Machine:
    """Weights that are in memory already need no more of it."""
    return replace(machine, available_bytes=machine.available_bytes + num_bytes)


def _give_back_memory() -> None:
    """To the kernel, which zeroes it; the allocator would keep it, and what it held, readable."""
    gc.collect()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        sys.modules["torch"].cuda.empty_cache()
    with contextlib.suppress(AttributeError):  # there is no malloc_trim outside of glibc
        ctypes.CDLL(None).malloc_trim(0)
