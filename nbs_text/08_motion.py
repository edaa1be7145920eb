# %% [markdown]
# # Motion
# > From continuous geometry to words: how 4DP-QA's labels are measured, and when a case is too close to call.

# %%
#| default_exp motion

# %% [markdown]
# #| export
# Conventions: T frames on the axis before the last, so one call measures a whole segment of one camera or of N objects.
# Signs are -1, 0, +1 per axis, always in the order of the axes (x right, y down, z forward; pan, tilt, roll). Every
# labeller returns its labels together with `clear`: False marks a case inside a dead zone, which is never asked about.

# %% [markdown]
# * **What** measurements on camera and object paths, and the thresholds that turn them into labels
# * **Why** a question is only as good as its label; a label near a threshold is a coin toss, so we reject it
# * **Paper** 4DP-QA §3.2 "label generation"; its thresholds are unpublished, the formulas and values here are **[ours]**
# * **Needs** numpy, `cameras`, `presets`
# * **Time** 20 seconds
# * **Before this** `01_cameras`

# %%
#| export
import numpy as np
from track4d_ref.cameras import camera_center, transform
from track4d_ref.presets import Thresholds

# %%
import matplotlib.pyplot as plt
from track4d_ref.cameras import invert_pose, look_at, pose_from, rotation_about
from track4d_ref.presets import load_thresholds


# %% [markdown]
# ## How far the camera came
#
# The translation of a camera is told in the axes of the *first* frame: what was ahead then is "forward", wherever the
# camera looks later. With $R[t_0]$ the rotation of the first camera and $\mathbf C_t$ the camera centres,
#
# $$\Delta_t = R[t_0]\,(\mathbf C_t-\mathbf C_{t_0}) .$$
#
# That is the same as sending the later centre through the whole first pose, because $\mathbf C_{t_0}$ is mapped to zero.
# The very same formula with object centres $\mathbf O_t$ is question type 4, the direction of an object "as seen from the
# first frame". It is *not* the displacement in pixels: something that drives straight away hardly moves in the picture.

# %%
#| export
def camera_displacement_m(w2c: np.ndarray) -> np.ndarray:
    "Camera centres relative to the first one, in the first camera's axes: (..., T, 4, 4) -> (..., T, 3) metres."
    return transform(w2c[..., 0, :, :], camera_center(w2c))

def object_displacement_m(w2c_first: np.ndarray, centers_m: np.ndarray) -> np.ndarray:
    "R[t0](O_t - O_t0) for object centres (..., T, 3) in the world: metres in the first camera's axes."
    return (centers_m - centers_m[..., :1, :]) @ w2c_first[..., :3, :3].mT

def body_displacement_m(world_from_object: np.ndarray) -> np.ndarray:
    "Displacement of poses (..., T, 4, 4) in the object's own axes at the first frame: x forward, y left, z up."
    centers_m = world_from_object[..., :3, 3]
    return (centers_m - centers_m[..., :1, :]) @ world_from_object[..., 0, :3, :3]

def path_length_m(centers_m: np.ndarray) -> np.ndarray:
    "Length of paths (..., T, 3) in metres: sum over t of |O_t+1 - O_t|."
    return np.linalg.norm(np.diff(centers_m, axis=-2), axis=-1).sum(-1)


# %% [markdown]
# A small check with a camera that looks along the world's y axis and walks two metres that way and one to its right.
# In its own axes that must be $(1, 0, 2)$, and it stays so if the camera turns its head on the way.

# %%
eyes_m = np.array([[0, 0, 1.5], [0.4, 1.1, 1.5], [1, 2, 1.5]])
looks_m = np.array([[0, 9, 1.5], [2, 9, 1.5], [4, 9, 1.5]])
w2c = np.stack([look_at(eye, target, (0, 0, 1)) for eye, target in zip(eyes_m, looks_m)])
camera_displacement_m(w2c).round(6)

# %%
assert np.allclose(camera_displacement_m(w2c)[-1], (1, 0, 2))
assert np.allclose(object_displacement_m(w2c[0], np.array([[0, 0, 0], [0, 0, 3.0]]))[-1], (0, -3, 0))   # up is -y
assert np.isclose(path_length_m(np.array([[0, 0, 0], [3.0, 4, 0], [3, 4, 2]])), 7)


# %% [markdown]
# ## How far the camera turned
#
# The rotation between two frames, written in the first camera's axes, is taken apart into three head movements:
#
# $$R_\delta=R[t_0]\,R[t]^\top=R_y(\text{pan})\,R_x(\text{tilt})\,R_z(\text{roll}),$$
# $$\text{pan}=\operatorname{atan2}(R_{02},R_{22}),\quad \text{tilt}=-\arcsin R_{12},\quad \text{roll}=\operatorname{atan2}(R_{10},R_{11}).$$
#
# Positive means pan to the right, tilt up, roll clockwise as seen from behind the camera. The third column of
# $R_\delta$ is where the new optical axis points, which makes the first two formulas easy to remember. Angles are
# unwrapped over the frames, so that a camera which pans by 200° to the right is not said to pan 160° to the left.

# %%
#| export
def camera_angles_deg(w2c: np.ndarray) -> np.ndarray:
    "Pan right, tilt up, roll clockwise of every frame relative to the first: (..., T, 4, 4) -> (..., T, 3) degrees."
    turned = w2c[..., :1, :3, :3] @ w2c[..., :3, :3].mT  # (..., T, 3, 3)
    pan = np.arctan2(turned[..., 0, 2], turned[..., 2, 2])
    tilt = -np.arcsin(np.clip(turned[..., 1, 2], -1, 1))
    roll = np.arctan2(turned[..., 1, 0], turned[..., 1, 1])
    angles = np.stack([np.unwrap(pan), tilt, np.unwrap(roll)], axis=-1)
    return np.rad2deg(angles)


# %% [markdown]
# To be sure of the signs we do not trust the formula; we look. A camera faces a board with four coloured corners. After
# panning right the board must slide to the left in the picture, after tilting up it must sink, and after rolling
# clockwise the picture must turn counterclockwise.

# %%
def turned_camera(pan_deg=0, tilt_deg=0, roll_deg=0):
    pan, tilt, roll = np.deg2rad([pan_deg, tilt_deg, roll_deg])
    c2w = rotation_about((0, 1, 0), pan) @ rotation_about((1, 0, 0), tilt) @ rotation_about((0, 0, 1), roll)
    return np.stack([np.eye(4), pose_from(c2w.T, np.zeros(3))])

board_m = np.array([[-1, -0.6, 4], [1, -0.6, 4], [1, 0.6, 4], [-1, 0.6, 4.0]])
cases = {'pan right 15°': dict(pan_deg=15), 'tilt up 10°': dict(tilt_deg=10), 'roll clockwise 20°': dict(roll_deg=20)}
figure, axes = plt.subplots(1, 3, figsize=(8, 2.4), dpi=90, sharey=True)
for axis, (name, angles) in zip(axes, cases.items()):
    for pose, color, label in zip(turned_camera(**angles), ('#BBBBBB', '#0072B2'), ('before', 'after')):
        corners = transform(pose, board_m); uv = corners[:, :2] / corners[:, 2:]
        axis.fill(*uv.T, facecolor='none', edgecolor=color, linewidth=2, label=label)
        axis.scatter(*uv.T, c=['#D55E00', '#E69F00', '#009E73', '#CC79A7'], s=40, zorder=3)
    axis.set(title=name, xlim=(-0.7, 0.7), ylim=(0.5, -0.5), xlabel='u / f'); axis.set_aspect('equal')
axes[0].legend(fontsize=8, loc='lower right'); axes[0].set_ylabel('v / f')
plt.tight_layout(); plt.show()

# %%
for angles in ((15, 0, 0), (0, 10, 0), (0, 0, 20), (-25, 12, -8)):
    assert np.allclose(camera_angles_deg(turned_camera(*angles))[-1], angles)
spin = np.stack([turned_camera(pan_deg=angle)[1] for angle in range(0, 210, 10)])
assert np.isclose(camera_angles_deg(spin)[-1, 0], 200)


# %% [markdown]
# ## How an object turns, seen from above
#
# Type 3 asks whether an object turns clockwise or counterclockwise for somebody who looks down along gravity. We take
# each step's rotation $R_{t+1}R_t^\top$, keep the part about the up vector $\mathbf g$ (the twist), and add the steps up.
# With the axial vector $\mathbf a=(R_{21}-R_{12},\,R_{02}-R_{20},\,R_{10}-R_{01})$ the twist angle of one step is
#
# $$\theta = 2\operatorname{atan2}\big(\mathbf g\cdot\mathbf a,\ 1+\operatorname{tr}R\big).$$
#
# By the right-hand rule positive means counterclockwise from above. Adding steps needs no forward axis that could be
# vertical, and it counts full turns. An object that falls over does not turn "as seen from above" in any useful sense;
# `tipping_deg` measures that, and the label is refused.

# %%
#| export
def yaw_deg(rotations: np.ndarray, up: np.ndarray) -> np.ndarray:
    "Unwrapped turn of objects (..., T, 3, 3) about `up` since the first frame, counterclockwise positive: (..., T)."
    step = rotations[..., 1:, :, :] @ rotations[..., :-1, :, :].mT
    axial = np.stack([step[..., 2, 1] - step[..., 1, 2], step[..., 0, 2] - step[..., 2, 0],
                      step[..., 1, 0] - step[..., 0, 1]], axis=-1)
    twist = 2 * np.arctan2(axial @ up, 1 + np.trace(step, axis1=-2, axis2=-1))
    return np.rad2deg(np.concatenate([np.zeros_like(twist[..., :1]), np.cumsum(twist, -1)], -1))

def tipping_deg(rotations: np.ndarray, up: np.ndarray) -> np.ndarray:
    "Largest angle by which what pointed up at first leans over later: rotations (..., T, 3, 3) -> (...)."
    own_up = rotations[..., :1, :, :].mT @ up  # the up direction in the object's own axes
    later = (rotations @ own_up[..., None])[..., 0]  # (..., T, 3)
    return np.rad2deg(np.arccos(np.clip(later @ up, -1, 1))).max(-1)


# %%
up = np.array([0, 0, 1.0])
spinning = np.stack([rotation_about((0, 0, 1), np.deg2rad(angle)) for angle in range(0, 721, 40)])
falling = np.stack([rotation_about((1, 0, 0), np.deg2rad(angle)) for angle in range(0, 91, 10)])
tilted = rotation_about((1, 2, 0), 0.2)
print('two turns:', yaw_deg(spinning, up)[-1], ' leans', tipping_deg(spinning, up).round(6),
      '| falling over:', yaw_deg(falling, up)[-1].round(6), ' leans', tipping_deg(falling, up))

# %%
assert np.isclose(yaw_deg(spinning, up)[-1], 720) and tipping_deg(spinning, up) < 1e-4
assert np.isclose(yaw_deg(spinning @ tilted, up)[-1], 720)           # how the object's axes lie does not matter
assert np.isclose(yaw_deg(falling, up)[-1], 0) and np.isclose(tipping_deg(falling, up), 90)


# %% [markdown]
# ## Dead zones: translation
#
# How far is far? A drone's metre is a desk camera's mile, so distances are compared with the scene: $s$ is its median
# depth at the first frame. Let $\lVert\Delta\rVert$ be the net displacement and $\ell$ the length of the path.
#
# * **still** if the path never leaves a ball of radius $\tau_0 s$;
# * **moving** if $\lVert\Delta\rVert\ge\tau_m s$ *and* the path is straight enough, $\lVert\Delta\rVert\ge\sigma\ell$; out
#   and back again has no one direction;
# * an axis is **named** if it carries $\lvert\Delta_a\rvert\ge\tau_r\lVert\Delta\rVert$ and **denied** below $\tau_a$.
#
# Everything between two of these borders is refused. The picture shows what that means for a camera moving in the
# horizontal plane: eight clear sectors, and grey ones in which people would argue.

# %%
#| export
def axis_signs(path_m: np.ndarray, scale_m: np.ndarray, cuts: Thresholds,
               moving_fraction: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    "Signs (..., 3) of the axes a path (..., T, 3) follows, zeros if it stays, and whether that is clear (...)."
    net = path_m[..., -1, :] - path_m[..., 0, :]
    size = np.linalg.norm(net, axis=-1)
    still = np.linalg.norm(path_m - path_m[..., :1, :], axis=-1).max(-1) < cuts.still_fraction * scale_m
    moving = (size >= (moving_fraction or cuts.moving_fraction) * scale_m) & (size >= cuts.straightness * path_length_m(path_m))
    share = np.abs(net) / np.maximum(size, 1e-12)[..., None]
    named = share >= cuts.axis_ratio
    decided = (named | (share <= cuts.axis_absent)).all(-1)
    signs = np.where(named & moving[..., None], np.sign(net), 0).astype(int)
    return signs, still | (moving & decided)


# %%
cuts = load_thresholds('default')
angle = np.linspace(0, 2 * np.pi, 721)
radius = np.linspace(0.005, 0.3, 60)
net_m = np.stack([np.sin(angle) * radius[:, None], 0 * angle + 0 * radius[:, None], np.cos(angle) * radius[:, None]], -1)
signs, clear = axis_signs(np.stack([0 * net_m, net_m / 2, net_m], -2), 1.0, cuts)
code = np.where(clear, (signs[..., 0] + 1) * 3 + signs[..., 2] + 1, np.nan)
figure, axis = plt.subplots(figsize=(4.6, 4), dpi=90, subplot_kw=dict(projection='polar', theta_offset=np.pi / 2, theta_direction=-1))
axis.set_facecolor('#CCCCCC')
colors = plt.cm.Set1(np.array([1, 2, 4, 3, 5, 0, 6, 7, 1])); colors[8] = (0.1, 0.6, 0.6, 1)
axis.pcolormesh(angle, radius, code, cmap=plt.matplotlib.colors.ListedColormap(colors), vmin=0, vmax=8, shading='nearest', alpha=0.75)
names = ('forward', 'forward\nright', 'right', 'backward\nright', 'backward', 'backward\nleft', 'left', 'forward\nleft')
axis.set_xticks(np.arange(8) * np.pi / 4, names, fontsize=8); axis.set_yticks([0.1, 0.2, 0.3], ['0.1 s', '0.2 s', '0.3 s'], fontsize=7)
axis.grid(False); axis.set_title('label by direction and size; grey is refused', fontsize=10)
plt.show()

# %%
assert np.isnan(code[radius > 0.06]).mean() < 0.25 and np.isnan(code[(radius > 0.032) & (radius < 0.048)]).all()
out_and_back = np.array([[0, 0, 0], [0, 0, 1.0], [0, 0, 0.3]])
assert not axis_signs(out_and_back, 1.0, cuts)[1]
assert axis_signs(np.array([[0, 0, 0], [0.5, -0.5, 0.0]]), 1.0, cuts)[0].tolist() == [1, -1, 0]


# %% [markdown]
# ## Dead zones: angles
#
# The same for pan, tilt, roll and for the turn of an object: named from `rotation_deg` on, if at least the share
# `straightness` of all turning went that way; still if it never leaves ± `still_rotation_deg`. A head shake has no label.

# %%
#| export
def angle_signs(angles_deg: np.ndarray, cuts: Thresholds) -> tuple[np.ndarray, np.ndarray]:
    "Signs (..., A) of A angles over time (..., T, A), zero for no turn, and whether each is clear (..., A)."
    net = angles_deg[..., -1, :] - angles_deg[..., 0, :]
    turned = np.abs(np.diff(angles_deg, axis=-2)).sum(-2)
    named = (np.abs(net) >= cuts.rotation_deg) & (np.abs(net) >= cuts.straightness * turned)
    still = np.abs(angles_deg - angles_deg[..., :1, :]).max(-2) < cuts.still_rotation_deg
    return np.where(named, np.sign(net), 0).astype(int), named | still


# %%
time = np.linspace(0, 1, 21)
curves = {'steady 30°': 30 * time, 'trembling, 1°': np.sin(25 * time), 'shakes its head': 20 * np.sin(2 * np.pi * time),
          'half-hearted 6°': -6 * time, 'with a pause, -20°': -20 * np.clip(1.6 * time - 0.3, 0, 1)}
figure, axis = plt.subplots(figsize=(6.4, 2.6), dpi=90)
axis.axhspan(-cuts.still_rotation_deg, cuts.still_rotation_deg, color='#009E73', alpha=0.25)
for border in (-1, 1):
    axis.axhspan(border * cuts.still_rotation_deg, border * cuts.rotation_deg, color='#BBBBBB', alpha=0.5)
for (name, curve), color in zip(curves.items(), ('#0072B2', '#009E73', '#D55E00', '#555555', '#CC79A7')):
    (sign,), (sure,) = angle_signs(curve[:, None], cuts)
    axis.plot(time, curve, color=color, label=f"{name}: {('left', 'no turn', 'right')[sign + 1] if sure else 'refused'}")
axis.set(xlabel='time', ylabel='pan (degrees)'); axis.legend(fontsize=7, loc='upper left', bbox_to_anchor=(1, 1))
plt.tight_layout(); plt.show()

# %%
answers = {name: [int(value[0]) for value in angle_signs(curve[:, None], cuts)] for name, curve in curves.items()}
assert answers == {'steady 30°': [1, 1], 'trembling, 1°': [0, 1], 'shakes its head': [0, 0],
                   'half-hearted 6°': [0, 0], 'with a pause, -20°': [-1, 1]}

# %% [markdown]
# ## How a distance changes
#
# For types 2 and 7 let $\rho_t=(d_t-d_{t_0})/d_{t_0}$ and $\tau$ = `distance_change`. A distance *increases* if
# $\rho_{t_1}>\tau$, *decreases* if $\rho_{t_1}<-\tau$, and is *constant* if $\lvert\rho\rvert<\tau/4$; the rest is refused.
# We ask for more than the two ends **[ours]**: an increasing distance may not dip or fall back by more than the
# tolerance $\tau/4$ on the way, and a constant one must be constant at all times. What that leaves over includes two
# honest shapes of their own, *first up, then down* and its mirror image. They make a fourth option with real
# instances behind it, so that nobody can pick it off as a filler.

# %%
#| export
TRENDS = ('decreases', 'stays constant', 'increases', 'first increases, then decreases', 'first decreases, then increases')

def distance_trend(distance_m: np.ndarray, cuts: Thresholds) -> np.ndarray:
    "Index into TRENDS of distance curves (..., T), or -1 where the case is unclear."
    change = distance_m / distance_m[..., :1] - 1  # rho_t
    far, slack = cuts.distance_change, cuts.distance_change / 4
    last, top, bottom = change[..., -1], change.max(-1), change.min(-1)
    return np.select(
        [(last < -far) & (top < slack) & (bottom > last - slack), np.maximum(top, -bottom) < slack,
         (last > far) & (bottom > -slack) & (top < last + slack),
         (top > far) & (top - last > far) & (np.minimum(last, bottom) > -slack),
         (bottom < -far) & (last - bottom > far) & (np.maximum(last, top) < slack)], [0, 1, 2, 3, 4], default=-1)


# %%
bump = np.sin(np.pi * time)
curves = {'goes away': 4 + 2 * time, 'comes': 5 - 2 * time, 'trembles': 4 + 0.1 * bump, 'passes by': 4 - 1.5 * bump,
          'out and back': 4 + 1.5 * bump, 'a little': 4 + 0.4 * time, 'dips, then grows': 4 - 2 * bump + 2 * time}
codes = [int(distance_trend(curve, cuts)) for curve in curves.values()]
figure, axis = plt.subplots(figsize=(7.4, 2.8), dpi=90)
for (name, curve), code, color in zip(curves.items(), codes, plt.cm.tab10.colors):
    axis.plot(time, curve, color=color, linestyle='-' if code >= 0 else ':', label=f"{name}: {TRENDS[code] if code >= 0 else 'refused'}")
axis.set(xlabel='time', ylabel='distance (m)'); axis.legend(fontsize=7, loc='upper left', bbox_to_anchor=(1, 1))
plt.tight_layout(); plt.show()

# %%
assert codes == [2, 0, 1, 4, 3, -1, -1]
assert (distance_trend(np.stack(list(curves.values())), cuts) == codes).all()   # a batch gives the same as one by one
assert (distance_trend(7 * np.stack(list(curves.values())), cuts) == codes).all()   # and no unit matters


# %% [markdown]
# ## Which is nearer, which went further
#
# Comparisons (types 6 and 8–11) need a margin: the larger of two values must be at least `ratio` times the smaller one.
# For depth there is a second witness: the order along the optical axis has to agree with the order of the distances,
# or else "nearer to the camera" would depend on what one means by it.

# %%
def compare_v1(first, second, ratio):
    if second > first and second >= ratio * first: return -1
    if first > second and first >= ratio * second: return 1
    return 0


# %%
#| export
def clearly_smaller(first: np.ndarray, second: np.ndarray, ratio: float) -> np.ndarray:
    "-1 where `first` is clearly smaller, +1 where `second` is, 0 where the two are too close to call."
    first_wins = (second > first) & (second >= ratio * first)
    second_wins = (first > second) & (first >= ratio * second)
    return second_wins.astype(int) - first_wins


# %%
pairs = np.array([(1, 2), (3, 2), (2, 2.1), (0, 0), (0, 5), (2.5, 2.0)])
clearly_smaller(*pairs.T, 1.25)

# %%
assert clearly_smaller(*pairs.T, 1.25).tolist() == [compare_v1(*pair, 1.25) for pair in pairs] == [-1, 1, 0, 0, -1, 1]
assert (clearly_smaller(*pairs.T, 1.25) == -clearly_smaller(*pairs.T[::-1], 1.25)).all()

# %% [markdown]
# ## Signs become words
#
# 4DP-QA names the words for translation: combinations of forward/backward, left/right and up/down. The words for
# rotation are **[ours]**, after its table: pan left/right, tilt up/down, roll clockwise/counterclockwise. One function
# writes every movement, so that a right answer and a wrong one never differ in style, only in content.

# %%
#| export
DIRECTIONS = (('left', 'right'), ('up', 'down'), ('backward', 'forward'))     # the signs -1, +1 of x, y, z
TURNS = (('pans left', 'pans right'), ('tilts down', 'tilts up'), ('rolls counterclockwise', 'rolls clockwise'))
STILL = 'stays still'

def join_words(words: list[str]) -> str:
    "`a`, `a and b`, `a, b and c`."
    return ' and '.join([', '.join(words[:-1]), words[-1]]) if len(words) > 1 else ''.join(words)

def movement_words(move=(0, 0, 0), turn=(0, 0, 0)) -> str:
    "Signs of (x, y, z) and (pan, tilt, roll) as one phrase: 'moves forward and left, pans right' or 'stays still'."
    order = (2, 0, 1)  # forward before left before up, as in the paper
    directions = [DIRECTIONS[axis][int(move[axis] > 0)] for axis in order if move[axis]]
    turns = [TURNS[axis][int(sign > 0)] for axis, sign in enumerate(turn) if sign]
    return ', '.join(([f'moves {join_words(directions)}'] if directions else []) + turns) or STILL


# %%
for move, turn in (((0, 0, 1), (0, 0, 0)), ((-1, 0, 1), (1, 0, 0)), ((1, -1, -1), (0, 0, 0)), ((0, 0, 0), (0, 1, -1)), ((0, 0, 0), (0, 0, 0))):
    print(move, turn, movement_words(move, turn))

# %%
import itertools
every = [movement_words(move, turn) for move in itertools.product((-1, 0, 1), repeat=3) for turn in itertools.product((-1, 0, 1), repeat=3)]
assert len(set(every)) == 3 ** 6                       # no two movements share a description
assert movement_words((-1, 0, 1), (1, 0, 0)) == 'moves forward and left, pans right'

# %% [markdown]
# ## What we proved
#
# * Camera and object displacements are told in the first camera's axes, and head movements do not change them.
# * Pan, tilt and roll have the signs that the picture demands, and unwrap past half a turn.
# * An object's turn seen from above is independent of how its own axes lie; tipping over is told apart from turning.
# * Every labeller refuses what lies between two borders, gives the same for a batch as for one, and knows no units.
#
# ## Try it
#
# 1. Set `axis_absent` equal to `axis_ratio` and draw the sectors again. Which colour would you argue about?
# 2. A camera orbits a statue and keeps it in the centre. Which orbit angle makes `straightness` refuse the translation?
# 3. Write the labeller for "speeds up / slows down" with a dead zone of its own.
#
# <details><summary>Solutions</summary>
#
# 1. The sectors then meet without a gap: between 'left' and 'forward' every angle gets a label. Argue about the
#    borders; two people judging such a clip would not agree, and that is what dead zones are for.
# 2. Beyond the angle where the straight line between first and last place is clearly shorter than the path: for an
#    orbit by angle a, chord/arc = sin(a/2)/(a/2). Solve it for the threshold in `settings.ini`.
# 3. Compare the mean speed of the first and the last third; label 'speeds up' above a ratio of, say, 1.5 and 'slows
#    down' below 1/1.5, ask nothing between 1/1.2 and 1.2 or if the object hardly moves. Ratios, so that the label
#    does not depend on metres.
#
# </details>
