# %% [markdown]
# # Supervised training
# > The loop: packed clips in, a trained model out; by steps or by the clock, logged, and resumable to the last bit.

# %%
#| default_exp sft

# %% [markdown]
# #| export
# Training is a function of (model, examples, plan): the order of the batches and the random numbers of a
# step depend on nothing else, so a run that was interrupted and resumed ends with the same weights as one
# that was not. The loss of a step is the mean over its dialogues, however many clips, accumulation parts or
# processes they came in.

# %% [markdown]
# * **What** accumulation, processes, checkpoints, logs and progress, in one readable loop
# * **Why** "does it learn?" must be answered in minutes, and an interrupted night must not be lost
# * **Paper** 4DP-QA §4: AdamW, cosine schedule, batch 128 by accumulation, frozen visual encoder; Muon and
#   the clock are **[ours]**
# * **Needs** torch, tqdm; tensorboard or trackio if their logs are wanted
# * **Time** 45 seconds
# * **Before this** notebooks 20, 21p, 21q and 21r

# %%
#| export
import contextlib
import csv
import math
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from track4d_ref.checkpoints import newest_checkpoint, read_checkpoint, write_checkpoint
from track4d_ref.optimizers import apply_gradients, loss_scale, make_optimizers, mixed, schedule, trainable
from track4d_ref.packing import (ClipExample, PackedBatch, collate, length_batches, naming_loss, pack,
                                 packed_loss, tower_states, visual_features)
from track4d_ref.presets import Preset
from track4d_ref.processes import Processes, from_leader, same_start, share, sum_gradients, summed, wait
from track4d_ref.storage import InputError, atomic_path
from track4d_ref.vlm import bare_model

# %%
import multiprocessing
import os
import signal
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.tokens import train_tokenizer
from track4d_ref.viz import PALETTE, use_style
from track4d_ref.vlm import build_vlm
use_style()

# %% [markdown]
# ## Something to learn
#
# For this notebook a toy that a tiny model learns in seconds: a bright bar runs over a dark picture to the
# left, to the right, up, or down, and two questions ask where to.

# %%
torch.set_num_threads(1)                             # so small a model gains nothing from a second thread
WAYS = {'left': (0, -1), 'right': (0, 1), 'up': (-1, 0), 'down': (1, 0)}
user = lambda text: {'role': 'user', 'content': text}
says = lambda text: {'role': 'assistant', 'content': text}

def bar_film(rng, way, frames=4, size=56):
    rows, columns = np.mgrid[:size, :size]
    along, step = (rows, WAYS[way][0]) if WAYS[way][0] else (columns, WAYS[way][1])
    start, colour = rng.integers(10, size - 10), rng.integers(120, 255, 3)
    bright = [abs((along - start - 6 * step * t) % size - size // 2) < 6 for t in range(frames)]
    return np.stack([np.where(lit, 1, 0.15)[..., None] * colour for lit in bright]).astype(np.uint8)

def bar_example(seed):
    rng = np.random.default_rng(seed)
    way, asked = (list(WAYS)[rng.integers(4)] for _ in range(2))
    return ClipExample(f'bar {seed}', (Video(f'bar {seed}', bar_film(rng, way), 0.25),), (
        (user('Where does the bar go?'), says(way)),
        (user(f'Does the bar go {asked}?'), says('Yes' if asked == way else 'No'))))


# %%
examples = [bar_example(seed) for seed in range(256)]
fig, axes = plt.subplots(1, 4, figsize=(7, 2.2), dpi=90)
for t, ax in enumerate(axes):
    ax.imshow(examples[3].videos[0].frames[t]); ax.set_title(f'frame {t}', fontsize=8); ax.axis('off')
question, answer = (turn['content'] for turn in examples[3].dialogues[0])
fig.suptitle(f'{question} {answer}', fontsize=10); plt.show()
assert len({clip.dialogues[0][1]['content'] for clip in examples}) == 4


# %% [markdown]
# ## The plan of a run
#
# Everything that decides about the result of a run stands in one frozen record. It is kept in the
# checkpoint, and a run can only be resumed with the plan it began with. How fast the machine is, how many
# processes share the work, and where the log goes are not in it, for they must not matter.

# %%
#| export
@dataclass(frozen=True)
class TrainPlan:
    "How long and how: `seconds` > 0 stops by the clock, otherwise `steps` counts (0: one pass over the clips)."
    steps: int = 0
    seconds: float = 0.0
    optimizer: str = 'muon'          # or adamw, adamw8bit
    precision: str = 'float32'       # or bfloat16, float16
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    batch_clips: int = 16
    accumulation: int = 1            # parts into which the clips of a step are cut
    freeze_vision: bool = False
    train_merger: bool = False       # with a frozen tower: train what connects it to the language model
    naming: float = 0.0              # weight of the naming loss of notebook 20, for new models
    save_every: int = 0              # steps; 0 = only at the end
    seed: int = 0

def plan_from_preset(preset: Preset, **changes) -> TrainPlan:
    "The plan a preset describes, with changes."
    plan = TrainPlan(steps=preset.train_steps, seconds=preset.train_seconds, optimizer=preset.optimizer, precision=preset.precision,
                     learning_rate=preset.learning_rate, weight_decay=preset.weight_decay,
                     warmup=preset.warmup_fraction, clip=preset.gradient_clip, batch_clips=preset.batch_clips,
                     accumulation=preset.accumulation, seed=preset.seed)
    return replace(plan, **changes)


# %%
#| export
@dataclass
class TrainState:
    "What changes during a run, besides weights and optimisers."
    step: int = 0
    elapsed_s: float = 0.0
    rows: list = field(default_factory=list)     # one dict per step with the fields of the log
    scale: dict = field(default_factory=dict)    # the loss scale of float16


# %%
#| export
class BatchOrder:
    "Batch number `step` of the endless series of epochs; depends only on lengths, batch size and seed."
    def __init__(self, lengths: np.ndarray, batch: int, seed: int):
        self.lengths, self.batch, self.seed, self.epoch, self.batches = lengths, batch, seed, -1, []

    def __getitem__(self, step: int) -> np.ndarray:
        epoch, at = divmod(step, math.ceil(len(self.lengths) / self.batch))
        if epoch != self.epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self.epoch, self.batches = epoch, list(length_batches(self.lengths, self.batch, rng))
        return self.batches[at]


# %%
order = BatchOrder(np.array([5, 9, 7, 5, 8, 6, 5]), batch=3, seed=1)
print([order[step].tolist() for step in range(6)])
assert order[4].tolist() == BatchOrder(order.lengths, 3, 1)[4].tolist()
assert sorted(np.concatenate([order[step] for step in range(3)]).tolist()) == list(range(7))


# %% [markdown]
# ## One step
#
# First a store: rows are packed once, at the start, so that a sample which is too long is refused before any
# work is done. Where the tower is frozen, its output per clip is computed on first use and kept.

# %%
#| export
class ClipFeeder:
    "Packed rows, made once, and batches of them; with a frozen tower also its output per clip, kept."
    def __init__(self, model, tokenizer, examples: list[ClipExample], most_tokens: int, keep_features: bool,
                 to_merger: bool = False):
        self.model, self.examples, self.pad = model, examples, tokenizer.pad_token_id
        self.kind = 'states' if to_merger else 'features'
        self.rows = [pack(model, tokenizer, example, most_tokens) for example in examples]
        self.features = [None] * len(examples) if keep_features else None

    def feature(self, index: int) -> torch.Tensor:
        "Visual features of one clip, or the states before the merger, kept on the CPU."
        if self.features[index] is None:
            one = collate(self.model, [self.rows[index]], [self.examples[index]])
            one = one.to(bare_model(self.model).device)
            compute = tower_states if self.kind == 'states' else visual_features
            with torch.no_grad(): self.features[index] = compute(self.model, one).cpu()
        return self.features[index]

    def batch(self, indices) -> PackedBatch:
        "The padded batch of these clips on the model's device."
        with_video = [i for i in indices if self.examples[i].videos]
        kept = [self.feature(i) for i in with_video] if self.features is not None else []
        made = collate(self.model, [self.rows[i] for i in indices], [self.examples[i] for i in indices],
                       self.pad, **({self.kind: kept} if kept else {}))
        return made.to(bare_model(self.model).device)


# %% [markdown]
# The clips of a step may be cut into parts that fit into memory, and shared by processes. The loss of each
# part is divided by the dialogues of the *whole* step, not of the part: else an unlucky part with few
# questions would count too much. Dropout and the like draw their random numbers from a generator that is set
# by seed, step and process, so a step does not depend on what was done before it.

# %%
#| export
def gradient_of_step(model, feeder: ClipFeeder, indices: np.ndarray, plan: TrainPlan,
                     scale: torch.amp.GradScaler, processes: Processes = Processes()) -> float:
    "Put the gradients of this process's share of the clips into the parameters; returns its part of the loss."
    dialogues, device = sum(len(feeder.examples[i].dialogues) for i in indices), bare_model(model).device
    own, total = share(indices, processes), 0.0
    for part in np.array_split(own, max(1, min(math.ceil(plan.accumulation / processes.count), len(own)))):
        if not len(part): continue
        batch = feeder.batch(part)
        with mixed(plan.precision, device):
            batch = replace(batch, features=visual_features(model, batch), pixels=None)
            loss = packed_loss(model, batch) / dialogues
            total += loss.item()
            if plan.naming and batch.features is not None:
                loss = loss + plan.naming * naming_loss(model, batch, batch.features) / len(indices)
        scale.scale(loss).backward()
    return total

def train_step(model, feeder: ClipFeeder, indices: np.ndarray, optimizers: list, plan: TrainPlan,
               factor: float, scale: torch.amp.GradScaler | None = None,
               processes: Processes = Processes()) -> tuple[float, float]:
    "One update of the model on these clips; returns (mean loss per dialogue, norm of the gradient)."
    scale = scale or loss_scale(plan.precision, bare_model(model).device)
    total = summed(gradient_of_step(model, feeder, indices, plan, scale, processes), processes)
    if not math.isfinite(total):
        raise InputError(f'the loss became {total}; lower learning_rate (now {plan.learning_rate})')
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    sum_gradients([parameter for group in groups for parameter in group['params']], processes)
    return total, apply_gradients(optimizers, scale, plan.clip, factor)


# %% [markdown]
# One part of eight clips, or eight parts of one: the gradients must agree.

# %%
preset = load_preset('tiny', ('text_layers=2', 'text_width=96', 'text_heads=4', 'vision_layers=1',
                              'vision_width=64'))
turns = [turn for clip in examples for talk in clip.dialogues for turn in talk]
tokenizer = train_tokenizer([turn['content'] for turn in turns], 400)

def gradients(indices=np.arange(8), processes=Processes(), **changes):
    model = build_vlm(preset, tokenizer)
    feeder, scale = ClipFeeder(model, tokenizer, examples[:8], 1024, False), loss_scale('float32', model.device)
    loss = gradient_of_step(model, feeder, indices, TrainPlan(**changes), scale, processes)
    return loss, torch.cat([p.grad.flatten() for _, p in trainable(model)])

(loss_one, one), (loss_eight, eight) = gradients(), gradients(accumulation=8)
print(f'loss {loss_one:.6f} and {loss_eight:.6f}, largest difference {float((one - eight).abs().max()):.1e}')
assert abs(loss_one - loss_eight) < 1e-5 and torch.allclose(one, eight, atol=1e-5)

# %% [markdown]
# The shares of three processes add up to the same; and in bfloat16 the gradient points the same way:

# %%
shares = [gradients(processes=Processes(number, 3)) for number in range(3)]
assert torch.allclose(sum(gradient for _, gradient in shares), one, atol=1e-5)
half = gradients(precision='bfloat16')[1]
alike = float(torch.nn.functional.cosine_similarity(one.double(), half.double(), dim=0))
fig, ax = plt.subplots(figsize=(4.5, 3))
ax.hexbin(one, half, gridsize=50, bins='log', cmap='viridis')
ax.set(xlabel='gradient in float32', ylabel='in bfloat16', title=f"cosine {alike:.6f}"); plt.show()
assert 0.99 < alike < 1

# %% [markdown]
# ## The log
#
# Every run writes `log.csv`, one line per step, which any program can read. TensorBoard or trackio get the
# same numbers if asked for; both are optional, and neither is imported before. A resumed run goes on in the
# same curves.

# %%
#| export
LOG_FIELDS = ('step', 'loss', 'norm', 'rate', 'seconds', 'dialogues')
LOGGERS = ('none', 'tensorboard', 'trackio')

def write_log(path: Path | str, rows: list[dict]) -> None:
    "One line per step as CSV, atomically."
    with atomic_path(path) as partial, open(partial, 'w', newline='', encoding='utf-8') as out:
        writer = csv.DictWriter(out, fieldnames=LOG_FIELDS)
        writer.writeheader(); writer.writerows(rows)

@contextlib.contextmanager
def live_log(kind: str, out: Path | None, plan: TrainPlan, first_step: int = 0) -> Iterator[Callable]:
    "Context with a function that sends one row of the log to `kind`; InputError if there is no such logger."
    if kind not in LOGGERS:
        raise InputError(f'logger {kind!r} does not exist; use one of {", ".join(LOGGERS)}')
    if kind == 'none' or out is None: yield lambda row: None; return
    try:
        if kind == 'tensorboard': from torch.utils.tensorboard import SummaryWriter
        else: import trackio
    except ImportError: raise InputError(f'logger {kind!r} needs a package; pip install {kind}') from None
    if kind == 'tensorboard':
        with SummaryWriter(str(out / 'tensorboard'), purge_step=first_step + 1) as writer:
            yield lambda row: [writer.add_scalar(name, row[name], row['step']) for name in LOG_FIELDS[1:]]
        return
    trackio.init(project='track4d', name=out.resolve().name, config=asdict(plan), resume='allow', embed=False)
    try: yield lambda row: trackio.log({name: row[name] for name in LOG_FIELDS[1:]}, step=row['step'])
    finally: trackio.finish()


# %%
rows = [dict(zip(LOG_FIELDS, (step, 2 / step, 1.0, 1e-3, 0.1 * step, 16))) for step in (1, 2, 3)]
with tempfile.TemporaryDirectory() as folder:
    write_log(f'{folder}/log.csv', rows)
    print(Path(folder, 'log.csv').read_text())
    with live_log('none', Path(folder), TrainPlan()) as send: assert [send(row) for row in rows] == [None] * 3
    assert len(Path(folder, 'log.csv').read_text().splitlines()) == 4 and os.listdir(folder) == ['log.csv']


# %% [markdown]
# ## The loop
#
# What it does before the first step: pack all samples, so that a sample which is too long is refused by
# name; choose what is trained; go on from the newest checkpoint, if there is one. The data has a checksum in
# the checkpoint as well, because the same plan with other clips is another run.

# %%
#| export
def data_checksum(feeder: ClipFeeder) -> int:
    "A checksum of all token ids, in order."
    crc = 0
    for row in feeder.rows: crc = zlib.crc32(row.ids.numpy().tobytes(), crc)
    return crc

def save_checkpoint(folder: Path | str, model, optimizers: list, state: TrainState, plan: TrainPlan,
                    data: int = 0) -> None:
    "Write weights, optimisers and state as the newest checkpoint in `folder`."
    write_checkpoint(folder, state.step, model, optimizers, asdict(state), {**asdict(plan), 'data': data})

def load_checkpoint(folder: Path | str, model, optimizers: list, plan: TrainPlan, data: int = 0) -> TrainState:
    "Fill model and optimisers from the newest checkpoint in `folder`; a new state if there is none."
    if newest_checkpoint(folder) is None: return TrainState()
    return TrainState(**read_checkpoint(folder, model, optimizers, {**asdict(plan), 'data': data}))


# %%
#| export
def train(model, tokenizer, examples: list[ClipExample], plan: TrainPlan, out: Path | str | None = None,
          resume: bool = False, most_tokens: int = 8192, progress: bool = True,
          on_step: Callable[[TrainState], None] | None = None, logger: str = 'none',
          processes: Processes = Processes()) -> TrainState:
    """Train `model` in place on packed clips; writes log.csv and checkpoint/ into `out`, `resume` goes on from there.

    InputError: a sample is too long (before anything runs), the loss is not finite, the checkpoint does not fit."""
    if not examples: raise InputError('there is nothing to train on; give at least one clip with a question')
    out = Path(out) if out else None
    feeder = ClipFeeder(model, tokenizer, examples, most_tokens, plan.freeze_vision, plan.train_merger)
    named = trainable(model, plan.freeze_vision, plan.train_merger)
    same_start([parameter for _, parameter in named], processes)
    optimizers = make_optimizers(named, plan.optimizer, plan.learning_rate, plan.weight_decay)
    data, state = data_checksum(feeder), TrainState()
    if out and resume: state = load_checkpoint(out / 'checkpoint', model, optimizers, plan, data)
    wait(processes)                                           # nobody writes while another still reads
    if out and not resume and processes.leads: shutil.rmtree(out / 'checkpoint', ignore_errors=True)
    def keep() -> None:
        if not out or not processes.leads: return
        save_checkpoint(out / 'checkpoint', model, optimizers, state, plan, data)
        write_log(out / 'log.csv', state.rows)
    model.train()
    with live_log(logger if processes.leads else 'none', out, plan, state.step) as send:
        _run(feeder, optimizers, plan, state, keep, progress and processes.leads, send, on_step, processes)
    model.eval()
    keep()
    wait(processes)
    return state


# %% [markdown]
# The steps themselves. By the clock, all processes go by the leader's; the bar shows what is left of the run
# and the mean loss of the last twenty steps.

# %%
#| export
def _run(feeder, optimizers, plan, state, keep, progress, send, on_step, processes) -> None:
    "Steps until the plan is fulfilled; `state` is kept up to date."
    order = BatchOrder(np.array([len(row.ids) for row in feeder.rows]), plan.batch_clips, plan.seed)
    device = bare_model(feeder.model).device
    scale = loss_scale(plan.precision, device)
    if state.scale: scale.load_state_dict(state.scale)
    timed, begin = plan.seconds > 0, time.perf_counter() - state.elapsed_s
    total = plan.seconds if timed else plan.steps or math.ceil(len(feeder.examples) / plan.batch_clips)
    done = lambda: state.elapsed_s if timed else state.step
    with tqdm(total=int(total), initial=min(int(done()), int(total)), disable=not progress, desc='training',
              unit='s' if timed else 'step') as bar:
        while (fraction := from_leader(done() / total, processes)) < 1:
            indices, factor = order[state.step], schedule(fraction, plan.warmup)
            with _seeded(device, plan.seed, state.step, processes.number):
                loss, norm = train_step(feeder.model, feeder, indices, optimizers, plan, factor, scale, processes)
            state.step, state.elapsed_s = state.step + 1, time.perf_counter() - begin
            state.scale = scale.state_dict()
            state.rows.append(_log_row(state, loss, norm, plan.learning_rate * factor, feeder, indices))
            send(state.rows[-1])
            bar.update(min(int(done()), int(total)) - bar.n)
            bar.set_postfix(loss=f"{np.mean([row['loss'] for row in state.rows[-20:]]):.3f}", step=state.step)
            if plan.save_every and state.step % plan.save_every == 0: keep()
            if on_step: on_step(state)


# %%
#| export
def _log_row(state, loss, norm, rate, feeder, indices) -> dict:
    dialogues = sum(len(feeder.examples[i].dialogues) for i in indices)
    norm = norm if math.isfinite(norm) else 0.0                     # float16 has left out this step
    return dict(zip(LOG_FIELDS, (state.step, round(loss, 6), round(norm, 4), round(rate, 9),
                                 round(state.elapsed_s, 2), dialogues)))

@contextlib.contextmanager
def _seeded(device: torch.device, *numbers: int):
    with torch.random.fork_rng(devices=[device] if device.type == 'cuda' else []):
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))
        yield


# %% [markdown]
# It learns. The same 60 steps of the toy, with both optimisers:

# %%
def curve(**changes):
    plan = TrainPlan(steps=60, batch_clips=8, **changes)
    state = train(build_vlm(preset, tokenizer), tokenizer, examples, plan, progress=False)
    return np.array([row['loss'] for row in state.rows])

curves = {'adamw': curve(optimizer='adamw'), 'muon': curve(optimizer='muon')}
fig, ax = plt.subplots(figsize=(6, 2.7), dpi=90)
for (name, losses), colour in zip(curves.items(), PALETTE):
    ax.plot(np.convolve(losses, np.ones(9) / 9, 'valid'), label=name, color=colour)
ax.set_yscale('log'); ax.set(xlabel='step', ylabel='loss (mean of 9 steps)'); ax.legend(); plt.show()
print({name: round(float(losses[-10:].mean()), 3) for name, losses in curves.items()})

# %%
assert all(losses[-10:].mean() < 0.5 * losses[0] for losses in curves.values())

# %% [markdown]
# ## Interrupted = uninterrupted
#
# One run of 12 steps in a piece; another by processes that are killed with signal 9, which nothing can
# catch, after three random steps, and a last one that finishes. Each process builds the model anew and knows
# nothing of those before it but the folder. On a CPU the weights are identical, bit for bit.

# %%
plan = TrainPlan(steps=12, batch_clips=5, save_every=2, accumulation=2)

def life(folder, last_step):
    def check(state):
        if state.step == last_step: os.kill(os.getpid(), signal.SIGKILL)
    model = build_vlm(preset, tokenizer)
    train(model, tokenizer, examples[:33], plan, folder, resume=True, progress=False, on_step=check)

def lives(folder, last_steps):
    "The exit codes of one process after the other on the same folder, and the weights at the end."
    codes = []
    for last_step in last_steps:
        process = multiprocessing.get_context('fork').Process(target=life, args=(folder, last_step))
        process.start(); process.join(); codes.append(process.exitcode)
    model = build_vlm(preset, tokenizer)
    state = train(model, tokenizer, examples[:33], plan, folder, resume=True, progress=False)
    return codes, model, state


# %%
stops = sorted(np.random.default_rng(4).choice(np.arange(1, 12), 3, replace=False).tolist())
with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as four:
    (_, whole, smooth), (codes, broken, rough) = lives(one, [None]), lives(four, [*stops, None])
    lines = Path(four, 'log.csv').read_text().splitlines()
print('killed after steps', stops, '- exit codes', codes)
assert codes == [-signal.SIGKILL] * 3 + [0]
assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), broken.parameters()))
assert len(lines) == 13 and lines[0].startswith('step,loss,norm')

# %%
fig, ax = plt.subplots(figsize=(6, 2.2))
losses = lambda state: [row['loss'] for row in state.rows]
ax.plot(range(1, 13), losses(smooth), lw=5, alpha=0.4, color=PALETTE[0], label='in a piece')
ax.plot(range(1, 13), losses(rough), lw=1.2, color=PALETTE[1], label='killed three times')
for stop in stops: ax.axvline(stop, color='0.5', ls=':', lw=0.8)
ax.set(xlabel='step', ylabel='loss', title='dotted: signal 9'); ax.legend(); plt.show()
assert losses(smooth) == losses(rough)


# %% [markdown]
# ## A frozen tower
#
# With the tower frozen its weights stay as they are, to the bit, and steps get cheaper, because its features
# are kept. The merger may learn alone.

# %%
def moved_by(steps, **changes):
    model, before = build_vlm(preset, tokenizer), build_vlm(preset, tokenizer)
    plan = TrainPlan(steps=steps, batch_clips=8, **changes)
    state = train(model, tokenizer, examples[:32], plan, progress=False)
    pairs = zip(model.named_parameters(), before.parameters())
    return state, {name: not torch.equal(now, then) for (name, now), then in pairs}

frozen, moved = moved_by(20, freeze_vision=True)
assert all(changed != ('visual' in name) for name, changed in moved.items())
_, moved = moved_by(2, freeze_vision=True, train_merger=True)
assert all(changed == ('merger' in name) for name, changed in moved.items() if 'visual' in name)

# %%
spent = np.diff([0] + [row['seconds'] for row in frozen.rows])
fig, ax = plt.subplots(figsize=(6, 2))
ax.bar(range(1, len(spent) + 1), 1000 * spent, color=[PALETTE[0]] * 4 + [PALETTE[2]] * (len(spent) - 4))
ax.set(xlabel='step (32 clips in batches of 8: features are new in the first four)', ylabel='milliseconds')
plt.show()
assert np.median(spent[4:]) < np.max(spent[:4])

# %% [markdown]
# ## By the clock
#
# A budget of two seconds: the rate falls to nearly nothing, however many steps that makes on this machine.

# %%
plan = TrainPlan(seconds=2.0, batch_clips=4)
timed = train(build_vlm(preset, tokenizer), tokenizer, examples, plan, progress=False)
print(f'{timed.step} steps in {timed.elapsed_s:.1f} s, last learning rate {timed.rows[-1]["rate"]:.1e}')
fig, ax = plt.subplots(figsize=(6, 1.9))
ax.plot([row['seconds'] for row in timed.rows], [row['rate'] for row in timed.rows], '.-', color=PALETTE[0])
ax.set(xlabel='seconds', ylabel='learning rate'); plt.show()
assert 2.0 <= timed.elapsed_s < 8.0 and timed.rows[-1]['rate'] < 1e-3

# %% [markdown]
# ## What we proved
#
# * one part or eight parts per step, one process or three: the same gradients;
# * a run killed by signal 9 at three random steps ends with identical weights and the same log;
# * a frozen tower stays frozen, and a run by the clock ends in time with the rate near zero.

# %% [markdown]
# ## Try it
#
# 1. Divide the loss of each part by the dialogues of the part. Which assertion notices, and for which data
#    would none?
# 2. Train the toy with 64 examples for 300 steps and ask about 64 new ones. Did it learn or memorise?
# 3. Give the text layers a dropout of 0.1 (`attention_dropout` in the configuration) and resume. Still the
#    same bits?
#
# <details><summary>Solutions</summary>
#
# 1. The comparison of 1 × 8 and 8 × 1 accumulation, where dialogues have unequal numbers of labels. With equal ones
#    nothing would show.
# 2. Compare accuracy on both sets: 64 examples fit into the weights. Held-out accuracy near the prior says memorised.
# 3. Only if the random state is part of the checkpoint and restored. Dropout draws from the global generator, so
#    check that it is saved as well.
#
# </details>
