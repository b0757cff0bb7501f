"""What the prefix cache finds, keeps and shares."""

from __future__ import annotations

from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.prefix import name_blocks
from stoker_runtime.schedule.sequence import Sequence
from support.hash_model import HashModel, answer_alone, make_scheduler, step_shape

PROMPT = tuple(range(1, 19))


def make_sequence(
    id: str, prompt: tuple[int, ...] = PROMPT, salt: str = "", max_tokens: int = 4, **fields: object
) -> Sequence:
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=True, **fields)  # type: ignore[arg-type]
    return Sequence(id, prompt, params, salt=salt)


def make_model(num_blocks: int = 64, **limits: int) -> HashModel:
    limits = {"max_batched_tokens": 64, **limits}
    return HashModel(make_scheduler(num_blocks, 4, caching=True, **limits))


def run(model: HashModel, *seqs: Sequence) -> list[list[tuple[str, int, int]]]:
    """The shapes of all steps; answers are checked."""
    for seq in seqs:
        model.scheduler.add(seq)
    shapes = []
    while model.scheduler.has_work:
        shapes.append(step_shape(model.advance()))
    for seq in seqs:
        assert seq.output_ids == answer_alone(seq, model.scheduler.limits.max_model_len)
    return shapes


def test_names_depend_on_everything_before() -> None:
    names = name_blocks(make_sequence("a"), 4)
    assert len(names) == len(set(names)) == 4
    for index in range(18):
        changed = (*PROMPT[:index], 49, *PROMPT[index + 1 :])
        others = name_blocks(make_sequence("b", changed), 4)
        same = [one == two for one, two in zip(names, others, strict=True)]
        assert same == [block < index // 4 for block in range(4)]


def test_names_depend_on_the_salt() -> None:
    by_salt = [name_blocks(make_sequence("a", salt=salt), 4) for salt in ("", "x", "\ud800")]
    assert len({name for names in by_salt for name in names}) == 12


def test_names_are_made_once_and_grow_with_the_answer() -> None:
    seq = make_sequence("a")
    before = list(name_blocks(seq, 4))
    seq.output_ids += [7, 8]
    assert name_blocks(seq, 4)[:4] == before
    assert name_blocks(seq, 4) == name_blocks(make_sequence("b", (*PROMPT, 7, 8)), 4)


def test_a_known_beginning_is_not_computed_again() -> None:
    model = make_model()
    run(model, make_sequence("a"))
    again = make_sequence("b", (*PROMPT[:13], 40, 41, 42, 43, 44))
    assert run(model, again)[0] == [("b", 12, 18)]
    assert again.num_cached_tokens == 12
    counts = model.scheduler.counts
    assert (counts.queried_tokens, counts.hit_tokens) == (36, 12)


def test_the_answer_is_found_too_when_the_talk_goes_on() -> None:
    model = make_model()
    first = make_sequence("a", max_tokens=8)
    run(model, first)
    talk = (*PROMPT, *first.output_ids, 30, 31)
    assert run(model, make_sequence("b", talk))[0] == [("b", 24, 28)]


def test_the_last_token_is_always_computed() -> None:
    model = make_model()
    run(model, make_sequence("a", PROMPT[:16]))
    assert run(model, make_sequence("b", PROMPT[:16]))[0] == [("b", 12, 16)]


def test_other_salts_find_nothing() -> None:
    model = make_model()
    run(model, make_sequence("a", salt="one"))
    assert run(model, make_sequence("b", salt="two"))[0] == [("b", 0, 18)]


def test_without_cache_nothing_is_found() -> None:
    model = HashModel(make_scheduler(max_batched_tokens=64))
    run(model, make_sequence("a"))
    assert run(model, make_sequence("b"))[0] == [("b", 0, 18)]
    assert model.scheduler.pool.num_named_blocks == 0


def test_whose_prompt_is_scored_computes_all_of_it() -> None:
    model = make_model()
    run(model, make_sequence("a"))
    assert run(model, make_sequence("b", prompt_logprobs=1))[0] == [("b", 0, 18)]


def test_answers_to_one_prompt_compute_it_once() -> None:
    model = make_model()
    shapes = run(model, *(make_sequence(id) for id in "abcd"))
    assert shapes[0] == [("a", 0, 18)]
    assert shapes[1] == [("a", 18, 19), ("b", 16, 18), ("c", 16, 18), ("d", 16, 18)]


def test_others_do_not_wait_for_a_prompt_that_is_not_theirs() -> None:
    model = make_model()
    other = make_sequence("other", tuple(range(30, 40)))
    shapes = run(model, make_sequence("a"), make_sequence("b"), other)
    assert shapes[0] == [("a", 0, 18), ("other", 0, 10)]
    assert ("b", 16, 18) in shapes[1]


def test_a_sibling_waits_through_all_chunks_and_no_longer() -> None:
    model = make_model(max_batched_tokens=8)
    shapes = run(model, make_sequence("a"), make_sequence("b"))
    assert shapes[:3] == [[("a", 0, 8)], [("a", 8, 16)], [("a", 16, 18), ("b", 16, 18)]]


def test_a_sibling_goes_on_alone_when_the_first_is_aborted() -> None:
    model = make_model(max_batched_tokens=8)
    for id in "ab":
        model.scheduler.add(make_sequence(id))
    model.advance()
    model.scheduler.abort("a")
    assert step_shape(model.advance()) == [("b", 8, 16)]


def test_a_preempted_one_finds_what_it_had_computed() -> None:
    model = make_model(num_blocks=12, max_batched_tokens=64)
    seqs = [
        make_sequence("a", max_tokens=9),
        make_sequence("b", tuple(range(20, 38)), max_tokens=9),
    ]
    shapes = run(model, *seqs)
    assert model.scheduler.counts.preemptions == 1
    assert [("b", 20, 25)] in shapes
    assert seqs[1].num_cached_tokens == 0


def test_the_longest_unused_is_forgotten_first() -> None:
    model = make_model(num_blocks=12)
    prompts = {id: tuple(range(base, base + 16)) for base, id in ((1, "a"), (20, "b"))}
    run(model, make_sequence("a", prompts["a"], max_tokens=1))
    run(model, make_sequence("b", prompts["b"], max_tokens=1))
    run(model, make_sequence("a2", prompts["a"], max_tokens=1))
    run(model, make_sequence("c", (0,) * 32, max_tokens=1))
    assert run(model, make_sequence("a3", prompts["a"], max_tokens=1))[0] == [("a3", 12, 16)]
    assert run(model, make_sequence("b2", prompts["b"], max_tokens=1))[0] != [("b2", 12, 16)]


def test_what_a_failed_sequence_computed_is_not_found() -> None:
    model = make_model()
    for id in ("a", "b"):
        model.scheduler.add(make_sequence(id, max_tokens=9))
        model.advance()
    own = set(model.scheduler.pool.table("b")) - set(model.scheduler.pool.table("a"))
    assert set(model.scheduler.fail("b")) == own
    assert len(model.scheduler.fail("a")) == 5
    assert model.scheduler.pool.num_named_blocks == 0
    assert run(model, make_sequence("c"))[0] == [("c", 0, 18)]
