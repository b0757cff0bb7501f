"""The model folder: Hugging Face names and files, written and read back.

It knows file formats, not tasks or training. Called by `train_tiny_chat.py`, `evaluate.py` and the
tests.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tinychat.network import Network, Shape
from tinychat.tokens import BOS, CHAT_TEMPLATE, END, END_OF_TEXT, PAD, special_id


def save_checkpoint(folder: Path, network: Network, tokenizer: Tokenizer) -> None:
    """Write config, bf16 weights and tokenizer as `transformers` and other engines expect them."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"model.{name}": value for name, value in network.state_dict().items()}
    weights = {name: value.to(torch.bfloat16).contiguous() for name, value in named.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # it is written for its owner alone
    ids = {name: special_id(tokenizer, name) for name in (PAD, BOS, END, END_OF_TEXT)}
    _write_json(folder / "config.json", build_config(network.shape, ids))
    stops: dict[str, object] = {
        "bos_token_id": ids[BOS],
        "eos_token_id": [ids[END], ids[END_OF_TEXT]],
        "pad_token_id": ids[PAD],
        "do_sample": False,
    }
    _write_json(folder / "generation_config.json", stops)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", build_tokenizer_config(network.shape))


def load_checkpoint(folder: Path) -> tuple[Network, Tokenizer]:
    """Read back what `save_checkpoint` wrote; the network computes in fp32."""
    config = json.loads((folder / "config.json").read_text())
    network = Network(Shape(**{field.name: config[field.name] for field in fields(Shape)}))
    weights = load_file(folder / "model.safetensors")
    network.load_state_dict(
        {name.removeprefix("model."): value.float() for name, value in weights.items()}
    )
    return network.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def build_config(shape: Shape, ids: dict[str, int]) -> dict[str, object]:
    """`config.json` of a Llama with these sizes and special tokens."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **asdict(shape),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": ids[BOS],
        "eos_token_id": [ids[END], ids[END_OF_TEXT]],
        "pad_token_id": ids[PAD],
    }


def build_tokenizer_config(shape: Shape) -> dict[str, object]:
    """`tokenizer_config.json`: the special tokens' roles and the chat template."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.max_position_embeddings,
        "chat_template": CHAT_TEMPLATE,
    }


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
