"""The tokenizer: whole words where the chats use them often, single characters for all else.

A byte-level BPE without merges: a piece of text that is in the vocabulary is one token, any other
falls apart into its bytes. Digits always stand alone, and so do the letters of a word in quotes.
Every text can be encoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

PAD, BOS, END, END_OF_TEXT = "<|pad|>", "<|bos|>", "<|end|>", "<|endoftext|>"
SYSTEM, USER, ASSISTANT, TOOL = "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"
SPECIAL = (PAD, BOS, END, END_OF_TEXT, SYSTEM, USER, ASSISTANT, TOOL)

# A word after a space is one piece; so is one at the start of a line, but not one after a quote.
_PIECES = r""" \p{L}+|(?<!['"\-\p{L}])\p{L}+|\p{L}|\p{N}|\s|[^\s\p{L}\p{N}]"""

CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
    {%- if message.role not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception('role must be system, user or assistant, was ' ~ message.role) -}}
    {%- endif -%}
    {{- '<|' ~ message.role ~ '|>' ~ message.content | trim ~ '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>' -}}
{%- endif -%}
"""


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, spelled: frozenset[str] = frozenset()
) -> Tokenizer:
    """Specials, the 256 bytes, and the commonest words of `texts` that are not in `spelled`."""
    splitter = _pre_tokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(text) if len(piece) > 1)
    for word in spelled:
        del counts[word], counts[f"Ġ{word}"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    num_words = vocab_size - len(SPECIAL) - len(alphabet)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    entries = [*SPECIAL, *alphabet, *(word for word, _ in ranked[:num_words])]
    assert len(entries) == vocab_size, f"only {len(entries)} entries for {vocab_size} places"
    return _assemble({entry: i for i, entry in enumerate(entries)})


def special_id(tokenizer: Tokenizer, name: str) -> int:
    """The id of a special token, which every tokenizer made here has."""
    found = tokenizer.token_to_id(name)
    assert found is not None, f"{name} is not in the vocabulary"
    return int(found)


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _assemble(vocab: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocab[BOS])]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    return tokenizer
