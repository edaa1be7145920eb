# %% [markdown]
# # Scene points
# > Where are the camera and the points of every object? Ask the poses, the depth, a noisy stereo pair, or one eye.

# %%
#| default_exp scene_points

# %% [markdown]
# #| export
# World metres throughout. Points are keyed by (object id, frame of the clip); a frame in which an object shows too few
# pixels has no key. `w2c` belongs to the same reconstruction as the points and may differ from the clip's own.

# %% [markdown]
# * **What** the geometry from which MLLM-4D's relations are computed, with its source as a choice
# * **Why** the paper's claim is that stereo geometry teaches better than monocular geometry; to test it we need both, and the truth
# * **Paper** MLLM-4D §3: 3D points that project into an object's mask; noise and scale models are **[ours]**
# * **Needs** `clips`, `stereo`, `measurements`, `simulator`
# * **Time** 30 seconds
# * **Before this** `02_clips`, `06_stereo`, `08a_measurements`

# %%
#| export
import dataclasses
from dataclasses import dataclass

import numpy as np

from track4d_ref.cameras import camera_center, invert_pose, pixel_centers, transform, unproject
from track4d_ref.clips import Clip, SceneObject
from track4d_ref.measurements import visible_pixels
from track4d_ref.storage import InputError

# %%
import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.stereo import with_stereo_depth
from track4d_ref.viz import INK, MUTED, birds_eye, depth_to_rgb, ground_axes, object_colors, show_frame, use_style

use_style()


# %% [markdown]
# ## The record
#
# MLLM-4D's physics solver asks for two things only: a camera pose per frame and, per object and frame, a cloud of points
# $P_{i,m}$. Whoever delivers them, simulator or stereo matcher, fills the same record. `origin` says who it was, so that no
# table can mix them up.

# %%
#| export
@dataclass(frozen=True, eq=False)
class ScenePoints:
    "Camera poses (T, 4, 4) and object points {(id, frame): (M, 3)} of one view, in one world; `origin` names their source."
    clip: Clip
    view_index: int
    origin: str
    w2c: np.ndarray
    points: dict[tuple[int, int], np.ndarray]

    def known(self, object_id: int, frame: int) -> bool:
        "Whether there are points of this object in this frame."
        return (object_id, frame) in self.points

    def cloud_m(self, object_id: int, frame: int) -> np.ndarray:
        "The points (M, 3) of an object; InputError if it is not seen in that frame."
        if not self.known(object_id, frame):
            raise InputError(f'clip {self.clip.id}: no points of object {object_id} in frame {frame}; ask `known` first')
        return self.points[object_id, frame]

    def centroid_m(self, object_id: int, frame: int) -> np.ndarray:
        "The mean (3,) of an object's points: MLLM-4D's object centre."
        return self.cloud_m(object_id, frame).mean(0)

    @property
    def centers_m(self) -> np.ndarray: return camera_center(self.w2c)  # (T, 3)


# %%
record = ScenePoints(None, 0, 'by hand', np.eye(4)[None], {(3, 0): np.array([[1.0, 0, 4], [2, 0, 4]])})
assert record.known(3, 0) and not record.known(3, 1) and record.centroid_m(3, 0).tolist() == [1.5, 0, 4]


# %% [markdown]
# ## From poses: the simulator's own truth
#
# The simulator and driving data sets know every box. Points on the six faces of the box, a 5 × 5 grid each, stand for the
# whole object: their mean is the centre of the box, seen or not.

# %%
#| export
def box_surface(item: SceneObject, side: int = 5) -> np.ndarray:
    "Grid points (6 side², 3) on the faces of an object's box, in the object's axes."
    steps = np.linspace(-0.5, 0.5, side)
    first, second = (grid.ravel() for grid in np.meshgrid(steps, steps))
    faces = []
    for axis in range(3):
        for sign in (-0.5, 0.5):
            face = np.full((side * side, 3), sign)
            face[:, (axis + 1) % 3], face[:, (axis + 2) % 3] = first, second
            faces.append(face * item.size_m)
    return np.concatenate(faces)


# %%
#| export
def points_from_boxes(clip: Clip, view_index: int = 0, least_px: int = 12) -> ScenePoints:
    "Points on the boxes of all objects, in the frames where at least `least_px` pixels of them are visible."
    view, points = clip.views[view_index], {}
    shown = visible_pixels(view, clip) >= least_px  # (N, T)
    for item, frames in zip(clip.objects, shown):
        world_m = transform(item.world_from_object, box_surface(item))  # (T, M, 3)
        points |= {(item.id, int(frame)): world_m[frame] for frame in np.flatnonzero(frames & item.present)}
    return ScenePoints(clip, view_index, 'boxes', view.w2c, points)


# %%
preset = load_preset('tiny')
clip = simulate_clip(21, preset, domain='open', camera_program='right', objects=3, rig='stereo', height=168, width=224, roll_rad=0.05)
truth = points_from_boxes(clip)
print(clip)
print(sorted({object_id for object_id, _ in truth.points}), 'objects,', len(truth.points), 'clouds')
for item in clip.objects:
    frames = [frame for frame in range(clip.frames_count) if truth.known(item.id, frame)]
    assert np.allclose([truth.centroid_m(item.id, frame) for frame in frames], item.centers_m[frames])


# %% [markdown]
# ## From depth and masks: what a camera can know
#
# With a depth map and a mask, every pixel of the object becomes a point. This is the paper's $P_{i,m}$, and it is only the
# side that faces the camera. The centroid therefore sits in front of the true centre, by up to half the object's depth, and
# it wanders when the object turns. No stereo camera, however good, can do better.
#
# `trim` drops the share of points with the smallest and largest depth at either end. Exact depth needs none; matched depth
# bleeds over silhouettes, and relation 4 takes a *minimum*, the most fragile statistic there is. **[ours]**

# %%
#| export
def points_from_depth(clip: Clip, view_index: int = 0, least_px: int = 12, trim: float = 0.0) -> ScenePoints:
    "Every pixel of every mask with a known depth, lifted; the outer `trim` of each cloud's depths is dropped at both ends."
    view, points = clip.views[view_index], {}
    if view.depth_m is None or view.instances is None:
        raise InputError(f'clip {clip.id}: view {view.name} lacks depth or instances; use points_from_boxes')
    uv_px = pixel_centers(view.height, view.width)
    known = np.isfinite(view.depth_m) & (view.depth_m > 0)
    for frame in range(clip.frames_count):
        for item in clip.objects:
            mask = known[frame] & (view.instances[frame] == item.id)
            if mask.sum() < least_px: continue
            depth_m = view.depth_m[frame][mask].astype(np.float64)
            low, high = np.quantile(depth_m, (trim, 1 - trim))
            kept = (depth_m >= low) & (depth_m <= high)
            points[item.id, frame] = unproject(view.K, view.w2c[frame], uv_px[mask][kept], depth_m[kept])
    return ScenePoints(clip, view_index, 'depth', view.w2c, points)


# %%
#| export
def scene_points(clip: Clip, view_index: int = 0, least_px: int = 12) -> ScenePoints:
    "Points from depth and masks where the clip has both, else from the boxes."
    view = clip.views[view_index]
    measured = view.depth_m is not None and view.instances is not None
    return (points_from_depth if measured else points_from_boxes)(clip, view_index, least_px)


# %%
seen = points_from_depth(clip)
item = clip.objects[0]
frames = [frame for frame in range(clip.frames_count) if truth.known(item.id, frame) and seen.known(item.id, frame)]
toward_m = np.array([np.linalg.norm(truth.centroid_m(item.id, f) - seen.centers_m[f]) - np.linalg.norm(seen.centroid_m(item.id, f) - seen.centers_m[f])
                     for f in frames])
print(f'{item.caption}: the seen centroid is {toward_m.mean():.2f} m nearer to the camera than the centre of its box')
assert (toward_m > 0).all() and (toward_m < np.linalg.norm(item.size_m)).all()

# %% [markdown]
# From above: filled outlines are the boxes, dots are the points the camera lifted in the first frame. Only the faces toward
# the camera are covered.

# %%

# %%
figure, axes = plt.subplots(1, 2, figsize=(6, 3), gridspec_kw={'width_ratios': [1.5, 1]})
show_frame(axes[0], clip.view, 0, 'what the left camera sees')
birds_eye(axes[1], clip, 0)
origin_m, ground = ground_axes(clip)
for item in clip.objects:
    if seen.known(item.id, 0):
        axes[1].scatter(*((seen.cloud_m(item.id, 0)[::3] - origin_m) @ ground.T).T, s=3, color=INK, linewidths=0, zorder=6)
axes[1].set_title('boxes and lifted points'); plt.show()

# %%
for item in clip.objects:
    if not seen.known(item.id, 0): continue
    inside = transform(invert_pose(item.world_from_object[0]), seen.cloud_m(item.id, 0))
    assert (np.abs(inside) <= item.size_m / 2 + 0.02).all()   # lifted points lie on the object, to 2 cm


# %% [markdown]
# ## From stereo, with a dial for its noise
#
# A matcher is wrong by some fraction of a pixel, and neighbouring pixels are wrong together because their windows overlap.
# **[ours]** So we draw one normal error per cell of 16 × 16 pixels and frame, interpolate nothing, and add it to the exact
# disparity $d = fB/z$. An error that were independent per pixel would average out in the centroid and prove nothing.
#
# $$z' = \frac{fB}{fB/z + \varepsilon},\qquad \delta z\approx\frac{z^2}{fB}\,\varepsilon$$

# %%
#| export
def with_disparity_noise(clip: Clip, sigma_px: float, baseline_m: float, rng: np.random.Generator,
                         view_index: int = 0, cell_px: int = 16) -> Clip:
    "The clip with the depth a stereo pair of this baseline would report if its disparity were off by N(0, sigma) per cell."
    view = clip.views[view_index]
    if view.depth_m is None: raise InputError(f'clip {clip.id}: view {view.name} has no depth to disturb')
    cells = [-(-side // cell_px) for side in (view.height, view.width)]
    error_px = rng.normal(0, 1, (clip.frames_count, *cells)).repeat(cell_px, 1).repeat(cell_px, 2)
    error_px = sigma_px * error_px[:, :view.height, :view.width]
    focal_baseline = view.K[0, 0] * baseline_m
    known = np.isfinite(view.depth_m) & (view.depth_m > 0)
    disparity_px = focal_baseline / np.where(known, view.depth_m, 1.0) + error_px
    depth_m = np.where(known & (disparity_px > 0), focal_baseline / np.maximum(disparity_px, 1e-6), 0.0)
    views = list(clip.views)
    views[view_index] = dataclasses.replace(view, depth_m=depth_m.astype(np.float32))
    return dataclasses.replace(clip, views=tuple(views))


# %%
#| export
def points_from_noisy_stereo(clip: Clip, sigma_px: float, baseline_m: float, rng: np.random.Generator,
                             view_index: int = 0, least_px: int = 12) -> ScenePoints:
    "The points a stereo pair with this disparity error would deliver; 5 % of the depths are trimmed at both ends."
    noisy = points_from_depth(with_disparity_noise(clip, sigma_px, baseline_m, rng, view_index), view_index, least_px, 0.05)
    return dataclasses.replace(noisy, clip=clip, origin=f'stereo, {sigma_px:g} px')


# %% [markdown]
# The formula says that the error grows with the *square* of the depth. Binned over a whole clip, the noisy depth follows it.

# %%
baseline_m, sigma_px = 0.3, 0.5
noisy = with_disparity_noise(clip, sigma_px, baseline_m, np.random.default_rng(0), cell_px=1)
far = np.isfinite(clip.view.depth_m) & (clip.view.depth_m < 14)
depth_m, error_m = clip.view.depth_m[far], (noisy.view.depth_m - clip.view.depth_m)[far]
edges = np.linspace(np.percentile(depth_m, 1), 14, 12)
middles = (edges[1:] + edges[:-1]) / 2
spread_m = [np.median(np.abs(error_m[(depth_m >= low) & (depth_m < high)])) for low, high in zip(edges, edges[1:])]
predicted_m = 0.6745 * sigma_px * middles ** 2 / (clip.view.K[0, 0] * baseline_m)

# %%
figure, axis = plt.subplots(figsize=(5.5, 2.6))
axis.plot(middles, spread_m, 'o', label='measured, median |error|')
axis.plot(middles, predicted_m, color=MUTED, label=r'$0.674\,\sigma z^2/fB$')
axis.set(xlabel='depth (m)', ylabel='depth error (m)', title=f'half a pixel of disparity, {baseline_m} m baseline'); axis.legend(); plt.show()
assert np.allclose(spread_m, predicted_m, rtol=0.25)

# %% [markdown]
# Beside it a real matcher on the rendered pair (notebook 06). White means: no answer.

# %%
matched = with_stereo_depth(clip, max_disparity_px=48)

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.3))
near_m, far_m = np.percentile(clip.view.depth_m[0], 1), np.percentile(clip.view.depth_m[0][np.isfinite(clip.view.depth_m[0])], 97)
cells = with_disparity_noise(clip, 0.5, baseline_m, np.random.default_rng(0))
for axis, shown, title in zip(axes, (clip, cells, matched), ('exact', 'noise model, 0.5 px', 'matched')):
    axis.imshow(depth_to_rgb(shown.view.depth_m[0], near_m, far_m)); axis.set(xticks=[], yticks=[], title=title)
plt.show()

# %%
stereo = points_from_depth(matched, trim=0.05)
shared = [key for key in stereo.points if key in seen.points]
off_m = [np.linalg.norm(stereo.points[key].mean(0) - seen.points[key].mean(0)) for key in shared]
print(f'matched stereo: {len(shared)} clouds, median centroid error {np.median(off_m):.3f} m')
assert len(shared) > 10 and np.median(off_m) < 0.5


# %% [markdown]
# ## From one eye: the scale is a guess
#
# A single camera recovers the scene up to one unknown factor; a depth network guesses it, and guesses a slightly different
# one in each frame. **[ours]** The monocular variant multiplies depth by $s\cdot s_t$ and shrinks or stretches the
# camera's path about its start by $s$, with $\log s\sim N(0, 0.3^2)$ per clip and $\log s_t\sim N(0, 0.05^2)$ per frame.
# The pictures are the same; only the metres are wrong. This is the data of the ladder's rung *SFT-mono*.

# %%
#| export
def points_from_one_eye(clip: Clip, rng: np.random.Generator, scale_spread: float = 0.3, drift: float = 0.05,
                        view_index: int = 0, least_px: int = 12) -> ScenePoints:
    "What a monocular pipeline would deliver: one wrong scale per clip for depth and camera path, and a drift per frame."
    view = clip.views[view_index]
    scale, drifts = np.exp(rng.normal(0, scale_spread)), np.exp(rng.normal(0, drift, clip.frames_count))
    first_m = camera_center(view.w2c[0])
    w2c = view.w2c.copy()
    centers_m = first_m + scale * (camera_center(view.w2c) - first_m)
    w2c[:, :3, 3] = -(w2c[:, :3, :3] @ centers_m[:, :, None])[..., 0]
    depth_m = view.depth_m * (scale * drifts[:, None, None]).astype(np.float32)
    views = list(clip.views)
    views[view_index] = dataclasses.replace(view, w2c=w2c, depth_m=depth_m)
    wrong = points_from_depth(dataclasses.replace(clip, views=tuple(views)), view_index, least_px, 0.05)
    return dataclasses.replace(wrong, clip=clip, origin=f'one eye, scale x {scale:.2f}')


# %%
guesses = [points_from_one_eye(clip, np.random.default_rng(number), drift=0.0) for number in (8, 4, 6)]

# %%
figure, axis = plt.subplots(figsize=(6, 3.6))
flat = lambda xyz: (xyz - origin_m) @ ground.T
for cloud, color in zip([seen, *guesses], (INK, '#D55E00', '#009E73', '#0072B2')):
    axis.plot(*flat(cloud.centers_m).T, '.-', color=color, linewidth=1, label='exact' if cloud is seen else cloud.origin)
    for item in clip.objects:
        centres = [cloud.centroid_m(item.id, f) for f in range(clip.frames_count) if cloud.known(item.id, f)]
        axis.plot(*flat(np.array(centres)).T, color=color, linewidth=2)
axis.set(xlabel='right (m)', ylabel='ahead (m)', aspect='equal', title='one video, four reconstructions')
axis.legend(loc='center left', bbox_to_anchor=(1.05, 0.5)); plt.show()

# %%
for guess in guesses:
    scale = float(guess.origin.split('x ')[1])
    ratio = np.linalg.norm(guess.centers_m[-1] - guess.centers_m[0]) / np.linalg.norm(seen.centers_m[-1] - seen.centers_m[0])
    assert abs(ratio - scale) < 0.01                           # metres change …
    bearing = lambda c: (lambda d: d / np.linalg.norm(d))(c.centers_m[-1] - c.centers_m[0])
    assert np.allclose(bearing(guess), bearing(seen))          # … directions do not

# %% [markdown]
# ## What we proved
#
# * points from boxes have the true centre as their mean; points from depth lie on the object and nearer to the camera;
# * the noise model's error grows with the square of the depth, as the stereo formula says;
# * a monocular reconstruction changes all metres by one factor and no direction.

# %% [markdown]
# ## Try it
#
# 1. Double the baseline. Which error falls, that of the noise model or that of the matcher, and why not both alike?
# 2. Set `cell_px=1` in `points_from_noisy_stereo`. What happens to the error of a centroid of 500 pixels?
# 3. Give `drift` the value 0.3. Which of the six relations of the next notebook suffer, and which still hold?
#
# <details><summary>Solutions</summary>
#
# 1. A disparity error of a given size means half the depth error with twice the baseline: the noise model's falls by
#    two. The matcher also loses the region only one eye sees and meets larger disparities, so its own errors may
#    grow.
# 2. With cells of one pixel nothing is averaged before lifting; the centroid averages instead, and independent noise
#    falls as $1/\sqrt{500}$. Noise that is common to neighbours does not fall at all.
# 3. Those that compare places across frames (displacement, camera motion) suffer; those within one frame, where the
#    drift is common to both things, still hold.
#
# </details>
