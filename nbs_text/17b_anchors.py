# %% [markdown]
# # Anchors
# > Where rays meet, where a thing coasts to: the two geometric guesses from which a trajectory is decoded.

# %%
#| default_exp anchors

# %% [markdown]
# #| export
# J moments of a trajectory, n tokens, V views. Points and origins in metres of one world frame, directions of unit length,
# times in seconds. `kinematic_path` measures time from the first moment.

# %% [markdown]
# * **What** constant-acceleration paths, the weighted meeting point of rays, one mean ray per view, coasting from the last turn
# * **Why** a network that regresses metres from nothing has to learn geometry; these guesses already know it
# * **Paper** LMM-Track4D's "Kinematic, Residual-Anchor" half of OSK-RA: the name, "kinematics keep motion plausible, residual
#   anchoring gives robustness". **Equations not available; all formulas here are [ours]**
# * **Needs** torch, `cameras`
# * **Time** 15 seconds
# * **Before this** `01_cameras`, `16_rtge`

# %%
#| export
import torch

# %%
import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.cameras import camera_rays, intrinsics, look_at, pose_from, project, rotation_about
from track4d_ref.patches import PatchLayout
from track4d_ref.rtge import join_tags, view_tags
from track4d_ref.viz import time_colors, use_style

use_style()


# %% [markdown]
# ## Kinematics
#
# $$\mathbf p^{\rm kin}_j=\mathbf p_0+\mathbf v_0\,\Delta_j+\tfrac12\,\mathbf a_0\,\Delta_j^2,\qquad \Delta_j=\tau_j-\tau_1\ \text{in seconds}$$

# %%
#| export
def kinematic_path(start_m: torch.Tensor, velocity_mps: torch.Tensor, acceleration_mps2: torch.Tensor,
                   times_s: torch.Tensor) -> torch.Tensor:
    "Points (B, J, 3) of constant acceleration from three vectors (B, 3), at times (B, J) counted from the first."
    passed_s = (times_s - times_s[:, :1])[..., None]
    return start_m[:, None] + velocity_mps[:, None] * passed_s + 0.5 * acceleration_mps2[:, None] * passed_s ** 2

def coasting_path(last_m: torch.Tensor, velocity_mps: torch.Tensor, last_s: torch.Tensor,
                  times_s: torch.Tensor) -> torch.Tensor:
    "Points (B, J, 3): the position (B, 3) of time last_s (B,) carried on by its velocity; NaN where nothing is known."
    return last_m[:, None] + velocity_mps[:, None] * (times_s - last_s[:, None])[..., None]


# %%
times_s = torch.tensor([[2.0, 2.5, 3.0, 3.5]], dtype=torch.float64)
thrown = [torch.tensor([values], dtype=torch.float64) for values in ([0.0, 0, 1], [2.0, 0.5, 3], [0.0, 0, -9.81])]
path = kinematic_path(*thrown, times_s)
steps = torch.diff(path[0], dim=0)
figure, axis = plt.subplots(figsize=(5.4, 2.6), dpi=90)
fine_s = torch.linspace(2, 3.5, 50, dtype=torch.float64)[None]
axis.plot(*kinematic_path(*thrown, fine_s)[0][:, [0, 2]].T, color='#7B828D', linewidth=1)
axis.scatter(*path[0][:, [0, 2]].T, c=time_colors(4), s=70, zorder=4)
for j in range(4): axis.annotate(f'Δ = {float(times_s[0, j]) - 2:.1f} s', path[0, j, [0, 2]], (6, 6), textcoords='offset points', fontsize=8)
axis.set(xlabel='x (m)', ylabel='z (m)', title='Nine numbers, four states: a thrown ball', xlim=(-0.2, 3.8)); plt.show()
assert torch.allclose(torch.diff(steps, dim=0)[0] / 0.5 ** 2, thrown[2][0])          # second differences are the acceleration
assert torch.allclose(coasting_path(thrown[0], thrown[1], torch.tensor([1.0]), times_s)[0, 0], thrown[0][0] + thrown[1][0])
assert torch.autograd.gradcheck(kinematic_path, [value.clone().requires_grad_() for value in (*thrown, times_s)])


# %% [markdown]
# ## Where rays meet
#
# $$\mathbf p=\Big(\sum_iw_i(I-\mathbf d_i\mathbf d_i^\top)+\epsilon I\Big)^{-1}\Big(\sum_iw_i(I-\mathbf d_i\mathbf d_i^\top)\,\mathbf o_i+\epsilon\,\mathbf p_{\rm prior}\Big)$$
#
# $I-\mathbf d\mathbf d^\top$ removes what lies along the ray, so the sum is the squared distance to all lines, and $\epsilon$ pulls weakly towards a
# prior. Two rays that cross fix the point; a single ray fixes it up to depth, and then the prior decides the depth.

# %%
def ray_intersection_v1(origin_m, direction, weight, prior_m, epsilon):
    A, b = epsilon * torch.eye(3, dtype=origin_m.dtype), epsilon * prior_m
    for o, d, w in zip(origin_m, direction, weight):
        M = torch.eye(3, dtype=o.dtype) - torch.outer(d, d)
        A, b = A + w * M, b + w * M @ o
    return torch.linalg.inv(A) @ b


# %%
#| export
def ray_intersection(origin_m: torch.Tensor, direction: torch.Tensor, weight: torch.Tensor, prior_m: torch.Tensor,
                     epsilon: float, range_m: torch.Tensor | None = None, along: float = 0.0) -> torch.Tensor:
    """The point (..., 3) nearest to weighted lines (..., n, 3) and, with weight epsilon, to the prior (..., 3).

    With ranges (..., n), each line also pulls towards its point at that range, `along` times as hard as across."""
    eye = torch.eye(3, dtype=origin_m.dtype, device=origin_m.device)
    outer = direction[..., None] * direction[..., None, :]
    goal_m = origin_m if range_m is None else origin_m + direction * range_m[..., None]
    along = 0.0 if range_m is None else along                            # a ray without a range has no say along itself
    pull = (eye - (1 - along) * outer) * weight[..., None, None]                                   # (..., n, 3, 3)
    left = pull.sum(-3) + epsilon * eye
    right = (pull @ goal_m[..., None])[..., 0].sum(-2) + epsilon * prior_m
    return torch.linalg.solve(left, right)


# %%
K = intrinsics(110.0, 90.0, 45.0, 33.0)
cameras = np.stack([look_at((-2, -4, 1.5), (0, 0, 0.5), (0, 0, 1), 0.2), look_at((3, -3, 2.0), (0, 0, 0.5), (0, 0, 1))])
point_m = torch.tensor([0.4, 0.7, 0.9], dtype=torch.float64)
uv_px, _ = project(torch.tensor(K), torch.tensor(cameras), point_m.expand(2, 1, 3))
origin_m, direction = (value[:, 0] for value in camera_rays(torch.tensor(K), torch.tensor(cameras), uv_px))
weight, prior_m = torch.tensor([0.7, 0.2], dtype=torch.float64), torch.tensor([5.0, 5, 5], dtype=torch.float64)
found = ray_intersection(origin_m, direction, weight, prior_m, 1e-9)
print('distance from the point:', float((found - point_m).norm()), 'm')
assert (found - point_m).norm() < 1e-6
assert torch.allclose(ray_intersection(origin_m, direction, weight, prior_m, 0.1), ray_intersection_v1(origin_m, direction, weight, prior_m, 0.1))
assert torch.autograd.gradcheck(lambda *values: ray_intersection(*values, 0.05), [v.clone().requires_grad_() for v in (origin_m, direction, weight, prior_m)])

# %% [markdown]
# A rigid motion of the whole world moves the meeting point with it, and ten times the weights change nothing but the say of the
# prior:

# %%
turn = torch.tensor(pose_from(rotation_about((1, 1, -2), 0.9), np.array([3.0, -1, 2])))
move = lambda points: points @ turn[:3, :3].T + turn[:3, 3]
here = ray_intersection(origin_m, direction, weight, prior_m, 0.05)
there = ray_intersection(move(origin_m), direction @ turn[:3, :3].T, weight, move(prior_m), 0.05)
assert torch.allclose(there, move(here))
assert torch.allclose(ray_intersection(origin_m, direction, 10 * weight, prior_m, 0.5), here)

# %%
figure, axis = plt.subplots(figsize=(5.6, 3.9), dpi=90)
for o, d, color in zip(origin_m, direction, ('#0072B2', '#D55E00')):
    axis.plot(*torch.stack([o, o + 8 * d])[:, :2].T, color=color, linewidth=1.2); axis.scatter(*o[:2], color=color, s=60)
axis.scatter(*prior_m[:2], color='#7B828D', marker='s'); axis.annotate('prior', prior_m[:2], (6, 4), textcoords='offset points')
epsilons = torch.logspace(-4, 2, 60, dtype=torch.float64)
both = torch.stack([ray_intersection(origin_m, direction, weight, prior_m, float(e)) for e in epsilons])
alone = torch.stack([ray_intersection(origin_m[:1], direction[:1], weight[:1], prior_m, float(e)) for e in epsilons])
axis.plot(*both[:, :2].T, color='k', linewidth=2, label='two rays, ε from 0.0001 to 100')
axis.plot(*alone[:, :2].T, color='#0072B2', linewidth=3, alpha=0.5, label='one ray')
axis.scatter(*point_m[:2], color='k', s=60, zorder=5); axis.set(xlabel='x (m)', ylabel='y (m)', aspect='equal', title='One ray: the prior says how far'); axis.legend(loc='lower right')
plt.show()
assert (alone[0] - point_m).norm() > 1 and torch.linalg.cross(alone[0] - origin_m[0], direction[0]).norm() < 0.01

# %% [markdown]
# What if one camera has an idea of the range, say from the size of the thing? Then its ray pulls weakly *along* itself too
# **[ours]**: a view is sure about across and vague about along, an ellipsoid instead of a line. Two rays still decide by
# crossing; a single one now answers with its range instead of the prior.

# %%
true_range_m = (point_m - origin_m).norm(dim=-1)
guess = lambda count, factor, along=0.05: ray_intersection(
    origin_m[:count], direction[:count], weight[:count], prior_m, 1e-6, factor * true_range_m[:count], along)
factors = np.linspace(0.7, 1.3, 25)
off_m = {count: [float((guess(count, float(f)) - point_m).norm()) for f in factors] for count in (1, 2)}
assert (guess(1, 1.0) - point_m).norm() < 1e-3 and off_m[2][0] < 0.35 * off_m[1][0]
assert torch.allclose(guess(2, 0.7, along=0.0), ray_intersection(origin_m, direction, weight, prior_m, 1e-6))

# %%
figure, axis = plt.subplots(figsize=(5.4, 2.3), dpi=90)
for count, color in ((1, '#0072B2'), (2, 'k')):
    axis.plot(100 * (factors - 1), off_m[count], color=color, label=f'{count} ray' + 's' * (count - 1))
axis.set(xlabel='error of the range (%)', ylabel='off by (m)', title='A wrong range hurts one ray, hardly two')
axis.legend(); plt.show()
assert min(off_m[1]) < 1e-3
ranged = lambda o, d, w, p, r: ray_intersection(o, d, w, p, 0.05, r, 0.1)
assert torch.autograd.gradcheck(ranged, [v.clone().requires_grad_() for v in (origin_m, direction, weight, prior_m, true_range_m)])


# %% [markdown]
# ## One ray per view, not one per token
#
# The formula with $w_i$ = attention has a trap. Attention spreads over several tokens of a picture, and *all rays of a
# picture meet in the camera*. If they count as separate rays, the best meeting point of one picture is the camera itself.
# We therefore average directions first, within each view and moment, and let the views meet **[ours]**. A view's say is how
# strongly slot 0 claims what it looks at there.

# %%
#| export
def moment_mask(time_s: torch.Tensor, view: torch.Tensor, mask: torch.Tensor, moments_s: torch.Tensor,
                views: int) -> torch.Tensor:
    "Which tokens (B, J, V, n) are of the pair of frames nearest to each moment (B, J) in each view; the rest is (B, n)."
    mine = mask[:, None] & (view[:, None] == torch.arange(views, device=view.device)[None, :, None])     # (B, V, n)
    gap = (time_s[:, None, None] - moments_s[:, :, None, None]).abs().masked_fill(~mine[:, None], torch.inf)
    return mine[:, None] & (gap <= gap.amin(-1, keepdim=True) + 1e-6)

def mean_rays(origin_m: torch.Tensor, direction: torch.Tensor,
              attention: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    "Mean origins and unit directions (B, J, V, 3) of rays (B, n, 3) under attention (B, J, V, n); zero for an empty view."
    mean = attention @ direction[:, None]
    return attention @ origin_m[:, None], mean / mean.norm(dim=-1, keepdim=True).clamp(min=1e-8)

def focus_of(logits: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    "Softmax of slot 0's logits (B, n) inside each moment and view (B, J, V, n); zeros where a view has no token."
    shifted = logits[:, None, None].masked_fill(~inside, -torch.inf)
    return torch.where(inside.any(-1, keepdim=True), shifted, 0.0).softmax(-1) * inside


# %%
layout = PatchLayout(4, 2, 2)
grid = layout.grid(4, 80, 112)
poses = [np.stack([look_at((x, -5, 1.5), (0, 0, 0.5), (0, 0, 1))] * 4) for x in (-2.0, 2.5)]
tags = join_tags([view_tags(K, pose, np.arange(4) / 4, grid, layout, 5.0, view) for view, pose in enumerate(poses)])
batch = lambda name: getattr(tags, name)[None]
target_m = torch.tensor([0.3, 0.2, 0.6], dtype=torch.float64)
away = torch.linalg.cross(target_m - tags.origin_m, tags.direction).norm(dim=-1)                     # distance of each ray
inside = moment_mask(batch('time_s'), batch('view'), torch.ones(1, len(tags), dtype=torch.bool), torch.tensor([[0.1, 0.7]]), 2)
focus = focus_of(-(away[None] / 0.7) ** 2, inside)
assert inside.sum(-1).tolist() == [[[140, 140], [140, 140]]] and torch.allclose(focus.sum(-1), torch.ones(1, 2, 2, dtype=torch.float64))

# %%
prior = torch.tensor([0.0, 1, 1], dtype=torch.float64)
every_token = ray_intersection(tags.origin_m, tags.direction, focus[0, 0].sum(0), prior, 1e-4)
ray_origin_m, ray_direction = mean_rays(batch('origin_m'), batch('direction'), focus)
per_view = ray_intersection(ray_origin_m[0, 0], ray_direction[0, 0], torch.ones(2, dtype=torch.float64), prior, 1e-4)
one_view = ray_intersection(tags.origin_m, tags.direction, focus[0, 0, 0], prior, 1e-4)
away_m = lambda place, goal=target_m: round(float((place - goal).norm()), 3)
print(f'one picture, all its tokens: {away_m(one_view, tags.origin_m[0])} m from the camera, {away_m(one_view)} m from the target')
print(f'two pictures: {away_m(every_token)} m off with all tokens, {away_m(per_view)} m with one ray per view')
assert away_m(one_view, tags.origin_m[0]) < 0.5 and away_m(per_view) < away_m(every_token)

# %%
figure, axis = plt.subplots(figsize=(6, 3.9), dpi=90)
for view, color in enumerate(('#0072B2', '#D55E00')):
    here = focus[0, 0, view] > 0.004
    for o, d, w in zip(tags.origin_m[here], tags.direction[here], focus[0, 0, view][here]):
        axis.plot(*torch.stack([o, o + 7 * d])[:, :2].T, color=color, alpha=float(0.1 + 6 * w), linewidth=1)
    o, d = ray_origin_m[0, 0, view], ray_direction[0, 0, view]
    axis.plot(*torch.stack([o, o + 7 * d])[:, :2].T, color=color, linewidth=2.4); axis.scatter(*o[:2], color=color, s=50)
for place, label, marker in ((every_token, 'all tokens', 'X'), (per_view, 'one ray per view', 'o'), (one_view, 'one picture, all tokens', 's')):
    axis.scatter(*place[:2], s=80, marker=marker, label=label, zorder=6, edgecolors='white')
axis.scatter(*target_m[:2], color='k', marker='+', s=120, label='target', zorder=7); axis.legend()
axis.set(xlabel='x (m)', ylabel='y (m)', aspect='equal', title='Rays of one picture meet in the camera'); plt.show()
moved_focus = focus_of(-(away[None] / 0.7) ** 2 + 5.0, inside)
assert torch.allclose(moved_focus, focus)

# %% [markdown]
# ## What we proved
#
# * The meeting point equals the loop, recovers a point from two views to 1e-6, and moves with the world.
# * One ray leaves the depth to the prior; a bundle of rays from one picture would have put the object into the camera.
# * Kinematic paths have the acceleration they were given; all functions pass `gradcheck`.
#
# ## Try it
#
# 1. How does the error grow when the two cameras stand closer together? Plot it over the angle between the rays.
# 2. Add half a token of noise to the directions. What is the error at 5 m, and what would 448 × 448 pixels change?
# 3. Give the second view a wrong ray and weight 0.1. How far does it pull the point?
#
# <details><summary>Solutions</summary>
#
# 1. The error along the rays grows as 1/sin of the angle between them and blows up for parallel ones; plot it on
#    logarithmic axes.
# 2. Half a token is half of 28 pixels' angle: error = distance × that angle. At 448 pixels for the same field of view
#    a token covers a quarter of the angle, so a quarter of the error.
# 3. A weighted least squares pulls towards the wrong ray in proportion to its share of the information across the
#    others: with weight 0.1 about a tenth over the total weight, more if the right rays are nearly parallel.
#
# </details>
