# %% [markdown]
# # Facts about motion
# > What is true of a segment and clear enough to be asked: question types 1 to 7 of 4DP-QA.

# %%
#| default_exp facts

# %% [markdown]
# #| export
# A fact holds a label with slots ('{a}'), the options it may be offered among, and the measurements behind it. Objects are
# rows of `Measured`, frames are numbers in the video as shown.

# %% [markdown]
# * **What** functions that list the clear facts of a segment, one per question type about motion
# * **Why** first find everything that is true, then choose what to ask: only so can the answers be balanced
# * **Paper** 4DP-QA §3.2 "asset sampling" and "label generation", table of question types; option sets are **[ours]**
# * **Needs** numpy, `motion`, `measurements`
# * **Time** 20 seconds
# * **Before this** `08_motion`, `08a_measurements`

# %%
#| export
from dataclasses import dataclass, field

import numpy as np

from track4d_ref.measurements import Measured
from track4d_ref.motion import (STILL, TRENDS, angle_signs, axis_signs, body_displacement_m, camera_angles_deg,
                                camera_displacement_m, clearly_smaller, distance_trend, movement_words,
                                object_displacement_m, path_length_m, tipping_deg, yaw_deg)
from track4d_ref.presets import Thresholds

# %%
import matplotlib.pyplot as plt

from track4d_ref.measurements import measure
from track4d_ref.presets import load_preset, load_thresholds
from track4d_ref.simulator import simulate_clips


# %% [markdown]
# ## One record for everything that can be asked
#
# A fact knows the true option and what else may stand beside it. Its label may contain slots: "which is nearer" has the
# label `{a}`, and only later is it decided how object *a* is called. `values` keeps the numbers which led to the label;
# they end up in the record, so that anybody can see how clear a case was.

# %%
#| export
@dataclass(frozen=True)
class Fact:
    "Something true of a segment that can be asked about."
    label: str                       # the true option
    options: tuple[str, ...]         # all that may be offered, the label among them
    objects: tuple[int, ...] = ()    # the rows of Measured that fill {a}, {b}, {c}
    frames: tuple[int, ...] = ()     # the frame in which each of them is meant; () = over the whole video
    system: str = 'world'            # reference system of the measurement
    values: dict = field(default_factory=dict)


# %% [markdown]
# ## Who may be asked about
#
# For a question about motion an object must be there in all frames, and visible in the first frame, in the last one and
# in most of those between. "Most" is 60 % **[ours]**. `moving` and `resting` leave the same dead zone as for cameras.

# %%
#| export
MOSTLY = 0.6  # least share of frames in which an object of a motion question is visible

def followable(m: Measured, cuts: Thresholds) -> np.ndarray:
    "Rows of the objects that can be followed by eye through the segment."
    seen = m.seen(cuts.min_visible_px)
    return np.flatnonzero(m.present.all(1) & seen[:, 0] & seen[:, -1] & (seen.mean(1) >= MOSTLY))

def excursion_m(m: Measured) -> np.ndarray:
    "How far each object (N,) gets from where it starts, in metres."
    return np.linalg.norm(m.centers_m - m.centers_m[:, :1], axis=-1).max(-1)

def moving(m: Measured, cuts: Thresholds) -> np.ndarray:
    "Objects (N,) whose excursion counts as motion."
    return excursion_m(m) >= cuts.moving_fraction * m.scale_m[0]

def resting(m: Measured, cuts: Thresholds) -> np.ndarray:
    "Objects (N,) that stand still."
    return excursion_m(m) < cuts.still_fraction * m.scale_m[0]


# %%
cuts = load_thresholds('simulator')
clips = [measure(clip) for clip in simulate_clips(40, 5, load_preset('tiny'))]
share = np.concatenate([excursion_m(m) / m.scale_m[0] for m in clips])
figure, axis = plt.subplots(figsize=(6, 2.4), dpi=90)
axis.hist(share, bins=np.linspace(0, 1, 41), color='#0072B2')
axis.axvspan(cuts.still_fraction, cuts.moving_fraction, color='#D55E00', alpha=0.6)
axis.set(xlabel='excursion / median depth', ylabel='objects', title=f'{len(share)} simulated objects; the dead zone is orange')
plt.tight_layout(); plt.show()

# %%
assert not any((moving(m, cuts) & resting(m, cuts)).any() for m in clips)
assert all(len(followable(m, cuts)) <= len(m.clip.objects) for m in clips)

# %% [markdown]
# ## Options that give nothing away
#
# Suppose the truth is "moves forward and left" and we make three distractors by changing it a little each time. Then the
# truth is the one option that resembles all the others, and a reader who sees no video picks it. So options come in
# **symmetric sets**: choose two axes and offer all four combinations of their signs, everything else equal. Each member of
# such a set would have produced the very same set, had it been the truth.
#
# With one axis only, a second axis is drawn and the set is $\{+a,-a,+b,-b\}$. Standing still needs a set of its own, still
# and three single movements; true single movements are put into such a set now and then, so that "stays still" is
# offered wrongly as well.

# %%
#| export
STILL_SHARE = 0.25  # how often a true single movement is offered beside 'stays still'

def _words(signs: np.ndarray) -> str: return movement_words(signs[:3], signs[3:])

def _single(axis: int, sign: int) -> str:
    signs = np.zeros(6, int)
    signs[axis] = sign
    return _words(signs)

def _flip_two(signs: np.ndarray, axes: np.ndarray) -> tuple[str, ...]:
    "The four sign combinations of two axes, everything else kept."
    options = []
    for first in (-1, 1):
        for second in (-1, 1):
            changed = signs.copy()
            changed[axes] = first, second
            options.append(_words(changed))
    return tuple(options)

def movement_options(signs: np.ndarray, axes: tuple[int, ...], rng: np.random.Generator, still_share: float = 0.0) -> tuple[str, ...]:
    "Four descriptions, a symmetric set around the true signs (6,) of (x, y, z, pan, tilt, roll), over the allowed axes."
    active, spare = np.flatnonzero(signs), [axis for axis in axes if not signs[axis]]
    if len(active) >= 2: return _flip_two(signs, rng.choice(active, 2, replace=False))
    if len(active) == 1 and rng.random() >= still_share:
        axis, other = active[0], rng.choice(spare)
        return tuple(_single(which, sign) for which in (axis, other) for sign in (-1, 1))
    beside = rng.choice(spare, 3 - len(active), replace=False)
    return (STILL, *(_single(axis, signs[axis]) for axis in active), *(_single(axis, rng.choice((-1, 1))) for axis in beside))


# %%
rng = np.random.default_rng(0)
for signs in ((-1, 0, 1, 0, 0, 0), (0, 0, 1, 0, 0, 0), (0, 0, 0, 0, 0, 0), (-1, 0, 1, 1, 0, 0)):
    print(_words(np.array(signs)), '->', movement_options(np.array(signs), range(6), rng, STILL_SHARE))

# %% [markdown]
# The proof by counting: draw true movements evenly, make their options, and look how often each *option set* has each of
# its members as the truth. In a symmetric set all four bars are equal. For comparison the naive way, which changes one
# word of the truth at a time, and a reader who always picks the option most similar to the others.

# %%
from collections import Counter

def naive_options(signs):
    changes = [np.where(np.arange(6) == axis, -signs, signs) for axis in np.flatnonzero(signs)]
    return [_words(signs), *map(_words, changes)]

meaning = {_words(np.array(signs) - 1): np.array(signs) - 1 for signs in np.ndindex(*(3,) * 6)}

def most_central(options):
    signs = np.array([meaning[option] for option in options])
    return options[int((signs[:, None] == signs).sum((1, 2)).argmax())]

truths = [signs for signs in meaning.values() if np.count_nonzero(signs) == 3]
hits = {name: np.mean([most_central(list(rng.permutation(make(signs)))) == _words(signs) for signs in truths for _ in range(5)])
        for name, make in (('change a word', naive_options), ('symmetric set', lambda signs: movement_options(signs, range(6), rng)))}
figure, axis = plt.subplots(figsize=(4.5, 2.2), dpi=90)
axis.barh(list(hits), list(hits.values()), color=['#D55E00', '#009E73']); axis.axvline(0.25, color='k', linestyle=':')
axis.set(xlim=(0, 1), xlabel='right without seeing the video'); plt.tight_layout(); plt.show()

# %%
assert hits['change a word'] > 0.9 and abs(hits['symmetric set'] - 0.25) < 0.05
singles = [axis * np.eye(6, dtype=int)[n] for n in range(6) for axis in (-1, 1)]
sets = Counter((frozenset(movement_options(signs, range(6), rng)), _words(signs)) for signs in singles for _ in range(500))
for options in {key[0] for key in sets}:
    counts = [sets[options, option] for option in options]
    assert min(counts) > 0.5 * max(counts)          # each member is the truth about equally often

# %% [markdown]
# ## Type 1: camera movement
#
# Translation and rotation together make one label, and both must be clear. More than three simultaneous movements are
# refused **[ours]**: "forward, left and up, pans right, tilts down" is nothing a person would answer with certainty.

# %%
#| export
MOST_MOVEMENTS = 3

def camera_facts(m: Measured, cuts: Thresholds, rng: np.random.Generator) -> list[Fact]:
    "Type 1: how the camera moves and turns, in the axes of its first frame. At most one fact."
    shift_m, angles_deg = camera_displacement_m(m.w2c), camera_angles_deg(m.w2c)
    move, sure = axis_signs(shift_m, m.scale_m[0], cuts)
    turn, turn_sure = angle_signs(angles_deg, cuts)
    signs = np.concatenate([move, turn])
    if not (sure and turn_sure.all()) or np.count_nonzero(signs) > MOST_MOVEMENTS: return []
    values = dict(shift_m=shift_m[-1], angles_deg=angles_deg[-1], scale_m=m.scale_m[0])
    return [Fact(_words(signs), movement_options(signs, range(6), rng, STILL_SHARE), system='first camera', values=values)]


# %%
found = [(m, fact) for m in clips for fact in camera_facts(m, cuts, rng)]
print(f'{len(found)} of {len(clips)} clips have a clear camera movement')
for label, count in Counter(fact.label for _, fact in found).most_common(12): print(f'{count:3}  {label}')

# %%
m, fact = max(found, key=lambda pair: np.abs(pair[1].values['shift_m'][[0, 2]]).min())
figure, axes = plt.subplots(1, 4, figsize=(9, 2.8), dpi=80)
for axis, t in zip(axes, (0, m.w2c.shape[0] // 2, -1)): axis.imshow(m.view.frames[t]); axis.axis('off')
shift = camera_displacement_m(m.w2c)
axes[3].plot(shift[:, 0], shift[:, 2], 'k.-'); axes[3].plot(0, 0, 'o', color='#009E73')
axes[3].set(xlabel='right (m)', ylabel='forward (m)', aspect='equal', title='camera from above')
figure.suptitle(f'How does the camera move? {fact.label}', fontsize=10); plt.tight_layout(); plt.show()

# %%
for m, fact in found:
    assert fact.label in fact.options and len(set(fact.options)) == 4
    if ' left' in fact.label.split(',')[0] and 'moves' in fact.label: assert fact.values['shift_m'][0] < 0

# %% [markdown]
# ## Types 3 to 5: one moving object
#
# Direction is measured in the first camera, rotation about the up vector, agent motion in the agent's own axes. Direction
# has two more reference systems: gravity-aligned, where a camera that looks down still calls the ground level, and the
# screen, where camera motion counts as well. On the screen a movement must cover a tenth of the picture's width **[ours]**. Round
# things are left out of the rotation questions **[ours]**: a plain ball can spin as it likes, nobody sees it. For an agent
# the displacement in its first pose must agree with the way it went step by step, $\sum_t (R_t^\top\Delta\mathbf O_t)_x$;
# a car that turns around on the way has no single answer.

# %%
#| export
ROUND = ('ball', 'sphere', 'cylinder', 'cone', 'disc')
SPINS = ('clockwise', 'counterclockwise')

SCREEN_SCALE = 2.0  # picture widths; the thresholds are fractions of it

def _directions(m: Measured, cuts: Thresholds, rng: np.random.Generator, path: np.ndarray, scale: float, axes, system: str) -> list[Fact]:
    "Facts about paths (N, T, 3) that clearly go somewhere along the allowed axes."
    signs, sure = axis_signs(path, scale, cuts)
    wide = np.concatenate([signs, 0 * signs], -1)
    return [Fact(_words(wide[n]), movement_options(wide[n], axes, rng), (n,), system=system, values=dict(shift=path[n, -1], scale=scale))
            for n in followable(m, cuts) if sure[n] and signs[n].any()]

def direction_facts(m: Measured, cuts: Thresholds, rng: np.random.Generator) -> list[Fact]:
    "Type 4: where a moving object goes, in the axes of the first camera."
    shift_m = object_displacement_m(m.w2c[0], m.centers_m)
    return _directions(m, cuts, rng, shift_m, m.scale_m[0], (0, 1, 2), 'first camera')

def _level_axes(w2c: np.ndarray, up: np.ndarray) -> np.ndarray:
    "Rows: right, down along gravity, ahead on the level ground, for the camera `w2c` (4, 4), in world axes."
    ahead = w2c[2, :3] - (w2c[2, :3] @ up) * up
    ahead = ahead / np.linalg.norm(ahead)
    return np.stack([np.cross(ahead, up), -up, ahead])

def level_direction_facts(m: Measured, cuts: Thresholds, rng: np.random.Generator) -> list[Fact]:
    "Type 4 in the gravity-aligned system: ahead and sideways on the level ground, up and down along gravity."
    shift_m = (m.centers_m - m.centers_m[:, :1]) @ _level_axes(m.w2c[0], m.clip.up).T
    return _directions(m, cuts, rng, shift_m, m.scale_m[0], (0, 1, 2), 'gravity-aligned')


# %%
#| export
def screen_direction_facts(m: Measured, cuts: Thresholds, rng: np.random.Generator) -> list[Fact]:
    "Type 4 on the screen: where the object goes in the picture, camera motion included; lengths in picture widths."
    shift = np.concatenate([m.uv_px - m.uv_px[:, :1], 0 * m.uv_px[..., :1]], -1) / m.view.width
    return _directions(m, cuts, rng, shift, SCREEN_SCALE, (0, 1), 'screen')

def rotation_facts(m: Measured, cuts: Thresholds, rng: np.random.Generator) -> list[Fact]:
    "Type 3: clockwise or counterclockwise, seen from above."
    rotations = m.poses[..., :3, :3]
    turn_deg = yaw_deg(rotations, m.clip.up)
    signs, sure = angle_signs(turn_deg[..., None], cuts)
    upright = tipping_deg(rotations, m.clip.up) <= cuts.max_tilt_deg
    rows = [n for n in followable(m, cuts) if upright[n] and sure[n, 0] and signs[n, 0] and m.clip.objects[n].label not in ROUND]
    return [Fact(SPINS[int(signs[n, 0] > 0)], SPINS, (n,), system='gravity-aligned', values=dict(turn_deg=turn_deg[n, -1])) for n in rows]


# %%
#| export
def agent_facts(m: Measured, cuts: Thresholds, rng: np.random.Generator) -> list[Fact]:
    "Type 5: driving forward or backward, turning left or right, in the agent's own axes."
    shift_m = body_displacement_m(m.poses)
    steps_m = (np.diff(m.centers_m, axis=1)[:, :, None] @ m.poses[:, :-1, :3, :3])[..., 0, 0]  # (N, T-1) along the front
    turn_deg = yaw_deg(m.poses[..., :3, :3], m.clip.up)
    turn, turn_sure = angle_signs(turn_deg[..., None], cuts)
    ahead, facts = shift_m[:, -1, 0], []
    for n in followable(m, cuts):
        if not m.clip.objects[n].agent: continue
        values = dict(forward_m=ahead[n], turn_deg=turn_deg[n, -1])
        way_m = np.abs(steps_m[n]).sum()
        if abs(ahead[n]) >= cuts.moving_fraction * m.scale_m[0] and ahead[n] * steps_m[n].sum() >= cuts.straightness * abs(ahead[n]) * way_m:
            options = ('moves backward', 'moves forward')
            facts.append(Fact(options[int(ahead[n] > 0)], options, (n,), system='object', values=values))
        if turn_sure[n, 0] and turn[n, 0]:
            options = ('turns right', 'turns left')
            facts.append(Fact(options[int(turn[n, 0] > 0)], options, (n,), system='object', values=values))
    return facts


# %%
for name, find in (('direction', direction_facts), ('rotation', rotation_facts), ('agent', agent_facts)):
    labels = Counter(fact.label for m in clips for fact in find(m, cuts, rng))
    print(name, dict(labels.most_common(8)))

# %% [markdown]
# The three systems disagree, and that is the point of naming them: an object may go up the screen because it moves away.

# %%
systems = dict(camera=direction_facts, level=level_direction_facts, screen=screen_direction_facts)
told = {name: {(k, fact.objects[0]): fact.label for k, m in enumerate(clips) for fact in find(m, cuts, rng)} for name, find in systems.items()}
for key in list(told['camera'].keys() & told['level'].keys() & told['screen'].keys())[:6]: print([told[name][key] for name in systems])

# %%
assert any(told['camera'][key] != told['screen'][key] for key in told['camera'].keys() & told['screen'].keys())
assert not any('forward' in label or 'backward' in label for label in told['screen'].values())

# %%
m, fact = next((m, fact) for m in clips for fact in direction_facts(m, cuts, rng) if ' and ' in fact.label)
n, T = fact.objects[0], len(m.frames)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), dpi=90)
for axis, t in zip(axes, (0, T - 1)): axis.imshow(m.view.frames[t]); axis.plot(*m.uv_px[n, t], 'w+', markersize=12); axis.axis('off')
shift = object_displacement_m(m.w2c[0], m.centers_m[n])
axes[2].plot(shift[:, 0], shift[:, 2], '.-', color='#D55E00'); axes[2].plot(0, 0, 'o', color='#009E73')
axes[2].set(xlabel='right of the first camera (m)', ylabel='away from it (m)', aspect='equal')
figure.suptitle(f'Where does the {m.clip.objects[n].caption} go? It {fact.label}'); plt.tight_layout(); plt.show()

# %%
for m in clips:
    for fact in direction_facts(m, cuts, rng): assert ('forward' in fact.label) == (fact.values['shift'][2] > 0.3 * np.linalg.norm(fact.values['shift']))
    for fact in rotation_facts(m, cuts, rng): assert (fact.label == 'counterclockwise') == (fact.values['turn_deg'] > 0)
    assert all(m.clip.objects[fact.objects[0]].agent for fact in agent_facts(m, cuts, rng))

# %% [markdown]
# ## Types 2, 6 and 7: distances over time
#
# Types 2 and 7 share the labeller of notebook 08 and its five shapes. The two bent ones are rare, and an option that is
# hardly ever right is one that a blind reader strikes out. So a question offers the three plain shapes, and only now and
# then one bent shape beside them **[ours]**; notebook 09a sees to it that it is right as often as the others where it is
# offered. Type 6 compares path lengths. Beside "this one" and
# "that one" it has two more honest answers, both equally far and neither of them, each with a dead zone of its own:
# equal means within ten percent **[ours]**.

# %%
#| export
EQUALLY, NEITHER = 'both travel equally far', 'neither of them moves'
EQUAL_RATIO = 1.1  # paths of two moving objects within this ratio count as equal

BENT_SHARE = 0.05  # how often a plain trend is offered beside a bent one

def trend_options(trend: int, rng: np.random.Generator) -> tuple[str, ...]:
    "The three plain trends, and one bent one if the truth is bent or now and then."
    bent = trend if trend > 2 else int(rng.integers(3, 5))
    return TRENDS[:3] + ((TRENDS[bent],) if trend > 2 or rng.random() < BENT_SHARE else ())

def _pairs(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "All pairs (P, 2) of the rows, each in random order."
    pairs = np.stack([rows[index] for index in np.triu_indices(len(rows), 1)], -1)
    return rng.permuted(pairs, axis=1) if len(pairs) else pairs

def camera_distance_facts(m: Measured, cuts: Thresholds, rng: np.random.Generator) -> list[Fact]:
    "Type 2: how the distance between the camera and an object changes."
    trend = distance_trend(m.distance_m, cuts)
    return [Fact(TRENDS[trend[n]], trend_options(trend[n], rng), (n,), system='metric', values=dict(distance_m=m.distance_m[n]))
            for n in followable(m, cuts) if trend[n] >= 0]


# %%
#| export
def pair_distance_facts(m: Measured, cuts: Thresholds, rng: np.random.Generator) -> list[Fact]:
    "Type 7: how the distance between two objects changes; at least one of them moves."
    pairs = _pairs(followable(m, cuts), rng)
    distance_m = np.linalg.norm(m.centers_m[pairs[:, 0]] - m.centers_m[pairs[:, 1]], axis=-1)  # (P, T)
    trend, moves = distance_trend(distance_m, cuts), moving(m, cuts)
    return [Fact(TRENDS[trend[k]], trend_options(trend[k], rng), tuple(pair), system='metric', values=dict(distance_m=distance_m[k]))
            for k, pair in enumerate(pairs) if trend[k] >= 0 and moves[pair].any()]

def moved_facts(m: Measured, cuts: Thresholds, rng: np.random.Generator) -> list[Fact]:
    "Type 6: which of two objects travels further."
    path_m, moves, rests = path_length_m(m.centers_m), moving(m, cuts), resting(m, cuts)
    options, facts = ('{a}', '{b}', EQUALLY, NEITHER), []
    for a, b in _pairs(followable(m, cuts), rng):
        shorter = clearly_smaller(path_m[a], path_m[b], cuts.path_ratio)
        label = None
        if rests[a] and rests[b]: label = NEITHER
        elif shorter == 1 and moves[a]: label = '{a}'
        elif shorter == -1 and moves[b]: label = '{b}'
        elif moves[a] and moves[b] and not clearly_smaller(path_m[a], path_m[b], EQUAL_RATIO): label = EQUALLY
        if label: facts.append(Fact(label, options, (a, b), values=dict(path_m=path_m[[a, b]], scale_m=m.scale_m[0])))
    return facts


# %%
finders = {'2 camera–object': camera_distance_facts, '7 object–object': pair_distance_facts, '6 moved': moved_facts}
figure, axes = plt.subplots(1, 3, figsize=(9.5, 2.4), dpi=90)
for axis, (name, find) in zip(axes, finders.items()):
    labels = Counter(fact.label for m in clips for fact in find(m, cuts, rng))
    axis.barh([label.replace(', then', ',\nthen') for label in labels], list(labels.values()), color='#0072B2'); axis.set_title(name, fontsize=9); axis.tick_params(labelsize=7)
plt.tight_layout(); plt.show()

# %% [markdown]
# The labels are not evenly spread, and they need not be: notebook 09 chooses a label first and then a fact that has it.

# %%
for m in clips:
    for fact in pair_distance_facts(m, cuts, rng): assert fact.label in fact.options and fact.objects[0] != fact.objects[1]
    for fact in moved_facts(m, cuts, rng):
        first, second = fact.values['path_m']
        if fact.label == '{a}': assert first >= cuts.path_ratio * second
        if fact.label == EQUALLY: assert max(first, second) <= EQUAL_RATIO * min(first, second) + 1e-9

# %% [markdown]
# ## What we proved
#
# * Options from symmetric sets leave a reader without video at chance; changing one word of the truth gives it away.
# * Every fact carries the measurements that decided it, and they agree with its label.
# * An object that moves is never one that rests; what lies between is not asked about.
#
# ## Try it
#
# 1. Let `camera_facts` accept four simultaneous movements. How many more clips have an answer?
# 2. Add "speeds up / slows down" as a fact with its own option set. What is its symmetric set?
#
# <details><summary>Solutions</summary>
#
# 1. Compare the share of clips with an answer before and after. Four movements at once can be true, but few options
#    then differ clearly from it, and the dead zones of each part must all hold at the same time.
# 2. Options `speeds up`, `slows down`, `keeps its speed`; the symmetric set exchanges the first two when time runs
#    backwards. Add the dead zone of `08_motion`'s third exercise.
#
# </details>
