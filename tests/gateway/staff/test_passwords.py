"""Passwords: who isn't there is checked as long as anybody else."""

import pytest
from argon2 import extract_parameters
from argon2.exceptions import VerifyMismatchError

from gateway.staff.passwords import argon2, hash_of_nothing


def test_a_hash_of_nothing_costs_what_a_real_one_costs() -> None:
    hasher = argon2()
    nothing = hash_of_nothing(hasher)

    real = extract_parameters(hasher.hash("over the hills and far away"))
    assert extract_parameters(nothing) == real
    with pytest.raises(VerifyMismatchError):  # it was reckoned, not refused as broken
        hasher.verify(nothing, "over the hills and far away")
    assert nothing != hash_of_nothing(hasher)
