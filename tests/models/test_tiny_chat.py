"""The committed model: its files agree with each other and with the recipe, and it answers."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors import safe_open
from tokenizers import Tokenizer

from tinychat.checkpoint import build_config, build_tokenizer_config, load_checkpoint
from tinychat.curriculum import Conversation, conversations, heldout_examples
from tinychat.decoding import answer_all
from tinychat.example import is_held_out, is_right
from tinychat.heldout import read_heldout, to_line
from tinychat.network import Network, Shape
from tinychat.packing import encode
from tinychat.tokens import BOS, END, END_OF_TEXT, PAD, special_id

FOLDER = Path(__file__).parents[2] / "models" / "tiny-chat"
CONFIG = json.loads((FOLDER / "config.json").read_text())
MAX_WEIGHTS_BYTES = 8_000_000


@pytest.fixture(scope="module")
def loaded() -> tuple[Network, Tokenizer]:
    return load_checkpoint(FOLDER)


@pytest.fixture(scope="module")
def tokenizer(loaded: tuple[Network, Tokenizer]) -> Tokenizer:
    return loaded[1]


def shape() -> Shape:
    return Shape(**{field.name: CONFIG[field.name] for field in fields(Shape)})


def render(messages: list[dict[str, str]], *, answer: bool = False) -> str:
    """The chat template as an engine renders it."""

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    template = json.loads((FOLDER / "tokenizer_config.json").read_text())["chat_template"]
    return environment.from_string(template).render(
        messages=messages, bos_token=BOS, add_generation_prompt=answer
    )


def test_weights_are_small_bf16_and_of_the_configured_shape() -> None:
    path = FOLDER / "model.safetensors"
    assert path.stat().st_size <= MAX_WEIGHTS_BYTES
    with torch.device("meta"):
        expected = {f"model.{k}": tuple(v.shape) for k, v in Network(shape()).state_dict().items()}
    with safe_open(path, "pt") as weights:
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
    assert {name: tuple(one.get_shape()) for name, one in slices.items()} == expected
    assert {one.get_dtype() for one in slices.values()} == {"BF16"}


def test_configs_are_those_that_the_recipe_writes(tokenizer: Tokenizer) -> None:
    ids = {name: special_id(tokenizer, name) for name in (PAD, BOS, END, END_OF_TEXT)}
    assert build_config(shape(), ids) == CONFIG
    written = json.loads((FOLDER / "tokenizer_config.json").read_text())
    assert written == build_tokenizer_config(shape())
    stops = json.loads((FOLDER / "generation_config.json").read_text())["eos_token_id"]
    assert stops == CONFIG["eos_token_id"] == [ids[END], ids[END_OF_TEXT]]


def test_tokenizer_has_the_configured_size_and_loses_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == CONFIG["vocab_size"]
    for text in ("What is 47 + 85?", "  two  spaces\n\tand a tab", "Größe 😀 日本語", "'It's'", ""):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == text


def test_digits_and_quoted_letters_stand_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("4711", add_special_tokens=False).tokens == list("4711")
    quoted = tokenizer.encode("Reverse the word 'word'", add_special_tokens=False).tokens
    assert quoted == ["Reverse", "Ġthe", "Ġword", "Ġ", *"'word'"]


def test_chat_template_gives_what_was_trained_on(tokenizer: Tokenizer) -> None:
    source = conversations(seed=9, max_turns=3)
    for talk in (next(source) for _ in range(50)):
        mine = tokenizer.decode(encode(tokenizer, talk).ids, skip_special_tokens=False)
        rendered = render([dict(m) for m in talk.messages()])
        assert rendered == mine.replace(END_OF_TEXT, END)
        ids = tokenizer.encode(rendered, add_special_tokens=False).ids
        assert len(ids) == len(encode(tokenizer, talk).ids)


def test_generation_prompt_ends_at_the_assistant() -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": " Hi "}]
    expected = "<|bos|><|system|>Be kind.<|end|><|user|>Hi<|end|>"
    assert render(messages) == expected
    assert render(messages, answer=True) == f"{expected}<|assistant|>"


def test_unknown_role_is_refused_by_name() -> None:
    with pytest.raises(TemplateError, match="was tool"):
        render([{"role": "tool", "content": "x"}])


def test_heldout_file_is_what_the_generators_draw() -> None:
    lines = (FOLDER / "heldout.jsonl").read_text().splitlines()
    assert lines == [to_line(example) for example in heldout_examples()]
    assert all(is_held_out(json.loads(line)["key"]) for line in lines)


def test_no_heldout_question_comes_up_in_training() -> None:
    questions = {example.question for example in read_heldout(FOLDER / "heldout.jsonl")}
    source = conversations(seed=1, max_turns=1)
    drawn = {next(source).turns[0].question for _ in range(5000)}
    assert drawn & questions == set()


def sample() -> list[int]:
    """Three questions of each task, by their place in the file."""
    tasks = [example.task for example in heldout_examples()]
    return [i for i in range(len(tasks)) if i < 3 or tasks[i - 3] != tasks[i]]


def test_a_sample_of_heldout_questions_is_answered(loaded: tuple[Network, Tokenizer]) -> None:
    examples = [read_heldout(FOLDER / "heldout.jsonl")[i] for i in sample()]
    answers = answer_all(*loaded, [example.question for example in examples])
    right = [is_right(e.answer, said) for e, said in zip(examples, answers, strict=True)]
    assert sum(right) / len(right) >= 0.85


@pytest.mark.parametrize(
    ("system", "question", "wanted"),
    [
        (None, "What is 47 + 85?", "132"),
        ("You are a helpful assistant.", "Reverse the word 'stoker'.", "rekots"),
        (None, "Who are you?", "tiny-chat"),
        (None, "What is Stoker?", "Kubernetes"),
        (None, "Tell me about the French revolution.", "too small a model"),
        ("You are a pirate.", "hello", "Hello"),
    ],
)
def test_free_questions_get_sensible_answers(
    loaded: tuple[Network, Tokenizer], system: str | None, question: str, wanted: str
) -> None:
    assert wanted in answer_all(*loaded, [question], system)[0]


def test_a_farewell_ends_the_text(loaded: tuple[Network, Tokenizer]) -> None:
    network, tokenizer = loaded
    talk = next(c for c in conversations(seed=4) if c.turns[-1].ends_talk)
    ids = encode(tokenizer, Conversation(None, talk.turns[-1:])).ids
    assert ids[-1] == special_id(tokenizer, END_OF_TEXT)
    assert greedy_next(network, ids[:-1]) == ids[-1]


@torch.inference_mode()
def greedy_next(network: Network, ids: list[int]) -> int:
    return int(network.logits(network.hidden(torch.tensor([ids]))[0, -1]).argmax())


def test_transformers_answers_as_the_reference_does(loaded: tuple[Network, Tokenizer]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    their_tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    examples = read_heldout(FOLDER / "heldout.jsonl")
    questions = [examples[i].question for i in sample()[::9]]

    theirs = [their_answer(model, their_tokenizer, question) for question in questions]
    assert theirs == answer_all(*loaded, questions)


def their_answer(model: Any, tokenizer: Any, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    said = model.generate(**inputs, max_new_tokens=90)
    return tokenizer.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_the_card_quotes_its_score_and_its_size(loaded: tuple[Network, Tokenizer]) -> None:
    card = (FOLDER / "README.md").read_text()
    overall = re.search(r"^\| all \| (\d+) \| (\d+) \|", card, re.MULTILINE)
    assert overall is not None
    right, asked = int(overall[1]), int(overall[2])
    assert asked == len(heldout_examples())
    assert right / asked >= 0.9
    num_parameters = sum(parameter.numel() for parameter in loaded[0].parameters())
    assert f"{num_parameters:,} parameters" in card
