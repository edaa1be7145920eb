# %% [markdown]
# # Optimisers
# > What is trained, by which rule, how fast, and in which precision.

# %%
#| default_exp optimizers

# %% [markdown]
# #| export
# Three rules: AdamW (the papers'), Muon for the matrices inside layers, and AdamW with 8-bit state from
# bitsandbytes for models whose optimiser state would not fit. Three precisions: float32; bfloat16 and
# float16 keep the weights in float32 and multiply matrices in half precision, float16 with a loss scale.

# %% [markdown]
# * **What** parameter groups, AdamW, Muon and 8-bit AdamW, the schedule, and mixed precision
# * **Why** a wrong choice here costs either a factor of three in steps or all of the memory of a small card
# * **Paper** 4DP-QA §4.1: AdamW, cosine schedule, frozen visual encoder; Muon, 8 bits and the precisions are
#   **[ours]**
# * **Needs** torch; bitsandbytes for 8 bits
# * **Time** 20 seconds
# * **Before this** notebooks 13b and 14

# %%
#| export
import contextlib
import math

import torch
from torch.nn import Parameter

from track4d_ref.muon import Muon
from track4d_ref.storage import InputError
from track4d_ref.vlm import bare_model

# %%
import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.presets import load_preset
from track4d_ref.tokens import train_tokenizer
from track4d_ref.viz import PALETTE, use_style
from track4d_ref.vlm import build_vlm
use_style()
torch.set_num_threads(1)


# %% [markdown]
# ## What is trained
#
# The papers keep the visual encoder as it is and train the rest. Its last part, the merger, connects the
# encoder to the language model; it may learn although the rest of the tower is frozen (`train_merger`).
# Freezing is done by switching gradients off, so a frozen parameter can neither move nor cost optimiser
# state.

# %%
#| export
def trainable(model, freeze_vision: bool = False, train_merger: bool = False) -> list[tuple[str, Parameter]]:
    "Named parameters to train; switches gradients of the vision tower (or all of it but the merger) off or on."
    tower = bare_model(model).model.visual
    for parameter in tower.parameters(): parameter.requires_grad_(not freeze_vision)
    for parameter in tower.merger.parameters(): parameter.requires_grad_(train_merger or not freeze_vision)
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


# %%
model = build_vlm(load_preset('tiny'), train_tokenizer(['Does the camera move left? Yes No'] * 9, 300))
counts = {'everything': sum(p.numel() for _, p in trainable(model)),
          'tower frozen, merger learns': sum(p.numel() for _, p in trainable(model, True, True)),
          'tower frozen': sum(p.numel() for _, p in trainable(model, True))}
figure, axis = plt.subplots(figsize=(7, 1.7))
axis.barh(list(counts), [count / 1e6 for count in counts.values()], color=PALETTE[0])
axis.invert_yaxis(); axis.set(xlabel='million trained parameters', title='what each choice trains')
plt.show()

# %%
merger = sum(p.numel() for p in model.model.visual.merger.parameters())
assert counts['tower frozen, merger learns'] - counts['tower frozen'] == merger
assert counts['everything'] == sum(p.numel() for p in model.parameters())

# %% [markdown]
# ## AdamW or Muon
#
# AdamW scales every number by itself: it divides the running mean of a gradient by the running size of that
# one number's gradients. Muon treats a weight matrix as a matrix: it takes the running mean $M = U \Sigma
# V^T$ and steps along $U V^T$, so that **all directions move alike**, also those along which the gradient is
# small. In our trials the tiny model learned camera movement in a third of the steps with it. Muon is for
# matrices inside layers; word table, norms and biases stay with AdamW. The patch embedding gets a tenth of
# the rate: its filters start well (notebook 14b) and are easily spoiled.
#
# 8-bit AdamW keeps the two running means as one byte per number, in blocks of 256 with a scale each. For a
# model of three billion trained parameters that saves 18 GB; the update is a little coarser.

# %%
#| export
PATCH_RATE = 0.1   # of the learning rate, for the patch embedding
OPTIMIZERS = ('adamw', 'muon', 'adamw8bit')

def make_optimizers(named: list[tuple[str, Parameter]], kind: str, learning_rate: float,
                    weight_decay: float) -> list[torch.optim.Optimizer]:
    "[AdamW] with 32 or 8 bits of state, or [AdamW, Muon for the matrices of layers at ten times the rate]."
    if kind not in OPTIMIZERS:
        raise InputError(f'optimizer {kind!r} does not exist; use one of {", ".join(OPTIMIZERS)}')
    in_layer = lambda name, p: kind == 'muon' and p.ndim == 2 and ('layers.' in name or 'blocks.' in name)
    matrices = [p for name, p in named if in_layer(name, p)]
    patches = [p for name, p in named if 'patch_embed' in name]
    others = [p for name, p in named if not in_layer(name, p) and 'patch_embed' not in name]
    groups = [dict(params=others, lr=learning_rate),
              dict(params=patches, lr=PATCH_RATE * learning_rate, weight_decay=0.0)]
    groups = [group for group in groups if group['params']]
    adamw = _adamw8bit() if kind == 'adamw8bit' else torch.optim.AdamW
    made = [adamw(groups, lr=learning_rate, betas=(0.9, 0.98), weight_decay=weight_decay)] if groups else []
    if matrices: made.append(Muon(matrices, lr=10 * learning_rate, weight_decay=weight_decay))
    for optimizer in made:
        for group in optimizer.param_groups: group['initial_lr'] = group['lr']   # the schedule scales this
    return made

def _adamw8bit() -> type:
    try: from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise InputError("optimizer 'adamw8bit' needs bitsandbytes; pip install bitsandbytes") from None
    return AdamW8bit


# %% [markdown]
# The difference, made visible: one gradient with a few strong and many weak directions, one step of each
# rule. The length of the step along each direction of the gradient is what the picture shows.

# %%
generator = torch.Generator().manual_seed(0)
left, right = (torch.linalg.qr(torch.randn(48, 48, generator=generator))[0] for _ in range(2))
strength = torch.logspace(0, -3, 48)
gradient = left @ torch.diag(strength) @ right.T
steps = {}
for kind in OPTIMIZERS:
    weight = torch.nn.Parameter(torch.zeros(48, 48)); weight.grad = gradient.clone()
    make_optimizers([('layers.0.weight', weight)], kind, 1e-3, 0.0)[-1].step()
    moved = -(left.T @ weight.detach() @ right).diagonal()
    steps[kind] = moved / moved.max()
figure, axis = plt.subplots(figsize=(7, 2.6))
for (kind, moved), colour in zip(steps.items(), PALETTE):
    axis.plot(moved.abs(), label=kind, color=colour, lw=3 - len(kind) / 4)
axis.plot(strength, color='0.6', ls='--', label='gradient itself')
axis.set_yscale('log'); axis.set_ylim(1e-4, 3)
axis.set(xlabel='direction, from strong to weak', ylabel='relative step')
axis.set_title('Muon moves along weak directions too')
axis.legend(); plt.show()

# %%
assert float(steps['muon'].median()) > 0.5 and float(steps['muon'].min()) > 0.1
assert float(steps['adamw'].abs().median()) < 0.1                       # half of the directions hardly move
assert float((steps['adamw'] - steps['adamw8bit']).abs().max()) < 0.05


# %% [markdown]
# Bytes of optimiser state per trained parameter, counted after one step of each rule on the tiny model:

# %%
def state_bytes(kind):
    optimizers = make_optimizers(trainable(model), kind, 1e-3, 0.0)
    for parameter in model.parameters(): parameter.grad = torch.ones_like(parameter)
    for optimizer in optimizers: optimizer.step(); optimizer.zero_grad()
    def count(value):
        if isinstance(value, dict): return sum(map(count, value.values()))
        return value.numel() * value.element_size() if torch.is_tensor(value) else 0
    return sum(count(optimizer.state_dict()['state']) for optimizer in optimizers) / counts['everything']

per_parameter = {kind: state_bytes(kind) for kind in OPTIMIZERS}
print({kind: round(value, 2) for kind, value in per_parameter.items()}, 'bytes per parameter')
assert per_parameter['adamw8bit'] < 2.7 < per_parameter['muon'] < per_parameter['adamw'] < 8.1


# %% [markdown]
# ## Schedule
#
# Linear warm-up, then half a cosine down to zero, as a function of the **fraction done**. By steps the
# fraction is exact and the run reproducible; by the clock it is elapsed time over budget, so that a slow
# machine gets fewer steps but the same shape, and training always ends in time.

# %%
#| export
def schedule(fraction: float, warmup: float) -> float:
    "Factor of the learning rate when `fraction` of the run is done: linear warm-up, then half a cosine to 0."
    if fraction < warmup: return fraction / warmup
    return 0.5 * (1 + math.cos(math.pi * min((fraction - warmup) / max(1 - warmup, 1e-9), 1)))


# %%
done = np.linspace(0, 1, 201)
figure, axis = plt.subplots(figsize=(7, 2.2))
for warmup, colour in zip((0.01, 0.05, 0.2), PALETTE):
    axis.plot(done, [schedule(x, warmup) for x in done], label=f'warm-up {warmup}', color=colour)
axis.set(xlabel='fraction of the run', ylabel='factor'); axis.legend(); plt.show()
assert schedule(0, .05) == 0 and schedule(.05, .05) == 1 and schedule(1, .05) < 1e-9

# %% [markdown]
# ## Mixed precision
#
# In half precision matrices are multiplied faster and activations take half the room; the weights and the
# optimiser stay in float32, because a step of a thousandth of a weight would be lost in half precision.
#
# *bfloat16* has the range of float32 and 8 bits of it for the digits. *float16*, all that older cards have,
# has more digits and little range: gradients below $6 \cdot 10^{-8}$ become zero. So the loss is multiplied
# by a large number before the backward pass and the gradients divided by it after; when they overflow, the
# step is left out and the number halved.

# %%
#| export
PRECISIONS = {'float32': None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}

def mixed(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    "Context in which matrices are multiplied in `precision`; InputError names a wrong one."
    if precision not in PRECISIONS:
        raise InputError(f'precision {precision!r} does not exist; use one of {", ".join(PRECISIONS)}')
    if PRECISIONS[precision] is None: return contextlib.nullcontext()
    return torch.autocast(device.type, PRECISIONS[precision])

def loss_scale(precision: str, device: torch.device) -> torch.amp.GradScaler:
    "The loss scale of float16; for the other precisions it does nothing."
    return torch.amp.GradScaler(device.type, init_scale=2.0 ** 12, enabled=precision == 'float16')


# %%
#| export
def apply_gradients(optimizers: list[torch.optim.Optimizer], scale: torch.amp.GradScaler, clip: float,
                    factor: float) -> float:
    "One update at `factor` of the rate, gradients cut to norm `clip` and then cleared; returns the norm."
    parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group['params']]
    for optimizer in optimizers: scale.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
    for optimizer in optimizers:
        for group in optimizer.param_groups: group['lr'] = group['initial_lr'] * factor
        scale.step(optimizer)
    scale.update()
    for optimizer in optimizers: optimizer.zero_grad()
    return float(norm)


# %% [markdown]
# A least-squares problem in all three precisions. The targets are so small that the gradients of float16
# would vanish without the scale:

# %%
inputs = torch.randn(256, 32, generator=generator)
wanted = 2e-6 * inputs @ torch.randn(32, 8, generator=generator)

def fit(precision, scaled=True):
    weight = torch.nn.Parameter(torch.zeros(8, 32))
    optimizers = make_optimizers([('w', weight)], 'adamw', 6e-8, 0.0)
    scale, losses = loss_scale(precision if scaled else 'float32', weight.device), []
    for _ in range(150):
        with mixed(precision, weight.device): guess = torch.nn.functional.linear(inputs, weight)
        loss = (guess.float() - wanted).square().mean(); scale.scale(loss).backward()
        apply_gradients(optimizers, scale, 1.0, 1.0); losses.append(loss.item())
    return losses

curves = {'float32': fit('float32'), 'bfloat16': fit('bfloat16'), 'float16': fit('float16'),
          'float16 without scale': fit('float16', scaled=False)}
figure, axis = plt.subplots(figsize=(7, 2.5))
for (name, losses), colour, style in zip(curves.items(), PALETTE, ('-', '--', ':', '-')):
    axis.plot(losses, style, label=name, color=colour)
axis.set_yscale('log'); axis.set(xlabel='step', ylabel='loss')
axis.set_title('gradients of float16 vanish without a loss scale')
axis.legend(); plt.show()

# %%
assert all(curves[name][-1] < 0.2 * curves[name][0] for name in PRECISIONS)
assert curves['float16 without scale'][-1] > 0.5 * curves['float16 without scale'][0]
assert isinstance(mixed('float32', inputs.device), contextlib.nullcontext)

# %% [markdown]
# ## What we proved
#
# * a frozen parameter costs neither gradient nor optimiser state, and the merger can be trained alone;
# * Muon moves along all directions of a gradient, AdamW mostly along the strong ones; 8 bits make nearly the
#   same step with a quarter of the state;
# * float16 needs its loss scale, bfloat16 does not.

# %% [markdown]
# ## Try it
#
# 1. Give the word table to Muon as well. What happens to the rows of words that were not in the batch?
# 2. Set `init_scale` to $2^{40}$ and count how many steps are left out before the loss moves.
# 3. For which of your parameters does weight decay make no sense? Give them a group of their own.
#
# <details><summary>Solutions</summary>
#
# 1. Muon makes the update of all rows equally large in the sense of singular values, so rows without a gradient are
#    moved by the orthogonalisation's mixing. Words that were not in the batch drift.
# 2. Each step with an overflow halves the scale and is left out: count until the gradients fit into half precision's
#    65,504.
# 3. Biases, norms and the gates that start at zero: decay pulls them back to a value that means something. Give them
#    `weight_decay=0`.
#
# </details>
