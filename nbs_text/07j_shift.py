# %% [markdown]
# # SHIFT
# > A simulated city under rain and night: two kinds of extrinsics and a left-handed world.

# %%
#| default_exp shift

# %% [markdown]
# #| export
# Converted from: camera poses c2w in degrees in Unreal's left-handed axes (x forward, y right, z up);
# `center` poses w2c in radians; boxes (h, w, l) in camera views, (l, w, h) in `center`; depth in 24-bit
# fractions of 1000 m, planar.

# %% [markdown]
# * **What** `read_shift`
# * **Why** 4DP-QA draws outdoor questions from it; its left-handed axes turn clockwise into counter-clockwise
# * **Paper** 4DP-QA, data sources
# * **Needs** nothing; with `TRACK4D_DATA` set it shows a real frame
# * **Time** 15 seconds
# * **Before this** `07a_kitti`

# %%
#| export
import io
import re
import zipfile
from pathlib import Path

import numpy as np

# %%
#| export
from track4d_ref.storage import InputError, inside, read_json
from track4d_ref.cameras import intrinsics, invert_pose, pose_from
from track4d_ref.clips import Clip, SceneObject, View
from track4d_ref.raw import (field, numbers, object_axes, open_picture, positive_size, sound_clip,
                             turns_about, whole_numbers)
from track4d_ref.kitti import frame_span, nearest_known

# %%
import json
import os
import tempfile
import matplotlib.pyplot as plt

from track4d_ref.raw import thumbnail
from track4d_ref.viz import birds_eye, draw_box, picture_axis, use_style

use_style()
data = os.environ.get('TRACK4D_DATA')

# %% [markdown]
# ## A left-handed world
#
# SHIFT is rendered by Unreal, whose axes are x forward, y *right*, z up: left-handed. Mirror y once, at the door, or
# clockwise becomes counter-clockwise in every question. A camera's pose stands in the file as location and (roll, pitch,
# yaw) in **degrees**, camera → world. The extra view `center`, which carries the lidar and the boxes of everything
# around, stores the **inverse**, in **radians**. Reading both alike is a published mistake.
#
# With $F=\operatorname{diag}(1,-1,1)$ and $A$ the camera axes in Unreal's, the rotation is $F\,R(\text{roll, pitch, yaw})\,A$. Two of the
# three are left-handed, so the product is a proper rotation again. Unreal itself counts a pitch upwards as positive; the
# numbers in the files do not, they are plain rotations about x, y, z. The mounts show it: the front camera, half a metre
# ahead of `center`, sits 0.56 mm higher, so the car's nose points up, and its pitch reads −0.064°.

# %%
#| export
MIRROR = np.diag([1.0, -1, 1])                                       # Unreal's y right → our y left
CAMERA_IN_UNREAL = np.array([[0.0, 0, 1], [1, 0, 0],
                             [0, -1, 0]])    # columns: camera x, y, z in Unreal's x, y, z

def euler_rotation(angles_rad: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) about x, then y, then z by three angles, as plain matrices in the axes they are given
    in."""
    x, y, z = (turns_about(axis, angles_rad[axis:axis + 1])[0] for axis in range(3))
    return z @ y @ x


# %%
#| export
def shift_camera_pose(extrinsics: dict, where: str) -> np.ndarray:
    "c2w (4, 4) of a camera view: location in metres, rotation roll, pitch, yaw in degrees, Unreal axes."
    place = numbers(field(extrinsics, 'location', where, list), (3,), f'{where}, location')
    angles = np.radians(numbers(field(extrinsics, 'rotation', where, list), (3,), f'{where}, rotation'))
    return pose_from(MIRROR @ euler_rotation(angles) @ CAMERA_IN_UNREAL, MIRROR @ place)

def shift_center_pose(extrinsics: dict, where: str) -> np.ndarray:
    """world←center (4, 4), centre axes x forward, y left, z up;
    the file holds center←world, Euler x, y, z in radians."""
    place = numbers(field(extrinsics, 'location', where, list), (3,), f'{where}, location')
    angles = numbers(field(extrinsics, 'rotation', where, list), (3,), f'{where}, rotation')
    return invert_pose(pose_from(MIRROR @ euler_rotation(angles) @ MIRROR, MIRROR @ place))


# %%
looking = shift_camera_pose({'location': [3, 2, 1], 'rotation': [0, 0, 90]}, 'example')
# right is −y of ours
assert np.allclose(looking[:3, 3], (3, -2, 1)) and np.allclose(looking[:3, 2], (0, -1, 0))
assert np.isclose(np.linalg.det(looking[:3, :3]), 1)                                       # a proper rotation


# %% [markdown]
# ## Boxes and their fronts
#
# Boxes differ as well: a camera view has OpenCV axes and (height, width, length), `center` has (length, width, height) and
# a yaw about z. What is the front at yaw 0? The ego car answers: it is listed in `center`, whose x is forward, with a yaw
# of π. So yaw 0 looks *back*. We turn it round here, so that a car's x axis points where it drives.
#
# `x2, y2` of 2D boxes are the last pixel *inside*; as continuous edges they are one more. A test would not find either of these from one view alone. It takes two views of the same object that must agree.

# %%
#| export
def inclusive_box(box2d: dict, where: str) -> np.ndarray:
    "(left, top, right, bottom) in continuous pixels from Scalabel's inclusive x1, y1, x2, y2."
    left, top, right, bottom = (numbers(field(box2d, name, where), (), f'{where}, {name}')
                                for name in ('x1', 'y1', 'x2', 'y2'))
    return np.array([left, top, right + 1, bottom + 1])


# %%
#| export
def shift_box(box: dict, center: bool, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Size (length, width, height) and pose sensor←object, sensor = camera, or centre with x forward, y
    left, z up."""
    place, angles, size = (numbers(field(box, name, where, list), (3,), f'{where}, {name}')
                           for name in ('location', 'orientation', 'dimension'))
    if center:
        turn = turns_about(2, np.array([np.pi - angles[2]]))[0]
        return positive_size(size, where), pose_from(turn, MIRROR @ place)
    turn = turns_about(1, angles[1:2])[0] @ object_axes((1, 0, 0), (0, -1, 0))
    return positive_size(size[::-1], where), pose_from(turn, place)


# %%
#| export
def shift_frames(root: Path, view: str, sequence: str | None) -> tuple[str, list[dict]]:
    "The frames of one sequence in det_3d.json, in time order; the first sequence if none is named."
    path = inside(root, f'{view}/det_3d.json')
    frames = [frame for frame in field(read_json(path), 'frames', str(path), list)]
    names = [field(frame, 'videoName', f'{path}, frame {index}', str) for index, frame in enumerate(frames)]
    sequence = sequence or min(names, default='')
    chosen = [frame for frame, name in zip(frames, names) if name == sequence]
    if not chosen: raise InputError(f'{path}: no sequence {sequence!r}; name one of {sorted(set(names))[:5]}')
    indices = [field(frame, 'frameIndex', str(path), int) for frame in chosen]
    whole_numbers(np.array(indices), f'{path}, field frameIndex')
    if len(set(indices)) != len(indices):
        raise InputError(f'{path}: sequence {sequence} has a frame twice; remove one')
    return sequence, [chosen[place] for place in np.argsort(indices)]


# %%
ego = {'location': [0, 0, -0.8], 'orientation': [0, 0, np.pi], 'dimension': [3.7, 1.8, 1.5]}
assert np.allclose(shift_box(ego, True, 'ego')[1][:3, 0],
                   (1, 0, 0))                   # the ego car looks ahead
assert inclusive_box({'x1': 3, 'y1': 4, 'x2': 3, 'y2': 9}, 'box').tolist() == [3, 4, 4, 10]

# %% [markdown]
# ## Pictures in archives
#
# Pictures lie in a zip, or in a folder of the same name where somebody unpacked it. Depth is a 24-bit number spread over
# three colours, least significant first, in units of $1000/2^{24}$ metres.
# Both forms give the same arrays, and an archive is never unpacked to disk: members are read one at a time, by the name that
# the label file expects, so a path that climbs out of the folder (`../../x.png`) is simply not asked for. A picture that is
# missing leaves its frame black and marked.

# %%
#| export
FAR_M = 990.0


# %%
#| export
def _shift_member(root: Path, view: str, kind: str, member: str):
    "A picture of <view>/<kind>.zip or <view>/<kind>/, or None if neither has it."
    loose, archive = inside(root, f'{view}/{kind}/{member}'), inside(root, f'{view}/{kind}.zip')
    if loose.is_file(): return open_picture(loose)
    if not archive.is_file(): return None
    try:
        with zipfile.ZipFile(archive) as files:
            if member not in files.namelist(): return None
            if files.getinfo(member).file_size > 100_000_000:
                raise InputError(f'{archive}, {member}: too large for a picture')
            content = files.read(member)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zipfile.zlib.error):
        raise InputError(f'{archive}: not a readable zip; download it again') from None
    return open_picture(io.BytesIO(content), f'{archive}, {member}')


# %%
#| export
def _shift_view(root: Path, view: str, frames: list[dict], sequence: str) -> View:
    "One camera view with frames and depth as far as its archives hold them."
    where = f'{root / view}/det_3d.json'
    lens = field(frames[0], 'intrinsics', where, dict)
    focal, centre = (numbers(field(lens, name, where, list), (2,), f'{where}, {name}')
                     for name in ('focal', 'center'))
    w2c = np.stack([invert_pose(shift_camera_pose(field(frame, 'extrinsics', where, dict), where))
                    for frame in frames])
    height, width = 800, 1280
    stacks = {'img': np.zeros((len(frames), height, width, 3), np.uint8),
              'depth': np.zeros((len(frames), height, width), np.float32)}
    valid = {kind: np.zeros(len(frames), dtype=bool) for kind in stacks}
    for t, frame in enumerate(frames):
        for kind, extension in (('img', 'jpg'), ('depth', 'png')):
            picture = _shift_member(root, view, kind,
                                   f"{sequence}/{frame['frameIndex']:08d}_{kind}_{view}.{extension}")
            if picture is None: continue
            if picture.size != (width, height):
                raise InputError(f'{root / view}/{kind}: {picture.size} pixels instead of 1280×800')
            values = np.asarray(picture.convert('RGB'))
            stacks[kind][t], valid[kind][t] = values if kind == 'img' else shift_depth(values), True
    return View(name=view, K=intrinsics(*focal, *centre), w2c=w2c, height=height, width=width,
                frame_valid=valid['img'],
                frames=stacks['img'] if valid['img'].any() else None,
                depth_m=stacks['depth'] if valid['depth'].all() else None)


# %%
#| export
def shift_depth(rgb: np.ndarray) -> np.ndarray:
    "Planar depth (H, W) in metres from the three colours; infinity beyond 990 m."
    depth_m = (rgb.astype(np.float64) @ [1, 256, 65536]) / 2 ** 24 * 1000
    return np.where(depth_m > FAR_M, np.inf, depth_m).astype(np.float32)


# %%
assert np.isclose(shift_depth(np.array([[[0, 0, 1]]], np.uint8))[0, 0],
                  1000 / 256)      # the third colour is the coarse one


# %% [markdown]
# ## The reader
#
# Objects are collected over all views. `center` sees most, so it goes first; the ego car is left out because no camera
# sees it. Identities are text in the file; ours count from one, and `meta['object_ids']` keeps the originals.

# %%
#| export
def shift_rows(root: Path, views: list[str], sequence: str) -> dict[str, dict[int, tuple]]:
    "object id → frame index → (label, category, size, world←object); the first view that knows it wins."
    found = {}
    for view in views:
        where = f'{root / view}/det_3d.json'
        for frame in shift_frames(root, view, sequence)[1]:
            extrinsics = field(frame, 'extrinsics', where, dict)
            sensor = (shift_center_pose if view == 'center' else shift_camera_pose)(extrinsics, where)
            for label in field(frame, 'labels', where, list):
                attributes = label.get('attributes') if isinstance(label, dict) else None
                if (not isinstance(label, dict) or 'box3d' not in label
                    or (isinstance(attributes, dict) and attributes.get('ego'))):
                    continue
                size_m, pose = shift_box(field(label, 'box3d', where, dict), view == 'center',
                                         f'{where}, object {label.get("id")}')
                words = str(attributes.get('type', '')) if isinstance(attributes, dict) else ''
                rows = found.setdefault(str(field(label, 'id', where)), {})
                rows.setdefault(frame['frameIndex'],
                                (words, str(field(label, 'category', where)), size_m, sensor @ pose))
    return found


# %%
#| export
def _shift_object(id: int, rows: dict[int, tuple], indices: list[int]) -> SceneObject:
    "One object over the frames; 'vehicle.audi.a2' is spoken 'audi a2'."
    words, category, _, _ = next(iter(rows.values()))
    present = np.array([index in rows for index in indices])
    poses = np.stack([rows[indices[place]][3] for place in nearest_known(present)])
    name = ' '.join(re.findall(r'[a-z]+\w*', words.removeprefix('vehicle.').removeprefix('walker.')))
    return SceneObject(id=id, label=category, caption=name or category,
                       size_m=np.median([row[2] for row in rows.values()], axis=0),
                       world_from_object=poses, present=present, agent=True)


# %%
#| export
def read_shift(root: Path | str, sequence: str | None = None, start: int = 0, stop: int | None = None,
               views: tuple[str, ...] = ('front',)) -> Clip:
    """Frames start … stop−1 of one sequence of SHIFT; `root` is the split folder (…/images/val) with a
    folder per view."""
    root = Path(root)
    sequence, frames = shift_frames(root, views[0], sequence)
    span = frame_span(start, stop, len(frames), f'sequence {sequence}')
    frames = frames[span.start:span.stop]
    indices = [frame['frameIndex'] for frame in frames]
    sources = [view for view in ('center', *views) if (root / view / 'det_3d.json').is_file()]
    rows = {id: {index: row for index, row in found.items() if index in indices}
            for id, found in shift_rows(root, sources, sequence).items()}
    ids = sorted(id for id, found in rows.items() if found)
    cameras = []
    for view in views:
        of_view = shift_frames(root, view, sequence)[1][span.start:span.stop]
        if [frame['frameIndex'] for frame in of_view] != indices:
            raise InputError(f'{root}: views {views[0]} and {view} have other frames')
        cameras.append(_shift_view(root, view, of_view, sequence))
    objects = tuple(_shift_object(n, rows[id], indices) for n, id in enumerate(ids, 1))
    return sound_clip(Clip(id=f'shift_{sequence}_{span.start:06d}', views=tuple(cameras), objects=objects,
                times_s=np.array(indices) * 0.1,
                 up=np.array([0.0, 0, 1]), source='shift', licence='CC BY-NC-SA 4.0, non-commercial',
                meta={'object_ids': ids, 'sequence': sequence, 'camera_poses_known': True,
                      'attributes': {str(name): str(value) for name,
                                     value in dict(frames[0].get('attributes') or {}).items()}}), root)


# %% [markdown]
# A sequence in SHIFT's layout, written by hand: a car drives ahead, seen by the view `front` and listed by `center`,
# whose box must come out at the same place although every number in the file is different.

# %%
def write_small_shift(root: Path, frames: int = 5) -> Path:
    for view in ('front', 'center'):
        (root / view).mkdir(parents=True)
        entries = []
        for t in range(frames):
            if view == 'front':
                extrinsics = {'location': [0.5 + t, 0, 1.6], 'rotation': [0, 0, 0]}
                box = {'location': [2.0, 0.8, 14.5], 'orientation': [0, -np.pi / 2, 0],
                       'dimension': [1.5, 1.8, 4.1]}
            else:
                extrinsics = {'location': [-t, 0, -1.6], 'rotation': [0, 0, 0]}
                box = {'location': [15.0, 2.0, -0.8], 'orientation': [0, 0, -np.pi],
                       'dimension': [4.1, 1.8, 1.5]}
            label = {'id': '17', 'category': 'car', 'attributes': {'type': 'vehicle.audi.a2', 'ego': False},
                     'box3d': box}
            entries.append({'videoName': 'ab12', 'frameIndex': 10 * t, 'attributes': {'town': '04'},
                            'extrinsics': extrinsics, 'labels': [label],
                            'intrinsics': {'focal': [640.0, 640.0], 'center': [640.0, 400.0]}})
        (root / view / 'det_3d.json').write_text(json.dumps({'frames': entries}))
    return root

small_root = write_small_shift(Path(tempfile.mkdtemp()))
drive = read_shift(small_root)
by_view = [shift_rows(small_root, [view], 'ab12')['17'] for view in ('front', 'center')]

# %%
assert drive.objects[0].caption == 'audi a2' and np.allclose(drive.times_s, np.arange(5.0))
assert all(np.allclose(by_view[0][t][3], by_view[1][t][3], atol=1e-9)
           for t in by_view[0])       # place *and* heading agree
assert np.allclose(by_view[0][0][2], (4.1, 1.8, 1.5)) and np.allclose(by_view[1][0][2], (4.1, 1.8, 1.5))
assert np.allclose(drive.objects[0].centers_m[0],
                   (15, -2, 0.8))                                   # on the right: negative y
assert np.allclose(drive.objects[0].world_from_object[0, :3, 0],
                   (1, 0, 0))                        # its front points along its travel

# %% [markdown]
# From above: the camera drives ahead, the car ahead of it stays as far away, and its orange front points along its way. If the
# front pointed back, the notebook's assertion on the direction of travel would fail.

# %%
figure, axis = plt.subplots(figsize=(3.4, 3.2), dpi=85)
birds_eye(axis, drive, 2); axis.set_title('the box at the third frame, and all paths', fontsize=8); plt.show()

# %% [markdown]
# What happens without the mirror? The same numbers, taken as if y pointed left, put the car on the other side of the
# road, and every turn to the right becomes a turn to the left.

# %%
figure, axis = plt.subplots(figsize=(5.2, 2.6), dpi=85)
turn = np.deg2rad(np.arange(0, 100, 10))
for sign, color, name in ((-1, '#0072B2', 'mirrored, as it is'), (1, '#D55E00', 'y taken as left')):
    axis.plot(10 * np.sin(turn), sign * 10 * (1 - np.cos(turn)), 'o-', color=color, label=name)
axis.set(xlabel='x forward (m)', ylabel='y left (m)', aspect='equal',
         title='one right turn in Unreal, read twice')
axis.legend(fontsize=7, loc='center left', bbox_to_anchor=(1.05, 0.5)); plt.show()

# %%
right_turn = [shift_camera_pose({'location': [0, 0, 0], 'rotation': [0, 0, degrees]}, '')[:3, 2]
              for degrees in (0, 30)]
assert np.cross(*right_turn)[2] < 0                                   # clockwise from above, as it was driven

# %% [markdown]
# The real frame: a rainy night, two pedestrians ahead. Their boxes come from `center`, through two different extrinsics
# into the world and back into the front camera. The depth map beside it shows what the picture hides. Lidar points are not part of a clip, but they
# are the referee for the depth: the median difference between both is a quarter of a percent, which no wrong unit or
# wrong byte order would give.

# %%
shown = read_shift(Path(data) / 'shift_sample/discrete/images/val') if data else drive
figure, axes = plt.subplots(1, 2, figsize=(8, 2.7), dpi=75)
view = shown.view
if view.frames is not None:
    axes[0].imshow(thumbnail(np.minimum(view.frames[0].astype(int) * 2, 255).astype(np.uint8), 260, 32),
                   extent=(0, view.width, view.height, 0))
    axes[1].imshow(np.log(np.minimum(view.depth_m[0][::4, ::4], 200)).round(1),
                   extent=(0, view.width, view.height, 0), cmap='viridis_r', interpolation='nearest')
for thing in shown.objects:
    for axis in axes: draw_box(axis, view, thing, 0, '#D55E00')
for axis, title in zip(axes, ('boxes of `center` in the front camera', 'depth, logarithmic')):
    picture_axis(axis, view.height, view.width, title)
figure.text(0.01, -0.04, 'SHIFT (Sun et al.), CC BY-NC-SA 4.0' if data else 'synthetic',
            fontsize=6); plt.show()

# %%
if data:
    root = Path(data) / 'shift_sample/discrete/images/val'
    front, center = (shift_rows(root, [name], '007b-4e72') for name in ('front', 'center'))
    gaps_m = [np.linalg.norm(front[id][100][3][:3, 3] - center[id][100][3][:3, 3]) for id in front]
    print('front and center differ by', np.round(gaps_m, 4), 'm')
    assert len(gaps_m) == 2 and max(gaps_m) < 0.01

# %% [markdown]
# ## What we proved
#
# * SHIFT's two kinds of extrinsics, degrees and radians, c2w and w2c, put the same pedestrian at the same place.
# * The ego car shows that a yaw of zero looks back in `center`.
#
# ## Try it
#
# 1. Leave out the mirror of y. Which assertion fails, and which object would a viewer notice first?
# 2. Read `center`'s extrinsics as degrees. Where do the pedestrians end up?
#
# <details><summary>Solutions</summary>
#
# 1. The one on handedness, or the agreement of boxes and pixels; a viewer notices traffic on the wrong side.
# 2. Radians taken for degrees turn by far too little: pedestrians stand where the forward camera looks, in all
#    pictures.
#
# </details>
