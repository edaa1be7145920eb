# %% [markdown]
# # A tower that has seen the world
# > Dense truth from the simulator teaches the vision tower depth, colour and flow before any word is learned.

# %%
#| default_exp vision

# %% [markdown]
# * **What** pre-training of the tiny vision tower on what every visual token should know about the pixels it covers
# * **Why** the papers start from towers trained on hundreds of millions of pictures and freeze them; ours has two minutes and two cores
# * **Paper** 4DP-QA §4.1 freezes the visual encoder; its geometry encoder L4P is pre-trained on depth, flow and tracks. Doing it
#   to the tower itself, and these targets, are **[ours]**
# * **Needs** torch
# * **Time** 50 seconds; the shipped tower took eight minutes on one core
# * **Before this** `03i_simulator`, `13a_patches`, `14_vlm`

# %%
#| export
import math
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import smooth_l1_loss
from tqdm.auto import tqdm

from track4d_ref.cameras import invert_pose, pixel_centers, project, transform, unproject
from track4d_ref.clips import Clip
from track4d_ref.muon import Muon
from track4d_ref.patches import PatchLayout, video_to_patches
from track4d_ref.presets import Preset
from track4d_ref.runcard import run_card
from track4d_ref.simulator import simulate_clips
from track4d_ref.storage import InputError, atomic_folder, project_path, write_json
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import bare_model, build_vlm, layout_of

# %%
import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.viz import PALETTE, use_style
use_style()

# %% [markdown]
# ## What a visual token should know
#
# One visual token covers a cell of 28 × 28 pixels in two neighbouring frames. The simulator knows the truth about those
# pixels: how far they are, which coloured object they show, and where they go from the first frame to the second. The last
# one is optical flow, and it needs no matching: lift a pixel with its depth, move it with its object, project it again.
# Sky has no depth; far away, only the camera's rotation moves a pixel, so 200 m serve.

# %%
#| export
COLORS = ('red', 'orange', 'yellow', 'green', 'cyan', 'blue', 'purple', 'pink', 'white', 'black')
FAR_M = 200.0
FLOW_UNIT_PX = 6.0            # flows are told in units of this, cut at five of them

def pixel_flow(clip: Clip, frame: int, uv_px: np.ndarray, view_index: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Flow (N, 2) from `frame` to the next in pixels, depth (N,) in metres and instance ids (N,) at pixel centres (N, 2)."
    view = clip.views[view_index]
    columns, rows = np.floor(uv_px).astype(int).T
    depth_m = np.where(view.depth_m[frame, rows, columns] > 0, view.depth_m[frame, rows, columns], np.inf)
    depth_m, ids = np.minimum(depth_m, FAR_M).astype(np.float64), view.instances[frame, rows, columns]
    xyz_world = unproject(view.K, view.w2c[frame], uv_px, depth_m)
    for item in clip.objects:
        step = item.world_from_object[frame + 1] @ invert_pose(item.world_from_object[frame])
        xyz_world[ids == item.id] = transform(step, xyz_world[ids == item.id])
    moved_uv_px, moved_depth_m = project(view.K, view.w2c[frame + 1], xyz_world)
    return np.where(moved_depth_m[:, None] > 0.05, moved_uv_px - uv_px, 0.0), depth_m, ids


# %%
preset = load_preset('tiny')
clips = list(simulate_clips(14, 5, preset))
clip = clips[2]
uv_px = pixel_centers(112, 112)[4::8, 4::8].reshape(-1, 2)
flow_px, depth_m, ids = pixel_flow(clip, 0, uv_px)

# %%
figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.7))
axes[0].imshow(clip.view.frames[0]); axes[0].quiver(*uv_px.T, *flow_px.T, color=PALETTE[4], angles='xy', scale_units='xy', scale=0.5, width=0.006)
axes[1].imshow(depth_m.reshape(14, 14), cmap='viridis_r', norm='log'); axes[2].imshow(ids.reshape(14, 14), cmap='tab10', vmin=0, vmax=9)
for axis, title in zip(axes, ('flow to the next frame (× 2)', 'depth', 'objects')): axis.set_title(title, fontsize=9); axis.axis('off')
plt.show()

# %% [markdown]
# Flow is checked against Eq. 1: it must be the step of the visual track of the point that the pixel shows.

# %%
from track4d_ref.tracks import lift_pixels, visual_track
_, _, xyz_world = lift_pixels(clip, 0, 0, uv_px[depth_m < FAR_M])
track_uv_px, _ = visual_track(clip.view.K, clip.view.w2c, xyz_world)
assert np.allclose(track_uv_px[1] - track_uv_px[0], flow_px[depth_m < FAR_M], atol=1e-3)


# %% [markdown]
# Per token we average over a grid of pixels in its cell: two numbers of flow, the log of the depth, and the share of every
# colour. Colours come from the captions ("red ball"); what is not an object is background.

# %%
#| export
def dense_targets(clip: Clip, layout: PatchLayout = PatchLayout(), step: int = 4) -> np.ndarray:
    "What each visual token should know (tokens, 3 + colours + 1): flow, log depth, colour shares with background last."
    view, cell = clip.view, layout.patch * layout.merge
    grid = pixel_centers(view.height, view.width)[step // 2::step, step // 2::step]
    rows, columns, inner = view.height // cell, view.width // cell, cell // step
    color_of = {item.id: next((k for k, color in enumerate(COLORS) if color in item.caption.split()), len(COLORS)) for item in clip.objects}
    per_pair = []
    for frame in range(0, clip.frames_count, layout.temporal):
        flow_px, depth_m, ids = pixel_flow(clip, frame, grid.reshape(-1, 2))
        shares = np.eye(len(COLORS) + 1)[[color_of.get(id, len(COLORS)) for id in ids]]
        flow = np.clip(flow_px / FLOW_UNIT_PX, -5, 5)
        known = np.concatenate([flow, np.log(depth_m)[:, None] - 2, shares], 1)
        per_pair.append(known.reshape(rows, inner, columns, inner, -1).mean((1, 3)).reshape(rows * columns, -1))
    return np.concatenate(per_pair).astype(np.float32)


# %%
targets = dense_targets(clip)
assert targets.shape == (64, 3 + len(COLORS) + 1) and np.allclose(targets[:, 3:].sum(1), 1, atol=1e-5)


# %% [markdown]
# ## The loss and the loop
#
# A single linear layer reads these numbers off each token. Flow and depth are regressed, colour shares are compared by
# cross-entropy. The layer is thrown away afterwards; what stays is the tower, whose tokens now *contain* the answer in a
# form that is easy to read.

# %%
#| export
def tower_tokens(model, videos: list[np.ndarray]) -> torch.Tensor:
    "Outputs of the vision tower (tokens of all videos, width) for frames (T, H, W, 3) each."
    layout, tower = layout_of(model), bare_model(model).model.visual
    pixels = torch.cat([video_to_patches(frames, layout) for frames in videos])
    grids = torch.tensor([layout.grid(*frames.shape[:3], 'video') for frames in videos])
    return tower(pixels, grid_thw=grids).pooler_output

def dense_loss(told: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    "Flow (Huber) and log depth (L1) regressed, colour shares by cross-entropy; weights [ours]."
    flow = smooth_l1_loss(told[:, :2], truth[:, :2], beta=0.1)
    depth = (told[:, 2] - truth[:, 2]).abs().mean()
    color = -(truth[:, 3:] * told[:, 3:].log_softmax(-1)).sum(-1).mean()
    return 3 * flow + 0.5 * depth + color

def _optimizers(tower, head, learning_rate: float) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in tower.named_parameters() if p.ndim == 2 and 'blocks' in name]
    others = [p for name, p in tower.named_parameters() if not (p.ndim == 2 and 'blocks' in name)] + list(head.parameters())
    return [Muon(matrices, lr=10 * learning_rate), torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98))]


# %%
#| export
def pretrain_tower(model, frames: np.ndarray, targets: np.ndarray, seconds: float, learning_rate: float = 2e-3, batch: int = 16,
                   seed: int = 0, progress: bool = True) -> tuple[torch.nn.Linear, list[float]]:
    "Train the tower in place on clips (N, T, H, W, 3) with targets (N, tokens, D); the head and the loss of every step."
    tower, rng, losses = bare_model(model).model.visual, np.random.default_rng(seed), []
    head = torch.nn.Linear(bare_model(model).config.text_config.hidden_size, targets.shape[-1])
    optimizers, order, start = _optimizers(tower, head, learning_rate), [], time.perf_counter()
    base = [[group['lr'] for group in optimizer.param_groups] for optimizer in optimizers]
    with tqdm(total=int(seconds), desc='pre-training the tower', unit='s', disable=not progress) as bar:
        while (done := (time.perf_counter() - start) / seconds) < 1:
            if len(order) < batch: order = [*order, *rng.permutation(len(frames))]
            chosen, order = order[:batch], order[batch:]
            loss = dense_loss(head(tower_tokens(model, [frames[i] for i in chosen])), torch.as_tensor(targets[chosen]).flatten(0, 1))
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*tower.parameters(), *head.parameters()], 1.0)
            factor = min(1, len(losses) / 30) * 0.5 * (1 + math.cos(math.pi * done))
            for optimizer, rates in zip(optimizers, base):
                for group, rate in zip(optimizer.param_groups, rates): group['lr'] = rate * factor
                optimizer.step(); optimizer.zero_grad()
            losses.append(loss.item())
            bar.update(min(int(done * seconds), bar.total) - bar.n)
    return head, losses


# %% [markdown]
# A few seconds are enough to see the loss fall; the shipped tower had 1,100 steps on 2,200 clips.

# %%
tokenizer = train_tokenizer(['a line of text'], 300)
fresh = build_vlm(preset, tokenizer)
frames, truth = np.stack([c.view.frames for c in clips]), np.stack([dense_targets(c) for c in clips])
_, losses = pretrain_tower(fresh, frames[:12], truth[:12], seconds=12, batch=4, progress=False)

# %%
figure, axis = plt.subplots(figsize=(7.5, 2)); axis.plot(losses, color=PALETTE[0])
axis.set(xlabel='step', ylabel='dense loss', title='twelve seconds of pre-training'); plt.show()

# %%
assert np.mean(losses[-3:]) < np.mean(losses[:3])


# %% [markdown]
# ## The shipped tower
#
# The tower travels as half-precision safetensors with its head and its run card in `data_samples/vision_tiny`. It is made
# again from nothing by `track4d train vision`. Loading refuses a tower of another size.

# %%
#| export
def save_tower(model, head: torch.nn.Linear, folder: Path | str, card: dict) -> None:
    "Write tower and head (float16 safetensors) and the run card, whole or not at all."
    tensors = {f'tower.{name}': value for name, value in bare_model(model).model.visual.state_dict().items()}
    tensors |= {f'head.{name}': value for name, value in head.state_dict().items()}
    with atomic_folder(folder) as partial:
        save_file({name: value.half().contiguous() for name, value in tensors.items()}, partial / 'weights.safetensors')
        write_json(partial / 'run_card.json', card)

def load_tower(model, folder: Path | str | None = None) -> torch.nn.Linear:
    "Put a saved tower (default: the shipped one) into the model, in place; returns its dense head."
    path = Path(folder) if folder else project_path('data_samples/vision_tiny')
    if not (path / 'weights.safetensors').exists(): raise InputError(f'{path}: holds no weights.safetensors; make it with track4d train vision')
    tensors, tower = load_file(path / 'weights.safetensors'), bare_model(model).model.visual
    weights = {name.removeprefix('tower.'): value.float() for name, value in tensors.items() if name.startswith('tower.')}
    if {name: value.shape for name, value in tower.state_dict().items()} != {name: value.shape for name, value in weights.items()}:
        raise InputError(f'{path}: holds a tower of another size; use the preset named in its run_card.json')
    tower.load_state_dict(weights)
    head = torch.nn.Linear(tensors['head.weight'].shape[1], tensors['head.weight'].shape[0])
    head.load_state_dict({name: tensors[f'head.{name}'].float() for name in ('weight', 'bias')})
    return head


# %%
#| export
def dense_scores(model, head: torch.nn.Linear, clips: Iterable[Clip]) -> dict[str, float]:
    "On unseen clips: R² of the flow, mean error of the log depth, and how often the most frequent colour of a token is told."
    clips = list(clips)
    truth = torch.as_tensor(np.concatenate([dense_targets(clip, layout_of(model)) for clip in clips]))
    with torch.no_grad(): told = head(tower_tokens(model, [clip.view.frames for clip in clips]))
    flow_error = (told[:, :2] - truth[:, :2]).square().sum() / (truth[:, :2] - truth[:, :2].mean(0)).square().sum()
    colored = truth[:, 3:-1].sum(1) > 0.5
    named = (told[colored, 3:-1].argmax(1) == truth[colored, 3:-1].argmax(1)).float().mean()
    return {'flow_r2': 1 - float(flow_error), 'log_depth_error': float((told[:, 2] - truth[:, 2]).abs().mean()), 'color_accuracy': float(named)}


# %%
#| export
def train_vision(out: Path | str, preset: Preset, clips: int = 2200, seconds: float = 480.0, seed: int = 7) -> dict[str, float]:
    "Make a tower from nothing: simulate, pre-train by the clock, score on 64 unseen clips, save with its run card."
    started, frames, targets = time.perf_counter(), [], []
    for clip in tqdm(simulate_clips(clips, seed, preset), 'simulating', total=clips, unit='clip'):
        frames.append(clip.view.frames); targets.append(dense_targets(clip))
    model = build_vlm(preset, train_tokenizer([''], 300), seed)
    head, losses = pretrain_tower(model, np.stack(frames), np.stack(targets), seconds, seed=seed)
    scores = dense_scores(model, head, simulate_clips(64, seed + 1, preset))
    card = run_card('track4d train vision', preset, seed, started=started, clips=clips, steps=len(losses), scores=scores)
    save_tower(model, head, out, card)
    return scores | {'steps': len(losses)}


# %%
model = build_vlm(preset, tokenizer)
head = load_tower(model)
unseen = list(simulate_clips(24, 90210, preset))
scores = dense_scores(model, head, unseen)
scores

# %%
clip = unseen[3]
with torch.no_grad(): told = head(tower_tokens(model, [clip.view.frames])).numpy()
truth, centers = dense_targets(clip), pixel_centers(4, 4).reshape(-1, 2) * 28
figure, axes = plt.subplots(1, 4, figsize=(7.5, 2.3))
for axis, values, title in zip(axes[:2], (truth, told), ('flow: truth', 'flow: read off the tokens')):
    axis.imshow(clip.view.frames[0]); axis.quiver(*centers.T, *values[:16, :2].T * FLOW_UNIT_PX, color=PALETTE[4], angles='xy', scale_units='xy', scale=0.4, width=0.012)
    axis.set_title(title, fontsize=8); axis.axis('off')
for axis, values, title in zip(axes[2:], (truth, told), ('log depth: truth', 'log depth: read off')):
    axis.imshow(values[:16, 2].reshape(4, 4), cmap='viridis_r', vmin=truth[:16, 2].min(), vmax=truth[:16, 2].max()); axis.set_title(title, fontsize=8); axis.axis('off')
plt.show()

# %%
assert scores['flow_r2'] > 0.5 and scores['log_depth_error'] < 0.25
untrained = build_vlm(preset, tokenizer)
assert dense_scores(untrained, head, unseen)['flow_r2'] < 0.1           # the head alone knows nothing

# %% [markdown]
# ## What we proved
#
# * The flow we teach is exactly the step of the visual track of Eq. 1.
# * After a few minutes a linear layer reads flow, depth and colour off the tokens of clips the tower has never seen.
#
# ## Try it
#
# 1. Train the tower without the flow. How much slower does `22_sft` learn camera movement?
# 2. Read the *object's* true motion off a token instead of its flow. Is that possible from two frames?
#
# <details><summary>Solutions</summary>
#
# 1. `train_vision` without the flow term, then the same `22_sft` with both towers; compare the steps until camera
#    movement leaves its prior. Motion must then be learned from answers, which are few.
# 2. From two frames a token sees its own displacement, which mixes camera and object. True motion needs the camera's
#    motion as well, which only tokens of the background tell: no single token suffices.
#
# </details>
