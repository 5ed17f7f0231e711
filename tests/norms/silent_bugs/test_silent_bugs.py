"""Every silent bug is found by its norm, soon; the same loop without the bug raises nothing."""

from collections.abc import Iterator

import pytest
import torch

from tests.norms import silent_bugs
from tests.norms.silent_bugs import BUGS, Bug, run, table


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small are slower on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("item", BUGS, ids=lambda item: item.name)
def test_a_silent_bug_is_found_by_its_norm(item: Bug) -> None:
    found = run(item, fixed=False)
    assert found, "nothing was found"
    first = found[0]
    assert first.norm == item.norm, f"{first.norm}: {first.message}"
    assert item.acts_at <= first.step <= item.acts_at + item.within, first.message
    assert {violation.norm for violation in found} - {item.norm} <= item.also


@pytest.mark.parametrize("item", BUGS, ids=lambda item: item.name)
def test_the_loop_without_its_bug_raises_nothing(item: Bug) -> None:
    assert [f"{violation.norm}: {violation.message}" for violation in run(item, fixed=True)] == []


def test_the_table_of_bugs_is_that_of_the_loops() -> None:
    assert table() in (silent_bugs.__doc__ or "")
    assert len(BUGS) == len({item.name for item in BUGS})
