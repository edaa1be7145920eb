# %% [markdown]
# # An encoder that knows where things go
# > A small video encoder in the spirit of L4P: depth, flow, camera motion, and every token's visual, true-motion and 3D track.

# %%
#| default_exp geometry_encoder

# %% [markdown]
# #| export
# Features are one vector per visual token, in the order of the visual tokens: pair of frames, row, column. A token's *query
# point* is the centre of its cell in the first frame of its pair. Offsets of tracks are in pixels divided by the cell's
# side; steps in 3D are divided by the query point's depth, so that the scale of the world does not matter.

# %% [markdown]
# * **What** `GeometryEncoder`, what it is trained to tell, its training, and how good it is
# * **Why** a language model that gets such features no longer has to discover geometry from answers to questions
# * **Paper** 4DP-QA §3.4 and §4.1: L4P (a video ViT trained on depth, flow, 2D and 3D tracking), to which the authors add the
#   true-motion task; its features go to the language model. The size, the camera motion and the losses are **[ours]**
# * **Needs** torch
# * **Time** 40 seconds; the shipped encoder took the minutes that its run card says
# * **Before this** `05_tracks`, `14a_vision`

# %%
#| export
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from tqdm.auto import tqdm

from track4d_ref.cameras import invert_pose, pixel_centers, transform
from track4d_ref.clips import Clip
from track4d_ref.muon import Muon
from track4d_ref.patches import PatchLayout
from track4d_ref.presets import Preset
from track4d_ref.runcard import run_card
from track4d_ref.simulator import simulate_clips
from track4d_ref.storage import InputError, atomic_folder, project_path, write_json
from track4d_ref.tokens import train_tokenizer
from track4d_ref.track_metrics import all_but_query, track_metrics
from track4d_ref.tracks import lift_pixels, track_points
from track4d_ref.vision import dense_targets, load_tower, tower_tokens
from track4d_ref.vlm import build_vlm

# %%
import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.viz import PALETTE, show_frame, time_colors, use_style
use_style()

# %% [markdown]
# ## What a token must tell
#
# For the query point of every token we know its whole life: lift the pixel with depth and mask, move it with its object
# (`lift_pixels`), then project it twice: with each frame's own camera (Eq. 1) and with the one camera of the query frame
# (Eq. 2). The third answer is the 3D path itself, in the axes of the query camera. Sky has no depth; there nothing is asked.
# The camera tells how it moves: for every pair the turn (rotation vector) and the step between frames, over the whole clip
# and from the pair to its next frame.

# %%
#| export
REACH = 4.0                                          # [ours] offsets are cut at so many cells, about the picture's width

def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    "Axis times angle (..., 3) in radians of rotation matrices (..., 3, 3) that turn by less than half a turn."
    skew = np.stack([rotation[..., 2, 1] - rotation[..., 1, 2], rotation[..., 0, 2] - rotation[..., 2, 0],
                     rotation[..., 1, 0] - rotation[..., 0, 1]], -1) / 2
    sine = np.linalg.norm(skew, axis=-1, keepdims=True)
    angle = np.arctan2(sine, (np.trace(rotation, axis1=-2, axis2=-1)[..., None] - 1) / 2)
    return skew * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)

def camera_targets(clip: Clip, layout: PatchLayout = PatchLayout()) -> np.ndarray:
    "Per pair (pairs, 12): turn and step (rotation vector, metres / median depth) to the next frame and to the clip's last frame."
    view, depth_m = clip.view, clip.view.depth_m
    unit_m, rows = float(np.median(depth_m[depth_m > 0])), []
    for frame in range(0, clip.frames_count, layout.temporal):
        for other in (frame + 1, clip.frames_count - 1):
            step = view.w2c[other] @ invert_pose(view.w2c[frame])
            rows.append(np.concatenate([4 * rotation_vector(step[:3, :3]), step[:3, 3] / unit_m]))
    return np.clip(np.reshape(rows, (-1, 12)), -REACH, REACH).astype(np.float32)


# %%
#| export
@dataclass(frozen=True)
class TrackTargets:
    "For N tokens of a clip of T frames: offsets of both tracks in cells, steps in 3D over the query depth, flags."
    visual: np.ndarray        # (N, T, 2)
    true_motion: np.ndarray   # (N, T, 2)
    path: np.ndarray          # (N, T, 3)
    visible: np.ndarray       # (N, T) bool
    known: np.ndarray         # (N,) bool: the query point has a depth

def _query_tracks(clip: Clip, frame: int, uv_px: np.ndarray, cell: int) -> tuple[np.ndarray, ...]:
    "The same for the query points of one pair."
    _, _, xyz_world = lift_pixels(clip, 0, frame, uv_px)                                     # (T, n, 3)
    visual, true = track_points(clip, xyz_world), track_points(clip, xyz_world, reference=frame)
    xyz_camera = transform(clip.view.w2c[frame], xyz_world)
    path = (xyz_camera - xyz_camera[frame]) / xyz_camera[frame, :, 2:]
    offsets = [(track.uv_px - uv_px) / cell for track in (visual, true)]
    known = np.isfinite(offsets[0]).all((0, 2)) & np.isfinite(offsets[1]).all((0, 2)) & (visual.depth_m > 0).all(0) & (true.depth_m > 0).all(0)
    clean = lambda values: np.clip(np.where(known[None, :, None], values, 0), -REACH, REACH).swapaxes(0, 1).astype(np.float32)
    return clean(offsets[0]), clean(offsets[1]), clean(path), (visual.visible & known).T, known

def query_points(clip: Clip, layout: PatchLayout = PatchLayout()) -> np.ndarray:
    "The centres (rows * columns, 2) of the cells in pixels."
    rows, columns = clip.view.height // layout.cell, clip.view.width // layout.cell
    return pixel_centers(rows, columns).reshape(-1, 2) * layout.cell


# %%
#| export
def track_targets(clip: Clip, layout: PatchLayout = PatchLayout()) -> TrackTargets:
    "What all visual tokens of a clip should know about the life of their query point."
    uv_px = query_points(clip, layout)
    parts = [_query_tracks(clip, frame, uv_px, layout.cell) for frame in range(0, clip.frames_count, layout.temporal)]
    return TrackTargets(*(np.concatenate(values) for values in zip(*parts)))


# %%
preset = load_preset('tiny')
clips = list(simulate_clips(24, 4242, preset))
clip = next(clip for clip in clips if clip.meta['camera_program'] not in ('static', 'still'))
targets = track_targets(clip)

def draw_offsets(axis, clip, offsets, known, frame, title, tokens=range(16)):
    "Tracks of one pair's tokens, time as a colour ramp."
    show_frame(axis, clip.view, frame, title, wash=0.35)
    for n in tokens:
        if not known[n]: continue
        line = query_points(clip)[n % 16] + offsets[n] * 28
        axis.plot(*line.T, color='white', lw=2); axis.scatter(*line.T, c=time_colors(len(line)), s=7, zorder=3)

figure, axes = plt.subplots(1, 2, figsize=(7, 3.5))
draw_offsets(axes[0], clip, targets.visual, targets.known, 0, 'visual tracks (Eq. 1)')
draw_offsets(axes[1], clip, targets.true_motion, targets.known, 0, 'true motion (Eq. 2): only what moves')
plt.show()

# %% [markdown]
# Both tracks begin at the query point, and a static camera makes them equal. That is checked here on all clips; the
# rotation vector is checked against the matrices it came from.

# %%
from track4d_ref.cameras import rotation_about
for number, one in enumerate(clips):
    told = track_targets(one)
    for pair in range(4):
        rows = slice(16 * pair, 16 * pair + 16)
        assert np.allclose(told.visual[rows, 2 * pair], 0, atol=1e-4) and np.allclose(told.true_motion[rows, 2 * pair], 0, atol=1e-4)
    if np.allclose(one.view.w2c, one.view.w2c[0]): assert np.allclose(told.visual, told.true_motion, atol=1e-4)
for angle in (1e-12, 0.3, 3.0):
    axis = np.array([0.48, -0.6, 0.64])
    assert np.allclose(rotation_vector(rotation_about(axis, angle)), axis * angle, atol=1e-9)


# %% [markdown]
# ## The encoder
#
# Qwen2.5-VL's vision tower looks at one pair of frames at a time: its attention never crosses time. Where a point goes
# over the whole clip can't be told from one pair, so on top of a tower (the shipped one, frozen) sit a few layers in which
# all tokens of the clip see each other. Learned vectors say which pair and which cell a token is. Linear heads read off
# what the token knows and are not used afterwards.

# %%
#| export
class GeometryEncoder(nn.Module):
    "Tokens of a frozen tower (B, N, width) → features (B, N, width); `tell` reads the geometry off them."

    def __init__(self, width: int, pairs: int, cells: int, frames: int, layers: int = 3, heads: int = 6):
        super().__init__()
        self.frames, self.shape = frames, (pairs, cells)
        self.when, self.where = nn.Parameter(0.02 * torch.randn(pairs, 1, width)), nn.Parameter(0.02 * torch.randn(1, cells, width))
        block = lambda: nn.TransformerEncoderLayer(width, heads, 3 * width, dropout=0.0, activation='gelu', batch_first=True, norm_first=True)
        self.enter, self.blocks, self.leave = nn.LayerNorm(width), nn.ModuleList([block() for _ in range(layers)]), nn.LayerNorm(width)
        self.heads = nn.ModuleDict(dict(dense=nn.Linear(width, 3), visual=nn.Linear(width, 2 * frames), true_motion=nn.Linear(width, 2 * frames),
                                        path=nn.Linear(width, 3 * frames), visible=nn.Linear(width, frames), camera=nn.Linear(width, 12)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        "Features (B, N, width) of tower tokens (B, N, width)."
        states = self.enter(tokens) + (self.when + self.where).flatten(0, 1)
        for block in self.blocks: states = block(states)
        return self.leave(states)

    def tell(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        "Everything the heads read: dense (B, N, 3), tracks (B, N, T, 2 or 3), visible (B, N, T) logits, camera (B, pairs, 12)."
        told = {name: self.heads[name](features) for name in ('dense', 'visual', 'true_motion', 'path', 'visible')}
        for name, size in (('visual', 2), ('true_motion', 2), ('path', 3)): told[name] = told[name].unflatten(-1, (self.frames, size))
        return told | dict(camera=self.heads['camera'](features.unflatten(1, self.shape).mean(2)))


# %%
#| export
def build_encoder(preset: Preset, seed: int = 0, layers: int = 3) -> GeometryEncoder:
    "A new encoder for clips of the preset's size; the same seed gives the same weights."
    cells = (preset.resolution // (preset.patch_size * preset.merge_size)) ** 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GeometryEncoder(preset.text_width, preset.frames // preset.temporal_patch_size, cells, preset.frames, layers, preset.text_heads)


# %%
tower = build_vlm(preset, train_tokenizer(['a line'], 300))
load_tower(tower)
encoder = build_encoder(preset)
with torch.no_grad(): tokens = torch.stack([tower_tokens(tower, [clip.view.frames]) for clip in clips])     # (24, 64, 192)
features = encoder(tokens)
told = encoder.tell(features)
for name, value in told.items(): print(f'{name:12s} {tuple(value.shape)}')
print(f'{sum(p.numel() for p in encoder.parameters()):,} parameters above the tower')

# %% [markdown]
# The tower alone does not see beyond its pair: change the last two frames, and the tokens of the first pair stay as they
# were. With the encoder on top they move.

# %%
changed = clips[0].view.frames.copy(); changed[6:] = 255 - changed[6:]
with torch.no_grad():
    before, after = tokens[0], tower_tokens(tower, [changed])
    moved = [(after - before).abs().amax(1), (encoder(after[None]) - encoder(before[None])).abs()[0].amax(1)]
figure, axes = plt.subplots(1, 2, figsize=(7, 1.5), sharey=True)
for axis, values, title in zip(axes, moved, ('tower alone', 'with the encoder')):
    axis.bar(range(64), values, color=[PALETTE[k // 16] for k in range(64)]); axis.set(title=title, xlabel='token (colour: pair)', yscale='symlog')
plt.show()
assert float(moved[0][:48].max()) == 0 and float(moved[1][:48].min()) > 0

# %% [markdown]
# ## Training
#
# The tower is frozen, so its tokens are computed once per clip; after that a step costs milliseconds. Regression by Huber's
# loss, visibility by cross-entropy, each with a weight **[ours]**.

# %%
#| export
WEIGHTS = dict(dense=1.0, visual=1.0, true_motion=1.0, path=1.0, visible=0.3, camera=1.0)     # [ours]

@dataclass(frozen=True)
class GeometrySet:
    "Tower tokens and truth of many clips, one row each."
    tokens: torch.Tensor      # (M, N, width)
    dense: torch.Tensor       # (M, N, 3): flow, log depth
    visual: torch.Tensor      # (M, N, T, 2)
    true_motion: torch.Tensor
    path: torch.Tensor        # (M, N, T, 3)
    visible: torch.Tensor     # (M, N, T)
    known: torch.Tensor       # (M, N)
    camera: torch.Tensor      # (M, pairs, 12)

    def __getitem__(self, rows) -> 'GeometrySet': return GeometrySet(*(value[rows] for value in vars(self).values()))
    def __len__(self) -> int: return len(self.tokens)

def geometry_set(model, clips: Iterable[Clip]) -> GeometrySet:
    "Tokens of the model's tower, and the truth, for simulated clips."
    rows = []
    for clip in clips:
        with torch.no_grad(): tokens = tower_tokens(model, [clip.view.frames]).half()
        tracks = track_targets(clip)
        truth = (dense_targets(clip)[:, :3], tracks.visual, tracks.true_motion, tracks.path, tracks.visible, tracks.known, camera_targets(clip))
        rows.append((tokens, *(torch.as_tensor(value) for value in truth)))
    return GeometrySet(*(torch.stack(values) for values in zip(*rows)))


# %%
#| export
def geometry_losses(told: dict[str, torch.Tensor], truth: GeometrySet) -> dict[str, torch.Tensor]:
    "One loss per task; tracks count where the query point has a depth."
    losses = {name: smooth_l1_loss(told[name], getattr(truth, name), beta=0.1) for name in ('dense', 'camera')}
    for name in ('visual', 'true_motion', 'path'):
        losses[name] = smooth_l1_loss(told[name][truth.known], getattr(truth, name)[truth.known], beta=0.1)
    seen = truth.visible[truth.known].to(told['visible'].dtype)
    return losses | dict(visible=binary_cross_entropy_with_logits(told['visible'][truth.known], seen))


# %%
#| export
def train_encoder(encoder: GeometryEncoder, data: GeometrySet, steps: int, batch: int = 32, learning_rate: float = 1e-3,
                  seed: int = 0, progress: bool = True) -> list[float]:
    "Train in place, warm-up and cosine; the loss of every step. The same arguments give the same weights."
    rng, losses, order = np.random.default_rng(seed), [], []
    matrices = [p for name, p in encoder.named_parameters() if p.ndim == 2 and 'blocks' in name]
    others = [p for name, p in encoder.named_parameters() if not (p.ndim == 2 and 'blocks' in name)]
    optimizers = [Muon(matrices, lr=10 * learning_rate, weight_decay=0.01), torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.01)]
    base = [group['lr'] for optimizer in optimizers for group in optimizer.param_groups]
    for number in tqdm(range(steps), 'training the encoder', unit='step', disable=not progress):
        if len(order) < batch: order = [*order, *rng.permutation(len(data))]
        chosen, order = data[torch.as_tensor(order[:batch])], order[batch:]
        parts = geometry_losses(encoder.tell(encoder(chosen.tokens.float())), chosen)
        loss = sum(WEIGHTS[name] * part for name, part in parts.items())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        factor = min(1, (number + 1) / 30) * 0.5 * (1 + math.cos(math.pi * number / steps))
        for optimizer, rate in zip(optimizers, base):
            for group in optimizer.param_groups: group['lr'] = rate * factor
            optimizer.step(); optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# %%
data = geometry_set(tower, clips)
losses = train_encoder(encoder, data, steps=25, batch=8, progress=False)
figure, axis = plt.subplots(figsize=(7, 1.8)); axis.plot(losses, color=PALETTE[0])
axis.set(xlabel='step', ylabel='sum of losses', title='25 steps on 24 clips'); plt.show()
assert np.mean(losses[-3:]) < np.mean(losses[:3])


# %% [markdown]
# ## How good is it?
#
# Depth by the usual relative error, $\text{AbsRel}=\operatorname{mean}|\hat d-d|/d$; tracks by TAP-Vid's
# $\delta_\text{avg}$ (share of visible points within 1, 2, 4, 8 and 16 pixels of a 256 × 256 picture), the query frame left out;
# camera turns in degrees. Beside each number stands what "nothing moves" or "always the mean depth" would get. Most points
# belong to the background, whose true motion is none; so the true-motion score counts only points that travel at least two
# pixels.

# %%
#| export
def geometry_scores(encoder: GeometryEncoder, data: GeometrySet, cell: int = 28, side_px: int = 112) -> dict[str, float]:
    "Depth AbsRel, δ_avg of visual and true-motion tracks, occlusion accuracy, turn error; `still_…` are the zero guesses."
    with torch.no_grad(): told = encoder.tell(encoder(data.tokens.float()))
    depth, guess = data.dense[..., 2].exp(), data.dense[..., 2].mean().exp()
    scores = {'depth_absrel': float(((told['dense'][..., 2].exp() - depth).abs() / depth).mean()),
              'mean_depth_absrel': float(((guess - depth).abs() / depth).mean())}
    frames, query = encoder.frames, np.arange(data.tokens.shape[1]) // encoder.shape[1] * (encoder.frames // encoder.shape[0])
    for name in ('visual', 'true_motion'):
        known = data.known if name == 'visual' else data.known & (data.true_motion.norm(dim=-1).amax(-1) * cell > 2)
        counted = all_but_query(np.broadcast_to(query, known.shape)[known.numpy()], frames)
        seen, said = data.visible[known].numpy().T, (told['visible'][known] > 0).numpy().T              # (T, n)
        truth_px = getattr(data, name)[known].numpy().swapaxes(0, 1) * cell
        for label, guess_px in ((name, told[name][known].numpy().swapaxes(0, 1) * cell), (f'still_{name}', 0 * truth_px)):
            found = track_metrics(truth_px, seen, guess_px, said, counted, side_px, side_px)
            scores[f'{label}_delta_avg'] = found['delta_average']
        if name == 'visual': scores['occlusion_accuracy'] = found['occlusion_accuracy']
    turns = (told['camera'] - data.camera)[..., 6:9].norm(dim=-1) / 4
    return scores | {'turn_error_deg': float(turns.mean().rad2deg()), 'still_turn_error_deg': float((data.camera[..., 6:9].norm(dim=-1) / 4).mean().rad2deg())}


# %% [markdown]
# The shipped encoder travels with its scores. It is made again from nothing by `train_geometry`.

# %%
#| export
def save_encoder(encoder: GeometryEncoder, folder: Path | str, card: dict) -> None:
    "Write the weights (float16 safetensors) and the run card, whole or not at all."
    with atomic_folder(folder) as partial:
        save_file({name: value.half().contiguous() for name, value in encoder.state_dict().items()}, partial / 'weights.safetensors')
        write_json(partial / 'run_card.json', card)

def load_encoder(preset: Preset, folder: Path | str | None = None) -> GeometryEncoder:
    "A saved encoder (default: the shipped one), frozen; InputError if it is missing or of another size."
    path = Path(folder) if folder else project_path('data_samples/geometry_tiny')
    if not (path / 'weights.safetensors').exists(): raise InputError(f'{path}: holds no weights.safetensors; make it with train_geometry')
    encoder, weights = build_encoder(preset), {name: value.float() for name, value in load_file(path / 'weights.safetensors').items()}
    if {name: value.shape for name, value in encoder.state_dict().items()} != {name: value.shape for name, value in weights.items()}:
        raise InputError(f'{path}: holds an encoder of another size; use the preset named in its run_card.json')
    encoder.load_state_dict(weights)
    return encoder.eval().requires_grad_(False)

def train_geometry(out: Path | str, preset: Preset, clips: Iterable[Clip] | None = None, count: int = 4000, steps: int = 600,
                   seed: int = 11) -> dict[str, float]:
    "Make an encoder from nothing on the shipped tower: simulate (unless clips are given), train, score on 64 unseen clips."
    started, model = time.perf_counter(), build_vlm(preset, train_tokenizer([''], 300))
    load_tower(model)
    source = tqdm(clips if clips is not None else simulate_clips(count, seed, preset), 'tower tokens', unit='clip')
    data, encoder = geometry_set(model, source), build_encoder(preset, seed)
    losses = train_encoder(encoder, data, steps, seed=seed)
    scores = geometry_scores(encoder.eval(), geometry_set(model, simulate_clips(64, seed + 1, preset)))
    save_encoder(encoder, out, run_card('train_geometry', preset, seed, started=started, clips=len(data), steps=len(losses), scores=scores))
    return scores | {'steps': len(losses), 'loss': float(np.mean(losses[-20:]))}


# %%
encoder, unseen = load_encoder(preset), list(simulate_clips(24, 90210, preset))
data = geometry_set(tower, unseen)
scores = geometry_scores(encoder, data)
for name, value in scores.items(): print(f'{name:28s} {value:.3f}')

# %%
with torch.no_grad(): told = encoder.tell(encoder(data.tokens.float()))
shown = int(np.argmax([track_targets(one).true_motion.std() for one in unseen]))
figure, axes = plt.subplots(1, 4, figsize=(9, 2.5))
truth = track_targets(unseen[shown])
for axis, offsets, title in zip(axes, (truth.visual, told['visual'][shown].numpy(), truth.true_motion, told['true_motion'][shown].numpy()),
                                ('visual: truth', 'visual: told', 'true motion: truth', 'true motion: told')):
    draw_offsets(axis, unseen[shown], offsets, truth.known, 0, title)
plt.show()

# %%
assert scores['depth_absrel'] < 0.5 * scores['mean_depth_absrel']
assert scores['visual_delta_avg'] > scores['still_visual_delta_avg'] and scores['turn_error_deg'] < 0.7 * scores['still_turn_error_deg']
assert all(not p.requires_grad for p in encoder.parameters())

# %% [markdown]
# ## What we proved
#
# * every token's target tracks start at its query point, and both kinds are one where the camera rests;
# * the tower alone sees a pair of frames, the encoder the whole clip;
# * on unseen clips the encoder knows depth, camera turns and visual tracks far better than a guess;
# * not yet: the true motion of points that move. In the 400 steps of the shipped encoder it stayed at "nothing moves".
#
# ## Try it
#
# 1. Leave the true-motion task out (`WEIGHTS['true_motion'] = 0`) and see what a linear layer can still read of it.
# 2. Train on static cameras only. Which score breaks first on moving ones?
#
# <details><summary>Solutions</summary>
#
# 1. Train with the weight at zero and fit the linear probe on the frozen features, on held-out clips. If something
#    can still be read, depth and flow together contain it; compare with the probe on random features.
# 2. Whatever depends on parallax from the camera: the camera's turn at once, as it never varied, then true motion,
#    which was equal to the flow.
#
# </details>
