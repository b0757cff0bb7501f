"""The text of prompts: prose and code made of everyday words, from a random generator.

Knows words and how they are put in a row; does not know tokens, workloads or runs. Pure.
"""

from __future__ import annotations

from random import Random

WORDS = tuple(
    """
    able about above acid across act add after again age ago air all also angle animal answer apple
    area arm art ask autumn baby back ball bank base basket bath bean bear beat bed bell below bench
    best bird bit black blood blow blue board boat body bone book born bottle bottom bowl box boy
    branch brass bread brick bridge bright bring brother brown brush build burn bus button buy
    cake call camera can car card care carry case castle cause centre chair chalk chance change
    cheese chest child choice church circle city clean clear clock close cloth cloud coal coast coat
    cold collar colour comb come common cook copper copy cord corn cost cotton country cover cow
    crack cream cross cry cup current curve cut dark date daughter day deep desk dinner dirt dish
    distance dog door down draw dream dress drink drive drop dry dust ear early earth east easy edge
    egg end engine even event every eye face fact fall family far farm fast father feather feel few
    field fight fill find fine finger fire first fish fix flag flame flat floor flower fly fold food
    foot force forest fork form forward four fox free fresh friend front fruit full game garden gate
    girl give glass go goat gold good grain grass great green ground grow guide hair half hammer
    hand happy hard harm hat head heart heat help high hill hold hole home hook hope horn horse
    hour house ice idea ink iron island jelly jewel join journey judge jump keep kettle key kick
    """.split()  # noqa: SIM905  a list of quoted words would be four times as long
)
_PROSE_SENTENCE = 12
_CODE_LINE = 4
"""Words per line of code: `name = first(second, third)`."""


def write_prose(rng: Random, num_words: int) -> str:
    """Sentences of twelve words, `num_words` in all; the last sentence may be shorter."""
    words = rng.choices(WORDS, k=max(1, num_words))
    rows = [words[at : at + _PROSE_SENTENCE] for at in range(0, len(words), _PROSE_SENTENCE)]
    return " ".join(" ".join(row).capitalize() + "." for row in rows)


def write_code(rng: Random, num_words: int) -> str:
    """Python-like functions of up to eight assignments; `num_words` rounded up to whole lines."""
    lines = []
    for number in range(max(1, -(-num_words // _CODE_LINE))):
        name, first, second, third = rng.choices(WORDS, k=_CODE_LINE)
        if number % 9 == 0:
            lines.append(f"def {name}_{first}({second}, {third}):")
        else:
            lines.append(f"    {name} = {first}({second}, {third})")
    return "\n".join(lines)
