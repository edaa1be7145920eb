# %% [markdown]
# # More training, in rounds
# > How far the model of Table 2 comes when it is trained on: accuracy over the steps, per category, and what each round changes.

# %%
#| default_exp rounds

# %% [markdown]
# * **What** the experiment `rounds`: Table 2's fine-tuned model, then further rounds, each from the model of the one before
# * **Why** Table 2 has to run within an hour; the strongest checkpoint may take longer, and the curve says whether more would help
# * **Paper** 4DP-QA §4.1 trains for one epoch of 400,000 pairs. Rounds, and what the second one adds, are **[ours]**
# * **Needs** the benchmark and the base checkpoint in `data_samples`
# * **Time** 20 seconds to look at; the second round took an hour of one core
# * **Before this** `22g_pointing`, `26c_tables`

# %%
#| export
from dataclasses import replace
from pathlib import Path

import numpy as np

from track4d_ref.clip_sets import MIXTURES
from track4d_ref.experiments import Experiment, step
from track4d_ref.fine_tuning import FineTunePlan
from track4d_ref.presets import Preset
from track4d_ref.runcard import data_hash
from track4d_ref.tables import (BENCHES, COLUMNS, SCALE, WORDS, base_answers, bench_answers_aloud, bench_folder, bench_questions, budget_of, cell, chance_cell,
                                columns_of, model_folder, plans_of, rows_of, train_and_answer, training_set)
from track4d_ref.vlm import load_vlm

# %%
import matplotlib.pyplot as plt

from track4d_ref.experiments import read_result
from track4d_ref.presets import load_preset
from track4d_ref.viz import MUTED, PALETTE, use_style
use_style()

# %% [markdown]
# ## The rounds
#
# The first round is Table 2's. In the second, mentions point at the tokens of their object and the tower learns to feel how things
# move ([`22g_pointing`](22g_pointing.ipynb)); its letters count from the first step. The rate rises and falls once per round.

# %%
#| export
ROUNDS = {'tiny': ((dict(steps=800, learning_rate=1e-3, pointing=0.3, moving=1.0, verdicts_from=0.0), 4000),)}

def rounds_of(preset: Preset, seed: int) -> list[tuple[FineTunePlan, int]]:
    "(plan, clips) of every round; the first one is that of Table 2."
    budget = budget_of(preset)
    first = plans_of(preset, 'full', MIXTURES[0], budget.steps, seed)[0]
    further = [(replace(first, seed=seed + number, **changes), clips) for number, (changes, clips) in enumerate(ROUNDS.get(preset.name, ()), 1)]
    return [(first, budget.clips), *further]


# %%
#| export
HIDDEN = 'last, video hidden'

def run_rounds(preset: Preset, folder: Path, seed: int) -> dict:
    "Train round after round and ask both benchmarks after each; at the end once more without the video."
    plans, shared, start, done = rounds_of(preset, seed), folder.parent / 'models', bench_folder('base_tiny'), 0
    models = {'base': [base_answers(shared, preset)]}
    for plan, clips in plans:
        answers = train_and_answer(shared, preset, training_set(preset, folder.parent, clips), plan, clips, start)
        start, done = model_folder(shared, plan, clips), done + plan.steps
        models |= {f'{done} steps': [answers], f'{done} steps{WORDS}': [{name: answers[f'{name} words'] for name in BENCHES}]}
    models[HIDDEN] = [step(shared, 'hidden', dict(model=data_hash([start])), lambda: bench_answers_aloud(*load_vlm(start), preset, True))]
    return dict(questions={name: bench_questions(name, preset) for name in BENCHES}, models=models)

def steps_of(result: dict) -> list[str]:
    "The models after each round, in order ('800 steps', …)."
    return sorted((name for name in result['models'] if name.endswith(' steps')), key=lambda name: int(name.split()[0]))

def rounds_cells(result: dict) -> list[tuple[str, ...]]:
    "Categories and types down, models across; the held-out domain last."
    models = ['base', *(name + suffix for name in steps_of(result) for suffix in ('', WORDS)), HIDDEN]
    line = lambda bench, column: (chance_cell(rows_of(result, bench, models[0]), column), *(cell(rows_of(result, bench, model), column) for model in models))
    return [('', 'chance', *models), *((column, *line('bench', column)) for column in columns_of(result, 'bench')), ('transfer', *line('transfer', 'overall'))]

ROUNDS_EXPERIMENT = Experiment('rounds', '4DP-QA, Table 2, with more training', SCALE, run_rounds, rounds_cells)

# %%
from track4d_ref.sft import schedule
preset = load_preset('tiny')
plans, at = rounds_of(preset, 0), 0
figure, axis = plt.subplots(figsize=(6.5, 1.8))
for number, (plan, clips) in enumerate(plans):
    steps = np.arange(plan.steps)
    axis.fill_between(at + steps, [1e3 * plan.learning_rate * schedule((k + 1) / (plan.steps + 1), 0.05) for k in steps], color=PALETTE[number], alpha=0.6, lw=0)
    axis.text(at + 0.5 * plan.steps, 0.15, f'round {number + 1}: {clips:,} clips', ha='center', fontsize=8); at += plan.steps
axis.set(xlabel='step', ylabel='rate (1e-3)', xlim=(0, at), ylim=(0, None)); plt.show()
assert plans[0][0].steps == budget_of(preset).steps and len({plan.seed for plan, _ in plans}) == len(plans)

# %% [markdown]
# ## What came of it
#
# The stored result of `track4d reproduce rounds --preset tiny`. Answers are said aloud and read in two ways
# ([`25e_evaluation`](25e_evaluation.ipynb)); the last column asks the last model with its video hidden. That model is shipped;
# this asks it again:
#
# ```
# track4d evaluate --model data_samples/questions_tiny --bench data_samples/bench --aloud --out runs/answers_bench.jsonl
# ```

# %%
result = read_result(None, 'rounds', 'tiny')['result']
for line in rounds_cells(result): print(' | '.join(line))
assert rounds_cells(result)[-1][0] == 'transfer' and set(result['models']) >= {'base', '800 steps', HIDDEN}


# %%
def percent(bench: str, model: str, column: str) -> float:
    "Mean accuracy of a cell."
    return float(cell(rows_of(result, bench, model), column).split(' ')[0])

rounds = steps_of(result)
steps = [0, *(int(name.split()[0]) for name in rounds)]
figure, axes = plt.subplots(1, 2, figsize=(7.5, 2.6), sharey=True, layout='constrained')
for axis, suffix, title in zip(axes, ('', WORDS), ('aloud: words, then the letter', 'the same answers by their words')):
    for column, color in zip(COLUMNS, PALETTE):
        axis.plot(steps, [percent('bench', 'base', column), *(percent('bench', name + suffix, column) for name in rounds)], 'o-', color=color, label=column)
    axis.plot(steps, [percent('transfer', 'base', 'overall'), *(percent('transfer', name + suffix, 'overall') for name in rounds)], 's:', color=MUTED, label='transfer')
    axis.set(xlabel='steps', title=title, ylim=(20, 100))
axes[0].set_ylabel('right (%)'); axes[1].legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5)); plt.show()
assert len(steps) == len(plans) + 1 and percent('bench', HIDDEN, 'overall') < percent('bench', rounds[-1], 'overall') - 10

# %% [markdown]
# Per type, from the first round (open circle) to the last (full), with the interval of the last; the grey tick is chance.

# %%
kinds = [column for column in columns_of(result, 'bench') if column not in COLUMNS]
figure, axis = plt.subplots(figsize=(6.5, 3.2))
for place, kind in enumerate(kinds):
    text = cell(rows_of(result, 'bench', rounds[-1]), kind)
    low, high = map(float, text.split('(')[1].rstrip(')').split('–'))
    axis.plot([low, high], [place, place], color=PALETTE[0], lw=1.5); axis.plot(float(text.split(' ')[0]), place, 'o', color=PALETTE[0])
    axis.plot(percent('bench', rounds[0], kind), place, 'o', mfc='white', color=PALETTE[1])
    axis.plot(float(chance_cell(rows_of(result, 'bench', 'base'), kind)), place, '|', color=MUTED, ms=10)
axis.set_yticks(range(len(kinds)), [kind.replace('_', ' ') for kind in kinds], fontsize=8); axis.invert_yaxis()
axis.set(xlabel='right (%)', xlim=(20, 100)); plt.show()
assert len(kinds) == 11

# %% [markdown]
# ## What we proved
#
# * a round begins where the one before it ended, and its model and answers are kept like those of Table 2;
# * with its video hidden the last model falls back to what the wording tells.
#
# ## Try it
#
# 1. Add a third round to `ROUNDS`. Which types do you expect to gain, and why?
# 2. Give the second round's plan no `pointing` and no `moving`. What is then left of its gain?
#
# <details><summary>Solutions</summary>
#
# 1. Those whose words are right more often than their letters: they know the answer and have not learned to find it among the
#    options. A type whose words are at chance needs another lever.
# 2. Run it and compare both paired on the same questions (`paired_difference`); one seed each shows differences of more than
#    about three points.
#
# </details>
