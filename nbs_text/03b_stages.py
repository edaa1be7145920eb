# %% [markdown]
# # Stages
# > What is to be drawn, as tables: solids, room and cameras become lists of rays that may meet a solid.

# %%
#| default_exp stages

# %% [markdown]
# #| export
# World axes: z up, metres. A `Stage` is a set of solids moving through F camera frames inside a box-shaped room; under an
# open sky only the room's floor is a surface. Geometry is prepared here in float64, cast to float32 once.

# %% [markdown]
# * **What** the description of a picture, and the culling that makes it fast
# * **Why** most solids cover a small part of the picture; rays outside their rectangle need no test
# * **Paper** none; the layout is **[ours]**
# * **Needs** numpy, torch
# * **Time** 10 seconds
# * **Before this** `01_cameras`, `03_textures`, `03a_solids`

# %%
#| export
from dataclasses import dataclass

import numpy as np
import torch

from track4d_ref.cameras import camera_center
from track4d_ref.solids import BOX, ELLIPSOID, FRUSTUM, INTERSECT, NEAR
from track4d_ref.textures import LEVELS, TEXELS

# %%
import matplotlib.pyplot as plt
from track4d_ref.cameras import intrinsics, look_at, project
from track4d_ref.textures import PATTERNS


# %% [markdown]
# ## The description
#
# Three records say everything a picture shows. Solids are arrays, not a list of things, because tens of solids in eight
# frames are prepared by one matrix product. `instance` 0 marks scenery that no question asks about.

# %%
#| export
@dataclass(frozen=True, eq=False)
class Solids:
    "S solids in F frames."
    kind: np.ndarray              # (S,) ELLIPSOID, BOX or FRUSTUM
    half_m: np.ndarray            # (S, 3)
    taper: np.ndarray             # (S,)
    instance: np.ndarray          # (S,) object id, 0 for scenery
    colours: np.ndarray           # (S, 2, 3) linear RGB at pattern values 0 and 1
    pattern: np.ndarray           # (S,) index into PATTERNS
    period_m: np.ndarray          # (S,) after which the pattern repeats
    gloss: np.ndarray             # (S,) strength of the highlight
    shadow: np.ndarray            # (S,) bool: casts one
    world_from_solid: np.ndarray  # (F, S, 4, 4)


# %%
#| export
@dataclass(frozen=True, eq=False)
class Room:
    "A box seen from inside; its six faces are ordered low x, high x, low y, high y, floor, ceiling."
    low_m: np.ndarray             # (3,)
    high_m: np.ndarray            # (3,)
    colours: np.ndarray           # (6, 2, 3) linear RGB
    pattern: np.ndarray           # (6,)
    period_m: np.ndarray          # (6,)
    open_sky: bool                # no walls, no ceiling
    sky: np.ndarray               # (2, 3) linear RGB at the horizon and overhead
    to_light: np.ndarray          # (3,) unit vector
    light_radius: float           # of the lamp seen from the ground, in radians
    sun: np.ndarray               # (3,) linear RGB
    ambient: np.ndarray           # (3,) linear RGB


# %%
#| export
@dataclass(frozen=True, eq=False)
class Stage:
    "All that one clip's pictures show."
    solids: Solids
    room: Room
    K: np.ndarray                 # (F, 3, 3)
    w2c: np.ndarray               # (F, 4, 4)
    height: int
    width: int


# %%
def one_ball(x_m=0.0):
    "A ball, a box and a cone in a room, seen by a rolled camera with an image that is not square."
    pose = np.tile(np.eye(4), (1, 3, 1, 1))
    pose[0, :, :3, 3] = [(x_m, 0.9, 0.5), (0.6, -0.7, 0.4), (-1.0, -0.2, 0.35)]
    half = np.array([[0.5, 0.5, 0.5], [0.4, 0.6, 0.4], [0.3, 0.3, 0.35]])
    solids = Solids(np.array([ELLIPSOID, BOX, FRUSTUM]), half, np.array([1, 1, 0.0]), np.array([1, 2, 3]),
                    np.full((3, 2, 3), 0.5),
                    np.zeros(3, int), np.ones(3), np.zeros(3), np.ones(3, bool), pose)
    light = np.array([0.5, -0.3, 0.81]) / np.linalg.norm([0.5, -0.3, 0.81])
    room = Room(np.array([-6.0, -5, 0]), np.array([6.0, 5, 3]), np.full((6, 2, 3), 0.6), np.zeros(6, int),
                np.full(6, 2.0), False,
                np.ones((2, 3)), light, 0.05, np.ones(3), np.ones(3))
    K, w2c = intrinsics(150.0, 140.0, 84.0, 70.0), look_at((-4, 0.3, 1.8), (0, 0, 0.5), (0, 0, 1),
                                                           roll_rad=0.15)
    return Stage(solids, room, K[None], w2c[None], 120, 180)
assert len(one_ball().solids.kind) == 3

# %% [markdown]
# ## Which pixels can see a solid
#
# A solid's box has eight corners; the rectangle around their images holds all its pixels. Corners behind the camera would
# project to nonsense, so hulls are cut at a near plane first: every line between a point behind and a point in front
# contributes its crossing. Without the cut, one house beside the road would fill the whole screen with candidates.

# %%
#| export
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)

def ray_basis(stage: Stage, offset: float) -> np.ndarray:
    """World vectors (F, 3, 3), columns a, b, c: the ray of row i and column j is a + j b + i c and has
    planar depth 1."""
    grid = np.array([[offset, 1, 0], [offset, 0, 1], [1, 0, 0]], dtype=np.float64)
    return stage.w2c[:, :3, :3].mT @ np.linalg.inv(stage.K) @ grid


# %%
#| export
def _front_points(xyz_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (..., P, 3) cut at the near plane: those before it and every crossing between two points,
    with a mask of the valid."""
    start, stop = xyz_camera[..., :, None, :], xyz_camera[..., None, :, :]
    below, above = start[..., 2] < NEAR, stop[..., 2] >= NEAR
    part = (NEAR - start[..., 2]) / np.where(below & above, stop[..., 2] - start[..., 2], 1.0)
    crossing = start + part[..., None] * (stop - start)
    crosses = below & above
    points = np.broadcast_to(stop, crossing.shape).copy()
    points[crosses] = crossing[crosses]
    shape = (*xyz_camera.shape[:-2], xyz_camera.shape[-2] ** 2)
    return points.reshape(*shape, 3), np.broadcast_to(above, crosses.shape).reshape(shape)


# %%
#| export
def _screen_boxes(stage: Stage, xyz_world: np.ndarray, size: tuple[int, int], offset: float) -> np.ndarray:
    """Pixel rectangles (F, S, 4) left, top, width, height around the hulls of points (F, S, P, 3); size 0
    if none is in front."""
    xyz_camera = xyz_world @ stage.w2c[:, None, :3, :3].mT + stage.w2c[:, None, None, :3, 3]
    behind, limit = xyz_camera[..., 2] < NEAR, np.array(size[::-1])
    uv = (xyz_camera @ stage.K[:, None].mT)[..., :2] / np.maximum(xyz_camera[..., 2:], NEAR) - offset
    low, high = uv.min(-2), uv.max(-2)
    cut = behind.any(-1) & ~behind.all(-1)
    points, valid = _front_points(xyz_camera[cut])
    uv = (points @ stage.K[np.nonzero(cut)[0]].mT)[..., :2] / np.maximum(points[..., 2:], NEAR) - offset
    low[cut], high[cut] = (np.where(valid[..., None], uv, np.inf).min(-2),
                           np.where(valid[..., None], uv, -np.inf).max(-2))
    low, high = np.clip(np.floor(low), 0, limit).astype(np.int64), np.clip(np.ceil(high) + 1, 0,
        limit).astype(np.int64)
    extent = np.maximum(high - low, 0)
    extent[behind.all(-1)] = 0
    return np.concatenate([low, extent], -1)


# %%
stage = one_ball()
corners = (CORNERS * stage.solids.half_m[:, None])[None] + stage.solids.world_from_solid[:, :, None, :3, 3]
boxes = _screen_boxes(stage, corners, (120, 180), 0.5)[0]
uv, _ = project(stage.K[0], stage.w2c[0], corners[0])
figure, axis = plt.subplots(figsize=(4.6, 3.1), dpi=90)
for points, (left, top, width, height), colour in zip(uv, boxes, ('tab:blue', 'tab:orange', 'tab:green')):
    axis.plot(*points.T, 'o', ms=4, color=colour)
    axis.add_patch(plt.Rectangle((left, top), width, height, fill=False, color=colour))
axis.set(xlim=(0, 180), ylim=(120, 0), aspect='equal', xlabel='u (px)', ylabel='v (px)',
         title='box corners and rectangles')
assert all((points >= box[:2]).all() and (points <= box[:2] + box[2:]).all() for points,
           box in zip(uv, boxes))

# %% [markdown]
# A wall that begins behind the camera is cut, and keeps only the side of the picture where it can be seen:

# %%
wall = np.array([[-9.0, 1.6, 0], [9, 1.6, 0], [-9, 1.6, 2], [9, 1.6, 2]])[None, None]
left, top, width, height = _screen_boxes(stage, wall, (120, 180), 0.5)[0, 0]
assert 0 < width < 150 and left == 0

# %% [markdown]
# ## Tables of pairs
#
# A *pair* is one solid in one frame. For each pair the camera's centre and rays go into the solid's unit coordinates, once,
# in float64. Rays are linear in the pixel, so three vectors are enough for all pixels: $a + j\,b + i\,c$ for column j and
# row i. Shadows use the same tables, with rectangles around the volume between a solid and its shadow on the floor.

# %%
#| export
(ORIGIN, RAY, RIGHT, DOWN, LIGHT, TAPER, HALF, SUNWARD, UPWARD, COLOUR, CONTRAST, SCALE, GLOSS, PIXEL, LAMP_X,
 LAMP_Y) = (
    slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12), slice(12, 15), 15, slice(16, 19), slice(19,
        22), slice(22, 25),
    slice(25, 28), slice(28, 31), 31, 32, 33, slice(34, 37), slice(37, 40))          # rows of a pair table

FRAME, PATTERN, INSTANCE, NUMBER, KIND = range(5)                 # rows of its integers


# %%
#| export
def _pair_table(stage: Stage, offset: float, size: tuple[int, int], casters: bool) -> tuple[np.ndarray, ...]:
    """Numbers (40, P), integers (5, P) and rectangles (P, 4) of every solid in every frame where it, or
    its shadow, may show."""
    solids, room = stage.solids, stage.room
    rotation, centre = solids.world_from_solid[..., :3, :3], solids.world_from_solid[..., :3, 3]
    corners = (CORNERS * solids.half_m[:, None]) @ rotation.mT + centre[:, :, None]
    if casters:
        drop = (corners[..., 2:] - room.low_m[2]).clip(0) / room.to_light[2]
        corners = np.concatenate([corners, corners - drop * room.to_light], -2)
    boxes = _screen_boxes(stage, corners, size, offset)
    shown = boxes[..., 2] * boxes[..., 3] > 0
    if casters: shown &= solids.shadow
    i, f = np.nonzero(shown.T)
    inverse = rotation[f, i].mT
    unit = inverse / solids.half_m[i][:, :, None]  # world vectors to the unit shape's coordinates
    origin = (unit @ (camera_center(stage.w2c)[f] - centre[f, i])[..., None])[..., 0]
    rays = unit @ ray_basis(stage, offset)[f]
    across = np.cross(room.to_light, (0, 0, 1)) * room.light_radius
    lamp = [unit @ across, unit @ np.cross(room.to_light, across)]
    table = np.concatenate([
        origin, rays[..., 0], rays[..., 1], rays[..., 2], unit @ room.to_light, solids.taper[i, None],
        solids.half_m[i], inverse @ room.to_light, inverse[..., 2], solids.colours[i, 0],
        solids.colours[i, 1] - solids.colours[i, 0],
        TEXELS / solids.period_m[i, None], solids.gloss[i, None], 1 / stage.K[f, 0, 0, None], *lamp], -1)
    integers = np.stack([f, solids.pattern[i] * (LEVELS * TEXELS * TEXELS), solids.instance[i],
                         f * len(solids.kind) + i, solids.kind[i]])
    return table.T.astype(np.float32), integers, boxes[f, i]


# %%
table, integers, boxes = _pair_table(stage, 0.5, (120, 180), casters=False)
_, _, shadow_boxes = _pair_table(stage, 0.5, (120, 180), casters=True)
pixels = [int((part[:, 2] * part[:, 3]).sum()) for part in (boxes, shadow_boxes)]
print(f'{table.shape[1]} pairs, {pixels[0]} candidate pixels and {pixels[1]} for shadows, '
      f'of {120 * 180 * 3} without culling')
assert pixels[0] < pixels[1] < 120 * 180 * 3


# %% [markdown]
# ## One flat list
#
# Rectangles have different sizes, and a loop over them would spend its time in Python. Instead rows and then pixels are
# repeated into one list: `repeat_interleave` turns (pair → rows → pixels) into flat indices without a loop or a division.

# %%
#| export
class Candidates:
    "The pixels in the rectangles of pairs of one kind, as one flat list, with their rays in unit coordinates."

    def __init__(self, table: np.ndarray, integers: np.ndarray, boxes: np.ndarray, size, device):
        move = lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device)
        self.kind, self.table, self.integers = int(integers[KIND, 0]), move(table), move(integers)
        left, top, width, height = move(boxes.T)
        rows, count = int(boxes[:, 3].sum()), int((boxes[:, 2] * boxes[:, 3]).sum())
        self.pair_of_row = torch.arange(len(boxes), device=device).repeat_interleave(height, output_size=rows)
        pair, spans = self.pair_of_row, width[self.pair_of_row]
        y = torch.arange(rows, device=device) - (height.cumsum(0) - height - top)[pair]
        self.row = torch.arange(rows, device=device).repeat_interleave(spans, output_size=count)
        place, start = torch.arange(count, device=device), spans.cumsum(0) - spans
        first = (self.integers[FRAME, pair] * size[0] + y) * size[1] + left[pair]
        self.pixel = place + (first - start).index_select(0, self.row)                       # (N,)
        column = (place - (start - left[pair]).index_select(0, self.row)).float()
        self.rows = rows = self.table.index_select(1, pair)
        self.direction = self.spread(rows[RAY] + y * rows[DOWN]) + column * self.spread(rows[RIGHT])  # (3, N)
        self.origin = self.spread(rows[ORIGIN])                                              # (3, N)
        self.side = 1 - 2 * column.remainder(2), 1 - 2.0 * (y % 2)

    def spread(self, per_row: torch.Tensor) -> torch.Tensor:
        "Values (..., rows) repeated for the pixels of each row."
        return per_row.index_select(-1, self.row)

    def hit(self, origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        "t (N,) of rays (3, N) in unit coordinates."
        taper = self.spread(self.rows[TAPER]) if self.kind == FRUSTUM else None
        return INTERSECT[self.kind](origin, direction, taper)


# %% [markdown]
# A real lamp has a size, so shadows have soft edges. Four corners of the lamp take turns over neighbouring pixels; the
# average over a pixel then blends them, without any random numbers and without a second pass.

# %%
#| export
def lamp_directions(group: Candidates, soft: bool) -> torch.Tensor:
    "Directions (3, N) to the light in unit coordinates; a soft one shines from four corners, by turns per pixel."
    middle, (by_column, by_row) = group.rows[LIGHT], group.side
    if not soft: return group.spread(middle)
    return group.spread(middle + by_row * group.rows[LAMP_Y]) + by_column * group.spread(group.rows[LAMP_X])


# %%
#| export
def candidates(stages: list[Stage], offset: float, size: tuple[int, int], device,
               casters: bool = False) -> list[Candidates]:
    "Candidates of all stages, one entry per kind of solid; frames and solids are numbered through."
    parts, frames, numbers = [], 0, 0
    for stage in stages:
        table, integers, boxes = _pair_table(stage, offset, size, casters)
        integers[FRAME] += frames
        integers[NUMBER] += numbers
        frames, numbers = frames + len(stage.w2c), numbers + len(stage.w2c) * len(stage.solids.kind)
        parts.append((table, integers, boxes))
    table, integers = (np.concatenate([part[k] for part in parts], 1) for k in (0, 1))
    boxes = np.concatenate([part[2] for part in parts])
    groups = [np.flatnonzero(integers[KIND] == kind) for kind in (ELLIPSOID, BOX, FRUSTUM)]
    return [Candidates(table[:, g], integers[:, g], boxes[g], size, device) for g in groups if len(g)]


# %%
groups = candidates([stage], 0.5, (120, 180), 'cpu')
figure, axes = plt.subplots(1, 2, figsize=(8, 2.9), dpi=90)
for axis, casters in zip(axes, (False, True)):
    count = torch.zeros(120 * 180)
    for group in candidates([stage], 0.5, (120, 180), 'cpu', casters):
        count.index_add_(0, group.pixel, torch.ones(len(group.pixel)))
    axis.imshow(count.reshape(120, 180), cmap='viridis')
    axis.set(title='solids tested per pixel' + (', for shadows' if casters else ''), xlabel='u (px)')
assert sum(len(group.pixel) for group in groups) == pixels[0]

# %% [markdown]
# The rays in the list are the rays of the camera. For the ball, compare them with a plain loop over its rectangle:

# %%
ball, (left, top, width, height) = groups[0], boxes[0]
pose, half = stage.solids.world_from_solid[0, 0], stage.solids.half_m[0]
basis = ray_basis(stage, 0.5)[0]
slow = [(pose[:3, :3].T @ (basis @ (1, j, i))) / half for i in range(top, top + height)
        for j in range(left, left + width)]
assert np.allclose(ball.direction.numpy().T, slow, atol=1e-5)
hit = ball.hit(ball.origin, ball.direction) < 1e9
print(f'{hit.float().mean():.0%} of the ball\'s rectangle is ball; '
      f'of a tight one it would be {np.pi / 4:.0%}')

# %%
seen = torch.zeros(120 * 180)
for group in groups: seen[group.pixel[group.hit(group.origin, group.direction) < 1e9]] = group.kind + 1
figure, axis = plt.subplots(figsize=(4.2, 2.8), dpi=90)
axis.imshow(seen.reshape(120, 180), cmap='Set2')
axis.set(title='what the rays meet', xlabel='u (px)', ylabel='v (px)')
assert set(seen.unique().tolist()) == {0.0, 1.0, 2.0, 3.0}

# %% [markdown]
# ## What we proved
#
# * rectangles hold every corner, also when a solid begins behind the camera
# * the flat list holds the same rays as a double loop
# * culling leaves a small part of all ray–solid tests
#
# ## Try it
#
# 1. An ellipsoid's exact rectangle follows from its dual quadric. How many candidates would that save?
# 2. Sort pairs by depth and skip those behind a wall. When does it pay?
#
# <details><summary>Solutions</summary>
#
# 1. The dual quadric gives the tight rectangle: $C^* = P Q^* P^\top$, and its borders solve a quadratic for u and one
#    for v. Count candidates with both rectangles on one frame; the gain is largest for long solids near the picture's
#    edge.
# 2. It pays when walls hide much, as in streets, and costs a sort per frame. It never changes the picture, so compare
#    only times, over whole clips, with the same seed.
#
# </details>
