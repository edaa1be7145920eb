# %% [markdown]
# # Physics
# > Tossed things that hit the floor as real ones do: MuJoCo, when the extra `physics` is installed.

# %%
#| default_exp physics

# %% [markdown]
# * **What** rigid bodies thrown into the air, with contact, friction and tumbling
# * **Why** Kubric's clips, the papers' simulated source, are physics simulations of falling things
# * **Paper** 4DP-QA Table 1 (Kubric); the engine is MuJoCo instead of PyBullet **[ours]**
# * **Needs** numpy; mujoco for all but the first section
# * **Time** 10 seconds
# * **Before this** `03d_programs`, `03e_shapes`

# %%
#| export
import numpy as np

from track4d_ref.cameras import pose_from
from track4d_ref.shapes import SHAPES
from track4d_ref.solids import BOX, ELLIPSOID, FRUSTUM
from track4d_ref.storage import InputError

# %%
import matplotlib.pyplot as plt
import importlib.util

installed = importlib.util.find_spec('mujoco') is not None
times_s = np.linspace(0, 2, 41)

# %% [markdown]
# ## A description MuJoCo understands
#
# MuJoCo reads scenes as XML. Spheres, boxes and cylinders are its own shapes; cones and eggs become convex meshes of our vertices.
# All proposals of one thing fly in one world, but touch only the floor: bit masks switch contacts between them off.

# %%
#| export
STEP_S = 0.001

def _geom(label: str, size_m: np.ndarray) -> tuple[str, str]:
    "MJCF mesh asset (or nothing) and geom attributes of the label's first part."
    part, half = SHAPES[label].parts[0], size_m / 2
    if part.kind == ELLIPSOID and half[0] == half[2]: return '', f'type="sphere" size="{half[0]:.9g}"'
    if part.kind == BOX: return '', 'type="box" size="{:.9g} {:.9g} {:.9g}"'.format(*half)
    if part.kind == FRUSTUM and part.taper == 1:
        return '', f'type="cylinder" size="{half[0]:.9g} {half[2]:.9g}"'
    angle = np.arange(24) * np.pi / 12
    if part.kind == ELLIPSOID: rings = [(np.sin(a), -np.cos(a)) for a in np.linspace(0, np.pi, 13)]
    else: rings = [(1, -1), (part.taper, 1)] if part.axis == 'z' else [(part.taper, -1), (1, 1)]
    points = [half * (r * np.cos(a), r * np.sin(a), z) for r, z in rings for a in angle]
    vertices = ' '.join(f'{value:.9g}' for value in np.ravel(points))
    return f'<mesh name="shape" vertex="{vertices}"/>', 'type="mesh" mesh="shape"'

def _world(label: str, size_m: np.ndarray, count: int) -> str:
    "MJCF of `count` free bodies that touch the floor but not one another."
    asset, geom = _geom(label, size_m)
    contact = 'contype="2" conaffinity="1" density="300" friction="0.5 0.01 0.001"'
    body = f'<body><freejoint/><geom {geom} {contact}/></body>'
    floor = '<geom type="plane" size="0 0 1" contype="1" conaffinity="2" solref="-100000 -100"/>'
    return (f'<mujoco><option timestep="{STEP_S}"/><asset>{asset}</asset>'
            f'<worldbody>{floor}{body * count}</worldbody></mujoco>')


# %%
assert 'sphere' in _geom('ball', np.full(3, 0.5))[1] and _geom('cone', np.full(3, 0.5))[0].startswith('<mesh')
assert _world('box', np.full(3, 0.5), 7).count('<freejoint/>') == 7


# %% [markdown]
# ## Throwing
#
# The state is written once, then the engine steps at 1 ms and poses are read at the frames' times. Without MuJoCo the function
# says which extra to install; the rest of the simulator keeps its own parabolas.

# %%
#| export
def _rotation(quaternion: np.ndarray) -> np.ndarray:
    "Rotations (..., 3, 3) of unit quaternions (..., 4), w first."
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    rows = [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


# %%
#| export
def toss(rng: np.random.Generator, times_s: np.ndarray, label: str, size_m: np.ndarray, count: int,
         path_m: tuple[float, float]) -> np.ndarray:
    """Poses (count, T, 4, 4) of things thrown up from 0.5 … 1.5 m with a random spin, by MuJoCo;
    InputError if it is absent."""
    try: import mujoco
    except ImportError:
        raise InputError("physics='mujoco' needs MuJoCo; pip install 'track4d_ref[physics]'") from None
    model = mujoco.MjModel.from_xml_string(_world(label, size_m, count))
    data = mujoco.MjData(model)
    place, speed = data.qpos.reshape(count, 7), data.qvel.reshape(count, 6)
    course = rng.uniform(-np.pi, np.pi, count)
    place[:, :2] = np.stack(np.unravel_index(np.arange(count), (8, -(-count // 8))), 1) * 10.0
    place[:, 2] = np.linalg.norm(size_m) / 2 + rng.uniform(0.5, 1.5, count)
    quaternion = rng.normal(size=(count, 4))
    place[:, 3:] = quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
    speed[:, :2] = rng.uniform(*path_m, (count, 1)) / (times_s[-1] - times_s[0]) * np.stack([np.cos(course),
        np.sin(course)], 1)
    speed[:, 2], speed[:, 3:] = rng.uniform(2.0, 4.0, count), rng.normal(size=(count, 3)) * 2.5
    poses = np.empty((count, len(times_s), 4, 4))
    for frame, time_s in enumerate(times_s - times_s[0]):
        while data.time < time_s - STEP_S / 2: mujoco.mj_step(model, data)
        poses[:, frame] = pose_from(_rotation(place[:, 3:]), place[:, :3])
    return poses


# %%
quarter = _rotation(np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)]))
assert np.allclose(quarter @ (1, 0, 0), (0, 1, 0))                               # 90° about z

# %%
from track4d_ref.programs import bounce
if installed:
    poses = {label: toss(np.random.default_rng(0), times_s, label, np.full(3, 0.5), 3, (1.0, 2.0))
             for label in ('ball', 'box', 'cone')}
else: poses = {'ball (parabolas, without MuJoCo)': np.tile(np.eye(4), (3, 41, 1, 1))}
if not installed: poses[next(iter(poses))][..., 2, 3] = 0.25 + bounce(times_s, np.array([2.0, 3, 4]),
                                                                      np.array([0.5, 1, 1.5]))
figure, axes = plt.subplots(1, len(poses), figsize=(3.2 * len(poses), 2.4), dpi=90, squeeze=False)
for axis, (label, runs) in zip(axes[0], poses.items()):
    axis.plot(times_s, runs[..., 2, 3].T)
    axis.set(title=label, xlabel='time (s)')
axes[0, 0].set_ylabel('height (m)')
assert all(runs[..., 2, 3].min() > 0.1 for runs in poses.values())

# %% [markdown]
# ## What contact changes
#
# Real contacts differ from parabolas where it matters for questions about rotation: a box that lands on an edge starts to spin.
# The angle through which each thing has turned:

# %%
figure, axis = plt.subplots(figsize=(5, 2.3), dpi=90)
for label, runs in poses.items():
    relative = runs[0, :1, :3, :3].mT @ runs[0, :, :3, :3]
    axis.plot(times_s, np.degrees(np.arccos(((np.trace(relative, axis1=1, axis2=2) - 1) / 2).clip(-1, 1))),
              label=label)
axis.set(xlabel='time (s)', ylabel='turned by (°)')
axis.legend(fontsize=7)
assert all(np.allclose(runs[..., :3, :3] @ runs[..., :3, :3].mT, np.eye(3)) for runs in poses.values())

# %% [markdown]
# Seen from the side, the path of the first run of each:

# %%
figure, axis = plt.subplots(figsize=(5, 2.3), dpi=90)
for label, runs in poses.items():
    ground = np.linalg.norm(runs[0, :, :2, 3] - runs[0, 0, :2, 3], axis=-1)
    axis.plot(ground, runs[0, :, 2, 3], 'o-', ms=2, label=label)
axis.set(xlabel='along the ground (m)', ylabel='height (m)', aspect='equal')
axis.legend(fontsize=7)
assert all(np.isfinite(runs).all() for runs in poses.values())

# %% [markdown]
# ## What we proved
#
# * poses are rigid and stay above the floor
# * the same seed gives the same flights, with or without other things beside them
#
# ## Try it
#
# 1. Let the proposals collide. Which part of the scene's rules would have to move into the engine?
# 2. Change the floor's `solref` until a ball keeps 60 % of its speed, like `bounce`.
#
# <details><summary>Solutions</summary>
#
# 1. Everything in `proposals` that assumes an object's path is known before the others are placed: with collisions
#    the paths depend on each other, so the rules must judge the whole simulated scene and reject it as one.
# 2. Drop a ball, measure the speed just before and after the impact from the positions, and search over `solref`'s
#    damping ratio. It depends on mass and step length too, so repeat it at the step you use.
#
# </details>
