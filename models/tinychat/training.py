"""Fits a network to endless conversations within a number of steps.

It knows optimisers and schedules, not tasks or files. Called by `train_tiny_chat.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tinychat.muon import Muon
from tinychat.network import Network
from tinychat.packing import Batch


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to fit; the model card says what made the committed weights."""

    num_steps: int = 1600
    """Optimiser steps."""
    matrix_rate: float = 0.012
    """Peak learning rate of Muon, for the matrices inside the layers."""
    other_rate: float = 0.004
    """Peak learning rate of AdamW, for the embedding and the norms."""
    warm_up: float = 0.02
    """Share of the steps in which the rates rise."""
    cool_down: float = 0.5
    """Share of the steps at the end in which they fall to nothing."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the fit stands, for whoever shows it."""

    step: int
    num_steps: int
    loss: float
    num_tokens: int
    elapsed_s: float


def fit(
    network: Network,
    source: Iterator[Batch],
    recipe: Recipe,
    report: Callable[[Progress], None],
    report_every: int = 50,
) -> None:
    """Train in place: fp32 weights, bf16 arithmetic where the processor has it."""
    optimizers = _optimizers(network, recipe)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, recipe))
        for optimizer in optimizers
    ]
    started_at, num_tokens, losses = time.monotonic(), 0, list[float]()
    for step in range(1, recipe.num_steps + 1):
        batch = next(source)
        loss = answer_loss(network, batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        losses.append(loss.item())
        num_tokens += batch.ids.numel()
        if step % report_every == 0 or step == recipe.num_steps:
            elapsed_s = time.monotonic() - started_at
            mean = sum(losses) / len(losses)
            report(Progress(step, recipe.num_steps, mean, num_tokens, elapsed_s))
            losses.clear()


def answer_loss(network: Network, batch: Batch) -> Tensor:
    """Mean cross-entropy of the assistant's tokens; no logits are made for the others."""
    graded = batch.targets >= 0
    with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
        hidden = network.hidden(batch.ids, batch.mask)[graded]  # [num_graded, hidden_size]
        logits = network.logits(hidden)
    return functional.cross_entropy(logits.float(), batch.targets[graded])


@cache
def multiplies_bf16() -> bool:
    """Whether this processor multiplies bf16 itself; those that do not take 60 times as long."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(
        cpuinfo.read_text().split()
    )


def rate_factor(step: int, recipe: Recipe) -> float:
    """Up in a straight line, level, and down in a straight line: 0 → 1 → 1 → 0."""
    rising = (step + 1) / max(1.0, recipe.warm_up * recipe.num_steps)
    falling = (recipe.num_steps - step) / (recipe.cool_down * recipe.num_steps)
    return max(0.0, min(1.0, rising, falling))


def _optimizers(network: Network, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which needs fewer steps; AdamW else."""
    dtype = torch.bfloat16 if multiplies_bf16() else torch.float32
    matrices = [p for p in network.layers.parameters() if p.ndim == 2]
    others = [p for p in network.parameters() if not any(p is m for m in matrices)]
    return [
        Muon(matrices, recipe.matrix_rate, weight_decay=0.01, dtype=dtype),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
