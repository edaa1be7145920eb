# %% [markdown]
# # Your own video
# > Frames, poses and depth from any reconstruction become a clip; 7-Scenes and TUM RGB-D are two cases of it.

# %%
#| default_exp rgbd

# %% [markdown]
# #| export
# Converted from: camera→world poses, as 4×4 text (7-Scenes) or `stamp tx ty tz qx qy qz qw` (TUM, scalar
# last); depth in 16-bit millimetres (7-Scenes) or fifths of a millimetre (TUM). `read_own` takes an npz in
# the project's own conventions.

# %% [markdown]
# * **What** `read_sevenscenes`, `read_tum`, and `read_own` for a video of your own
# * **Why** a practitioner has a phone video and a reconstruction of it, not a benchmark
# * **Paper** MLLM-4D and 4DP-QA both start from posed video with depth; the npz layout is **[ours]**
# * **Needs** nothing; with `TRACK4D_DATA` set it shows a real room
# * **Time** 15 seconds
# * **Before this** `07_raw`

# %%
#| export
import re
from pathlib import Path

import numpy as np

# %%
#| export
from track4d_ref.storage import InputError, inside, read_arrays
from track4d_ref.cameras import intrinsics, invert_pose, pose_from
from track4d_ref.clips import Clip, SceneObject, View
from track4d_ref.raw import (array_of, check_rigid, metric_depth, nearest_index, number, read_lines, read_map,
                             read_table, rotation_from_quaternion, sound_clip, whole_numbers)
from track4d_ref.kitti import frame_span, read_frames

# %%
import os
import tempfile
import matplotlib.pyplot as plt
from PIL import Image

from track4d_ref.cameras import look_at, pixel_centers, project, transform, unproject
from track4d_ref.raw import thumbnail
from track4d_ref.viz import draw_box, picture_axis, use_style

use_style()
data = os.environ.get('TRACK4D_DATA')


# %% [markdown]
# ## The recipe for your own video
#
# Any reconstruction that gives camera poses and depth will do, be it COLMAP, a depth network or the phone itself. Write one
# npz with these arrays, in our conventions (w2c, x right, y down, z forward, metres, planar depth):
#
# | array | shape | meaning |
# |---|---|---|
# | `frames` | (T, H, W, 3) uint8 | the pictures |
# | `K` | (3, 3) | pixels, centres at +½ |
# | `w2c` | (T, 4, 4) | or `c2w`, its inverse |
# | `times_s` | (T,) | or `fps`, one number |
# | `depth_m` | (T, H, W) | optional; 0 = unknown |
# | `instances` | (T, H, W) | optional whole numbers; 0 = background |
# | `up` | (3,) | optional; else the first camera is taken as level |
# | `object_ids` (N,), `object_sizes_m` (N, 3), `world_from_object` (N, T, 4, 4) | | optional boxes: x forward, z up, origin in the middle |
# | `object_labels` (N,), `object_captions` (N,) | words | optional; 'cup', 'red cup': questions put "the" before it |
# | `object_present` (N, T), `object_agents` (N,) | bool | optional; when it is there, and whether it moves by itself |
#
# In about this many lines:
#
# ```python
# import numpy as np
# from track4d_ref.rgbd import read_own
#
# frames = ...                      # (T, H, W, 3) uint8, from your video decoder
# result = my_reconstruction(frames)
# np.savez('kitchen.npz', frames=frames, K=result.K, c2w=result.camera_to_world, depth_m=result.depth, fps=30.0,
#          up=-result.gravity)
# clip = read_own('kitchen.npz')
# ```
#
# Three things go wrong most often. A reconstruction from one camera knows no metre: scale it with one known length first.
# OpenGL tools look along −z: multiply `c2w` by diag(1, −1, −1, 1) from the right. A principal point of (W − 1)/2 counts
# pixel centres from zero: add ½.
#
# Then one command turns the file, or a folder of such files, into clips, at the rate and size you want, and says what it left out:
#
# ```
# track4d data convert own kitchen.npz --out runs/kitchen --fps 5 --size 120x160
# ```
#
# What comes out is a clip like any other: the question generator, the tracks and the viewer of the later notebooks take it.

# %%
#| export
def level_up(w2c: np.ndarray) -> np.ndarray:
    "The up direction (3,) if the camera w2c (4, 4) is held level: against its y axis."
    return -w2c[1, :3] / np.linalg.norm(w2c[1, :3])

def _optional_maps(arrays: dict, key: str, kinds: str, shape: tuple, path: Path) -> np.ndarray | None:
    "An optional array of the npz whose type and shape must fit; None if it is absent."
    if key not in arrays: return None
    if arrays[key].dtype.kind not in kinds or arrays[key].shape != shape:
        raise InputError(f'{path}, array {key!r}: {arrays[key].dtype} {arrays[key].shape} instead of '
                         f'{shape}; write it again')
    return arrays[key]


# %%
#| export
def _own_poses(arrays: dict, count: int | None, path: Path) -> np.ndarray:
    "w2c (T, 4, 4) from `w2c` or `c2w`."
    key = 'w2c' if 'w2c' in arrays else 'c2w'
    poses = check_rigid(array_of(arrays, key, (count, 4, 4), str(path)), f'{path}, {key}')
    return poses if key == 'w2c' else invert_pose(poses)

def _own_times(arrays: dict, count: int, path: Path) -> np.ndarray:
    "Times (T,) in seconds from `times_s` or `fps`."
    if 'times_s' in arrays: return array_of(arrays, 'times_s', (count,), str(path))
    rate = float(array_of(arrays, 'fps', (), str(path)))
    if rate <= 0: raise InputError(f'{path}: fps must be positive, not {rate:g}; correct it')
    return np.arange(count) / rate


# %%
#| export
def _own_column(arrays: dict, key: str, kind: str, instead: np.ndarray, path: Path) -> np.ndarray:
    "An optional array about the objects, of the shape of `instead`, which stands in where it is absent."
    array = arrays.get(key, instead)
    if array.shape != instead.shape or array.dtype.kind != kind:
        raise InputError(f'{path}, {key}: {array.dtype} {array.shape} instead of '
                         f'{"words" if kind == "U" else "True or False"} {instead.shape}; write it again')
    return array

def _own_objects(arrays: dict, count: int, path: Path) -> tuple[SceneObject, ...]:
    "The optional boxes."
    if 'object_ids' not in arrays: return ()
    ids = whole_numbers(array_of(arrays, 'object_ids', (None,), str(path)), f'{path}, object_ids', 1,
                        2 ** 31 - 1)
    sizes_m = array_of(arrays, 'object_sizes_m', (len(ids), 3), str(path))
    poses = check_rigid(array_of(arrays, 'world_from_object', (len(ids), count, 4, 4), str(path)),
                        f'{path}, world_from_object')
    labels = _own_column(arrays, 'object_labels', 'U', np.full(len(ids), 'object'), path)
    captions = _own_column(arrays, 'object_captions', 'U', labels, path)
    present = _own_column(arrays, 'object_present', 'b', np.ones((len(ids), count), dtype=bool), path)
    agents = _own_column(arrays, 'object_agents', 'b', np.zeros(len(ids), dtype=bool), path)
    bare = [re.sub('^(the|an?) ', '', str(caption).strip(), flags=re.IGNORECASE) for caption in captions]
    return tuple(SceneObject(id=int(ids[i]), label=str(labels[i]), caption=bare[i], size_m=sizes_m[i],
                             world_from_object=poses[i], present=present[i], agent=bool(agents[i]))
                 for i in range(len(ids)))


# %%
#| export
def read_own(path: Path | str, id: str | None = None) -> Clip:
    """A clip from an npz with frames, K, w2c or c2w, times_s or fps, and what else you have (see the table
    in the notebook)."""
    path = Path(path)
    arrays = read_arrays(path)
    frames = arrays.get('frames')
    if (frames is None or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3
        or 0 in frames.shape):
        raise InputError(f'{path}: frames must be uint8 (T, H, W, 3); write the array again')
    count, size = len(frames), frames.shape[1:3]
    w2c, depth = _own_poses(arrays, count, path), _optional_maps(arrays, 'depth_m', 'f', (count, *size), path)
    instances = _optional_maps(arrays, 'instances', 'iu', (count, *size), path)
    if instances is not None and instances.max(initial=0) > 2 ** 31 - 1:
        raise InputError(f'{path}: instances exceed 32 bits; renumber them')
    up = array_of(arrays, 'up', (3,), str(path)) if 'up' in arrays else level_up(w2c[0])
    if not np.linalg.norm(up) > 0: raise InputError(f'{path}: up is the zero vector; give a direction')
    view = View(name='camera', K=array_of(arrays, 'K', (3, 3), str(path)), w2c=w2c, height=size[0],
                width=size[1], frames=frames,
                depth_m=None if depth is None else depth.astype(np.float32),
                instances=None if instances is None else instances.astype(np.int32))
    return sound_clip(Clip(id=id or path.stem, views=(view,), objects=_own_objects(arrays, count, path),
                times_s=_own_times(arrays, count, path),
                up=up / np.linalg.norm(up), source='own', licence='your own',
                meta={'camera_poses_known': True}), path)


# %% [markdown]
# A phone walks around a box on a table; the arrays come from the simplest renderer there is, one plane. The same scene is written three
# times: with `w2c`, with `c2w` and with everything optional left out. The first two must give the same clip; the third must
# still be a clip, with a camera and a clock and nothing to ask about depth.

# %%
def table_scene(count: int = 5, size: tuple[int, int] = (60, 80)) -> dict:
    K, centers_px = intrinsics(70.0, 68.0, 41.0, 28.0), pixel_centers(*size).reshape(-1, 2)
    w2c = np.stack([look_at((0.8 * np.cos(a), 0.8 * np.sin(a), 0.9), (0, 0, 0), (0, 0, 1))
                    for a in np.linspace(0, 0.6, count)])
    depth_m, frames = np.zeros((count, *size), np.float32), np.zeros((count, *size, 3), np.uint8)
    for t in range(count):
        near, far = (unproject(K, w2c[t], centers_px, np.full(len(centers_px), z)) for z in (1.0, 2.0))
        flat_m = 1 + near[:, 2] / (near - far)[:, 2]
        hit_m = near + (flat_m - 1)[:, None] * (far - near)
        checks = (np.floor(hit_m[:, :2] / 0.15).sum(-1) % 2 == 0)[:, None]
        depth_m[t], frames[t] = flat_m.reshape(size), np.where(checks, (230, 220, 200),
                                                               (0, 114, 178)).reshape(*size, 3)
    return {'K': K, 'w2c': w2c, 'depth_m': depth_m, 'frames': frames, 'fps': 10.0,
            'up': np.array([0.0, 0, 1])}

folder = Path(tempfile.mkdtemp())
scene = table_scene()
np.savez(folder / 'phone.npz', **scene)
np.savez(folder / 'turned.npz',
         **{**{name: value for name, value in scene.items() if name != 'w2c'},
            'c2w': invert_pose(scene['w2c'])})
phone = read_own(folder / 'phone.npz')

# %%
figure, axes = plt.subplots(1, 3, figsize=(7, 1.9), dpi=80)
for axis, frame in zip(axes, (0, 2, 4)):
    axis.imshow(phone.view.frames[frame],
                extent=(0, 80, 60, 0)); picture_axis(axis, 60, 80, f'{phone.times_s[frame]:.1f} s')
plt.show()

# %%
assert np.allclose(read_own(folder / 'turned.npz').view.w2c, phone.view.w2c)
assert phone.source == 'own' and np.allclose(phone.times_s, np.arange(5) / 10)


# %% [markdown]
# ## 7-Scenes
#
# One folder of `frame-000000.color.jpg`, `.depth.png`, `.pose.txt` and a file with K. The pose is camera → world. Depth is
# millimetres, where 0 and 65535 mean "not measured". Files may be missing in between, as in the sample, which keeps every
# fifth frame; the numbers in the names are the clock, 30 per second.
#
# The depth sensor sees neither glass nor black things nor the rim of an object, so a tenth of a typical map is missing. Those
# pixels are grey below: a colour of the ramp would claim a distance. Whatever uses a depth map has to leave them out.

# %%
#| export
def read_matrix(path: Path, rows: int, columns: int) -> np.ndarray:
    "A matrix of numbers from a text file, blanks between them."
    values = [number(word, str(path)) for line in read_lines(path) for word in line.split()]
    if len(values) != rows * columns:
        raise InputError(f'{path}: {len(values)} numbers instead of {rows * columns}; correct it')
    return np.array(values).reshape(rows, columns)


# %%
#| export
def _sevenscenes_up(folder: Path, w2c: np.ndarray) -> np.ndarray:
    "Up from gravity-direction.txt where it exists, else from the first camera held level."
    path = folder / 'gravity-direction.txt'
    if not path.is_file(): return level_up(w2c)
    gravity = read_matrix(path, 3, 1)[:, 0]
    if np.linalg.norm(gravity) < 1e-6:
        raise InputError(f'{path}: gravity is the zero vector; remove the file')
    return -gravity / np.linalg.norm(gravity)


# %%
#| export
def read_sevenscenes(folder: Path | str, start: int = 0, stop: int | None = None) -> Clip:
    """Frames start … stop−1 (in the order of their names) of a 7-Scenes sequence folder;
    a static scene, so no objects."""
    folder = Path(folder)
    paths = sorted(path for path in folder.glob('frame-*.pose.txt')
                   if re.fullmatch(r'frame-\d{1,8}\.pose\.txt', path.name))
    if not paths: raise InputError(f'{folder}: no frame-000000.pose.txt; is it a 7-Scenes sequence?')
    span = frame_span(start, stop, len(paths), str(folder))
    stems = [paths[index].name.removesuffix('.pose.txt') for index in span]
    c2w = check_rigid(np.stack([read_matrix(folder / f'{stem}.pose.txt', 4, 4) for stem in stems]),
                      f'{folder}, poses')
    K = read_matrix(folder / 'camera-intrinsics.txt', 3,
                    3) if (folder / 'camera-intrinsics.txt').is_file() else intrinsics(585.0, 585.0, 320.0,
                                                                                       240.0)
    extension = 'png' if (folder / f'{stems[0]}.color.png').is_file() else 'jpg'
    frames, valid = read_frames([folder / f'{stem}.color.{extension}' for stem in stems])
    size = (480, 640) if frames is None else frames.shape[1:3]
    maps = [folder / f'{stem}.depth.png' for stem in stems]
    depth_m = np.stack([metric_depth(read_map(path, size), 1e-3, invalid=65535)
                        for path in maps]) if all(p.is_file() for p in maps) else None
    view = View(name='kinect', K=K, w2c=invert_pose(c2w), height=size[0], width=size[1], frames=frames,
                frame_valid=valid, depth_m=depth_m)
    numbers_of_frames = np.array([int(stem.removeprefix('frame-')) for stem in stems])
    return sound_clip(Clip(id=f'sevenscenes_{folder.resolve().name}_{numbers_of_frames[0]:06d}',
                           views=(view,),
                objects=(), up=_sevenscenes_up(folder, view.w2c[0]),
                times_s=(numbers_of_frames - numbers_of_frames[0]) / 30, source='7scenes',
                licence='7-Scenes, research use, non-commercial',
                meta={'camera_poses_known': True}), folder)


# %%
def write_small_sevenscenes(folder: Path) -> Path:
    for t, (frame, depth_m, w2c) in enumerate(zip(scene['frames'], scene['depth_m'], scene['w2c'])):
        np.savetxt(folder / f'frame-{5 * t:06d}.pose.txt', invert_pose(w2c))
        Image.fromarray(frame).save(folder / f'frame-{5 * t:06d}.color.png')
        depth_mm = np.rint(depth_m.clip(0, 60) * 1000).astype(np.uint16)
        Image.fromarray(depth_mm).save(folder / f'frame-{5 * t:06d}.depth.png')
    np.savetxt(folder / 'camera-intrinsics.txt', scene['K'])
    return folder

small = read_sevenscenes(write_small_sevenscenes(Path(tempfile.mkdtemp())))
room = read_sevenscenes(Path(data) / 'sevenscenes_rgbd', stop=21) if data else small

# %%
figure, axes = plt.subplots(1, 2, figsize=(6, 2.4), dpi=75)
axes[0].imshow(thumbnail(room.view.frames[0], 190, 32)); axes[0].set_title('first frame', fontsize=8)
depth_m = room.view.depth_m[0][::2, ::2].round(1)
axes[1].set_facecolor('#b8c2cc')
axes[1].imshow(np.ma.masked_equal(depth_m, 0), cmap='viridis_r')
axes[1].set_title('depth, dark is far, grey is unknown', fontsize=8)
for axis in axes: axis.set(xticks=[], yticks=[])
figure.text(0.01, -0.04, '7-Scenes (Microsoft), research use' if data else 'synthetic',
            fontsize=6); plt.show()

# %%
assert np.allclose(small.view.w2c, phone.view.w2c, atol=1e-6) and np.allclose(small.times_s, np.arange(5) / 6)
assert np.abs(small.view.depth_m - phone.view.depth_m)[phone.view.depth_m < 60].max() <= 6e-4


# %% [markdown]
# ## Is it really camera → world?
#
# Carry the depth of frame 0 into a later camera and compare it with the depth measured there. With the poses read the
# right way the median gap stays at a centimetre or two, however far apart the frames are. Read the wrong way it grows.
# Neighbouring frames cannot tell: there both readings are nearly right, so test far apart.

# %%
def warped_gap_m(view, depth_m, w2c, first: int, second: int) -> float:
    centers_px = pixel_centers(view.height, view.width)[::4, ::4].reshape(-1, 2)
    start_m = depth_m[first][::4, ::4].reshape(-1).astype(float)
    known = start_m > 0
    uv_px, expected_m = project(view.K, w2c[second],
                                unproject(view.K, w2c[first], centers_px[known], start_m[known]))
    inside = (expected_m > 0) & (uv_px >= 0).all(-1) & (uv_px < (view.width, view.height)).all(-1)
    found_m = depth_m[second][uv_px[inside, 1].astype(int), uv_px[inside, 0].astype(int)]
    return float(np.median(np.abs(found_m - expected_m[inside])[found_m > 0]))

steps = [step for step in (1, 5, 10, 20) if step < room.frames_count]
gaps_m = {name: [warped_gap_m(room.view, room.view.depth_m, poses, 0, step) for step in steps]
          for name, poses in (('c2w', room.view.w2c), ('w2c', invert_pose(room.view.w2c)))}
print({name: [f'{gap * 1000:.0f} mm' for gap in gaps] for name, gaps in gaps_m.items()})

# %%
figure, axis = plt.subplots(figsize=(4.6, 2.2), dpi=85)
for name, gaps in gaps_m.items(): axis.plot(steps, np.array(gaps) * 100, 'o-', label=f'pose read as {name}')
axis.set(xlabel='clip frames apart', ylabel='median gap (cm)'); axis.legend(fontsize=7); plt.show()

# %%
assert max(gaps_m['c2w']) <= 0.02


# %% [markdown]
# ## TUM RGB-D
#
# Three lists with time stamps: `rgb.txt`, `depth.txt`, `groundtruth.txt`. They are matched by the nearest stamp within 20 ms.
# A folder that holds only the trajectory still gives a clip with a camera and no pictures. Depth is counted in 5,000ths
# of a metre, and the principal point counts pixel centres from zero.

# %%
#| export
def read_tum_trajectory(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    "Stamps (N,) in seconds and world←camera (N, 4, 4) from rows `stamp tx ty tz qx qy qz qw`."
    table = read_table(path, ('stamp', 'tx', 'ty', 'tz', 'qx', 'qy', 'qz', 'qw'))
    if not (np.diff(table['stamp']) > 0).all():
        raise InputError(f'{path}: its stamps do not increase; sort the rows')
    rotation = rotation_from_quaternion(np.stack([table[name] for name in ('qx', 'qy', 'qz', 'qw')], -1),
                                        'xyzw', str(path))
    return table['stamp'], pose_from(rotation, np.stack([table[name] for name in ('tx', 'ty', 'tz')], -1))


# %%
#| export
def _tum_files(folder: Path, kind: str) -> tuple[np.ndarray, list[Path]]:
    "Stamps and paths of rgb.txt or depth.txt; empty if the list is absent."
    if not (folder / f'{kind}.txt').is_file(): return np.zeros(0), []
    table = read_table(folder / f'{kind}.txt', ('stamp', 'file'), texts=('file',))
    return table['stamp'], [inside(folder, str(name)) for name in table['file']]

def _nearest_files(stamps_s: np.ndarray, paths: list[Path], wanted_s: np.ndarray) -> list[Path | None]:
    "For each wanted time the file within 20 ms, or None."
    if not len(stamps_s): return [None] * len(wanted_s)
    index = nearest_index(stamps_s, wanted_s)
    return [paths[i] if abs(stamps_s[i] - wanted) <= 0.02 and paths[i].is_file() else None for i,
            wanted in zip(index, wanted_s)]


# %%
#| export
def read_tum(folder: Path | str, start: int = 0, stop: int | None = None,
             K: np.ndarray | None = None) -> Clip:
    "A TUM RGB-D folder (or a trajectory file alone); K defaults to the ROS values, f 525, c (320, 240)."
    folder = Path(folder)
    stamps_s, c2w = read_tum_trajectory(folder if folder.is_file() else folder / 'groundtruth.txt')
    rgb_s, rgb = _tum_files(folder, 'rgb') if folder.is_dir() else (np.zeros(0), [])
    near = np.abs(stamps_s[nearest_index(stamps_s, rgb_s)] - rgb_s) <= 0.02
    clock_s = rgb_s[near] if len(rgb_s) else stamps_s
    span = frame_span(start, stop, len(clock_s), str(folder))
    clock_s = clock_s[span.start:span.stop]
    frames, valid = read_frames([path or folder / 'missing' for path in _nearest_files(rgb_s, rgb, clock_s)])
    size = (480, 640) if frames is None else frames.shape[1:3]
    maps = _nearest_files(*_tum_files(folder, 'depth'), clock_s) if folder.is_dir() else [None]
    depth_m = np.stack([metric_depth(read_map(path, size), 1 / 5000) for path in maps]) if all(maps) else None
    w2c = invert_pose(c2w[nearest_index(stamps_s, clock_s)])
    view = View(name='camera', K=intrinsics(525.0, 525.0, 320.0, 240.0) if K is None else K, w2c=w2c,
                height=size[0], width=size[1],
                frames=frames, frame_valid=valid, depth_m=depth_m)
    return sound_clip(Clip(id=f'tum_{folder.resolve().stem}_{span.start:06d}', views=(view,), objects=(),
                times_s=clock_s - clock_s[0], up=np.array([0.0, 0, 1]),
                source='tum', licence='CC BY 4.0 (TUM)',
                meta={'camera_poses_known': True, 'first_stamp_s': float(clock_s[0])}), folder)


# %%
path = folder / 'groundtruth.txt'
rows = [f'{1.5 + 0.1 * t:.1f} {t} 0 0 0 0 {np.sin(0.2 * t):.9f} {np.cos(0.2 * t):.9f}' for t in range(4)]
path.write_text('# ground truth\n' + '\n'.join(rows))
walk = read_tum(path)

# %%
assert walk.frames_count == 4 and walk.view.frames is None and np.allclose(walk.times_s, (0, 0.1, 0.2, 0.3))
assert np.allclose(invert_pose(walk.view.w2c)[2, :3, 0],
                   (np.cos(0.8), np.sin(0.8), 0))            # xyzw: half angles about z

# %% [markdown]
# ## What we proved
#
# * Your own frames, poses and depth need one npz, and mistakes in it are named.
# * 7-Scenes' poses are camera → world: far-apart frames agree to two centimetres.
# * A trajectory without pictures is still a clip.
#
# ## Try it
#
# 1. Film a table, run a reconstruction, scale it by one measured length, and read it with `read_own`.
# 2. Halve the depth of `phone.npz`. Which of the checks above would notice?
# 3. Read 7-Scenes' poses as w2c and repeat the warping at 1 and at 20 frames.
#
# <details><summary>Solutions</summary>
#
# 1. The one measured length fixes the scale; check it on a second one. Without it all metres are a guess.
# 2. The size of things against the scale of the poses: warping from one frame to another fails, since half the depth
#    gives twice the parallax.
# 3. The warp fails in both, but at one frame the motion is so small that it hardly shows; at twenty it does. Test
#    with large motion.
#
# </details>
