# %% [markdown]
# # Ray casting
# > Pictures, exact planar depth and instance maps of many frames at once, in a few hundred tensor operations.

# %%
#| default_exp raycasting

# %% [markdown]
# #| export
# Per pixel only + − × ÷ √ are used, in float32, and every pixel is computed on its own: the same bytes for any batch size
# and number of threads.

# %% [markdown]
# * **What** a renderer for the simulator
# * **Why** its truth is what every later notebook asserts against; its speed sets how much a student can train on
# * **Paper** none; the renderer stands where the papers use Kubric, SHIFT and Virtual KITTI
# * **Needs** numpy, torch
# * **Time** 20 seconds
# * **Before this** `01_cameras`, `03_textures`, `03a_solids`, `03b_stages`

# %%
#| export
from dataclasses import dataclass

import numpy as np
import torch

from track4d_ref.cameras import camera_center
from track4d_ref.solids import FAR, solid_normal
from track4d_ref.stages import (COLOUR, CONTRAST, GLOSS, HALF, INSTANCE, NUMBER, ORIGIN, PATTERN, PIXEL,
                                SCALE, SUNWARD,
                                TAPER, UPWARD, Candidates, Stage, candidates, lamp_directions, ray_basis)
from track4d_ref.textures import LEVELS, TEXELS, pattern_bank, sample_pattern

# %%
import matplotlib.pyplot as plt
from track4d_ref.cameras import intrinsics, look_at, rotation_about
from track4d_ref.solids import BOX, ELLIPSOID, FRUSTUM
from track4d_ref.stages import Room, Solids
from track4d_ref.textures import PATTERNS


# %% [markdown]
# ## A scene to look at
#
# Three solids in a room with a checkered floor. The camera is rolled and the picture is not square: swapped axes would show.

# %%
def still_life(open_sky=False, frames=1, height=180, width=270):
    "A ball, a crate and a cone; over `frames` the camera walks to the right."
    pose = np.tile(np.eye(4), (frames, 3, 1, 1))
    pose[:, :, :3, 3] = [(0.2, 0.9, 0.5), (0.9, -0.8, 0.4), (-0.9, -0.3, 0.35)]
    pose[:, 1, :3, :3] = rotation_about((0, 0, 1), 0.5)
    half = np.array([[0.5, 0.5, 0.5], [0.4, 0.6, 0.4], [0.3, 0.3, 0.35]])
    colours = np.array([[[0.3, 0.02, 0.02], [0.75, 0.05, 0.04]], [[0.2, 0.1, 0.04], [0.5, 0.3, 0.12]],
                        [[0.02, 0.2, 0.5], [0.05, 0.4, 0.8]]])
    names = [PATTERNS.index(name) for name in ('dots', 'wood', 'stripes')]
    solids = Solids(np.array([ELLIPSOID, BOX, FRUSTUM]), half, np.array([1, 1, 0.0]), np.array([1, 2, 3]),
                    colours, np.array(names),
                    np.full(3, 1.2), np.full(3, 0.4), np.ones(3, bool), pose)
    surfaces = np.array([[0.35, 0.38, 0.4], [0.5, 0.52, 0.55]])[None].repeat(6, 0)
    light = np.array([-0.35, -0.5, 0.79]) / np.linalg.norm([-0.35, -0.5, 0.79])
    faces = np.array([PATTERNS.index(name) for name in ['bricks'] * 4 + ['checker', 'plain']])
    room = Room(np.array([-6.0, -4, 0]), np.array([4.0, 4, 3]), surfaces, faces, np.full(6, 2.5), open_sky,
                np.array([[0.7, 0.8, 0.9], [0.1, 0.3, 0.8]]), light, 0.06, np.array([0.95, 0.9,
                    0.8]), np.array([0.4, 0.42, 0.45]))
    w2c = np.stack([look_at((-4, 0.3 - 0.4 * f, 1.7), (0, 0, 0.5), (0, 0, 1), roll_rad=0.1)
                    for f in range(frames)])
    return Stage(solids, room, np.tile(intrinsics(230.0, 225.0, width * 0.48, height * 0.53), (frames, 1, 1)),
                 w2c, height, width)
assert still_life().height != still_life().width


# %% [markdown]
# ## What does each ray hit?
#
# First the room: a ray leaves a box through the face it reaches first, so every pixel has a background without any test. Under
# an open sky, all faces but the floor count as infinitely far.

# %%
#| export
@dataclass
class Surface:
    "What every ray of a batch hits: geometry, then the numbers that lighting needs. All flat (N,) or (3, N)."
    direction: torch.Tensor       # (3, N) world
    axis: torch.Tensor            # (3, N) one-hot: which pair of room faces
    outward: torch.Tensor         # (N,) speed of the ray towards that face
    depth_m: torch.Tensor         # (N,)
    number: torch.Tensor          # (N,) which solid of which frame, -1 for the room
    instance: torch.Tensor        # (N,)
    albedo: torch.Tensor | None = None
    diffuse: torch.Tensor | None = None
    open_air: torch.Tensor | None = None
    shine: torch.Tensor | None = None


# %%
#| export
def _frame_table(stages: list[Stage], offset: float, device) -> torch.Tensor:
    "Per frame (17, F): origin from the room's middle, ray basis, half room, radians per pixel, open sky."
    tables = []
    for stage in stages:
        room, frames = stage.room, len(stage.w2c)
        columns = [camera_center(stage.w2c) - (room.low_m + room.high_m) / 2,
                   ray_basis(stage, offset).mT.reshape(frames, 9),
                   np.tile((room.high_m - room.low_m) / 2, (frames, 1)), 1 / stage.K[:, 0, :1],
                   np.full((frames, 1), float(room.open_sky))]
        tables.append(np.concatenate(columns, 1))
    return torch.from_numpy(np.concatenate(tables).T.astype(np.float32)).to(device)


# %%
assert _frame_table([still_life(frames=2)], 0.5, 'cpu').shape == (17, 2)


# %%
#| export
def _hit_room(stages: list[Stage], frames: torch.Tensor, size: tuple[int, int], device) -> Surface:
    "Rays of all pixels and the room behind everything; walls and ceiling of an open one are sky (FAR)."
    pixels = frames.shape[1] * size[0] * size[1]
    frames = frames[:, :, None, None]
    i, j = (torch.arange(n, device=device, dtype=torch.float32) for n in size)
    direction = (frames[3:6] + i[:, None] * frames[9:12]) + j * frames[6:9]                  # (3, F, H, W)
    reach = (torch.copysign(frames[12:15], direction) - frames[:3]) / (direction + 1e-12)
    depth = reach.amin(0)
    x, z = (reach[0] == depth).float(), (reach[2] == depth).float()
    axis = torch.stack([x, 1 - x - z, z])
    outward = (axis * direction).sum(0)
    sky = (1 - z * (outward < 0)) * frames[16]
    flat = lambda tensor: tensor.reshape(*tensor.shape[:-3], -1)
    return Surface(flat(direction), flat(axis), flat(outward), flat(depth + sky * FAR),
                   torch.full((pixels,), -1, device=device),
                   torch.zeros(pixels, dtype=torch.int32, device=device))


# %%
stage = still_life()
room_only = _hit_room([stage], _frame_table([stage], 0.5, 'cpu'), (180, 270), 'cpu')
assert (room_only.axis.sum(0) == 1).all() and (room_only.depth_m > 0).all()


# %% [markdown]
# Then the solids. All candidates write into one buffer with "keep the smallest". The number written holds the depth in its
# upper and the candidate's pair in its lower 32 bits, so one integer minimum finds the nearest hit *and* remembers whose it
# is. Integer minima do not depend on the order, so the result is the same on any number of threads.

# %%
#| export
def _hit_solids(surface: Surface,
                groups: list[Candidates]) -> list[tuple[Candidates, torch.Tensor, torch.Tensor]]:
    "Keep the nearest of room and solids at every pixel; returns per kind which candidates won, and their t."
    key = surface.depth_m.view(torch.int32).long() << 32       # positive floats sort like their bits
    hits, base = [], 1  # a tie goes to the room: a miss (FAR) never hides the sky
    for group in groups:
        t = group.hit(group.origin, group.direction)
        mine = (t.view(torch.int32).long() << 32) | group.spread(group.pair_of_row + base)
        key.scatter_reduce_(0, group.pixel, mine, 'amin')
        hits.append((group, t, mine))
        base += group.table.shape[1]
    surface.depth_m = (key >> 32).int().view(torch.float32)
    won = []
    for group, t, mine in hits:
        winner = (mine == key.index_select(0, group.pixel)).nonzero()[:, 0]
        pixel, pair = group.pixel[winner], group.pair_of_row[group.row[winner]]
        surface.number[pixel] = group.integers[NUMBER, pair]
        surface.instance[pixel] = group.integers[INSTANCE, pair].int()
        won.append((group, winner, t[winner]))
    return won


# %%
with torch.inference_mode():
    surface = _hit_room([stage], _frame_table([stage], 0.5, 'cpu'), (180, 270), 'cpu')
    won = _hit_solids(surface, candidates([stage], 0.5, (180, 270), 'cpu'))
figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), dpi=80)
for axis, values, title in zip(axes, (room_only.depth_m, surface.depth_m, surface.instance),
                               ('depth of the room (m)', 'nearest depth (m)', 'instances')):
    shown = axis.imshow(values.reshape(180, 270), cmap='Set2' if title == 'instances' else 'viridis')
    axis.set(title=title, xticks=[], yticks=[])
    if title != 'instances': figure.colorbar(shown, ax=axis, shrink=0.85)
assert (surface.depth_m <= room_only.depth_m).all() and sum(len(winner) for _, winner,
                                                            _ in won) == (surface.number >= 0).sum()

# %% [markdown]
# ## Colour, light and shadow
#
# Colour comes last and only for what is visible. A surface has an albedo (two colours mixed by a pattern), a share of the
# open sky, a share of the sun (Lambert's cosine) and a small highlight. A second set of candidates asks, for every visible
# point, whether a solid stands between it and the light. The lamp has a size: in the corner pass below it shines from four
# places by turns, which softens the edges of shadows.

# %%
#| export
FACES = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64)
# share of the ambient light; ceilings get it back from the floor
OPEN_AIR = np.array([0.75, 0.75, 0.75, 0.75, 1.0, 0.9])


# %% [markdown]
# Light, eye and room are the same for all pixels of a frame. Copying them to every pixel would cost more than the arithmetic;
# a view of the flat arrays by frame lets them be broadcast instead.

# %%
#| export
def _by_frame(values: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    "A view (..., F, pixels) of flat values (..., N), for as many frames as the table (numbers, F) has."
    return values.reshape(*values.shape[:-1], frames.shape[1], -1)


# %%
flat = torch.arange(24.0)
assert torch.equal(_by_frame(flat, torch.zeros(17, 4))[2], flat[12:18])


# %%
#| export
def _paint_room(surface: Surface, stages: list[Stage], frames: torch.Tensor, bank: torch.Tensor) -> None:
    "Albedo, diffuse and open-air factors of the room at every pixel."
    device = bank.device
    clip = torch.cat([torch.full((len(stage.w2c),), n, dtype=torch.int32) for n, stage in enumerate(stages)])
    rows = [np.concatenate([room.colours[:, 0], room.colours[:, 1] - room.colours[:, 0],
                            TEXELS / room.period_m[:, None],
                            (FACES @ room.to_light).clip(0)[:, None], OPEN_AIR[:, None]], 1)
            for room in (stage.room for stage in stages)]
    # (9, 6 clips)
    table = torch.from_numpy(np.concatenate(rows).T.astype(np.float32)).contiguous().to(device)
    patterns = np.concatenate([stage.room.pattern for stage in stages]) * (LEVELS * TEXELS * TEXELS)
    start = torch.from_numpy(patterns.astype(np.int32)).to(device)
    x, _, z = surface.axis
    face = ((1 - x + z) * 2 + (surface.outward > 0).float()).int()
    face = (_by_frame(face, frames) + 6 * clip.to(device)[:, None]).ravel()
    near = torch.minimum(surface.depth_m, torch.tensor(1e3))
    px, py, pz = (frames[:3, :, None] + _by_frame(near * surface.direction, frames)).flatten(1)
    scale = table[6].index_select(0, face)
    spread = (_by_frame(near, frames) * frames[15, :, None]).ravel() * scale
    u, v = (px + x * (py - px)) * scale, (pz + z * (py - pz)) * scale
    value = sample_pattern(bank, start.index_select(0, face), u, v,
                           spread * spread / (surface.outward.abs() + 1e-3))
    surface.albedo = table[:3].index_select(1, face) + value * table[3:6].index_select(1, face)
    surface.diffuse, surface.open_air = table[7].index_select(0, face), table[8].index_select(0, face)
    surface.shine = torch.zeros_like(surface.diffuse)


# %%
#| export
def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / (vectors * vectors).sum(0).sqrt()


# %%
assert torch.allclose(_unit(torch.tensor([[3.0], [0.0], [4.0]])).ravel(), torch.tensor([0.6, 0.0, 0.8]))


# %%
#| export
def _paint_solids(surface: Surface, group: Candidates, winner: torch.Tensor, t: torch.Tensor,
                  bank: torch.Tensor) -> None:
    "The same for the pixels that show solids, plus a highlight (Blinn's half vector to the 16th power)."
    pixel, pair = group.pixel[winner], group.pair_of_row[group.row[winner]]
    table, direction = group.table.index_select(1, pair), group.direction.index_select(1, winner)
    point = table[ORIGIN] + t * direction
    normal = solid_normal(group.kind, point, table[HALF], table[TAPER])
    ray = _unit(direction * table[HALF])
    x, y, z = point * table[HALF]
    size = normal.abs()
    x_faces, z_faces = ((size[k] >= size.amax(0)).float() for k in (0, 2))
    u, v = x + x_faces * (y - x), z + (1 - x_faces) * z_faces * (y - z)
    spread = t * table[PIXEL] * table[SCALE]
    facing = -(ray * normal).sum(0)
    value = sample_pattern(bank, group.integers[PATTERN, pair].int(), u * table[SCALE], v * table[SCALE],
                           spread * spread / (facing + 1e-2))
    towards = (normal * table[SUNWARD]).sum(0)
    shine = (_unit(table[SUNWARD] - ray) * normal).sum(0).clamp(min=0)
    for _ in range(4): shine = shine * shine
    surface.albedo[:, pixel] = table[COLOUR] + value * table[CONTRAST]
    surface.diffuse[pixel] = towards.clamp(min=0)
    surface.open_air[pixel] = 0.75 + 0.25 * (normal * table[UPWARD]).sum(0)
    surface.shine[pixel] = table[GLOSS] * shine * (towards > 0)


# %% [markdown]
# A shadow ray starts at the visible point and runs to the lamp. A solid does not shade itself here: the side turned away
# from the light is dark already, by the cosine, and testing it again would only add speckles from rounding.

# %%
#| export
def _cast_shadows(surface: Surface, groups: list[Candidates], soft: bool) -> None:
    "Switch the sun off where a solid other than the surface's own stands in its way."
    lit = torch.ones_like(surface.diffuse)
    for group in groups:
        point = group.origin + surface.depth_m.index_select(0, group.pixel).clamp(max=1e3) * group.direction
        blocked = group.hit(point, lamp_directions(group, soft)) < FAR / 2
        caster = group.spread(group.integers[NUMBER, group.pair_of_row])
        other = surface.number.index_select(0, group.pixel) != caster
        lit.scatter_reduce_(0, group.pixel, 1 - (blocked & other).float(), 'amin')
    surface.diffuse, surface.shine = surface.diffuse * lit, surface.shine * lit


# %% [markdown]
# The last step is arithmetic on flat arrays: ambient light times the open share of the sky, plus sunlight where nothing is in
# the way, plus the highlight. Pixels without a surface take the sky's gradient, from horizon to zenith.

# %%
#| export
def _light(surface: Surface, stages: list[Stage]) -> torch.Tensor:
    "Linear RGB (3, N) from albedo, ambient light, sun and sky."
    lamps = [np.concatenate([s.room.ambient, s.room.sun, *s.room.sky])[:, None].repeat(len(s.w2c), 1)
             for s in stages]
    lamps = torch.from_numpy(np.concatenate(lamps, 1).astype(np.float32)).to(surface.depth_m.device)
    ambient, sun, horizon, zenith = lamps.reshape(4, 3, -1, 1)
    albedo, open_air, diffuse, shine, depth_m, direction = (_by_frame(values, lamps) for values in (
        surface.albedo, surface.open_air, surface.diffuse, surface.shine, surface.depth_m, surface.direction))
    rgb = albedo * (ambient * open_air + sun * diffuse) + sun * shine
    if any(stage.room.open_sky for stage in stages):
        air = horizon + _unit(direction)[2].clamp(0, 1) * (zenith - horizon)
        rgb = torch.where(depth_m >= FAR, air, rgb)
    return rgb.flatten(1)


# %%
assert np.allclose(np.linalg.norm(FACES, axis=1), 1) and (FACES.sum(0) == 0).all()


# %% [markdown]
# ## Pictures
#
# Depth and instances must be exact at pixel centres; averages of depths would be depths of nothing. Colours, in contrast, should
# be averages over the pixel. Hence two casts: one through the centres, one through the corners, which neighbours share.
# Half the centre plus an eighth of each corner (the quincunx pattern) gives smooth edges for the price of two rays per pixel.

# %%
#| export
def _cast(stages: list[Stage], offset: float, size: tuple[int, int], device) -> tuple[torch.Tensor, ...]:
    "Depth (N,), instance (N,) and linear RGB (3, N) on the grid of rays at (column + offset, row + offset)."
    bank, frames = pattern_bank(str(device)), _frame_table(stages, offset, device)
    surface = _hit_room(stages, frames, size, device)
    won = _hit_solids(surface, candidates(stages, offset, size, device))
    _paint_room(surface, stages, frames, bank)
    for group, winner, t in won: _paint_solids(surface, group, winner, t, bank)
    _cast_shadows(surface, candidates(stages, offset, size, device, casters=True), soft=offset == 0)
    return surface.depth_m, surface.instance, _light(surface, stages)


# %%
#| export
@torch.inference_mode()
def render(stages: list[Stage], device: str = 'cpu',
           smooth: bool = True) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per stage frames uint8 (F, H, W, 3), planar depth float32 (F, H, W), instances int32 (F, H, W).

    All stages must have the same picture size. Depth (inf for sky) and instances are exact at pixel centres;
    `smooth` averages the colours of each centre (weight ½) with its four corners (⅛ each)."""
    height, width = stages[0].height, stages[0].width
    depth, instances, rgb = _cast(stages, 0.5, (height, width), device)
    rgb = rgb.reshape(3, -1, height, width)
    if smooth:
        corner = _cast(stages, 0.0, (height + 1, width + 1), device)[2].reshape(3, -1, height + 1, width + 1)
        sides = corner[..., :-1, :] + corner[..., 1:, :]
        rgb = rgb / 2 + (sides[..., :-1] + sides[..., 1:]) / 8
    frames = (rgb.clamp(0, 1).sqrt() * 255 + 0.5).to(torch.uint8).permute(1, 2, 3,
        0).contiguous().cpu().numpy()
    depth = depth.masked_fill(depth >= FAR, torch.inf).reshape(-1, height, width).cpu().numpy()
    instances = instances.reshape(-1, height, width).cpu().numpy()
    cuts = np.cumsum([len(stage.w2c) for stage in stages])[:-1]
    return list(zip(*(np.split(array, cuts) for array in (frames, depth, instances))))


# %%
pictures = [render([still_life(open_sky)])[0] for open_sky in (False, True)]
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), dpi=80)
for axis, (frames, depth, instances) in zip(axes, pictures):
    axis.imshow(frames[0])
    axis.axis('off')
figure.tight_layout()
assert np.isfinite(pictures[0][1]).all() and np.isinf(pictures[1][1]).any()

# %% [markdown]
# Enlarged: the same part of the picture without and with the corner rays.

# %%
rough, fine = (render([still_life()], smooth=smooth)[0] for smooth in (False, True))
figure, axes = plt.subplots(1, 2, figsize=(7, 2.6), dpi=80)
for axis, (frames, _, _), title in zip(axes, (rough, fine), ('centres only', 'centres and corners')):
    axis.imshow(frames[0, 70:130, 60:150], interpolation='nearest')
    axis.set(title=title, xticks=[], yticks=[])
assert (rough[1] == fine[1]).all() and (rough[2] == fine[2]).all() and (rough[0] != fine[0]).any()

# %% [markdown]
# ## The depth is the depth
#
# A check that knows nothing of ray casting: points on the ball's surface are projected, and where the ball is in front, the depth
# map must say the same. And the bytes of a clip must not depend on what else is in the batch.

# %%
from track4d_ref.cameras import pixel_centers, unproject
mask = fine[2][0] == 1
xyz = unproject(stage.K[0], stage.w2c[0], pixel_centers(180, 270)[mask], fine[1][0][mask].astype(float))
radius = np.linalg.norm(xyz - stage.solids.world_from_solid[0, 0, :3, 3], axis=1)
print(f'{mask.sum()} pixels of the ball: distance from its centre {radius.min():.6f} … {radius.max():.6f} m')
assert np.abs(radius - 0.5).max() < 1e-5

# %%
several = render([still_life(frames=2), still_life(True, frames=3)])
alone = render([still_life(True, frames=3)])[0]
assert all(one.tobytes() == other.tobytes() for one, other in zip(several[1], alone))

# %% [markdown]
# ## What we proved
#
# * unprojected depth lies on the surface to 0.01 mm
# * antialiasing touches colours only
# * batches do not change a byte
#
# ## Try it
#
# 1. Let the lamp's radius grow to 0.3. From which distance do the four copies of a shadow separate?
# 2. Add a mirror: which of the functions above can be called again for the reflected rays?
#
# <details><summary>Solutions</summary>
#
# 1. Two copies separate where their spacing on the ground exceeds the penumbra of one sample. The spacing grows in
#    proportion to radius × distance(occluder, ground) ÷ distance(lamp, occluder); triple the radius and it happens at
#    a third of the distance.
# 2. All of the intersection and shading: only the list of rays is new (origin at the hit, direction mirrored at the
#    normal). Depth and instances must come from the first hit, or the mirror's contents would get 3D places that
#    nobody can touch.
#
# </details>
