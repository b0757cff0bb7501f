"""The reference network is a Llama: as `transformers` computes it, with or without its cache."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from tinychat.checkpoint import load_checkpoint, save_checkpoint
from tinychat.decoding import answer_all, decode_greedily, prompt_ids
from tinychat.network import KeyValueCache, Network, Shape
from tinychat.tokens import train_tokenizer
from tinychat.training import Recipe, rate_factor

SMALL = Shape(
    vocab_size=272,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["What can you do then, my good friend Stoker"], SMALL.vocab_size)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(4)
    made = Network(SMALL)
    # Wide in the layers, so that a token is not simply repeated; rounded as the file rounds them,
    # so that what is read back is the same network.
    for name, parameter in made.named_parameters():
        std = 0.1 if "norm" in name or "embed" in name else 0.5
        mean = 1.0 if "norm" in name else 0.0
        parameter.data = (mean + std * torch.randn_like(parameter)).bfloat16().float()
    return made.eval()


def random_ids(num_rows: int, num_tokens: int) -> torch.Tensor:
    return torch.randint(8, SMALL.vocab_size, (num_rows, num_tokens))


@torch.inference_mode()
def test_transformers_computes_the_same_logits(
    network: Network, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    save_checkpoint(tmp_path, network, tokenizer)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = random_ids(2, 40)
    ours = network.logits(network.hidden(ids))
    torch.testing.assert_close(ours, theirs(ids).logits, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_written_network_is_read_back_as_it_was(
    network: Network, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, network, tokenizer)
    again, its_tokenizer = load_checkpoint(tmp_path)
    ids = random_ids(1, 9)
    assert again.shape == SMALL
    assert torch.equal(again.hidden(ids), network.hidden(ids))
    assert its_tokenizer.to_str() == tokenizer.to_str()


@torch.inference_mode()
def test_reading_in_pieces_gives_what_reading_at_once_gives(network: Network) -> None:
    ids, cache = random_ids(3, 20), KeyValueCache(SMALL.num_hidden_layers)
    assert cache.num_tokens == 0
    pieces = [network.hidden(ids[:, :12], cache=cache)]
    pieces += [network.hidden(ids[:, i : i + 1], cache=cache) for i in range(12, 20)]
    assert cache.num_tokens == 20
    torch.testing.assert_close(torch.cat(pieces, 1), network.hidden(ids), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_masked_neighbour_changes_nothing(network: Network) -> None:
    ids = random_ids(1, 10)
    mask = torch.ones(10, 10, dtype=torch.bool).tril()
    mask[4:, :4] = False
    together = network.hidden(ids, mask[None, None])[:, 4:]
    torch.testing.assert_close(together, network.hidden(ids[:, 4:]), atol=1e-4, rtol=1e-4)


def test_decoding_stops_each_row_at_its_own_stop(network: Network) -> None:
    prompts = random_ids(4, 6).tolist()
    free = decode_greedily(network, prompts, stop=set())
    assert [len(said) for said in free] == [SMALL.max_position_embeddings - 6] * 4
    stop = free[0][5]
    stopped = decode_greedily(network, prompts, stop={stop})
    for said, whole in zip(stopped, free, strict=True):
        assert said == (whole[: whole.index(stop)] if stop in whole else whole)


def test_answers_come_in_the_order_of_the_questions(network: Network, tokenizer: Tokenizer) -> None:
    questions = ["you do", "my", "What can", "do you"]
    alone = [answer_all(network, tokenizer, [question])[0] for question in questions]
    assert answer_all(network, tokenizer, questions) == alone
    assert len(set(alone)) > 1


def test_a_prompt_ends_where_the_assistant_speaks(tokenizer: Tokenizer) -> None:
    ids = prompt_ids(tokenizer, "do", system="my friend")
    shown = tokenizer.decode(ids, skip_special_tokens=False)
    assert shown == "<|bos|><|system|>my friend<|end|><|user|>do<|end|><|assistant|>"


def test_learning_rate_rises_stays_and_falls() -> None:
    recipe = Recipe(num_steps=100, warm_up=0.1, cool_down=0.5)
    factors = [rate_factor(step, recipe) for step in (0, 4, 9, 30, 50, 75, 100)]
    assert factors == pytest.approx([0.1, 0.5, 1, 1, 1, 0.5, 0])
