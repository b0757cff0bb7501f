"""Words to play with: a list of plain English ones, and invented ones without end.

Everything here was written for this project, so it may be redistributed. Used by `spelling` and `talk`.
"""

from __future__ import annotations

import random

COMMON: tuple[str, ...] = tuple(
    """
    apple bread butter cheese coffee dinner honey lemon melon orange pepper potato sugar tomato water
    banana carrot cherry strawberry raspberry pumpkin noodle pancake biscuit chocolate
    badger beaver bird camel cat chicken cow dog dolphin donkey dragon duck eagle elephant fox frog giraffe
    goat hamster hedgehog horse kitten lion lizard monkey mouse otter owl panda parrot penguin pig pony
    puppy rabbit raven robin salmon seal shark sheep snail spider squirrel swan tiger turtle whale wolf zebra
    autumn beach cloud desert earth fire flower forest garden grass hill island lake leaf lightning moon
    mountain ocean planet rain rainbow river rose season sky snow spring star storm stone summer sun
    thunder tree valley wind winter meadow pebble
    arm back brain chin ear elbow eye face finger foot hair hand head heart knee leg mouth neck nose shoulder
    ball basket bell boat bottle box bridge bucket button candle carpet castle chair clock coin
    computer cup curtain door drum engine feather flute furnace guitar hammer hat house jacket kettle key
    kitchen ladder lamp machine map mirror needle paper pencil phone piano picture pillow pocket
    ribbon rocket rope school scissors ship shoe spoon stoker street table teapot ticket tower train
    trumpet umbrella violin wagon wheel window wool
    baker brother captain child cousin dancer doctor driver farmer father king mother painter pilot
    prince queen sailor singer sister teacher uncle writer
    black blue brown green grey pink purple red silver white yellow
    brave bright calm clean cold dark deep dry early easy fast gentle heavy hungry 
    late lazy light little loud lucky narrow new proud quick quiet rich round sharp short
    silly smooth soft strong sweet tall thin warm wet wide wild wise young
    bake begin bring build carry catch climb close cross dance draw dream drink drive
    fall find finish fly follow grow hear hide hold jump keep kick knock laugh learn leave
    look lose move open paint play pull push read ride ring rise run sell send sing
    sit smile speak stand swim take teach think throw touch visit wait
    walk wash watch win
    Alice Anna Berlin Bob Clara David Emma Felix London Maria Oscar Paris Peter Rome Sarah Tokyo
    cluster kernel pod python token
    Mississippi keeper winner
    """.split()
)

# Words that the chats themselves use, so that they are single tokens: their spelling has to be learned by heart.
FAMILIAR: tuple[str, ...] = tuple(
    "hello world letter letters word model operator count write turn make help sleep wake small large number question "
    "answer Stoker name sorry language weights pods sum request minutes thanks backwards capital sort reverse".split()
)

_ONSETS = tuple(
    "b c d f g h j k l m n p q r s t v w x y z bl br ch cl cr dr fl gr kn pl pr sh sk sl sn sp st str th tr wh".split()
)
_VOWELS = tuple("a e i o u a e i o u ai au ea ee ei ie oa oo ou y".split())
_CODAS = ("", "", "", *"b d g k l m n p r s t x ck ll mp nd ng nt rd rk rn rt ss st th".split())
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAX_LETTERS = 12


def draw_word(rng: random.Random) -> str:
    """A word of two to twelve letters: plain, pronounceable, or any letters; one in ten is capitalised."""
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(COMMON if kind < 0.28 else FAMILIAR)
    word = _pronounceable(rng) if kind < 0.7 else _letters(rng)
    return word.capitalize() if rng.random() < 0.1 else word


def quote(rng: random.Random, word: str) -> str:
    """The word as people write it in a request: in quotes of either kind, or bare."""
    return rng.choice(("{}", "'{}'", "'{}'", '"{}"')).format(word)


def _pronounceable(rng: random.Random) -> str:
    syllables = (
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
        for _ in range(rng.randrange(1, 4))
    )
    return "".join(syllables)[:MAX_LETTERS]


def _letters(rng: random.Random) -> str:
    return "".join(rng.choices(_LETTERS, k=rng.randrange(2, MAX_LETTERS + 1)))
