# %% [markdown]
# # Headset recordings
# > ADT and HOT3D as recorded: csv tables of poses, fisheye lenses, meshes; and a calibration that belongs to somebody else.

# %%
#| default_exp headsets

# %% [markdown]
# #| export
# Converted from: poses device→world with quaternions xyzw (`aria_trajectory.csv`, stamps in µs) or wxyz
# (everything else, stamps in ns). World up: +y for ADT and Quest 3, +z for HOT3D on Aria. A view here is a
# virtual pinhole at the camera's pose.

# %% [markdown]
# * **What** `read_adt` (original csv files) and `read_hot3d` (hands and objects on a table, Aria or Quest 3)
# * **Why** 4DP-QA uses both; these are the files one downloads, before any rectification
# * **Paper** 4DP-QA, data sources; the lens is Aria's FISHEYE624 model
# * **Needs** nothing; with `TRACK4D_DATA` set it shows real recordings
# * **Time** 15 seconds
# * **Before this** `07b_aria`

# %%
#| export
import json
import struct
from pathlib import Path

import numpy as np

# %%
#| export
from track4d_ref.storage import InputError, read_bytes, read_json
from track4d_ref.cameras import intrinsics, invert_pose, pose_from, transform
from track4d_ref.clips import Clip, SceneObject, View
from track4d_ref.raw import (centred_pose, field, numbers, positive_size, read_table,
                             rotation_from_quaternion, sound_clip)
from track4d_ref.aria import adt_object, nearest_stamp, poses_at, whole_stamps

# %%
import os
import tempfile
import matplotlib.pyplot as plt

from track4d_ref.cameras import project, unproject, pixel_centers

data = os.environ.get('TRACK4D_DATA')
CREDIT = 'HOT3D (Meta), non-commercial research'

# %% [markdown]
# ## Two pose dialects
#
# Aria's own trajectory counts microseconds and writes quaternions as `x y z w`. The object tables count nanoseconds and
# write `w x y z`. One function reads both, and its caller says which.
#
# Streams of one headset carry stamps some hundredths of a millisecond apart. They mean the same moment, so the clip's
# clock keeps one of each group closer than 5 ms **[ours]**.
#
# Why two dialects in one product? The trajectory comes from the tracking team's estimator and the objects from the motion
# capture of the room, and each writes its files as its own tools do. A reader that guesses the order from the column names
# is right until a third file calls its columns `q0 … q3`. Here the order is an argument without a default, so the person who
# adds a table has to look it up once. A stamp of −1 means "always" in ADT (things that never move) and is kept as such.

# %%
#| export
POSITION = ('t_wo_x[m]', 't_wo_y[m]', 't_wo_z[m]')
TURN_WXYZ = ('q_wo_w', 'q_wo_x', 'q_wo_y', 'q_wo_z')

def _pose_columns(table: dict, stamp: str, place: tuple, turn: tuple, order: str, unit_ns: int,
                 where: str) -> tuple[np.ndarray, np.ndarray]:
    "Stamps (N,) in nanoseconds and poses (N, 4, 4) from named columns; −1 stays −1."
    stamps = whole_stamps(table[stamp], unit_ns, where)
    rotation = rotation_from_quaternion(np.stack([table[name] for name in turn], -1), order, where)
    return stamps, pose_from(rotation, np.stack([table[name] for name in place], -1))

def read_aria_trajectory(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    "Stamps (N,) in ns and world←device (N, 4, 4) of aria_trajectory.csv or closed_loop_trajectory.csv."
    place = tuple(f't{axis}_world_device' for axis in 'xyz')
    turn = tuple(f'q{axis}_world_device' for axis in 'xyzw')
    table = read_table(path, ('tracking_timestamp_us', *place, *turn), separator=',', header=True)
    return _pose_columns(table, 'tracking_timestamp_us', place, turn, 'xyzw', 1000, str(path))

def read_object_poses(path: Path | str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """uid → stamps (K,) in ns and world←object (K, 4, 4), from scene_objects, dynamic_objects or
    headset_trajectory.csv."""
    table = read_table(path, ('object_uid', 'timestamp[ns]', *POSITION, *TURN_WXYZ), texts=('object_uid',),
                       separator=',', header=True)
    stamps, poses = _pose_columns(table, 'timestamp[ns]', POSITION, TURN_WXYZ, 'wxyz', 1, str(path))
    return {str(uid): (stamps[table['object_uid'] == uid], poses[table['object_uid'] == uid])
            for uid in np.unique(table['object_uid'])}



# %%
#| export
def thin_stamps(stamps_ns: np.ndarray, gap_ns: int = 5_000_000) -> np.ndarray:
    "Sorted stamps without those closer than `gap_ns` to the last one kept."
    kept = []
    for stamp in np.unique(stamps_ns):
        if not kept or stamp - kept[-1] >= gap_ns: kept.append(stamp)
    return np.array(kept, dtype=np.int64)


# %%
folder = Path(tempfile.mkdtemp())
half = 0.5 ** 0.5
(folder / 'aria_trajectory.csv').write_text(
    ','.join(['tracking_timestamp_us', *(f't{a}_world_device' for a in 'xyz'),
              *(f'q{a}_world_device' for a in 'xyzw')])
    + f'\n2000000,1,2,3,0,0,{half},{half}\n2033333,1,2,3,0,0,{half},{half}\n')
(folder / 'scene_objects.csv').write_text(
    'object_uid,timestamp[ns],' + ','.join(POSITION) + ',' + ','.join(TURN_WXYZ)
    + f'\n12,2000000000,1,2,3,{half},0,0,{half}\n')
device_ns, device_poses = read_aria_trajectory(folder / 'aria_trajectory.csv')
object_ns, object_poses = read_object_poses(folder / 'scene_objects.csv')['12']

# %%
assert device_ns[0] == object_ns[0] == 2_000_000_000                       # µs and ns meet
assert np.allclose(device_poses[0], object_poses[0])                       # xyzw and wxyz meet
assert np.allclose(device_poses[0, :3, 0], (0, 1, 0))                      # a quarter turn about z
assert thin_stamps(np.array([0, 90_000, 33_000_000, 33_090_000])).tolist() == [0, 33_000_000]


# %% [markdown]
# ## Lenses: FISHEYE624
#
# A fisheye picture is no pinhole picture, and our `View` is a pinhole. We therefore place a *virtual* pinhole camera at
# the pose of the real one. To compare with boxes drawn on the fisheye image we still need the lens. With
# $a=x/z$, $b=y/z$, $r=\sqrt{a^2+b^2}$, $\theta=\arctan r$ it bends a ray to
#
# $$\theta_d=\theta\,\bigl(1+\textstyle\sum_{i=0}^{5}k_i\theta^{2i+2}\bigr),\qquad (x_r,y_r)=\tfrac{\theta_d}{r}(a,b),\qquad \rho^2=x_r^2+y_r^2,$$
#
# then adds a tangential part ($p_0,p_1$) and a thin prism ($s_0\ldots s_3$). Fifteen parameters with one focal length
# (Aria), sixteen with two (Quest 3).
#
# The picture below bends a flat grid with the lens of a Quest 3. The corners of the grid come from far outside the sensor
# (orange): a fisheye brings nearly half a sphere onto the chip, a pinhole of the same focal length only the middle of it. A
# point close to the axis lands where the pinhole puts it, and that is the first assertion; the second is that angles
# shrink as the parameters say. Points behind the camera get no pixel at all.

# %%
#| export
def fisheye_project(parameters: np.ndarray, xyz_camera: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of points (..., 3) in front of a FISHEYE624 camera;
    15 parameters (f, cu, cv, …) or 16 (fu, fv, cu, cv, …)."""
    parameters = np.asarray(parameters, dtype=np.float64)
    focal, (centre, k, p, s) = parameters[:len(parameters) - 14], np.split(parameters[-14:], (2, 8, 10))
    slope = xyz_camera[..., :2] / xyz_camera[..., 2:]
    r = np.linalg.norm(slope, axis=-1)
    theta = np.arctan(r)
    bent = theta * (1 + sum(value * theta ** (2 * i + 2) for i, value in enumerate(k)))
    xy = slope * np.where(r > 1e-12, bent / np.maximum(r, 1e-12), 1)[..., None]
    x, y = xy[..., 0], xy[..., 1]
    rho2 = x * x + y * y
    shifted = np.stack([x + (2 * x * x + rho2) * p[0] + 2 * x * y * p[1] + s[0] * rho2 + s[1] * rho2 ** 2,
                        y + (2 * y * y + rho2) * p[1] + 2 * x * y * p[0] + s[2] * rho2 + s[3] * rho2 ** 2],
                       -1)
    return shifted * focal + centre


# %%
quest_lens = np.array([504.6, 504.6, 638.4, 509.4, 0.044, -0.0449, 0.0161, -0.0109, 0.0035, -0.0005, 0.0005,
                       0, 0, 0, 0, 0])
grid = np.stack(np.meshgrid(np.linspace(-2, 2, 17), np.linspace(-1.5, 1.5, 13)), -1)
bent_px = fisheye_project(quest_lens, np.concatenate([grid, np.ones((13, 17, 1))], -1))
straight_px = grid * 504.6 + (638.4, 509.4)

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.6), dpi=85)
for axis, lines_px, title in zip(axes, (straight_px, bent_px),
                                 ('a flat grid through a pinhole', 'the same through a Quest 3 lens')):
    axis.plot(*np.moveaxis(lines_px, -1, 0), color='#0072B2', linewidth=0.8)
    axis.plot(*np.moveaxis(lines_px.transpose(1, 0, 2), -1, 0), color='#0072B2', linewidth=0.8)
    axis.add_patch(plt.Rectangle((0, 0), 1280, 1024, fill=False, color='#D55E00'))
    axis.set(aspect='equal', title=title, xlim=(-450, 1700), ylim=(1300, -300), xticks=[], yticks=[])
plt.show()

# %%
near_axis = fisheye_project(quest_lens, np.array([[1e-4, 2e-4, 1.0]]))
assert np.allclose(near_axis, [[638.4 + 504.6e-4, 509.4 + 2 * 504.6e-4]],
                   atol=1e-6)      # on the axis every lens is a pinhole
assert np.abs(bent_px - (640, 512)).max() < np.abs(straight_px - (640, 512)).max()
aria_lens = np.concatenate([quest_lens[:1], quest_lens[2:4],
                            quest_lens[4:15]])           # 15 with one focal: lengths must not matter
assert np.allclose(fisheye_project(np.append(aria_lens, 0), np.array([[.3, .2, 1.]])),
                   fisheye_project(quest_lens, np.array([[.3, .2, 1.]])))

# %% [markdown]
# ## Meshes give the boxes
#
# HOT3D names objects and their poses but no boxes: these follow from the meshes (`.glb`). Such a file is a JSON header and
# a block of bytes. Vertices are in millimetres here, and each node carries a scale of 0.001 and sometimes a quarter turn,
# which must be applied first. glTF says y is up and z is the front. Skip the scale and a cup is forty metres wide; skip the turn
# and a keyboard stands on its edge. Both give finite numbers and no error, which is why the small mesh below carries both.
#
# We read the two or three fields of the format that are needed and no more: node, mesh, accessor, buffer view. Every offset
# is checked against the length of the file before a byte is taken, so a broken mesh ends in a sentence.

# %%
#| export
MOST_NODES = 1000

def _read_glb(path: Path | str) -> tuple[dict, bytes]:
    "The JSON header and the binary chunk of a GLB file."
    content = read_bytes(path)
    try:
        magic, _, _, size, kind = struct.unpack('<4sIII4s', content[:20])
        header = json.loads(content[20:20 + size])
    except (struct.error, ValueError, RecursionError): magic, kind, header = b'', b'', None
    if magic != b'glTF' or kind != b'JSON' or not isinstance(header, dict):
        raise InputError(f'{path}: not a GLB mesh; download it again')
    return header, content[28 + size:]

def _accessor_points(header: dict, blob: bytes, index: int) -> np.ndarray:
    "Float32 vectors (N, 3) of one accessor."
    accessor = header['accessors'][index]
    view = header['bufferViews'][accessor['bufferView']]
    start, count = view.get('byteOffset', 0) + accessor.get('byteOffset', 0), accessor['count']
    stride = view.get('byteStride', 12)
    raw = np.frombuffer(blob, dtype=np.uint8)[start:start + stride * count]
    rows = np.lib.stride_tricks.as_strided(raw, (count, 12),
                                           (stride, 1)) if len(raw) >= stride * (count - 1) + 12 else None
    if rows is None or min(start, stride - 12, count - 1) < 0:
        raise ValueError('an accessor points outside the file')
    return np.ascontiguousarray(rows).view('<f4').astype(np.float64)



# %%
#| export
def _node_matrix(node: dict) -> np.ndarray:
    "parent←node (4, 4) with scale, from a matrix or from translation, rotation (xyzw) and scale."
    if 'matrix' in node: return numbers(node['matrix'], (16,), 'node matrix').reshape(4, 4).T
    rotation = rotation_from_quaternion(numbers(node.get('rotation', [0, 0, 0, 1]), (4,), 'node rotation'),
                                        'xyzw')
    pose = pose_from(rotation, numbers(node.get('translation', [0, 0, 0]), (3,), 'node translation'))
    return pose @ np.diag([*numbers(node.get('scale', [1, 1, 1]), (3,), 'node scale'), 1.0])


# %%
#| export
def read_mesh_points(path: Path | str) -> np.ndarray:
    "All vertices (N, 3) of a GLB mesh in metres in the object's own axes; InputError if the file is broken."
    header, blob = _read_glb(path)
    try:
        nodes, found = header['nodes'][:MOST_NODES], []
        parents = {child: index for index, node in enumerate(nodes) for child in node.get('children', ())}
        for index, node in enumerate(nodes):
            if 'mesh' not in node: continue
            matrix, parent = _node_matrix(node), parents.get(index)
            for _ in nodes:
                if parent is not None:
                    matrix, parent = _node_matrix(nodes[parent]) @ matrix, parents.get(parent)
            for primitive in header['meshes'][node['mesh']]['primitives']:
                points = _accessor_points(header, blob, primitive['attributes']['POSITION'])
                found.append(transform(matrix, points))
        return numbers(np.concatenate(found), (None, 3), f'{path}, vertices')
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f'{path}: broken mesh ({str(error)[:80]}); download it again') from None


# %% [markdown]
# A small mesh of our own: four vertices in millimetres, a quarter turn, a node scale.

# %%
def write_glb(path: Path, points_mm: np.ndarray) -> Path:
    blob = points_mm.astype('<f4').tobytes()
    header = {'nodes': [{'mesh': 0, 'scale': [0.001] * 3, 'rotation': [0, half, 0, half]}],
              'meshes': [{'primitives': [{'attributes': {'POSITION': 0}}]}],
              'accessors': [{'bufferView': 0, 'count': len(points_mm)}],
              'bufferViews': [{'byteLength': len(blob)}]}
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 4)
    path.write_bytes(struct.pack('<4sIIII', b'glTF', 2, 28 + len(text) + len(blob), len(text),
                                 0x4E4F534A) + text
                     + struct.pack('<II', len(blob), 0x004E4942) + blob)
    return path

corners_mm = np.array([[-30.0, 0, -50], [30, 0, -50], [30, 20, 50], [-30, 20, 50]])
mesh_m = read_mesh_points(write_glb(folder / '12.glb', corners_mm))

# %%
assert np.allclose(np.ptp(mesh_m, axis=0), (0.1, 0.02, 0.06))       # the quarter turn about y swapped x and z

# %% [markdown]
# ## HOT3D
#
# The Quest 3 recordings come with `camera_models.json`. The Aria ones come with an `mps` folder whose calibration *in the
# sample belongs to another recording*: its stamps lie sixteen hours away. A reader that does not compare the clocks uses
# a stranger's lens. Ours refuses such a calibration, keeps the objects, and says so in `meta['skipped']`. Without any
# camera the view sits at the headset's own axes, and `camera_poses_known` is False.
#
# Objects without a mesh get a box of 10 cm **[ours]** and are listed as well. For the up direction see the last section. A short list of names is better than a quiet guess: whoever
# computes a distance to an object whose size was made up should know it.
#
# The two hand tables are not read: hands bend, and our objects are rigid boxes. Masks say which moments of a recording were
# tracked well (`mask_object_pose_available.csv`); a moment outside them stays in the clip, and the object is absent in it.

# %%
#| export
VIRTUAL_SIZE = 1024

def quest_cameras(folder: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    "(stream, lens parameters, device←camera) for each entry of camera_models.json."
    path, found = folder / 'camera_models.json', []
    for index, entry in enumerate(field({'x': read_json(path)}, 'x', str(path), list)):
        where = f'{path}, camera {index}'
        lens = numbers(field(entry, 'projectionParams', where, list), (16,), f'{where}, projectionParams')
        pose = field(entry, 'T_Device_Camera', where, dict)
        turn = numbers(field(pose, 'quaternion_wxyz', where, list), (4,), f'{where}, quaternion_wxyz')
        place = numbers(field(pose, 'translation_xyz', where, list), (3,), f'{where}, translation_xyz')
        found.append((str(field(entry, 'stream_id', where)), lens,
                      pose_from(rotation_from_quaternion(turn, 'wxyz', where), place)))
    return found



# %%
#| export
def foreign_calibration(folder: Path, clock_ns: np.ndarray) -> str | None:
    """A sentence if mps/slam belongs to another recording, judged by its stamps;
    None if there is none or it fits."""
    path = folder / 'mps/slam/closed_loop_trajectory.csv'
    if not path.is_file(): return None
    mps_ns = read_aria_trajectory(path)[0]
    if mps_ns.min() <= clock_ns[-1] and mps_ns.max() >= clock_ns[0]: return None
    return (f'mps/slam: its stamps begin {abs(mps_ns[0] - clock_ns[0]) / 1e9:.0f} s away, so it belongs to '
            'another recording')


# %%
#| export
def _virtual_views(cameras: list, world_from_device: np.ndarray) -> tuple[View, ...]:
    "A pinhole view (1024 × 1024, about 90°) at each camera, without frames."
    views = []
    for name, lens, device_from_camera in cameras:
        focal = float(lens[0])
        if focal <= 0: raise InputError(f'camera {name}: a focal length of {focal} px; correct it')
        views.append(View(name=name, K=intrinsics(focal, focal, VIRTUAL_SIZE / 2, VIRTUAL_SIZE / 2),
                          height=VIRTUAL_SIZE,
                          width=VIRTUAL_SIZE, w2c=invert_pose(world_from_device @ device_from_camera)))
    return tuple(views)

DEVICE_AXES = [('device', np.array([512.0]), np.eye(4))]


# %%
#| export
def object_mask(path: Path, clock_ns: np.ndarray) -> np.ndarray:
    "Which moments (T,) a mask csv marks True in any stream; all if the file is absent."
    if not path.is_file(): return np.ones(len(clock_ns), dtype=bool)
    table = read_table(path, ('timestamp[ns]', 'mask'), texts=('mask',), separator=',', header=True)
    if not set(table['mask']) <= {'True', 'False'}:
        raise InputError(f'{path}, field mask: must be True or False; correct it')
    index, near = nearest_stamp(table['timestamp[ns]'], clock_ns)
    return near & (table['mask'][index] == 'True')


# %%
#| export
def _hot3d_object(id: int, uid: str, name: str, library: Path, poses: np.ndarray, known: np.ndarray,
                 skipped: list) -> SceneObject:
    "One object with the box of its mesh, or of 10 cm where the mesh is missing."
    mesh, centre_m, size_m = library / f'{uid}.glb', np.zeros(3), np.full(3, 0.1)
    if mesh.is_file():
        points_m = read_mesh_points(mesh)
        centre_m, size_m = (points_m.max(0) + points_m.min(0)) / 2, np.ptp(points_m, axis=0)[[2, 0, 1]]
    else: skipped.append(f'object {uid}: no mesh {mesh.name}; its box is assumed to be 10 cm')
    return SceneObject(id=id, label=name.split('_')[0], caption=name.replace('_', ' '), present=known,
                       agent=False,
                       size_m=positive_size(size_m, str(mesh)),
                       world_from_object=centred_pose(poses, centre_m, (0, 0, 1), (0, 1, 0)))


# %%
#| export
def _hot3d_objects(folder: Path, library: Path, clock_ns: np.ndarray,
                  skipped: list) -> tuple[SceneObject, ...]:
    "All objects of dynamic_objects.csv over the clock."
    names = read_json(library / 'instance.json') if (library / 'instance.json').is_file() else {}
    available, found = object_mask(folder / 'masks/mask_object_pose_available.csv', clock_ns), []
    for id, (uid, (stamps, poses)) in enumerate(read_object_poses(folder / 'dynamic_objects.csv').items(), 1):
        if not uid.isdecimal():
            raise InputError(f'{folder / "dynamic_objects.csv"}: object_uid {uid[:30]!r} is not a number; '
                             'correct it')
        entry = names.get(uid, {}) if isinstance(names, dict) else {}
        name = str(entry.get('instance_name', 'object')) if isinstance(entry, dict) else 'object'
        poses, known = poses_at(stamps, poses, clock_ns)
        found.append(_hot3d_object(id, uid, name or 'object', library, poses, known & available, skipped))
    return tuple(found)


# %%
#| export
def read_hot3d(folder: Path | str, library: Path | str | None = None) -> Clip:
    """A HOT3D recording; `library` holds instance.json and the meshes (default: object_library two folders
    up)."""
    folder = Path(folder)
    library = Path(library) if library else folder.resolve().parent.parent / 'object_library'
    headset = read_object_poses(folder / 'headset_trajectory.csv')
    if len(headset) != 1:
        raise InputError(f'{folder / "headset_trajectory.csv"}: expected one headset, found {len(headset)}')
    stamps, poses = next(iter(headset.values()))
    clock_ns = thin_stamps(stamps)
    index, _ = nearest_stamp(stamps, clock_ns)
    quest = (folder / 'camera_models.json').is_file()
    skipped = [sentence for sentence in [foreign_calibration(folder, clock_ns)] if sentence]
    objects = _hot3d_objects(folder, library, clock_ns, skipped)
    return sound_clip(Clip(id=f'hot3d_{folder.name}', objects=objects,
                views=_virtual_views(quest_cameras(folder) if quest else DEVICE_AXES, poses[index]),
                times_s=(clock_ns - clock_ns[0]) / 1e9, up=np.array([0.0, 1, 0] if quest else [0.0, 0, 1]),
                source='hot3d',
                licence='HOT3D licence agreement, non-commercial research',
                meta={'skipped': skipped, 'camera_poses_known': quest, 'virtual_pinhole': True,
                      'first_stamp_ns': int(clock_ns[0])}), folder)


# %%
mask = folder / 'mask.csv'
mask.write_text('timestamp[ns],stream_id,mask\n0,1201-1,True\n33000000,1201-1,False')
assert object_mask(mask, np.array([0, 33_000_000, 90_000_000])).tolist() == [True, False, False]
assert foreign_calibration(folder, device_ns) is None                 # there is none at all


# %% [markdown]
# ## ADT from its csv files
#
# The same functions read ADT's original tables. Where the RGB camera sits on the glasses is written in the `vrs` video
# file, which only Meta's own library opens; who has it passes `device_from_camera`. Without it the view sits at the device's own
# axes, objects keep their true places in the world, and `camera_poses_known` is False, so that no question about the camera or
# about what it sees is asked. `07b_aria` reads the rectified frames of the same sequence, with pictures and depth.

# %%
#| export
def _read_extents(path: Path) -> dict[str, np.ndarray]:
    "uid → (xmin, xmax, ymin, ymax, zmin, zmax) in metres of 3d_bounding_box.csv."
    names = tuple(f'p_local_obj_{axis}{end}[m]' for axis in 'xyz' for end in ('min', 'max'))
    table = read_table(path, ('object_uid', *names), texts=('object_uid',), separator=',', header=True)
    return dict(zip(map(str, table['object_uid']), np.stack([table[name] for name in names], -1)))


# %%
#| export
def read_adt(folder: Path | str, device_from_camera: np.ndarray | None = None) -> Clip:
    """An original ADT sequence (csv and json, no pixels); the view is a virtual 512 × 512 pinhole with f =
    280 px."""
    folder, skipped, objects = Path(folder), [], []
    stamps, poses = read_aria_trajectory(folder / 'aria_trajectory.csv')
    clock_ns = thin_stamps(stamps)
    world_from_device = poses[nearest_stamp(stamps, clock_ns)[0]]
    extents_m, instances = _read_extents(folder / '3d_bounding_box.csv'), read_json(folder / 'instances.json')
    for id, (uid, (stamps, poses)) in enumerate(read_object_poses(folder / 'scene_objects.csv').items(), 1):
        entry = instances.get(uid) if isinstance(instances, dict) else None
        if uid not in extents_m or not isinstance(entry, dict):
            skipped.append(f'object {uid}: no box or no entry in instances.json')
            continue
        where = f'{folder / "instances.json"}, object {uid}'
        name, category = field(entry, 'instance_name', where, str), field(entry, 'category', where, str)
        objects.append(adt_object(id, name, category, extents_m[uid], *poses_at(stamps, poses, clock_ns),
                                  where))
    mount = np.eye(4) if device_from_camera is None else device_from_camera
    view = View(name='rgb', K=intrinsics(280.0, 280.0, 256.0, 256.0),
                w2c=invert_pose(world_from_device @ mount), height=512, width=512)
    return sound_clip(Clip(id=f'adt_{folder.name}', views=(view,), objects=tuple(objects),
                times_s=(clock_ns - clock_ns[0]) / 1e9,
                up=np.array([0.0, 1, 0]), source='adt',
                licence='Aria Digital Twin licence agreement, non-commercial research',
                meta={'skipped': skipped, 'camera_poses_known': device_from_camera is not None,
                      'first_stamp_ns': int(clock_ns[0])}), folder)


# %% [markdown]
# A HOT3D folder of our own making: one phone-sized box on a table, a headset above it whose camera looks down. The second object has no
# mesh on purpose. It must come out as a box of ten centimetres and be listed as such.

# %%
def write_small_hot3d(root: Path) -> Path:
    recording, library = root / 'Quest3/P0', root / 'object_library'
    for place in (recording, library): place.mkdir(parents=True)
    write_glb(library / '12.glb', corners_mm)
    (library / 'instance.json').write_text(json.dumps({'12': {'instance_name': 'cellphone'},
                                                       '13': {'instance_name': 'mug_white'}}))
    head = 'object_uid,timestamp[ns],' + ','.join(POSITION) + ',' + ','.join(TURN_WXYZ) + '\n'
    stamps = [10 ** 12 + t * 33_333_333 for t in range(5)]
    (recording / 'headset_trajectory.csv').write_text(head + ''.join(f'9,{t},0,0.6,0.001,{half},{half},0,0\n'
                                                                     for t in stamps))
    (recording / 'dynamic_objects.csv').write_text(head + ''.join(
        f'12,{t},{0.02 * i},0,0,1,0,0,0\n13,{t},-0.2,0.05,0,1,0,0,0\n' for i, t in enumerate(stamps)))
    mount = {'quaternion_wxyz': [1, 0, 0, 0], 'translation_xyz': [0, 0, 0]}
    camera = {'projectionParams': quest_lens.tolist(), 'T_Device_Camera': mount, 'stream_id': '1201-1'}
    (recording / 'camera_models.json').write_text(json.dumps([camera]))
    return recording

small = read_hot3d(write_small_hot3d(Path(tempfile.mkdtemp())))
clip = read_hot3d(Path(data) / 'hot3d_sample/Quest3/P0002_273c2819') if data else small
print(clip)
for sentence in clip.meta['skipped']: print('-', sentence)

# %%
assert ([thing.caption for thing in small.objects] == ['cellphone', 'mug white']
        and len(small.meta['skipped']) == 1)
assert np.allclose(small.objects[0].size_m, (0.06, 0.1, 0.02)) and np.allclose(small.objects[0].centers_m[4],
                                                                               (0.08, 0.01, 0))

# %% [markdown]
# Through the virtual pinhole one sees the table as the left camera would without its lens. There is no picture, so the
# boxes are all there is to see; the mouse is the one that moved. Solid lines are the first moment, dotted ones the last; the legend names the things by
# colour, because on a crowded table labels would lie on each other.

# %%
EDGES = [(i, j) for i in range(8) for j in range(i) if bin(i ^ j).count('1') == 1]
view = clip.view
figure, axis = plt.subplots(figsize=(6.2, 4.2), dpi=85)
for thing, color in zip(clip.objects, plt.cm.tab10.colors):
    for t, style in ((clip.frames_count - 1, ':'), (0, '-')):
        uv_px, depth_m = project(view.K, view.w2c[t],
                                 transform(thing.world_from_object[t], thing.corners_object_m))
        for first, last in EDGES: axis.plot(*uv_px[[first, last]].T, style, color=color, linewidth=1)
    axis.plot([], [], color=color, label=thing.caption)
axis.set(xlim=(0, 1024), ylim=(1100, 150), aspect='equal', title='first moment solid, last dotted',
         xlabel='u (px)', ylabel='v (px)')
axis.legend(loc='center left', bbox_to_anchor=(1.02, 0.5), fontsize=7, frameon=False)
figure.text(0.01, -0.04, CREDIT if data else 'synthetic', fontsize=6); plt.show()

# %%
centres_px, depth_m = project(view.K, view.w2c[0], np.stack([thing.centers_m[0] for thing in clip.objects]))
assert (depth_m > 0.2).all() and np.isfinite(centres_px).all()

# %% [markdown]
# ## Which way is up?
#
# The documents do not say. The objects do: a keyboard, a phone and a mug on a table stand with their own up axis along
# or against gravity. If the assumed up is right, its direction in object axes is (0, 0, ±1) for them. It is, with +y for
# Quest 3 and +z for Aria. The puzzle toy lies on its side and the coffee pot is held in the hand.
#
# This is the kind of check that needs no ground truth. Nobody tells us which axis is up, but the world is full of things that
# stand. The same idea finds wrong units (a mug of eight metres), a wrong pose direction (a table that follows the head) and
# swapped axes (a keyboard on its edge). Each takes two lines and has caught a real mistake in a reader.

# %%
clips = {'Quest 3': clip}
if data: clips['Aria'] = read_hot3d(Path(data) / 'hot3d_sample/Aria/P0003_c701bd11')
figure, axis = plt.subplots(figsize=(6, 2.4), dpi=85)
for offset, (name, one) in enumerate(clips.items()):
    upright = [abs(one.up @ thing.world_from_object[0, :3, 2]) for thing in one.objects]
    axis.bar(np.arange(len(upright)) + 0.4 * offset, upright, width=0.38, label=name)
axis.set(xticks=np.arange(len(clip.objects)) + 0.2, ylabel='|up · object z|',
         title='1 = stands upright or upside down')
axis.set_xticklabels([thing.caption for thing in clip.objects],
                     fontsize=7); axis.legend(fontsize=7, loc='lower right'); plt.show()

# %%
for one in clips.values():
    assert all(abs(one.up @ thing.world_from_object[0, :3, 2]) > 0.98 for thing in one.objects
               if thing.caption in ('cellphone', 'keyboard', 'mug white'))

# %% [markdown]
# ## What we proved
#
# * Microseconds and nanoseconds, xyzw and wxyz meet in one pose.
# * A calibration from another recording is recognised by its clock and refused.
# * The up direction of HOT3D, which nobody states, follows from what stands on the table.
#
# ## Try it
#
# 1. Compare the virtual pinhole with `fisheye_project` for the mouse. How many pixels does the lens move it?
# 2. Remove a mesh from the library and read `meta['skipped']`.
# 3. Pass the identity as `device_from_camera` to `read_adt`. Which objects would wrongly be behind the camera?
#
# <details><summary>Solutions</summary>
#
# 1. Project the mouse's centre both ways and take the distance in pixels; it grows towards the rim, where a fisheye
#    compresses.
# 2. The object's name with the reason. A clip without one object is better than none, but it must say so.
# 3. All objects on the other side of the camera's plane: list those with negative depth in every frame in which their
#    mask has pixels.
#
# </details>
