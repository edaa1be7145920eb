"""Several processes make the step of one. The run itself is launched in tests/test_launch.py."""
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from track4d_ref.processes import (Processes, from_leader, join_processes, leave_processes, same_start, share, sum_gradients,
                                   summed, wait)
from track4d_ref.storage import InputError


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_a_partition(clips, count):
    parts = [share(np.arange(clips), Processes(number, count)) for number in range(count)]
    assert np.concatenate(parts).tolist() == list(range(clips))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_needs_nobody(monkeypatch):
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    alone = join_processes()
    weight = torch.nn.Parameter(torch.ones(3)); weight.grad = torch.full((3,), 2.0)
    sum_gradients([weight], alone); same_start([weight], alone); wait(alone)
    assert alone.leads and (alone.number, alone.count) == (0, 1)
    assert weight.grad.tolist() == [2, 2, 2] and summed(1.5, alone) == from_leader(1.5, alone) == 1.5


def test_missing_accelerate_is_named(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setitem(__import__('sys').modules, 'accelerate', None)
    with pytest.raises(InputError, match='pip install accelerate'): join_processes()


def test_leaving_ends_the_group_and_may_be_repeated(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/meet', rank=0, world_size=1)
    assert summed(2.5, Processes()) == 2.5 and torch.distributed.is_initialized()
    leave_processes(); leave_processes()
    assert not torch.distributed.is_initialized()
