"""Whole processes: killed by signal 9 and started again, and several at once. Each interpreter starts from nothing."""
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

PROGRAM = '''
import sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from safetensors.torch import save_file
from test_sft import EXAMPLES, PRESET, TOKENIZER
from track4d_ref.processes import join_processes
from track4d_ref.sft import TrainPlan, train
from track4d_ref.vlm import build_vlm
team, out = join_processes(), sys.argv[2]
model = build_vlm(PRESET, TOKENIZER, seed=4 + team.number)              # the leader's weights must win
plan = TrainPlan(steps=8, batch_clips=5, save_every=3, accumulation=2, optimizer=sys.argv[3], naming=0.1)
print('ready', flush=True)
train(model, TOKENIZER, EXAMPLES, plan, out, resume=True, progress=False, processes=team,
      on_step=lambda state: print('step', state.step, flush=True))
save_file({name: p.detach().clone() for name, p in model.named_parameters()}, f'{out}/{team.number}.safetensors')
'''


@pytest.fixture
def program(tmp_path):
    (tmp_path / 'program.py').write_text(PROGRAM)
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'ACCELERATE_USE_CPU': 'true', 'CUDA_VISIBLE_DEVICES': '',
                   'PYTHONPATH': str(Path(__file__).parent.parent)}
    def start(name, *launcher, optimizer='muon'):
        (tmp_path / name).mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, *launcher, str(tmp_path / 'program.py'), str(Path(__file__).parent), str(tmp_path / name), optimizer],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    return start


def finish(process):
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0, said[-2000:]


def kill_after(process, step, delay_s):
    for line in process.stdout:
        if line.split() == ['step', str(step)]: break
    else: raise AssertionError(f'step {step} was never reached')
    time.sleep(delay_s)                                                   # somewhere in the next step, or in a save
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def losses(folder):
    with open(folder / 'log.csv') as file: return [row['loss'] for row in csv.DictReader(file)]


@pytest.mark.skipif(os.name == 'nt', reason='needs signal 9')
def test_killed_three_times_equals_uninterrupted(program, tmp_path):
    finish(program('whole'))
    rng = np.random.default_rng(11)
    for step in sorted(rng.choice(np.arange(1, 7), 3, replace=False).tolist()):
        kill_after(program('broken'), step, float(rng.uniform(0, 0.02)))
    finish(program('broken'))
    whole, broken = (load_file(tmp_path / name / '0.safetensors') for name in ('whole', 'broken'))
    assert whole.keys() == broken.keys() and all(torch.equal(whole[name], broken[name]) for name in whole)
    assert losses(tmp_path / 'whole') == losses(tmp_path / 'broken') and len(losses(tmp_path / 'whole')) == 8


def test_two_processes_make_the_run_of_one(program, tmp_path):
    pytest.importorskip('accelerate')
    finish(program('one', optimizer='adamw'))
    launcher = ('-m', 'accelerate.commands.launch', '--multi_gpu', '--num_processes=2')
    finish(program('two', *launcher, optimizer='adamw'))
    one, first, second = (load_file(tmp_path / name) for name in ('one/0.safetensors', 'two/0.safetensors', 'two/1.safetensors'))
    assert all(torch.equal(first[name], second[name]) for name in first)
    np.testing.assert_allclose(np.array(losses(tmp_path / 'one'), float), np.array(losses(tmp_path / 'two'), float), rtol=2e-3)
    assert max(float((one[name] - first[name]).abs().mean()) for name in one) < 1e-4
    assert [path.name for path in (tmp_path / 'two' / 'checkpoint').iterdir()] == ['step-00000008']
