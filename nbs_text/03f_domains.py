# %% [markdown]
# # Domains
# > Five kinds of world: open ground, driving, indoor, tossed things, and one that is held out for transfer.

# %%
#| default_exp domains

# %% [markdown]
# * **What** what differs between sources: things, rooms, textures, light, camera height and habits
# * **Why** the papers train on five sources and test transfer; a model must not learn one look
# * **Paper** 4DP-QA Table 1 (driving, indoor egocentric, simulation); the domains are **[ours]**
# * **Needs** numpy
# * **Time** 10 seconds
# * **Before this** `03b_stages`, `03d_programs`, `03e_shapes`

# %%
#| export
from dataclasses import dataclass

import numpy as np

from track4d_ref.programs import ROTATIONS, TRANSLATIONS
from track4d_ref.shapes import linear
from track4d_ref.solids import BOX, ELLIPSOID, FRUSTUM
from track4d_ref.stages import Room
from track4d_ref.textures import PATTERNS

# %%
import matplotlib.pyplot as plt
import torch
from track4d_ref.cameras import intrinsics, look_at
from track4d_ref.raycasting import render
from track4d_ref.stages import Solids, Stage

# %%
torch.set_num_threads(1)                     # small pictures: threads would wait for each other

# %% [markdown]
# ## What a domain fixes
#
# A domain is a table row of ranges. The held-out one shares nothing visible with the others: other things, other patterns,
# colder light, a narrower lens, a higher camera.

# %%
#| export
SIMPLE = ('static', 'static', *TRANSLATIONS, *ROTATIONS, 'orbit_left', 'orbit_right')
MIXED = ('forward+pan_left', 'forward+pan_right', 'left+pan_right', 'right+pan_left', 'up+tilt_down',
         'down+tilt_up',
         'forward+left', 'forward+right', 'backward+up')

MOVES = ('static', 'straight', 'straight', 'curved', 'accelerating', 'turning_left', 'turning_right',
         'spinning_left',
         'spinning_right')


# %% [markdown]
# Habits belong to a source as much as looks do. A car's camera mostly moves forward and pans with the road; a hand-held one
# trembles; a tripod pans, tilts and rolls. A model that learns from one source alone learns its habits as if they were laws,
# and fails on the next source. So each row below also fixes which camera and object programs occur, how often (repeated names
# are drawn more often), and how far things travel in a clip.

# %%
#| export
@dataclass(frozen=True)
class Domain:
    "Ranges (low, high) and choices from which a clip of this domain is drawn."
    labels: tuple[str, ...]
    half_room_m: tuple[tuple[float, float], tuple[float, float]]     # along x and y
    height_m: tuple[float, float]                                    # of the room
    open_sky: bool
    floors: tuple[str, ...]
    walls: tuple[str, ...]
    eye_m: tuple[float, float]                                       # camera height
    pitch_deg: tuple[float, float]
    fov_deg: tuple[float, float]                                     # horizontal
    distance_m: tuple[float, float]                                  # from the camera to the middle of things
    camera_programs: tuple[str, ...] = SIMPLE + MIXED
    object_programs: tuple[str, ...] = MOVES
    path_m: tuple[float, float] = (1.3, 2.7)                         # that a moving object covers in the clip
    size_scale: float = 1.0
    yaw_deg: float = 180.0                                           # view directions, ± from world x
    sun_deg: tuple[float, float] = (40, 65)                          # height of the light
    warmth: tuple[float, float] = (-0.05, 0.12)
    scenery: str = 'none'
    ring_deg: float = 360.0  # over which the cameras of a ring are spread


# %%
assert not set(SIMPLE) & set(MIXED) and len(set(MOVES)) == 8

# %%
#| export
THINGS = ('ball', 'box', 'cylinder', 'cone', 'car', 'person')

# %%
#| export
DOMAINS = {
    'open': Domain(THINGS, ((14, 20), (14, 20)), (8, 8), True,
                   floors=('checker', 'tiles', 'clouds', 'speckle', 'wood', 'bricks'), walls=('plain',),
                   eye_m=(1.4, 2.2), pitch_deg=(-20, -11), fov_deg=(56, 70), distance_m=(3.8, 5.4)),
    'driving': Domain(('car', 'car', 'car', 'person', 'box', 'cone'), ((60, 60), (60, 60)), (20, 20), True,
                      floors=('clouds', 'speckle'), walls=('plain',),
                      eye_m=(1.8, 2.4), pitch_deg=(-13, -8), fov_deg=(58, 72), distance_m=(7.5, 10.5),
                      camera_programs=('forward', 'forward', 'forward', 'static', 'backward', 'forward+pan_left',
                                       'forward+pan_right', 'pan_left', 'pan_right', 'follow', 'right', 'left'),
                      object_programs=('static', 'straight', 'straight', 'accelerating', 'turning_left',
                                       'turning_right', 'curved'),
                      path_m=(3.5, 8.0), size_scale=1.8, yaw_deg=12.0, sun_deg=(35, 60), warmth=(-0.08, 0.1),
                      scenery='street', ring_deg=40.0),
}

# %% [markdown]
# Indoors the camera is in somebody's hand, so every program trembles. Where things are tossed, the view is level and the
# ceiling high. The last row is the held-out one.

# %%
#| export
DOMAINS |= {
    'indoor': Domain(('ball', 'box', 'cylinder', 'person', 'cone'), ((5.0, 6.5), (5.0, 6.5)), (2.7, 3.3), False,
                     floors=('wood', 'wood', 'tiles', 'speckle', 'checker'),
                     walls=('speckle', 'bricks', 'clouds', 'stripes', 'tiles'),
                     eye_m=(1.45, 1.75), pitch_deg=(-22, -12), fov_deg=(65, 80), distance_m=(3.6, 4.6),
                     camera_programs=tuple(f'{name}+handheld' for name in SIMPLE + MIXED),
                     path_m=(1.0, 2.0), size_scale=0.7, sun_deg=(50, 70), warmth=(0.02, 0.16), scenery='furniture'),
    'tossed': Domain(('ball', 'ball', 'box', 'cylinder', 'cone'), ((6, 8), (6, 8)), (5, 6), False,
                     floors=('tiles', 'clouds', 'checker'), walls=('clouds', 'speckle', 'stripes'),
                     eye_m=(1.3, 1.9), pitch_deg=(-10, -3), fov_deg=(55, 70), distance_m=(4.0, 5.5),
                     camera_programs=SIMPLE, path_m=(0.9, 2.8), size_scale=0.8,
                     object_programs=('tossed', 'tossed', 'static', 'straight', 'spinning_left', 'spinning_right')),
    'heldout': Domain(('egg', 'bucket', 'plank', 'lamp', 'truck', 'robot'), ((9, 12), (7, 10)), (4, 5), False,
                      floors=('zigzag', 'terrazzo', 'dots'), walls=('zigzag', 'windows', 'terrazzo'),
                      eye_m=(2.3, 3.1), pitch_deg=(-30, -20), fov_deg=(48, 56), distance_m=(6.0, 7.5),
                      camera_programs=MIXED + ('orbit_left', 'orbit_right', 'follow', 'left', 'right', 'backward',
                                               'static', 'roll_clockwise', 'roll_counterclockwise'),
                      path_m=(1.4, 3.0), size_scale=1.1, sun_deg=(55, 75), warmth=(-0.16, -0.06)),
}

# %%
seen = [domain for name, domain in DOMAINS.items() if name != 'heldout']
hidden = DOMAINS['heldout']
assert not any(set(hidden.labels) & set(domain.labels) or set(hidden.floors) & set(domain.floors)
               for domain in seen)
assert all(hidden.fov_deg[0] < domain.fov_deg[0] for domain in seen)

# %% [markdown]
# ## Rooms and light
#
# Colours are muted so that the named, saturated colours of things stand out. Materials keep their own: wood is brown.

# %%
#| export
FLOOR_COLOURS = {'wood': ((0.36, 0.22, 0.12), (0.74, 0.53, 0.33)),
                 'bricks': ((0.62, 0.6, 0.56), (0.66, 0.4, 0.32)),
                 'clouds': ((0.32, 0.42, 0.26), (0.56, 0.6, 0.42)), 'speckle': ((0.4, 0.4, 0.42),
                     (0.62, 0.61, 0.6))}

def _surface_colours(rng: np.random.Generator, pattern: str, floor: bool) -> np.ndarray:
    """Two muted linear colours (2, 3): a material's own where it has them, else a pastel and its darker
    neighbour."""
    if floor and pattern in FLOOR_COLOURS: pair = np.array(FLOOR_COLOURS[pattern]) + rng.uniform(-0.06, 0.06,
        (1, 3))
    else:
        light = rng.uniform(0.5, 0.74) + rng.uniform(-0.06, 0.06, 3)
        pair = np.stack([light - rng.uniform(0.14, 0.3), light])
    return linear(*pair.clip(0.03, 0.97).ravel()).reshape(2, 3)


# %% [markdown]
# The light comes from one direction, with a warm or a cold tint and a complementary tint in the shade, as outdoors. Its height
# is limited: a low sun would throw shadows across the whole floor. Patterns repeat every two to four metres on the floor, so a
# step of the camera is a visible fraction of a period, and two periods cannot be mistaken for one.

# %%
#| export
def sample_room(rng: np.random.Generator, domain: Domain) -> Room:
    "A room of this domain with its floor at z = 0, its surfaces and its light."
    half_x, half_y = (rng.uniform(*limits) for limits in domain.half_room_m)
    names = [rng.choice(domain.walls)] * 4 + [rng.choice(domain.floors), 'plain']
    wall, floor, ceiling = (_surface_colours(rng, names[k], k == 4) for k in (0, 4, 5))
    sun_angle, azimuth = np.radians(rng.uniform(*domain.sun_deg)), rng.uniform(-np.pi, np.pi)
    to_light = np.array([np.cos(sun_angle) * np.cos(azimuth), np.cos(sun_angle) * np.sin(azimuth),
                         np.sin(sun_angle)])
    warmth, strength = rng.uniform(*domain.warmth), rng.uniform(0.75, 0.95)
    blue = rng.uniform(0.7, 0.95)
    return Room(np.array([-half_x, -half_y, 0]), np.array([half_x, half_y, rng.uniform(*domain.height_m)]),
                np.stack([wall] * 4 + [floor, ceiling * 0.3 + 0.65]), np.array([PATTERNS.index(name)
                    for name in names]),
                np.array([rng.uniform(1.5, 3.0)] * 4 + [rng.uniform(2.0, 4.0), 2.0]), domain.open_sky,
                np.array([linear(0.84, 0.89, 0.94),
                          linear(0.35 * blue, 0.6 * blue,
                                 blue)]), to_light, 0.02 if domain.open_sky else 0.06,
                strength * np.array([1 + warmth, 1, 1 - warmth]), 0.5 * np.array([1 - warmth / 2, 1,
                    1 + warmth / 2]))


# %%
figure, axes = plt.subplots(2, 6, figsize=(9, 2.2), dpi=80)
for column, axis in enumerate(axes.T):
    room = sample_room(np.random.default_rng(column), DOMAINS['indoor'])
    for row, face in ((0, 0), (1, 4)):
        axis[row].imshow(np.sqrt(room.colours[face])[None])
        axis[row].set(xticks=[], yticks=[], title=PATTERNS[room.pattern[face]])
assert np.isclose(np.linalg.norm(room.to_light), 1) and (room.colours < 1).all()


# %% [markdown]
# ## Scenery
#
# Streets need a road, houses and trees; rooms need shelves and a rug. They are still, belong to the background (instance 0), and
# give the camera's motion parallax to show against.

# %%
#| export
@dataclass(frozen=True)
class Prop:
    "A piece of scenery: one still solid with instance 0."
    kind: int
    centre_m: tuple[float, float, float]
    half_m: tuple[float, float, float]
    colours: np.ndarray
    pattern: str = 'plain'
    period_m: float = 2.0
    taper: float = 1.0


# %% [markdown]
# A street is drawn along world x, and the camera looks along it within twelve degrees. Houses stand far enough away that a
# turning car does not touch them; trees stand between. Each dash of the middle line is a solid of its own, one centimetre high.

# %%
#| export
def _street(rng: np.random.Generator, room: Room) -> list[Prop]:
    "A road along x with a dashed middle line, houses on both sides and trees between."
    road = rng.uniform(4.5, 5.5)
    grey, line = linear(0.3, 0.3, 0.32, 0.42, 0.42, 0.43).reshape(2,
                                                                  3), np.stack([linear(0.92, 0.9, 0.8)] * 2)
    props = [Prop(BOX, (0, 0, 0.005), (60, road, 0.005), grey, 'speckle', 2.0)]
    props += [Prop(BOX, (x, 0, 0.015), (1.2, 0.09, 0.005), line) for x in range(-28, 32, 5)]
    for side in (-1, 1):
        for x in range(-40, 41, 16):
            half = rng.uniform((5, 3, 2.5), (7.5, 4, 5))
            wall = rng.uniform(0.45, 0.8) + rng.uniform(-0.12, 0.12, 3)
            colours = np.stack([linear(*wall.clip(0.1, 0.95)), linear(0.25, 0.32, 0.4)])
            props.append(Prop(BOX, (x + rng.uniform(-1, 1), side * (road + 6 + half[1]), half[2]),
                              tuple(half), colours, 'windows', 6.0))
            y, height = side * (road + rng.uniform(2.0, 3.5)), rng.uniform(1.2, 1.8)
            leaf = np.stack([linear(0.12, 0.3, 0.1), linear(0.3, 0.5, 0.18)])
            trunk = np.stack([linear(0.3, 0.2, 0.12)] * 2)
            props.append(Prop(FRUSTUM, (x + 7, y, height / 2), (0.16, 0.16, height / 2), trunk))
            props.append(Prop(ELLIPSOID, (x + 7, y, height + 1.0), (1.2, 1.2, 1.3), leaf, 'speckle', 3.0))
    return props


# %% [markdown]
# A room gets one piece of furniture per wall and a rug in the middle. Both are plain boxes with wood or woven patterns: the aim
# is parallax at several depths, not an inventory.

# %%
#| export
def _furniture(rng: np.random.Generator, room: Room) -> list[Prop]:
    "Shelves, tables' blocks and a rug along the walls."
    props = []
    for side in range(4):
        low, high, along = room.low_m, room.high_m, rng.uniform(-2.0, 2.0)
        half = rng.uniform((0.6, 0.2, 0.4), (1.1, 0.3, 1.0))
        if side < 2: centre, half = ((low, high)[side][0] * 0.94, along), half[[1, 0, 2]]
        else: centre = (along, (low, high)[side - 2][1] * 0.94)
        tone = rng.uniform(0.7, 1.1)
        colours = linear(*(np.array([0.42, 0.3, 0.2, 0.66, 0.5, 0.36]) * tone).clip(0, 1)).reshape(2, 3)
        props.append(Prop(BOX, (*centre, half[2]), tuple(half), colours, 'wood', 1.6))
    rug = linear(*rng.uniform(0.25, 0.7, 6)).reshape(2, 3)
    props.append(Prop(BOX, (0, 0, 0.01), (1.6, 1.1, 0.01), rug,
                      str(rng.choice(['zigzag', 'stripes', 'dots'])), 1.2))
    return props


# %% [markdown]
# One function chooses. A new domain adds a word here and a function above; nothing else in the simulator has to know.

# %%
#| export
def sample_scenery(rng: np.random.Generator, domain: Domain, room: Room) -> list[Prop]:
    "The still solids of a clip of this domain."
    return {'street': _street, 'furniture': _furniture, 'none': lambda rng, room: []}[domain.scenery](rng,
        room)


# %%
def empty_world(name, seed):
    "A domain without things, from its usual camera height."
    rng, domain = np.random.default_rng(seed), DOMAINS[name]
    room = sample_room(rng, domain)
    props = sample_scenery(rng, domain, room) or [Prop(BOX, (0, 0, -1), (0.1, 0.1, 0.1), np.zeros((2, 3)))]
    pose = np.tile(np.eye(4), (1, len(props), 1, 1))
    pose[0, :, :3, 3] = [prop.centre_m for prop in props]
    rows = [(prop.kind, prop.half_m, prop.taper, 0, prop.colours, PATTERNS.index(prop.pattern), prop.period_m,
             0.0,
             prop.half_m[2] > 0.1) for prop in props]
    solids = Solids(*(np.array(column) for column in zip(*rows)), pose)
    w2c = look_at((-domain.distance_m[0], 0, domain.eye_m[0]), (0, 0.5, 0.6), (0, 0, 1))[None]
    focal = 100 / np.tan(np.radians(np.mean(domain.fov_deg) / 2))
    return render([Stage(solids, room, intrinsics(focal, focal, 100, 70)[None], w2c, 140, 200)])[0]


# %%
figure, axes = plt.subplots(2, 5, figsize=(10.5, 3.1), dpi=50)
for column, name in enumerate(DOMAINS):
    for row in (0, 1):
        axes[row, column].imshow(empty_world(name, row + 3)[0][0])
        axes[row, column].set(xticks=[], yticks=[], title=name if row == 0 else '')
figure.tight_layout()
assert np.isinf(empty_world('driving', 3)[1]).any() and np.isfinite(empty_world('indoor', 3)[1]).all()

# %% [markdown]
# How far one sees differs too, and with it the scale of everything a question calls near or far:

# %%
figure, axis = plt.subplots(figsize=(5.5, 2.4), dpi=90)
medians = {}
for name in DOMAINS:
    depth = np.concatenate([empty_world(name, seed)[1].ravel() for seed in range(3)])
    medians[name] = np.median(depth)
    axis.hist(depth[np.isfinite(depth)], bins=np.geomspace(1, 60, 40), histtype='step', label=name,
              density=True)
axis.set(xscale='log', xlabel='depth (m)', ylabel='density')
axis.legend(fontsize=7)
assert medians['driving'] > medians['indoor']

# %% [markdown]
# ## What we proved
#
# * the held-out domain shares neither labels nor floor patterns with the others
# * open domains have a sky, closed ones end at their walls
# * the scale of depth differs between domains
#
# ## Try it
#
# 1. Add a domain "harbour" with water, cranes and gulls.
# 2. Which of the held-out domain's differences hurts a trained model most? Make five domains that differ in one thing each.
#
# <details><summary>Solutions</summary>
#
# 1. A domain is a record: sky, ground, stage, the kinds of objects and the camera programs that make sense. Copy
#    `open`, exchange the parts, draw twenty clips and look for frames that nobody could answer about.
# 2. Train one model, evaluate on five versions of the domain that differ in one factor each (texture, light, shapes,
#    motion, camera). With few clips the intervals overlap; say so instead of ranking them.
#
# </details>
