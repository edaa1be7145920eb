# %% [markdown]
# # Raw files
# > From a stranger's text, JSON and PNG files to checked arrays in our axes.

# %%
#| default_exp raw

# %% [markdown]
# #| export
# Object axes: x forward, y left, z up, origin at the centre of the box, size (length, width, height). A
# quaternion's order is always said aloud, 'wxyz' or 'xyzw'; a depth unit too. What is not finite, not rigid
# or too large to be true raises InputError with file, line and field.

# %% [markdown]
# * **What** the small functions that every data-set reader needs: tables, JSON numbers, pictures, rotations, boxes
# * **Why** eleven data sets have eleven dialects, and one wrong axis makes thousands of silently wrong questions
# * **Paper** none; 4DP-QA, LMM-Track4D and MLLM-4D only list their sources. The checks are **[ours]**
# * **Needs** numpy, pillow
# * **Time** 10 seconds
# * **Before this** `01_cameras`, `02_clips`

# %%
#| export
import io
import math
import struct
from pathlib import Path

import numpy as np
from PIL import Image

# %%
#| export
from track4d_ref.storage import InputError, brief, ordinary_file, read_bytes
from track4d_ref.cameras import invert_pose, pose_from
from track4d_ref.clips import Clip, check_clip

# %%
import dataclasses
import json
import tempfile
import matplotlib.pyplot as plt

from track4d_ref.cameras import (intrinsics, look_at, pixel_centers, project, rotation_about, transform,
                                 unproject)
from track4d_ref.clips import View

# %% [markdown]
# ## Tables that say where they are wrong
#
# Most data sets ship text tables: KITTI with spaces, Aria with commas and a header. `numpy.loadtxt` reads them, but when
# one cell is broken its message names no field, and `nan` passes without a word. A label with a NaN then becomes a box
# nowhere, and a question about it. So we read cells ourselves and refuse the first wrong one by name.
#
# Two limits keep a hostile file from eating the machine: a text larger than 512 MB and a frame number above 100,000 are
# refused. (The longest real sequence in our list has some thousands.)
#
# What should an error say? A person who meets it wants to know which file, where in it, and what to do. So all of them have one
# form: path, place, what is wrong, a verb. The table below shows five kinds of damage and the sentence each of them causes.
# A reader that skips what it cannot parse is worse than one that stops: the gap looks like an empty street.

# %%
#| export
MAX_TEXT_BYTES = 512 * 1024 * 1024
MAX_FRAMES = 100_000
MAX_PIXELS = 64_000_000
MAX_DISTANCE_M = 1e7


# %%
#| export
def read_lines(path: Path | str) -> list[str]:
    "The lines of a UTF-8 text file; InputError if it is missing, empty, too large or not text."
    try: lines = read_bytes(path, MAX_TEXT_BYTES).decode('utf-8-sig').splitlines()
    except UnicodeDecodeError:
        raise InputError(f'{path}: not a UTF-8 text file; download it again') from None
    if not any(line.strip() for line in lines):
        raise InputError(f'{path}: the file is empty; download it again')
    return lines


# %%
#| export
def number(text: str, where: str) -> float:
    "One finite number; InputError naming `where` otherwise."
    try: value = float(text) if text.isascii() and '_' not in text else math.nan
    except ValueError: value = math.nan
    if not math.isfinite(value):
        raise InputError(f'{where}: {str(text)[:40]!r} is not a finite number; correct it')
    return value


# %% [markdown]
# A table comes back as one array per column. Columns of words (a type, True or False) are named in `texts`. With a header
# row the columns may stand in any order, as in every csv of Aria; without one the count must match exactly. Numbers are parsed
# by the same rules everywhere: `1e3` is a number, `1_000` (which Python would take) and `0x10` are not, and neither is an empty
# cell. Line ends of Windows, a byte order mark and blank lines at the end do no harm.

# %%
#| export
def split_line(line: str, separator: str | None) -> list[str]:
    "The cells of one line; `separator` None means any run of blanks."
    return line.split() if separator is None else [cell.strip() for cell in line.split(separator)]

def table_header(path: Path, line: str, names: tuple[str, ...],
                 separator: str | None) -> tuple[list[int], int]:
    "Where each wanted column stands, and how many there are."
    header = split_line(line, separator)
    missing = [name for name in names if name not in header]
    if missing: raise InputError(f'{path}, line 1: no column {missing[0]!r}; the header must name it')
    return [header.index(name) for name in names], len(header)


# %%
#| export
def read_table(path: Path | str, names: tuple[str, ...], texts: tuple[str, ...] = (),
               separator: str | None = None,
               header: bool = False) -> dict[str, np.ndarray]:
    """Columns `names` as float64 arrays (N,), `texts` as words; '#' lines are comments;
    InputError names line and field."""
    path, lines = Path(path), read_lines(path)
    columns, width = table_header(path, lines[0], names, separator) if header else (range(len(names)),
                                                                                    len(names))
    rows = []
    for index, line in enumerate(lines[header:], 1 + header):
        cells = split_line(line, separator)
        if not line.strip() or line.lstrip().startswith('#'): continue
        if len(cells) != width:
            raise InputError(f'{path}, line {index}: {len(cells)} columns instead of {width}; complete or '
                             'remove the line')
        rows.append([cells[column] if name in texts
                     else number(cells[column], f'{path}, line {index}, field {name!r}')
                     for name, column in zip(names, columns)])
    if not rows: raise InputError(f'{path}: no rows; the file must hold at least one')
    return {name: np.array(column) for name, column in zip(names, zip(*rows))}


# %%
#| export
def whole_numbers(values: np.ndarray, where: str, low: int = 0, high: int = MAX_FRAMES) -> np.ndarray:
    "Float values (N,) as int64; InputError if one is not whole or lies outside [low, high]."
    values = np.asarray(values, dtype=np.float64)
    bad = (values != np.round(values)) | (values < low) | (values > high)
    if bad.any():
        raise InputError(f'{where}: {values[bad][0]:g} is not a whole number from {low} to {high}; correct '
                         'it')
    return values.astype(np.int64)

def nearest_index(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    "For each wanted number (W,) the place of the nearest of `values` (N,), which may be in any order."
    order = np.argsort(values, kind='stable')
    right = np.searchsorted(values[order], wanted).clip(0, len(values) - 1)
    left = (right - 1).clip(0)
    nearer_left = wanted - values[order[left]] <= values[order[right]] - wanted
    return order[np.where(nearer_left, left, right)]


# %%
hostile = {
    'good': 'frame x type\n0 1.5 Car\n1 2.5 Van\n',
    'NaN': 'frame x type\n0 nan Car\n',
    'word for a number': 'frame x type\n0 1.5 Car\n1 left Van\n',
    'cut off': 'frame x type\n0 1.5 Car\n1 2.5\n',
    'other header': 'frame y type\n0 1.5 Car\n',
    'empty': '',
}
verdicts, wanted = {}, ('frame', 'x', 'type')
for name, text in hostile.items():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'labels.txt'
        path.write_text(text)
        try:
            verdicts[name] = f"{len(read_table(path, wanted, texts=('type',), header=True)['x'])} rows"
        except InputError as error: verdicts[name] = str(error).split('/')[-1]

# %%
figure, axis = plt.subplots(figsize=(8.2, 2.1), dpi=90)
axis.axis('off')
table = axis.table([[name, told] for name, told in verdicts.items()], loc='center', cellLoc='left',
                   colWidths=[0.2, 0.8],
                   colLabels=['file', 'what the reader says'])
for row, told in enumerate(verdicts.values()):
    table[row + 1, 1].set_facecolor('#CDE7F5' if told.endswith('rows') else '#F8D9C8')
table.auto_set_font_size(False); table.set_fontsize(8)
plt.show()

# %%
assert verdicts['good'] == '2 rows'
assert 'line 2, field \'x\'' in verdicts['NaN'] and 'line 3: 2 columns instead of 3' in verdicts['cut off']
assert 'no column \'x\'' in verdicts['other header'] and 'empty' in verdicts['empty']


# %% [markdown]
# ## Numbers inside JSON and npz
#
# JSON nests: a list of lists of numbers, if the writer was careful. `numbers` turns such a value into an array of the
# shape we expect, where `None` stands for any length, and refuses ragged lists, words, NaN and infinities. The six attempts below are the shapes
# in which such a field has arrived in practice. Only the first is what it should be; each of the other five would have
# failed much later, in a matrix product, with a message about broadcasting.

# %%
#| export
def numbers(value, shape: tuple[int | None, ...], where: str) -> np.ndarray:
    "A finite float64 array of `shape` (None = any length); InputError naming `where` otherwise."
    wanted = '×'.join('N' if size is None else str(size) for size in shape) or 'one'
    try: array = np.asarray(value)
    except (ValueError, TypeError, OverflowError): array = np.array('ragged')
    if array.dtype.kind not in 'iuf' or array.ndim != len(shape) or any(
            want is not None and size != want for size, want in zip(array.shape, shape)):
        raise InputError(f'{where}: expected {wanted} numbers; correct it')
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f'{where}: holds a value that is not finite; correct it')
    return array


# %%
#| export
def field(record, key: str, where: str, kind: type | tuple = object):
    "record[key], checked to exist and to be of `kind`."
    if not isinstance(record, dict):
        raise InputError(f'{where}: expected an object with named fields; correct it')
    if key not in record: raise InputError(f'{where}: the field {key!r} is missing; add it')
    if not isinstance(record[key], kind):
        raise InputError(f'{where}, field {key!r}: has the wrong type {type(record[key]).__name__}; correct '
                         'it')
    return record[key]


# %%
#| export
def array_of(arrays: dict, key: str, shape: tuple[int | None, ...], where: str) -> np.ndarray:
    "A named array of an npz as finite float64 of `shape`."
    if key not in arrays: raise InputError(f'{where}: no array {key!r}; the file must hold it')
    return numbers(arrays[key], shape, f'{where}, array {key!r}')


# %%
def told(function, *arguments) -> str:
    try: return str(function(*arguments).tolist())
    except InputError as error: return str(error)

attempts = [[[1, 2, 3]], [[1, 2]], [[1, 2, 3], [4]], [['1', '2', '3']], [[1, 2, math.inf]], {'x': 1}]
answers = [told(numbers, attempt, (None, 3), 'a.json, K') for attempt in attempts]
for attempt, answer in zip(attempts, answers): print(f'{attempt!s:22} {answer}')

# %%
assert answers[0] == '[[1.0, 2.0, 3.0]]' and all(answer.startswith('a.json, K: ') for answer in answers[1:])


# %% [markdown]
# ## The last gate
#
# Every reader hands its clip through `sound_clip` before anybody sees it. That is where a duplicated identity, a mask that
# names nobody or a time that runs backwards is stopped, with the path in front. It also refuses places ten thousand
# kilometres away: such a number is finite and a fine float, and it is still a shifted column or a wrong unit. It is a last gate and not the
# only one: a reader knows the line and the field, `sound_clip` only the clip. But readers are written by many hands, and this
# check is written once.

# %%
#| export
def sound_clip(clip: Clip, path: Path | str) -> Clip:
    "The clip itself if later code can rely on it; InputError naming `path` otherwise."
    try: check_clip(clip)
    except InputError as error: raise InputError(f'{path}: {error}') from None
    places_m = [view.w2c[:, :3, 3] for view in clip.views] + [item.centers_m for item in clip.objects]
    if max(np.abs(place_m).max() for place_m in places_m) >= MAX_DISTANCE_M:
        raise InputError(f'{path}: a place lies {MAX_DISTANCE_M:g} m away or farther; check unit and columns')
    return clip


# %%
still = np.repeat(np.eye(4)[None], 2, 0)
view = View('camera', intrinsics(50.0, 50.0, 30.0, 20.0), still, 40, 60)
one = Clip('two moments', (view,), (), np.array([0.0, 0.1]), np.array([0.0, 0, 1]), 'own', 'free')
far = still.copy()
far[:, 0, 3] = 1e9
lost = dataclasses.replace(one, views=(dataclasses.replace(view, w2c=far),))

# %%
assert sound_clip(one, 'a.npz') is one and 'farther' in told(sound_clip, lost, 'a.npz')
assert told(sound_clip, dataclasses.replace(one, times_s=np.zeros(2)), 'b.npz').startswith('b.npz: clip two')


# %% [markdown]
# ## Rotations in every dialect
#
# A unit quaternion is four numbers, and half of the world writes the scalar first. Aria's trajectory and TUM write
# `x y z w`, Aria's objects, HOT3D and Kubric write `w x y z`. Both orders give *a* rotation, so nothing crashes. The
# functions here have no default order.
#
# Matrices in files are rounded. Estimated ones, like those of 7-Scenes, are off by some thousandths. `check_rigid` replaces
# each by the nearest rotation (the polar factor, from the singular value decomposition) and refuses anything worse.
#
# The two pictures show one quaternion read in both orders. The first is the turn that was meant, 34° about the vertical.
# The second is a half turn about an axis that has nothing to do with it. With a headset that moves little all poses would be
# wrong in the same way, and a video of the axes would still look smooth.

# %%
#| export
def rotation_from_quaternion(quaternion, order: str, where: str = 'quaternion') -> np.ndarray:
    """Rotations (..., 3, 3) from quaternions (..., 4) in the stated order 'wxyz' or 'xyzw';
    InputError if not of unit length."""
    quaternion = np.asarray(quaternion, dtype=np.float64)
    length = np.linalg.norm(np.clip(quaternion, -2, 2), axis=-1, keepdims=True)
    if not (np.abs(length - 1) < 1e-2).all():
        raise InputError(f'{where}: a quaternion must have length 1; check the columns and their order')
    w, x, y, z = np.moveaxis(quaternion / length, -1, 0)[{'wxyz': [0, 1, 2, 3], 'xyzw': [3, 0, 1, 2]}[order]]
    rows = [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


# %%
#| export
def turns_about(axis: int, angles_rad: np.ndarray) -> np.ndarray:
    "Rotations (N, 3, 3) about coordinate axis 0, 1 or 2 by angles (N,)."
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turns = np.broadcast_to(np.eye(3), (len(angles_rad), 3, 3)).copy()
    turns[:, first, first] = turns[:, second, second] = np.cos(angles_rad)
    turns[:, second, first] = np.sin(angles_rad)
    turns[:, first, second] = -np.sin(angles_rad)
    return turns


# %%
#| export
def check_rigid(poses: np.ndarray, where: str) -> np.ndarray:
    """The poses (..., 4, 4) with rounding removed from their rotations;
    InputError if they are not rigid and right-handed."""
    rotation = poses[..., :3, :3]
    if not (np.abs(poses) < MAX_DISTANCE_M).all():
        raise InputError(f'{where}: a place lies {MAX_DISTANCE_M:g} m away or farther; check the unit and '
                         'the columns')
    skew = np.abs(rotation @ rotation.mT - np.eye(3)).max(initial=0)
    if (not skew < 1e-2 or (np.linalg.det(rotation) < 0).any()
        or np.abs(poses[..., 3, :] - [0, 0, 0, 1]).max(initial=0) > 1e-6):
        raise InputError(f'{where}: not a rigid right-handed pose; check the order of its numbers')
    left, _, right = np.linalg.svd(rotation)
    return pose_from(left @ right, poses[..., :3, 3])


# %%
angle = 0.6
written_xyzw = np.array([0, 0, math.sin(angle / 2), math.cos(angle / 2)])
right, wrong = (rotation_from_quaternion(written_xyzw, order) for order in ('xyzw', 'wxyz'))

# %%
figure = plt.figure(figsize=(6.4, 2.8), dpi=90)
for column, (rotation, title) in enumerate(((right, 'read as x y z w: 34° about z'),
                                            (wrong, 'read as w x y z: a half turn'))):
    axis = figure.add_subplot(1, 2, column + 1, projection='3d')
    for step, color, name in zip(rotation.T, ('#D55E00', '#009E73', '#0072B2'), 'xyz'):
        axis.plot(*np.stack([np.zeros(3), step]).T, color=color,
                  linewidth=2.5); axis.text(*(1.15 * step), name, color=color)
    axis.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1), xticks=[], yticks=[],
             zticks=[]); axis.set_title(title, fontsize=9)
    axis.set_box_aspect((1, 1, 1))
plt.show()

# %%
assert np.allclose(right, rotation_about((0, 0, 1), angle)) and not np.allclose(right, wrong, atol=0.5)
for axis, vector in enumerate(np.eye(3)):
    assert np.allclose(turns_about(axis, np.array([angle]))[0], rotation_about(vector, angle))
assert 'right-handed' in told(check_rigid, np.diag([1.0, -1, 1, 1]), 'a left-handed pose')
assert np.allclose(check_rigid(pose_from(right.round(3), np.ones(3)), 'rounded')[:3, :3].T @ right, np.eye(3),
                   atol=1e-3)


# %% [markdown]
# ## Pictures and depth maps
#
# Depth comes as whole numbers in a PNG: millimetres (ADT, 7-Scenes), centimetres (Virtual KITTI 2), fifths of a
# millimetre (TUM). It also comes in two meanings. *Planar* depth is the distance to the image plane, *ray length* the
# distance to the camera's centre; they agree on the optical axis and differ by $\sqrt{1+x^2+y^2}$ elsewhere, with $(x,y)$
# the normalised coordinates. Kubric stores ray length. `planar_from_ray` converts. Zero means "not measured" almost everywhere and stays zero here;
# the largest number may mean "sky" and becomes infinity, which is a different statement.

# %%
#| export
def open_picture(path: Path | str | io.BytesIO, name: str = '') -> Image.Image:
    """A decoded picture of sane size from a file, or from bytes called `name`;
    InputError if it is missing or broken."""
    path, source = name or str(path), path
    if not name: ordinary_file(path)
    try:
        with Image.open(source) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(f'{path}: {picture.width}×{picture.height} pixels are too many; make it '
                                 'smaller')
            picture.load()
            return picture
    except InputError: raise
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, struct.error, KeyError,
            TypeError, IndexError, AttributeError, RuntimeError, MemoryError) as error:
        raise InputError(f'{path}: not a readable picture ({brief(error)}); download it again') from None


# %%
#| export
def read_picture(path: Path | str, size: tuple[int, int] | None = None) -> np.ndarray:
    "A picture as uint8 (H, W, 3); InputError if it is broken or not of `size` (height, width)."
    picture = np.asarray(open_picture(path).convert('RGB'))
    if size is not None and picture.shape[:2] != tuple(size):
        raise InputError(f'{path}: {picture.shape[1]}×{picture.shape[0]} pixels instead of '
                         f'{size[1]}×{size[0]}; '
                         'all frames of a view must have one size')
    return picture


# %%
#| export
def read_map(path: Path | str, size: tuple[int, int] | None = None) -> np.ndarray:
    "A one-channel picture (H, W) with the numbers as stored: depth, palette indices or identities."
    values = np.asarray(open_picture(path))
    if values.ndim != 2:
        raise InputError(f'{path}: expected one channel, found {values.shape}; is it a colour picture?')
    if size is not None and values.shape != tuple(size):
        raise InputError(f'{path}: {values.shape[1]}×{values.shape[0]} pixels instead of {size[1]}×{size[0]}')
    return values


# %%
#| export
def metric_depth(stored: np.ndarray, unit_m: float, far: int | None = None,
                 invalid: int | None = None) -> np.ndarray:
    """Float32 metres from whole numbers in units of `unit_m`;
    the value `far` becomes infinity (sky), `invalid` and 0 become 0."""
    depth_m = (stored * np.float64(unit_m)).astype(np.float32)
    if far is not None: depth_m[stored >= far] = np.inf
    if invalid is not None: depth_m[stored == invalid] = 0
    return depth_m

def thumbnail(frame: np.ndarray, width: int = 460, colors: int = 48) -> np.ndarray:
    "A small picture (h, w, 3) of few colours, for figures that quote a licensed data set."
    small = Image.fromarray(frame).resize((width, max(1, round(width * frame.shape[0] / frame.shape[1]))))
    return np.asarray(small.quantize(colors, dither=Image.Dither.NONE).convert('RGB'))


# %%
#| export
def planar_from_ray(ray_m: np.ndarray, K: np.ndarray) -> np.ndarray:
    "Planar depth (..., H, W) from distances to the camera centre: z = r / √(1 + x² + y²)."
    height, width = ray_m.shape[-2:]
    x = (np.arange(width) + 0.5 - K[0, 2]) / K[0, 0]
    y = (np.arange(height) + 0.5 - K[1, 2]) / K[1, 1]
    return ray_m / np.sqrt(1 + x[None, :] ** 2 + y[:, None] ** 2)


# %% [markdown]
# A wall four metres in front of the camera shows the difference. As planar depth it is flat. Its ray length grows towards
# the corners, and whoever takes that for depth builds a bowl.

# %%
K = intrinsics(fx=60.0, fy=55.0, cx=45.0, cy=37.0)
uv_px = pixel_centers(70, 100)
wall_m = unproject(K, np.eye(4), uv_px.reshape(-1, 2), np.full(7000, 4.0))
ray_m = np.linalg.norm(wall_m, axis=-1).reshape(70, 100)

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 2.4), dpi=90)
for axis, values, title in zip(axes, (ray_m, planar_from_ray(ray_m, K)),
                               ('ray length of a flat wall', 'planar depth of the same wall')):
    shown = axis.imshow(values, vmin=4, vmax=6,
                        cmap='viridis'); axis.set_title(title, fontsize=9); axis.axis('off')
figure.colorbar(shown, ax=axes, label='metres', shrink=0.8); plt.show()

# %%
assert np.allclose(planar_from_ray(ray_m, K), 4.0) and ray_m.max() > 5
assert metric_depth(np.array([[0, 275, 65535]], np.uint16), 0.01,
                    far=65535).tolist() == [[0.0, 2.75, math.inf]]


# %% [markdown]
# ## Boxes with a front
#
# Our objects have x forward, y left and z up, with the origin at the centre of the box. Data sets differ in the centre
# (KITTI: the middle of the *bottom* face) and in the axes (ADT: z is the front and y is up). `object_pose` takes the
# front and the up direction written in the source's own axes, and the centre; the left follows, because axes are
# right-handed. The picture below draws a box that was given
# in KITTI's way, its centre on the ground and its front along x of the camera; orange marks the face that ours calls front.

# %%
#| export
def object_axes(front, up) -> np.ndarray:
    """Rotation source←object (3, 3): columns are our x (front), y (left = up × front) and z (up) in the
    source's axes."""
    front, up = np.asarray(front, dtype=np.float64), np.asarray(up, dtype=np.float64)
    return np.stack([front, np.cross(up, front), up], -1)

def centred_pose(source_pose: np.ndarray, centre_m, front, up) -> np.ndarray:
    """world←object (..., 4, 4) from a source's world←object, whose box centre, front and up lie in the
    source's own axes."""
    return source_pose @ pose_from(object_axes(front, up), np.asarray(centre_m, dtype=np.float64))


# %%
#| export
def positive_size(size_m: np.ndarray, where: str) -> np.ndarray:
    "The sizes themselves if all lie between 0 and 1 km; InputError otherwise."
    if not ((size_m > 0) & (size_m < 1000)).all():
        raise InputError(f'{where}: a size must lie between 0 and 1000 m; check the columns and their order')
    return size_m


# %%
#| export
def gravity_frame(w2c: np.ndarray, up: np.ndarray) -> np.ndarray:
    """new world←world (4, 4): origin at the camera, z up, x along its horizontal view direction (or its
    top, looking down)."""
    c2w = invert_pose(w2c)
    forward = c2w[:3, 2] if abs(c2w[:3, 2] @ up) < 0.99 else -c2w[:3, 1]
    forward = forward - (forward @ up) * up
    rotation = object_axes(forward / np.linalg.norm(forward), up).T
    return pose_from(rotation, -rotation @ c2w[:3, 3])


# %%
size_m = (4.2, 1.8, 1.5)
kitti_like = pose_from(turns_about(1, np.array([0.5]))[0],
                       np.array([1.0, 1.6, 9.0]))     # camera axes, y down, bottom centre
pose = centred_pose(kitti_like, centre_m=(0, -0.75, 0), front=(1, 0, 0), up=(0, -1, 0))
corners_m = np.array([[x, y, z] for x in (0.5, -0.5) for y in (0.5, -0.5) for z in (0.5, -0.5)]) * size_m
corners_px, _ = project(intrinsics(300.0, 290.0, 170.0, 90.0), np.eye(4), transform(pose, corners_m))

# %%
EDGES = [(0, 1), (1, 3), (3, 2), (2, 0), (4, 5), (5, 7), (7, 6), (6, 4), (0, 4), (1, 5), (2, 6), (3, 7)]
figure, axis = plt.subplots(figsize=(5, 2.6), dpi=90)
for start, stop in EDGES:
    front = start < 4 and stop < 4
    axis.plot(*corners_px[[start, stop]].T, color='#D55E00' if front else '#0072B2',
              linewidth=2.5 if front else 1.2)
axis.set(xlim=(90, 330), ylim=(180, 70), aspect='equal', xlabel='u (px)', ylabel='v (px)',
         title='a car box in our axes; the front is orange')
plt.show()

# %%
# the centre is half a height above the bottom
assert np.allclose(pose[:3, 3], (1.0, 0.85, 9.0))
assert np.allclose(pose[:3, 2], (0, -1, 0)) and np.isclose(np.linalg.det(pose[:3, :3]), 1)
assert np.allclose(pose[:3, 0], (math.cos(0.5), 0,
                                 -math.sin(0.5)))     # KITTI's ry turns the front towards -z
tilted = look_at((2, 1, 5), (6, 4, 4), (0, 0, 1), roll_rad=0.3)
upright = gravity_frame(tilted, np.array([0.0, 0, 1]))
assert np.allclose(transform(upright, np.array([[2.0, 1, 5]])),
                   0) and transform(upright, np.array([[6.0, 4, 4]]))[0, 0] > 4.9

# %% [markdown]
# ## What we proved
#
# * A broken cell, a wrong header and a truncated row are named with file, line and field.
# * Quaternion order, depth unit and depth meaning are spoken in the call; wrong ones give visibly different worlds.
# * A box in any source's axes becomes a box with a front, a left and an up.
#
# ## Try it
#
# 1. Feed `read_table` a file with Windows line ends. Does it care?
# 2. By how many centimetres does the wall's corner move if ray length is taken for planar depth?
# 3. Write ADT's canonical front (0, 0, 1) and up (0, 1, 0) into `object_axes` and say which source axis is our left.
#
# <details><summary>Solutions</summary>
#
# 1. No: `splitlines` takes both. A file with bare carriage returns works as well; one without a last newline too.
# 2. At the corner of a picture the ray is $\sqrt{1 + x^2 + y^2}$ times as long as the depth, with $x, y$ in units of
#    the focal length; multiply the difference by the wall's depth.
# 3. Left is up × front: (0, 1, 0) × (0, 0, 1) = (1, 0, 0), the source's x axis.
#
# </details>
