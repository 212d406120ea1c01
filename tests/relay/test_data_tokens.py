"""DataTokens and HalfOpen: who is let in, how often, and how many."""

import os

from tallow_net.signaling import Side
from tallow_relay.datapair import HalfOpen, HalfOpenLimits
from tallow_relay.datatokens import DataTokens, TokenPlace

A = tuple(os.urandom(32) for _ in range(4))
B = tuple(os.urandom(32) for _ in range(4))


def two_pairs() -> DataTokens:
    tokens = DataTokens()
    tokens.add(1, {Side.A: A[:2], Side.B: B[:2]})
    tokens.add(2, {Side.A: A[2:], Side.B: B[2:]})
    return tokens


def test_a_token_says_pair_side_and_index_once() -> None:
    tokens = two_pairs()
    assert tokens.take(B[3]) == TokenPlace(2, Side.B, 1)
    assert tokens.take(B[3]) is None


def test_an_unknown_token_is_none() -> None:
    assert two_pairs().take(os.urandom(32)) is None


def test_a_forgotten_pair_s_tokens_are_none_and_another_s_stay() -> None:
    tokens = two_pairs()
    tokens.take(A[0])
    tokens.forget(1)
    tokens.forget(1)
    assert [tokens.take(token) for token in (A[0], A[1], B[0], B[1])] == [None] * 4
    assert tokens.take(A[2]) == TokenPlace(2, Side.A, 0)


def test_nothing_is_left_of_forgotten_pairs() -> None:
    tokens = two_pairs()
    assert len(tokens) == 8
    tokens.forget(1)
    tokens.forget(2)
    assert len(tokens) == 0


def test_no_token_is_kept_as_it_is() -> None:
    kept = repr(vars(two_pairs()))
    assert not any(repr(token) in kept for token in A + B)


def test_half_open_is_admitted_up_to_both_limits() -> None:
    half_open = HalfOpen(HalfOpenLimits(at_once=3, per_address=2))
    assert [half_open.admit("x"), half_open.admit("x"), half_open.admit("x")] == [True, True, False]
    assert [half_open.admit("y"), half_open.admit("z")] == [True, False]
    half_open.gone("x")
    assert [half_open.admit("x"), half_open.count] == [True, 3]
