# %% [markdown]
# # KITTI Tracking
# > Labels, two dialects of calibration and a GPS unit become one `Clip` in which parked cars stand still.

# %%
#| default_exp kitti

# %% [markdown]
# #| export
# Converted from: labels in rectified camera 0 (x right, y down, z forward), box = middle of the bottom
# face, sizes h w l; poses from `oxts` (latitude, longitude, altitude, roll, pitch, yaw). World: origin at
# the first camera, x along its view, z up.

# %% [markdown]
# * **What** `read_kitti_tracking`: images where present, 3D boxes, camera poses
# * **Why** Track4D-Bench draws on it, and it is the clearest real example of Figure 2 of 4DP-QA: parked cars slide in the image
# * **Paper** LMM-Track4D, sources of Track4D-Bench; KITTI's own development kit defines the files
# * **Needs** nothing; with `TRACK4D_DATA` set it shows real frames
# * **Time** 15 seconds
# * **Before this** `07_raw`

# %%
#| export
from pathlib import Path

import numpy as np

# %%
#| export
from track4d_ref.storage import InputError, inside
from track4d_ref.cameras import invert_pose, pose_from, transform
from track4d_ref.clips import Clip, SceneObject, View
from track4d_ref.raw import (MAX_FRAMES, check_rigid, gravity_frame, nearest_index, number, object_axes,
                             open_picture, positive_size,
                             read_lines, read_picture, read_table, sound_clip, turns_about, whole_numbers)

# %%
import os
import tempfile
import matplotlib.pyplot as plt
from PIL import Image

from track4d_ref.cameras import project
from track4d_ref.raw import thumbnail

data = os.environ.get('TRACK4D_DATA')
CREDIT = 'KITTI Tracking (Geiger et al.), CC BY-NC-SA 3.0'

# %% [markdown]
# ## Labels
#
# A row has 17 columns: `frame track_id type truncated occluded alpha left top right bottom h w l x y z ry`. Rows of the
# type DontCare mark image regions that nobody labelled; their 3D numbers are fillers (−1000, −10, −1) and must go by
# *type*. One wrong filter and a sequence gains cars ten metres behind the camera.

# %%
#| export
LABEL_COLUMNS = tuple('frame track_id type truncated occluded alpha left top right bottom '
                      'h w l x y z ry'.split())
AGENT_TYPES = {'Car': 'car', 'Van': 'van', 'Truck': 'truck', 'Pedestrian': 'pedestrian',
               'Person': 'sitting person',
               'Person_sitting': 'sitting person', 'Cyclist': 'cyclist', 'Tram': 'tram'}

def read_kitti_labels(path: Path | str) -> dict[str, np.ndarray]:
    """The label columns as arrays (N,), without the DontCare rows;
    lengths in metres, angles in radians, boxes in pixels."""
    table = read_table(path, LABEL_COLUMNS, texts=('type',))
    table = {name: column[table['type'] != 'DontCare'] for name, column in table.items()}
    for name in ('frame', 'track_id'): table[name] = whole_numbers(table[name], f'{path}, field {name!r}')
    positive_size(np.stack([table[name] for name in 'lwh']), f'{path}, fields h w l')
    places, counts = np.unique(np.stack([table['frame'], table['track_id']], -1), axis=0, return_counts=True)
    if (counts > 1).any():
        raise InputError(f'{path}: frame {places[counts > 1][0][0]} has track {places[counts > 1][0][1]} '
                         'twice; remove one row')
    return table


# %% [markdown]
# A small sequence written by hand stands in for the real one where that is absent: a car parked at (2, 1.6, 20) metres,
# while the camera drives towards it at 10 m/s. In camera coordinates the car comes nearer by one metre per frame.

# %%
CALIBRATION = '\n'.join([
    *(f'P{i}: 721.5 0 609.5 {44.8 if i == 2 else 0} 0 721.5 172.8 0.2 0 0 1 0.003' for i in range(4)),
    'R0_rect: 1 0 0 0 1 0 0 0 1', 'Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0',
                         'Tr_imu_to_velo: 1 0 0 0 0 1 0 0 0 0 1 0'])

def write_small_sequence(folder: Path, frames: int = 9) -> Path:
    for name in ('label_02', 'calib', 'oxts'): (folder / name).mkdir(parents=True)
    rows = [f'{t} 7 Car 0 0 0 0 0 9 9 1.5 1.6 4.0 2.0 1.6 {20 - t} -1.57' for t in range(frames)]
    rows.insert(1, '0 -1 DontCare -1 -1 -10 0 0 9 9 -1000 -1000 -1000 -10 -1 -1 -1')
    (folder / 'label_02/0000.txt').write_text('\n'.join(rows))
    (folder / 'calib/0000.txt').write_text(CALIBRATION)
    east_degrees = 1.0 / 6378137 * 180 / np.pi                      # one metre of longitude at the equator
    oxts = [f'0 {t * east_degrees:.12f} 100 0 0 0 ' + '0 ' * 24 for t in range(frames)]
    (folder / 'oxts/0000.txt').write_text('\n'.join(oxts))
    return folder

small = write_small_sequence(Path(tempfile.mkdtemp()))
labels = read_kitti_labels(small / 'label_02/0000.txt')

# %%
figure, axis = plt.subplots(figsize=(5, 2.2), dpi=90)
axis.plot(labels['frame'] * 0.1, labels['z'], 'o-', color='#D55E00')
axis.set(xlabel='time (s)', ylabel='z in the camera (m)', title='a parked car, as the labels tell it')
plt.show()

# %%
assert len(labels['frame']) == 9 and set(labels['type']) == {'Car'}       # the DontCare row is gone
assert labels['z'][0] - labels['z'][-1] == 8.0

# %% [markdown]
# ## Calibration
#
# Two dialects are in circulation: one writes `R0_rect: `, `Tr_velo_to_cam: `, the other `R_rect `, `Tr_velo_cam ` without
# colons. The numbers mean the same. The picture of camera 2 is made with the **3×4** matrix $P_2=K\,[I\,|\,t]$; its fourth
# column moves the world by $t=K^{-1}P_2[:,3]$, six centimetres. We split it: `K` goes into the view and `t` into its pose.

# %%
#| export
CALIBRATION_NAMES = {'R0_rect': 'R_rect', 'Tr_velo_to_cam': 'Tr_velo_cam', 'Tr_imu_to_velo': 'Tr_imu_velo'}

def read_kitti_calibration(path: Path | str) -> dict[str, np.ndarray]:
    "P0…P3 (3, 4) in pixels and R_rect, Tr_velo_cam, Tr_imu_velo (4, 4) in metres; both dialects of names."
    found = {}
    for index, line in enumerate(read_lines(path), 1):
        name, *cells = line.replace(':', ' ').split() or ['']
        name = CALIBRATION_NAMES.get(name, name)
        if not cells or name not in ('P0', 'P1', 'P2', 'P3', 'R_rect', 'Tr_velo_cam', 'Tr_imu_velo'): continue
        if name in found: raise InputError(f'{path}, line {index}: {name} stands twice; remove one')
        wanted = 9 if name == 'R_rect' else 12
        if len(cells) != wanted:
            raise InputError(f'{path}, line {index}: {name} has {len(cells)} numbers instead of {wanted}')
        values = np.array([number(cell, f'{path}, line {index}, {name}') for cell in cells]).reshape(3, -1)
        if not name.startswith('P'):
            values = check_rigid(pose_from(values[:, :3], values[:, 3] if wanted == 12 else np.zeros(3)),
                                 f'{path}, {name}')
        found[name] = values
    return found

def _calibration_entry(calibration: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    "One matrix of the calibration; InputError if the file does not have it."
    if name not in calibration: raise InputError(f'{path}: no {name}; a KITTI calibration must hold it')
    return calibration[name]


# %%
#| export
def split_projection(projection: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    "P = K [I | t] as K (3, 3) and the pose camera←rectified camera 0 (4, 4)."
    K = projection[:, :3]
    if not (K[0, 0] > 0 and K[1, 1] > 0 and np.allclose(K[2], (0, 0, 1)) and K[1, 0] == 0):
        raise InputError(f'{where}: its left 3×3 part is no camera matrix; check the order of the numbers')
    return K, pose_from(np.eye(3), np.linalg.solve(K, projection[:, 3]))


# %%
calibration = read_kitti_calibration(small / 'calib/0000.txt')
other_dialect = small / 'other.txt'
text = CALIBRATION.replace('R0_rect:', 'R_rect').replace('velo_to_cam:', 'velo_cam')
other_dialect.write_text(text.replace('imu_to_velo:', 'imu_velo'))
K, camera_from_rectified = split_projection(calibration['P2'], 'P2')
print('shift of camera 2 in metres:', camera_from_rectified[:3, 3].round(4))

# %%
again = read_kitti_calibration(other_dialect)
assert all((again[name] == calibration[name]).all()
           for name in ('P2', 'R_rect', 'Tr_velo_cam', 'Tr_imu_velo'))
point_m = np.array([2.0, 1.0, 9.0, 1.0])
u, v, w = calibration['P2'] @ point_m
assert np.allclose(project(K, camera_from_rectified, point_m[None, :3])[0][0], (u / w, v / w))

# %% [markdown]
# ## Poses from GPS
#
# `oxts` gives latitude, longitude and altitude and three angles per frame. The Mercator formula of KITTI's kit turns
# them into metres, with the scale $s=\cos(\text{lat}_0)$ of the first row:
#
# $$x=sR\,\tfrac{\pi}{180}\text{lon},\qquad y=sR\,\ln\tan\tfrac{\pi(90+\text{lat})}{360},\qquad z=\text{alt},\qquad
# R_{imu}=R_z(\text{yaw})R_y(\text{pitch})R_x(\text{roll}).$$
#
# The rows carry no time stamp, so a shuffled file would be a drive that nobody made. But each row also has a velocity: where
# it leads and where the next row lies may differ by centimetres, not by metres **[ours]**.
#
# The camera's pose is this, times the fixed chain IMU → velodyne → camera → rectified camera. Nothing is estimated from
# the picture, so the world does not depend on what moves in it.

# %%
#| export
EARTH_RADIUS_M = 6378137.0
MAX_JUMP_M = 3.0          # largest honest one in sequence 0001: 0.13 m
OXTS_COLUMNS = tuple('lat lon alt roll pitch yaw vn ve vf vl vu ax ay az af al au wx wy wz wf wl wu '
                     'pos_accuracy '
                     'vel_accuracy navstat numsats posmode velmode orimode'.split())

def read_oxts_poses(path: Path | str) -> np.ndarray:
    """world←imu (T, 4, 4) in metres, world x east, y north, z up, origin at the first row;
    from the 30 columns of oxts."""
    table = read_table(path, OXTS_COLUMNS)
    if not ((np.abs(table['lat']) < 89) & (np.abs(table['lon']) <= 360)).all():
        raise InputError(f'{path}: a latitude or longitude is out of range; check the order of the columns')
    scale = np.cos(np.radians(table['lat'][0]))
    east_m = scale * EARTH_RADIUS_M * np.radians(table['lon'])
    north_m = scale * EARTH_RADIUS_M * np.log(np.tan(np.radians(90 + table['lat']) / 2))
    rotation = turns_about(2, table['yaw']) @ turns_about(1, table['pitch']) @ turns_about(0, table['roll'])
    place_m = np.stack([east_m, north_m, table['alt']],
                       -1)   # thousands of km: rounding would cost half a metre later
    drift_m = np.diff(place_m[:, :2], axis=0) - 0.1 * np.stack([table['ve'], table['vn']], -1)[1:]
    jumps = np.flatnonzero(np.linalg.norm(drift_m, axis=1) > MAX_JUMP_M)
    if len(jumps):
        raise InputError(f'{path}, row {jumps[0] + 2}: lies {np.linalg.norm(drift_m[jumps[0]]):.1f} m from '
                         'where its velocity leads; the rows must be in the order of time')
    return pose_from(rotation, place_m - place_m[0])


# %%
#| export
def camera_poses(root: Path, name: str, calibration: dict,
                 trajectory: Path | str | None) -> tuple[np.ndarray | None, str]:
    """world←rectified camera 0 (T, 4, 4) with z up (oxts) or −y up (a 12-number trajectory), and where they
    came from."""
    if trajectory is not None:
        rows = read_table(trajectory, tuple(f'r{i}' for i in range(12)))
        matrix = np.stack(list(rows.values()), -1).reshape(-1, 3, 4)
        return check_rigid(pose_from(matrix[..., :3], matrix[..., 3]), str(trajectory)), 'trajectory'
    path = inside(root, f'oxts/{name}.txt')
    if not path.exists(): return None, 'none: the world is the camera of each frame'
    calibration_path = root / f'calib/{name}.txt'
    chain = [_calibration_entry(calibration, key, calibration_path)
             for key in ('R_rect', 'Tr_velo_cam', 'Tr_imu_velo')]
    return read_oxts_poses(path) @ invert_pose(chain[0] @ chain[1] @ chain[2]), 'oxts'


# %%
imu_poses = read_oxts_poses(small / 'oxts/0000.txt')
steps_m = np.linalg.norm(np.diff(imu_poses[:, :3, 3], axis=0), axis=1)
assert np.allclose(steps_m, 1.0, atol=1e-4)      # one metre per frame: 10 m/s at 10 frames a second


# %% [markdown]
# ## Objects
#
# Each track becomes one object: front = the box's own x at `ry`, up = −y of the camera, centre = half a height above the
# bottom. The size is the median over the track. Our `id` is the track id plus one, because 0 means "nothing" in instance
# maps. Where an object is not annotated, `present` is False and its pose holds the nearest annotated one.

# %%
#| export
def nearest_known(known: np.ndarray) -> np.ndarray:
    "For every index (T,) the nearest index at which `known` is True."
    places = np.flatnonzero(known)
    return places[nearest_index(places, np.arange(len(known)))]

def track_object(labels: dict, rows: np.ndarray, start: int, world_from_camera: np.ndarray) -> SceneObject:
    "One KITTI track (rows of the labels) as an object with world←object poses (T, 4, 4)."
    frames = labels['frame'][rows] - start
    size_m = np.median(np.stack([labels[name][rows] for name in 'lwh'], -1), axis=0)
    centre_m = np.stack([labels['x'][rows], labels['y'][rows] - labels['h'][rows] / 2, labels['z'][rows]], -1)
    rotation = turns_about(1, labels['ry'][rows]) @ object_axes((1, 0, 0), (0, -1, 0))
    present = np.zeros(len(world_from_camera), dtype=bool)
    present[frames] = True
    poses = np.zeros((len(present), 4, 4))
    poses[frames] = world_from_camera[frames] @ pose_from(rotation, centre_m)
    kind = labels['type'][rows][0]
    label = AGENT_TYPES.get(kind, 'object' if kind == 'Misc' else kind.lower())
    return SceneObject(id=int(labels['track_id'][rows][0]) + 1, label=label, caption=label, size_m=size_m,
                       world_from_object=poses[nearest_known(present)], present=present,
                       agent=kind in AGENT_TYPES)


# %%
parked = track_object(labels, np.arange(9), 0, np.broadcast_to(np.eye(4), (9, 4, 4)))
assert parked.id == 8 and parked.label == 'car' and parked.agent
assert np.allclose(parked.size_m, (4.0, 1.6, 1.5))
assert np.allclose(parked.centers_m[0],
                   (2, 1.6 - 0.75, 20))            # the label's place is the bottom of the box
assert np.allclose(parked.world_from_object[0, :3, 2], (0, -1, 0))      # up, against the camera's y

# %% [markdown]
# ## Images
#
# A view's `frames` is an array for all frames, black where the file is missing, and `frame_valid` says which are real. A
# sequence of which nobody downloaded the images has `frames = None` and is still a clip with a world. The size of its
# images then follows from the focal length, which differs between the recording days.

# %%
#| export
SIZES_BY_FOCAL = {721.5: (375, 1242), 707.0: (370, 1224), 718.3: (374, 1238), 718.9: (376, 1241)}
MAX_CLIP_BYTES = 4 * 1024 ** 3

def read_frames(paths: list[Path]) -> tuple[np.ndarray | None, np.ndarray]:
    "uint8 (T, H, W, 3), black where a file is missing (None if all are), and frame_valid (T,)."
    valid = np.array([path.is_file() for path in paths])
    if not valid.any(): return None, valid
    picture = open_picture(paths[int(valid.argmax())])
    if len(paths) * picture.width * picture.height * 3 > MAX_CLIP_BYTES:
        raise InputError(f'{paths[0].parent}: {len(paths)} frames do not fit into memory; ask for fewer with '
                         'start and stop')
    frames = np.zeros((len(paths), picture.height, picture.width, 3), dtype=np.uint8)
    for index in np.flatnonzero(valid): frames[index] = read_picture(paths[index], frames.shape[1:3])
    return frames, valid

def _kitti_view(root: Path, name: str, camera: int, span: range, calibration: dict,
               camera_from_world: np.ndarray) -> View:
    """The view of image_02 or image_03 over the frames `span`;
    `camera_from_world` is rectified camera 0 (T, 4, 4)."""
    path = root / f'calib/{name}.txt'
    K, shift = split_projection(_calibration_entry(calibration, f'P{camera}', path), f'{path}, P{camera}')
    folder = inside(root, f'image_{camera:02d}/{name}')
    frames, valid = read_frames([folder / f'{frame:06d}.png' for frame in span])
    size = min(SIZES_BY_FOCAL.items(), key=lambda item: abs(item[0] - K[0, 0]))[1]
    height, width = frames.shape[1:3] if frames is not None else size
    return View(name=f'image_{camera:02d}', K=K, w2c=shift @ camera_from_world, height=height, width=width,
                frames=frames, depth_m=None, instances=None, frame_valid=valid)


# %%
absent, real_frames = read_frames([small / 'a.png', small / 'b.png'])
assert absent is None and not real_frames.any()
Image.new('RGB', (8, 6), (200, 0, 0)).save(small / 'b.png')
found, real_frames = read_frames([small / 'a.png', small / 'b.png'])
assert found.shape == (2, 6, 8, 3) and real_frames.tolist() == [False, True] and not found[0].any()


# %% [markdown]
# ## The reader
#
# Without poses the world of a frame is its camera, which `meta` says aloud: object motion is then motion relative to the
# camera, and questions about the camera make no sense. A trajectory estimated by SLAM can be given instead. It is
# metric here only because the rig was stereo, and it drifts; where oxts exists, use that.

# %%
#| export
def frame_span(start: int, stop: int | None, count: int, where: str) -> range:
    "The frames start … stop−1 of `count`; InputError if that is not a part of the sequence."
    stop = count if stop is None else stop
    if not 0 <= start < stop <= count:
        raise InputError(f'{where}: frames {start} to {stop} are not part of 0 to {count}; correct start and '
                         'stop')
    return range(start, stop)

def kitti_length(root: Path, name: str, labels: dict, poses: np.ndarray | None) -> int:
    "How many frames a sequence has: the rows of its poses, else the last label or image."
    last = int(labels['frame'].max(initial=-1))
    if poses is not None:
        if last >= len(poses):
            raise InputError(f'label_02/{name}.txt: frame {last}, but only {len(poses)} poses; check both '
                             'files')
        return len(poses)
    images = [int(path.stem) for path in inside(root, f'image_02/{name}').glob('*.png')
              if path.stem.isdecimal()]
    return min(max([last, *images]) + 1, MAX_FRAMES)

def _kitti_world(poses: np.ndarray | None, span: range, source: str) -> tuple[np.ndarray, np.ndarray]:
    "world←rectified camera 0 (T, 4, 4) over the span, and up: first camera's place, z up, x along its view."
    if poses is None: return np.broadcast_to(np.eye(4), (len(span), 4, 4)).copy(), np.array([0.0, -1, 0])
    poses = poses[span.start:span.stop]
    up = np.array([0.0, 0, 1]) if source == 'oxts' else -poses[0, :3, 1]
    return gravity_frame(invert_pose(poses[0]), up) @ poses, np.array([0.0, 0, 1])


# %%
#| export
def read_kitti_tracking(root: Path | str, sequence: int | str, start: int = 0, stop: int | None = None,
                        cameras: tuple[int, ...] = (2,), trajectory: Path | str | None = None) -> Clip:
    """Frames start … stop−1 of a KITTI Tracking sequence; `root` holds label_02 and calib (or training/
    with them)."""
    root, name = Path(root), f'{sequence:04d}' if isinstance(sequence, int) else str(sequence)
    root = root / 'training' if (root / 'training').is_dir() else root
    labels = read_kitti_labels(inside(root, f'label_02/{name}.txt'))
    calibration = read_kitti_calibration(inside(root, f'calib/{name}.txt'))
    poses, source = camera_poses(root, name, calibration, trajectory)
    span = frame_span(start, stop, kitti_length(root, name, labels, poses), f'sequence {name}')
    world_from_camera, up = _kitti_world(poses, span, source)
    rows = (labels['frame'] >= span.start) & (labels['frame'] < span.stop)
    objects = [track_object(labels, np.flatnonzero(rows & (labels['track_id'] == track)), span.start,
                            world_from_camera)
               for track in np.unique(labels['track_id'][rows])]
    views = [_kitti_view(root, name, camera, span, calibration, invert_pose(world_from_camera))
             for camera in cameras]
    return sound_clip(Clip(id=f'kitti_{name}_{span.start:06d}', views=tuple(views), objects=tuple(objects),
                           up=up,
                times_s=np.arange(len(span)) * 0.1, source='kitti', licence='CC BY-NC-SA 3.0, non-commercial',
                meta={'poses': source, 'camera_poses_known': poses is not None, 'sequence': name,
                      'first_frame': span.start}), root)


# %% [markdown]
# The hand-made car: in the labels it came nearer by eight metres. In the world it stays where it is.

# %%
clip = read_kitti_tracking(small, 0)
car = clip.objects[0]

# %%
figure, axis = plt.subplots(figsize=(5, 2.4), dpi=90)
in_camera_m = transform(clip.view.w2c, car.world_from_object[:, None, :3, 3])[:, 0]
axis.plot(clip.times_s, in_camera_m[:, 2], 'o-', color='#D55E00', label='forward, in the camera')
axis.plot(clip.times_s, car.world_from_object[:, 0, 3], 'o-', color='#0072B2', label='forward, in the world')
axis.set(xlabel='time (s)', ylabel='metres'); axis.legend(); plt.show()

# %%
assert np.ptp(car.world_from_object[:, :3, 3], axis=0).max() < 1e-3
assert np.allclose(car.world_from_object[0, :3, 3], (20, -2, -1.6 + 0.75), atol=0.1)     # forward, left, up
assert np.allclose(car.world_from_object[0, :3, 0], (1, 0, 0),
                   atol=0.01)               # ry = −π/2 looks along the road
assert clip.view.frames is None and clip.view.width == 1242 and not clip.view.frame_valid.any()

# %% [markdown]
# ## The real sequence 0001
#
# Now the real thing, where it is present. Boxes are projected from the *world* through the camera of each frame. They sit
# on the cars only if labels, calibration and GPS were all read right. A projected box should also have the outline that
# KITTI's annotators drew around the car by hand.

# %%
EDGES = [(0, 1), (1, 3), (3, 2), (2, 0), (4, 5), (5, 7), (7, 6), (6, 4), (0, 4), (1, 5), (2, 6), (3, 7)]

def draw_boxes(axis, clip, frame):
    view = clip.view
    axis.imshow(thumbnail(view.frames[frame], 360, 28), extent=(0, view.width, view.height, 0),
                interpolation='nearest'); axis.axis('off')
    axis.set(xlim=(0, view.width), ylim=(view.height, 0))
    for thing in clip.objects:
        corners_m = transform(thing.world_from_object[frame], thing.corners_object_m)
        uv_px, depth_m = project(view.K, view.w2c[frame], corners_m)
        if not thing.present[frame] or depth_m.min() < 0.5: continue
        for first, last in EDGES:
            axis.plot(*uv_px[[first, last]].T, color='#D55E00' if first > 3 else '#56B4E9', linewidth=0.9)
    axis.text(5, view.height - 8, CREDIT, color='white', fontsize=5)

if data:
    real = read_kitti_tracking(Path(data) / 'kitti_tracking', 1, stop=21)
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 4), dpi=80)
    for axis, frame in zip(axes, (0, 20)):
        draw_boxes(axis, real, frame); axis.set_title(f'frame {frame}', fontsize=8)
    figure.tight_layout(); plt.show()

# %% [markdown]
# The bird's-eye view shows the camera's way and every box. The parked cars line the street and hardly smear although
# each was measured anew in all frames: what their labels slid by, the GPS takes back.
#
# How still is parked? Over all 447 frames of the sequence, the cars and vans within 30 m spread by 0.095 m (median RMS)
# in the world if rows of truncated boxes are left out, and by 0.109 m with them; in camera coordinates it is metres. A
# truncated car sticks out of the picture, so its annotator guessed where it ends. `tests/test_readers_kitti.py` prints both.

# %%
scene = real if data else clip
figure, axis = plt.subplots(figsize=(6, 3.6), dpi=90)
for thing in scene.objects:
    places = thing.world_from_object[thing.present]
    axis.plot(places[:, 0, 3], places[:, 1, 3], '-', color='#0072B2', linewidth=1)
    outline = transform(places[0], thing.corners_object_m[[7, 5, 1, 3, 7]])
    axis.plot(*outline[:, :2].T, color='#999999', linewidth=0.7)
    axis.plot(*outline[:2, :2].T, color='#D55E00', linewidth=1.6)
camera_m = invert_pose(scene.view.w2c)[:, :3, 3]
axis.plot(*camera_m[:, :2].T, color='black', linewidth=2, label='camera')
axis.set(xlabel='forward (m)', ylabel='left (m)', aspect='equal',
         title='boxes at first sight, fronts orange, tracks blue')
axis.legend(fontsize=7); plt.show()

# %%
assert np.allclose(camera_m[0], 0, atol=0.1) and camera_m[-1, 0] > 1             # the camera drives forward
if data:
    spreads_m = [np.sqrt(thing.world_from_object[thing.present, :3, 3].var(0).sum())
                 for thing in real.objects if thing.present.sum() > 5]
    print(f'{len(spreads_m)} objects, median world spread {np.median(spreads_m):.3f} m')
    assert np.median(spreads_m) < 0.5

# %% [markdown]
# ## What we proved
#
# * Both dialects of the calibration give the same camera, and the fourth column of P2 survives as a shift of the pose.
# * A car parked in the world stays parked when the camera drives.
# * A sequence without images, or without poses, is still a clip, and says what it lacks.
#
# ## Try it
#
# 1. Drop the fourth column of P2. By how many pixels does the box of a car at 10 m move?
# 2. Read sequence 0001 with `trajectory=` its ORB-SLAM3 file. Do the parked cars still stand still?
# 3. Feed a label row with a NaN and read the sentence.
#
# <details><summary>Solutions</summary>
#
# 1. The fourth column is the baseline times the focal length, in pixels times metres: the shift is its first entry
#    over the depth. For camera 2 about 45 px·m, so some 4 pixels at 10 m.
# 2. Within the odometry's drift: compute the medians of `27_figures` with both trajectories. What parked cars then
#    move is the error of the poses.
# 3. The sentence names file, line and field: `number` refuses what is not finite.
#
# </details>
