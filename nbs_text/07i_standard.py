# %% [markdown]
# # One size, one rate
# > Resample a clip in time and in space, and lift points from it, whatever it came from.

# %%
#| default_exp standard

# %% [markdown]
# * **What** `resample_time`, `resize_clip` and `lifted_points`
# * **Why** a model is trained at one resolution and frame rate; sources come in eight of each
# * **Paper** 4DP-QA §4.1 samples 32 frames at 448 × 448; LMM-Track4D and MLLM-4D have their own; the rules here are **[ours]**
# * **Needs** nothing
# * **Time** 10 seconds
# * **Before this** `05_tracks`

# %%
#| export
import dataclasses

import numpy as np
from PIL import Image

# %%
#| export
from track4d_ref.storage import InputError
from track4d_ref.cameras import resize_intrinsics
from track4d_ref.clips import Clip, View
from track4d_ref.tracks import dense_tracks, object_points

# %%
import matplotlib.pyplot as plt

from track4d_ref.cameras import project, transform
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.viz import draw_tracks, picture_axis, use_style

use_style()
clip = simulate_clip(seed=3, preset=load_preset('tiny'))


# %% [markdown]
# ## Time
#
# A new rate asks for moments at which there may be no frame. We never blend two frames, which would show an object twice,
# and never invent a pose between two measured ones. Instead the nearest existing moment is taken, once. So the result is a
# subset of the clip: its stamps are true, and a rate above the clip's own changes nothing.
#
# A download is often incomplete: of KITTI's 447 frames five pictures are there, of ADT's six moments two. Poses and boxes are
# known at all of them, so the clip keeps them and marks the rest black. Nobody can answer a question about a black frame,
# though; `pictured` keeps the moments that can be seen.

# %%
#| export
def select_frames(clip: Clip, frames: np.ndarray) -> Clip:
    "The clip at some of its frames (increasing indices); objects that never appear in them are left out."
    cut = lambda array: None if array is None else array[frames]
    views = tuple(dataclasses.replace(view, w2c=view.w2c[frames], frames=cut(view.frames),
                                      depth_m=cut(view.depth_m),
                                      instances=cut(view.instances), frame_valid=view.frame_valid[frames])
                  for view in clip.views)
    objects = tuple(dataclasses.replace(item, world_from_object=item.world_from_object[frames],
                                        present=item.present[frames])
                    for item in clip.objects)
    if all(view.instances is None for view in views):
        objects = tuple(item for item in objects if item.present.any())
    return dataclasses.replace(clip, views=views, objects=objects, times_s=clip.times_s[frames])

def pictured(clip: Clip) -> Clip:
    "The clip at the moments for which every view with pictures has one; the clip itself without any picture."
    seen = [view.frame_valid for view in clip.views if view.frames is not None]
    both = np.logical_and.reduce(seen) if seen else np.zeros(clip.frames_count, dtype=bool)
    return clip if both.all() or not both.any() else select_frames(clip, np.flatnonzero(both))

def resample_time(clip: Clip, fps: float) -> Clip:
    "At most `fps` frames per second: the nearest frame to each wished moment, none twice."
    if not 0 < fps < 1e6:
        raise InputError(f'clip {clip.id}: {fps:g} frames per second cannot be; give a positive rate')
    steps = int((clip.times_s[-1] - clip.times_s[0]) * fps + 1e-6)
    if steps > 100 * clip.frames_count: return clip
    wished_s = clip.times_s[0] + np.arange(steps + 1) / fps
    return select_frames(clip, np.unique(np.abs(clip.times_s[None] - wished_s[:, None]).argmin(1)))


# %%
slow = resample_time(clip, 0.5 * (clip.frames_count - 1) / np.ptp(clip.times_s))
figure, axis = plt.subplots(figsize=(6, 1.4), dpi=90)
axis.plot(clip.times_s, np.zeros(clip.frames_count), 'o'); axis.plot(slow.times_s, np.ones(slow.frames_count),
                                                                     'o')
axis.set(yticks=(0, 1), yticklabels=('clip', 'half the rate'), xlabel='time (s)',
         ylim=(-0.5, 1.5)); plt.show()

# %%
half_seen = np.arange(clip.frames_count) % 2 == 0
gaps = dataclasses.replace(clip, views=(dataclasses.replace(clip.view, frame_valid=half_seen),))
assert pictured(gaps).times_s.tolist() == clip.times_s[half_seen].tolist() and pictured(clip) is clip
assert set(slow.times_s) <= set(clip.times_s) and slow.frames_count == (clip.frames_count + 1) // 2
assert resample_time(clip, 1e5).frames_count == clip.frames_count


# %% [markdown]
# ## Space
#
# Pictures are averaged when they shrink. Depth and identities are *picked*: the mean of a near and a far depth is a
# surface that is not there, and the mean of objects 3 and 5 is not object 4. K is scaled by the same two factors, so
# points still meet their pixels. If the shape of the picture changes, the middle is cut out first, because stretching
# would turn a square into a rectangle (and the model never sees K).

# %%
#| export
def _picked(maps: np.ndarray | None, height: int, width: int) -> np.ndarray | None:
    "Maps (T, H, W) at the pixel whose centre is nearest to each new pixel's centre."
    if maps is None: return None
    rows = ((np.arange(height) + 0.5) * maps.shape[1] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * maps.shape[2] / width).astype(int)
    return maps[:, rows[:, None], columns]

def _cropped_view(view: View, ratio: float) -> View:
    "The middle of a view with width / height as near to `ratio` as whole pixels allow."
    width = min(view.width, max(1, round(view.height * ratio)))
    height = min(view.height, max(1, round(view.width / ratio)))
    left, top = (view.width - width) // 2, (view.height - height) // 2
    cut = lambda array: None if array is None else array[:, top:top + height, left:left + width]
    K = view.K - [[0, 0, left], [0, 0, top], [0, 0, 0]]
    return dataclasses.replace(view, K=K, height=height, width=width, frames=cut(view.frames),
                               depth_m=cut(view.depth_m),
                               instances=cut(view.instances))

def _resize_view(view: View, height: int, width: int) -> View:
    "A view cut to the shape of height × width and scaled to it."
    view = _cropped_view(view, width / height)
    frames = view.frames if view.frames is None else np.stack(
        [np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
         for frame in view.frames])
    return dataclasses.replace(view, K=resize_intrinsics(view.K, width / view.width, height / view.height),
                               height=height, width=width,
                               frames=frames, depth_m=_picked(view.depth_m, height, width),
                               instances=_picked(view.instances, height, width))


# %%
#| export
def resize_clip(clip: Clip, height: int, width: int) -> Clip:
    "All views at height × width pixels, intrinsics following."
    if not (1 <= height <= 20_000 and 1 <= width <= 20_000):
        raise InputError(f'clip {clip.id}: cannot resize to {width}×{height}; give 1 to 20000')
    return dataclasses.replace(clip, views=tuple(_resize_view(view, height, width) for view in clip.views))


# %%
wide = resize_clip(clip, 48, 80)
item = clip.objects[0]
uv_px = [project(one.view.K, one.view.w2c[0], item.centers_m[:1])[0] for one in (clip, wide)]
figure, axes = plt.subplots(1, 2, figsize=(6, 2.6), dpi=80)
for axis, one, point in zip(axes, (clip, wide), uv_px):
    axis.imshow(one.view.frames[0],
                extent=(0, one.view.width, one.view.height, 0)); axis.plot(*point[0], '+', color='white',
                                                                           markersize=14)
    picture_axis(axis, one.view.height, one.view.width, f'{one.view.width}×{one.view.height}, same point')
plt.show()

# %%
scale = 80 / clip.view.width
# the full width is kept
assert np.allclose(uv_px[1][:, 0], uv_px[0][:, 0] * scale)
# nothing is stretched
assert abs(wide.view.K[0, 0] / wide.view.K[1, 1] - clip.view.K[0, 0] / clip.view.K[1, 1]) < 0.03
assert set(np.unique(wide.view.instances)) <= set(np.unique(clip.view.instances))


# %% [markdown]
# ## Lifting
#
# Where depth exists, a pixel is lifted to a point, put into the axes of its object and carried along: a 3D track. Where
# only boxes exist, points are drawn on the surface of each box instead, evenly by area. Both give the same thing, world
# tracks with the id of their object, so that everything later need not ask which it was. A box has no holes and no handle,
# so its points are a promise about the rigid body and not about what is seen.

# %%
#| export
def box_surface_points(size_m: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    "Points (count, 3) on the faces of a box in object axes, evenly by area."
    length, width, height = size_m
    areas = np.repeat([width * height, length * height, length * width], 2)
    faces = rng.choice(6, count, p=areas / areas.sum())
    points = rng.uniform(-0.5, 0.5, (count, 3))
    points[np.arange(count), faces // 2] = np.where(faces % 2 == 0, 0.5, -0.5)
    return points * size_m

def lifted_points(clip: Clip, rng: np.random.Generator, per_object: int = 8, view: int = 0,
                  frame: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Object ids (N,) and world tracks (T, N, 3) of up to `per_object` points: visible pixels of `frame` by
    depth, else points on boxes."""
    chosen = clip.views[view]
    if chosen.depth_m is not None and chosen.instances is not None:
        _, ids, tracks = dense_tracks(clip, view, frame, step=2)
        keep = [rng.permutation(np.flatnonzero(ids == item.id))[:per_object] for item in clip.objects]
        keep = np.concatenate([np.zeros(0, dtype=int), *keep])
        return ids[keep], tracks[:, keep]
    items = [item for item in clip.objects if item.present[frame]]
    tracks = [object_points(clip, item.id, box_surface_points(item.size_m, per_object, rng))
              for item in items]
    ids = np.repeat([item.id for item in items], per_object).astype(int)
    return ids, np.concatenate([np.zeros((clip.frames_count, 0, 3)), *tracks], axis=1)


# %%
blind = dataclasses.replace(clip, views=tuple(dataclasses.replace(view, depth_m=None) for view in clip.views))
kinds = {name: lifted_points(one, np.random.default_rng(0)) for name,
         one in (('from depth', clip), ('from boxes', blind))}
figure, axes = plt.subplots(1, 2, figsize=(6, 2.9), dpi=80)
for axis, (name, (ids, xyz_world)) in zip(axes, kinds.items()):
    axis.imshow(clip.view.frames[0] // 2 + 100, extent=(0, clip.view.width, clip.view.height, 0))
    tracks_px, _ = project(clip.view.K, clip.view.w2c[:1], xyz_world)
    draw_tracks(axis, tracks_px, ['#D55E00'] * len(ids), width=1)
    picture_axis(axis, clip.view.height, clip.view.width, f'{name}: {len(ids)} points')
plt.show()

# %%
for ids, xyz_world in kinds.values():
    for item in clip.objects:
        local_m = transform(np.linalg.inv(item.world_from_object), xyz_world[:, ids == item.id])
        assert np.nanmax(np.abs(local_m) - item.size_m / 2,
                         initial=-1) < 0.05          # all on or in their own box, at all times

# %% [markdown]
# ## What we proved
#
# * Resampling keeps true stamps, true depths and true identities; K follows every change of the picture.
# * Points lifted from depth and points drawn on boxes both stay with their object.
#
# ## Try it
#
# 1. Average the depth instead of picking it and lift the points along an object's edge.
# 2. Resize without the crop and look at `K[0, 0] / K[1, 1]`.
#
# <details><summary>Solutions</summary>
#
# 1. The mean of near and far is a surface that does not exist: lifted points float between object and background.
#    Picking keeps each point on one of them.
# 2. The ratio leaves 1: pixels are no longer square, and a circle becomes an ellipse. K can say so; the question is
#    whether everything that follows believes it.
#
# </details>
