# %% [markdown]
# # Measurements
# > Everything the questions of a clip need, measured once: centres, distances, pixels, visibility, scale.

# %%
#| default_exp measurements

# %% [markdown]
# #| export
# Conventions: N objects in the order of `clip.objects`, T frames of the segment shown as the video. Frame numbers inside a
# segment count from 0 in the video as shown; `frames` maps them back to the clip.

# %% [markdown]
# * **What** one record with all numbers of a clip segment, as arrays over objects and frames
# * **Why** thirty questions on one clip share the same measurements; measuring once is what makes 400,000 questions cheap
# * **Paper** 4DP-QA §3.2 "asset sampling": heuristics check the camera and each object, and whether it is visible enough
# * **Needs** numpy, `cameras`, `clips`, `simulator`, `motion`
# * **Time** 20 seconds
# * **Before this** `08_motion`

# %%
#| export
from dataclasses import dataclass

import numpy as np

from track4d_ref.cameras import camera_center, project
from track4d_ref.clips import Clip, View

# %%
import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip


# %% [markdown]
# ## How much of an object is visible
#
# A question about an object that nobody can see is a bad question. Where there is an instance map we count pixels. Real
# recordings without one (KITTI's labels) get an estimate **[ours]**: the area of the projected box inside the picture. It
# ignores what stands in front, so it is an upper bound.

# %%
#| export
def visible_pixels(view: View, clip: Clip) -> np.ndarray:
    "Pixels (N, T) of each object in each frame: counted in the instance map, or the projected box's area without one."
    if view.instances is None: return np.array([_box_area_px(view, item) for item in clip.objects]).reshape(-1, len(view.w2c))
    ids = np.array([item.id for item in clip.objects])
    counts = np.zeros((len(ids), len(view.instances)), int)
    for t, instances in enumerate(view.instances):
        values, pixels = np.unique(instances, return_counts=True)
        place = np.searchsorted(values, ids).clip(max=len(values) - 1)
        counts[:, t] = np.where(values[place] == ids, pixels[place], 0)
    return counts

def _box_area_px(view: View, item) -> np.ndarray:
    corners_m = item.corners_object_m @ item.world_from_object[:, :3, :3].mT + item.world_from_object[:, None, :3, 3]
    uv_px, depth_m = project(view.K, view.w2c, corners_m)  # (T, 8, 2)
    size = np.array([view.width, view.height])
    span = np.ptp(np.clip(uv_px, 0, size), axis=1)
    return np.where((depth_m > 0.1).all(1) & item.present, span.prod(-1), 0).astype(int)

def scene_scale_m(view: View, centers_m: np.ndarray, present: np.ndarray, samples: int = 4096) -> np.ndarray:
    "Median depth (T,) of the scene; without depth that of the objects in front; NaN where there is nothing to measure."
    if view.depth_m is None:
        depth_m = project(view.K, view.w2c, np.moveaxis(centers_m, 0, 1))[1]  # (T, N)
        depth_m = np.where(present.T, depth_m, 0)
    else:
        step = max(1, int(np.sqrt(view.height * view.width / samples)))
        depth_m = view.depth_m[:, step // 2::step, step // 2::step].reshape(len(view.depth_m), -1)
    usable = np.where((depth_m > 0) & np.isfinite(depth_m), depth_m, np.nan)
    return np.array([np.nanmedian(row) if np.isfinite(row).any() else np.nan for row in usable], float)


# %%
clip = simulate_clip(3, load_preset('tiny'))
clip

# %%
counts = visible_pixels(clip.view, clip)
slow = [[int((frame == item.id).sum()) for frame in clip.view.instances] for item in clip.objects]
estimate = np.stack([_box_area_px(clip.view, item) for item in clip.objects])
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), dpi=90)
for item, exact, rough, color in zip(clip.objects, counts, estimate, plt.cm.tab10.colors):
    axes[0].plot(exact, 'o-', color=color, label=item.caption); axes[0].plot(rough, ':', color=color)
axes[0].set(xlabel='frame', ylabel='pixels', title='counted (solid), box estimate (dotted)'); axes[0].legend(fontsize=7)
axes[1].imshow(clip.view.depth_m[0], cmap='viridis_r'); axes[1].axis('off')
axes[1].set_title(f'depth of frame 0, median {scene_scale_m(clip.view, np.zeros((0, clip.frames_count, 3)), np.zeros((0, clip.frames_count)))[0]:.2f} m')
plt.tight_layout(); plt.show()

# %%
assert (counts == np.array(slow).reshape(counts.shape)).all()
depth = clip.view.depth_m[0]
exact_median = np.median(depth[(depth > 0) & np.isfinite(depth)])
assert abs(scene_scale_m(clip.view, None, None)[0] / exact_median - 1) < 0.02   # a twentieth of the pixels is enough


# %% [markdown]
# ## Everything at once
#
# `Measured` holds arrays over objects and frames. `at` picks frames: a segment of a longer clip, or every fourth frame
# of it. A segment is what a model will see as its video, so frame 0 of a question is the first frame of the *segment*.

# %%
#| export
@dataclass(frozen=True, eq=False)
class Measured:
    "A clip segment in numbers; N objects, T frames."
    clip: Clip
    view_index: int
    frames: np.ndarray       # (T,) frame numbers in the clip
    w2c: np.ndarray          # (T, 4, 4)
    camera_m: np.ndarray     # (T, 3) camera centres in the world
    poses: np.ndarray        # (N, T, 4, 4) world from object
    present: np.ndarray      # (N, T) bool
    visible_px: np.ndarray   # (N, T)
    uv_px: np.ndarray        # (N, T, 2) projected centres
    depth_m: np.ndarray      # (N, T) planar depth of the centres
    distance_m: np.ndarray   # (N, T) camera to centre
    scale_m: np.ndarray      # (T,) median depth of the scene

    @property
    def view(self) -> View: return self.clip.views[self.view_index]

    @property
    def centers_m(self) -> np.ndarray: return self.poses[..., :3, 3]  # (N, T, 3)

    def seen(self, least_px: int) -> np.ndarray:
        "Which objects (N, T) are there, in front of the camera and at least `least_px` pixels large."
        return self.present & (self.visible_px >= least_px) & (self.depth_m > 0)

    def at(self, frames) -> 'Measured':
        "The same for some frames of this segment, numbered as in this segment."
        pick = np.asarray(frames)
        over_objects = (self.poses[:, pick], self.present[:, pick], self.visible_px[:, pick], self.uv_px[:, pick],
                        self.depth_m[:, pick], self.distance_m[:, pick])
        return Measured(self.clip, self.view_index, self.frames[pick], self.w2c[pick], self.camera_m[pick], *over_objects,
                        self.scale_m[pick])


# %%
#| export
def measure(clip: Clip, view_index: int = 0) -> Measured:
    "Measure all frames of one view of a clip."
    view, frames_count = clip.views[view_index], clip.frames_count
    poses = np.stack([item.world_from_object for item in clip.objects]) if clip.objects else np.zeros((0, frames_count, 4, 4))
    present = np.array([item.present for item in clip.objects], bool).reshape(-1, frames_count)
    centers_m = poses[..., :3, 3]
    uv_px, depth_m = project(view.K, view.w2c, np.moveaxis(centers_m, 0, 1))  # (T, N, 2), (T, N)
    camera_m = camera_center(view.w2c)
    return Measured(clip, view_index, np.arange(frames_count), view.w2c, camera_m, poses, present, visible_pixels(view, clip),
                    np.moveaxis(uv_px, 1, 0), depth_m.T, np.linalg.norm(centers_m - camera_m, axis=-1),
                    scene_scale_m(view, centers_m, present))


# %%
m = measure(clip)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), dpi=90)
axes[0].imshow(clip.view.frames[0]); axes[0].set(xlim=(0, clip.view.width), ylim=(clip.view.height, 0), title='centres over time', xticks=[], yticks=[])
for n, (item, color) in enumerate(zip(clip.objects, plt.cm.tab10.colors)):
    axes[0].plot(*m.uv_px[n].T, '.-', color=color); axes[1].plot(m.distance_m[n], color=color, label=item.caption)
    axes[2].plot(*m.centers_m[n, :, :2].T, color=color); axes[2].plot(*m.centers_m[n, -1, :2], 'o', color=color)
axes[2].plot(*m.camera_m[:, :2].T, 'k.-', markersize=3)
axes[1].set(xlabel='frame', title='distance to the camera (m)'); axes[1].legend(fontsize=7)
axes[2].set(title='from above (camera black)', aspect='equal', xlabel='x (m)', ylabel='y (m)')
plt.tight_layout(); plt.show()

# %%
for n, item in enumerate(clip.objects):
    uv, z = project(clip.view.K, clip.view.w2c, item.centers_m[:, None])
    assert np.allclose(m.uv_px[n], uv[:, 0]) and np.allclose(m.depth_m[n], z[:, 0])
assert (m.distance_m >= np.abs(m.depth_m) - 1e-9).all()       # a distance is never shorter than its share along one axis
part = m.at([6, 2, 4]).at([1, 2])
assert part.frames.tolist() == [2, 4] and np.allclose(part.distance_m, m.distance_m[:, [2, 4]])


# %% [markdown]
# ## Which frames make the video
#
# A model sees a fixed number of frames. `spread_frames` takes them evenly from a stretch of the clip; `random_segment`
# draws the stretch, as 4DP-QA does ("random video segment"). A stretch is at least half of what fits, so that there is
# time for something to happen **[ours]**.

# %%
#| export
def spread_frames(start: int, stop: int, count: int) -> np.ndarray:
    "At most `count` frame numbers spread evenly over start … stop − 1, both ends included."
    return np.unique(np.linspace(start, stop - 1, min(count, stop - start)).round().astype(int))

def random_segment(frames_count: int, count: int, rng: np.random.Generator) -> np.ndarray:
    "Frame numbers of a random stretch of a clip: between half of it and all of it, thinned to `count`."
    length = int(rng.integers((frames_count + 1) // 2, frames_count + 1))
    start = int(rng.integers(0, frames_count - length + 1))
    return spread_frames(start, start + length, count)


# %%
rng = np.random.default_rng(0)
draws = [random_segment(60, 8, rng) for _ in range(14)]
figure, axis = plt.subplots(figsize=(6.5, 2.2), dpi=90)
for row, frames in enumerate(draws): axis.plot(frames, np.full(len(frames), row), 'o-', markersize=3, linewidth=0.8)
axis.set(xlabel='frame of a clip with 60 frames', ylabel='draw', title='fourteen random segments, eight frames each'); plt.show()

# %%
assert spread_frames(3, 9, 3).tolist() == [3, 6, 8] or spread_frames(3, 9, 3).tolist() == [3, 5, 8]
assert all(len(frames) == 8 and 0 <= frames[0] < frames[-1] < 60 and frames[-1] - frames[0] >= 29 for frames in draws)
assert (random_segment(5, 8, np.random.default_rng(1)) < 5).all()

# %% [markdown]
# ## What we proved
#
# * Counting pixels in one pass per frame equals counting per object, and projected centres equal a loop over objects.
# * The median depth of a twentieth of the pixels stands for the scene.
# * Picking frames twice is picking them once with the composed numbers.
#
# ## Try it
#
# 1. Hide one object behind another in a clip of your own and compare the two estimates of its visible pixels.
# 2. Measure a KITTI clip (`read_kitti_tracking`) and list the objects that are visible for more than two seconds.
#
# <details><summary>Solutions</summary>
#
# 1. Put a large box between camera and ball with `simulate_clip(..., object_programs=('static', ...))`, or edit
#    poses. The estimate from the box's rectangle ignores who stands in front; the one from the instance map does not.
# 2. `read_kitti_tracking(root, 1, 0, 40)`, measure, and keep those whose visible frames, times the frame spacing of
#    0.1 s, exceed two seconds.
#
# </details>
