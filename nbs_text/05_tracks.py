# %% [markdown]
# # Tracks
# > The visual track and the true-motion track of a 3D point, who can see it, and how to lift pixels to tracks.

# %%
#| default_exp tracks

# %% [markdown]
# #| export
# Tracks are time first: `xyz_world` (T, N, 3), `uv_px` (T, N, 2), `depth_m` (T, N), flags (T, N).
# A frame in which a point's object is absent holds NaN. Visibility always means: seen by the camera of that frame.

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


# %% [markdown]
# ## Two projections of one track
#
# A point moves through the world, $\{\mathbf X[t]\}$, and so does the camera, $\{\mathbf T[t]\}$. The paper looks at the point in two ways:
#
# $$P_{2D}=\{\Pi(\mathbf K,\mathbf T[t],\mathbf X[t])\}\quad(1)\qquad\qquad M_{2D}=\{\Pi(\mathbf K,\mathbf T[t_q],\mathbf X[t])\}\quad(2)$$
#
# The **visual track** $P_{2D}$ asks each frame's own camera. It is what a point tracker reports. The **true-motion track**
# $M_{2D}$ asks one camera only, the one of the reference frame $t_q$: what would we have seen, had the camera stood still?
# The difference in code is one index.

# %%
#| export
def visual_track(K: Array, w2c: Array, xyz_world: Array) -> tuple[Array, Array]:
    "P₂D of 4DP-QA Eq. 1: points (T, N, 3), each through the camera (T, 4, 4) of its own frame → (T, N, 2) px, (T, N) m."
    return project(K, w2c, xyz_world)

def true_motion_track(K: Array, w2c: Array, xyz_world: Array, reference: int) -> tuple[Array, Array]:
    "M₂D of 4DP-QA Eq. 2: the same points, all of them through the one camera of frame `reference`."
    return project(K, w2c[reference], xyz_world)


# %%
#| export
def object_points(clip: Clip, object_id: int, points_object: np.ndarray) -> np.ndarray:
    "World track (T, N, 3) in metres of points (N, 3) fixed to an object; NaN in frames where it is absent."
    thing = clip.object(object_id)
    xyz_world = transform(thing.world_from_object, np.asarray(points_object, dtype=np.float64))  # (T, N, 3)
    return np.where(thing.present[:, None, None], xyz_world, np.nan)


# %%
#| export
def _neighbours(view: View, uv_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Frames, rows and columns, each (4, T, N), of the four pixels whose centres surround uv_px (T, N, 2)."
    corner = np.floor(np.nan_to_num(uv_px, posinf=-1, neginf=-1).clip(-2, 1e6) - 0.5).astype(int)  # (T, N, 2)
    steps = np.array([(0, 0), (1, 0), (0, 1), (1, 1)])[:, None, None]
    columns, rows = np.moveaxis(corner + steps, -1, 0)
    frames = np.broadcast_to(np.arange(len(uv_px))[:, None], rows.shape)
    return frames, rows.clip(0, view.height - 1), columns.clip(0, view.width - 1)

def point_visibility(view: View, uv_px: np.ndarray, depth_m: np.ndarray, tolerance: float = 0.01) -> np.ndarray:
    """Which points (T, N) the camera sees: inside the picture and not behind the depth map by more than `tolerance` (relative).

    The farthest of the four surrounding pixels decides, as in TAP-Vid-Kubric. Without a depth map only the first half is known.
    """
    seen = in_image(uv_px, depth_m, view.height, view.width)
    if view.depth_m is None: return seen
    surface_m = view.depth_m[_neighbours(view, uv_px)].max(0)  # (T, N); 0 where nothing was measured
    return seen & (depth_m * (1 - tolerance) <= surface_m)


# %%
#| export
@dataclass(frozen=True)
class PointTrack:
    "N projected points of a clip: pixels, planar depth, whether the picture holds them, whether the camera of each frame sees them."
    uv_px: np.ndarray     # (T, N, 2)
    depth_m: np.ndarray   # (T, N)
    in_frame: np.ndarray  # (T, N) bool: in front of the projecting camera and inside its picture
    visible: np.ndarray   # (T, N) bool: seen by the camera of frame t, for both kinds of track

def track_points(clip: Clip, xyz_world: np.ndarray, view_index: int = 0, reference: int | None = None) -> PointTrack:
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
        raise InputError(f'clip {clip.id}: frame {frame} does not exist; give one from 0 to {clip.frames_count - 1}')


# %%
#| export
def lift_pixels(clip: Clip, view_index: int, frame: int, uv_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lift pixels (N, 2) of one frame through depth, mask and object pose → object ids (N,), points (N, 3), tracks (T, N, 3).

    Points are in their object's frame, or in the world for the background (id 0), which is taken to be at rest. Pixels without
    a finite depth, or on an object the clip has no pose for, get NaN.
    """
    view, uv_px = _depth_view(clip, view_index, frame), np.asarray(uv_px, dtype=np.float64)
    columns, rows = np.floor(uv_px).astype(int).T
    if uv_px.size and not ((0 <= uv_px) & (uv_px < (view.width, view.height))).all():
        raise InputError(f'clip {clip.id}: a pixel lies outside the {view.width} x {view.height} picture of view {view.name}')
    depth_m = view.depth_m[frame, rows, columns].astype(np.float64)
    depth_m[~(np.isfinite(depth_m) & (depth_m > 0))] = np.nan
    points = unproject(view.K, view.w2c[frame], uv_px, depth_m)  # (N, 3), world
    ids = np.zeros(len(points), int) if view.instances is None else view.instances[frame, rows, columns].astype(int)
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
    if view.depth_m is None: raise InputError(f'clip {clip.id}: view {view.name} has no depth; pixels cannot be lifted')
    return view


# %%
#| export
def lift_pixel(clip: Clip, view_index: int, frame: int, uv_px) -> tuple[int, np.ndarray, np.ndarray]:
    "One pixel (u, v): its object id or 0, the point (3,) in the object's or the world frame, its track (T, 3) in the world."
    ids, points, tracks = lift_pixels(clip, view_index, frame, np.reshape(uv_px, (1, 2)))
    if np.isnan(tracks[frame, 0]).any():
        u, v = np.ravel(uv_px)
        raise InputError(f'clip {clip.id}: pixel ({u:.1f}, {v:.1f}) of frame {frame} has no depth or no pose; choose another')
    return int(ids[0]), points[0], tracks[:, 0]

def dense_tracks(clip: Clip, view_index: int = 0, frame: int = 0, step: int = 1):
    "Pixels (N, 2), object ids (N,) and world tracks (T, N, 3) of every `step`-th pixel of a frame that can be lifted."
    view = _depth_view(clip, view_index, frame)
    uv_px = pixel_centers(view.height, view.width)[step // 2::step, step // 2::step].reshape(-1, 2)
    ids, _, tracks = lift_pixels(clip, view_index, frame, uv_px)
    known = np.isfinite(tracks[frame]).all(-1)
    return uv_px[known], ids[known], tracks[:, known]


# %%
#| export
def world_spread_m(xyz_world: np.ndarray) -> float | np.ndarray:
    "RMS distance of a track (T, 3) or tracks (T, N, 3) from its own mean position; frames with NaN are left out."
    offset_m = xyz_world - np.nanmean(xyz_world, axis=0)
    return np.sqrt(np.nanmean((offset_m ** 2).sum(-1), axis=0))

def displacement_px(uv_px: np.ndarray, reference: int) -> np.ndarray:
    "Distance in pixels (T, N) of tracks (T, N, 2) from where they are in frame `reference`."
    return np.linalg.norm(uv_px - uv_px[reference], axis=-1)

def largest_displacement_px(uv_px: np.ndarray, depth_m: np.ndarray, reference: int) -> np.ndarray:
    "The largest of these (N,), over the frames in which the point exists and is in front of the camera."
    counted = (depth_m > 0) & np.isfinite(uv_px).all(-1)
    return np.where(counted, displacement_px(uv_px, reference), 0.0).max(0)
