"""A process may be killed at any moment; what it has saved goes on to the same last bit."""
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from track4d_ref import checkpoints
from track4d_ref.checkpoints import (checkpoint_folder, fingerprint, flat_state, fill_state, read_checkpoint, newest_checkpoint,
                                     write_checkpoint)
from track4d_ref.optimizers import OPTIMIZERS, apply_gradients, loss_scale, make_optimizers
from track4d_ref.storage import InputError

needs_fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
DATA = torch.randn(16, 70, generator=torch.Generator().manual_seed(1))


def made(kind='adamw', width=70, seed=0):
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(width, 66), torch.nn.Linear(66, 3))
    return model, make_optimizers([(f'layers.{name}', p) for name, p in model.named_parameters()], kind, 1e-2, 0.01)


def step(model, optimizers):
    (model(DATA) - DATA[:, 2:5]).square().mean().backward()
    apply_gradients(optimizers, loss_scale('float32', DATA.device), 1.0, 1.0)


def same(a, b): return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))


@pytest.mark.parametrize('kind', OPTIMIZERS)
def test_memory_of_optimizers_survives(kind, tmp_path):
    if kind == 'adamw8bit': pytest.importorskip('bitsandbytes')
    model, optimizers = made(kind)
    for _ in range(3): step(model, optimizers)
    write_checkpoint(tmp_path, 3, model, optimizers, {'a': [1, 2.5]}, {'seed': 0})
    other, fresh = made(kind, seed=9)
    assert read_checkpoint(tmp_path, other, fresh, {'seed': 0}) == {'a': [1, 2.5]} and same(model, other)
    for _ in range(3): step(model, optimizers); step(other, fresh)
    assert same(model, other)


def test_flat_state_is_flat_and_comes_back():
    model, optimizers = made()
    step(model, optimizers)
    tensors, numbers = flat_state(optimizers)
    assert set(tensors) >= {'0/0/exp_avg', '0/0/exp_avg_sq'} and all(isinstance(value, torch.Tensor) for value in tensors.values())
    _, fresh = made()
    fill_state(fresh, tensors, numbers)
    assert flat_state(fresh)[0].keys() == tensors.keys()


def test_only_trained_weights_are_saved_and_frozen_ones_are_recognised(tmp_path):
    model, optimizers = made()
    model[0].weight.requires_grad_(False)
    write_checkpoint(tmp_path, 1, model, optimizers, {}, {})
    from safetensors.torch import load_file
    assert '0.weight' not in load_file(tmp_path / 'step-00000001' / 'weights.safetensors')
    other, fresh = made(seed=5)
    other[0].weight.requires_grad_(False)
    with pytest.raises(InputError, match='another model'): read_checkpoint(tmp_path, other, fresh, {})
    with torch.no_grad(): other[0].weight.copy_(model[0].weight)
    read_checkpoint(tmp_path, other, fresh, {})
    assert same(model, other) and fingerprint(model) == fingerprint(other)


def test_newest_counts_and_older_ones_go(tmp_path):
    model, optimizers = made()
    assert newest_checkpoint(tmp_path) is None and newest_checkpoint(tmp_path / 'absent') is None
    (tmp_path / 'notes.txt').write_text('mine')
    for number in (2, 9, 10): write_checkpoint(tmp_path, number, model, optimizers, {'step': number}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ['notes.txt', 'step-00000010']
    (tmp_path / '.step-00000011.partial-x').mkdir(); (tmp_path / 'step-99').mkdir()         # left by a killed process; not ours
    assert read_checkpoint(tmp_path, model, optimizers, {}) == {'step': 10}


def test_failure_while_saving_keeps_the_old_one(tmp_path, monkeypatch):
    model, optimizers = made()
    write_checkpoint(tmp_path, 1, model, optimizers, {}, {})
    def full(*_): raise OSError('no space left on device')
    monkeypatch.setattr(checkpoints, 'write_json', full)
    with pytest.raises(OSError): write_checkpoint(tmp_path, 2, model, optimizers, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ['step-00000001']


@pytest.mark.parametrize('spoil, words', [(lambda f: (f / 'weights.safetensors').write_bytes(b'no'), 'cannot be read'),
                                          (lambda f: (f / 'optimizer.safetensors').unlink(), 'cannot be read'),
                                          (lambda f: (f / 'state.json').write_text('{'), 'not valid JSON')])
def test_spoiled_checkpoints_are_told(tmp_path, spoil, words):
    model, optimizers = made()
    write_checkpoint(tmp_path, 1, model, optimizers, {}, {}); spoil(tmp_path / 'step-00000001')
    with pytest.raises(InputError, match=words): read_checkpoint(tmp_path, model, optimizers, {})


def test_another_plan_names_the_key(tmp_path):
    model, optimizers = made()
    write_checkpoint(tmp_path, 1, model, optimizers, {}, {'rate': 0.1, 'seed': 3})
    with pytest.raises(InputError, match='rate = 0.1, not 0.2'): read_checkpoint(tmp_path, model, optimizers, {'rate': 0.2, 'seed': 3})
    with pytest.raises(InputError, match='no checkpoint'): read_checkpoint(tmp_path / 'x', model, optimizers, {})


def save_all_the_time(folder):
    model, optimizers = made()
    for number in range(1, 10_000):
        with torch.no_grad():
            for parameter in model.parameters(): parameter.fill_(number)
        write_checkpoint(folder, number, model, optimizers, {'step': number}, {})


@needs_fork
def test_killed_while_saving(tmp_path):
    model, optimizers = made()
    for seconds in np.random.default_rng(2).uniform(0.02, 0.3, 8):
        process = multiprocessing.get_context('fork').Process(target=save_all_the_time, args=(tmp_path,))
        process.start()
        while newest_checkpoint(tmp_path) is None: time.sleep(0.01)
        time.sleep(seconds); os.kill(process.pid, signal.SIGKILL); process.join()
        number = read_checkpoint(tmp_path, model, optimizers, {})['step']
        assert all(bool((parameter == number).all()) for parameter in model.parameters())
        checkpoints.shutil.rmtree(tmp_path)
        tmp_path.mkdir()


def test_folder_appears_at_the_end(tmp_path):
    with checkpoint_folder(tmp_path, 7) as partial:
        (partial / 'x').write_text('1')
        assert newest_checkpoint(tmp_path) is None
    assert (newest_checkpoint(tmp_path) / 'x').read_text() == '1'
