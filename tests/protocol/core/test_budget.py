from __future__ import annotations

import pytest
from tallow_protocol.core.budget import GuessBudget
from tallow_protocol.errors import BudgetExhaustedError, CodeBurnedError, MisuseError


def test_three_guesses_can_be_spent_and_a_fourth_cannot():
    budget = GuessBudget()
    assert [budget.spend(), budget.spend(), budget.spend()] == [2, 1, 0]
    assert budget.burned
    with pytest.raises(BudgetExhaustedError):
        budget.spend()
    assert budget.left == 0


def test_a_guess_given_back_can_be_spent_again():
    budget = GuessBudget(1)
    budget.spend()
    budget.give_back()
    assert budget.spend() == 0


def test_more_guesses_than_were_spent_cannot_be_given_back():
    with pytest.raises(MisuseError):
        GuessBudget().give_back()


def test_a_budget_without_guesses_is_misuse():
    with pytest.raises(MisuseError):
        GuessBudget(0)


def test_an_exhausted_budget_tells_the_user_that_the_code_is_burned():
    error = BudgetExhaustedError()
    assert isinstance(error, CodeBurnedError)
    assert error.code == "burned"
    assert "new code" in error.hints[0]
