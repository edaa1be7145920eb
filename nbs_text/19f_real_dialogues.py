# %% [markdown]
# # Dialogues about real motion
# > KITTI and WildTrack through their readers: real cameras, real paths; pixels where there are any, painted boxes where there are none.

# %%
#| default_exp real_dialogues

# %% [markdown]
# #| export
# A *staged* clip keeps the cameras, times and paths of a real one and replaces its pictures: grey ground, blue sky, every object
# its projected box in a colour of its own. What a result was measured on stands in `meta['input']`: 'pixels' or 'staged boxes'.

# %% [markdown]
# * **What** dialogues from the KITTI Tracking and WildTrack samples, for a checkpoint trained on simulated scenes
# * **Why** the paper's benchmark is KITTI, WildTrack and APIDIS; a simulated one says nothing about real paths by itself
# * **Paper** LMM-Track4D: 383 of 526 dialogues from KITTI Tracking, 66 from WildTrack. **Staging and windows are [ours]**
# * **Needs** `TRACK4D_DATA` with `kitti_tracking` and `wildtrack`; without them an invented street stands in
# * **Time** 20 seconds
# * **Before this** `07a_kitti`, `07e_wildtrack`, `19d_lesson_store`

# %%
#| export
import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from track4d_ref.cameras import project, resize_intrinsics, transform
from track4d_ref.clips import Clip, SceneObject, View
from track4d_ref.dialogues import Dialogue, make_dialogue
from track4d_ref.kitti import read_kitti_tracking
from track4d_ref.patches import resize_frames
from track4d_ref.storage import InputError
from track4d_ref.wildtrack import read_wildtrack

# %%
import os

import matplotlib.pyplot as plt

from track4d_ref.cameras import intrinsics, look_at
from track4d_ref.viz import birds_eye, time_colors, use_style

use_style()

# %% [markdown]
# ## What there is
#
# The KITTI sample at hand holds labels, calibration and poses of nine sequences, but pictures of few frames: five of sequence 0001 and three
# of 0016. WildTrack's holds positions of all frames and one picture. So there are two inputs, and every number says which:
#
# * *pixels*: the five pictures of KITTI 0001, at the times when they were taken;
# * *staged boxes*: everything else. Cameras, paths, sizes, occlusions and clutter are real; colours and textures are not.
#
# Staging is honest about what it can show: whether geometry, scale and motion transfer. It cannot show whether *appearance* does.

# %%
#| export
STAGE_COLORS = {'red': (205, 40, 35), 'blue': (35, 75, 205), 'green': (40, 150, 50), 'yellow': (230, 205, 40),
                'pink': (240, 130, 180), 'cyan': (50, 200, 210), 'orange': (240, 140, 30), 'white': (240, 240, 240)}
SKY, GROUND = (150, 190, 230), (105, 105, 100)

def convex_outline(points: np.ndarray) -> np.ndarray:
    "The corners (k, 2) of the convex hull of points (n, 2), in order around it."
    def half(ordered: list) -> list:
        kept = []
        for p in ordered:
            while len(kept) > 1 and np.cross(*np.pad([kept[-1] - kept[-2], p - kept[-2]], ((0, 0), (0, 1))))[2] <= 0: kept.pop()
            kept.append(p)
        return kept[:-1]
    ordered = sorted(points, key=tuple)
    return np.array(half(ordered) + half(ordered[::-1]))

def _outline_px(view: View, item: SceneObject, frame: int) -> tuple[np.ndarray, float] | None:
    "Corners (k, 2) of the object's silhouette and its distance; None behind the camera."
    corners = transform(item.world_from_object[frame], item.corners_object_m)
    uv_px, depth_m = project(view.K, view.w2c[frame], corners)
    if depth_m.min() < 0.3 or not item.present[frame]: return None
    return convex_outline(uv_px), float(depth_m.mean())


# %%
#| export
def _painted(view: View, clip: Clip, frame: int, colors: dict[int, tuple]) -> tuple[np.ndarray, np.ndarray]:
    "Picture (H, W, 3) and instance ids (H, W): ground, sky, boxes from far to near."
    rows, columns = np.mgrid[:view.height, :view.width] + 0.5
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(view.K).T @ view.w2c[frame][:3, :3]
    picture = Image.fromarray(np.where((rays @ clip.up > 0)[..., None], SKY, GROUND).astype(np.uint8))
    ids = Image.new('I', picture.size)
    shapes = [(found[1], item, found[0]) for item in clip.objects if (found := _outline_px(view, item, frame))]
    for _, item, outline in sorted(shapes, key=lambda shape: -shape[0]):
        corners = [tuple(corner) for corner in outline]
        shade = tuple(int(0.55 * value) for value in colors[item.id])
        ImageDraw.Draw(picture).polygon(corners, fill=colors[item.id], outline=shade)
        ImageDraw.Draw(ids).polygon(corners, fill=item.id)
    return np.asarray(picture), np.asarray(ids).astype(np.int32)


# %%
#| export
def nearest_objects(clip: Clip, most: int = 4, far_m: float = 40.0) -> list[SceneObject]:
    "Up to `most` objects that are there all the time, in the first view most of the time, nearest first."
    found = []
    for item in clip.objects:
        if not item.present.all(): continue
        uv_px, depth_m = (value[:, 0] for value in project(clip.view.K, clip.view.w2c, item.centers_m[:, None]))
        size = np.array([clip.view.width, clip.view.height])
        inside = ((uv_px >= 0) & (uv_px < size)).all(-1) & (depth_m > 1)
        if inside.mean() >= 0.75 and depth_m.mean() < far_m: found.append((depth_m.mean(), item))
    return [item for _, item in sorted(found, key=lambda pair: pair[0])[:most]]

def staged(clip: Clip, size_px: int = 112, most: int = 4) -> Clip | None:
    "The clip with painted pictures and captions by colour; None if fewer than two objects can be told apart."
    items = nearest_objects(clip, most)
    if len(items) < 2: return None
    names = list(STAGE_COLORS)
    objects = tuple(dataclasses.replace(item, caption=f'{names[n]} {item.label.lower()}') for n, item in enumerate(items))
    colors = {item.id: STAGE_COLORS[names[n]] for n, item in enumerate(items)}
    views = []
    for view in clip.views:
        K = resize_intrinsics(view.K, size_px / view.width, size_px / view.height)
        blank = View(view.name, K, view.w2c, size_px, size_px)
        made = [_painted(blank, dataclasses.replace(clip, objects=objects), frame, colors) for frame in range(clip.frames_count)]
        views.append(dataclasses.replace(blank, frames=np.stack([p for p, _ in made]), instances=np.stack([i for _, i in made]),
                                         frame_valid=None))
    return dataclasses.replace(clip, views=tuple(views), objects=objects, meta=clip.meta | {'input': 'staged boxes'})


# %%
def invented_street() -> Clip:
    times_s, size_m = np.arange(8) * 0.3, np.array([3.8, 1.7, 1.5])
    w2c = np.stack([look_at((0.1, -6 + 1.5 * t, 1.6), (0.1, 12, 1.0), (0, 0, 1)) for t in times_s])
    def car(id, x, y, speed):
        pose = np.tile(np.eye(4), (8, 1, 1)); pose[:, :3, 3] = np.stack([x + 0 * times_s, y + speed * times_s, 0.75 + 0 * times_s], 1)
        pose[:, :2, :2] = [[0, -1], [1, 0]]
        return SceneObject(id, 'car', 'car', size_m, pose, np.ones(8, bool))
    view = View('front', intrinsics(220.0, 210.0, 160.0, 60.0), w2c, 120, 320)
    return Clip('street', (view,), (car(1, -2.2, 6, 3.0), car(2, 2.3, 10, 0.0), car(3, -2.0, 15, -4.0)), times_s, np.array([0.0, 0, 1]), 'invented', 'free')

street = invented_street()
assert sorted(convex_outline(np.array([[0, 0], [2, 0], [1, 1], [2, 2], [0, 2.0]])).tolist()) == [[0, 0], [0, 2], [2, 0], [2, 2]]
stage = staged(street)
print(stage, [item.caption for item in stage.objects])
assert stage.view.frames.shape == (8, 112, 112, 3) and set(np.unique(stage.view.instances)) == {0, 1, 2, 3}
assert np.allclose(stage.objects[0].centers_m, street.object(stage.objects[0].id).centers_m)

# %%
figure, axes = plt.subplots(1, 4, figsize=(8, 2.3), dpi=80)
for axis, t in zip(axes, (0, 2, 5, 7)): axis.imshow(stage.view.frames[t]); axis.set(xticks=[], yticks=[], title=f'{stage.times_s[t]:.1f} s')
plt.show()
assert (stage.view.frames[0, 0, 0] == SKY).all() and (stage.view.frames[0, -1, 0] == GROUND).all()


# %% [markdown]
# ## Windows of the samples
#
# A KITTI window is 24 frames (2.4 s) thinned to 8; a WildTrack window is 8 annotated frames (3.5 s) of three cameras. Long
# clips are not made from these samples.

# %%
#| export
def thinned(clip: Clip, frames: np.ndarray) -> Clip:
    "Some frames of a clip."
    views = tuple(dataclasses.replace(v, w2c=v.w2c[frames], frames=None if v.frames is None else v.frames[frames], depth_m=None,
                                      instances=None, frame_valid=v.frame_valid[frames]) for v in clip.views)
    objects = tuple(dataclasses.replace(o, world_from_object=o.world_from_object[frames], present=o.present[frames])
                    for o in clip.objects)
    return dataclasses.replace(clip, views=views, objects=objects, times_s=clip.times_s[frames] - clip.times_s[frames[0]])

def kitti_windows(root: Path | str, sequence: str, every: int = 40, most: int = 12, frames: int = 24) -> list[Clip]:
    "Staged windows of a KITTI sequence; the poses are OXTS or, where they are missing, the ORB-SLAM3 ones beside them."
    root, made = Path(root), []
    poses = root / f'orbslam3_poses/{sequence}/CameraTrajectory.txt'
    trajectory = None if (root / f'training/oxts/{sequence}.txt').exists() or not poses.exists() else poses
    for start in range(0, every * most, every):
        try: clip = read_kitti_tracking(root, sequence, start, start + frames, trajectory=trajectory)
        except InputError: break                                           # the sequence has ended
        clip = staged(thinned(clip, np.arange(0, frames, 3)))
        if clip: made.append(dataclasses.replace(clip, meta=clip.meta | {'scene': f'kitti {sequence}', 'venue': 'kitti'}))
    return made

def wildtrack_windows(root: Path | str, first: int = 0, last: int = 400, every: int = 16, cameras=(0, 3, 5)) -> list[Clip]:
    "Staged windows of WildTrack's annotated frames first … last - 1; its scene is the stretch of time."
    made = []
    for start in range(first, last - 8, every):
        clip = staged(read_wildtrack(root, start, start + 8, cameras))
        if clip: made.append(dataclasses.replace(clip, meta=clip.meta | {'scene': f'wildtrack {start}', 'venue': 'wildtrack'}))
    return made


# %%
#| export
def kitti_pixels(root: Path | str, sequence: str = '0001', frames: tuple[int, ...] = (0, 10, 15, 20), size_px: int = 112) -> Clip:
    "The frames of a sequence that have pictures, as pixels: a clip with uneven times."
    clip = thinned(read_kitti_tracking(root, sequence, 0, max(frames) + 1), np.array(frames))
    if not all(view.frame_valid.all() for view in clip.views):
        raise InputError(f'{root}: sequence {sequence} lacks pictures of some of the frames {frames}; name others')
    view = clip.view
    K = resize_intrinsics(view.K, size_px / view.width, size_px / view.height)
    small = dataclasses.replace(view, frames=resize_frames(view.frames, size_px, size_px), K=K, height=size_px, width=size_px)
    return dataclasses.replace(clip, views=(small,), objects=tuple(nearest_objects(clip)),
                               meta=clip.meta | {'input': 'pixels', 'scene': f'kitti {sequence}', 'venue': 'kitti'})

def dialogues_of(clip: Clip, seed: int = 0) -> list[Dialogue]:
    "One dialogue about each object that can be asked about."
    made = [make_dialogue(clip, np.random.default_rng([seed, item.id]), target=item.id) for item in clip.objects]
    return [dialogue for dialogue in made if dialogue]


# %%
data = Path(os.environ.get('TRACK4D_DATA', 'no data'))
kitti = kitti_windows(data / 'kitti_tracking', '0000', most=2) if (data / 'kitti_tracking').is_dir() else []
square = wildtrack_windows(data / 'wildtrack', 0, 30) if (data / 'wildtrack').is_dir() else []
real = [*kitti[:2], *square[:1]] or [stage]
talks = [(clip, dialogue) for clip in real for dialogue in dialogues_of(clip)]
for clip, dialogue in talks[:3]: print(clip.id, '·', dialogue.turns[0].question, dialogue.turns[0].xyz_m.round(1).tolist())
assert all(dialogue.turns[0].returns_path for _, dialogue in talks)

# %%
figure, axes = plt.subplots(1, len(real), figsize=(2.5 * len(real), 2.6), dpi=80, squeeze=False)
for axis, clip in zip(axes[0], real): axis.imshow(clip.view.frames[0]); axis.set(xticks=[], yticks=[], title=f'{clip.id}')
plt.show()
assert all(clip.view.frames.shape[1:] == (112, 112, 3) for clip in real)

# %%
figure, axes = plt.subplots(1, len(real), figsize=(3 * len(real), 4.2), dpi=80, squeeze=False)
for axis, clip in zip(axes[0], real): birds_eye(axis, clip); axis.locator_params(axis='x', nbins=2); axis.set_title(f'{len(clip.objects)} objects, {clip.times_s[-1]:.1f} s')
plt.show()
assert all(item.present.all() for clip in real for item in clip.objects)

# %% [markdown]
# ## What we proved
#
# * Staging changes pictures and captions only: cameras, times and paths are those of the reader.
# * Windows of both data sets become dialogues by the same function as simulated clips.
#
# ## Try it
#
# 1. Paint the boxes of WildTrack for all seven cameras. How many visual tokens is that?
# 2. Name the targets by place instead of by colour (all boxes grey). What remains of the answers?
# 3. Stage a simulated clip and ask the checkpoint about both versions: that is the gap of appearance alone.
#
# <details><summary>Solutions</summary>
#
# 1. Seven times one view. Count with `video_token_counts`; compare with the preset's `max_tokens` before building the
#    batch.
# 2. What was answered by colour alone disappears; what needs places and times must remain. That difference is the
#    share of shortcut.
# 3. Both versions have the same motion, so a paired comparison of the answers measures appearance alone.
#
# </details>
