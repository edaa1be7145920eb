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
#| export
STEP_S = 0.002

def _geom(label: str, size_m: np.ndarray) -> tuple[str, str]:
    "MJCF mesh asset (or nothing) and geom attributes of the label's first part."
    part, half = SHAPES[label].parts[0], size_m / 2
    if part.kind == ELLIPSOID and half[0] == half[2]: return '', f'type="sphere" size="{half[0]:.9g}"'
    if part.kind == BOX: return '', 'type="box" size="{:.9g} {:.9g} {:.9g}"'.format(*half)
    if part.kind == FRUSTUM and part.taper == 1: return '', f'type="cylinder" size="{half[0]:.9g} {half[2]:.9g}"'
    angle = np.arange(24) * np.pi / 12
    if part.kind == ELLIPSOID: rings = [(np.sin(a), -np.cos(a)) for a in np.linspace(0, np.pi, 13)]
    else: rings = [(1, -1), (part.taper, 1)] if part.axis == 'z' else [(part.taper, -1), (1, 1)]
    points = [half * (r * np.cos(a), r * np.sin(a), z) for r, z in rings for a in angle]
    vertices = ' '.join(f'{value:.9g}' for value in np.ravel(points))
    return f'<mesh name="shape" vertex="{vertices}"/>', 'type="mesh" mesh="shape"'

def _world(label: str, size_m: np.ndarray, count: int) -> str:
    "MJCF of `count` free bodies that touch the floor but not one another."
    asset, geom = _geom(label, size_m)
    body = f'<body><freejoint/><geom {geom} contype="2" conaffinity="1" density="300" friction="0.5 0.01 0.001"/></body>'
    floor = '<geom type="plane" size="0 0 1" contype="1" conaffinity="2" solref="-2000 -8"/>'
    return (f'<mujoco><option timestep="{STEP_S}"/><asset>{asset}</asset>'
            f'<worldbody>{floor}{body * count}</worldbody></mujoco>')


# %%
#| export
def _rotation(quaternion: np.ndarray) -> np.ndarray:
    "Rotations (..., 3, 3) of unit quaternions (..., 4), w first."
    w, x, y, z = np.moveaxis(quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True), -1, 0)
    rows = [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]
    return np.stack([np.stack(row, -1) for row in rows], -2)

def toss(rng: np.random.Generator, times_s: np.ndarray, label: str, size_m: np.ndarray, count: int,
         path_m: tuple[float, float]) -> np.ndarray:
    "Poses (count, T, 4, 4) of things thrown up from 0.5 … 1.5 m with a random spin, by MuJoCo; InputError if it is absent."
    try: import mujoco
    except ImportError: raise InputError("physics='mujoco' needs MuJoCo; pip install 'track4d_ref[physics]'") from None
    model = mujoco.MjModel.from_xml_string(_world(label, size_m, count))
    data = mujoco.MjData(model)
    place, speed = data.qpos.reshape(count, 7), data.qvel.reshape(count, 6)
    course = rng.uniform(-np.pi, np.pi, count)
    place[:, :2] = np.stack(np.unravel_index(np.arange(count), (8, -(-count // 8))), 1) * 10.0
    place[:, 2] = np.linalg.norm(size_m) / 2 + rng.uniform(0.5, 1.5, count)
    quaternion = rng.normal(size=(count, 4))
    place[:, 3:] = quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
    speed[:, :2] = rng.uniform(*path_m, (count, 1)) / (times_s[-1] - times_s[0]) * np.stack([np.cos(course), np.sin(course)], 1)
    speed[:, 2], speed[:, 3:] = rng.uniform(2.0, 4.0, count), rng.normal(size=(count, 3)) * 2.5
    poses = np.empty((count, len(times_s), 4, 4))
    for frame, time_s in enumerate(times_s - times_s[0]):
        while data.time < time_s - STEP_S / 2: mujoco.mj_step(model, data)
        poses[:, frame] = pose_from(_rotation(place[:, 3:]), place[:, :3])
    return poses
