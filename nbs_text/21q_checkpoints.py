# %% [markdown]
# # Checkpoints
# > The state of a run on disk, so that a process killed at any moment goes on to the same last bit.

# %%
#| default_exp checkpoints

# %% [markdown]
# #| export
# A run keeps its checkpoints in one folder, each in `step-NNNNNNNN`: `weights.safetensors` (what is trained),
# `optimizer.safetensors` and `state.json`. A folder with that name is complete. Nothing is pickled.

# %% [markdown]
# * **What** saving and loading weights, optimiser state and the numbers of a run
# * **Why** nights are lost to half-written files, and papers to runs that went on with the wrong state
# * **Paper** none; all of this is **[ours]**
# * **Needs** torch, safetensors
# * **Time** 15 seconds
# * **Before this** notebook 21p

# %%
#| export
import contextlib
import re
import shutil
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from track4d_ref.storage import InputError, atomic_folder, read_json, write_json

# %%
import multiprocessing
import os
import signal
import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.optimizers import OPTIMIZERS, apply_gradients, loss_scale, make_optimizers
from track4d_ref.viz import PALETTE, use_style
use_style()
torch.set_num_threads(1)


# %% [markdown]
# ## What an optimiser remembers
#
# Weights alone are not enough. AdamW keeps two running means per number and counts its steps; without them
# the first steps after a resume go elsewhere. Optimisers hand out this memory as nested dictionaries, in
# which 8-bit AdamW nests one level deeper. We flatten them: tensors get a path as their name, and numbers go
# into the JSON file.

# %%
#| export
def flat_state(optimizers: list[torch.optim.Optimizer]) -> tuple[dict[str, torch.Tensor], dict]:
    "(tensors, numbers) of the optimisers' memory, each under the path 'optimiser/parameter/name…'."
    tensors, numbers = {}, {}
    def visit(path: str, value) -> None:
        if isinstance(value, dict):
            for name, inner in value.items(): visit(f'{path}/{name}', inner)
        elif torch.is_tensor(value): tensors[path] = value.detach().clone().contiguous()
        else: numbers[path] = value
    for index, optimizer in enumerate(optimizers): visit(str(index), optimizer.state_dict()['state'])
    return tensors, numbers

def fill_state(optimizers: list, tensors: dict[str, torch.Tensor], numbers: dict) -> None:
    "Give the optimisers the memory that `flat_state` took."
    trees = [{} for _ in optimizers]
    for path, value in {**tensors, **numbers}.items():
        index, slot, *names = path.split('/')
        place = trees[int(index)].setdefault(int(slot), {})
        for name in names[:-1]: place = place.setdefault(name, {})
        place[names[-1]] = value
    for optimizer, tree in zip(optimizers, trees):
        optimizer.load_state_dict({**optimizer.state_dict(), 'state': tree})


# %%
def toy(kind='adamw', width=72):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.Linear(width, 3))
    named = [(f'layers.{name}', parameter) for name, parameter in model.named_parameters()]
    return model, make_optimizers(named, kind, 1e-2, 0.01)

data = torch.randn(64, 72, generator=torch.Generator().manual_seed(1))

def toy_step(model, optimizers):
    loss = (model(data) - data[:, :3].roll(1, 0)).square().mean(); loss.backward()
    apply_gradients(optimizers, loss_scale('float32', data.device), 1.0, 1.0)
    return loss.item()

weights_of = lambda model: torch.cat([p.detach().flatten() for p in model.parameters()])


# %% [markdown]
# Take the memory out after three steps, put it into fresh optimisers, and go on: the same weights, for every
# rule. And if the memory is forgotten, they differ:

# %%
def continued(kind, remember):
    model, optimizers = toy(kind)
    for _ in range(3): toy_step(model, optimizers)
    other, fresh = toy(kind)
    other.load_state_dict(model.state_dict())
    if remember: fill_state(fresh, *flat_state(optimizers))
    for _ in range(3): toy_step(model, optimizers); toy_step(other, fresh)
    return float((weights_of(model) - weights_of(other)).abs().max())

gaps = {kind: (continued(kind, True), continued(kind, False)) for kind in OPTIMIZERS}
figure, axis = plt.subplots(figsize=(7, 2))
for side, label in ((-0.2, 'remembered'), (0.2, 'forgotten')):
    heights = [gap[side > 0] for gap in gaps.values()]
    axis.bar(np.arange(3) + side, heights, 0.4, label=label, color=PALETTE[side > 0])
axis.set_xticks(range(3), list(gaps)); axis.margins(y=0.4); axis.legend(loc='upper left', ncols=2)
axis.set(ylabel='largest difference', title='weights three steps after a resume: remembered is 0'); plt.show()
assert all(remembered == 0 < forgotten for remembered, forgotten in gaps.values())


# %% [markdown]
# ## Whole or absent
#
# The obvious way writes the new file over the old one. We let a process do that again and again and kill it
# with signal 9, which no program can catch, at random moments. What lies on the disk afterwards?

# %%
def write_v1(folder, step): torch.save(torch.full((400_000,), float(step)), Path(folder) / 'weights.pt')

def save_forever(write, folder):
    for step in range(1, 10_000): write(folder, step)

def killed_while_saving(write, folder, seconds):
    process = multiprocessing.get_context('fork').Process(target=save_forever, args=(write, folder))
    process.start(); time.sleep(seconds); os.kill(process.pid, signal.SIGKILL); process.join()

def readable_v1(folder):
    try: torch.load(Path(folder) / 'weights.pt', weights_only=True); return True
    except Exception: return False


# %% [markdown]
# The cure is the rename. All files are written into a folder with another name, and one rename gives it its
# own. The name holds the step, so it never existed before, and **one** rename is atomic; to exchange an old
# folder for a new one of the same name would take two, with a moment in between at which neither exists.
# Older checkpoints are removed only afterwards, and what a killed process left behind is removed by the next
# one that saves.

# %%
#| export
STEP_NAME = re.compile(r'step-(\d{8})')

def newest_checkpoint(folder: Path | str) -> Path | None:
    "The complete checkpoint with the highest step in `folder`, or None."
    folder = Path(folder)
    found = [path for path in folder.iterdir() if STEP_NAME.fullmatch(path.name)] if folder.is_dir() else []
    return max(found, default=None, key=lambda path: path.name)

@contextlib.contextmanager
def checkpoint_folder(folder: Path | str, step: int):
    "Yield an empty folder that becomes the newest checkpoint of `folder` at the end; then the older ones go."
    path = Path(folder) / f'step-{step:08d}'
    with atomic_folder(path) as partial: yield partial
    for other in path.parent.iterdir():
        if other != path and other.name.startswith(('step-', '.step-')):
            shutil.rmtree(other, ignore_errors=True)


# %%
def write_v2(folder, step):
    with checkpoint_folder(folder, step) as partial:
        save_file({'w': torch.full((400_000,), float(step))}, partial / 'w.safetensors')

def readable_v2(folder):
    newest = newest_checkpoint(folder)
    try: return bool((load_file(newest / 'w.safetensors')['w'] == int(newest.name[5:])).all())
    except Exception: return False

moments, survived = np.random.default_rng(0).uniform(0.05, 0.25, 12), {}
for name, write, readable in (('written over', write_v1, readable_v1), ('renamed', write_v2, readable_v2)):
    survived[name] = 0
    for seconds in moments:
        with tempfile.TemporaryDirectory() as folder:
            write(folder, 0); killed_while_saving(write, folder, seconds)
            survived[name] += readable(folder)

# %%
figure, axis = plt.subplots(figsize=(7, 1.5))
axis.barh(list(survived), [12, 12], color='0.9')
axis.barh(list(survived), list(survived.values()), color=PALETTE[:2])
axis.invert_yaxis()
axis.set(xlabel='readable after signal 9, of 12 runs', xlim=(0, 12)); plt.show()
print(survived)
assert survived['renamed'] == 12


# %% [markdown]
# ## A checkpoint
#
# Only trained weights are saved: with an adapter of 30 MB on a model of 7 GB that is the difference between
# a checkpoint every minute and none. The frozen ones come from where they came the first time, so the
# checkpoint keeps a fingerprint of them (the first 4,096 numbers of each) and refuses another model. It also
# keeps the plan of the run. A run that is resumed with another learning rate is a new run, and is told so.

# %%
#| export
def fingerprint(model: torch.nn.Module) -> int:
    "A checksum of the names, shapes and first numbers of all weights that are not trained."
    crc = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad: continue
        start = parameter.detach().reshape(-1)[:4096].cpu().view(torch.uint8).numpy().tobytes()
        crc = zlib.crc32(f'{name} {tuple(parameter.shape)}'.encode() + start, crc)
    return crc

def write_checkpoint(folder: Path | str, step: int, model: torch.nn.Module, optimizers: list, state: dict,
                    identity: dict) -> None:
    "Write the checkpoint of `step`, unless it is there; `identity` is what a resuming run must agree on."
    if (Path(folder) / f'step-{step:08d}').exists(): return
    tensors, numbers = flat_state(optimizers)
    trained = ((name, p.detach()) for name, p in model.named_parameters() if p.requires_grad)
    weights = {name: value.clone().contiguous() for name, value in trained}
    with checkpoint_folder(folder, step) as partial:
        save_file(weights, partial / 'weights.safetensors')
        save_file(tensors, partial / 'optimizer.safetensors')
        write_json(partial / 'state.json',
                   dict(state=state, identity=identity, numbers=numbers, frozen=fingerprint(model)))


# %%
#| export
def read_checkpoint(folder: Path | str, model: torch.nn.Module, optimizers: list, identity: dict) -> dict:
    "Fill model and optimisers from the newest checkpoint; returns its state. InputError if it does not fit."
    newest = newest_checkpoint(folder)
    if newest is None: raise InputError(f'{folder}: holds no checkpoint; start without resuming')
    saved = read_json(newest / 'state.json')
    for key, value in identity.items():
        if saved['identity'].get(key) != value:
            raise InputError(f"{newest}: was trained with {key} = {saved['identity'].get(key)}, not {value}; "
                             f'use the same plan or a new folder')
    try: weights, tensors = (load_file(newest / f'{name}.safetensors') for name in ('weights', 'optimizer'))
    except (SafetensorError, OSError) as error:
        raise InputError(f'{newest}: cannot be read ({error}); remove it and start again') from None
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    shapes = lambda named: {name: value.shape for name, value in named.items()}
    if shapes(trained) != shapes(weights) or fingerprint(model) != saved['frozen']:
        raise InputError(f'{newest}: holds the weights of another model; give the model it was trained from')
    with torch.no_grad():
        for name, value in weights.items(): trained[name].copy_(value)
    fill_state(optimizers, tensors, saved['numbers'])
    return saved['state']


# %% [markdown]
# A whole run in small: 40 steps without a break, and 40 steps by four processes, three of which are killed.
# The losses lie on each other, and the last weights are equal to the last bit.

# %%
PLAN = {'seed': 0}

def run(folder, stop):
    model, optimizers = toy('muon')
    losses = read_checkpoint(folder, model, optimizers, PLAN)['losses'] if newest_checkpoint(folder) else []
    while len(losses) < 40:
        losses.append(toy_step(model, optimizers)); step = len(losses)
        if step % 5 == 0: write_checkpoint(folder, step, model, optimizers, {'losses': losses}, PLAN)
        if step == stop: os.kill(os.getpid(), signal.SIGKILL)

def lives(folder, stops):
    for stop in stops:
        process = multiprocessing.get_context('fork').Process(target=run, args=(folder, stop))
        process.start(); process.join()
    model, optimizers = toy('muon')
    return read_checkpoint(folder, model, optimizers, PLAN)['losses'], weights_of(model)

with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as four:
    whole, pieces = lives(one, [None]), lives(four, [13, 24, 31, None])
    left = sorted(path.name for path in Path(four).iterdir())

# %%
figure, axis = plt.subplots(figsize=(7, 2.4))
axis.plot(whole[0], color=PALETTE[0], lw=4, alpha=0.4, label='without a break')
axis.plot(pieces[0], color=PALETTE[1], lw=1, label='killed three times')
for stop in (13, 24, 31): axis.axvline(stop - 1, color='0.5', lw=0.8, ls=':')
axis.set_yscale('log'); axis.legend()
axis.set(xlabel='step', ylabel='loss', title='three lives more, the same run'); plt.show()
assert whole[0] == pieces[0] and torch.equal(whole[1], pieces[1]) and left == ['step-00000040']

# %% [markdown]
# And the refusals, in one sentence each:

# %%
with tempfile.TemporaryDirectory() as folder:
    write_checkpoint(folder, 1, *toy(), {}, {'learning_rate': 0.01})
    def answer(where, made, rate):
        try: read_checkpoint(where, *made, {'learning_rate': rate}); return 'accepted'
        except InputError as error: return str(error).replace(folder, 'run')
    said = [answer(folder, toy(), 0.02), answer(folder, toy(width=73), 0.01),
            answer(f'{folder}/nowhere', toy(), 0.01), answer(folder, toy(), 0.01)]
for sentence in said: print(sentence)
assert 'learning_rate = 0.01, not 0.02' in said[0] and 'another model' in said[1]
assert 'no checkpoint' in said[2] and said[3] == 'accepted'

# %% [markdown]
# ## What we proved
#
# * optimiser state that is saved and loaded continues bit for bit, for AdamW, Muon and 8-bit AdamW;
# * a process killed by signal 9 while saving leaves a readable checkpoint, every time;
# * another plan or another model is refused by name.

# %% [markdown]
# ## Try it
#
# 1. Let `checkpoint_folder` use one name, `newest`, and remove the old folder first. How often do you find no
#    checkpoint?
# 2. Save every step of a large model. What share of the time goes into saving, and what would a thread
#    change?
# 3. Change one frozen weight beyond the first 4,096 numbers of its tensor. Who notices?
#
# <details><summary>Solutions</summary>
#
# 1. As often as the kill falls between removing and writing; for large models that is a good part of the time. Two
#    names and a rename have no such moment.
# 2. Time one save against one step. A thread hides the writing but needs a copy of the weights in memory, or it
#    writes a mixture of two steps.
# 3. `base_fingerprint` does not, for it reads the beginning of each tensor: it identifies a checkpoint, it does not
#    protect one. A full hash does, and costs reading everything.
#
# </details>
