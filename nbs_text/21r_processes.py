# %% [markdown]
# # Several processes
# > One step shared by several cards: each takes some of the clips, the gradients are added, and all make the same move.

# %%
#| default_exp processes

# %% [markdown]
# #| export
# `accelerate launch` starts the same program several times and tells each its number. Every process packs
# and orders the clips alike, takes its share of each step, and adds its gradients to the others'. The loss
# of a clip is divided by the dialogues of the whole step, so the sum of the gradients is the gradient of one
# process with all clips.

# %% [markdown]
# * **What** joining the processes of a run, sharing a step, adding gradients
# * **Why** averaging over processes is wrong when their shares hold different numbers of questions
# * **Paper** 4DP-QA §4.1 trains with batch 128 on several cards; how is not said, so this is **[ours]**
# * **Needs** torch; accelerate to launch
# * **Time** 30 seconds
# * **Before this** notebook 21p

# %%
#| export
import atexit
import os
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed

from track4d_ref.storage import InputError

# %%
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from track4d_ref.viz import PALETTE, use_style
use_style()


# %% [markdown]
# ## Who is there
#
# A run of one process needs none of this: it is number 0 of 1. Only when a launcher has announced several
# does the library accelerate come in; it picks the card of each process and the way they talk (NCCL between
# cards, gloo between CPU processes).

# %%
#| export
@dataclass(frozen=True)
class Processes:
    "This process's number among the `count` processes of a run, and the device it computes on."
    number: int = 0
    count: int = 1
    device: torch.device = torch.device('cpu')

    @property
    def leads(self) -> bool: return self.number == 0     # the one that writes files and shows progress

def leave_processes() -> None:
    "End the group while Python still stands: a process that exits with the group's threads alive may be aborted."
    if torch.distributed.is_available() and torch.distributed.is_initialized(): torch.distributed.destroy_process_group()

def join_processes() -> Processes:
    "The processes of this run: those `accelerate launch` started, or this one alone on the best device there is."
    if int(os.environ.get('WORLD_SIZE', '1')) == 1:
        return Processes(device=torch.device('cuda' if torch.cuda.is_available() else 'cpu'))
    try: from accelerate import PartialState
    except ImportError:
        raise InputError('several processes run, but accelerate is missing; pip install accelerate') from None
    state = PartialState(cpu=os.environ.get('ACCELERATE_USE_CPU', 'false').lower() == 'true')
    atexit.register(leave_processes)
    return Processes(state.process_index, state.num_processes, state.device)


# %%
alone = join_processes()
print(alone)
assert (alone.number, alone.count, alone.leads) == (0, 1, True)


# %% [markdown]
# ## Shares of a step
#
# The clips of a step are cut into as many runs as there are processes; the last step of an epoch may leave
# some process with nothing to do, and it must still take part in the sum.

# %%
#| export
def share(indices: np.ndarray, processes: Processes) -> np.ndarray:
    "The clips of a step (n,) that this process takes; may be empty."
    return np.array_split(indices, processes.count)[processes.number]


# %%
steps, width = [np.arange(12), np.arange(12), np.arange(3)], 4
board = np.full((3, 12), np.nan)
for row, step in enumerate(steps):
    for number in range(width): board[row, share(step, Processes(number, width))] = number
figure, axis = plt.subplots(figsize=(7, 1.9))
axis.imshow(board, cmap=plt.matplotlib.colors.ListedColormap(PALETTE[:width]), aspect='auto')
for (row, column), number in np.ndenumerate(board):
    if number == number: axis.text(column, row, int(number), ha='center', va='center', color='w', fontsize=9)
axis.set_yticks(range(3), ['step 1', 'step 2', 'step 3']); axis.grid(False)
axis.set(xlabel='clip of the step', title='which of four processes takes which clip'); plt.show()

# %%
team = [Processes(number, width) for number in range(width)]
for step in steps: assert np.concatenate([share(step, one) for one in team]).tolist() == step.tolist()
assert len(share(steps[2], Processes(3, width))) == 0


# %% [markdown]
# ## Adding up
#
# A parameter may have no gradient in one process (its share had no video, so the tower was not used) and one
# in another. The processes first agree which parameters have one anywhere; those are added, with zeros where
# there is none; the others keep no gradient at all, so that the optimiser leaves them alone, exactly as with
# one process.

# %%
#| export
def sum_gradients(parameters: list[torch.nn.Parameter], processes: Processes) -> None:
    "Add up the gradients of all processes, in place; a parameter without gradient anywhere stays without."
    if processes.count == 1: return
    present = torch.tensor([float(p.grad is not None) for p in parameters], device=processes.device)
    torch.distributed.all_reduce(present)
    for parameter, found in zip(parameters, present.tolist()):
        if not found: continue
        if parameter.grad is None: parameter.grad = torch.zeros_like(parameter)
        torch.distributed.all_reduce(parameter.grad)

def summed(value: float, processes: Processes) -> float:
    "The sum of a number over all processes."
    if processes.count == 1: return value
    total = torch.tensor(value, dtype=torch.float64 if processes.device.type == 'cpu' else torch.float32,
                         device=processes.device)
    torch.distributed.all_reduce(total)
    return total.item()


# %%
#| export
def from_leader(value: float, processes: Processes) -> float:
    "The leader's number, for all: clocks differ, and all must stop after the same step."
    return summed(value if processes.leads else 0.0, processes)

def same_start(parameters: list[torch.nn.Parameter], processes: Processes) -> None:
    "Give all processes the leader's weights, in place."
    if processes.count == 1: return
    for parameter in parameters: torch.distributed.broadcast(parameter.data, 0)

def wait(processes: Processes) -> None:
    "Go on when all have come here."
    if processes.count > 1: torch.distributed.barrier()


# %% [markdown]
# Two real processes, started by `accelerate launch` (its option `--multi_gpu` means several processes;
# without a card, or with `ACCELERATE_USE_CPU=true`, they compute on the CPU), on questions of very uneven
# number: clip $c$ has $c + 1$ of them. The program computes the gradient three ways: its own part, the sum
# over processes, and the mean of means, which is what most trainers do.

# %%
PROGRAM = '''
import json, sys
import numpy as np, torch
from track4d_ref.processes import from_leader, join_processes, same_start, share, sum_gradients, summed, wait
team = join_processes()
torch.manual_seed(team.number)                                          # different starts ...
weight, idle, rare = (torch.nn.Parameter(torch.randn(8)) for _ in range(3))
same_start([weight, idle, rare], team)                                  # ... made equal
rows = torch.randn(21, 8, generator=torch.Generator().manual_seed(0))   # question q of clip c is row c (c + 1) / 2 + q
clip_loss = lambda c: (rows[c * (c + 1) // 2:(c + 1) * (c + 2) // 2] @ weight - 1).square()
mine = share(np.arange(6), team)
own = torch.autograd.grad(torch.cat([clip_loss(c) for c in mine]).mean(), weight)[0]
means = [summed(value, team) / team.count for value in own.tolist()]
loss = sum(clip_loss(c).sum() for c in mine) / len(rows)
if team.leads: loss = loss + rare.sum()
loss.backward(); sum_gradients([weight, idle, rare], team)
wait(team)
result = dict(number=team.number, count=team.count, own=own.tolist(), sum=weight.grad.tolist(), means=means,
              start=weight.tolist(), idle=idle.grad is None, rare=rare.grad.tolist(),
              told=from_leader(7.0 + team.number, team))
open(f'{sys.argv[1]}/{team.number}.json', 'w').write(json.dumps(result))
'''


# %%
def launch(program, count):
    "What `count` CPU processes started by accelerate have written, one dictionary each."
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, 'program.py').write_text(program)
        command = [sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu', f'--num_processes={count}',
                   f'{folder}/program.py', folder]
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'ACCELERATE_USE_CPU': 'true',
                       'PYTHONPATH': str(Path.cwd().parent)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        return [json.loads(Path(folder, f'{number}.json').read_text()) for number in range(count)]

pair = launch(PROGRAM, 2)
print([(told['number'], told['count'], told['told']) for told in pair])

# %% [markdown]
# The reference is one process with all clips, here computed without any of the functions above:

# %%
weight = torch.tensor(pair[0]['start'], requires_grad=True)
rows = torch.randn(21, 8, generator=torch.Generator().manual_seed(0))
whole = torch.autograd.grad((rows @ weight - 1).square().mean(), weight)[0].numpy()
figure, axis = plt.subplots(figsize=(7, 2.5))
for told, colour in zip(pair, PALETTE[1:]):
    axis.plot(told['own'], 'o:', color=colour, label=f"process {told['number']} alone")
axis.plot(whole, color=PALETTE[0], lw=5, alpha=0.35, label='one process, all clips')
axis.plot(pair[0]['sum'], color='k', lw=1, label='sum of both')
axis.set(xlabel='parameter', ylabel='gradient', title='the sum is the whole')
axis.legend(fontsize=7); plt.show()

# %%
assert np.allclose(pair[0]['sum'], whole, atol=1e-6) and pair[0]['sum'] == pair[1]['sum']
assert pair[0]['start'] == pair[1]['start'] and [told['told'] for told in pair] == [7.0, 7.0]
assert all(told['idle'] and told['rare'] == [1.0] * 8 for told in pair)

# %% [markdown]
# How wrong is the mean of means? Process 0 has clips with 6 questions in all, process 1 with 15, and yet
# each would count one half:

# %%
wrong = np.array(pair[0]['means'])
figure, axis = plt.subplots(figsize=(7, 1.9))
axis.bar(np.arange(8), np.abs(wrong - whole) / np.linalg.norm(whole), color=PALETTE[1])
axis.set(xlabel='parameter', ylabel='error / norm')
axis.set_title('a mean of means weighs questions by the company they keep'); plt.show()
assert np.linalg.norm(wrong - whole) > 0.05 * np.linalg.norm(whole)

# %% [markdown]
# ## What we proved
#
# * two processes that add their gradients make exactly the step of one process with all clips;
# * processes start alike, hear the leader's clock, and may have nothing to do;
# * a mean over processes is another gradient.

# %% [markdown]
# ## Try it
#
# 1. Launch four processes. From which number on does a step of 16 clips leave a process without work?
# 2. Let one process skip `sum_gradients` in a step. What happens, and after how long?
# 3. Send the gradients in half precision. How far does the sum move, and what is saved?
#
# <details><summary>Solutions</summary>
#
# 1. With 16 clips and four processes each has four; from 17 processes on one is idle. With uneven lengths the slowest
#    decides long before that.
# 2. The others wait in the collective call until its timeout. That is why every process calls it also when it has
#    nothing to add.
# 3. Sum in half and in float32 and compare; half the bytes are saved. Small gradients vanish below 6e-8.
#
# </details>
