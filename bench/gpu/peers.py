"""Other engines on the same card, with the same weights and the same requests as ours.

Knows how each is called; does not know ours, whose figures it reads. What cannot be imported here
is named and left out.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engines import Request, checkpoint, mix, mix_name
from figures import Figure
from stand import Stand

Run = Callable[[Path, list[Request], Stand], float]
MODEL = "0.6B"


def measure(stand: Stand) -> Iterator[Figure]:
    """The part `peers`: tokens per second of each, and ours over theirs."""
    ours = stand.journal.find("mix", mix_name(MODEL))
    folder = checkpoint(stand, MODEL)
    for name, (run, goal) in PEERS.items():
        try:
            importlib.import_module(name)
            theirs = run(folder, mix(stand.is_dry), stand)
        except Exception as error:  # whatever it is, the others go on
            print(f"{name} left out: {type(error).__name__}: {error}", flush=True)
            continue
        yield Figure(f"{mix_name(MODEL)}, {name}", theirs, "tokens/s")
        yield Figure(f"{mix_name(MODEL)}, ours over {name}", ours / theirs, "", goal)


def run_transformers(folder: Path, requests: list[Request], stand: Stand) -> float:
    """Its continuous batching; it is warmed up by itself."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(stand.device)
    wishes = GenerationConfig(do_sample=True, temperature=0.6, eos_token_id=-1, pad_token_id=0)
    with model.continuous_batching_context_manager(generation_config=wishes) as manager:
        started, num_made = time.monotonic(), 0
        waiting = {manager.add_request(one.prompt, max_new_tokens=one.num_made) for one in requests}
        while waiting:
            done = manager.get_result(timeout=1)
            if done is not None and done.is_finished():
                if done.error:
                    raise RuntimeError(done.error)
                waiting.discard(done.request_id)
                num_made += len(done.generated_tokens)
            elif not manager.is_running():
                raise RuntimeError("it ended before its requests did")
        return num_made / (time.monotonic() - started)


def run_vllm(folder: Path, requests: list[Request], stand: Stand) -> float:
    """Its offline engine, after one request to warm up."""
    from vllm import LLM, SamplingParams

    engine = LLM(str(folder), skip_tokenizer_init=True, max_num_seqs=256, max_model_len=4096)
    wishes = [
        SamplingParams(temperature=0.6, ignore_eos=True, max_tokens=one.num_made, detokenize=False)
        for one in requests
    ]
    prompts = [{"prompt_token_ids": one.prompt} for one in requests]
    engine.generate(prompts[:1], wishes[0], use_tqdm=False)
    started = time.monotonic()
    made = engine.generate(prompts, wishes, use_tqdm=False)
    return sum(len(one.outputs[0].token_ids) for one in made) / (time.monotonic() - started)


PEERS: dict[str, tuple[Run, float]] = {
    "transformers": (run_transformers, 3.0),
    "vllm": (run_vllm, 1.0),
}
"""How each is run, and how many times faster ours is to be."""
