# %% [markdown]
# # Track metrics
# > How good is a predicted track: δ-accuracy, occlusion accuracy and average Jaccard, in pixels and in metres.

# %%
#| default_exp track_metrics

# %% [markdown]
# #| export
# Tracks are time first: positions (T, N, 2) in pixels or (T, N, 3) in metres, flags (T, N). Scores lie in 0…1.
# `counted` (T, N) says which points enter the score; a query's own frame must not (`all_but_query`).

# %% [markdown]
# * **What** the TAP-Vid scores and their 3D forms from TAPVid-3D
# * **Why** tracking answers are numbers; near misses should count for something, and a wrong "visible" should cost
# * **Paper** 4DP-QA prints no tracking metric; TAP-Vid's are the common ones, so this choice is **[ours]**
# * **Needs** `cameras`, `tracks`
# * **Time** 5 seconds
# * **Before this** `05_tracks`

# %%
#| export
import numpy as np
from track4d_ref.storage import InputError

# %%
import matplotlib.pyplot as plt
from track4d_ref.viz import MUTED, PALETTE, use_style

use_style()

# %% [markdown]
# ## Three questions about a predicted track
#
# TAP-Vid asks three things, in a picture scaled to 256×256, at the five radii 1, 2, 4, 8, 16 px:
#
# | score | question | counts |
# |---|---|---|
# | $\delta_{avg}$ | is the point where it should be? | truly visible points; the visibility guess is ignored |
# | OA | is "visible" said rightly? | all points |
# | AJ | both at once | hits / (visible points + false alarms) |
#
# A *false alarm* is a point called visible which is hidden, or farther away than the radius. One that is visible but too far
# therefore counts twice in the denominator: once as missed, once as a false alarm.

# %%
#| export
PIXEL_RADII = (1, 2, 4, 8, 16)                       # px of a 256 × 256 picture (TAP-Vid)
METRIC_RADII_M = (0.01, 0.04, 0.16, 0.64, 2.56)      # TAPVid-3D's fixed-size form of the same five radii
FRAME_SIDE_PX = 256

def _scores(error: np.ndarray, radii: np.ndarray, visible, predicted_visible, counted) -> dict[str, float]:
    "AJ, δ_avg, OA from errors (T, N) and radii (R, T or 1, N or 1) in one unit; NaN if nothing is visible."
    if not counted.any():
        raise InputError('track metrics: no point is counted; leave frames besides the query in')
    hit = error < radii  # (R, T, N); a NaN error never hits
    shown, called = visible & counted, predicted_visible & counted
    hits_seen = (hit & shown).sum((1, 2))
    both = (hit & shown & called).sum((1, 2))
    false_alarms = (called & ~(hit & visible)).sum((1, 2))
    with np.errstate(invalid='ignore'):
        within, jaccard = hits_seen / shown.sum(), both / (shown.sum() + false_alarms)
    return {'average_jaccard': float(jaccard.mean()), 'delta_average': float(within.mean()),
            'occlusion_accuracy': float((visible == predicted_visible)[counted].mean())}


# %% [markdown]
# The query's own frame is given away in the question, so it does not count. Errors are measured after the picture is
# scaled to 256×256, each axis by its own factor, as TAP-Vid does.

# %%
#| export
def all_but_query(query_frames: np.ndarray, frames_count: int) -> np.ndarray:
    "The flags (T, N) that leave each query's own frame (N,) out of the score."
    return np.arange(frames_count)[:, None] != np.asarray(query_frames)[None]

def track_metrics(uv_px: np.ndarray, visible, predicted_uv_px, predicted_visible, counted, height: int,
                  width: int) -> dict[str, float]:
    "TAP-Vid's AJ, δ_avg and OA of tracks (T, N, 2) in pixels of an H × W picture; flags (T, N)."
    scale = FRAME_SIDE_PX / np.array([width, height])
    error = np.linalg.norm((np.asarray(predicted_uv_px) - uv_px) * scale, axis=-1)  # (T, N), px of 256 × 256
    return _scores(error, _column(PIXEL_RADII), *_flags(error, visible, predicted_visible, counted))

def _column(radii) -> np.ndarray:
    return np.array(radii, dtype=float)[:, None, None]  # (R, 1, 1)

def _flags(error, *flags) -> list[np.ndarray]:
    flags = [np.asarray(flag, dtype=bool) for flag in flags]
    if any(flag.shape != error.shape for flag in flags):
        shapes = ', '.join(str(flag.shape) for flag in flags)
        raise InputError(f'track metrics: positions are {error.shape}, flags {shapes}; make them equal')
    return flags


# %% [markdown]
# The rule of the table as a double loop, for one radius: this is what the vectorised version must agree with.

# %%
def scores_v1(error, radius, visible, predicted_visible, counted):
    hits = both = shown = alarms = 0
    for e, v, p, c in zip(error.flat, visible.flat, predicted_visible.flat, counted.flat):
        if not c: continue
        shown += v; hits += v and e < radius
        both += v and p and e < radius; alarms += p and not (v and e < radius)
    return both / (shown + alarms), hits / shown


# %% [markdown]
# Four points by hand, on a picture that is already 256×256. Errors 0.5, 3, 20 and 0 px; the third is wrong by far, the
# fourth is hidden but called visible. At radius 1 one point hits: δ = 1/3. Of false alarms there are three: the two misses
# and the hidden one, so Jaccard = 1/(3+3). At radius 4 two hit: δ = 2/3, J = 2/(3+2).

# %%
true_uv = np.array([[[10, 10], [50, 50], [90, 90], [130, 130]]], float)
said_uv = true_uv + [[[0.5, 0], [0, 3], [20, 0], [0, 0]]]
visible, said = np.array([[True, True, True, False]]), np.ones((1, 4), bool)
by_hand = track_metrics(true_uv, visible, said_uv, said, said, height=256, width=256)
by_hand

# %%
figure, axis = plt.subplots(figsize=(6.2, 2.3))
for radius in PIXEL_RADII: axis.axvline(radius, color=MUTED, linewidth=0.6, alpha=0.5)
axis.scatter([0.5, 3, 20], [3, 2, 1], color=PALETTE[0], s=45, label='visible, called visible', zorder=3)
axis.scatter([0.05], [0], color=PALETTE[1], marker='s', s=45, label='hidden, called visible', zorder=3, clip_on=False)
axis.set(xscale='symlog', xlim=(0, 40), ylim=(-0.6, 3.6), xticks=[0, *PIXEL_RADII], xticklabels=[0, *PIXEL_RADII],
         yticks=range(4), yticklabels=['point 4', 'point 3', 'point 2', 'point 1'], xlabel='error (px of 256 × 256)',
         title='A point hits at every radius to the right of it')
axis.legend(loc='upper left', bbox_to_anchor=(1, 1)); plt.show()

# %%
assert np.isclose(by_hand['delta_average'], np.mean([1/3, 1/3, 2/3, 2/3, 2/3]))
assert np.isclose(by_hand['average_jaccard'], np.mean([1/6, 1/6, 2/5, 2/5, 2/5]))
assert by_hand['occlusion_accuracy'] == 3/4
rng = np.random.default_rng(0)
flags = [rng.random((6, 9)) < 0.7 for _ in range(3)]
error = rng.exponential(5, (6, 9))
pairs = [scores_v1(error, radius, *flags) for radius in PIXEL_RADII]
real = track_metrics(np.zeros((6, 9, 2)), flags[0], np.stack([error, 0 * error], -1), *flags[1:], 256, 256)
assert np.allclose(np.mean(pairs, 0), [real['average_jaccard'], real['delta_average']])

# %% [markdown]
# ## What the scores reward
#
# Add noise of growing size to true tracks and keep the visibility flags right: both curves fall together. Now call every
# point visible, or none. The δ-accuracy does not notice; the Jaccard does. Saying nothing earns zero.

# %%
noise_px = np.geomspace(0.2, 40, 25)
truth_uv, truth_visible = rng.uniform(0, 256, (16, 40, 2)), rng.random((16, 40)) < 0.7
counted = all_but_query(rng.integers(0, 16, 40), 16)
directions = rng.normal(0, 1, truth_uv.shape)
curves = {name: [track_metrics(truth_uv, truth_visible, truth_uv + noise * directions, said, counted, 256, 256) for noise in noise_px]
          for name, said in (('right flags', truth_visible), ('all visible', truth_visible | True), ('none visible', truth_visible & False))}

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6), sharey=True)
for axis, key, title in zip(axes, ('delta_average', 'average_jaccard'), ('δ-accuracy: position only', 'average Jaccard: position and flag')):
    for (name, scores), color, style in zip(curves.items(), (PALETTE[0], PALETTE[1], PALETTE[2]), ('-', '--', ':')):
        axis.plot(noise_px, [score[key] for score in scores], style, color=color, label=name, linewidth=2)
    axis.set(xscale='log', xlabel='noise (px, standard deviation)', title=title, ylim=(-0.03, 1.03)); axis.grid(alpha=0.3)
axes[0].set_ylabel('score'); axes[1].legend(fontsize=8); plt.show()

# %%
assert curves['right flags'][0]['average_jaccard'] > 0.98 > curves['all visible'][0]['average_jaccard']
assert all(score['average_jaccard'] == 0 for score in curves['none visible'])
assert all(a['delta_average'] == b['delta_average'] for a, b in zip(curves['right flags'], curves['none visible']))
falling = [score['average_jaccard'] for score in curves['right flags']]
assert np.mean(np.diff(falling) <= 0.01) == 1


# %% [markdown]
# ## The same in three dimensions
#
# TAPVid-3D replaces the pixel by what a pixel is worth at the point's depth: radius $r$ px becomes $r\,z/\sqrt{f_xf_y}$ metres. A
# metre of error counts for less far away. Its second form has five fixed radii from 1 cm to 2.56 m. Monocular methods know
# the world only up to scale, so predictions may first be scaled by the median of $\lVert\mathbf X\rVert/\lVert\hat{\mathbf X}\rVert$'s two medians,
# taken over points visible in both. Distances from the camera are needed for that, hence camera coordinates.

# %%
#| export
def median_scale(xyz_camera: np.ndarray, visible, predicted_xyz_camera: np.ndarray,
                 predicted_visible) -> float:
    "The factor that gives a prediction (T, N, 3) the truth's median distance, over points visible in both."
    both = np.asarray(visible, bool) & np.asarray(predicted_visible, bool)
    if not both.any(): return 1.0
    true_m, predicted_m = (np.median(np.linalg.norm(np.asarray(xyz)[both], axis=-1))
                           for xyz in (xyz_camera, predicted_xyz_camera))
    return float(true_m / predicted_m)

def track_metrics_3d(xyz_camera: np.ndarray, visible, predicted_xyz_camera, predicted_visible, counted,
                     K: np.ndarray | None = None) -> dict[str, float]:
    """TAPVid-3D's AJ, δ_avg (its APD) and OA of tracks (T, N, 3) in camera metres; flags (T, N).

    With K (3, 3) the radii are pixels at the true depth, without it METRIC_RADII_M. Scale before, if wanted.
    """
    xyz_camera = np.asarray(xyz_camera)
    error_m = np.linalg.norm(predicted_xyz_camera - xyz_camera, axis=-1)  # (T, N)
    radii_m = _column(METRIC_RADII_M)
    if K is not None:
        radii_m = _column(PIXEL_RADII) * xyz_camera[..., 2] / np.sqrt(K[0, 0] * K[1, 1])  # (R, T, N)
    return _scores(error_m, radii_m, *_flags(error_m, visible, predicted_visible, counted))


# %% [markdown]
# A prediction with a constant sideways error of 10 cm, for points between 1 and 30 m: in pixels the far ones are nearly
# perfect. A prediction of half the size is useless until it is scaled.

# %%
K = np.array([[220.0, 0, 101], [0, 180, 77], [0, 0, 1]])
far_m = np.geomspace(1, 30, 40)
xyz = np.stack([np.tile([0.1 * z, -0.05 * z, z], (16, 1)) for z in far_m], 1)            # (16, 40, 3)
shown = np.ones((16, 40), bool)
by_depth = [track_metrics_3d(xyz[:, i:i+1], shown[:, :1], xyz[:, i:i+1] + [0.1, 0, 0], shown[:, :1], shown[:, :1], K)['delta_average'] for i in range(40)]
fixed = track_metrics_3d(xyz, shown, xyz + [0.1, 0, 0], shown, shown)

# %%
figure, axis = plt.subplots(figsize=(5.6, 2.5))
axis.step(far_m, by_depth, where='mid', color=PALETTE[0], linewidth=2, label='radii in pixels at the point\'s depth')
axis.axhline(fixed['delta_average'], color=PALETTE[1], linestyle='--', linewidth=2, label='fixed radii, 1 cm … 2.56 m')
axis.set(xscale='log', xlabel='depth (m)', ylabel='δ-accuracy', ylim=(0, 1.25), xticks=[1, 3, 10, 30], xticklabels=[1, 3, 10, 30],
         title='The same 10 cm of error, near and far')
axis.legend(fontsize=8, loc='upper left', ncols=2, frameon=False); plt.show()

# %%
half = 0.5 * xyz
scale = median_scale(xyz, shown, half, shown)
assert np.isclose(scale, 2)
assert track_metrics_3d(xyz, shown, half, shown, shown, K)['delta_average'] < 0.1
assert track_metrics_3d(xyz, shown, scale * half, shown, shown, K)['delta_average'] == 1
assert np.isclose(fixed['delta_average'], 3/5)                # 16 cm, 64 cm and 2.56 m are larger than 10 cm
assert by_depth[0] < by_depth[-1]

# %% [markdown]
# ## What we proved
#
# * The scores equal hand-counted ones, and a plain loop on random data.
# * δ-accuracy ignores the visibility guess; the Jaccard punishes both kinds of wrong flag.
# * In 3D a wrong scale is forgiven only after it is put right.
#
# ## Try it
#
# 1. Which constant prediction ("always the middle, always visible") scores best on the tracks above?
# 2. TAP-Vid scales every picture to 256×256. Score one track on a 1280×720 picture with and without that scaling.
#
# <details><summary>Solutions</summary>
#
# 1. Score every constant on the same tracks. The best one is near the median place and says 'visible' if most are; a
#    table without it does not show what a tracker adds.
# 2. The radii of 1 to 16 pixels mean 256 × 256: unscaled, a miss on 1280 × 720 counts five times as far across and
#    nearly three times as far down. Print δ_avg both ways.
#
# </details>
