# %% [markdown]
# # Trajectory scores
# > How far off, how often close enough, how often readable: ADE, FDE, SR@δ, Traj-Acc, late turns, parse rate, identity.

# %%
#| default_exp trajectory_scores

# %% [markdown]
# #| export
# An *answer* is one trajectory turn: truth (J, 3) in metres (NaN = unknown, not counted), prediction (J, 3) or None if there
# was none that could be read. Turn numbers count trajectory turns of a dialogue from 1; late turns are 3 and later.

# %% [markdown]
# * **What** the metrics of trajectory dialogues, with intervals, for any model and any baseline
# * **Why** one number hides whether a model was wrong or merely unreadable
# * **Paper** LMM-Track4D names *Traj-Acc* and its late-turn version, as percentages. **No formula is published; all definitions
#   are [ours]**, and SR@1m always stands beside Traj-Acc
# * **Needs** numpy
# * **Time** 10 seconds
# * **Before this** `11_dialogues`

# %%
#| export
from dataclasses import dataclass, field

import numpy as np

# %%
import matplotlib.pyplot as plt

from track4d_ref.viz import PALETTE, use_style

use_style()


# %% [markdown]
# ## Errors of one answer
#
# $$\mathrm{ADE}_k=\tfrac14\sum_j\lVert\hat{\mathbf p}_{k,j}-\mathbf p_{k,j}\rVert,\qquad \mathrm{FDE}_k=\lVert\hat{\mathbf p}_{k,4}-\mathbf p_{k,4}\rVert$$
#
# States whose truth is unknown are left out; the final error is that of the last known state.

# %%
#| export
@dataclass(frozen=True, eq=False)
class PathAnswer:
    "One required trajectory and what came back."
    dialogue: str
    turn: int                                  # 1, 2, … among the trajectory turns
    truth_m: np.ndarray                        # (J, 3)
    found_m: np.ndarray | None                 # (J, 3), None if nothing could be read
    others_m: np.ndarray | None = None         # (M, J, 3) true paths of the clip's other objects at the same moments
    labels: dict = field(default_factory=dict)

    @property
    def errors_m(self) -> np.ndarray:
        "Distances (j,) at the known states; infinite where nothing was read."
        known = np.isfinite(self.truth_m).all(-1)
        if self.found_m is None: return np.full(int(known.sum()), np.inf)
        errors = np.linalg.norm(self.found_m - self.truth_m, axis=-1)[known]
        return np.where(np.isfinite(errors), errors, np.inf)

    @property
    def ade_m(self) -> float: return float(self.errors_m.mean())

    @property
    def fde_m(self) -> float: return float(self.errors_m[-1])


# %%
truth = np.array([[0, 0, 5], [1, 0, 5], [2, 0, 5], [np.nan] * 3])
one = PathAnswer('d', 1, truth, np.array([[0, 0, 5], [1, 0, 6], [2, 0, 7], [9, 9, 9.]]))
print('errors', one.errors_m, 'ADE', one.ade_m, 'FDE', one.fde_m)
assert one.errors_m.tolist() == [0, 1, 2] and one.ade_m == 1 and one.fde_m == 2
assert PathAnswer('d', 1, truth, None).ade_m == np.inf

# %% [markdown]
# ## Shares over many answers
#
# $$\mathrm{SR@}\delta=\tfrac1{4N}\sum_{k,j}\mathbb 1[\lVert\hat{\mathbf p}_{k,j}-\mathbf p_{k,j}\rVert\le\delta],\qquad
# \mathrm{Traj\text{-}Acc}=\tfrac1N\sum_k\mathbb 1[\mathrm{ADE}_k\le\delta]$$
#
# An unreadable answer counts as wrong in both, and is left out of ADE and FDE, whose counts are given. **Identity
# consistency**: is the prediction nearer to the truth of its own target than to the path of any other object? Reported for
# turns after the first, as the share that stays with the object that turn 1 was nearest to.
#
# Intervals come from resampling *dialogues*, not turns: turns of one dialogue are not independent.

# %%
#| export
DELTAS_M = (0.5, 1.0, 2.0)
LATE = 3

def nearest_path(answer: PathAnswer) -> int | None:
    "0 if the prediction is nearest to its target, i if to other path i - 1; None if there is nothing to compare."
    if answer.found_m is None or answer.others_m is None: return None
    paths = np.concatenate([answer.truth_m[None], answer.others_m])
    distance = np.linalg.norm(paths - answer.found_m, axis=-1)
    known = np.isfinite(distance).any(1)
    return int(np.where(known, np.nanmean(np.where(known[:, None], distance, 0), 1), np.inf).argmin())

def identity_consistency(answers: list[PathAnswer]) -> float:
    "Share of later turns whose prediction is nearest to the object that the dialogue's first trajectory was nearest to."
    first = {a.dialogue: nearest_path(a) for a in answers if a.turn == 1}
    kept = [nearest_path(a) == first[a.dialogue] for a in answers
            if a.turn > 1 and first.get(a.dialogue) is not None and nearest_path(a) is not None]
    return float(np.mean(kept)) if kept else float('nan')


# %%
#| export
def path_scores(answers: list[PathAnswer], delta_m: float = 1.0) -> dict[str, float]:
    "All metrics of a list of answers, shares in 0 … 1, distances in metres; NaN where nothing can be said."
    answers = [a for a in answers if np.isfinite(a.truth_m).all(-1).any()]
    if not answers: return {'n': 0}
    errors = np.concatenate([a.errors_m for a in answers])
    ade = np.array([a.ade_m for a in answers])
    read = [a for a in answers if a.found_m is not None]
    mean = lambda values: float(np.mean(values)) if len(values) else float('nan')
    late = np.array([a.turn >= LATE for a in answers])
    return {'n': len(answers), 'parse_rate': len(read) / len(answers), 'ade_m': mean([a.ade_m for a in read]),
            'fde_m': mean([a.fde_m for a in read]), **{f'sr@{d:g}m': mean(errors <= d) for d in DELTAS_M},
            'traj_acc': mean(ade <= delta_m), 'late_traj_acc': mean(ade[late] <= delta_m), 'late_n': int(late.sum()),
            'identity': identity_consistency(answers)}


# %%
rng = np.random.default_rng(0)
def fake(noise_m, dialogues=60, silent=0.0):
    answers = []
    for d in range(dialogues):
        start = rng.normal(size=3) * 2 + (0, 0, 6)
        others = rng.normal(size=(2, 4, 3)) * 2 + (0, 0, 6)
        for turn in range(1, 5):
            truth = start + np.arange(4)[:, None] * 0.3 + turn * 0.1
            found = None if rng.random() < silent else truth + rng.normal(size=(4, 3)) * noise_m
            answers.append(PathAnswer(f'd{d}', turn, truth, found, others))
    return answers

table = {name: path_scores(fake(*options)) for name, options in {'exact': (0.0,), 'good': (0.3,), 'poor': (1.5,), 'good, half silent': (0.3, 60, 0.5)}.items()}
for name, row in table.items(): print(f'{name:18s}', {key: round(value, 2) for key, value in row.items()})
assert table['exact']['traj_acc'] == table['exact']['identity'] == 1 and table['exact']['ade_m'] == 0
assert table['good, half silent']['traj_acc'] < 0.7 < table['good']['traj_acc'] and table['good, half silent']['ade_m'] < 0.7

# %% [markdown]
# Silence must not pay: the half-silent model keeps its ADE, and loses everything else.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.7), dpi=90, width_ratios=(3, 1))
keys = ('sr@0.5m', 'sr@1m', 'sr@2m', 'traj_acc', 'late_traj_acc', 'parse_rate', 'identity')
for index, (name, row) in enumerate(table.items()):
    axes[0].bar(np.arange(len(keys)) + 0.2 * index, [row[key] for key in keys], 0.18, label=name, color=PALETTE[index])
    axes[1].barh(name, row['ade_m'], color=PALETTE[index])
axes[0].set_xticks(np.arange(len(keys)) + 0.3, keys, rotation=20); axes[0].legend(ncols=4, loc=(0, 1.02), fontsize=7); axes[1].set(xlabel='ADE of what was read (m)')
plt.show()
assert table['good, half silent']['parse_rate'] < 0.6

# %% [markdown]
# How Traj-Acc depends on its threshold, which the paper does not state: print the curve, not the point.

# %%
figure, axis = plt.subplots(figsize=(5.6, 2.5), dpi=90)
deltas = np.linspace(0.05, 4, 80)
for noise, color in ((0.3, PALETTE[0]), (0.7, PALETTE[1]), (1.5, PALETTE[2])):
    answers = fake(noise)
    axis.plot(deltas, [path_scores(answers, d)['traj_acc'] for d in deltas], color=color, label=f'noise {noise} m')
axis.axvline(1, color='k', lw=0.8); axis.set(xlabel='δ (m)', ylabel='Traj-Acc', title='One model, any number you like'); axis.legend(); plt.show()
curve = [path_scores(answers, d)['traj_acc'] for d in deltas]
assert (np.diff(curve) >= 0).all()


# %% [markdown]
# ## Intervals and differences
#
# The bootstrap draws dialogues with replacement. For two models on the *same* dialogues, the difference is resampled in pairs.

# %%
#| export
def bootstrap(answers: list[PathAnswer], key: str, rounds: int = 1000, seed: int = 0) -> tuple[float, float]:
    "The 95 % interval of a score under resampling of dialogues."
    return bootstrap_difference(answers, None, key, rounds, seed)


# %%
#| export
def bootstrap_difference(answers: list[PathAnswer], against: list[PathAnswer] | None, key: str, rounds: int = 1000,
                         seed: int = 0) -> tuple[float, float]:
    "The 95 % interval of score(answers) - score(against), the same dialogues drawn for both."
    rng = np.random.default_rng(seed)
    groups = [_by_dialogue(part) for part in (answers, against) if part is not None]
    names = sorted(set.intersection(*(set(group) for group in groups)))
    values = []
    for _ in range(rounds):
        drawn = [names[i] for i in rng.integers(len(names), size=len(names))]
        scores = [path_scores([a for copy, name in enumerate(drawn) for a in group[name]])[key] for group in groups]
        values.append(scores[0] - (scores[1] if len(scores) == 2 else 0))
    return tuple(float(v) for v in np.nanpercentile(values, (2.5, 97.5)))

def _by_dialogue(answers: list[PathAnswer]) -> dict[str, list[PathAnswer]]:
    groups = {}
    for answer in answers: groups.setdefault(answer.dialogue, []).append(answer)
    return groups


# %%
rng = np.random.default_rng(5)
better, worse = fake(0.45, 40), fake(0.75, 40)
figure, axis = plt.subplots(figsize=(5.6, 1.9), dpi=90)
for row, (name, answers) in enumerate({'better': better, 'worse': worse}.items()):
    low, high = bootstrap(answers, 'traj_acc', 200)
    axis.plot([low, high], [row, row], color=PALETTE[row], lw=5, solid_capstyle='butt', alpha=0.5); axis.plot(path_scores(answers)['traj_acc'], row, 'o', color=PALETTE[row])
axis.set(yticks=[0, 1], yticklabels=['better', 'worse'], ylim=(-0.6, 1.6), xlabel='Traj-Acc, 95 % interval over dialogues'); plt.show()
low, high = bootstrap_difference(better, worse, 'traj_acc', 200)
print(f'difference between {low:.2f} and {high:.2f}')
assert low > 0 and bootstrap(better, 'traj_acc', 50) == bootstrap(better, 'traj_acc', 50)


# %% [markdown]
# ## Two baselines without a network
#
# *Constant velocity* takes the last two observed states and goes on. Given the truth of the first two moments it answers the
# last two: the strongest thing that inertia alone can do **[ours]**. *Standing still* repeats the first.

# %%
#| export
def constant_velocity(times_s: np.ndarray, known_m: np.ndarray) -> np.ndarray:
    "States (J, 3) at times (J,) from the first two (2, 3), carried on by their velocity."
    velocity = (known_m[1] - known_m[0]) / (times_s[1] - times_s[0])
    return known_m[0] + velocity * (times_s - times_s[0])[:, None]


# %%
moments = np.array([0.0, 0.5, 1.0, 1.5])
straight = np.array([1.0, 0, 4]) + moments[:, None] * np.array([0.8, 0, -1])
assert np.allclose(constant_velocity(moments, straight[:2]), straight)
bent = straight + 0.5 * moments[:, None] ** 2 * np.array([0.0, 0, 2])
assert np.allclose(np.linalg.norm(constant_velocity(moments, bent[:2]) - bent, axis=1), [0, 0, 0.5, 1.5])

# %% [markdown]
# ## What we proved
#
# * Exact answers score 1 everywhere; silence is counted as wrong; unknown truth is not counted.
# * Traj-Acc grows with δ; intervals are the same for the same seed; paired differences separate what single intervals cannot.
#
# ## Try it
#
# 1. Resample turns instead of dialogues. How much too narrow do the intervals become?
# 2. Score a model that always answers with the *mean* path of the training set. What is its SR@2m?
# 3. Find answers with ADE above 1 m and FDE below. What do they look like?
#
# <details><summary>Solutions</summary>
#
# 1. Turns of one dialogue share their clip and target, so they err together. Compare both intervals; the ratio of
#    their squared widths is the design effect.
# 2. Compute the mean of the training paths and score it: this is the floor of SR@2m for the scene size at hand, and
#    every table should show it.
# 3. Paths that wander in between and end rightly: typical for answers that interpolate wrongly between a wrong start
#    and a well seen end.
#
# </details>
