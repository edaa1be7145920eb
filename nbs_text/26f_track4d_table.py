# %% [markdown]
# # The table of LMM-Track4D
# > The full model, its baselines, its ablations and four histories on scenes it never saw, each difference with its interval.

# %%
#| default_exp track4d_table

# %% [markdown]
# #| export
# A *row* is one required trajectory: its dialogue, the number of the trajectory turn, the errors of its four states in metres
# (None if nothing could be read), whether the target was hidden at one of them, whether the clip is long. A *set* is the rows
# of one model under one history, one list per training seed.

# %% [markdown]
# * **What** `TRACK4D`, the experiment behind `track4d reproduce track4d`
# * **Why** the paper prints three numbers and no baseline that could be read; ours has to stand beside honest ones
# * **Paper** LMM-Track4D: late-turn Traj-Acc 66.0 / 71.7 / 73.6 without, with its own and with the true history. **Metrics, baselines and ablations are [ours]**
# * **Needs** nothing here; the experiment needs `data_samples/base_tiny`
# * **Time** 20 seconds; the experiment itself took 70 minutes of one processor core
# * **Before this** `18b_trajectory_scores`, `19e_track4d_runs`, `26_experiments`

# %%
#| export
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from track4d_ref.dialogue_sets import other_target
from track4d_ref.experiments import Experiment, step
from track4d_ref.lesson_store import bench_lessons
from track4d_ref.presets import Preset
from track4d_ref.runcard import data_hash
from track4d_ref.storage import InputError, project_path
from track4d_ref.track4d import Track4DConfig, load_track4d
from track4d_ref.track4d_asking import Replies, ask_all_dialogues
from track4d_ref.track4d_runs import run_lessons
from track4d_ref.track4d_training import Lesson, Track4DPlan
from track4d_ref.trajectory_scores import DELTAS_M, LATE, PathAnswer, constant_velocity, identity_consistency
from track4d_ref.vlm import load_vlm

# %%
import matplotlib.pyplot as plt

from track4d_ref.viz import MUTED, PALETTE, use_style

use_style()


# %% [markdown]
# ## Rows
#
# Of an answer only its errors are kept, so that a result stays small and every score can be computed from it again.

# %%
#| export
def rows_from(answers: list[PathAnswer], long: dict[str, bool]) -> list[dict]:
    "Rows of some answers; `long` says of each dialogue whether its clip is long."
    errors = lambda a: None if a.found_m is None else [round(float(e), 3) for e in a.errors_m]
    return [dict(dialogue=a.dialogue, turn=a.turn, errors=errors(a), occluded=bool(a.labels.get('occluded')), long=long[a.dialogue])
            for a in answers if np.isfinite(a.truth_m).all(-1).any()]

KEYS = ('traj_acc', 'late_traj_acc', 'ade_m', 'fde_m', *(f'sr@{d:g}m' for d in DELTAS_M), 'parse_rate')

def parts_of(row: dict, key: str) -> tuple[float, float]:
    "What a row adds to numerator and denominator of a score."
    read, errors = row['errors'] is not None, row['errors'] or []
    if key == 'parse_rate': return read, 1
    if key == 'traj_acc': return read and np.mean(errors) <= 1, 1
    if key == 'late_traj_acc': return (read and np.mean(errors) <= 1, 1) if row['turn'] >= LATE else (0, 0)
    if key == 'ade_m': return (np.mean(errors), 1) if read else (0, 0)
    if key == 'fde_m': return (errors[-1], 1) if read else (0, 0)
    return sum(e <= float(key[3:-1]) for e in errors), len(errors) if read else 4

def sums_of(seeds: list[list[dict]], key: str) -> dict[str, np.ndarray]:
    "Numerator and denominator (2,) of a score per dialogue, over all seeds."
    found = {}
    for row in (row for rows in seeds for row in rows):
        found[row['dialogue']] = found.get(row['dialogue'], 0) + np.array(parts_of(row, key), float)
    return found


# %% [markdown]
# ## Scores with intervals
#
# Turns of a dialogue hang together, so whole dialogues are resampled, with the answers of all seeds in them. For a difference the
# same dialogues are drawn for both sides. Two seeds say little about the spread between seeds, so each seed's own score is printed too.

# %%
#| export
@dataclass(frozen=True)
class Estimate:
    "A score or a difference of two, with its 95 % interval over dialogues."
    value: float
    low: float
    high: float

    def __str__(self) -> str: return f'{self.value:.2f} ({self.low:.2f} to {self.high:.2f})'

    def percent(self, sign: str = '') -> str:
        "The same in percent; `sign` is '+' for differences."
        return f'{100 * self.value:{sign}.1f} ({100 * self.low:{sign}.0f} to {100 * self.high:{sign}.0f})'

def estimate(seeds: list[list[dict]], key: str, against: list[list[dict]] | None = None, draws: int = 2000) -> Estimate | None:
    "The score of a set, or its difference to another one over the same dialogues; None where there is nothing to count."
    sides = [sums_of(part, key) for part in (seeds, against) if part is not None]
    names = sorted(set.intersection(*(set(side) for side in sides)))
    tables = [np.array([side[name] for name in names]).reshape(-1, 2) for side in sides]
    if not names or min(table[:, 1].sum() for table in tables) == 0: return None
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), draws)      # (draws, dialogues)
    with np.errstate(invalid='ignore'): shares = [(drawn @ table)[:, 0] / (drawn @ table)[:, 1] for table in tables]
    values = [table[:, 0].sum() / table[:, 1].sum() for table in tables]
    spread, value = (shares[0], values[0]) if against is None else (shares[0] - shares[1], values[0] - values[1])
    return Estimate(float(value), *(float(v) for v in np.nanpercentile(spread, (2.5, 97.5))))


# %% [markdown]
# A made-up set whose scores are known: two dialogues, one always right, one always 3 m off.

# %%
made = [[dict(dialogue=name, turn=turn, errors=[error] * 4, occluded=turn == 2, long=False) for name, error in (('a', 0.2), ('b', 3.0)) for turn in (1, 2, 3)]]
lost = [[row | {'errors': None if row['turn'] == 3 else row['errors']} for row in made[0]]]
for key in KEYS: print(f'{key:14s} {estimate(made, key)}   last turn unreadable: {estimate(lost, key)}')
assert estimate(made, 'traj_acc').value == 0.5 and np.isclose(estimate(made, 'ade_m').value, 1.6) and estimate(lost, 'late_traj_acc').value == 0
assert estimate(made, 'ade_m', made).low == estimate(made, 'ade_m', made).high == 0 and np.isclose(estimate(lost, 'parse_rate').value, 4 / 6)

# %%
widths = []
figure, axis = plt.subplots(figsize=(5.4, 2.0), dpi=90)
for place, size in enumerate((4, 20, 100, 400)):
    rng = np.random.default_rng(size)
    some = [[dict(dialogue=str(n), turn=1, errors=[float(rng.exponential())] * 4, occluded=False, long=False) for n in range(size)]]
    found = estimate(some, 'ade_m')
    widths.append(found.high - found.low)
    axis.errorbar(found.value, place, xerr=[[found.value - found.low], [found.high - found.value]], fmt='o', color=PALETTE[0])
axis.axvline(1, color=MUTED, lw=1); axis.set(yticks=range(4), yticklabels=[f'{n} dialogues' for n in (4, 20, 100, 400)], xlabel='ADE of errors whose mean is 1 m'); plt.show()
assert widths[3] < widths[2] < widths[1]           # one interval in twenty misses the truth; with more dialogues all are narrower


# %% [markdown]
# ## Baselines without a network of their own
#
# Constant velocity needs two states. Given the *true* first two it knows more than any model here; it is printed as a bound, not as
# a rival. The fair one starts from what the model itself found: from its own first two states of the turn, or from the end of its own previous answer (then the first
# turn has none, and counts as unreadable).

# %%
#| export
def coasting_sets(lessons: list[Lesson], answers: list[PathAnswer]) -> dict[str, list[PathAnswer]]:
    "Constant velocity from true states (two variants) and from a model's own ones (two variants), for the turns of `answers`."
    of = {lesson.dialogue.id: lesson.dialogue for lesson in lessons}
    told = {(a.dialogue, a.turn): a.found_m for a in answers}
    turn_of = lambda a, turn: of[a.dialogue].turns[of[a.dialogue].path_turns[turn - 1]]
    def onward(a: PathAnswer, known_m, times_s) -> np.ndarray | None:
        if known_m is None: return None
        return known_m[0] + (known_m[1] - known_m[0]) / (times_s[1] - times_s[0]) * (turn_of(a, a.turn).times_s - times_s[0])[:, None]
    def earlier(a: PathAnswer, states) -> np.ndarray | None:
        if a.turn == 1 or states is None: return None
        return onward(a, states[-2:], turn_of(a, a.turn - 1).times_s[-2:])
    here = lambda a: constant_velocity(turn_of(a, a.turn).times_s, a.truth_m[:2])
    own = lambda a: None if a.found_m is None else constant_velocity(turn_of(a, a.turn).times_s, a.found_m[:2])
    before = lambda a: earlier(a, turn_of(a, a.turn - 1).xyz_m if a.turn > 1 else None)
    makers = {'constant velocity, true first two': here, 'constant velocity, true previous answer': before,
              'constant velocity, own first two': own, 'constant velocity, own previous answer': lambda a: earlier(a, told.get((a.dialogue, a.turn - 1)))}
    return {name: [replace(a, found_m=make(a)) for a in answers] for name, make in makers.items()}

def mean_path(train: list[Lesson], answers: list[PathAnswer]) -> list[PathAnswer]:
    "The mean of all training paths as everybody's answer."
    mean = np.nanmean([turn.xyz_m for lesson in train for turn in lesson.dialogue.turns if turn.returns_path], 0)
    return [replace(a, found_m=mean) for a in answers]


# %%
truth = np.array([[0, 0, 8.0], [1, 0, 8], [2, 0, 8], [3, 0, 8]])
straight = PathAnswer('a', 1, truth, truth + [0, 0, 0.5])
print(rows_from([straight, replace(straight, turn=3, found_m=None)], {'a': False}))
assert np.allclose(constant_velocity(np.arange(4.0), straight.found_m[:2]), straight.found_m)


# %% [markdown]
# ## The experiment
#
# Per seed one full model and one that answers trajectories in words, trained for as many steps. The decoders without slots, kinematics,
# residual or anchor, the way-point GRU, and the decoders that see tokens without ray and time, or a state without a past, are trained *beside* the
# full decoder on the same trunk: they see what it sees and do not change it. That is far cheaper than training every ablation by itself, and
# weaker: the trunk was shaped by the full decoder, so a part that only helps the *trunk* learn looks useless here. Everything finished stays in the folder.

# %%
#| export
@dataclass(frozen=True)
class TrackBudget:
    "What the trainings of the table may cost; all [ours]."
    steps: int
    seeds: int                 # of the full model
    other_seeds: int           # of the models trained separately
    modes: tuple[str, ...]     # histories under which the full model is asked
    entries: int = 526
    learning_rate: float = 1e-3

MODES = {'self': {'mode': 'self'}, 'no': {'mode': 'no'}, 'gold': {'mode': 'gold'}, 'corrupted': {'mode': 'corrupted'},
         'state only': {'mode': 'self', 'use_text': False}, 'text only': {'mode': 'self', 'use_state': False}}
BUDGETS = {'tiny': TrackBudget(500, 3, 3, tuple(MODES), learning_rate=1.5e-3), 'small': TrackBudget(20000, 3, 3, tuple(MODES))}
BESIDE = ('gru', 'no anchor', 'no slots', 'no residual', 'no kinematics', 'no RTGE', 'no memory')
FULL, TEXT = 'full', 'trajectories as text'
APART = {TEXT: {}}               # trained by itself; every other ablation is a decoder beside the full one
def base_folder(preset: Preset) -> Path:
    "The base model: the preset's, or the one that ships with the project."
    return Path(preset.base) if preset.base != 'none' else project_path('data_samples/base_tiny')

def plan_of(budget: TrackBudget, name: str, seed: int, beside: bool = True) -> tuple[Track4DConfig, Track4DPlan]:
    "Switches and training plan of a model of the table; decoders beside are trained with the first seed."
    config = Track4DConfig(**APART.get(name, {}), pool=2, beside=BESIDE if name == FULL and beside else ())
    return config, Track4DPlan(budget.steps, learning_rate=budget.learning_rate, as_text=name == TEXT, save_every=20, seed=seed)


# %%
#| export
def kept(replies: Replies, lessons: list[Lesson]) -> dict:
    "Replies as JSON: rows of the answers and of the decoders beside, answer accuracy, identity consistency."
    long = {lesson.dialogue.id: lesson.dialogue.long for lesson in lessons}
    number = lambda value: None if np.isnan(value) else round(float(value), 4)
    return dict(rows=rows_from(replies.paths, long), beside={name: rows_from(answers, long) for name, answers in replies.beside.items()},
                coasting={name: rows_from(answers, long) for name, answers in coasting_sets(lessons, replies.paths).items()},
                answers=number(replies.answer_accuracy()), identity=number(identity_consistency(replies.paths)),
                kinds={kind: [sum(right for k, right in replies.words if k == kind), sum(k == kind for k, _ in replies.words)] for kind in sorted({k for k, _ in replies.words})})

def ask_modes(model, lessons: list[Lesson], modes: list[str], as_text: bool = False) -> dict:
    "What a model replies under some histories."
    dialogues = [lesson.dialogue for lesson in lessons]
    others = [other_target(dialogue, dialogues, np.random.default_rng(number)) for number, dialogue in enumerate(dialogues)]
    ask = lambda mode: ask_all_dialogues(model, lessons, others=others, as_text=as_text, with_beside=mode == 'self', **MODES[mode])
    return {mode: kept(ask(mode), lessons) for mode in modes}          # the decoders beside are compared under 'self' alone


# %%
#| export
def table_model(folder: Path, preset: Preset, lessons: tuple[list[Lesson], list[Lesson]], name: str, number: int,
                modes: tuple[str, ...] = ('self',), beside: bool = False) -> dict:
    "One model of the table by name and seed, trained and asked on (train, test); finished in `folder`, it is only read."
    base, (config, plan) = base_folder(preset), plan_of(BUDGETS[preset.name], name, number, beside)
    out = folder / f'{name.replace(" ", "_")}_{number}'
    def make() -> dict:
        rows = run_lessons(out, preset, lessons[0], base, config, plan, progress=True)
        return dict(seed=number, steps=len(rows), modes=ask_modes(load_track4d(out / 'model'), lessons[1], list(modes), plan.as_text))
    return step(folder, out.name, dict(base=data_hash([base]), plan=vars(plan)), make)

def run_track4d(preset: Preset, folder: Path, seed: int) -> dict:
    "All models of the table, trained and asked; each finished one stays in the folder."
    if preset.name not in BUDGETS: raise InputError(f'preset {preset.name}: has no budget for this table; use {" or ".join(BUDGETS)}')
    budget, base = BUDGETS[preset.name], base_folder(preset)
    train, test = bench_lessons(folder / 'lessons', preset, load_vlm(base)[0], budget.entries, sets=(0,), progress=True)
    names = [(FULL, seed + k) for k in range(budget.seeds)] + [(name, seed + k) for k in range(budget.other_seeds) for name in APART]
    models = {}
    for name, number in names:
        modes = budget.modes if name == FULL else ('self',)
        models.setdefault(name, []).append(table_model(folder, preset, (train, test), name, number, modes, number == seed))
    return summary(models, train, test) | {'base': data_hash([base])}


# %% [markdown]
# The summary holds every score once for all turns and once for the occluded, visible, long and short ones, and each set's difference
# to the full model under its own history.

# %%
#| export
PARTS = {'all': lambda row: True, 'occluded': lambda row: row['occluded'], 'visible': lambda row: not row['occluded'],
         'long': lambda row: row['long'], 'short': lambda row: not row['long']}

def sets_of(models: dict[str, list[dict]], mean_rows: list[dict]) -> dict[str, dict]:
    "name → dict(seeds = rows per training seed, answers, identity) of everything the table shows."
    found = {}
    def add(name: str, runs: list[dict], pick, **extra) -> None:
        found[name] = dict(seeds=[pick(run) for run in runs], **{key: [run[key] for run in runs if run.get(key) is not None] for key in extra})
    of = lambda name, mode: [run['modes'][mode] for run in models.get(name, []) if mode in run['modes']]
    for mode in MODES: add(f'{FULL}, {mode} history' if mode in ('self', 'gold', 'no', 'corrupted') else f'{FULL}, {mode}', of(FULL, mode), lambda run: run['rows'], answers=1, identity=1)
    for name in APART: add(name, of(name, 'self'), lambda run: run['rows'], answers=1, identity=1)
    first = of(FULL, 'self')[:1]
    for name in BESIDE:
        add(name, first, lambda run, name=name: run['beside'][name])
        found[name]['full'] = [run['rows'] for run in first]          # what it is compared with: the decoder of the same trunk
    for name in of(FULL, 'self')[0]['coasting']: add(name, of(FULL, 'self'), lambda run, name=name: run['coasting'][name])
    found['mean training path'] = dict(seeds=[mean_rows] * len(of(FULL, 'self')))
    return {name: one for name, one in found.items() if one['seeds']}

def listed(found: Estimate | None) -> list[float] | None:
    "An estimate as [value, low, high] for JSON."
    return found and [round(value, 4) for value in (found.value, found.low, found.high)]


# %%
#| export
def scores_of(one: dict, full: dict) -> dict:
    "All scores of a set, part by part, and its differences to the full model."
    scores = {}
    for part, belongs in PARTS.items():
        pick = lambda seeds: [[row for row in rows if belongs(row)] for rows in seeds]
        scores[part] = {key: listed(estimate(pick(one['seeds']), key)) for key in KEYS}
        scores[part] |= {f'{key} difference': listed(estimate(pick(one['seeds']), key, pick(one.get('full', full['seeds'])))) for key in ('traj_acc', 'late_traj_acc', 'ade_m')}
        scores[part]['n'] = len(pick(one['seeds'])[0])
    each = [{key: listed(estimate([rows], key)) for key in ('traj_acc', 'ade_m')} for rows in one['seeds']]
    return scores | {'each seed': each} | {key: one[key] for key in ('answers', 'identity') if key in one}

def summary(models: dict[str, list[dict]], train: list[Lesson], test: list[Lesson]) -> dict:
    "What is stored: counts, scores of every set, differences between histories on late turns, words per kind of turn."
    long, first = {lesson.dialogue.id: lesson.dialogue.long for lesson in test}, test
    answers = [PathAnswer(l.dialogue.id, order, l.dialogue.turns[number].xyz_m, None, labels=l.dialogue.turns[number].labels)
               for l in first for order, number in enumerate(l.dialogue.path_turns, 1)]
    sets = sets_of(models, rows_from(mean_path(train, answers), long))
    full = sets[f'{FULL}, self history']
    pairs = (('gold', 'self'), ('self', 'no'), ('gold', 'no'), ('no', 'corrupted'))
    of = {mode: sets[f'{FULL}, {mode} history']['seeds'] for mode in MODES if f'{FULL}, {mode} history' in sets}
    history = {f'{a} - {b}': {key: listed(estimate(of[a], key, of[b])) for key in ('late_traj_acc', 'ade_m')} for a, b in pairs if {a, b} <= set(of)}
    return dict(counts=dict(train_dialogues=len(train), train_clips=len({l.dialogue.clip for l in train}), test_dialogues=len(test), test_turns=len(answers)),
                steps={name: [run['steps'] for run in runs] for name, runs in models.items()}, history=history,
                kinds=[run['modes']['self']['kinds'] for run in models[FULL]], sets={name: scores_of(one, full) for name, one in sets.items()})


# %%
#| export
COLUMNS = {'traj_acc': 'Traj-Acc %', 'late_traj_acc': 'late turns %', 'ade_m': 'ADE m', 'fde_m': 'FDE m', 'sr@0.5m': 'SR@0.5', 'sr@1m': 'SR@1',
           'sr@2m': 'SR@2', 'parse_rate': 'read %'}

def cell(values: list[float] | None, key: str) -> str:
    "An estimate as a cell: metres with two digits, shares in percent; the interval only where it says most."
    if values is None: return '–'
    if key in ('ade_m', 'fde_m'): text, ends = f'{values[0]:.2f}', f'{values[1]:.2f}–{values[2]:.2f}'
    else: text, ends = f'{100 * values[0]:.1f}', f'{100 * values[1]:.0f}–{100 * values[2]:.0f}'
    return f'{text} ({ends})' if key in ('traj_acc', 'late_traj_acc', 'ade_m') else text

def signed(values: list[float] | None, key: str) -> str:
    "A difference as a cell, with a sign."
    if values is None: return '–'
    scale, digits = (1, 2) if key == 'ade_m' else (100, 1)
    return f'{scale * values[0]:+.{digits}f} ({scale * values[1]:+.{digits}f} to {scale * values[2]:+.{digits}f})'


# %%
#| export
def track4d_cells(result: dict) -> list[tuple[str, ...]]:
    "All sets down, scores across; then the histories beside the published numbers."
    mean = lambda values: f'{100 * np.mean(values):.1f}' if values else '–'
    lines = [('model', *COLUMNS.values(), 'ADE – full', 'ADE occluded', 'ADE visible', 'words %', 'identity %')]
    for name, one in result['sets'].items():
        apart = (signed(one['all']['ade_m difference'], 'ade_m'), cell(one['occluded']['ade_m'], 'ade_m'), cell(one['visible']['ade_m'], 'ade_m'))
        lines.append((name, *(cell(one['all'][key], key) for key in COLUMNS), *apart, mean(one.get('answers')), mean(one.get('identity'))))
    published = {'gold - self': '+1.9', 'self - no': '+5.7', 'gold - no': '+7.6', 'no - corrupted': '–'}
    fill = ('',) * (len(lines[0]) - 4)
    lines.append(('histories, late turns', 'difference %', 'published', 'ADE m', *fill))
    for name, found in result['history'].items():
        lines.append((name, signed(found['late_traj_acc'], 'late_traj_acc'), published[name], signed(found['ade_m'], 'ade_m'), *fill))
    return lines

SCALE = 'a model of three million weights, simulated clips of 8 or 24 frames of 112 px, minutes of training on one processor core; orderings count, values do not'
TRACK4D = Experiment('track4d', 'LMM-Track4D, late-turn Traj-Acc 66.0 / 71.7 / 73.6 (no / self / gold history), read second-hand', SCALE, run_track4d, track4d_cells)


# %% [markdown]
# ## The table, on noise
#
# Before the models, a check of the table itself: rows of a random generator that makes **no difference between the models**, every error
# with a mean of 1 m. One row, trajectories as text, is worse on purpose (1.5 m, three in
# ten unreadable), to see that the table notices. The spread of the others is what chance alone does with sixty dialogues.

# %%
def noise(mean_m: float, seed: int, read: float = 1.0) -> list[dict]:
    "Rows of sixty dialogues with gamma-distributed errors."
    rng = np.random.default_rng(seed)
    errors = lambda: rng.gamma(2, mean_m / 2, 4).round(3).tolist() if rng.random() < read else None
    return [dict(dialogue=str(d), turn=k, errors=errors(), occluded=bool(rng.random() < 0.2), long=d % 5 == 0) for d in range(60) for k in (1, 2, 3)]

replies = lambda mean_m, seed, read=1.0: dict(rows=noise(mean_m, seed, read), beside={name: noise(mean_m, seed + k) for k, name in enumerate(BESIDE, 1)},
                                              coasting={'constant velocity, own first two': noise(mean_m, seed + 9)}, answers=0.8, identity=0.9)
models = {FULL: [dict(seed=seed, modes={mode: replies(1.0, 100 * seed + 20 * k) for k, mode in enumerate(MODES)}) for seed in (0, 1)],
          TEXT: [dict(seed=0, modes={'self': replies(1.5, 970, 0.7)})]}
sets = sets_of(models, noise(1.0, 980))
shown = {name: scores_of(one, sets[f'{FULL}, self history']) for name, one in sets.items()}
result = {'sets': shown, 'history': {'gold - self': {key: listed(estimate(sets[f'{FULL}, gold history']['seeds'], key, sets[f'{FULL}, self history']['seeds'])) for key in ('late_traj_acc', 'ade_m')}}}
for line in track4d_cells(result)[:6]: print(' | '.join(line))
assert shown[f'{FULL}, self history']['all']['ade_m difference'] == [0, 0, 0] and shown[TEXT]['all']['ade_m difference'][1] > 0
assert 0.6 < shown[TEXT]['all']['parse_rate'][0] < 0.8 and len({len(line) for line in track4d_cells(result)}) == 1

# %% [markdown]
# ## The stored result
#
# Test dialogues of scenes that no training saw. The full model was trained with three seeds; each ablation is a decoder that was trained
# beside the full one of the first seed, on the same trunk, and is compared with that one. Of the model that writes trajectories as text
# this table holds one seed; two further ones stand in `26ha_track4d_parts`, and the next full run of the experiment trains three. Intervals
# are over dialogues.

# %%
from track4d_ref.experiments import read_result
stored = read_result(None, 'track4d', 'tiny')['result']
print(stored['counts'], 'steps:', stored['steps'])
for line in track4d_cells(stored): print(' | '.join(line))
assert len(stored['sets'][f'{FULL}, self history']['each seed']) == 3

# %%
shown = stored['sets']
figure, axes = plt.subplots(1, 2, figsize=(8.4, 4.4), dpi=80, sharey=True)
names = list(shown)[::-1]
for axis, key, label, scale in ((axes[0], 'ade_m', 'ADE, m', 1), (axes[1], 'traj_acc', 'Traj-Acc, %', 100)):
    for place, name in enumerate(names):
        if shown[name]['all'][key] is None: continue
        middle, low, high = (scale * v for v in shown[name]['all'][key])
        color = PALETTE[0] if name.startswith(FULL) else PALETTE[3] if name in BESIDE else PALETTE[1]
        axis.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt='o', ms=4, color=color)
    axis.set(xlabel=label, yticks=range(len(names)), yticklabels=names); axis.tick_params(labelsize=7)
figure.tight_layout(); plt.show()
assert {TEXT, 'mean training path', *BESIDE} <= set(names)

# %% [markdown]
# **Beaten**, in ADE and in Traj-Acc (43.5 %), with intervals of the difference that leave out zero: the GRU head (3.12 m, 7.6 %), the model
# that writes trajectories as text (3.66 m, 4.0 %; 84 % of them readable), constant velocity from the model's own first two states
# (1.82 m, 36.0 %) and from its own previous answer (1.83 m over the 71 % of turns that have one, 24.2 %), and the mean path (3.92 m, 1.1 %).
#
# **Not beaten**: constant velocity from *true* states. From the first two of the turn it is at 0.33 m and 89.7 %, from the last two of the
# true previous answer at 0.36 m over the turns that have one. Paths this short are nearly straight; but nobody gives a model two true
# states, so this is a bound, and says how far the model is from the best that inertia alone could do.

# %% [markdown]
# What each part is worth: the ablation's mean distance minus the full decoder's, over the same dialogues. Right of zero the part helps.

# %%
figure, axis = plt.subplots(figsize=(7.4, 2.6), dpi=80)
for offset, (part, color) in enumerate((('visible', PALETTE[0]), ('occluded', PALETTE[3]))):
    for place, name in enumerate(BESIDE):
        middle, low, high = shown[name][part]['ade_m difference']
        axis.errorbar(middle, place + 0.25 * offset, xerr=[[middle - low], [high - middle]], fmt='o', ms=4, color=color, label=part if not place else None)
axis.axvline(0, color='#888', lw=1); axis.set(yticks=range(len(BESIDE)), yticklabels=BESIDE, xlabel='ADE of the ablation minus ADE of the full decoder, m')
axis.legend(fontsize=7); figure.tight_layout(); plt.show()
one = shown['gru']
assert one['all']['n'] == one['occluded']['n'] + one['visible']['n'] == one['long']['n'] + one['short']['n']

# %% [markdown]
# Anchors (0.90 m) and memory (0.20 m) help. RTGE, kinematics and the residual make no difference that these dialogues can resolve, and
# without slots the decoder is a little *better* (0.09 m, interval 0.01 to 0.17): **the published worth of these three parts is not
# reproduced at this scale.** The three occluded trajectories all come from one test dialogue, so they have no interval and nothing is
# claimed about the ablations under occlusion; `26ha_track4d_parts` asks the full model about a second set in which things are hidden.

# %% [markdown]
# Histories on late turns, beside the published differences (+1.9, +5.7 and +7.6 points):

# %%
figure, axis = plt.subplots(figsize=(6, 1.8), dpi=80)
for place, (name, found) in enumerate(stored['history'].items()):
    middle, low, high = (100 * value for value in found['late_traj_acc'])
    axis.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt='o', ms=4, color=PALETTE[0], capsize=3)
published = {'gold - self': 1.9, 'self - no': 5.7, 'gold - no': 7.6}
axis.plot(list(published.values()), [list(stored['history']).index(name) for name in published], 'x', color=PALETTE[1], label='published')
axis.axvline(0, color='#888', lw=1); axis.set(yticks=range(len(stored['history'])), yticklabels=list(stored['history']), xlabel='difference of Traj-Acc on late turns, points')
axis.legend(fontsize=7); figure.tight_layout(); plt.show()
assert set(stored['history']) == {'gold - self', 'self - no', 'gold - no', 'no - corrupted'}

# %% [markdown]
# History is worth 37 points on late turns (published: 7.6), since later turns say "it" and only the history says what that is. Gold and self
# are the same to three digits: a trajectory turn says "Its path is [TRK]." in both, and the state is the model's own. A corrupted history is no
# worse than none by Traj-Acc, and 0.38 m worse in metres.

# %% [markdown]
# ## What we proved
#
# * Scores of rows equal those of `18b_trajectory_scores`; a difference is taken over the same dialogues, an unreadable answer counts as wrong.
# * The table holds every history, baseline and ablation that the experiment makes, over dialogues of scenes that no training saw.
# * What it shows and what it does not is written under the figures; orderings that the intervals do not separate are not claimed.
#
# ## Try it
#
# 1. `track4d reproduce track4d --preset tiny`: stop it after the first model, start it again, and see what it does not repeat.
# 2. Give the constant-velocity rival the *median* velocity of its own states. Does it come nearer?
# 3. How many dialogues does it take before two models that differ by 0.1 m can be told apart?
#
# <details><summary>Solutions</summary>
#
# 1. Lessons and finished models are read from the folder; a model that was being trained goes on from its last checkpoint.
# 2. On straight paths yes, since one bad state no longer decides; on turns neither helps.
# 3. With errors spread like these (standard deviation near their mean) a few hundred: the interval of a mean of 60 dialogues is some ± 0.1 m.
#
# </details>
