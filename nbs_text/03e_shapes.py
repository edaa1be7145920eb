# %% [markdown]
# # Shapes
# > Balls, boxes, cones, cars and people: named things built from solids, with an unmistakable front where there is one.

# %%
#| default_exp shapes

# %% [markdown]
# #| export
# A `Part` lives in its object's axes (x front, y left, z up) in units of the object's half size, so the whole object fills
# [-1, 1]³; colours are linear RGB.

# %% [markdown]
# * **What** the vocabulary of the world: twelve labels, ten colour names
# * **Why** questions name things ("red ball"); agents need a front, or "moves forward" has no meaning
# * **Paper** none; shapes and colours are **[ours]**
# * **Needs** numpy
# * **Time** 10 seconds
# * **Before this** `03a_solids`

# %%
#| export
from dataclasses import dataclass

import numpy as np

from track4d_ref.solids import BOX, ELLIPSOID, FRUSTUM

# %%
import matplotlib.pyplot as plt
import torch
from track4d_ref.cameras import intrinsics, look_at, pose_from, rotation_about
from track4d_ref.raycasting import render
from track4d_ref.stages import Room, Solids, Stage

# %%
torch.set_num_threads(1)                     # small pictures: threads would wait for each other


# %% [markdown]
# ## Ten colours
#
# A question names a thing by colour and kind, so both vocabularies are small and every word is unmistakable. That is a choice
# for learning: real captions are richer, and the readers of real data bring them. Colours must have one name each, for people and for a tokenizer. Light is added in linear units, so display values are squared.

# %%
#| export
def linear(*srgb: float) -> np.ndarray:
    "Linear RGB from display values in [0, 1] (gamma 2)."
    return np.array(srgb) ** 2

PALETTE = {'red': linear(0.88, 0.14, 0.12), 'green': linear(0.16, 0.66, 0.22),
           'blue': linear(0.14, 0.32, 0.9),
           'yellow': linear(0.97, 0.84, 0.16), 'purple': linear(0.55, 0.22, 0.75), 'orange': linear(0.98,
               0.52, 0.1),
           'white': linear(0.95, 0.95, 0.95), 'black': linear(0.16, 0.16, 0.17), 'cyan': linear(0.16, 0.8,
               0.85),
           'pink': linear(0.98, 0.55, 0.75)}
MATERIALS = {'glass': linear(0.25, 0.33, 0.4), 'screen': linear(0.55, 0.75, 0.88),
             'rubber': linear(0.1, 0.1, 0.1),
             'lamp': linear(1.0, 0.97, 0.7), 'tail': linear(0.7, 0.05, 0.05), 'skin': linear(0.88, 0.68,
                 0.55),
             'hair': linear(0.25, 0.16, 0.1), 'trousers': linear(0.22, 0.24, 0.36), 'bag': linear(0.55, 0.42,
                 0.2),
             'metal': linear(0.6, 0.62, 0.65)}

# %%
figure, axis = plt.subplots(figsize=(7, 0.9), dpi=90)
axis.imshow(np.sqrt(np.array([list(PALETTE.values())])))
axis.set(xticks=range(10), yticks=[])
axis.set_xticklabels(PALETTE, fontsize=8)
colours = np.sqrt(np.array(list(PALETTE.values())))
assert np.linalg.norm(colours[:, None] - colours, axis=-1)[~np.eye(10, dtype=bool)].min() > 0.25


# %% [markdown]
# ## Parts
#
# A car is a few lines of data, not code. Its front is marked twice: yellow lamps and a bright windscreen; red lamps mark the
# rear. A person has a face and a visor in front and a bag behind.

# %%
#| export
@dataclass(frozen=True)
class Part:
    "One solid of an object; `axis` is the object axis along which a frustum stands ('-z' is upside down)."
    kind: int
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    material: str = 'body'
    taper: float = 1.0
    axis: str = 'z'

def _mirrored(kind, centre, half, material, **more) -> tuple[Part, Part]:
    "A part and its mirror image across the object's middle (y → -y)."
    x, y, z = centre
    return Part(kind, (x, y, z), half, material, **more), Part(kind, (x, -y, z), half, material, **more)

def _wheels(*places: float) -> tuple[Part, ...]:
    return tuple(part for x in places for part in _mirrored(FRUSTUM, (x, 0.84, -0.6), (0.4, 0.15, 0.4),
                                                            'rubber', axis='y'))


# %%
#| export
CAR = (Part(BOX, (0, 0, -0.22), (0.97, 0.92, 0.4)), Part(BOX, (-0.2, 0, 0.5), (0.5, 0.78, 0.36), 'glass'),
       Part(BOX, (-0.22, 0, 0.92), (0.46, 0.8, 0.08)), Part(BOX, (0.31, 0, 0.5), (0.02, 0.7, 0.3), 'screen'),
       Part(BOX, (0.975, 0, -0.42), (0.02, 0.55, 0.12), 'rubber'),
       *_mirrored(BOX, (0.98, 0.62, -0.08), (0.02, 0.26, 0.17), 'lamp'),
       *_mirrored(BOX, (-0.98, 0.62, -0.08), (0.02, 0.26, 0.15), 'tail'), *_wheels(-0.6, 0.62))
PERSON = (*_mirrored(FRUSTUM, (0, 0.34, -0.55), (0.34, 0.27, 0.45), 'trousers'),
          Part(BOX, (0, 0, 0.2), (0.5, 0.6, 0.34)), *_mirrored(FRUSTUM, (0, 0.8, 0.18), (0.27, 0.18, 0.34),
                                                               'body'),
          Part(ELLIPSOID, (0.1, 0, 0.74), (0.52, 0.44, 0.21), 'skin'), Part(ELLIPSOID, (-0.12, 0, 0.82),
              (0.5, 0.46, 0.18), 'hair'),
          Part(BOX, (0.62, 0, 0.83), (0.36, 0.4, 0.025)), Part(ELLIPSOID, (0.66, 0, 0.72),
                                                               (0.14, 0.12, 0.035), 'skin'),
          Part(BOX, (-0.74, 0, 0.22), (0.25, 0.48, 0.27), 'bag'))
TRUCK = (Part(BOX, (-0.3, 0, 0.2), (0.68, 0.98, 0.78)), Part(BOX, (0.72, 0, -0.1), (0.26, 0.9, 0.5), 'metal'),
         Part(BOX, (0.97, 0, 0.15), (0.02, 0.75, 0.2), 'screen'), *_mirrored(BOX, (0.98, 0.62, -0.4),
             (0.02, 0.22, 0.12), 'lamp'),
         *_mirrored(BOX, (-0.98, 0.7, -0.4), (0.015, 0.2, 0.12), 'tail'), *_wheels(-0.7, -0.3, 0.66))
ROBOT = (Part(FRUSTUM, (0, 0, -0.15), (0.85, 0.85, 0.6), taper=0.7),
         Part(BOX, (0.05, 0, 0.68), (0.6, 0.6, 0.28), 'metal'),
         Part(BOX, (0.68, 0, 0.72), (0.06, 0.5, 0.12), 'lamp'), Part(FRUSTUM, (0, 0, -0.86), (1, 1, 0.14),
                                                                     'rubber'),
         Part(BOX, (-0.72, 0, -0.1), (0.1, 0.4, 0.3), 'tail'), *_mirrored(BOX, (0.45, 0.88, 0.05),
             (0.5, 0.1, 0.08), 'metal'))

# %%
for parts in (CAR, PERSON, TRUCK, ROBOT):
    assert all(abs(c) + h <= 1.001 for part in parts for c,
               h in zip(part.centre, part.half) if part.axis == 'z')


# %% [markdown]
# ## Shapes and sizes
#
# A label maps to parts, a smallest and a largest size. The first six labels belong to the domains used for training; egg, bucket,
# plank, lamp, truck and robot are kept for the held-out one. All parts stay inside [-1, 1]³, so an object's box really contains it. Sizes are toy-like in most domains: at 112 pixels a real
# street would be empty. Wheels keep equal radii whatever the car's proportions, so they are sized along one axis only.

# %%
#| export
@dataclass(frozen=True)
class Shape:
    "What a label looks like: its parts, its size range in metres, and whether it has a front."
    parts: tuple[Part, ...]
    smallest_m: tuple[float, float, float]
    largest_m: tuple[float, float, float]
    agent: bool = False
    round: bool = False           # equal length, width (and, for a ball, height)

SHAPES = {
    'ball': Shape((Part(ELLIPSOID, (0, 0, 0), (1, 1, 1)),), (0.5, 0.5, 0.5), (0.95, 0.95, 0.95), round=True),
    'box': Shape((Part(BOX, (0, 0, 0), (1, 1, 1)),), (0.5, 0.5, 0.5), (1.0, 0.9, 0.9)),
    'cylinder': Shape((Part(FRUSTUM, (0, 0, 0), (1, 1, 1)),), (0.45, 0.45, 0.6), (0.75, 0.75, 1.1),
                      round=True),
    'cone': Shape((Part(FRUSTUM, (0, 0, 0), (1, 1, 1), taper=0.0),), (0.55, 0.55, 0.7), (0.9, 0.9, 1.2),
                  round=True),
    'car': Shape(CAR, (1.7, 0.8, 0.65), (2.2, 1.0, 0.8), agent=True),
    'person': Shape(PERSON, (0.45, 0.6, 1.4), (0.55, 0.7, 1.75), agent=True),
    'egg': Shape((Part(ELLIPSOID, (0, 0, 0), (1, 1, 1)),), (0.5, 0.5, 0.8), (0.7, 0.7, 1.1), round=True),
    'bucket': Shape((Part(FRUSTUM, (0, 0, 0), (1, 1, 1), taper=0.6, axis='-z'),), (0.55, 0.55, 0.5),
                    (0.8, 0.8, 0.8), round=True),
    'plank': Shape((Part(BOX, (0, 0, 0), (1, 1, 1)),), (1.2, 0.3, 0.2), (1.7, 0.5, 0.4)),
    'lamp': Shape((Part(FRUSTUM, (0, 0, -0.2), (0.12, 0.12, 0.7), 'metal'),
                   Part(FRUSTUM, (0, 0, -0.95), (0.7, 0.7, 0.05), 'metal'),
                   Part(FRUSTUM, (0, 0, 0.6), (1, 1, 0.4), taper=0.5)), (0.6, 0.6, 1.3), (0.7, 0.7,
                       1.6), round=True),
    'truck': Shape(TRUCK, (2.2, 0.9, 1.0), (2.8, 1.1, 1.3), agent=True),
    'robot': Shape(ROBOT, (0.6, 0.6, 1.0), (0.8, 0.8, 1.3), agent=True)}

# %%
#| export
AXES = {'z': np.eye(3), '-z': np.diag([1.0, -1.0, -1.0]), 'y': np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])}

def part_pose(part: Part, size_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "The part's pose in the object (4, 4) and its half size (3,) in its own axes; wheels stay round."
    half_m = np.array(part.half) * size_m / 2
    if part.axis == 'y': half_m = half_m[[2, 2, 1]]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = AXES[part.axis], np.array(part.centre) * size_m / 2
    return pose, half_m

def sample_size(rng: np.random.Generator, shape: Shape, scale: float = 1.0) -> np.ndarray:
    "A size (3,) in metres between the shape's smallest and largest."
    small, large = np.array(shape.smallest_m), np.array(shape.largest_m)
    part = rng.uniform(size=3)
    if shape.round: part[:] = part[0]
    return (small + part * (large - small)) * scale


# %%
assert np.allclose(part_pose(CAR[-1], np.array([4.0, 1.8, 1.5]))[1][:2], 0.4 * 0.75)       # round wheels


# %%
def portrait(label, colour, yaw_deg, size=130):
    "One object on a grey floor, turned by `yaw_deg`."
    size_m, rows = np.array(SHAPES[label].largest_m), []
    turn = pose_from(rotation_about((0, 0, 1), np.radians(yaw_deg)), np.array([0, 0, size_m[2] / 2]))
    for part in SHAPES[label].parts:
        pose, half = part_pose(part, size_m)
        body = PALETTE[colour] if part.material == 'body' else MATERIALS[part.material]
        rows.append((part.kind, half, part.taper, 1, [body, body], 0, 1.0, 0.3, True, turn @ pose))
    columns = [np.array(column) for column in zip(*rows)]
    light = np.array([-0.5, -0.4, 0.77]) / np.linalg.norm([-0.5, -0.4, 0.77])
    room = Room(np.array([-9.0, -9, 0]), np.array([9.0, 9, 4]), np.full((6, 2, 3), 0.4), np.zeros(6, int),
                np.ones(6), False,
                np.ones((2, 3)), light, 0.05, np.full(3, 0.9), np.full(3, 0.45))
    reach = 1.25 * np.linalg.norm(size_m)
    w2c = look_at((-reach, -reach * 0.6, reach * 0.55 + size_m[2] / 2), (0, 0, size_m[2] / 2),
                  (0, 0, 1))[None]
    solids = Solids(*columns[:-1], columns[-1][None])
    return render([Stage(solids, room, intrinsics(size * 1.2, size * 1.2, size / 2, size / 2)[None], w2c,
                         size, size)])[0]


# %%
figure, axes = plt.subplots(2, 6, figsize=(9.5, 3.8), dpi=80)
for axis, label, colour in zip(axes.flat, SHAPES, [*PALETTE, 'red', 'green']):
    picture = portrait(label, colour, 150)
    axis.imshow(picture[0][0])
    axis.set(title=f'{colour} {label}', xticks=[], yticks=[])
    assert (picture[2] == 1).mean() > 0.03
figure.tight_layout()

# %% [markdown]
# ## Which way does it face?
#
# Agents are drawn at any heading, so each side will be seen. The camera stands at the lower left; at 0° the front points away
# from it along world x, and angles grow counterclockwise seen from above. The same car and person from eight sides. If the front could be mistaken for the rear here, "moves forward" would be a riddle.

# %%
figure, axes = plt.subplots(2, 8, figsize=(9.5, 2.5), dpi=80)
for column, yaw in enumerate(range(0, 360, 45)):
    for row, (label, colour) in enumerate((('car', 'green'), ('person', 'red'))):
        axes[row, column].imshow(portrait(label, colour, yaw)[0][0])
        axes[row, column].set(xticks=[], yticks=[], title=f'{yaw}°' if row == 0 else '')
def yellow(picture): return ((picture[..., 0] > 190) & (picture[..., 1] > 170)
                             & (picture[..., 2] + 25.0 < picture[..., 0])).sum()
assert yellow(portrait('car', 'blue', 210)[0]) > 20 + 3 * yellow(portrait('car', 'blue', 30)[0])

# %% [markdown]
# ## What we proved
#
# * ten colours keep their distance in display space
# * every part lies in its object's box
# * lamps are seen from the front, not from behind
#
# ## Try it
#
# 1. Build a bus. Which parts tell its front?
# 2. Give `PERSON` legs that swing with the distance walked. What else would `SceneObject` have to record?
#
# <details><summary>Solutions</summary>
#
# 1. The windscreen, the headlights and a door on one side only. Without an asymmetric part the front exists in the
#    pose but not in the picture, and a question about it could not be answered by looking.
# 2. The pose of each part over time, for one rigid pose per object no longer tells where a point of a leg is. Tracks
#    of points on legs come from those, so `object_points` would need to know the part.
#
# </details>
