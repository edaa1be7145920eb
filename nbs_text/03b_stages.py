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
#| export
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)

def ray_basis(stage: Stage, offset: float) -> np.ndarray:
    "World vectors (F, 3, 3), columns a, b, c: the ray of row i and column j is a + j b + i c and has planar depth 1."
    grid = np.array([[offset, 1, 0], [offset, 0, 1], [1, 0, 0]], dtype=np.float64)
    return stage.w2c[:, :3, :3].mT @ np.linalg.inv(stage.K) @ grid

def _front_points(xyz_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Points (..., P, 3) cut at the near plane: those before it and every crossing between two points, with a mask of the valid."
    start, stop = xyz_camera[..., :, None, :], xyz_camera[..., None, :, :]
    below, above = start[..., 2] < NEAR, stop[..., 2] >= NEAR
    part = (NEAR - start[..., 2]) / np.where(below & above, stop[..., 2] - start[..., 2], 1.0)
    crossing = start + part[..., None] * (stop - start)
    crosses = below & above
    points = np.broadcast_to(stop, crossing.shape).copy()
    points[crosses] = crossing[crosses]
    shape = (*xyz_camera.shape[:-2], xyz_camera.shape[-2] ** 2)
    return points.reshape(*shape, 3), np.broadcast_to(above, crosses.shape).reshape(shape)

def _screen_boxes(stage: Stage, xyz_world: np.ndarray, size: tuple[int, int], offset: float) -> np.ndarray:
    "Pixel rectangles (F, S, 4) left, top, width, height around the hulls of points (F, S, P, 3); size 0 if none is in front."
    xyz_camera = xyz_world @ stage.w2c[:, None, :3, :3].mT + stage.w2c[:, None, None, :3, 3]
    behind, limit = xyz_camera[..., 2] < NEAR, np.array(size[::-1])
    uv = (xyz_camera @ stage.K[:, None].mT)[..., :2] / np.maximum(xyz_camera[..., 2:], NEAR) - offset
    low, high = uv.min(-2), uv.max(-2)
    cut = behind.any(-1) & ~behind.all(-1)
    points, valid = _front_points(xyz_camera[cut])
    uv = (points @ stage.K[np.nonzero(cut)[0]].mT)[..., :2] / np.maximum(points[..., 2:], NEAR) - offset
    low[cut], high[cut] = (np.where(valid[..., None], uv, np.inf).min(-2), np.where(valid[..., None], uv, -np.inf).max(-2))
    low, high = np.clip(np.floor(low), 0, limit).astype(np.int64), np.clip(np.ceil(high) + 1, 0, limit).astype(np.int64)
    extent = np.maximum(high - low, 0)
    extent[behind.all(-1)] = 0
    return np.concatenate([low, extent], -1)


# %%
#| export
ORIGIN, RAY, RIGHT, DOWN, LIGHT, TAPER, HALF, SUNWARD, UPWARD, COLOUR, CONTRAST, SCALE, GLOSS, PIXEL, LAMP_X, LAMP_Y = (
    slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12), slice(12, 15), 15, slice(16, 19), slice(19, 22), slice(22, 25),
    slice(25, 28), slice(28, 31), 31, 32, 33, slice(34, 37), slice(37, 40))          # rows of a pair table
FRAME, PATTERN, INSTANCE, NUMBER, KIND = range(5)                 # rows of its integers

def _pair_table(stage: Stage, offset: float, size: tuple[int, int], casters: bool) -> tuple[np.ndarray, ...]:
    "Numbers (40, P), integers (5, P) and rectangles (P, 4) of every solid in every frame where it, or its shadow, may show."
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
    unit = inverse / solids.half_m[i][:, :, None]                 # world vectors to the unit shape's coordinates
    origin = (unit @ (camera_center(stage.w2c)[f] - centre[f, i])[..., None])[..., 0]
    rays = unit @ ray_basis(stage, offset)[f]
    across = np.cross(room.to_light, (0, 0, 1)) * room.light_radius
    lamp = [unit @ across, unit @ np.cross(room.to_light, across)]
    table = np.concatenate([
        origin, rays[..., 0], rays[..., 1], rays[..., 2], unit @ room.to_light, solids.taper[i, None], solids.half_m[i],
        inverse @ room.to_light, inverse[..., 2], solids.colours[i, 0], solids.colours[i, 1] - solids.colours[i, 0],
        TEXELS / solids.period_m[i, None], solids.gloss[i, None], 1 / stage.K[f, 0, 0, None], *lamp], -1)
    integers = np.stack([f, solids.pattern[i] * (LEVELS * TEXELS * TEXELS), solids.instance[i],
                         f * len(solids.kind) + i, solids.kind[i]])
    return table.T.astype(np.float32), integers, boxes[f, i]


# %%
#| export
class Candidates:
    "The pixels inside the rectangles of pairs of one kind, as one flat list, with their rays in unit coordinates."

    def __init__(self, table: np.ndarray, integers: np.ndarray, boxes: np.ndarray, size: tuple[int, int], device):
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
        self.direction = self.spread(rows[RAY] + y * rows[DOWN]) + column * self.spread(rows[RIGHT])     # (3, N)
        self.origin = self.spread(rows[ORIGIN])                                              # (3, N)
        self.side = 1 - 2 * column.remainder(2), 1 - 2.0 * (y % 2)

    def spread(self, per_row: torch.Tensor) -> torch.Tensor:
        "Values (..., rows) repeated for the pixels of each row."
        return per_row.index_select(-1, self.row)

    def lamp(self, soft: bool) -> torch.Tensor:
        "Directions (3, N) to the light in unit coordinates; a soft one shines from four corners by turns, pixel by pixel."
        middle = self.rows[LIGHT]
        if not soft: return self.spread(middle)
        by_column, by_row = self.side
        return self.spread(middle + by_row * self.rows[LAMP_Y]) + by_column * self.spread(self.rows[LAMP_X])

    def hit(self, origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        "t (N,) of rays (3, N) in unit coordinates."
        return INTERSECT[self.kind](origin, direction, self.spread(self.rows[TAPER]) if self.kind == FRUSTUM else None)


# %%
#| export
def candidates(stages: list[Stage], offset: float, size: tuple[int, int], device, casters: bool = False) -> list[Candidates]:
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
