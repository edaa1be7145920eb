# %% [markdown]
# # The ladder
# > MLLM-4D's ablation at the smallest scale: base, two kinds of fine-tuning, cold start, and GRPO with and without the spatial reward.

# %%
#| default_exp ladder

# %% [markdown]
# * **What** the experiment `ladder` on MLLM4D-Bench-tiny and the held-out domain, and `grpo_reward`: what GRPO does to the reward
# * **Why** the paper claims an order; with seeds and paired tests we can say which steps of it are resolved
# * **Paper** MLLM-4D, ablation table (§9 of our facts), §5.1 to §5.3. Sizes, rates and numbers of steps are **[ours]**
# * **Needs** torch
# * **Time** 20 seconds to look at; `track4d reproduce ladder --preset tiny` takes about twenty minutes of one core per seed
# * **Before this** `26c_tables`, `26f_lessons`

# %%
#| export
import copy
import itertools
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from track4d_ref.curation import CuratedSet, curated_set
from track4d_ref.experiments import Experiment, paired_difference, step
from track4d_ref.grpo import train_grpo
from track4d_ref.ladder_lessons import (SIZES, SUBTASKS, Bench, LadderPlan, TowerStates, base_examples, bench, bench_questions, chain_examples,
                                        chain_tasks, direct, judged, mean_reward, sft_examples, teach, words_of)
from track4d_ref.packing import ClipExample
from track4d_ref.presets import Preset
from track4d_ref.rewards import st_reward
from track4d_ref.scoring import t_probability
from track4d_ref.sft import trainable
from track4d_ref.tables import cell, rows_of
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vision import load_tower
from track4d_ref.vlm import build_vlm, load_vlm, save_vlm

# %%
import tempfile

import matplotlib.pyplot as plt
import torch

from track4d_ref.experiments import read_result
from track4d_ref.grpo import GrpoSettings
from track4d_ref.presets import load_preset
from track4d_ref.storage import InputError
from track4d_ref.viz import MUTED, PALETTE, use_style
use_style(); torch.set_num_threads(1)

# %% [markdown]
# ## Rungs
#
# Each rung starts from the one before it, except that both fine-tunings start from the base. The cold start stands between
# SFT and GRPO and is shown as a rung of its own **[ours]**: without it one would credit GRPO with what the chains taught. A rung
# is a kept step: model, verdicts, mean reward and curve.

# %%
#| export
PLANS = {'tiny': LadderPlan()}
PARENTS = {'base': None, 'mono': 'base', 'stereo': 'base', 'cold': 'stereo', 'grpo': 'cold', 'grpo_st': 'cold'}
NAMES = {'base': 'base', 'mono': 'SFT, one eye', 'stereo': 'SFT, stereo', 'cold': '+ cold start', 'grpo': '+ GRPO, accuracy + format', 'grpo_st': '+ GRPO, ST-reward'}
THINKERS = ('cold', 'grpo', 'grpo_st')
EXTRA = 100                      # seeds of runs of GRPO beyond the ladder
HELD_OUT = 'heldout'             # the simulator's domain for transfer
SEEDS = dict(data=700, base=701, bench=702, transfer=703)      # series of clips


# %%
#| export
class Ladder:
    "One run of the ladder: plan, folder, and the data and benchmarks, made when first needed."
    def __init__(self, preset: Preset, folder: Path, plan: LadderPlan):
        self.preset, self.folder, self.plan, self.states, self.made = replace(preset, **SIZES), Path(folder), plan, TowerStates(), {}

    def once(self, name: str, make: Callable[[], object]):
        "A value made at most once per run."
        if name not in self.made: self.made[name] = make()
        return self.made[name]

    @property
    def data(self) -> CuratedSet: return self.once('data', lambda: curated_set(self.folder / 'set', self.preset, SEEDS['data'], self.plan.clips))
    @property
    def base_lessons(self) -> list[ClipExample]: return self.once('lessons', lambda: base_examples(self.preset, SEEDS['base'], self.plan.base_clips))
    @property
    def bench(self) -> Bench: return self.once('bench', lambda: bench(self.folder / 'set', self.preset, SEEDS['bench'], self.plan.bench))
    @property
    def transfer(self) -> Bench:
        return self.once('transfer', lambda: bench(self.folder / 'set', self.preset, SEEDS['transfer'], self.plan.transfer, HELD_OUT))

    def path(self, rung: str, seed: int) -> Path: return self.folder / (rung if rung == 'base' else f'{rung}_{seed}')

    def parent(self, rung: str, seed: int) -> tuple[str, int]:
        "The rung below and its seed; there is one base, and runs of GRPO from EXTRA on share the first cold start."
        below = PARENTS[rung]
        return below, 0 if below == 'base' or seed >= EXTRA else seed

    def rung(self, name: str, seed: int) -> dict:
        "Train (once) and judge a rung."
        later = ['seeds', *(['grpo'] if not name.startswith('grpo') else []), *(['sft_steps'] if name == 'base' else []),
                 *(['words', 'samples', 'cold_steps', 'cold_batch'] if name not in THINKERS else [])]
        shown = {key: value for key, value in asdict(self.plan).items() if key not in later}
        return step(self.folder, f'{self.path(name, seed).name}_result', dict(plan=shown, seed=seed), lambda: self.climb(name, seed))

    def climb(self, name: str, seed: int) -> dict:
        "Parent's model → this rung's model, saved, and what it answers."
        if name != 'base': self.rung(*self.parent(name, seed))
        model, tokenizer = self.start() if name == 'base' else load_vlm(self.path(*self.parent(name, seed)))
        curve = self.lesson(name, model, tokenizer, seed)
        save_vlm(model, tokenizer, self.path(name, seed))
        states = self.states.under(model, tokenizer)
        judge = (lambda asked: judged(model, tokenizer, asked, self.preset, self.plan, states)) if name in THINKERS else (
            lambda asked: direct(model, tokenizer, asked, self.preset))
        if seed >= EXTRA: return dict(rewards=mean_reward(model, tokenizer, self.bench, self.preset, self.plan, seed, states), curve=curve)
        rewards = mean_reward(model, tokenizer, self.bench, self.preset, self.plan, seed, states) if name in THINKERS else None
        return dict(bench=judge(self.bench), transfer=judge(self.transfer), rewards=rewards, curve=curve)

    def start(self) -> tuple:
        "A new language model under the shipped tower."
        relations = sft_examples(self.data, 'stereo', self.preset)[:150] + chain_examples(self.data, self.preset, whole=True)[:150]
        tokenizer = train_tokenizer(words_of(self.base_lessons + relations), self.preset.vocabulary)
        model = build_vlm(self.preset, tokenizer, seed=0)
        load_tower(model)
        return model, tokenizer

    def lesson(self, name: str, model, tokenizer, seed: int) -> list:
        "What a rung adds; the loss per step, or for GRPO the log."
        plan = self.plan
        taught = lambda examples, steps, batch: teach(model, tokenizer, examples, self.states, steps, batch, plan.learning_rate, seed)
        if name == 'base': return taught(self.base_lessons, plan.base_steps, plan.batch)
        if name in ('mono', 'stereo'): return taught(sft_examples(self.data, name, self.preset), plan.sft_steps, plan.batch)
        if name == 'cold': return taught(chain_examples(self.data, self.preset), plan.cold_steps, plan.cold_batch)
        reward = lambda text, solution: st_reward(text, solution, spatial=name == 'grpo_st').total
        trainable(model, True, False)
        reference = copy.deepcopy(model).requires_grad_(False)
        return train_grpo(model, tokenizer, chain_tasks(self.data, 'stereo', self.preset), reward, replace(self.plan.grpo, seed=seed), reference,
                          self.path(name, seed).with_name(f'{name}_{seed}_run'), quiet=True, states=self.states.under(model, tokenizer))


# %% [markdown]
# ## The experiment

# %%
#| export
def _plain(curve: list) -> list[float]:
    "A loss curve as it is; of a GRPO log the mean reward of each step."
    return [round(entry['reward'], 4) for entry in curve] if curve and isinstance(curve[0], dict) else curve

def run_ladder(preset: Preset, folder: Path, seed: int, plan: LadderPlan | None = None) -> dict:
    "All rungs for all seeds; every finished rung is kept beside `folder`."
    plan = plan or PLANS[preset.name]
    ladder = Ladder(preset, folder.parent / 'rungs', plan)
    found = {name: [] for name in PARENTS}
    for k in range(plan.seeds):
        for name in PARENTS: found[name].append(ladder.rung(name, 0 if name == 'base' else seed + k))
    models = {name: [dict(bench=one['bench'], transfer=one['transfer']) for one in rows] for name, rows in found.items()}
    return dict(questions=dict(bench=bench_questions(ladder.bench), transfer=bench_questions(ladder.transfer)), models=models,
                rewards={name: [one['rewards'] for one in found[name]] for name in THINKERS},
                curves={name: [_plain(one['curve']) for one in rows] for name, rows in found.items()})


# %% [markdown]
# A ladder of two steps per rung shows the machinery: every rung is made once, and a second call makes nothing.

# %%
folder, preset = Path(tempfile.mkdtemp()), load_preset('tiny')
short = LadderPlan(clips=6, base_clips=4, base_steps=2, sft_steps=2, cold_steps=2, batch=2, cold_batch=2, bench=1, transfer=1, words=6, samples=1, seeds=1,
                   grpo=GrpoSettings(group=2, words=6, prompts_per_step=1, steps=2))
result = run_ladder(preset, folder / 'ladder', 0, short)
made = {path: path.stat().st_mtime_ns for path in (folder / 'rungs').glob('*.json')}
print(sorted(path.name for path in made))
assert run_ladder(preset, folder / 'ladder', 0, short) == result and made == {path: path.stat().st_mtime_ns for path in made}

# %%
figure, axis = plt.subplots(figsize=(6.4, 1.9)); axis.axis('off')
places = dict(base=(0, 0.5), mono=(1, 1), stereo=(1, 0), cold=(2, 0), grpo=(3, 1), grpo_st=(3, 0))
for name, (x, y) in places.items():
    if PARENTS[name]: axis.annotate('', (x - 0.32, y), [places[PARENTS[name]][0] + 0.32, places[PARENTS[name]][1]], arrowprops=dict(arrowstyle='->', color=MUTED))
    axis.text(x, y, NAMES[name].replace(', ', ',\n'), ha='center', va='center', fontsize=7.5, bbox=dict(boxstyle='round', fc='white', ec=PALETTE[2 if name in THINKERS else 0]))
axis.set(xlim=(-0.5, 3.5), ylim=(-0.4, 1.4), title='who starts from whom (green: answers by a chain of thought)'); plt.show()
assert all(PARENTS[name] in places or name == 'base' for name in places)

# %%
#| export
PUBLISHED_ROWS = {'base': (35.3, 52.1), 'mono': (59.9, 56.2), 'stereo': (70.1, 59.7), 'grpo': (70.5, 61.4), 'grpo_st': (72.7, 63.1)}   # MLLM-4D, ablation

def ladder_cells(result: dict) -> list[tuple[str, ...]]:
    "Rungs down; bench, the step from the rung before with its interval, subtasks, transfer, and the paper's two columns."
    columns = list(dict.fromkeys(SUBTASKS.values()))
    lines = [('rung', 'bench', 'vs the rung before', *columns, 'transfer', 'paper: bench', 'paper: VLM4D')]
    before = {'mono': 'base', 'stereo': 'mono', 'cold': 'stereo', 'grpo': 'cold', 'grpo_st': 'grpo'}
    for name in result['models']:
        seeds = rows_of(result, 'bench', name)
        rise = str(paired_difference(rows_of(result, 'bench', before[name]), seeds)) if name in before else ''
        paper = [f'{value:.1f}' for value in PUBLISHED_ROWS.get(name, ())] or ['', '']
        lines.append((NAMES[name], cell(seeds, 'overall'), rise, *(cell(seeds, column).split(' ')[0] for column in columns),
                      cell(rows_of(result, 'transfer', name), 'overall'), *paper))
    return lines


# %% [markdown]
# The result of `track4d reproduce ladder --preset tiny`. Until one ships, the two-step run above stands in; it only shows what the
# table will look like (`LOG.md` has the first climb). The last two columns are the paper's; its models have
# eight billion weights and its VLM4D is real video, so only the order may be compared.

# %%
def shipped(name: str, otherwise) -> dict:
    "A shipped result, or what was just made if none ships yet."
    try: return read_result(None, name, 'tiny')['result']
    except InputError: print(f'no result of {name} ships yet; what follows is the run of two steps'); return otherwise()

ladder_result = shipped('ladder', lambda: result)
for line in ladder_cells(ladder_result): print(' | '.join((line[0], line[1], line[2], *line[-3:])))

# %%
models = list(ladder_result['models'])
figure, axes = plt.subplots(1, 2, figsize=(8.2, 2.8), sharey=True)
for axis, where in zip(axes, ('bench', 'transfer')):
    for place, name in enumerate(models):
        text = cell(rows_of(ladder_result, where, name), 'overall')
        mean, (low, high) = float(text.split(' ')[0]), map(float, text.split('(')[1].rstrip(')').split('–'))
        axis.plot([low, high], [place, place], color=PALETTE[0]); axis.plot(mean, place, 'o', color=PALETTE[0])
        for one in ladder_result['models'][name]: axis.plot(100 * one[where].count('1') / len(one[where]), place + 0.2, '|', color=PALETTE[1], ms=6)
    axis.axvline(25, color=MUTED, lw=1, ls=':'); axis.set(xlabel='right (%)', title={'bench': 'MLLM4D-Bench-tiny', 'transfer': 'held-out domain'}[where])
axes[0].set_yticks(range(len(models)), [NAMES[name] for name in models]); axes[0].invert_yaxis(); plt.show()
assert len(ladder_cells(ladder_result)) == 7

# %% [markdown]
# Bars are 95 % intervals over clips and seeds, ticks are single seeds, the dotted line is guessing. What each rung does to each
# of the six subtasks:

# %%
columns = list(dict.fromkeys(SUBTASKS.values()))
grid = np.array([[float(cell(rows_of(ladder_result, 'bench', name), column).split(' ')[0]) for column in columns] for name in models])
figure, axis = plt.subplots(figsize=(6.4, 2.6)); axis.imshow(grid, cmap='YlGnBu', vmin=0, vmax=100, aspect='auto')
for (r, c), value in np.ndenumerate(grid): axis.text(c, r, f'{value:.0f}', ha='center', va='center', fontsize=8, color='white' if value > 60 else 'black')
axis.set_xticks(range(len(columns)), columns, fontsize=7); axis.set_yticks(range(len(models)), [NAMES[name] for name in models], fontsize=7); plt.show()
assert np.allclose(grid.mean(1), [100 * np.mean([one['bench'].count('1') / len(one['bench']) for one in ladder_result['models'][name]]) for name in models], atol=0.1)

# %% [markdown]
# ## Does the reward rise?
#
# Eight runs of GRPO with seeds of their own go on from the first cold start. Per run: mean reward of sampled chains on held-out
# questions before and after, both sampled with the run's own random numbers, so that luck in judging the start is not
# shared by all. Two one-sided tests over runs: the exact sign-flip test, which assumes nothing but symmetry and cannot go
# below $2^{-n}$ for $n$ runs, and the t-test.

# %%
#| export
RUNS = 8
PARTS = ('total', 'format', 'accuracy', 'camera', 'object', 'right')

def sampled_before(ladder: Ladder, seed: int) -> dict[str, float]:
    "Parts of the reward of the first cold start, sampled with a run's own random numbers; kept."
    def make() -> dict[str, float]:
        model, tokenizer = load_vlm(ladder.path('cold', 0))
        return mean_reward(model, tokenizer, ladder.bench, ladder.preset, ladder.plan, seed, ladder.states.under(model, tokenizer))
    return step(ladder.folder, f'before_{seed}', dict(seed=seed, samples=ladder.plan.samples, bench=ladder.plan.bench), make)

def run_grpo_reward(preset: Preset, folder: Path, seed: int, plan: LadderPlan | None = None, runs: int = RUNS) -> dict:
    "Parts of the reward before and after `runs` runs of GRPO with the ST-reward, and their curves."
    plan = plan or PLANS[preset.name]
    ladder, found = Ladder(preset, folder.parent / 'rungs', plan), []
    ladder.rung('cold', 0)
    for k in range(EXTRA + seed, EXTRA + seed + runs):
        after = ladder.rung('grpo_st', k)
        logged = {name: [round(entry[name], 4) for entry in after['curve']] for name in ('reward', 'kl', 'words', 'finished', 'flat_groups')}
        found.append(dict(seed=k, before=sampled_before(ladder, k), after=after['rewards'], curve=logged))
    return dict(runs=found, group=plan.grpo.group, prompts=plan.grpo.prompts_per_step)

def sign_flip_p(gains: list[float]) -> float:
    "Exact one-sided p of the mean gain under random signs."
    flips = np.array(list(itertools.product((1, -1), repeat=len(gains))))
    return float(((flips * np.array(gains)).mean(1) >= np.mean(gains) - 1e-12).mean())


# %%
#| export
def t_test_p(gains: list[float]) -> float:
    "One-sided p of the mean gain by Student's t."
    if len(gains) < 2: return 1.0
    t = float(np.mean(gains) / max(np.std(gains, ddof=1) / np.sqrt(len(gains)), 1e-12))
    tail = (1 - t_probability(abs(t), len(gains) - 1)) / 2
    return tail if t > 0 else 1 - tail

def reward_cells(result: dict) -> list[tuple[str, ...]]:
    "Parts of the reward before and after GRPO, mean over runs, and both tests."
    lines = [('held-out, sampled', 'cold start', '+ GRPO', 'gain', 'runs that gained', 'p, sign-flip', 'p, t-test')]
    row = lambda name, before, after: (name, f'{np.mean(before):.3f}', f'{np.mean(after):.3f}', f'{np.mean(after) - np.mean(before):+.3f}',
                                       f'{int((np.array(after) > before).sum())} of {len(after)}', f'{sign_flip_p(np.subtract(after, before)):.4f}',
                                       f'{t_test_p(np.subtract(after, before)):.4f}')
    for part in PARTS:
        before, after = ([run[when][part] for run in result['runs']] for when in ('before', 'after'))
        lines.append(row('right letters' if part == 'right' else part, before, after))
    return lines


# %%
#| export
SCALE = ('a language model of three layers of 192 under a frozen tower, minutes instead of days; the held-out domain of the simulator stands in '
         'for VLM4D; orderings count, values do not')
LADDER = Experiment('ladder', 'MLLM-4D, ablation table', SCALE, run_ladder, ladder_cells)
GRPO_REWARD = Experiment('grpo_reward', 'MLLM-4D §5.3; the paper prints no reward', SCALE, run_grpo_reward, reward_cells)

# %% [markdown]
# The result of `track4d reproduce grpo_reward --preset tiny`. The rate is the paper's (5e-5); four times as much, without KL, destroys
# the chains (`LOG.md`). All parts rise, places and form most surely; a right letter is still a guess before and after, and whether it
# rises is not resolved.

# %%
learned = shipped('grpo_reward', lambda: run_grpo_reward(preset, folder / 'grpo_reward', 0, short, runs=2))
for line in reward_cells(learned): print(' | '.join(line))
assert sign_flip_p([0.1] * 7) == 1 / 128 and t_test_p([0.1, 0.12, 0.11]) < 0.01 < t_test_p([0.1, -0.2, 0.2])

# %%
figure, axes = plt.subplots(1, 3, figsize=(8.6, 2.5))
curves = np.array([run['curve']['reward'] for run in learned['runs']])
for curve in curves: axes[0].plot(curve, color=PALETTE[0], alpha=0.25, lw=1)
window = min(5, curves.shape[1])
axes[0].plot(np.arange(curves.shape[1] - window + 1) + window / 2, [curves[:, at:at + window].mean() for at in range(curves.shape[1] - window + 1)], color=PALETTE[1])
axes[0].set(xlabel='step', ylabel='mean reward', title='training prompts')
for run in learned['runs']: axes[1].plot([0, 1], [run['before']['total'], run['after']['total']], 'o-', color=PALETTE[2], lw=1, ms=4)
axes[1].set(xticks=(0, 1), xticklabels=('cold start', '+ GRPO'), xlim=(-0.3, 1.3), title='held-out prompts')
single = np.array([[run['after'][part] - run['before'][part] for run in learned['runs']] for part in PARTS[1:5]])
gains = single.mean(1)
axes[2].barh(PARTS[1:5], gains, color=PALETTE[:4], alpha=0.5); axes[2].axvline(0, color=MUTED, lw=1); axes[2].set_title('gain by part')
for place, values in enumerate(single): axes[2].plot(values, np.full(len(values), place), '.', color=PALETTE[place], ms=5)
axes[2].invert_yaxis(); figure.tight_layout(); plt.show()
assert abs(sum(gains) - np.mean([run['after']['total'] - run['before']['total'] for run in learned['runs']])) < 1e-6

# %% [markdown]
# ## What we proved
#
# * a rung is made once, and a changed plan is refused instead of mixed in;
# * differences between rungs come with an interval over seeds and clips, and what is not resolved is not claimed;
# * the two tests over runs equal their definitions, and the gain of the reward is the sum of the gains of its parts.

# %% [markdown]
# ## Try it
#
# 1. Set `kl=0` in the plan's `GrpoSettings`. Which part of the reward grows, and what happens to the words of the chains?
# 2. Give GRPO the reward preset `code`. Which hole of notebook 23 is found first?
# 3. Start GRPO from the SFT model without a cold start. Why does nothing happen?
#
# <details><summary>Solutions</summary>
#
# 1. Print the parts of the reward per step. Without the penalty whatever is cheapest to raise grows first, usually
#    the format; read ten chains to see what the words became.
# 2. `code` pays for what it can parse: run it for the same steps and compare the reward of both presets on the same
#    answers. A growing `code` with a falling `paper` names the hole.
# 3. All completions of a group then get the same reward, mostly zero, so the advantage is zero and with it the
#    gradient. Print the spread within the groups.
#
# </details>
