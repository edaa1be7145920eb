# %% [markdown]
# # Points without boxes
# > Stereo4D and TAPVid-3D track points, not objects; each becomes a tiny object that can be asked about.

# %%
#| default_exp point_tracks

# %% [markdown]
# #| export
# Converted from: Stereo4D c2w 3×4 of the rectified left eye, stamps in µs, sparse world tracks, f = 443.4
# px for its 512×512 crops, metric up to its assumed 63 mm baseline; TAPVid-3D tracks in the camera of
# *each* frame. A point's box is 2 cm wide.

# %% [markdown]
# * **What** `read_stereo4d` and `read_tapvid3d`
# * **Why** MLLM-4D curates Stereo4D; TAPVid-3D is the benchmark of 3D point tracking
# * **Paper** MLLM-4D, data curation; points as objects are **[ours]**
# * **Needs** nothing (no sample of either is at hand: files in their layouts are written here)
# * **Time** 10 seconds
# * **Before this** `07_raw`, `07g_rgbd`

# %%
#| export
import io
from pathlib import Path

import numpy as np

# %%
#| export
from track4d_ref.storage import InputError, read_arrays
from track4d_ref.cameras import intrinsics, invert_pose, pose_from, transform
from track4d_ref.clips import Clip, SceneObject, View
from track4d_ref.raw import array_of, check_rigid, open_picture, sound_clip, whole_numbers
from track4d_ref.kitti import nearest_known
from track4d_ref.rgbd import level_up

# %%
import tempfile
import matplotlib.pyplot as plt
from PIL import Image

from track4d_ref.cameras import look_at, project
from track4d_ref.viz import birds_eye, use_style

use_style()

# %% [markdown]
# ## A point as an object
#
# Our questions speak of objects: a pose, a size, a caption. A tracked point has a place only. We give it a box of 2 cm
# without rotation, in which questions about distance, direction and tracks make sense and questions about turning do
# not. A file may hold thousands of points. At most 64 are kept, evenly over those seen in at least two frames. Points seen once have no motion to ask about and
# are dropped first.

# %%
#| export
POINT_SIZE_M, MOST_POINTS = np.full(3, 0.02), 64

def point_objects(xyz_world: np.ndarray, most: int = MOST_POINTS) -> tuple[SceneObject, ...]:
    "Objects from world tracks (T, N, 3), NaN where a point is not known; id = column + 1."
    known = np.isfinite(xyz_world).all(-1)  # (T, N)
    columns = np.flatnonzero(known.sum(0) >= 2)
    chosen = np.linspace(0, max(len(columns) - 1, 0), min(most, len(columns))).round().astype(int)
    columns = columns[np.unique(chosen)]
    found = []
    for column in columns:
        places_m = xyz_world[nearest_known(known[:, column]), column]
        found.append(SceneObject(id=int(column) + 1, label='point', caption=f'point {column + 1}',
                                 size_m=POINT_SIZE_M,
                                 world_from_object=pose_from(np.eye(3), places_m), present=known[:, column]))
    return tuple(found)


# %%
tracks_m = np.full((5, 3, 3), np.nan)
tracks_m[:, 0], tracks_m[1:4, 1], tracks_m[2, 2] = (1, 2, 3), (4, 5, 6), (7, 8, 9)
points = point_objects(tracks_m)

# %%
assert [point.id for point in points] == [1, 2]                        # the third is seen only once
assert points[1].present.tolist() == [False, True, True, True,
                                      False] and np.isfinite(points[1].world_from_object).all()

# %% [markdown]
# ## Stereo4D
#
# Tracks are stored sparsely: `track_lengths` says how many frames each point has, `track_indices` which, `track_coordinates`
# where. Unrolled they are a (T, N, 3) array with gaps. Poses are camera → world, 3×4. The frames themselves must be cut
# from the 180° videos by the reader's owner, so a clip from the npz alone has no pictures. The reader keeps the gaps: a point without a
# coordinate is absent at that frame, not at (0, 0, 0). A track that the file's index arrays contradict is refused.

# %%
#| export
STEREO4D_FOCAL_PX, STEREO4D_SIZE_PX, MAX_CELLS = 443.4, 512, 50_000_000

def _unrolled_tracks(arrays: dict, count: int, path: Path) -> np.ndarray:
    "World tracks (T, N, 3) with NaN gaps from Stereo4D's lengths, indices and coordinates."
    lengths = whole_numbers(array_of(arrays, 'track_lengths', (None,), str(path)), f'{path}, track_lengths')
    frames = whole_numbers(array_of(arrays, 'track_indices', (None,), str(path)), f'{path}, track_indices', 0,
                           count - 1)
    places_m = array_of(arrays, 'track_coordinates', (len(frames), 3), str(path))
    if lengths.sum() != len(frames):
        raise InputError(f'{path}: track_lengths add up to {lengths.sum()}, not {len(frames)}; write it '
                         'again')
    if len(lengths) * count > MAX_CELLS:
        raise InputError(f'{path}: {len(lengths)} tracks of {count} frames are too many; split the file')
    tracks_m = np.full((count, len(lengths), 3), np.nan)
    tracks_m[frames, np.repeat(np.arange(len(lengths)), lengths)] = places_m
    return tracks_m


# %%
#| export
def read_stereo4d(path: Path | str) -> Clip:
    "A Stereo4D npz as a clip of moving points without pictures; up is that of the first camera held level."
    path = Path(path)
    arrays = read_arrays(path)
    matrix = array_of(arrays, 'camera2world', (None, 3, 4), str(path))
    if not len(matrix): raise InputError(f'{path}: camera2world is empty; write the file again')
    c2w = check_rigid(pose_from(matrix[..., :3], matrix[..., 3]), f'{path}, camera2world')
    times_s = array_of(arrays, 'timestamps', (len(c2w),), str(path)) / 1e6
    if not (np.diff(times_s) > 0).all():
        raise InputError(f'{path}: timestamps do not increase; sort the frames')
    size = STEREO4D_SIZE_PX
    view = View(name='left', K=intrinsics(STEREO4D_FOCAL_PX, STEREO4D_FOCAL_PX, size / 2, size / 2),
                w2c=invert_pose(c2w), height=size, width=size)
    return sound_clip(Clip(id=f'stereo4d_{path.stem}', views=(view,),
                objects=point_objects(_unrolled_tracks(arrays, len(c2w), path)), times_s=times_s - times_s[0],
                up=level_up(view.w2c[0]), source='stereo4d',
                licence='Stereo4D (videos under their own terms)',
                meta={'camera_poses_known': True, 'metric': 'pseudo: a baseline of 63 mm is assumed'}), path)


# %%
folder = Path(tempfile.mkdtemp())
c2w = np.stack([np.linalg.inv(look_at((0.1 * t, 0, 1.6), (0.1 * t, 5, 1.2), (0, 0, 1))) for t in range(6)])
lengths = np.array([6, 4, 3])
frames = np.concatenate([np.arange(6), np.arange(2, 6), np.arange(3)])
coordinates = np.concatenate([np.tile((0.5, 5, 1.0), (6, 1)),
                              np.stack([(-1 + 0.3 * t, 6, 0.9) for t in range(4)]),
                              np.tile((1, 4, 1.5), (3, 1))])
np.savez(folder / 'walk.npz', camera2world=c2w[:, :3], timestamps=np.arange(6) * 33_333,
         track_lengths=lengths,
         track_indices=frames, track_coordinates=coordinates)
street = read_stereo4d(folder / 'walk.npz')

# %%
figure, axis = plt.subplots(figsize=(4, 3), dpi=85)
birds_eye(axis, street, 2)
for point in street.objects:
    axis.plot(point.centers_m[point.present, 0], point.centers_m[point.present, 1], 'o', markersize=4)
axis.set_title('two points stand, one moves', fontsize=8); plt.show()

# %%
assert len(street.objects) == 3 and np.allclose(street.objects[1].centers_m[2:, 0], (-1, -0.7, -0.4, -0.1))
assert np.allclose(street.up, (0, 0, 1), atol=0.1) and np.isclose(street.times_s[-1], 5 * 0.033333)


# %% [markdown]
# ## TAPVid-3D
#
# Here every track is written in the camera of *its own frame*. Without extrinsics the world cannot be known, and a standing
# point seems to move. Then the clip's world is the camera of each frame, and `camera_poses_known` is False. With
# `extrinsics_w2c` in the file the points are carried into the world. The README names other keys than the code
# writes; both are accepted. `visibility` hides points, but their places stay known.

# %%
#| export
def _first_key(arrays: dict, keys: tuple[str, ...], path: Path) -> str:
    "The first of several possible names that the file holds."
    for key in keys:
        if key in arrays: return key
    raise InputError(f'{path}: no array {keys[0]!r}; the file must hold it')

def _jpeg_frames(arrays: dict, count: int, path: Path) -> np.ndarray | None:
    "Frames (T, H, W, 3) from encoded pictures; None if the file has none."
    if 'images_jpeg_bytes' not in arrays: return None
    pictures = arrays['images_jpeg_bytes']
    if pictures.shape != (count,) or pictures.dtype.kind != 'S':
        raise InputError(f'{path}, images_jpeg_bytes: expected {count} encoded pictures; write the file '
                         'again')
    decoded = [np.asarray(open_picture(io.BytesIO(bytes(one)), f'{path}, picture {t}').convert('RGB')) for t,
               one in enumerate(pictures)]
    if len({one.shape for one in decoded}) != 1:
        raise InputError(f'{path}: its pictures differ in size; write the file again')
    return np.stack(decoded)


# %%
#| export
def read_tapvid3d(path: Path | str) -> Clip:
    """A TAPVid-3D npz as a clip of points; pixel centres of its intrinsics are taken at +½, as its ADT part
    writes them."""
    path = Path(path)
    arrays = read_arrays(path)
    tracks_m = array_of(arrays, _first_key(arrays, ('tracks_XYZ', 'tracks_xyz'), path), (None, None, 3),
                        str(path))
    count = len(tracks_m)
    if not count: raise InputError(f'{path}: tracks are empty; write the file again')
    lens = array_of(arrays, _first_key(arrays, ('fx_fy_cx_cy', 'intrinsics'), path), (4,), str(path))
    if not (lens[:2] > 0).all():
        raise InputError(f'{path}: focal lengths must be positive; correct fx_fy_cx_cy')
    frames = _jpeg_frames(arrays, count, path)
    known = 'extrinsics_w2c' in arrays
    w2c = array_of(arrays, 'extrinsics_w2c', (count, 4, 4),
                   str(path)) if known else np.repeat(np.eye(4)[None], count, 0)
    height, width = (int(np.clip(2 * lens[3], 1, 20_000)),
                     int(np.clip(2 * lens[2], 1, 20_000))) if frames is None else frames.shape[1:3]
    view = View(name='camera', K=intrinsics(*lens), w2c=check_rigid(w2c, f'{path}, extrinsics_w2c'),
                height=height, width=width, frames=frames)
    xyz_world = transform(invert_pose(w2c), tracks_m)
    return sound_clip(Clip(id=f'tapvid3d_{path.stem}', views=(view,), objects=point_objects(xyz_world),
                times_s=np.arange(count) / 30, up=level_up(w2c[0]),
                source='tapvid3d', licence='TAPVid-3D; pictures under the terms of their data sets',
                meta={'camera_poses_known': known}), path)


# %%
w2c = invert_pose(c2w)
world_m = np.tile(np.array([[0.5, 5, 1.0], [-0.4, 4, 1.5]]), (6, 1, 1))
encoded = []
for t in range(6):
    buffer = io.BytesIO()
    Image.new('RGB', (96, 72), (40 * t, 90, 120)).save(buffer, 'JPEG')
    encoded.append(buffer.getvalue())
arrays = {'tracks_XYZ': transform(w2c, world_m), 'visibility': np.ones((6, 2), bool),
          'fx_fy_cx_cy': np.array([90.0, 88, 50, 35]),
          'images_jpeg_bytes': np.array(encoded)}
np.savez(folder / 'bare.npz', **arrays)
np.savez(folder / 'posed.npz', **arrays, extrinsics_w2c=w2c)
bare, posed = read_tapvid3d(folder / 'bare.npz'), read_tapvid3d(folder / 'posed.npz')

# %%
figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.4), dpi=85)
for axis, one, title in zip(axes, (bare, posed),
                            ('world unknown: points slide', 'with extrinsics: they stand')):
    for point in one.objects: axis.plot(one.times_s, point.centers_m[:, 0] - point.centers_m[0, 0], 'o-')
    axis.set(title=title, xlabel='time (s)', ylabel='x moved (m)', ylim=(-0.6, 0.1))
plt.show()

# %%
assert not bare.meta['camera_poses_known'] and np.ptp(bare.objects[0].centers_m, axis=0).max() > 0.4
assert posed.meta['camera_poses_known'] and np.ptp(posed.objects[0].centers_m, axis=0).max() < 1e-9
assert (bare.view.width, bare.view.height) == (96, 72) and bare.view.frames[5, 0, 0, 0] > 150

# %% [markdown]
# ## Both at a glance
#
# The same two standing points, projected through each frame's camera, must land on the same pixels in both clips. Only
# the world behind them differs. If the
# pictures of both clips agree and the worlds do not, a test in pixels alone would pass either reading. That is
# why this notebook asserts both.

# %%
pixels = [project(one.view.K, one.view.w2c, np.stack([point.centers_m for point in one.objects], 1))[0]
          for one in (bare, posed)]
figure, axis = plt.subplots(figsize=(3.6, 2.6), dpi=85)
for uv_px, marker in zip(pixels, 'ox'): axis.plot(*uv_px.reshape(-1, 2).T, marker, fillstyle='none')
axis.set(xlim=(0, 96), ylim=(72, 0), aspect='equal', title='circles: bare, crosses: posed', xlabel='u (px)',
         ylabel='v (px)'); plt.show()

# %%
assert np.allclose(pixels[0], pixels[1])

# %% [markdown]
# ## What we proved
#
# * Sparse and dense point tracks become clips; gaps become absence, not zeros.
# * Tracks in camera coordinates are only carried into a world if the file knows one.
#
# ## Try it
#
# 1. Give `point_objects` ten thousand random walks. Which 64 does it keep?
# 2. Remove `fx_fy_cx_cy` from a file and read the sentence.
# 3. Add a frame without any point to the Stereo4D file. What is `present` there?
#
# <details><summary>Solutions</summary>
#
# 1. 64 columns spread evenly over those known in two frames or more, whatever the points do. If only some columns matter,
#    pass only those.
# 2. It names the file and the field. Without intrinsics a pixel has no direction, so nothing can be guessed.
# 3. False for all points in that frame: nobody was seen. The frame itself stays.
#
# </details>
