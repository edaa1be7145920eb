# %% [markdown]
# # Kubric
# > Rigid objects that collide, rendered by Blender: a camera that looks backwards along z and a depth that is none.

# %%
#| default_exp kubric

# %% [markdown]
# #| export
# Converted from: Blender camera axes (x right, y up, looking along −z), c2w with wxyz quaternions, depth =
# distance to the camera centre, world z up, scene units taken as metres. Object axes are those of the
# asset, x taken as its front.

# %% [markdown]
# * **What** `read_kubric`
# * **Why** 4DP-QA uses Kubric scenes; MOVi and TAP-Vid come from the same generator
# * **Paper** 4DP-QA, data sources; Kubric's repository defines the files
# * **Needs** nothing; with `TRACK4D_DATA` set it shows rendered scenes
# * **Time** 15 seconds
# * **Before this** `07_raw`

# %%
#| export
from pathlib import Path

import numpy as np

# %%
#| export
from track4d_ref.storage import InputError, read_json
from track4d_ref.cameras import intrinsics, invert_pose, pose_from
from track4d_ref.clips import Clip, SceneObject, View
from track4d_ref.raw import (MAX_FRAMES, field, numbers, planar_from_ray, positive_size, read_map,
                             rotation_from_quaternion, sound_clip)
from track4d_ref.kitti import read_frames

# %%
import json
import os
import tempfile
import matplotlib.pyplot as plt
from PIL import Image

from track4d_ref.cameras import look_at, pixel_centers, project, transform, unproject
from track4d_ref.raw import thumbnail
from track4d_ref.viz import birds_eye, draw_box, picture_axis, use_style

use_style()
data = os.environ.get('TRACK4D_DATA')

# %% [markdown]
# ## The camera
#
# `metadata.json` gives a focal length and a sensor width in millimetres, positions and quaternions. Blender's camera looks
# along its −z axis and has y up; turning both signs makes it ours:
#
# $$T_{wc}=T_{wc}^{\text{Blender}}\,\operatorname{diag}(1,-1,-1,1),\qquad f_{px}=\frac{f}{s_w}\,W .$$
#
# Image positions run from 0 to 1 over the whole picture, which is our convention with centres at +½.

# %%
#| export
BLENDER_TO_OURS = np.diag([1.0, -1, -1, 1])

def kubric_camera(camera: dict, width: int, height: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    "K (3, 3) in pixels and w2c (T, 4, 4)."
    focal, sensor = (float(numbers(field(camera, name, where), (), f'{where}, {name}'))
                     for name in ('focal_length', 'sensor_width'))
    if not (focal > 0 and sensor > 0):
        raise InputError(f'{where}: focal_length and sensor_width must be positive; correct them')
    place = numbers(field(camera, 'positions', where, list), (None, 3), f'{where}, positions')
    turn = numbers(field(camera, 'quaternions', where, list), (len(place), 4), f'{where}, quaternions')
    focal_px = focal / sensor * width
    c2w = pose_from(rotation_from_quaternion(turn, 'wxyz', where), place) @ BLENDER_TO_OURS
    return intrinsics(focal_px, focal_px, width / 2, height / 2), invert_pose(c2w)


# %%
blender_camera = {'focal_length': 35.0, 'sensor_width': 32.0, 'positions': [[0, 0, 5]],
                  'quaternions': [[1, 0, 0, 0]]}
K, w2c = kubric_camera(blender_camera, 320, 240, 'example')
uv_px, depth_m = project(K, w2c[0], np.array([[0.5, 1.0, 0.0]]))

# %%
assert np.isclose(K[0, 0], 350) and depth_m[0] == 5                     # the unturned camera looks down
assert np.allclose(uv_px[0], (160 + 35, 120 - 70))                      # world +y is up in the picture


# %% [markdown]
# ## Boxes from eight corners
#
# Each instance lists the eight corners of its box in the world, in the order of all choices (min, max) over x, y and z. The
# edges from the first corner are the object's axes, so size, centre and rotation follow without knowing the asset. It also
# means that an object that was scaled unevenly gets its true size. The order of the corners is a promise of the file, so
# it is checked: three edges from one corner that are not at right angles are refused.

# %%
#| export
def poses_from_corners(corners_m: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    "Size (3,) and world←object (T, 4, 4) from box corners (T, 8, 3) in Kubric's order."
    edges = np.stack([corners_m[:, 4] - corners_m[:, 0], corners_m[:, 2] - corners_m[:, 0],
                      corners_m[:, 1] - corners_m[:, 0]], -1)
    lengths_m = np.linalg.norm(edges, axis=1)  # (T, 3)
    size_m = positive_size(np.median(lengths_m, axis=0), f'{where}, bboxes_3d')
    rotation = edges / np.maximum(lengths_m[:, None], 1e-12)
    if np.abs(rotation.mT @ rotation - np.eye(3)).max() > 1e-2 or (np.linalg.det(rotation) < 0).any():
        raise InputError(f'{where}, bboxes_3d: the corners are no right-handed box; check their order')
    return size_m, pose_from(rotation, corners_m.mean(1))

def kubric_caption(instance: dict) -> tuple[str, str]:
    "Label and caption: 'sphere', 'orange metal sphere'."
    label = str(instance.get('category') or instance.get('asset_id') or 'object')
    words = [instance.get(name) for name in ('color_label', 'material')]
    return label, ' '.join([word for word in words if isinstance(word, str) and word] + [label])

def _kubric_object(id: int, instance: dict, count: int, where: str) -> SceneObject:
    "One instance; its id is its place in the list plus one, as in the segmentation."
    corners_m = numbers(field(instance, 'bboxes_3d', where, list), (count, 8, 3), f'{where}, bboxes_3d')
    size_m, poses = poses_from_corners(corners_m, where)
    label, caption = kubric_caption(instance)
    return SceneObject(id=id, label=label, caption=caption, size_m=size_m, world_from_object=poses,
                       present=np.ones(count, dtype=bool))


# %%
turn = rotation_from_quaternion([0.8, 0, 0, 0.6], 'wxyz')
signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
corners_m = (signs * (2.0, 0.5, 0.25)) @ turn.T + (1, 2, 3)
size_m, box_pose = poses_from_corners(corners_m[None], 'example')

# %%
assert np.allclose(size_m, (4, 1, 0.5)) and np.allclose(box_pose[0], pose_from(turn, np.array([1, 2, 3])))

# %% [markdown]
# ## The reader
#
# `depth_*.tiff` holds the distance to the camera's *centre*, so it is divided by $\sqrt{1+x^2+y^2}$; beyond a kilometre it is
# sky. The segmentation is a palette picture whose index is the place in `instances` plus one. Flow pictures, normals and
# object coordinates are not needed for a clip. Objects are asked
# for their pose at every frame, even where something hides them, because a renderer knows. That is what makes Kubric's
# tracks usable as truth for points behind other things.

# %%
#| export
SKY_M = 1000.0

def _kubric_maps(paths: list[Path], size: tuple[int, int]) -> np.ndarray | None:
    "Maps (T, H, W) as stored; None unless all files are there."
    return np.stack([read_map(path, size)
                     for path in paths]) if all(path.is_file() for path in paths) else None

def _planar_maps(ray_m: np.ndarray | None, K: np.ndarray, where: str) -> np.ndarray | None:
    "Planar depth (T, H, W) float32 from ray lengths; infinity for sky."
    if ray_m is None: return None
    if not (ray_m >= 0).all():
        raise InputError(f'{where}: depth holds negative or missing numbers; render it again')
    return np.where(ray_m > SKY_M, np.inf, planar_from_ray(ray_m.astype(np.float64), K)).astype(np.float32)


# %%
#| export
def _kubric_view(folder: Path, camera: dict, count: int, size: tuple[int, int], ids: list[int]) -> View:
    "The one view of a scene with frames, planar depth and instances as far as they exist."
    height, width = size
    K, w2c = kubric_camera(camera, width, height, f'{folder / "metadata.json"}, camera')
    if len(w2c) != count:
        raise InputError(f'{folder / "metadata.json"}: {len(w2c)} camera poses for {count} frames; render it '
                         'again')
    frames, valid = read_frames([folder / f'rgba_{t:05d}.png' for t in range(count)])
    if frames is not None and frames.shape[1:3] != size:
        raise InputError(f'{folder}: rgba pictures are not {width}×{height}')
    ray_m = _kubric_maps([folder / f'depth_{t:05d}.tiff' for t in range(count)], size)
    instances = _kubric_maps([folder / f'segmentation_{t:05d}.png' for t in range(count)], size)
    return View(name='camera', K=K, w2c=w2c, height=height, width=width, frames=frames, frame_valid=valid,
                depth_m=_planar_maps(ray_m, K, str(folder)),
                instances=None if instances is None
                else np.where(np.isin(instances, ids), instances, 0).astype(np.int32))


# %%
#| export
def read_kubric(folder: Path | str) -> Clip:
    "A scene folder in Kubric's layout (metadata.json beside rgba_, depth_, segmentation_ files)."
    folder = Path(folder)
    path = folder / 'metadata.json'
    content = read_json(path)
    about, camera = field(content, 'metadata', str(path), dict), field(content, 'camera', str(path), dict)
    size = numbers(field(about, 'resolution', str(path), list), (2,), f'{path}, resolution')
    count, rate = (float(numbers(field(about, name, str(path)), (), f'{path}, {name}'))
                   for name in ('num_frames', 'frame_rate'))
    if not (1 <= count <= MAX_FRAMES and count == int(count) and 0 < rate < 1e6 and (size > 0).all()
            and (size < 20_000).all()):
        raise InputError(f'{path}: num_frames, frame_rate or resolution is out of range; correct it')
    records = field(content, 'instances', str(path), list)
    objects = tuple(_kubric_object(id, field({'x': record}, 'x', str(path), dict), int(count),
                                  f'{path}, instance {id - 1}')
                    for id, record in enumerate(records, 1))
    view = _kubric_view(folder, camera, int(count), (int(size[1]), int(size[0])),
                       [thing.id for thing in objects])
    return sound_clip(Clip(id=f'kubric_{folder.resolve().name}', views=(view,), objects=objects,
                times_s=np.arange(int(count)) / rate,
                up=np.array([0.0, 0, 1]), source='kubric',
                licence='Apache-2.0 (generator); see the scene for its assets',
                meta={'camera_poses_known': True,
                      'dynamic': [bool(record.get('is_dynamic')) for record in records]}), folder)


# %% [markdown]
# A scene in this layout, made by hand: a cube slides over a floor, seen by a turning camera. Floor and cube are drawn by
# intersecting each pixel's ray with the planes, once for the colour, once for the ray length.

# %%
def write_small_kubric(folder: Path, frames: int = 4) -> Path:
    camera = {'focal_length': 35.0, 'sensor_width': 32.0, 'positions': [], 'quaternions': []}
    corners, centers_px = [], pixel_centers(72, 96).reshape(-1, 2)
    for t in range(frames):
        # Blender: tilt about x from looking straight down
        down = np.deg2rad(30 + 2 * t)
        camera['positions'].append([0, -6, 8])
        camera['quaternions'].append([np.cos(down / 2), np.sin(down / 2), 0, 0])
        corners.append((signs * (1, 0.75, 0.02) + (0.5 * t, 0, 0.02)).tolist())
        K, w2c = kubric_camera({**camera, 'positions': camera['positions'][-1:],
                                'quaternions': camera['quaternions'][-1:]}, 96, 72, 'x')
        eye_m = invert_pose(w2c[0])[:3, 3]
        step_m = unproject(K, w2c[0], centers_px, np.ones(len(centers_px))) - eye_m
        # the slab's top, z = 4 cm, stands for the floor too
        scale = (0.04 - eye_m[2]) / step_m[:, 2]
        hit_m = eye_m + scale[:, None] * step_m
        on = (np.abs(hit_m[:, 0] - 0.5 * t) < 1) & (np.abs(hit_m[:, 1]) < 0.75)
        ray_m = (scale * np.linalg.norm(step_m, axis=1)).reshape(72, 96).astype(np.float32)
        Image.fromarray(ray_m).save(folder / f'depth_{t:05d}.tiff')
        Image.fromarray(on.reshape(72, 96).astype(np.uint8)).save(folder / f'segmentation_{t:05d}.png')
        colors = np.where(on[:, None], (213, 94, 0), (200, 200, 200)).reshape(72, 96, 3).astype(np.uint8)
        Image.fromarray(colors).save(folder / f'rgba_{t:05d}.png')
    metadata = {'metadata': {'resolution': [96, 72], 'num_frames': frames, 'frame_rate': 12},
                'camera': camera,
                'instances': [{'category': 'slab', 'color_label': 'orange', 'is_dynamic': True,
                               'bboxes_3d': corners}]}
    (folder / 'metadata.json').write_text(json.dumps(metadata))
    return folder


# %%
small = read_kubric(write_small_kubric(Path(tempfile.mkdtemp())))
clip = read_kubric(Path(data) / 'kubric_scenes/scene_d') if data else small

# %%
assert small.objects[0].caption == 'orange slab' and np.allclose(small.objects[0].size_m, (2, 1.5, 0.04))
assert np.allclose(small.times_s, np.arange(4) / 12) and small.view.instances.max() == 1

# %%
view = clip.view
figure, axes = plt.subplots(1, 2, figsize=(6.2, 2.4), dpi=75)
for axis, frame in zip(axes, (0, clip.frames_count // 2)):
    axis.imshow(thumbnail(view.frames[frame], 130, 16), extent=(0, view.width, view.height, 0))
    for thing in clip.objects: draw_box(axis, view, thing, frame, '#0072B2')
    picture_axis(axis, view.height, view.width, f'{clip.times_s[frame]:.2f} s')
plt.show()

# %%
figure, axis = plt.subplots(figsize=(4.6, 3.2), dpi=85)
birds_eye(axis, clip, 0); axis.set_title('from above: all paths, camera early violet, late yellow',
                                         fontsize=8); plt.show()


# %% [markdown]
# ## Ray length or depth?
#
# Do not believe the documentation, measure: carry each object pixel into its own box, once with the depth converted and
# once with the stored number taken as planar. The wrong reading overshoots, the more the farther from the centre. In the middle
# of the picture both agree, which is why a glance at a central object never finds the mistake. At the corner of a picture with
# this focal length the gap is more than a tenth of the distance: at ten metres, more than a metre.

# %%
def share_in_boxes(clip, depth_m, frame: int, tolerance_m: float = 0.02) -> float:
    view, inside = clip.view, []
    world_m = unproject(view.K, view.w2c[frame], pixel_centers(view.height, view.width).reshape(-1, 2),
                        depth_m[frame].reshape(-1).astype(float))
    for thing in clip.objects:
        mine = world_m[view.instances[frame].reshape(-1) == thing.id]
        if len(mine) < 20: continue
        local_m = transform(invert_pose(thing.world_from_object[frame]), mine)
        inside.append((np.abs(local_m) <= thing.size_m / 2 + tolerance_m).all(-1))
    return float(np.concatenate(inside).mean())

x, y = np.moveaxis((pixel_centers(view.height, view.width) - view.K[:2, 2]) / view.K[[0, 1], [0, 1]], -1, 0)
stored = view.depth_m * np.sqrt(1 + x ** 2 + y ** 2)
shares = {'converted': share_in_boxes(clip, view.depth_m, 3),
          'taken as planar': share_in_boxes(clip, stored, 3)}
print({name: round(value, 4) for name, value in shares.items()})

# %%
figure, axis = plt.subplots(figsize=(4.4, 2), dpi=85)
axis.imshow(((stored - view.depth_m)[3]).clip(0, 2).round(2), cmap='viridis',
            extent=(0, view.width, view.height, 0), interpolation='nearest')
picture_axis(axis, view.height, view.width, 'ray length minus planar depth, 0 to 2 m'); plt.show()

# %%
assert shares['converted'] >= 0.98 and shares['converted'] > shares['taken as planar']

# %% [markdown]
# ## What we proved
#
# * With two signs turned, Blender's camera is ours, and boxes lie on the objects.
# * Kubric's depth is a ray length: converted, the pixels lie in their boxes.
#
# ## Try it
#
# 1. Leave out `BLENDER_TO_OURS`. What does the view from above show?
# 2. Which pixel has the largest difference between ray length and planar depth, and why there?
# 3. Find the objects that `is_dynamic` calls dynamic although they never move.
#
# <details><summary>Solutions</summary>
#
# 1. A world lying on its side: gravity points along a horizontal axis. The pictures look right, for cameras and
#    objects turn together.
# 2. A corner: the ray is longest there, and the difference grows with the depth itself, so the farthest surface near
#    a corner.
# 3. Compare the flag with the largest displacement of the pose. Objects that fall asleep before the first frame are
#    dynamic and rest.
#
# </details>
