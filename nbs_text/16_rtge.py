# %% [markdown]
# # Ray–time geometry encoding
# > Every visual token learns which ray it looks along and when: LMM-Track4D's RTGE, a no-op on the base model at the start.

# %%
#| default_exp rtge

# %% [markdown]
# #| export
# Rays are lines of the world in metres. A *tag* is what one visual token knows about its geometry: line (6) = [moment / scale,
# unit direction], time in [0, 1] over the clip, seconds since the token before it in the same view. Tokens keep the order of
# the vision tower: pair of frames, then row, then column; views one after the other.

# %% [markdown]
# * **What** a tag of ray and time for every visual token, and the encoder that adds it to the token
# * **Why** a Qwen token knows its row and column in the picture; where the camera stood, it does not know
# * **Paper** LMM-Track4D, "Ray–Time Geometry Encoding": the authors give its name, its purpose and that cameras are inputs.
#   **The paper's equations were not available; every equation here is [ours]**
# * **Needs** torch, `cameras`, `patches`
# * **Time** 20 seconds
# * **Before this** `01_cameras`, `13a_patches`

# %%
#| export
import math
from dataclasses import dataclass

import torch
from torch import nn

from track4d_ref.cameras import camera_rays, pluecker
from track4d_ref.patches import PatchLayout
from track4d_ref.storage import InputError

# %%
import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.cameras import camera_center, intrinsics, invert_pose, look_at, pose_from, project, rotation_about
from track4d_ref.viz import time_colors, use_style

use_style()


# %% [markdown]
# ## What is known, and what we chose
#
# | stated by the authors | our reading **[ours]** |
# |---|---|
# | "ray-time geometry" augments the language model | a tag per visual token: Plücker line and time |
# | intrinsics and extrinsics are given | rays come from $K$ and `w2c`, no depth |
# | pixels as camera rays, in the time dimension | Fourier features of line, normalised time, and raw seconds |
# | nothing on how it enters | added to the token with a scalar $\alpha$ that starts at 0, or as FiLM |
#
# For the centre $u$ of a visual token in view $v$ and frame $t$, with the world → camera pose $[R\,|\,\mathbf t]$:
#
# $$\mathbf d=\frac{R^\top K^{-1}[u,1]^\top}{\lVert\cdot\rVert},\quad \mathbf o=-R^\top\mathbf t,\quad \mathbf m=\mathbf o\times\mathbf d,\quad
# \mathbf r=[\mathbf m/s;\ \mathbf d],\quad \tilde t=\frac{t-t_0}{t_1-t_0}$$
#
# ## Where a token looks
#
# A token is a square of `patch × merge` pixels of a pair of frames. Its centre is in pixels again, so Π's conventions hold.

# %%
#| export
def token_centers_px(grid: tuple[int, int, int], layout: PatchLayout) -> torch.Tensor:
    "Pixel centres (t, h*w/merge², 2) float64 of the visual tokens of a grid counted in patches."
    rows, columns = (torch.arange(side // layout.merge, dtype=torch.float64) for side in grid[1:])
    v, u = torch.meshgrid((rows + 0.5) * layout.cell, (columns + 0.5) * layout.cell, indexing='ij')
    return torch.stack([u, v], -1).reshape(1, -1, 2).repeat(grid[0], 1, 1)


# %%
layout = PatchLayout(patch=14, merge=2, temporal=2)
grid = layout.grid(frames=10, height=84, width=140)
centers_px = token_centers_px(grid, layout)
assert centers_px.shape == (5, 15, 2) and centers_px[0, 1].tolist() == [42.0, 14.0]


# %% [markdown]
# ## The tags of a view
#
# One pair of frames makes one token, so a token has two poses and two times. **[ours]** It takes the pose of the first
# frame and the mean of the two times. The seconds since the token before it (0 for the first) keep the frame rate: two
# clips with the same normalised times and different speeds must not look alike.
#
# First the slow way, one token at a time, straight from the formulas.

# %%
#| export
@dataclass(frozen=True)
class RayTags:
    "Geometry of n visual tokens; `line` and `time` are what the encoder reads, origin and direction serve the decoder."
    line: torch.Tensor         # (n, 6) moment / scale, unit direction
    time: torch.Tensor         # (n,) in [0, 1]
    step_s: torch.Tensor       # (n,) seconds since the previous token of this view
    origin_m: torch.Tensor     # (n, 3)
    direction: torch.Tensor    # (n, 3)
    time_s: torch.Tensor       # (n,) on the clip's clock
    view: torch.Tensor         # (n,) number of the view

    def __len__(self) -> int: return len(self.time)

    def select(self, index) -> 'RayTags':
        "The tags at `index` (numbers or a mask)."
        return RayTags(**{name: value[index] for name, value in vars(self).items()})

    def to(self, *args) -> 'RayTags':
        "The same tags in another dtype or on another device; view numbers stay whole."
        moved = {name: value.to(*args) for name, value in vars(self).items()}
        return RayTags(**moved | {'view': moved['view'].long()})


# %%
def view_tags_v1(K, w2c, times_s, grid, layout, scale_m):
    rows = []
    for pair in range(grid[0]):
        first = pair * layout.temporal
        R, t = w2c[first, :3, :3], w2c[first, :3, 3]
        now = times_s[first:first + layout.temporal].mean()
        before = times_s[first - layout.temporal:first].mean() if pair else now
        for i in range(grid[1] // layout.merge):
            for j in range(grid[2] // layout.merge):
                u = np.array([(j + 0.5) * layout.cell, (i + 0.5) * layout.cell, 1.0])
                d = R.T @ np.linalg.inv(K) @ u
                d = d / np.linalg.norm(d)
                o = -R.T @ t
                span = times_s[-1] - times_s[0]
                rows.append(np.concatenate([np.cross(o, d) / scale_m, d, [(now - times_s[0]) / span, now - before]]))
    return np.array(rows)


# %% [markdown]
# Then all at once. `scene_scale_m` is the $s$ of the formula: since $\lVert\mathbf o\times\mathbf d\rVert\le\lVert\mathbf o\rVert$, the largest
# distance of a camera from the origin bounds every moment. A camera that stands still *at* the origin has no moments at
# all, so $s$ is at least one metre **[ours]**.

# %%
#| export
def scene_scale_m(camera_centers_m: torch.Tensor) -> float:
    "Metres by which moments are divided: the farthest camera centre (..., 3) from the world origin, at least 1."
    return max(1.0, float(camera_centers_m.norm(dim=-1).max()))


# %%
#| export
def view_tags(K, w2c, times_s, grid: tuple[int, int, int], layout: PatchLayout, scale_m: float, view: int = 0,
              clock_s: tuple[float, float] | None = None) -> RayTags:
    """Tags of all tokens of one view: K (3, 3), w2c (T, 4, 4), times_s (T,) of the frames the model is shown.

    `clock_s` are the first and last second of the whole clip if the frames are only a part of it."""
    K, w2c, times_s = (torch.as_tensor(value, dtype=torch.float64) for value in (K, w2c, times_s))
    if len(times_s) != grid[0] * layout.temporal or len(w2c) != len(times_s):
        raise InputError(f'view {view}: {len(w2c)} poses and {len(times_s)} times for {grid[0] * layout.temporal} frames; '
                         'give one of each per frame')
    centers = token_centers_px(grid, layout)                                          # (t, m, 2)
    origin_m, direction = camera_rays(K, w2c[::layout.temporal], centers)             # (t, m, 3)
    line = pluecker(origin_m, direction)
    line = torch.cat([line[..., :3] / scale_m, line[..., 3:]], -1)
    pair_s = times_s.reshape(-1, layout.temporal).mean(1)                             # (t,)
    first_s, last_s = clock_s or (float(times_s[0]), float(times_s[-1]))
    step_s = torch.diff(pair_s, prepend=pair_s[:1])
    spread = lambda values: values[:, None].expand(-1, centers.shape[1]).reshape(-1)
    return RayTags(line.flatten(0, 1), spread((pair_s - first_s) / max(last_s - first_s, 1e-9)), spread(step_s),
                   origin_m.flatten(0, 1), direction.flatten(0, 1), spread(pair_s),
                   torch.full((centers.shape[0] * centers.shape[1],), view))


# %%
#| export
def join_tags(parts: list[RayTags]) -> RayTags:
    "The tags of several views, one after the other."
    return RayTags(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


# %%
K = intrinsics(fx=120.0, fy=95.0, cx=64.0, cy=47.0)
times_s = np.arange(10) / 5.0
w2c = np.stack([look_at((3 * np.sin(a), -4 * np.cos(a), 1.6), (0, 0, 0.5), (0, 0, 1), roll_rad=0.2) for a in times_s * 0.5])
scale_m = scene_scale_m(torch.tensor(camera_center(w2c)))
tags = view_tags(K, w2c, times_s, grid, layout, scale_m)
slow = view_tags_v1(K, w2c, times_s, grid, layout, scale_m)
fast = torch.cat([tags.line, tags.time[:, None], tags.step_s[:, None]], -1).numpy()
print('tokens', len(tags), ' largest difference', np.abs(slow - fast).max(), ' scale', round(scale_m, 2), 'm')
assert np.abs(slow - fast).max() < 1e-12


# %% [markdown]
# The fan of rays from above, coloured by time: the camera walks around the scene, and every token of the middle row of
# every pair of frames is one ray. All rays of a colour leave from one point; the fans turn with the camera.

# %%
def draw_fan(axis, tags, rows, length=6.5):
    moments = torch.unique(tags.time_s)
    for moment, color in zip(moments, time_colors(len(moments))):
        part = tags.select(torch.nonzero(tags.time_s == moment)[rows, 0])
        for o, d in zip(part.origin_m.numpy(), part.direction.numpy()):
            axis.plot(*np.stack([o, o + length * d]).T[:2], color=color, linewidth=1.1, alpha=0.85)
        axis.scatter(*part.origin_m[0, :2].numpy(), color=color, s=60, edgecolors='white', zorder=5)
        axis.annotate(f'{float(moment):.1f} s', part.origin_m[0, :2].numpy(), (0, -13), textcoords='offset points', ha='center', fontsize=8)

figure, axis = plt.subplots(figsize=(6, 4.4), dpi=90)
draw_fan(axis, tags, slice(5, 10))
axis.scatter(0, 0, color='k', s=40, marker='x', zorder=6)
axis.set(xlabel='x (m)', ylabel='y (m)', aspect='equal', ylim=(-5, 3.2), title='One ray per token, from above; violet early, yellow late')
plt.show()

# %%
assert torch.allclose((tags.line[:, :3] * tags.line[:, 3:]).sum(-1), torch.zeros(len(tags), dtype=torch.float64), atol=1e-12)
assert tags.line[:, :3].norm(dim=-1).max() <= 1 and torch.allclose(tags.line[:, 3:].norm(dim=-1), torch.ones(75, dtype=torch.float64))

# %% [markdown]
# ## What must not change it, and what must
#
# * sliding the origin along the ray leaves the moment alone;
# * a rigid motion of world and cameras turns the directions and nothing else about them;
# * twice the frame rate halves `step_s`, exactly, and leaves the normalised time alone;
# * the world's origin *does* matter to moments. It is therefore fixed once: the first frame's first camera.

# %%
moved = rotation_about((1, 2, 3), 0.8)
rigid = pose_from(moved, np.array([2.0, -1.0, 0.5]))
turned = view_tags(K, w2c @ invert_pose(rigid), times_s, grid, layout, scale_m)
faster = view_tags(K, w2c, times_s / 2, grid, layout, scale_m)
slid = pluecker(tags.origin_m + 2.7 * tags.direction, tags.direction)
assert torch.allclose(turned.direction, tags.direction @ torch.tensor(moved).T, atol=1e-12)
assert torch.equal(faster.step_s, tags.step_s / 2) and torch.allclose(faster.time, tags.time)
assert torch.allclose(slid[:, :3] / scale_m, tags.line[:, :3], atol=1e-12)
assert not torch.allclose(turned.line, tags.line)

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 2.4), dpi=90)
for name, part, color in (('5 frames/s', tags, '#0072B2'), ('10 frames/s', faster, '#D55E00')):
    axes[0].plot(part.time.numpy()[::15], 'o-', color=color, markersize=4, label=name)
    axes[1].plot(part.step_s.numpy()[::15], 'o-', color=color, markersize=4)
axes[0].set(xlabel='pair of frames', title='normalised time'); axes[1].set(xlabel='pair of frames', title='seconds since the last')
axes[0].legend(); plt.show()
assert abs(faster.step_s[-1] - 0.2) < 1e-12 and abs(tags.step_s[-1] - 0.4) < 1e-12


# %% [markdown]
# ## Fourier features
#
# $$\gamma_L(x)=[x,\ \sin 2^0\pi x,\ \cos 2^0\pi x,\ \dots,\ \sin 2^{L-1}\pi x,\ \cos 2^{L-1}\pi x]$$
#
# A small network cannot tell directions apart that differ by a degree; sines of growing frequency spread them out.
# $\gamma$ acts on each component, the values of one component stay together.

# %%
def fourier_v1(x, levels):
    values = [x]
    for level in range(levels): values += [math.sin(2 ** level * math.pi * x), math.cos(2 ** level * math.pi * x)]
    return values


# %%
#| export
def fourier_features(x: torch.Tensor, levels: int) -> torch.Tensor:
    "γ_L of every component: (..., D) → (..., D * (1 + 2 L))."
    angle = x[..., None] * math.pi * 2.0 ** torch.arange(levels, dtype=x.dtype, device=x.device)   # (..., D, L)
    waves = torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)                                # (..., D, 2 L)
    return torch.cat([x[..., None], waves], -1).flatten(-2)


# %%
x = torch.linspace(-1, 1, 121, dtype=torch.float64)[:, None]
features = fourier_features(x, 4)
figure, axis = plt.subplots(figsize=(6, 2.2), dpi=90)
axis.imshow(features.T, aspect='auto', extent=(-1, 1, 9, 0), cmap='RdBu')
axis.set(xlabel='x', ylabel='feature', title='One number becomes nine: itself and four octaves'); plt.show()
both = fourier_features(torch.tensor([[0.3, -0.7]], dtype=torch.float64), 3)[0]
assert torch.allclose(both, torch.tensor(fourier_v1(0.3, 3) + fourier_v1(-0.7, 3), dtype=torch.float64))
assert torch.autograd.gradcheck(lambda v: fourier_features(v, 3), torch.rand(4, 2, dtype=torch.float64, requires_grad=True))


# %% [markdown]
# ## The encoder
#
# $$\mathbf g=\mathrm{MLP}\big([\gamma_L(\mathbf r);\ \gamma_L(\tilde t);\ \Delta t]\big),\qquad
# \text{add: } \mathbf x'=\mathbf x+\alpha\,\mathbf g,\qquad \text{film: } \mathbf x'=\gamma(\mathbf g)\odot\mathrm{LN}(\mathbf x)+\beta(\mathbf g)$$
#
# `add` starts at $\alpha=0$ and is then the identity, to the last bit. `film` starts at $\gamma=1,\beta=0$, which is
# $\mathrm{LN}(\mathbf x)$ and **not** the identity: it can only be chosen when the model above is trained with it.
# `use_ray` and `use_time` exist for the ablation; what is switched off is fed as zeros, so the sizes do not change.
#
# An $\alpha$ of exactly 0 gives the network behind it no gradient in the first step, only $\alpha$ itself moves. That is the
# price of an exact no-op, and it is paid once.

# %%
#| export
@dataclass(frozen=True)
class RtgeConfig:
    "Options of the encoder; all [ours]."
    width: int                  # of the visual tokens
    hidden: int = 128
    ray_levels: int = 5
    time_levels: int = 4
    mode: str = 'add'           # or 'film'
    use_ray: bool = True
    use_time: bool = True


# %%
#| export
class RayTimeEncoder(nn.Module):
    "RTGE: tags (n) and tokens (n, width) → tokens (n, width); `mode='add'` is the identity at the start."
    def __init__(self, config: RtgeConfig):
        super().__init__()
        self.config = config
        if config.mode not in ('add', 'film'): raise InputError(f"rtge: mode = {config.mode!r}; choose 'add' or 'film'")
        inputs = 6 * (1 + 2 * config.ray_levels) + (1 + 2 * config.time_levels) + 1
        self.network = nn.Sequential(nn.Linear(inputs, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.width))
        if config.mode == 'add': self.strength = nn.Parameter(torch.zeros(()))
        else:
            self.norm = nn.LayerNorm(config.width, elementwise_affine=False)
            self.modulation = nn.Linear(config.width, 2 * config.width)
            nn.init.zeros_(self.modulation.weight)
            self.modulation.bias.data = torch.cat([torch.ones(config.width), torch.zeros(config.width)])

    def encode(self, tags: RayTags) -> torch.Tensor:
        "g (n, width), the same ruler for tokens and for points that a question names."
        dtype = self.network[0].weight.dtype
        ray = fourier_features(tags.line.to(dtype), self.config.ray_levels) * self.config.use_ray
        time = fourier_features(tags.time[:, None].to(dtype), self.config.time_levels)
        time = torch.cat([time, tags.step_s[:, None].to(dtype)], -1) * self.config.use_time
        return self.network(torch.cat([ray, time], -1))

    def forward(self, tokens: torch.Tensor, tags: RayTags) -> torch.Tensor:
        "Tokens (n, width) with their geometry."
        code = self.encode(tags).to(tokens.dtype)
        if self.config.mode == 'add': return tokens + self.strength * code
        scale, shift = self.modulation(code).chunk(2, -1)
        return scale * self.norm(tokens) + shift


# %%
torch.manual_seed(0)
tokens = torch.randn(len(tags), 32)
encoder = RayTimeEncoder(RtgeConfig(width=32))
print(sum(p.numel() for p in encoder.parameters()), 'parameters')
assert torch.equal(encoder(tokens, tags), tokens)                    # bit for bit
film = RayTimeEncoder(RtgeConfig(width=32, mode='film'))
assert torch.allclose(film(tokens, tags), torch.nn.functional.layer_norm(tokens, (32,))) and not torch.allclose(film(tokens, tags), tokens)

# %% [markdown]
# One step of training, and it is no longer the identity. After two, the network behind $\alpha$ has moved as well:

# %%
optimiser = torch.optim.SGD(encoder.parameters(), lr=0.1)
first_layer = encoder.network[0].weight.detach().clone()
moved_at = []
for _ in range(2):
    optimiser.zero_grad()
    (encoder(tokens, tags) - tags.line[:, 3:4].float()).square().mean().backward()
    optimiser.step()
    moved_at.append(not torch.equal(encoder.network[0].weight, first_layer))
assert moved_at == [False, True] and not torch.equal(encoder(tokens, tags), tokens)


# %% [markdown]
# How alike are two tokens in the eyes of the encoder? Below, the similarity of $\mathbf g$ between one token and all others, for
# the full encoder and its two ablations (random weights). Time alone sees stripes of equal frames, the ray alone hardly
# sees time, both together single out the token.

# %%
def similarity(**options):
    torch.manual_seed(1)
    code = RayTimeEncoder(RtgeConfig(width=64, **options)).encode(tags).detach()
    code = code - code.mean(0)
    return torch.nn.functional.cosine_similarity(code, code[37:38]).reshape(5, 3, 5)

figure, axes = plt.subplots(3, 5, figsize=(7.5, 3.1), dpi=90)
rows = {'ray + time': similarity(), 'ray only': similarity(use_time=False), 'time only': similarity(use_ray=False)}
for row, (name, values) in enumerate(rows.items()):
    for pair in range(5):
        axes[row, pair].imshow(values[pair], vmin=-1, vmax=1, cmap='PuOr_r'); axes[row, pair].set(xticks=[], yticks=[])
        if row == 0: axes[row, pair].set_title(f'pair {pair}', fontsize=8)
    axes[row, 0].set_ylabel(name, fontsize=8)
plt.show()
assert all(abs(float(values[2, 1, 2]) - 1) < 1e-5 for values in rows.values())
assert rows['time only'][2].std() < 1e-5 < rows['ray only'][2].std()


# %% [markdown]
# ## A question may point, too
#
# "Track what is at (90, 40) at 0.8 s in view 1" names a ray as well. `point_tag` makes the same tag for a pixel, and `encode`
# puts it on the same ruler as the tokens. LLaVA-4D uses one encoder for text coordinates and pixels; we keep the idea.

# %%
#| export
def point_tag(K, w2c, uv_px, time_s: float, clock_s: tuple[float, float], scale_m: float, view: int = 0) -> RayTags:
    "The tag (1) of one pixel (u, v) seen with K (3, 3) and w2c (4, 4) at `time_s`; its step is 0."
    K, w2c, uv_px = (torch.as_tensor(value, dtype=torch.float64) for value in (K, w2c, uv_px))
    origin_m, direction = camera_rays(K, w2c, uv_px.reshape(1, 2))
    line = pluecker(origin_m, direction)
    now = torch.tensor([float(time_s)], dtype=torch.float64)
    share = (now - clock_s[0]) / max(clock_s[1] - clock_s[0], 1e-9)
    return RayTags(torch.cat([line[:, :3] / scale_m, line[:, 3:]], -1), share, now * 0, origin_m, direction, now,
                   torch.tensor([view]))


# %%
pointed = point_tag(K, w2c[4], centers_px[2, 7], 0.9, (0.0, 1.8), scale_m)
assert torch.allclose(pointed.line[0], tags.line[2 * 15 + 7]) and torch.allclose(pointed.time[0], tags.time[2 * 15 + 7])
point_m = tags.origin_m[37:38] + 3.0 * tags.direction[37:38]
assert torch.allclose(project(torch.tensor(K), torch.tensor(w2c[4]), point_m)[0][0], centers_px[2, 7])

# %% [markdown]
# ## What we proved
#
# * Batched tags equal a double loop on an uneven, rolled, moving camera to 1e-12.
# * Moments are orthogonal to directions, do not change along the ray, and stay below 1 after scaling.
# * Twice the frame rate halves the seconds and leaves normalised time alone.
# * `add` is the identity bit for bit at the start and learns from the second step on; `film` is a layer norm.
#
# ## Try it
#
# 1. Put the world origin at the *scene* instead of the first camera. Which of the pictures change?
# 2. Give the tags of the second frame of each pair instead of the first. How far off is the ray of a fast pan?
# 3. Raise `ray_levels` to 12. Why does the similarity picture fall apart, and what would that do to training?
#
# <details><summary>Solutions</summary>
#
# 1. All that show origins or distances: rays get other origins, directions stay. The advantage of the first camera is
#    that its own ray starts at zero, whatever the scene.
# 2. By the turn between two frames: at a pan of ω rad/s and f frames per second ω/f; compare it with the angle one
#    token covers.
# 3. The highest frequencies then turn within a fraction of a token's spacing: neighbours look unrelated. Training
#    must unlearn that noise, or ignore those channels.
#
# </details>
