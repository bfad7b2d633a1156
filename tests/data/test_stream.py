"""The stream is a pure function of (recipe, seeds, i)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import BASE, InMemory, Made, T, documents, make_stream, mixtures, stages, weights
from numpy.typing import NDArray

from scaling.budget import Budget, Epochs, Proxy
from scaling.data.randomness import permutation, shuffled_within_windows, uniforms
from scaling.data.stream import BLOCK_TOKENS, ORDER_WINDOW, MixtureStream, check_budget
from scaling.recipe import Blocks, ByLength, ByScore, Order, Shuffled
from scaling.spec import Seeds

BY_SCORE = ByScore.model_validate({"scorer": {"kind": "random"}})
ORDERS = st.sampled_from(
    [
        Shuffled(),
        Blocks(domains=tuple("gfedcba")),
        ByLength(),
        ByLength(descending=True),
        BY_SCORE,
        BY_SCORE.model_copy(update={"descending": True}),
    ]
)


@given(mixtures(), st.integers(1, 200), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_a_smaller_budget_is_a_prefix_of_a_larger_one(made: Made, one: int, other: int) -> None:
    small, large = (make_stream(*made, num) for num in sorted((one, other)))
    num = small.max_sequences
    assert np.array_equal(small.batch(0, num), large.batch(0, num))


@given(mixtures(max_stages=1), st.integers(1, 200), st.integers(1, 200), st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_a_smaller_budget_is_a_prefix_under_a_cap_of_unique_tokens_too(
    made: Made, one: int, other: int, unique_tokens: int
) -> None:
    small, large = (make_stream(*made, num, unique_tokens) for num in sorted((one, other)))
    num = small.max_sequences
    assert np.array_equal(small.batch(0, num), large.batch(0, num))


@given(mixtures(), st.integers(1, 300), st.data())
@settings(max_examples=60, deadline=None)
def test_shares_of_every_prefix_of_every_stage_are_within_one_sequence(
    made: Made, num: int, data: st.DataObject
) -> None:
    order = data.draw(ORDERS.filter(lambda order: not isinstance(order, Blocks)))
    stream = make_stream(*made, num, order=order)
    chosen = np.array([stream.domain_of(i) for i in range(num)])
    start = 0
    for stage in made[0]:
        end = num if stage.until_tokens is None else min(num, stage.until_tokens // T)
        steps = np.arange(1, end - start + 1)
        for name in stream.domains:
            counts = np.cumsum(chosen[start:end] == name)
            assert np.all(np.abs(counts - stage.weights.get(name, 0.0) * steps) < 1)
        start = max(start, end)


@given(mixtures(), st.integers(1, 120), ORDERS, st.data())
@settings(max_examples=60, deadline=None)
def test_sequence_i_is_the_same_alone_and_in_any_batch(made: Made, num: int, order: Order, data: st.DataObject) -> None:
    stream = make_stream(*made, num, order=order)
    start = data.draw(st.integers(0, num - 1))
    count = data.draw(st.integers(0, num - start))
    whole = make_stream(*made, num, order=order).batch(0, num)
    assert np.array_equal(stream.batch(start, count), whole[start : start + count])
    assert np.array_equal(stream.sequence(start), whole[start])
    assert np.array_equal(stream.segments(start, count), whole[start : start + count] % 2)
    assert stream.domain_of(start) == sorted(made[1])[int(whole[start, 0]) // BASE]


@given(mixtures(), st.integers(1, 10), st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 2, 3]), st.data())
@settings(max_examples=40, deadline=None)
def test_ranks_workers_and_the_point_of_resuming_change_nothing(
    made: Made, num_batches: int, ranks: int, per_rank: int, data: st.DataObject
) -> None:
    """Each rank opens a stream of its own, reads its share of each batch, and starts at any step."""
    size = ranks * per_rank
    num = num_batches * size
    whole = make_stream(*made, num).batch(0, num)
    resumed_at = data.draw(st.integers(0, num_batches - 1))
    of_ranks = [make_stream(*made, num) for _ in range(ranks)]
    read = [
        of_ranks[rank].batch(step * size + rank * per_rank, per_rank)
        for step in range(resumed_at, num_batches)
        for rank in range(ranks)
    ]
    assert np.array_equal(np.concatenate(read), whole[resumed_at * size :])


def test_reading_ahead_changes_nothing() -> None:
    num = 3 * BLOCK_TOKENS // T
    stream = make_stream({"a": 0.75, "b": 0.25}, {"a": 400, "b": 300}, num)
    whole = stream.batch(0, num)
    ahead = BLOCK_TOKENS // T
    starts = [0, 3, ahead - 3, ahead - 1, ahead + 5, num - 3, 1, num - 6]
    for start in starts:
        batch = stream.batch(start, 3)
        assert np.array_equal(batch, whole[start : start + 3])
        batch[:] = -1  # what a caller does with its batch is its own business
        assert np.array_equal(stream.batch(start, 3), whole[start : start + 3])


def test_what_lies_outside_the_budget_is_refused() -> None:
    stream = make_stream({"a": 1.0}, {"a": 5}, 5)
    for start, count in ((-1, 2), (4, 2), (5, 1), (2, -1)):
        with pytest.raises(IndexError, match="of 5"):
            stream.batch(start, count)
        with pytest.raises(IndexError, match="of 5"):
            stream.segments(start, count)


@given(mixtures(max_stages=1), st.integers(1, 300), st.none() | st.integers(1, 200), ORDERS)
@settings(max_examples=80, deadline=None)
def test_every_epoch_covers_each_offered_sequence_exactly_once(
    made: Made, num: int, unique_tokens: int | None, order: Order
) -> None:
    stream = make_stream(*made, num, unique_tokens, order=order)
    for name in stream.domains:
        rows, offered = stream.read(name, num), stream.offered[name]
        first = set(rows[:offered].tolist())
        for start in range(0, len(rows), offered):
            epoch = rows[start : start + offered].tolist()
            assert len(set(epoch)) == len(epoch)
            assert set(epoch) <= first
            assert len(epoch) < offered or set(epoch) == first


@given(mixtures(max_stages=1), st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_what_a_smaller_u_offers_is_part_of_what_a_larger_one_offers(made: Made, one: int, other: int) -> None:
    small, large = (make_stream(*made, 400, unique) for unique in sorted((one, other)))
    for name in small.domains:
        of_small = small.read(name, 400)[: small.offered[name]]
        of_large = large.read(name, 400)[: large.offered[name]]
        shared = min(len(of_small), len(of_large))
        assert np.array_equal(of_small[:shared], of_large[:shared])


@given(mixtures(), st.integers(1, 200), ORDERS)
@settings(max_examples=40, deadline=None)
def test_each_epoch_of_any_order_holds_what_it_holds_when_shuffled(made: Made, num: int, order: Order) -> None:
    ordered, shuffled = make_stream(*made, num, order=order), make_stream(*made, num)
    for name in shuffled.domains:
        offered = shuffled.offered[name]
        rows, as_shuffled = ordered.read(name, num), shuffled.read(name, num)
        for start in range(0, len(rows), offered):
            epoch = slice(start, start + offered)
            assert sorted(rows[epoch]) == sorted(as_shuffled[epoch])


@given(mixtures(), st.integers(1, 200), st.booleans())
@settings(max_examples=40, deadline=None)
def test_an_order_by_length_or_score_sorts_each_epoch_of_each_domain(made: Made, num: int, descending: bool) -> None:
    packed = documents(made[1])
    sign = -1 if descending else 1
    for kind, order in (("document_lengths", ByLength()), ("scores", BY_SCORE)):
        stream = make_stream(*made, num, order=order.model_copy(update={"descending": descending}))
        for name in stream.domains:
            rows, offered = stream.read(name, num), stream.offered[name]
            values = sign * getattr(packed[name], kind)[rows]
            for start in range(0, len(rows), offered):
                assert np.all(np.diff(values[start : start + offered]) >= 0)


def test_blocks_read_one_domain_after_another() -> None:
    stream = make_stream(
        {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 99, "b": 99, "c": 99}, 100, order=Blocks(domains=("b", "c", "a"))
    )
    assert "".join(stream.domain_of(i) for i in range(100)) == "b" * 30 + "c" * 20 + "a" * 50


def test_the_order_of_the_weights_changes_nothing() -> None:
    sizes = {"a": 9, "b": 20, "c": 5}
    one = make_stream({"a": 0.2, "b": 0.5, "c": 0.3}, sizes, 100)
    other = make_stream({"c": 0.3, "a": 0.2, "b": 0.5}, sizes, 100)
    assert np.array_equal(one.batch(0, 100), other.batch(0, 100))


def test_a_domain_of_weight_0_changes_nothing() -> None:
    one = make_stream({"a": 1.0}, {"a": 20}, 50)
    other = make_stream({"a": 1.0, "b": 0.0}, {"a": 20}, 50)
    assert np.array_equal(one.batch(0, 50), other.batch(0, 50))
    assert other.domains == ("a",)


def test_subset_says_what_comes_first_and_order_only_when() -> None:
    sizes, num = {"a": 4 * ORDER_WINDOW}, 2 * ORDER_WINDOW

    def rows(**seeds: int) -> NDArray[np.int64]:
        return make_stream({"a": 1.0}, sizes, num, seeds=Seeds(**seeds)).read("a", num)

    assert set(rows(order=1)) == set(rows(order=2))
    assert rows(order=1).tolist() != rows(order=2).tolist()
    assert len(set(rows(subset=1)) - set(rows(subset=2))) > num // 4
    assert rows(init=1).tolist() == rows(init=2).tolist()


def test_later_epochs_have_orders_of_their_own() -> None:
    rows = make_stream({"a": 1.0}, {"a": 50}, 150).read("a", 150).reshape(3, 50)
    assert len({tuple(epoch) for epoch in rows.tolist()}) == 3


def test_the_order_is_this_one_for_ever() -> None:
    """Pinned: whoever changes it must raise RESULTS_VERSION."""
    assert make_stream({"a": 0.7, "b": 0.3}, {"a": 5, "b": 5}, 12).batch(0, 12)[:, 0].tolist() == PINNED
    assert permutation(np.uint64(7), 8).tolist() == PINNED_PERMUTATION


PINNED = [4, 10002, 3, 0, 1, 10004, 2, 3, 10003, 0, 1, 10001]
PINNED_PERMUTATION = [1, 5, 7, 0, 4, 6, 3, 2]


# ---- how often -------------------------------------------------------------------------------------------


def test_epochs_of_one_domain_leave_the_others_as_they_are() -> None:
    half = {"a": 0.5, "b": 0.5}
    plain = make_stream(half, {"a": 100, "b": 100}, 80)
    often = make_stream(half, {"a": 100, "b": 100}, 80, repetition=Epochs(domains={"b": 4}))
    assert often.offered == {"a": 100, "b": 10}
    assert np.array_equal(often.read("a", 80), plain.read("a", 80))
    assert Counter(often.read("b", 80).tolist()) == Counter(dict.fromkeys(plain.read("b", 20)[:10].tolist(), 4))
    check_budget(often)


def test_epochs_hold_whatever_u_is() -> None:
    half = {"a": 0.5, "b": 0.5}
    stream = make_stream(half, {"a": 100, "b": 100}, 80, 80 * T, repetition=Epochs(domains={"b": 2.5}))
    assert stream.offered == {"a": 40, "b": 16}


@given(weights(), st.integers(100, 400), st.integers(1, 20), st.data())
@settings(max_examples=60, deadline=None)
def test_a_proxy_repeats_each_domain_as_often_as_its_target(
    mixture: dict[str, float], num: int, scale: int, data: st.DataObject
) -> None:
    """Target and proxy as two runs: epochs agree but for the rounding to whole sequences."""
    has = {name: data.draw(st.integers(2, 400)) for name in mixture}
    target = make_stream(mixture, has, num * scale, max_epochs=None)
    proxy = make_stream(mixture, has, num, repetition=Proxy(num_tokens=num * scale * T))
    check_budget(proxy)
    for name in mixture:
        wanted = target.num_read[name] / target.offered[name]
        offered, read = proxy.offered[name], proxy.num_read[name]
        # offered is rounded by at most a half; reads are within one sequence of the share in either run
        exact = read / wanted if wanted else np.inf
        slack = 0.5 + exact / max(1, target.num_read[name]) + 1e-9
        assert min(has[name], max(1, exact - slack)) <= offered <= min(has[name], max(1, exact + slack))


def test_a_proxy_knows_what_the_target_will_have() -> None:
    """10 times the tokens on 40 times the data: each of 200 sequences of `a` would be read 500 / 200 times."""
    proxy = make_stream(
        {"a": 0.5, "b": 0.5},
        {"a": 50, "b": 50},
        100,
        repetition=Proxy(num_tokens=1000 * T, available_tokens={"a": 200 * T, "b": 2000 * T}),
    )
    assert proxy.offered == {"a": 20, "b": 50}  # b: read 0.25 times by the target, so once here
    check_budget(proxy)


def test_a_proxy_of_a_curriculum_repeats_as_its_target_does() -> None:
    mixture = stages((50, {"a": 0.8, "b": 0.2}), (None, {"a": 0.2, "b": 0.8}))
    target = make_stream(mixture, {"a": 20, "b": 20}, 1000, max_epochs=None)
    proxy = make_stream(mixture, {"a": 20, "b": 20}, 100, repetition=Proxy(num_tokens=1000 * T))
    for name in ("a", "b"):
        epochs = target.num_read[name] / target.offered[name]
        assert proxy.offered[name] == round(proxy.num_read[name] / epochs)


def test_a_proxy_larger_than_its_target_is_refused() -> None:
    with pytest.raises(ValueError, match="num_tokens must be at least the run's own 400 tokens, got 399"):
        make_stream({"a": 1.0}, {"a": 5}, 100, repetition=Proxy(num_tokens=399))


def test_unique_tokens_beside_a_proxy_are_refused() -> None:
    with pytest.raises(ValueError, match="unique_tokens must be null, got 40"):
        make_stream({"a": 1.0}, {"a": 5}, 10, 40, repetition=Proxy(num_tokens=400))


def test_unique_tokens_of_a_curriculum_are_refused_unless_epochs_say_each_share() -> None:
    mixture = stages((5, {"a": 0.8, "b": 0.2}), (None, {"a": 0.2, "b": 0.8}))
    sizes = {"a": 20, "b": 20}
    with pytest.raises(ValueError, match=r"unique_tokens=40 .* epochs in budget.repetition for \['b'\]"):
        make_stream(mixture, sizes, 10, 40, repetition=Epochs(domains={"a": 2}))
    assert make_stream(mixture, sizes, 10, 40, repetition=Epochs(domains={"a": 5, "b": 5})).offered == {"a": 1, "b": 1}


def test_too_little_data_for_the_epochs_is_refused_with_numbers() -> None:
    stream = make_stream({"a": 0.5, "b": 0.5}, {"a": 10, "b": 100}, 80, repetition=Epochs(domains={"a": 2}))
    with pytest.raises(ValueError, match=r"160 tokens of 'a' read in 2 epochs, .* wants 80 unique .* has 40"):
        check_budget(stream)


def test_a_domain_left_out_of_the_epochs_is_held_to_max_epochs() -> None:
    repetition = Epochs(domains={"a": 4})
    stream = make_stream({"a": 0.5, "b": 0.5}, {"a": 100, "b": 10}, 80, repetition=repetition)
    with pytest.raises(ValueError, match=r"max_epochs=1 is exceeded by 'b'"):
        check_budget(stream)


def test_a_budget_that_reads_too_often_is_refused_with_numbers() -> None:
    def checked(max_epochs: float | None) -> None:
        check_budget(make_stream({"a": 0.5, "b": 0.5}, {"a": 10, "b": 100}, 60, max_epochs=max_epochs))

    with pytest.raises(ValueError, match=r"max_epochs=1 .*'a': 120 tokens wanted, 40 available, 3.00 epochs"):
        checked(1)
    checked(3)
    checked(None)


def test_rounding_to_whole_sequences_does_not_count_as_repetition() -> None:
    check_budget(make_stream({"a": 1 / 3, "b": 2 / 3}, {"a": 100, "b": 100}, 100, unique_tokens=100 * T))


def test_more_unique_tokens_than_there_are_is_refused_with_numbers() -> None:
    stream = make_stream({"a": 0.5, "b": 0.5}, {"a": 10, "b": 100}, 10, unique_tokens=400)
    with pytest.raises(ValueError, match=r"unique_tokens=400 wants 200 tokens of 'a' .* has 40"):
        check_budget(stream)


def test_a_domain_shorter_than_a_sequence_is_refused() -> None:
    class Short(InMemory):
        num_tokens = 3

    with pytest.raises(ValueError, match="domain 'a' has 3 training tokens: wanted at least 4"):
        MixtureStream({"a": Short(0, 0)}, stages((None, {"a": 1.0})), Shuffled(), Budget(num_tokens=20), Seeds(), 5)


# ---- randomness ------------------------------------------------------------------------------------------


def test_windows_keep_their_members() -> None:
    order = shuffled_within_windows(np.uint64(3), 1000, 256)
    assert (order // 256 == np.arange(1000) // 256).all()
    assert sorted(order) == list(range(1000))


def test_mask_numbers_belong_to_the_sequence() -> None:
    whole = uniforms(np.uint64(5), 0, 100, 64)
    assert np.array_equal(whole[30:50, :32], uniforms(np.uint64(5), 30, 20, 32))
    assert whole.min() >= 0
    assert whole.max() < 1
    # 6400 uniform draws: mean 0.5 +- 0.0036, so 0.02 is more than five sigmas
    assert whole.mean() == pytest.approx(0.5, abs=0.02)
    a, b = (make_stream({"a": 1.0}, {"a": 5}, 5).uniforms(0, 5, 8, purpose) for purpose in ("mask", "replace"))
    assert not np.array_equal(a, b)


def test_sequences_are_spread_as_drawn() -> None:
    """A shuffle that is none would show: the first place is taken by every sequence about equally often."""
    firsts = Counter(int(permutation(np.uint64(seed), 10)[0]) for seed in range(2000))
    assert all(130 < num < 270 for num in firsts.values())  # 200 +- 13.4: five sigmas
