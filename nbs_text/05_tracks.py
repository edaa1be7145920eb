# %% [markdown]
# # Tracks
# > The visual track and the true-motion track of a 3D point, who can see it, and how pixels become tracks.

# %%
#| default_exp tracks

# %% [markdown]
# #| export
# Tracks are time first: `xyz_world` (T, N, 3), `uv_px` (T, N, 2), `depth_m` (T, N), flags (T, N). A frame where
# a point's object is absent holds NaN. Visible always means: seen by the camera of that frame.

# %% [markdown]
# * **What** 4DP-QA's two projections of a 3D track, visibility, and tracks from depth, masks and poses
# * **Why** a video shows motion mixed with camera motion; these two tracks take it apart
# * **Paper** 4DP-QA Eq. 1 and 2; the visibility test and the lifting details are **[ours]**
# * **Needs** `cameras`, `clips`, `simulator`, `viz`
# * **Time** 30 seconds
# * **Before this** `01_cameras`, `02_clips`

# %%
#| export
from dataclasses import dataclass
import numpy as np
from track4d_ref.storage import InputError
from track4d_ref.cameras import Array, in_image, invert_pose, pixel_centers, project, transform, unproject
from track4d_ref.clips import Clip, View

# %%
import matplotlib.pyplot as plt
from track4d_ref.cameras import pose_from, rotation_about
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip, simulate_clips
from track4d_ref.viz import INK, MUTED, PALETTE, draw_tracks, frame_strip, motion_pair, object_colors, show_frame, use_style


# %% [markdown]
# ## Two projections of one track
#
# A point moves through the world, $\{\mathbf X[t]\}$, and so does the camera, $\{\mathbf T[t]\}$. The paper looks at it
# in two ways:
#
# $$P_{2D}=\{\Pi(\mathbf K,\mathbf T[t],\mathbf X[t])\}\quad(1)\qquad\qquad
# M_{2D}=\{\Pi(\mathbf K,\mathbf T[t_q],\mathbf X[t])\}\quad(2)$$
#
# The **visual track** $P_{2D}$ asks each frame's own camera. It is what a point tracker reports. The **true-motion track**
# $M_{2D}$ asks one camera only, that of the reference frame $t_q$: what would we have seen, had the camera stood still?
# In code the difference is one index.

# %%
#| export
def visual_track(K: Array, w2c: Array, xyz_world: Array) -> tuple[Array, Array]:
    "P₂D, 4DP-QA Eq. 1: points (T, N, 3), each by the camera (T, 4, 4) of its frame → (T, N, 2) px, (T, N) m."
    return project(K, w2c, xyz_world)

def true_motion_track(K: Array, w2c: Array, xyz_world: Array, reference: int) -> tuple[Array, Array]:
    "M₂D, 4DP-QA Eq. 2: the same points, all of them by the one camera of frame `reference`."
    return project(K, w2c[reference], xyz_world)


# %%
def tracks_v1(K, w2c, xyz_world, reference):
    visual, true = np.zeros((2, *xyz_world.shape[:2], 2))
    for t in range(len(xyz_world)):
        for n in range(xyz_world.shape[1]):
            visual[t, n] = project(K, w2c[t], xyz_world[t, n:n+1])[0][0]
            true[t, n] = project(K, w2c[reference], xyz_world[t, n:n+1])[0][0]
    return visual, true


# %% [markdown]
# Our example has three objects: the first follows a curve, the second stands still, the third goes straight. The camera
# moves to the right and pans to the left.

# %%
use_style()
preset = load_preset('tiny', overrides=('frames=16', 'fps=8'))
clip = simulate_clip(7, preset, 6, domain='open', camera_program='right+pan_left', height=150, width=220,
                     object_programs=('curved', 'static', 'straight'))
K, w2c, view, colors = clip.view.K, clip.view.w2c, clip.view, object_colors(clip)
centers_m = np.stack([item.centers_m for item in clip.objects], 1)                    # (T, N, 3)
visual_uv_px, _ = visual_track(K, w2c, centers_m)
true_uv_px, _ = true_motion_track(K, w2c, centers_m, reference=0)
motion_pair(clip, visual_uv_px, true_uv_px, colors.values()); plt.show()

# %% [markdown]
# The second object (orange) stands still, and yet it slides through the left picture like the others. Whoever learns motion
# from visual tracks must first learn to subtract the camera. On the right there is nothing left to subtract.

# %%
naive = tracks_v1(K, w2c, centers_m, 0)
assert np.allclose(naive[0], visual_uv_px) and np.allclose(naive[1], true_uv_px)
assert np.ptp(visual_uv_px[:, 1], axis=0).max() > 30 and np.ptp(true_uv_px[:, 1], axis=0).max() < 1e-6


# %% [markdown]
# ## What must hold
#
# | property | statement |
# |---|---|
# | static camera | both tracks are equal |
# | query frame | both start from the same pixel, $\mathbf p[t_q]=\mathbf m_{t_q}[t_q]$ |
# | static point | $M_{2D}$ is constant |
# | world gauge | one rigid motion of all points and cameras changes neither |
# | camera path | other cameras at $t\neq t_q$ leave $M_{2D}$ alone |
# | scale | a world twice as large looks the same |
#
# The paper states the first two; the others follow. The last one is why a single moving camera can know shapes but not
# metres. Each row is one assertion.

# %%
def largest_gap_px(a, b): return np.abs(a[0] - b[0]).max()

still = np.broadcast_to(w2c[4], w2c.shape)
assert largest_gap_px(visual_track(K, still, centers_m), true_motion_track(K, w2c, centers_m, 4)) < 1e-6
for t in range(16): assert np.allclose(visual_uv_px[t], true_motion_track(K, w2c, centers_m, t)[0][t], atol=1e-9)
assert np.ptp(true_motion_track(K, w2c, centers_m[:1].repeat(16, 0), 4)[0], axis=0).max() < 1e-9

# %%
motion = pose_from(rotation_about((1, 2, 3), 0.7), np.array([5.0, -3, 2]))
moved_xyz, moved_w2c = transform(motion, centers_m), w2c @ invert_pose(motion)
detour = np.where(np.arange(16)[:, None, None] == 4, w2c, w2c[::-1])
twice = w2c.copy(); twice[:, :3, 3] *= 2
for track in (visual_track, lambda *world: true_motion_track(*world, 4)):
    assert largest_gap_px(track(K, w2c, centers_m), track(K, moved_w2c, moved_xyz)) < 1e-6      # gauge
    assert largest_gap_px(track(K, w2c, centers_m), track(K, twice, 2 * centers_m)) < 1e-6      # scale
assert largest_gap_px(true_motion_track(K, w2c, centers_m, 4), true_motion_track(K, detour, centers_m, 4)) == 0

# %% [markdown]
# The reference frame decides *from where* the true motion is seen, not what it is. Three reference frames, three pictures
# of the same motion:

# %%
figure, axes = plt.subplots(1, 3, figsize=(6.8, 1.85))
for axis, reference in zip(axes, (0, 8, 15)):
    uv_px, _ = true_motion_track(K, w2c, centers_m, reference)
    draw_tracks(show_frame(axis, view, reference, f'reference frame {reference}', wash=0.3), uv_px, colors.values(), width=1.5)
plt.show()


# %% [markdown]
# ## Points on objects
#
# A rigid object carries its points: $\mathbf X[t]=T_{wo}[t]\,\mathbf X_o$. Where the object is absent there is no point, and NaN
# says so; every later test treats NaN as "not seen".

# %%
#| export
def object_points(clip: Clip, object_id: int, points_object: np.ndarray) -> np.ndarray:
    "World track (T, N, 3) in metres of points (N, 3) fixed to an object; NaN in frames where it is absent."
    thing = clip.object(object_id)
    xyz_world = transform(thing.world_from_object, np.asarray(points_object, dtype=np.float64))  # (T, N, 3)
    return np.where(thing.present[:, None, None], xyz_world, np.nan)


# %%
spins = simulate_clips(20, 11, preset, domain='open', camera_program='left', height=150, width=220,
                       object_programs=('spinning_left', 'straight'))
spin = next(candidate for candidate in spins if candidate.objects[0].label == 'car')
thing = spin.objects[0]
corners_m = object_points(spin, thing.id, thing.corners_object_m[[1, 5, 7]])
pair = [track(spin.view.K, spin.view.w2c, corners_m, *more)[0]
        for track, more in ((visual_track, ()), (true_motion_track, (0,)))]
motion_pair(spin, *pair, PALETTE[1:4], width_in=7.4); plt.show()

# %% [markdown]
# Three upper corners of a spinning car's box. Held still, the camera sees parts of one ellipse; in the video they are
# dragged sideways.

# %%
radius_m = np.linalg.norm(corners_m - thing.centers_m[:, None], axis=-1)
assert np.allclose(radius_m, radius_m[0])                                    # rigid: distances to the centre stay
gone = np.arange(16) != 5
absent = Clip(**{**vars(spin), 'objects': (type(thing)(**{**vars(thing), 'present': gone}),)})
assert np.isnan(object_points(absent, thing.id, [[0, 0, 0]])[~gone]).all()


# %% [markdown]
# ## Who can see it
#
# The papers want an occlusion flag with every coordinate. 4DP-QA takes it from the *target frame*: is the point visible to
# the camera at time t? We use that for both kinds of track. A point is visible if it falls into the picture and the depth
# map there is not nearer than the point.
#
# "There" needs care. A projected point lies between four pixel centres, and at an object's edge some of them belong to
# something else. Like TAP-Vid-Kubric we let the *farthest* of the four decide, and allow 1 % of depth for rounding.

# %%
#| export
def point_visibility(view: View, uv_px: np.ndarray, depth_m: np.ndarray,
                     tolerance: float = 0.01) -> np.ndarray:
    """Which points (T, N) are seen: inside the picture, at most `tolerance` (relative) behind the depth map.

    Of the four surrounding pixels the farthest decides. Without a depth map only the first half is known.
    """
    seen = in_image(uv_px, depth_m, view.height, view.width)
    if view.depth_m is None: return seen
    surface_m = view.depth_m[_neighbours(view, uv_px)].max(0)  # (T, N); 0 where nothing was measured
    return seen & (depth_m * (1 - tolerance) <= surface_m)

def _neighbours(view: View, uv_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Frames, rows and columns, each (4, T, N), of the four pixels whose centres surround uv_px (T, N, 2)."
    finite = np.nan_to_num(uv_px, nan=-1, posinf=-1, neginf=-1).clip(-1, 1e6)
    steps = np.array([(0, 0), (1, 0), (0, 1), (1, 1)])[:, None, None]
    columns, rows = np.moveaxis(np.floor(finite - 0.5).astype(int) + steps, -1, 0)
    frames = np.broadcast_to(np.arange(len(uv_px))[:, None], rows.shape)
    return frames, rows.clip(0, view.height - 1), columns.clip(0, view.width - 1)


# %%
#| export
@dataclass(frozen=True)
class PointTrack:
    "N projected points of a clip, with two flags: inside the picture, and seen by the camera of their frame."
    uv_px: np.ndarray     # (T, N, 2)
    depth_m: np.ndarray   # (T, N)
    in_frame: np.ndarray  # (T, N) bool: in front of the projecting camera and inside its picture
    visible: np.ndarray   # (T, N) bool: seen by the camera of frame t, for both kinds of track

def track_points(clip: Clip, xyz_world: np.ndarray, view_index: int = 0,
                 reference: int | None = None) -> PointTrack:
    "The visual track of points (T, N, 3), or with a `reference` frame their true-motion track."
    view = clip.views[view_index]
    uv_px, depth_m = visual_track(view.K, view.w2c, xyz_world)
    visible = point_visibility(view, uv_px, depth_m)
    if reference is not None:
        _check_frame(clip, reference)
        uv_px, depth_m = true_motion_track(view.K, view.w2c, xyz_world, reference)
    return PointTrack(uv_px, depth_m, in_image(uv_px, depth_m, view.height, view.width), visible)

def _check_frame(clip: Clip, frame: int) -> None:
    if not 0 <= frame < clip.frames_count:
        raise InputError(f'clip {clip.id}: no frame {frame}; give one from 0 to {clip.frames_count - 1}')


# %% [markdown]
# The first object passes behind the second. We take every point of it that frame 0 shows and follow one that is hidden for
# about five frames *by something else*. How a pixel becomes a point is the next section's matter; here it is two lines.

# %%
mover, mask = clip.objects[0], view.instances[0] == clip.objects[0].id
shown_world_m = unproject(K, w2c[0], pixel_centers(150, 220)[mask], view.depth_m[0][mask].astype(float))
shown_m = transform(invert_pose(mover.world_from_object[0]), shown_world_m)             # (N, 3), in the object's axes
followed = track_points(clip, object_points(clip, mover.id, shown_m))
columns, rows = np.floor(followed.uv_px).astype(int).clip(0, (219, 149)).transpose(2, 0, 1)
covering = view.instances[np.arange(16)[:, None], rows, columns]                        # (T, N) whose pixel it is
by_another = ~followed.visible & (covering != mover.id) & followed.in_frame
point = np.abs(by_another.sum(0) - 5).argmin()
hidden, surface_m = np.flatnonzero(by_another[:, point]), view.depth_m[np.arange(16), rows[:, point], columns[:, point]]


# %%
def mark(axis, frame):
    seen = followed.visible[frame, point]
    axis.plot(*followed.uv_px[frame, point], 'o', markersize=7, color=PALETTE[4] if seen else 'none', markeredgecolor=INK)
    axis.set_title('seen' if seen else 'hidden', fontsize=9)

frame_strip(clip, frames=np.unique([0, hidden[0] - 1, hidden[0], hidden[-1], min(hidden[-1] + 1, 15)]), width_in=7.4, draw=mark); plt.show()

# %%
figure, axis = plt.subplots(figsize=(5.6, 2.1))
axis.plot(followed.depth_m[:, point], color=PALETTE[4], linewidth=3, label='the point')
axis.step(range(16), surface_m, where='mid', color=INK, linewidth=1.2, label='the depth map at its pixel')
for frame in hidden: axis.axvspan(frame - 0.5, frame + 0.5, color=MUTED, alpha=0.15, linewidth=0)
axis.set(xlabel='frame', ylabel='depth (m)', title='hidden where the map is nearer'); axis.legend(); plt.show()

# %%
print(f'hidden in frames {hidden.tolist()}, by {set(covering[hidden, point].tolist())}')
assert len(hidden) >= 1 and followed.visible[0].all()
assert (surface_m[hidden] < followed.depth_m[hidden, point]).all()
assert clip.objects[1].id in covering[hidden, point]                                     # it is the standing one that hides it
held = track_points(clip, object_points(clip, mover.id, shown_m), reference=0)
assert (held.visible == followed.visible).all() and not np.allclose(held.uv_px, followed.uv_px)


# %% [markdown]
# ## From pixels to tracks
#
# So far we knew the points. A data set gives depth, masks and poses instead, and that is enough: un-project a pixel at
# frame $t_q$; if the mask says it belongs to an object, express the point in that object's axes and let the pose carry it;
# if not, it is background and stays. This is how 4DP-QA gets the tracks of all five of its sources.
#
# The depth is that of the pixel which contains (u, v), not an average of neighbours: averaging across an edge makes points
# that hang in the air **[ours]**.

# %%
#| export
def lift_pixels(clip: Clip, view_index: int, frame: int, uv_px) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (N, 2) by depth, mask and pose → object ids (N,), points (N, 3), world tracks (T, N, 3).

    Points are in their object's axes, or in the world for the background (id 0), which is taken to rest.
    Pixels without a finite depth, or on an object without a pose, get NaN.
    """
    view, uv_px = _depth_view(clip, view_index, frame), np.asarray(uv_px, dtype=np.float64)
    if not ((0 <= uv_px) & (uv_px < (view.width, view.height))).all():
        raise InputError(f'clip {clip.id}: a pixel is outside {view.width} x {view.height}; move it inside')
    columns, rows = np.floor(uv_px).astype(int).T
    depth_m = view.depth_m[frame, rows, columns].astype(np.float64)
    depth_m[~(np.isfinite(depth_m) & (depth_m > 0))] = np.nan
    points = unproject(view.K, view.w2c[frame], uv_px, depth_m)  # (N, 3), world
    ids = np.zeros(len(points), int)
    if view.instances is not None: ids += view.instances[frame, rows, columns]
    tracks = np.where((ids == 0)[:, None], points, np.nan) * np.ones((clip.frames_count, 1, 1))
    for thing in clip.objects:
        if thing.id not in ids or not thing.present[frame]: continue
        mine = ids == thing.id
        points[mine] = transform(invert_pose(thing.world_from_object[frame]), points[mine])
        tracks[:, mine] = object_points(clip, thing.id, points[mine])
    return ids, points, tracks

def _depth_view(clip: Clip, view_index: int, frame: int) -> View:
    _check_frame(clip, frame)
    view = clip.views[view_index]
    if view.depth_m is not None: return view
    raise InputError(f'clip {clip.id}: view {view.name} has no depth to lift with; choose a clip that has')


# %%
#| export
def lift_pixel(clip: Clip, view_index: int, frame: int, uv_px) -> tuple[int, np.ndarray, np.ndarray]:
    "One pixel (u, v): object id or 0, the point (3,) in the object's or world axes, its world track (T, 3)."
    ids, points, tracks = lift_pixels(clip, view_index, frame, np.reshape(uv_px, (1, 2)))
    if np.isnan(tracks[frame, 0]).any():
        where = 'pixel ({:.1f}, {:.1f})'.format(*np.ravel(uv_px))
        raise InputError(f'clip {clip.id}: {where} of frame {frame} has no depth or no pose; choose another')
    return int(ids[0]), points[0], tracks[:, 0]

def dense_tracks(clip: Clip, view_index: int = 0, frame: int = 0, step: int = 1):
    "Every `step`-th pixel of a frame that can be lifted: pixels (N, 2), object ids (N,), tracks (T, N, 3)."
    view = _depth_view(clip, view_index, frame)
    uv_px = pixel_centers(view.height, view.width)[step // 2::step, step // 2::step].reshape(-1, 2)
    ids, _, tracks = lift_pixels(clip, view_index, frame, uv_px)
    known = np.isfinite(tracks[frame]).all(-1)
    return uv_px[known], ids[known], tracks[:, known]


# %%
grid_uv_px, ids, tracks = dense_tracks(clip, frame=0, step=12)
pair = track_points(clip, tracks), track_points(clip, tracks, reference=0)
dot_colors = [colors.get(number, MUTED) for number in ids]
motion_pair(clip, pair[0].uv_px, pair[1].uv_px, dot_colors, shown=(pair[0].visible, None), wash=0.7, width_in=5.6, line=1.1)
plt.show()

# %% [markdown]
# Every twelfth pixel of frame 0, lifted. On the left the whole floor streams through the picture. On the right it is a
# field of dots, and only what moves leaves a line: this picture *is* the lesson of 4DP-QA.

# %%
floor = ids == 0
assert np.abs(pair[1].uv_px[:, floor] - grid_uv_px[floor]).max() < 1e-6              # the floor stands still
assert np.abs(pair[0].uv_px[0] - grid_uv_px).max() < 1e-6 and pair[0].visible[0].all()  # lifted points come back
warped_m, surface_m = pair[0].depth_m[8], view.depth_m[8]
columns, rows = np.floor(pair[0].uv_px[8]).astype(int).T
seen = pair[0].visible[8] & floor
error = np.abs(warped_m[seen] / surface_m[rows[seen], columns[seen]] - 1)
print(f'floor warped from frame 0 to 8: median depth error {100 * np.median(error):.2f} %')
assert np.median(error) < 0.01


# %% [markdown]
# ## How far it went
#
# Three numbers tell a parked car from a driving one: how much its world track spreads, how far its visual track gets, and
# how far its true-motion track gets. Frames behind the camera do not count: there a pixel means nothing.

# %%
#| export
def world_spread_m(xyz_world: np.ndarray) -> float | np.ndarray:
    "RMS distance of a track (T, 3) or tracks (T, N, 3) from its own mean position; NaN frames are left out."
    offset_m = xyz_world - np.nanmean(xyz_world, axis=0)
    return np.sqrt(np.nanmean((offset_m ** 2).sum(-1), axis=0))

def displacement_px(uv_px: np.ndarray, reference: int) -> np.ndarray:
    "Distance in pixels (T, N) of tracks (T, N, 2) from where they are in frame `reference`."
    return np.linalg.norm(uv_px - uv_px[reference], axis=-1)

def largest_displacement_px(uv_px: np.ndarray, depth_m: np.ndarray, reference: int) -> np.ndarray:
    "The largest of these (N,), over the frames in which the point exists and is in front of the camera."
    counted = (depth_m > 0) & np.isfinite(uv_px).all(-1)
    return np.where(counted, displacement_px(uv_px, reference), 0.0).max(0)


# %%
centers = track_points(clip, centers_m), track_points(clip, centers_m, reference=0)
visual_px, true_px = (largest_displacement_px(track.uv_px, track.depth_m, 0) for track in centers)
spread_m = world_spread_m(centers_m)
figure, axis = plt.subplots(figsize=(6.4, 2.0))
places = np.arange(3)
axis.barh(places - 0.18, visual_px, 0.34, color=[PALETTE[5]], label='visual track')
axis.barh(places + 0.18, true_px, 0.34, color=[PALETTE[1]], label='true motion')
names = [f'{item.caption}\nspread {spread:.2f} m' for item, spread in zip(clip.objects, spread_m)]
axis.set(yticks=places, yticklabels=names, xlabel='largest displacement from frame 0 (px)'); axis.invert_yaxis(); axis.legend(); plt.show()

# %%
assert spread_m[1] < 1e-9 and (spread_m[[0, 2]] > 0.1).all()
assert true_px[1] < 1e-6 < 30 < visual_px[1]
assert np.isclose(world_spread_m(np.array([[0.0, 0, 0], [0, 0, 2], [np.nan] * 3, [0, 0, 4]])), np.sqrt(8 / 3))

# %% [markdown]
# ## What we proved
#
# * The two equations differ in one index, and six properties tell them apart on a real clip.
# * A visibility flag agrees with the mask: where a point is hidden, something nearer owns its pixel.
# * Depth, masks and poses are enough to lift any pixel; static background then stands still in true motion.
#
# ## Try it
#
# 1. Take a point on the far side of the first object. In which frames is it visible, and why?
# 2. Lift every pixel of frame 8 instead of frame 0. Which part of the floor appears that frame 0 does not have?
# 3. Add 5 % noise to the depth before lifting. Do static points still stand still? Does the visual track still start at
#    its pixel?
#
# <details><summary>Solutions</summary>
#
# 1. In the frames in which the camera has come around far enough that no nearer surface lies between:
#    `track_points(...).visible`. The point is inside the picture nearly always; the depth map decides.
# 2. The strip that enters at the side the camera turns or moves to, and what objects had hidden. `dense_tracks(clip,
#    0, 8)` and the view from above of both show it.
# 3. Static points still stand still: a wrong depth puts the point to a wrong but resting place. In the clicked frame
#    the visual track starts at its pixel, since lifting and projecting use the same camera; in the others it is off
#    by the parallax of the error.
#
# </details>
