# %% [markdown]
# # How sure the oracle is
# > A second opinion counts only where it would survive its own error: lengths as intervals, directions with a margin, turns that go one way.

# %%
#| default_exp oracle_limits

# %% [markdown]
# * **What** the six disagreements about moved distances, looked at one by one; an error for each of the oracle's measurements
# * **Why** a judge who guesses adds noise to the agreement, and then nobody knows whether labels or judge are wrong
# * **Paper** 4DP-QA had people validate its benchmark; the oracle and its errors are **[ours]**
# * **Needs** numpy, `oracle`
# * **Time** 40 seconds
# * **Before this** `09c_oracle`

# %%
#| export
import numpy as np

from track4d_ref.facts import EQUALLY
from track4d_ref.oracle import LEAST_MEASURED, Oracle, direction_net, oracle_agrees, oracle_label
from track4d_ref.presets import Thresholds, load_thresholds
from track4d_ref.questions import Question

# %%
from collections import Counter

import matplotlib.pyplot as plt

from track4d_ref.measurements import measure
from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.simulator import simulate_clip

# %% [markdown]
# ## Who is wrong?
#
# On 20,009 questions about simulated clips the bare oracle contradicted six answers to "which travels further", all
# from three clips. There the simulator's path is known to the last digit, so the question can be settled. We put the
# true path lengths beside those of the oracle.

# %%
cuts, style = load_thresholds('simulator'), Style(modes=('caption', 'pixel'), systems=('first camera', 'gravity-aligned', 'screen'))

def moved_cases(index: int):
    "Clip, oracle and the contradicted questions about moved distance."
    clip = simulate_clip(0, load_preset('tiny'), index)
    oracle, asked = Oracle(clip), ask_all(clip, np.random.default_rng(index), per_type=4, style=style)
    return clip, oracle, [q for q in asked if q.type == 'moved_distance' and oracle_agrees(oracle, q, cuts) is False]

cases = {index: moved_cases(index) for index in (322, 457, 514)}
for index, (clip, oracle, found) in cases.items():
    true_m = np.linalg.norm(np.diff(measure(clip).centers_m, axis=1), axis=-1).sum(1)
    for question in found:
        ids = [record['object'] for record in question.references]
        names = [f'{clip.object(id).caption} {true_m[[item.id for item in clip.objects].index(id)]:.2f} m' for id in ids]
        print(f'clip {index}: {" and ".join(names)}; the engine says {question.meta["truth"]}, the oracle {oracle_label(oracle, question, cuts)!r}')

# %% [markdown]
# In all six the engine is right: 2.62 m against 1.73 m is a ratio of 1.51, the least that is asked about. The oracle errs,
# in two ways. The orange ball of clip 457 turns back within its first frames, of which two
# are not measured, and the oracle took the short cut between their neighbours for the path. The cars of clips 322 and 514 show another
# side as they turn; the centre found from that side jumps to and fro, and every jump makes the path longer, never shorter.

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.2), dpi=85)
for axis, index in zip(axes, (457, 322)):
    clip, oracle, found = cases[index]
    for record, color in zip(found[0].references, ('#0072B2', '#D55E00')):
        true_m = clip.object(record['object']).centers_m
        seen_m = np.array([center for t in range(len(true_m)) if (center := oracle.center_m(record['object'], t)) is not None])
        axis.plot(*true_m[:, :2].T, 'o-', color=color, alpha=0.35, markersize=4, label=f'{clip.object(record["object"]).caption}, true')
        axis.plot(*seen_m[:, :2].T, 'x--', color=color, linewidth=1, label='what the oracle joins')
    axis.set(title=f'clip {index}, from above', xlabel='x (m)', ylabel='y (m)', aspect='equal'); axis.legend(fontsize=6)
plt.tight_layout(); plt.show()

# %%
assert [len(found) for *_, found in cases.values()] == [2, 2, 2]
for clip, oracle, found in cases.values():
    true_m = np.linalg.norm(np.diff(measure(clip).centers_m, axis=1), axis=-1).sum(1)
    rows = [[item.id for item in clip.objects].index(record['object']) for record in found[0].references]
    assert max(true_m[rows]) >= cuts.path_ratio * min(true_m[rows])      # the label is right in each of the three clips


# %% [markdown]
# ## Lengths as intervals
#
# The honest statement is "between so and so many metres". The least is the polygon through the measured centres minus
# the error of a centre (`blur_m`, a fifth of what is seen of the thing). The greatest adds that error, and for every
# gap the way that the thing could have made at the greatest speed it was seen to have. If fewer than seven frames in ten
# are measured, there is no statement. Two lengths then decide a question only if all values inside both intervals give the same answer.

# %%
#| export
def length_span_m(oracle: Oracle, id: int, frames) -> tuple[float, float] | None:
    "Least and greatest length of an object's path in metres; None if too few frames show it, or not the first and the last."
    seen = [k for k, frame in enumerate(frames) if oracle.center_m(id, frame) is not None]
    if len(seen) < LEAST_MEASURED * len(frames) or seen[0] > 0 or seen[-1] < len(frames) - 1: return None
    steps, path_m = np.diff(seen), np.array([oracle.center_m(id, frames[k]) for k in seen])
    straight_m = np.linalg.norm(np.diff(path_m, axis=0), axis=-1)
    winding_m = np.where(steps > 1, steps * (straight_m / steps).max(), straight_m)
    blur_m = oracle.blur_m(id, frames[0])
    return max(straight_m.sum() - blur_m, 0.0), winding_m.sum() + blur_m

def _longer(first_m: float, second_m: float, cuts: Thresholds) -> str:
    border = (1.1 + cuts.path_ratio) / 2
    if max(first_m, second_m) < border * min(first_m, second_m): return EQUALLY
    return '{a}' if first_m > second_m else '{b}'

def _sure_moved(oracle: Oracle, question: Question, cuts: Thresholds, label: str) -> bool:
    ids, least_m = [record['object'] for record in question.references], (cuts.still_fraction + cuts.moving_fraction) / 2
    least_m *= oracle.scale_m(question.frames[0])
    paths = [oracle.path_m(id, question.frames) for id in ids]
    moves = [np.linalg.norm(path_m - path_m[0], axis=-1).max() >= least_m for path_m in paths]
    if not any(moves): return True
    spans = [length_span_m(oracle, id, question.frames) if go else (0.0, 0.0) for id, go in zip(ids, moves)]
    if None in spans: return False
    (low_a, high_a), (low_b, high_b) = spans
    return {_longer(low_a, high_b, cuts), _longer(high_a, low_b, cuts)} == {label}


# %% [markdown]
# Is a fifth of the extent a fair error? We compare with the truth: the picture shows, for many moving things, the true length
# as a share of the interval, 0 at its lower end and 1 at its upper end. What lies outside is where the error is too small.

# %%
shares, some = [], [simulate_clip(7, load_preset('tiny'), index) for index in range(80)]
for clip in some:
    oracle, m = Oracle(clip), measure(clip)
    for n, item in enumerate(clip.objects):
        true_m, span = np.linalg.norm(np.diff(m.centers_m[n], axis=0), axis=-1).sum(), length_span_m(oracle, item.id, range(len(m.frames)))
        if span and true_m > 0.05 * m.scale_m[0]: shares.append((true_m - span[0]) / (span[1] - span[0]))
shares = np.array(shares)
figure, axis = plt.subplots(figsize=(5.6, 2.2), dpi=90)
axis.axvspan(0, 1, color='#009E73', alpha=0.15); axis.hist(np.clip(shares, -1.5, 2.5), bins=32, color='#0072B2')
axis.set(xlabel='true length, as a share of the interval', ylabel='things'); plt.tight_layout(); plt.show()
print(f'{len(shares)} moving things, {np.mean((shares >= 0) & (shares <= 1)):.1%} inside their interval')

# %%
assert len(shares) > 50 and np.mean((shares >= 0) & (shares <= 1)) > 0.9

# %% [markdown]
# ## Directions with a margin, turns that go one way
#
# The same two causes act elsewhere, and another seed shows it: with seed 1 the bare oracle agrees on 98.8 % of the
# directions and 99.3 % of the rotations. A car that drives to the right and a little ahead is off by half a metre in
# depth, and "ahead" is gone. So a word is sure only if its axis stays named, or unnamed, when the shift grows or
# shrinks by `blur_m`.
#
# A turn is a sum of small fitted turns. Where a person of forty pixels gives steps of −3, 3, 0, −9, 15, 6, 0 degrees, the sum says
# nothing. A turn is sure if it is as large as the smallest that is asked about and at least half of all its steps add up in its direction; −45 and
# 45 degrees are the ends of the search and no measurement.

# %%
#| export
STEADY = 0.5       # least share of the fitted steps that must add up to the turn
SEARCH_END_DEG = 45

def _sure_direction(oracle: Oracle, question: Question, cuts: Thresholds, label: str) -> bool:
    id, frames = question.references[0]['object'], question.frames
    net, least, per_metre = direction_net(oracle, question, cuts, oracle.path_m(id, [frames[0], frames[-1]]))
    blur, size, share = oracle.blur_m(id, frames[0]) * per_metre, np.linalg.norm(net), (cuts.axis_ratio + cuts.axis_absent) / 2
    axes = 2 if question.meta['system'] == 'screen' else 3
    return bool(abs(size - least) >= blur and (np.abs(np.abs(net[:axes]) - share * size) >= blur).all())

def sure_turn(steps_deg: list[float] | None, cuts: Thresholds) -> bool:
    "Whether fitted turns from frame to frame add up to one that can be believed."
    if not steps_deg or max(map(abs, steps_deg)) >= SEARCH_END_DEG: return False
    return abs(sum(steps_deg)) >= max(cuts.rotation_deg, STEADY * sum(map(abs, steps_deg)))

def _sure_drive(oracle: Oracle, question: Question) -> bool:
    id, frames = question.references[0]['object'], question.frames
    front = oracle.clip.object(id).world_from_object[frames[0], :3, 0]
    return bool(abs((oracle.center_m(id, frames[-1]) - oracle.center_m(id, frames[0])) @ front) >= oracle.blur_m(id, frames[0]))


# %%
#| export
def sure_label(oracle: Oracle, question: Question, cuts: Thresholds) -> str | None:
    "The oracle's label where it would survive the oracle's own error; None elsewhere."
    label = oracle_label(oracle, question, cuts)
    if label is None: return None
    if question.type == 'moved_distance': sure = _sure_moved(oracle, question, cuts, label)
    elif question.type == 'object_direction': sure = _sure_direction(oracle, question, cuts, label)
    elif question.type == 'object_rotation' or label.startswith('turns'):
        sure = sure_turn(oracle.turn_steps_deg(question.references[0]['object'], question.frames), cuts)
    else: sure = question.type != 'agent_motion' or _sure_drive(oracle, question)
    return label if sure else None

def surely_agrees(oracle: Oracle, question: Question, cuts: Thresholds | None = None) -> bool | None:
    "Like `oracle_agrees`, but None wherever the oracle is not sure."
    if question.category == 'tracking': return oracle_agrees(oracle, question, cuts)
    label = sure_label(oracle, question, cuts or load_thresholds(oracle.clip.source))
    return None if label is None else label == question.meta['truth']


# %%
for clip, oracle, found in cases.values(): print([surely_agrees(oracle, question, cuts) for question in found])
assert not any(surely_agrees(oracle, question, cuts) is False for _, oracle, found in cases.values() for question in found)
assert sure_turn([-3, -6, 0, -3], cuts) and not sure_turn([-3, 3, 0, -9, 15, 6, 0], cuts) and not sure_turn([0, 15, -45, 9], cuts)

# %% [markdown]
# ## What sureness costs
#
# Sixty clips, judged both ways. A part of what the bare oracle confirmed becomes undecided: that is
# the price, and it belongs in the table. `benchmarks/oracle.py` prints both counts for 20,000 questions; the seed on which the rules were made is 0,
# the stored check on scenes that nobody had looked at before is seed 2.

# %%
bare, sure = Counter(), Counter()
for index, clip in enumerate(some[:60]):
    oracle = Oracle(clip)
    for question in ask_all(clip, np.random.default_rng(index), ('object_rotation', 'object_direction', 'agent_motion', 'moved_distance'), 4, style=style):
        bare[question.type, oracle_agrees(oracle, question, cuts)] += 1; sure[question.type, surely_agrees(oracle, question, cuts)] += 1
figure, axis = plt.subplots(figsize=(6.4, 2.6), dpi=90)
rows = [(kind, name, verdicts) for kind in dict.fromkeys(kind for kind, _ in bare) for name, verdicts in (('bare', bare), ('sure', sure))]
left = np.zeros(len(rows))
for verdict, name, color in ((True, 'agreed', '#009E73'), (False, 'against', '#D55E00'), (None, 'undecided', '#DDDDDD')):
    values = np.array([verdicts[kind, verdict] for kind, _, verdicts in rows]); axis.barh(range(len(rows)), values, left=left, color=color, label=name); left += values
axis.set(yticks=range(len(rows)), xlabel='questions'); axis.set_yticklabels([f'{kind}, {name}' for kind, name, _ in rows], fontsize=7)
axis.invert_yaxis(); axis.legend(fontsize=7); plt.tight_layout(); plt.show()

# %%
against = [sum(count for (_, verdict), count in verdicts.items() if verdict is False) for verdicts in (bare, sure)]
decided = [sum(count for (_, verdict), count in verdicts.items() if verdict is not None) for verdicts in (bare, sure)]
print(f'bare: {against[0]} of {decided[0]} against; sure: {against[1]} of {decided[1]}')
assert against[1] <= min(against[0], 0.005 * decided[1]) and decided[1] > 0.5 * decided[0]

# %% [markdown]
# The benchmark goes on using the bare oracle, on purpose: there a guess against an answer is reason enough to drop the
# question, and dropping too much costs nothing.
#
# ## What we proved
#
# * In all six cases the label was right and the oracle wrong, for two reasons that can be named and drawn.
# * With its own errors taken into account the oracle contradicts hardly anything, and says how much it no longer decides.
#
# ## Try it
#
# 1. Set `BLUR_SHARE` to 0.1 and to 0.4. How many things lie inside their interval, and how many questions stay undecided?
# 2. Break a label on purpose: swap {a} and {b} in `moved_facts`. How many contradictions does the sure oracle report?
#
# <details><summary>Solutions</summary>
#
# 1. With 0.1 more of the true lengths fall outside and contradictions return; with 0.4 nearly all lie inside and most
#    moved distances are undecided. A fifth is a compromise, not a law.
# 2. Nearly every decided question with a slot for an answer is contradicted; only "equally far" and "neither" survive. That
#    the judge has become careful has not made it blind.
#
# </details>
