"""A customer of a shard in a real Redis that is otherwise empty."""

import pytest

from app.base.wire import Wire
from tests.quota.till import Till


@pytest.fixture
def till(wire: Wire) -> Till:
    return Till(wire)
