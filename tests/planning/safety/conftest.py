"""A robot on a table, for each test a new one."""

import pytest

from tests.planning.safety.hand import LIMITS, Clock, Hand


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def hand(clock):
    return Hand(clock)


@pytest.fixture(scope="session")
def robot_limits():
    return LIMITS
