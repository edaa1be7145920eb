# %% [markdown]
# # A start that sees change
# > The patch embedding of a new model starts from the statistics of frames: what is there, and what changes, equally loud.

# %%
#| default_exp whitening

# %% [markdown]
# * **What** initial weights of the patch embedding: whitened principal components of the sum and the difference of two frames
# * **Why** in raw pixels brightness is four hundred times as strong as motion, and a new model spends its first thousand
#   steps learning to ignore it
# * **Paper** none; the papers start from trained towers. **[ours]**, without labels, for models that start from nothing
# * **Needs** torch
# * **Time** 20 seconds
# * **Before this** `03i_simulator`, `13a_patches`, `14_vlm`

# %%
#| export
import numpy as np
import torch

from track4d_ref.patches import PatchLayout, video_to_patches
from track4d_ref.storage import InputError
from track4d_ref.vlm import bare_model, layout_of

# %%
import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clips
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm


# %% [markdown]
# ## How quiet motion is
#
# A patch holds two frames $a, b$ of 14 × 14 pixels. Its **sum** $(a+b)/2$ says what is there, its **difference** $(b-a)/2$
# what has changed. Their principal components, found without any label, have very different strengths:

# %%
#| export
def sum_and_difference(frames: np.ndarray, layout: PatchLayout) -> tuple[torch.Tensor, torch.Tensor]:
    "Half sum and half difference of the two frames of every patch, each (patches, 3 * patch * patch), of clips (N, T, H, W, 3)."
    if layout.temporal != 2: raise InputError(f'temporal_patch_size = {layout.temporal}: whitening compares two frames; use 2')
    patches = video_to_patches(frames, layout).reshape(-1, 3, 2, layout.patch ** 2)
    first, second = patches[:, :, 0], patches[:, :, 1]
    return ((first + second) / 2).flatten(1), ((second - first) / 2).flatten(1)

def principal_components(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    "Directions (D, D) in rows and variances (D,) of values (N, D), strongest first; the sign makes the largest entry positive."
    centered = values - values.mean(0)
    variances, columns = torch.linalg.eigh(centered.T.double() @ centered.double() / len(values))
    rows = columns.flip(1).T
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return (rows * largest.sign()).float(), variances.flip(0).clamp(min=0).float()


# %%
preset = load_preset('tiny')
clips = list(simulate_clips(16, 11, preset))
frames = np.stack([clip.view.frames for clip in clips])
stays, changes = sum_and_difference(frames, PatchLayout())
parts = {'sum (what is there)': principal_components(stays), 'difference (what changes)': principal_components(changes)}
fig, ax = plt.subplots(figsize=(6, 2.6), dpi=90)
for (name, (_, variances)), colour in zip(parts.items(), ('#2a6f97', '#c1440e')): ax.semilogy(variances[:200], color=colour, label=name)
ax.set_xlabel('principal component'); ax.set_ylabel('variance'); ax.legend(fontsize=8); plt.show()
loudest = [float(variances.max()) for _, variances in parts.values()]
print(f'strongest component: sum {loudest[0]:.1f}, difference {loudest[1]:.2f}')
assert loudest[0] > 20 * loudest[1]
assert torch.allclose(parts['sum (what is there)'][0] @ parts['sum (what is there)'][0].T, torch.eye(588), atol=1e-4)

# %% [markdown]
# The components themselves, as little pictures: waves of rising frequency, first in brightness, then in colour. Nobody
# designed them; they are what frames are made of.

# %%
fig, axes = plt.subplots(2, 10, figsize=(7.5, 1.8), dpi=90)
for line, (name, (rows, _)) in zip(axes, parts.items()):
    for ax, row in zip(line, rows): ax.imshow(0.5 + 3 * row.reshape(3, 14, 14).permute(1, 2, 0).clamp(-.16, .16)); ax.axis('off')
    line[0].set_title(name, fontsize=8, loc='left')
plt.show()
first = parts['difference (what changes)'][0][0].reshape(3, 14, 14)
assert float(first.std((1, 2)).max()) < float(first.abs().mean())           # the strongest change is one of brightness

# %% [markdown]
# ## Equally loud
#
# Half of the embedding's channels read the strongest components of the sum, half those of the difference, each divided by
# its standard deviation. A component of the sum is the same filter on both frames, one of the difference has opposite
# signs on them; the tower's own class and shapes stay as they are.

# %%
#| export
NOISE = 1e-3   # added to variances: components that hold nothing but rounding stay quiet

def whiten_patch_embedding(model, frames: np.ndarray) -> None:
    "Start the patch embedding, in place, from whitened components of the sum and difference of clips (N, T, H, W, 3)."
    weight = bare_model(model).model.visual.patch_embed.proj.weight      # (channels, 3, 2, patch, patch)
    filters = []
    for values, sign, count in zip(sum_and_difference(frames, layout_of(model)), (1, -1), (len(weight) - len(weight) // 2, len(weight) // 2)):
        rows, variances = principal_components(values)
        if count > len(rows): raise InputError(f'vision_width = {len(weight)} exceeds the {2 * len(rows)} components of a patch; lower it')
        loud = (rows[:count] / (variances[:count, None] + NOISE).sqrt()).reshape(count, 3, 1, *weight.shape[3:])
        filters.append(torch.cat([sign * loud, loud], 2) / 2)
    with torch.no_grad(): weight.copy_(torch.cat(filters))


# %%
tokenizer = train_tokenizer(['a line of text'], 300)
plain, whitened = build_vlm(preset, tokenizer), build_vlm(preset, tokenizer)
whiten_patch_embedding(whitened, frames)
patches = video_to_patches(np.stack([clip.view.frames for clip in simulate_clips(6, 12, preset)]), PatchLayout()).flatten(0, 1)
spread = {name: model.model.visual.patch_embed(patches).std(0).detach() for name, model in (('random', plain), ('whitened', whitened))}
half = preset.vision_width // 2
fig, axes = plt.subplots(1, 2, figsize=(7, 2.2), dpi=90)
for ax, (name, values) in zip(axes, spread.items()):
    ax.bar(range(len(values)), values, color=['#2a6f97'] * half + ['#c1440e'] * half if name == 'whitened' else '#9db4c0')
    ax.set_title(f'{name} start', fontsize=9); ax.set_xlabel('channel'); ax.set_ylabel('standard deviation')
plt.tight_layout(); plt.show()
assert spread['whitened'].min() > 0.3 and spread['whitened'].max() < 3

# %% [markdown]
# And what it does for motion: how much of a channel's strength depends on the second frame at all? We replace the second
# frame by the first and see how far the output moves, in parts of its spread.

# %%
still = patches.reshape(-1, 3, 2, 196).clone()
still[:, :, 1] = still[:, :, 0]
moved = {}
for name, model in (('random', plain), ('whitened', whitened)):
    with torch.no_grad(): out, frozen = model.model.visual.patch_embed(patches), model.model.visual.patch_embed(still.reshape(len(patches), -1))
    moved[name] = float(((out - frozen).square().mean() / out.var(0).mean()).sqrt())
print({name: round(value, 3) for name, value in moved.items()})
assert moved['whitened'] > 2 * moved['random']

# %% [markdown]
# ## What we proved
#
# * The difference of two frames is much weaker than their sum; whitening makes both equally loud on unseen clips.
# * The whitened embedding reacts to the second frame several times as strongly as a random one.

# %% [markdown]
# ## Try it
#
# 1. Give all channels to the difference. Which question types become impossible?
# 2. Whiten without separating sum and difference: how many of the 64 strongest components are still about change?
#
# <details><summary>Solutions</summary>
#
# 1. Those about a single picture: depth, colour, kind. The sum of both frames carries them, the difference only what
#    changes.
# 2. Count, among the strongest 64 components of the joint whitening, those whose weights on the two frames have
#    opposite signs. Appearance has more variance than change, so few remain: that is why they are separated.
#
# </details>
