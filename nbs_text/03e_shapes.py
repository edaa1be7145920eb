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
#| export
def linear(*srgb: float) -> np.ndarray:
    "Linear RGB from display values in [0, 1] (gamma 2)."
    return np.array(srgb) ** 2

PALETTE = {'red': linear(0.88, 0.14, 0.12), 'green': linear(0.16, 0.66, 0.22), 'blue': linear(0.14, 0.32, 0.9),
           'yellow': linear(0.97, 0.84, 0.16), 'purple': linear(0.55, 0.22, 0.75), 'orange': linear(0.98, 0.52, 0.1),
           'white': linear(0.95, 0.95, 0.95), 'black': linear(0.16, 0.16, 0.17), 'cyan': linear(0.16, 0.8, 0.85),
           'pink': linear(0.98, 0.55, 0.75)}
MATERIALS = {'glass': linear(0.25, 0.33, 0.4), 'screen': linear(0.55, 0.75, 0.88), 'rubber': linear(0.1, 0.1, 0.1),
             'lamp': linear(1.0, 0.97, 0.7), 'tail': linear(0.7, 0.05, 0.05), 'skin': linear(0.88, 0.68, 0.55),
             'hair': linear(0.25, 0.16, 0.1), 'trousers': linear(0.22, 0.24, 0.36), 'bag': linear(0.55, 0.42, 0.2),
             'metal': linear(0.6, 0.62, 0.65)}


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
    return tuple(part for x in places for part in _mirrored(FRUSTUM, (x, 0.84, -0.6), (0.4, 0.15, 0.4), 'rubber', axis='y'))


# %%
#| export
CAR = (Part(BOX, (0, 0, -0.22), (0.97, 0.92, 0.4)), Part(BOX, (-0.2, 0, 0.5), (0.5, 0.78, 0.36), 'glass'),
       Part(BOX, (-0.22, 0, 0.92), (0.46, 0.8, 0.08)), Part(BOX, (0.31, 0, 0.5), (0.02, 0.7, 0.3), 'screen'),
       Part(BOX, (0.975, 0, -0.42), (0.02, 0.55, 0.12), 'rubber'),
       *_mirrored(BOX, (0.98, 0.62, -0.08), (0.02, 0.26, 0.17), 'lamp'),
       *_mirrored(BOX, (-0.98, 0.62, -0.08), (0.02, 0.26, 0.15), 'tail'), *_wheels(-0.6, 0.62))
PERSON = (*_mirrored(FRUSTUM, (0, 0.34, -0.55), (0.34, 0.27, 0.45), 'trousers'),
          Part(BOX, (0, 0, 0.2), (0.5, 0.6, 0.34)), *_mirrored(FRUSTUM, (0, 0.8, 0.18), (0.27, 0.18, 0.34), 'body'),
          Part(ELLIPSOID, (0.1, 0, 0.74), (0.52, 0.44, 0.21), 'skin'), Part(ELLIPSOID, (-0.12, 0, 0.82), (0.5, 0.46, 0.18), 'hair'),
          Part(BOX, (0.62, 0, 0.83), (0.36, 0.4, 0.025)), Part(ELLIPSOID, (0.66, 0, 0.72), (0.14, 0.12, 0.035), 'skin'),
          Part(BOX, (-0.74, 0, 0.22), (0.25, 0.48, 0.27), 'bag'))
TRUCK = (Part(BOX, (-0.3, 0, 0.2), (0.68, 0.98, 0.78)), Part(BOX, (0.72, 0, -0.1), (0.26, 0.9, 0.5), 'metal'),
         Part(BOX, (0.97, 0, 0.15), (0.02, 0.75, 0.2), 'screen'), *_mirrored(BOX, (0.98, 0.62, -0.4), (0.02, 0.22, 0.12), 'lamp'),
         *_mirrored(BOX, (-0.98, 0.7, -0.4), (0.015, 0.2, 0.12), 'tail'), *_wheels(-0.7, -0.3, 0.66))
ROBOT = (Part(FRUSTUM, (0, 0, -0.15), (0.85, 0.85, 0.6), taper=0.7), Part(BOX, (0.05, 0, 0.68), (0.6, 0.6, 0.28), 'metal'),
         Part(BOX, (0.68, 0, 0.72), (0.06, 0.5, 0.12), 'lamp'), Part(FRUSTUM, (0, 0, -0.86), (1, 1, 0.14), 'rubber'),
         Part(BOX, (-0.72, 0, -0.1), (0.1, 0.4, 0.3), 'tail'), *_mirrored(BOX, (0.45, 0.88, 0.05), (0.5, 0.1, 0.08), 'metal'))


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
    'cylinder': Shape((Part(FRUSTUM, (0, 0, 0), (1, 1, 1)),), (0.45, 0.45, 0.6), (0.75, 0.75, 1.1), round=True),
    'cone': Shape((Part(FRUSTUM, (0, 0, 0), (1, 1, 1), taper=0.0),), (0.55, 0.55, 0.7), (0.9, 0.9, 1.2), round=True),
    'car': Shape(CAR, (1.7, 0.8, 0.65), (2.2, 1.0, 0.8), agent=True),
    'person': Shape(PERSON, (0.45, 0.6, 1.4), (0.55, 0.7, 1.75), agent=True),
    'egg': Shape((Part(ELLIPSOID, (0, 0, 0), (1, 1, 1)),), (0.5, 0.5, 0.8), (0.7, 0.7, 1.1), round=True),
    'bucket': Shape((Part(FRUSTUM, (0, 0, 0), (1, 1, 1), taper=0.6, axis='-z'),), (0.55, 0.55, 0.5), (0.8, 0.8, 0.8), round=True),
    'plank': Shape((Part(BOX, (0, 0, 0), (1, 1, 1)),), (1.2, 0.3, 0.2), (1.7, 0.5, 0.4)),
    'lamp': Shape((Part(FRUSTUM, (0, 0, -0.2), (0.12, 0.12, 0.7), 'metal'), Part(FRUSTUM, (0, 0, -0.95), (0.7, 0.7, 0.05), 'metal'),
                   Part(FRUSTUM, (0, 0, 0.6), (1, 1, 0.4), taper=0.5)), (0.6, 0.6, 1.3), (0.7, 0.7, 1.6), round=True),
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
