# %% [markdown]
# # Programs
# > How cameras and objects move: each motion has a name, a size that shows, and exact poses.

# %%
#| default_exp programs

# %% [markdown]
# #| export
# A camera program is a rigid motion relative to the first camera: translation along its axes (x right, y down, z forward)
# and the rotation R_y(pan) R_x(tilt) R_z(roll); positive pan is to the right, tilt up, roll clockwise. Object programs drive
# (speed along a heading, turn rate), spin or toss; headings are counterclockwise from world x, z is up.

# %% [markdown]
# * **What** programs with names for cameras and objects, written as functions of time
# * **Why** a clip that is known to hold "pan left" or "turning right" can be asked about, balanced and checked
# * **Paper** 4DP-QA Table of question types (1: camera movement; 3–6: object motion); the programs are **[ours]**
# * **Needs** numpy
# * **Time** 10 seconds
# * **Before this** `01_cameras`

# %%
#| export
import numpy as np

from track4d_ref.cameras import pose_from
from track4d_ref.storage import InputError

# %%
import matplotlib.pyplot as plt
from track4d_ref.cameras import camera_center, look_at

# %% [markdown]
# ## The vocabulary
#
# The words are those of 4DP-QA's questions. Six translations and six rotations are pure; `orbit`, `follow` and `handheld` are
# mixtures with a name, and any of them can be added with `+`. Everything is relative to the *first camera*, as the questions are.

# %%
#| export
TRANSLATIONS = {'left': (-1, 0, 0), 'right': (1, 0, 0), 'up': (0, -1, 0), 'down': (0, 1, 0),
                'forward': (0, 0, 1), 'backward': (0, 0, -1)}  # in the first camera's axes
ROTATIONS = {'pan_left': (-1, 0, 0), 'pan_right': (1, 0, 0), 'tilt_up': (0, 1, 0), 'tilt_down': (0, -1, 0),
             'roll_clockwise': (0, 0, 1), 'roll_counterclockwise': (0, 0, -1)}       # (pan, tilt, roll)
CAMERA_PROGRAMS = ('static', *TRANSLATIONS, *ROTATIONS, 'orbit_left', 'orbit_right', 'follow', 'handheld')
OBJECT_PROGRAMS = ('static', 'straight', 'curved', 'accelerating', 'turning_left', 'turning_right',
                   'reversing',
                   'spinning_left', 'spinning_right', 'tossed')

# %%
assert all(np.sum(np.abs(axis)) == 1 for axis in (TRANSLATIONS | ROTATIONS).values())


# %% [markdown]
# ## Camera motion
#
# A rotation is R_y(pan) R_x(tilt) R_z(roll): its columns are the axes of the camera at t, seen in the first camera. The signs are
# chosen so that positive means right, up and clockwise; the assertion below says so with the axes themselves.

# %%
#| export
def camera_rotation(pan_rad, tilt_rad, roll_rad) -> np.ndarray:
    """R_y(pan) R_x(tilt) R_z(roll), (T, 3, 3), from angles (T,): axes of the camera at t in the first
    camera's."""
    cp, sp, ct, st, cr, sr = (f(a) for a in np.broadcast_arrays(pan_rad, tilt_rad, roll_rad)
                              for f in (np.cos, np.sin))
    matrix = [[cp * cr + sp * st * sr, -cp * sr + sp * st * cr, sp * ct],
              [ct * sr, ct * cr, -st],
              [-sp * cr + cp * st * sr, sp * sr + cp * st * cr, cp * ct]]
    return np.stack([np.stack(row, -1) for row in matrix], -2)

def turn_about(axis: np.ndarray, angle_rad: np.ndarray) -> np.ndarray:
    "Rotations (..., 3, 3) about unit axes (..., 3) by angles (...,), right-handed (Rodrigues' formula)."
    x, y, z = np.moveaxis(np.broadcast_to(axis, (*np.shape(angle_rad), 3)), -1, 0)
    zero = 0 * x
    cross = np.stack([np.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))], -2)
    sine, cosine = np.sin(angle_rad)[..., None, None], np.cos(angle_rad)[..., None, None]
    return np.eye(3) + sine * cross + (1 - cosine) * cross @ cross


# %%
pan, tilt, roll = (camera_rotation(*np.radians(angles)) for angles in ([20, 0, 0], [0, 20, 0], [0, 0, 20]))
# forward goes right; forward goes up; right goes down
assert pan[0, 2] > 0 and tilt[1, 2] < 0 and roll[1, 0] > 0
assert np.allclose(turn_about(np.array([0, 1.0, 0]), np.radians(20)), pan)


# %% [markdown]
# How far is far enough? A translation covers 20 to 35 % of the distance to the scene and a rotation 20 to 40 degrees (tilt 60 % of
# that): several times the thresholds below which a label would be uncertain. Orbits turn around a point straight ahead.

# %%
#| export
def _handheld(rng: np.random.Generator, times_s: np.ndarray,
              strength: float) -> tuple[np.ndarray, np.ndarray]:
    "Shake: position (T, 3) in metres and angles (T, 3) in radians, two waves each, zero at the first frame."
    rate_hz, phase = rng.uniform(0.6, 1.8, (2, 6)), rng.uniform(0, 2 * np.pi, (2, 6))
    waves = np.sin(2 * np.pi * rate_hz * times_s[:, None, None] + phase).sum(1) / 2          # (T, 6)
    waves = (waves - waves[0]) * strength
    return waves[:, :3] * 0.02, waves[:, 3:] * np.radians(0.5)


# %%
#| export
def camera_motion(rng: np.random.Generator, program: str, times_s: np.ndarray, first_w2c: np.ndarray,
                  up: np.ndarray, distance_m: float, target_m: np.ndarray | None = None) -> np.ndarray:
    """`w2c` (T, 4, 4) of a camera that starts at `first_w2c` (4, 4) and runs e.g. 'forward+pan_left'.

    `distance_m` sets the size of translations and the centre of orbits; `target_m` (T, 3) is followed."""
    shift, angles, part = np.zeros((len(times_s), 3)), np.zeros((len(times_s), 3)), _progress(rng, times_s)
    turn = np.broadcast_to(np.eye(3), (len(times_s), 3, 3))
    for name in program.split('+'):
        if name in TRANSLATIONS:
            shift += np.outer(part, TRANSLATIONS[name]) * distance_m * rng.uniform(0.2, 0.35)
        elif name in ROTATIONS:
            most = np.radians(rng.uniform(20, 40))
            angles += np.outer(part, ROTATIONS[name]) * (most * 0.6 if name.startswith('tilt') else most)
        elif name in ('orbit_left', 'orbit_right'):
            sign, pivot = (1 if name == 'orbit_right' else -1), np.array([0, 0, distance_m])
            turn = turn_about(first_w2c[:3, :3] @ up, sign * part * np.radians(rng.uniform(30, 60)))
            shift = shift + pivot - turn @ pivot
        elif name == 'follow':
            if target_m is None: raise InputError("camera program 'follow' needs a moving object to follow")
            shift += (target_m - target_m[0]) @ first_w2c[:3, :3].T
        elif name == 'handheld':
            shake_m, shake_rad = _handheld(rng, times_s, rng.uniform(0.7, 1.3))
            shift, angles = shift + shake_m, angles + shake_rad
        elif name != 'static':
            raise InputError(f'camera program {name!r} does not exist; see CAMERA_PROGRAMS')
    rotation = turn @ camera_rotation(*angles.T)  # camera t in camera 0
    move = pose_from(rotation.mT, -(rotation.mT @ shift[..., None])[..., 0])
    return move @ first_w2c


# %%
#| export
def _progress(rng: np.random.Generator, times_s: np.ndarray) -> np.ndarray:
    "From 0 to 1 over the clip (T,), between uniform and gently eased."
    part = (times_s - times_s[0]) / max(times_s[-1] - times_s[0], 1e-9)
    ease = rng.uniform(0, 0.5)
    return (1 - ease) * part + ease * part * part * (3 - 2 * part)


# %%
times_s, up = np.arange(9) / 4, np.array([0, 0, 1.0])
first = look_at((-4, 0, 1.6), (0, 0, 0.6), up)
figure, axis = plt.subplots(figsize=(6, 4.2), dpi=90)
for number, program in enumerate(['forward', 'left', 'orbit_right', 'forward+pan_left', 'pan_right',
                                  'handheld']):
    w2c = camera_motion(np.random.default_rng(1), program, times_s, first, up, 4.0)
    eye, ahead = camera_center(w2c), w2c[:, 2, :3]
    axis.plot(*eye.T[:2], '-o', ms=3, color=f'C{number}', label=program)
    for t in (0, 4, 8): axis.arrow(*eye[t, :2], *ahead[t, :2] * 0.7, color=f'C{number}', width=0.008,
                                   head_width=0.07)
axis.set(aspect='equal', xlabel='x (m)', ylabel='y (m)', title='camera paths and view directions, from above')
axis.legend(fontsize=7, loc='center left', bbox_to_anchor=(1.02, 0.5)); plt.show()

# %% [markdown]
# The curves are told apart by colour, the moments by dots.

# %% [markdown]
# All start at one place; arrows show where each camera looks. Pan stays where it is and turns, an orbit moves and turns back.
# Every path consists of rigid poses and begins with the first camera:

# %%
for program in CAMERA_PROGRAMS:
    target = np.outer(times_s, (1.0, 0.5, 0))
    w2c = camera_motion(np.random.default_rng(2), program, times_s, first, up, 4.0, target)
    assert np.allclose(w2c[:, :3, :3] @ w2c[:, :3, :3].mT, np.eye(3)) and np.allclose(w2c[0], first)


# %% [markdown]
# ## Object motion
#
# Things on the ground drive: a speed along a course, integrated over time. For agents the course is where their front points;
# a ball may slide anywhere. Many runs are drawn at once, because most will be rejected later by the scene's rules.

# %%
#| export
def _turn_profile(rng: np.random.Generator, program: str, count: int, part: np.ndarray) -> np.ndarray:
    "Heading change (count, T) since the first frame, in radians."
    sign = rng.choice([-1.0, 1.0], (count, 1))
    if program.endswith('_left'): sign = np.ones((count, 1))
    if program.endswith('_right'): sign = -np.ones((count, 1))
    if program == 'curved': return sign * np.radians(rng.uniform(35, 80, (count, 1))) * part
    if program.startswith('turning'):
        start = rng.uniform(0.1, 0.3, (count, 1))
        return sign * np.radians(rng.uniform(60, 100, (count, 1))) * ((part - start) / 0.6).clip(0, 1)
    if program.startswith('spinning'): return sign * np.radians(rng.uniform(90, 240, (count, 1))) * part
    return np.zeros((count, 1)) * part


# %%
#| export
def object_motion(rng: np.random.Generator, program: str, times_s: np.ndarray, count: int,
                  path_m: tuple[float, float], agent: bool) -> tuple[np.ndarray, np.ndarray]:
    """`count` random runs of a program: displacement (count, T, 3) in metres, heading (count, T) in radians.

    Moving things cover `path_m` (low, high) in the clip. Agents move along their front, other things in any
    direction; a toss is ballistic and bounces."""
    part = (times_s - times_s[0]) / max(times_s[-1] - times_s[0], 1e-9)                      # (T,)
    heading = rng.uniform(-np.pi, np.pi, (count, 1)) + _turn_profile(rng, program, count, part)
    speed = rng.uniform(*path_m, (count, 1)) / max(times_s[-1] - times_s[0], 1e-9) * np.ones_like(heading)
    if program == 'accelerating': speed = speed * (0.15 + 1.85 * part)
    if program == 'reversing': speed = -speed
    if program == 'static' or program.startswith('spinning'): speed = speed * 0
    course = heading if agent or program in ('curved', 'reversing') or program.startswith('turning') else (
        heading + rng.uniform(-np.pi, np.pi, (count, 1)))
    velocity = speed[..., None] * np.stack([np.cos(course), np.sin(course), 0 * course], -1)  # (count, T, 3)
    steps = (velocity[:, 1:] + velocity[:, :-1]) / 2 * np.diff(times_s)[:, None]
    path = np.concatenate([np.zeros((count, 1, 3)), np.cumsum(steps, 1)], 1)
    if program == 'tossed': path[..., 2] += bounce(times_s, rng.uniform(2.0, 4.0, count),
                                                   rng.uniform(0.5, 1.5, count))
    return path, heading


# %%
figure, axes = plt.subplots(1, 5, figsize=(10, 2.3), dpi=90)
for axis, program in zip(axes, ('straight', 'curved', 'accelerating', 'turning_left', 'reversing')):
    path, heading = object_motion(np.random.default_rng(3), program, times_s, 4, (1.5, 2.5), agent=True)
    for run, angle in zip(path, heading):
        axis.plot(*run.T[:2], 'o-', ms=2, lw=0.8)
        axis.quiver(*run[::4].T[:2], np.cos(angle[::4]), np.sin(angle[::4]), width=0.012, scale=9)
    axis.set(xlim=(-2.4, 2.4), ylim=(-2.6, 2.6), aspect='equal', title=program, xlabel='x (m)')
axes[0].set_ylabel('y (m)')
path, heading = object_motion(np.random.default_rng(3), 'turning_right', times_s, 20, (1.5, 2.5), agent=True)
front = np.stack([np.cos(heading), np.sin(heading)], -1)
assert ((np.diff(path[..., :2], axis=1) * front[:, :-1]).sum(-1) > 0).all()      # agents move where they look
assert (np.degrees(heading[:, -1] - heading[:, 0]) < -59).all()  # and right is clockwise from above


# %% [markdown]
# ## Tossed
#
# Without a physics engine a toss is a chain of parabolas. At each landing 60 % of the speed remains. Heights are exact at any
# time, so the frame rate does not matter.

# %%
#| export
def bounce(times_s: np.ndarray, up_mps: np.ndarray, height_m: np.ndarray,
           restitution: float = 0.6) -> np.ndarray:
    """Heights (count, T) above rest of balls thrown up at `up_mps` (count,) from `height_m` (count,); g =
    9.81 m/s²."""
    gravity, time = 9.81, (times_s - times_s[0]) * np.ones((len(up_mps), 1))
    start, one = np.zeros_like(time), np.ones_like(time)
    speed, base = up_mps[:, None] * one, height_m[:, None] * one
    for _ in range(8):
        land = start + (speed + np.sqrt(speed ** 2 + 2 * gravity * base)) / gravity
        past = time > land
        speed = np.where(past, restitution * (gravity * (land - start) - speed), speed)
        start, base = np.where(past, land, start), np.where(past, 0, base)
    since = time - start
    return (base + speed * since - gravity / 2 * since ** 2).clip(min=0)


# %%
fine = np.linspace(0, 3, 400)
heights = bounce(fine, np.array([2.5, 3.5]), np.array([0.6, 1.2]))
figure, axis = plt.subplots(figsize=(5, 2.3), dpi=90)
axis.plot(fine, heights.T)
axis.set(xlabel='time (s)', ylabel='height (m)', title='two tosses')
peak = 0.6 + 2.5 ** 2 / (2 * 9.81)
assert abs(heights[0].max() - peak) < 1e-3 and heights.min() >= 0               # v² / 2g above the start
assert np.allclose(bounce(fine[::40], np.array([2.5]), np.array([0.6])), heights[:1, ::40])

# %% [markdown]
# ## What we proved
#
# * signs: positive pan, tilt and roll are right, up and clockwise
# * every program is a rigid motion that begins with the first camera
# * agents move along their front; right turns are clockwise from above
#
# ## Try it
#
# 1. Write a "dolly zoom": move backward while the focal length grows. What would have to change in `Clip`?
# 2. Give a car a wheelbase, so that it cannot turn on the spot.
#
# <details><summary>Solutions</summary>
#
# 1. K would have to be (T, 3, 3). Everything that projects takes one K per view today, so it is a change of the
#    record, not of the simulator; zooming lenses in real data need the same.
# 2. Let the heading follow the path: turn rate = speed · tan(steering) / wheelbase, which is zero at rest.
#    `turning_right` then needs a speed above zero, and the label for rotation follows from the path.
#
# </details>
