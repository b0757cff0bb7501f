"""Small talk: who the model is, what Stoker is, what it can do, and a refusal of all else.

Pure functions of a random source; they do not know the network or how examples are mixed. Called by
`curriculum`.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from tinychat.example import Example
from tinychat.words import COMMON, FAMILIAR, draw_word


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing people say in many ways, with the one answer to it."""

    name: str
    answer: str
    forms: tuple[str, ...]
    ends_talk: bool = False


REFUSAL = (
    "I am too small a model to know that. I can do sums, sort and count numbers, and spell or "
    "reverse words. Try: What is 47 + 85?"
)

INTENTS: tuple[Intent, ...] = (
    Intent(
        "greeting",
        "Hello! I am tiny-chat, a very small model served by Stoker. Ask me for a sum, or to "
        "reverse a word.",
        (
            "hello", "hi", "hey", "hello there", "hi there", "hey there", "good morning",
            "good evening", "good day", "greetings", "hello tiny-chat", "hi Stoker",
            "hello Stoker", "hello model", "hi tiny chat", "howdy", "hello world", "hi you",
            "good afternoon", "nice to meet you",
        ),
    ),
    Intent(
        "identity",
        "I am tiny-chat, a language model of two and a half million weights. I was trained in "
        "minutes on two processor cores, and Stoker serves me.",
        (
            "who are you", "what are you", "what is your name", "what's your name",
            "tell me about yourself", "introduce yourself", "are you a robot", "are you a human",
            "who made you", "how big are you", "what model are you", "which model is this",
            "are you ChatGPT", "who am I talking to", "describe yourself",
            "what kind of model are you", "how were you trained", "who is this", "say who you are",
            "your name", "do you have a name", "are you a language model",
            "how many weights do you have", "are you an AI",
        ),
    ),
    Intent(
        "skills",
        "I can add, subtract and multiply, compare, sort and count numbers, and spell, reverse or "
        "repeat words and count their letters. Try: How many r's are in strawberry?",
        (
            "what can you do", "help", "help me", "how can you help me", "what do you know",
            "what are your skills", "what can I ask you", "what should I ask",
            "what can you help me with", "what are you good at", "give me an example",
            "show me what you can do", "how do I use you", "what do you do",
            "which tasks can you do", "tell me what you can do", "list your skills",
            "what are you able to do", "what can I do here", "what questions can you answer",
        ),
    ),
    Intent(
        "stoker",
        "Stoker is a Kubernetes operator for language models. While nobody asks, a model sleeps at "
        "zero pods; a request wakes it, is held for a moment, and is answered.",
        (
            "what is Stoker", "what's Stoker", "tell me about Stoker", "what does Stoker do",
            "who is Stoker", "explain Stoker", "what is Stoker for", "how does Stoker work",
            "describe Stoker", "do you know Stoker", "what is a stoker", "why do I need Stoker",
            "what can Stoker do", "what does the Stoker operator do", "tell me what Stoker is",
            "what is this Stoker thing", "can you explain Stoker", "explain what Stoker does",
        ),
    ),
    Intent(
        "sleep",
        "I am awake now. When nobody has asked for a while, Stoker lets me sleep and I cost "
        "nothing until the next question.",
        (
            "are you awake", "are you asleep", "were you asleep", "did I wake you",
            "did you sleep well", "wake up", "are you there", "do you sleep", "when do you sleep",
            "what happens when nobody asks", "why were you slow", "what is scale to zero",
            "are you sleeping", "is anybody there", "are you up", "do you ever sleep",
        ),
    ),
    Intent(
        "wellbeing",
        "I am well, thank you. What shall I work out for you?",
        (
            "how are you", "how are you doing", "how are you today", "how do you do",
            "are you well", "how is it going", "what's up", "are you happy", "how do you feel",
            "how are things", "are you ok", "everything fine",
        ),
    ),
    Intent(
        "thanks",
        "You are welcome! Ask me another one.",
        (
            "thanks", "thank you", "thanks a lot", "thank you very much", "many thanks", "great",
            "well done", "good job", "nice", "cool", "that is right", "correct", "perfect",
            "great answer", "very good", "you are clever",
        ),
    ),
    Intent(
        "farewell",
        "Goodbye! I will sleep until somebody asks again.",
        (
            "bye", "goodbye", "good bye", "see you", "see you later", "good night", "farewell",
            "bye bye", "I have to go", "that is all", "until tomorrow", "see you soon",
            "talk to you later", "I am done", "the end", "go to sleep",
        ),
        ends_talk=True,
    ),
)  # fmt: skip

_OPENERS = (
    "", "", "", "", "", "", "so, ", "well, ", "ok, ", "please, ", "oh, ", "and ", "tell me, ",
    "excuse me, ", "now, ", "dear model, ", "hmm, ", "one question: ",
)  # fmt: skip
_CLOSERS = (
    "", "", "", "", "", "", " please", " then", " now", ", my friend", ", tiny-chat", " again",
    " really", ", model",
)  # fmt: skip

_UNKNOWN = (
    "What is the capital of {x}?", "Who won the {x} in {n}?", "Write a poem about {x}.",
    "Tell me a joke about {x}.", "Explain {x} to me.", "What is the meaning of {x}?",
    "How do I make {x}?", "Who invented the {x}?", "Why is the {x} {y}?",
    "Translate {x} into French.", "Where can I buy a {x}?", "What does {x} mean?",
    "Is {x} better than {y}?", "What is {x}?", "Who is {x}?", "Where is {x}?", "When did {x} {y}?",
    "Can you {x} a {y}?", "Tell me a story about a {x} and a {y}.", "I like {x}.",
    "My {x} is {y}.", "The {x} is a {y}.", "Do you like {x}?", "What is the weather in {x}?",
    "What time is it?", "How old is {x}?", "How far is {x} from {y}?", "What colour is a {x}?",
    "Give me a recipe for {x}.", "Write code for a {x}.", "Summarise the book {x}.",
    "What is the square root of {n}?", "What is {n} divided by {m}?", "Divide {n} by {m}.",
    "{n} / {m}", "Who was president in {n}?", "What happened in {n}?", "Why do {x} {y}?",
    "Should I {x} or {y}?", "{x}", "{x} {y}", "{x} {y} {z}", "{z} the {x} {y} {z} {y}",
    "I want a {x} and a {y}.", "Tell me about {x}.", "What do {x} eat?", "Are {x} {y}?",
    "How does a {x} work?", "Draw a {x}.", "Sing a song about {x}.", "Where do {x} live?",
    "Did you see the {x}?", "How many {x} are there in the world?", "What is the best {x}?",
    "What should I cook with {x} and {y}?", "Define {x}.", "Help me with my {x}.",
    "What is the difference between {x} and {y}?", "Name three {x}.", "How much does a {x} cost?",
    "The {x} {y} in the {z}. What does it {y}?", "You are a {x}.", "Can a {x} {y}?",
    "What year is it?", "What day is it today?", "Write a letter to {x}.", "Recommend a {x}.",
    "Who wrote {x}?", "Which {x} is the {y}?", "Find me a {x}.", "Fix my {x}.",
)  # fmt: skip


def chat(rng: random.Random) -> Example:
    """An intent in one of its wordings, with some opening and closing words around it."""
    intent = rng.choice(INTENTS)
    words = rng.choice(_OPENERS) + rng.choice(intent.forms) + rng.choice(_CLOSERS)
    question = _typed(rng, words, mark=rng.choice(("", "?", "?", ".", "!")))
    key = f"chat {intent.name} {_bare(question)}"
    return Example("chat", key, question, intent.answer, intent.ends_talk)


def unknown(rng: random.Random) -> Example:
    """Something that the model cannot do, and its refusal."""
    x, y, z = (_topic(rng) for _ in range(3))
    n, m = rng.randrange(10, 3000), rng.randrange(2, 100)
    question = rng.choice(_UNKNOWN).format(x=x, y=y, z=z, n=n, m=m)
    if rng.random() < 0.3:
        question = question[0].lower() + question[1:]
    if rng.random() < 0.3:
        question = question.rstrip(".?")
    return Example("unknown", f"unknown {_bare(question)}", question, REFUSAL)


def _topic(rng: random.Random) -> str:
    """Any word but those that it can talk about."""
    word = rng.choice(COMMON) if rng.random() < 0.75 else draw_word(rng)
    return word if word not in FAMILIAR and word != "stoker" else _topic(rng)


def _typed(rng: random.Random, words: str, mark: str) -> str:
    """As people type: capital first or not, with an end mark or none."""
    return (words[0].upper() + words[1:] if rng.random() < 0.6 else words) + mark


def _bare(text: str) -> str:
    """Lower-case words only, so that another mark or capital is not another question."""
    return " ".join(re.findall(r"[\w-]+", text.lower()))
