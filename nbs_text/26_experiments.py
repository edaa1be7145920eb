# %% [markdown]
# # Experiments
# > A table of a paper as an object: how to make it from nothing, keep every finished step, and print it beside the paper's numbers.

# %%
#| default_exp experiments

# %% [markdown]
# * **What** `Experiment`, steps that survive an interruption, result files with run cards, tests between two models
# * **Why** a number counts only if one command prints it again
# * **Paper** 4DP-QA Tables 2 to 4; the other papers' tables use the same object. The tests between models are **[ours]**:
#   the papers print single runs
# * **Needs** nothing
# * **Time** 15 seconds
# * **Before this** `12a_runcard`, `25_scoring`

# %%
#| export
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from track4d_ref.presets import Preset
from track4d_ref.questions import ask_all
from track4d_ref.runcard import run_card
from track4d_ref.scoring import render_markdown, require
from track4d_ref.simulator import simulate_clips
from track4d_ref.storage import InputError, project_path, read_json, write_json

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.viz import MUTED, PALETTE, use_style
use_style()


# %% [markdown]
# ## What an experiment is
#
# Four things: a name to type, a function that makes the result from nothing, a function that turns the result into the cells
# of a table, and one honest sentence on what the reduced scale changes. The result is plain JSON. `run` gets the preset, a
# folder for whatever can be resumed, and a seed. It must return the same for the same arguments, and go on from what its
# folder already holds.

# %%
#| export
@dataclass(frozen=True)
class Experiment:
    "One table or figure of a paper at reduced scale."
    name: str                                             # as typed: track4d reproduce NAME
    source: str                                           # where the published numbers stand
    scale: str                                            # one sentence on what our scale changes
    run: Callable[[Preset, Path, int], dict]              # (preset, folder, seed) → result, as JSON can hold it
    render: Callable[[dict], list[tuple[str, ...]]]       # result → cells of the table, header first


# %% [markdown]
# The smallest example is the first line of 4DP-QA's Table 2: what does guessing score? Chance depends on how many options
# a question has, so it says how our mix of two-, three- and four-way questions compares with the paper's.

# %%
#| export
def guess_rates(preset: Preset, folder: Path, seed: int) -> dict:
    "Chance per question type, in percent, over the questions about a few simulated clips."
    chances = {}
    for number, clip in enumerate(simulate_clips(24, seed, preset)):
        for question in ask_all(clip, np.random.default_rng([seed, number]), per_type=2):
            if question.category != 'tracking': chances.setdefault(question.type, []).append(100 / (len(question.choices) or 2))
    return {kind: [round(float(np.mean(values)), 1), len(values)] for kind, values in sorted(chances.items())}

def published_row(table: str, row: str) -> dict[str, float]:
    "A line of 4DP-QA's Tables 2 to 4 (table2, table3, table4): column → accuracy in percent."
    published = read_json(project_path('data_samples/4dpqa_published.json'))[table]
    return dict(zip(published['columns'], published['rows'][row]))

def guess_cells(result: dict) -> list[tuple[str, ...]]:
    "The cells of the guessing rates beside the paper's line."
    paper = published_row('table2', 'Random')
    lines = [(kind, str(count), f'{rate:.1f}', f'{paper[kind]:.1f}') for kind, (rate, count) in result.items()]
    return [('type', 'questions', 'chance % (ours)', 'chance % (paper)'), *lines]

GUESSING = Experiment('guessing', '4DP-QA, Table 2, line "Random"', 'our mix of two- to four-way questions is our own', guess_rates, guess_cells)

# %%
guessing, random_row = GUESSING, published_row('table2', 'Random')
preset = load_preset('tiny')
rates = guessing.run(preset, Path(), 3)
print(render_markdown(guessing.render(rates)))

# %%
names = list(rates)
figure, axis = plt.subplots(figsize=(7, 2.6))
axis.barh(names, [rates[name][0] for name in names], height=0.55, color=PALETTE[5], label='ours')
axis.scatter([random_row[name] for name in names], names, color=PALETTE[1], marker='D', zorder=3, label='paper')
axis.set(xlabel='accuracy of guessing (%)', xlim=(0, 60)); axis.legend(loc='center left', bbox_to_anchor=(1, 0.5)); plt.show()

# %%
assert guessing.run(preset, Path(), 3) == rates and all(25 <= rate <= 50 for rate, _ in rates.values())


# %% [markdown]
# ## Steps that are kept
#
# A table is many trainings; the machine may stop after any of them. The plain way makes everything again. `step` looks into
# the folder first: the value of a finished step is a JSON file there, written whole or not at all. Its key holds
# everything that the value depends on, and a file with another key is an error instead of a stale number.

# %%
def step_v1(make): return make()


# %%
#| export
def step(folder: Path | str, name: str, key: dict, make: Callable[[], object]):
    "The value of `make()`, computed once per folder and name; InputError if the kept one was made with another key."
    path = Path(folder) / f'{name}.json'
    if path.exists():
        kept = read_json(path)
        if kept['key'] != key:
            changed = sorted(field for field in {*key, *kept['key']} if key.get(field) != kept['key'].get(field))
            raise InputError(f'{path}: was made with another {", ".join(changed)}; use an empty folder or remove the file')
        return kept['value']
    value = make()
    write_json(path, {'key': key, 'value': value})
    return value


# %%
folder, calls = Path(tempfile.mkdtemp()), []
def slow(number: int) -> dict:
    time.sleep(0.05); calls.append(number)
    return {'square': number * number}

def table(interrupted_at: int | None = None) -> list[dict]:
    if interrupted_at is not None and len(calls) == interrupted_at: raise KeyboardInterrupt
    return [step(folder, f'row_{number}', {'number': number}, lambda: slow(number)) for number in range(6)]

for number in range(3): step(folder, f'row_{number}', {'number': number}, lambda: slow(number))
begin = time.perf_counter(); rows = table(); after_stop_s = time.perf_counter() - begin
begin = time.perf_counter(); again = table(); kept_s = time.perf_counter() - begin

# %%
figure, axis = plt.subplots(figsize=(6, 1.5))
axis.barh(['all at once', 'after a stop half-way', 'a second time'], [6 * 0.05, after_stop_s, kept_s], color=PALETTE[:3])
axis.set(xlabel='seconds'); axis.invert_yaxis(); plt.show()

# %%
assert rows == again == [step_v1(lambda: {'square': n * n}) for n in range(6)] and calls == [0, 1, 2, 3, 4, 5]
try: step(folder, 'row_3', {'number': 4}, lambda: slow(4)); raise AssertionError
except InputError as error: print(str(error).replace(str(folder), 'runs'))


# %% [markdown]
# ## Result files
#
# `results/NAME_PRESET.json` holds the result and its run card. Shipped results are read from where the project lies, results
# of your own run from the folder you named. A file of another experiment is refused.

# %%
#| export
def result_file(folder: Path | str, name: str, preset: str) -> Path:
    "Where the result of an experiment at a preset lies."
    return Path(folder) / f'{name}_{preset}.json'

def write_result(folder: Path | str, experiment: Experiment, preset: Preset, seed: int, result: dict, data=(),
                 started: float | None = None, **extra) -> Path:
    "Store a result with its run card; `data` are files or folders whose contents it depends on."
    command = f'track4d reproduce {experiment.name} --preset {preset.name}'
    card = run_card(command, preset, seed, data, started, **extra)
    path = result_file(folder, experiment.name, preset.name)
    write_json(path, dict(experiment=experiment.name, source=experiment.source, scale=experiment.scale, result=result, card=card))
    return path

def read_result(folder: Path | str | None, name: str, preset: str) -> dict:
    "The stored file of an experiment; None means the shipped results. InputError if it is missing or another one's."
    root = Path(folder) if folder is not None else project_path('results')
    path = result_file(root, name, preset)
    if not path.exists():
        raise InputError(f'{path}: no stored result; make it with track4d reproduce {name} --preset {preset}')
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get('experiment') != name or 'result' not in stored:
        raise InputError(f'{path}: is not a result of {name}; make it again with track4d reproduce {name} --preset {preset}')
    return stored


# %%
path = write_result(folder, guessing, preset, 3, rates)
stored = read_result(folder, 'guessing', 'tiny')
print(stored['card']['command'], '·', stored['card']['code']['hash'], '·', stored['scale'])

# %%
assert stored['result'] == rates and guessing.render(stored['result']) == guessing.render(rates)
for wrong in ('nothing', 'row_3'):
    try: read_result(folder, wrong, 'tiny'); raise AssertionError
    except InputError as error: print(str(error).replace(str(folder), 'runs'))


# %% [markdown]
# ## Are two models really different?
#
# Both answered the same questions, and both were trained several times. Two things are random: which clips are in the
# benchmark (questions about one clip hang together) and which seed a training had. A difference counts if it survives both.
# So we resample both: draw seeds with replacement, draw clips with replacement, average, and take the middle 95 % of
# 2,000 such draws (a bootstrap of two crossed factors, **[ours]**). With few seeds this interval is a little too narrow:
# three draws from three seeds know little about a fourth.

# %%
#| export
@dataclass(frozen=True)
class Difference:
    "Second minus first, in percentage points, with a 95 % interval over seeds and clips."
    points: float
    low: float
    high: float
    seeds: int
    questions: int

    @property
    def resolved(self) -> bool: return self.low > 0 or self.high < 0

    def __str__(self) -> str: return f'{self.points:+.1f} ({self.low:+.1f} to {self.high:+.1f})'

def _gains(first: list[dict], second: list[dict]) -> dict[str, tuple[int, int]]:
    "Per clip: how many more answers the second model got right, and how many there are."
    if [row['id'] for row in first] != [row['id'] for row in second]:
        raise InputError('a paired test needs the same questions in the same order')
    gains = {}
    for one, two in zip(first, second):
        require(one, 'clip', 'correct'); require(two, 'clip', 'correct')
        gain, count = gains.get(one['clip'], (0, 0))
        gains[one['clip']] = gain + bool(two['correct']) - bool(one['correct']), count + 1
    return gains


# %%
#| export
def paired_difference(first: list[list[dict]], second: list[list[dict]], draws: int = 2000, seed: int = 0) -> Difference:
    "Difference of two models over scored rows, one list per training seed; the n-th lists of both are compared."
    if not first or len(first) != len(second):
        raise InputError(f'a paired test needs as many seeds on both sides, not {len(first)} and {len(second)}')
    tables = [np.array(list(_gains(one, two).values())) for one, two in zip(first, second)]
    gains, counts = np.stack([table[:, 0] for table in tables]), tables[0][:, 1]        # (seeds, clips), (clips,)
    rng, (seeds, clips) = np.random.default_rng(seed), gains.shape
    drawn = []
    for _ in range(draws):
        chosen = rng.integers(clips, size=clips)
        drawn.append(gains[rng.integers(seeds, size=seeds)][:, chosen].sum() / seeds / counts[chosen].sum())
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Difference(float(100 * gains.sum() / seeds / counts.sum()), float(100 * low), float(100 * high), seeds, int(counts.sum()))


# %% [markdown]
# A check on made-up answers whose true difference we know: 60 clips of ten questions, three seeds, the second model better
# by eight points. A model compared with itself differs by exactly nothing.

# %%
def invented(accuracy: float, seed: int, clips: int = 60, each: int = 10) -> list[dict]:
    rng, ease = np.random.default_rng(seed), np.random.default_rng(0).normal(0, 0.12, clips)
    return [dict(id=f'{clip}/{k}', clip=str(clip), correct=bool(rng.random() < accuracy + ease[clip]))
            for clip in range(clips) for k in range(each)]

first, second = ([invented(accuracy, 10 * k + seed) for seed in range(3)] for k, accuracy in enumerate((0.62, 0.70)))
real, none = paired_difference(first, second), paired_difference(first, first)
print('eight points better:', real, '· the same:', none)

# %%
found = [paired_difference([invented(.62, 1000 * trial + s) for s in range(3)], [invented(.70, 1000 * trial + 500 + s) for s in range(3)], 300)
         for trial in range(20)]
figure, axis = plt.subplots(figsize=(7, 2.4))
for place, one in enumerate(found):
    axis.plot([place, place], [one.low, one.high], color=PALETTE[0] if one.low <= 8 <= one.high else PALETTE[1]); axis.plot(place, one.points, 'o', color=PALETTE[0], ms=4)
axis.axhline(8, color=MUTED, lw=1); axis.axhline(0, color=MUTED, lw=1, ls=':')
axis.set(xlabel='benchmark drawn anew', ylabel='points', xticks=range(0, 20, 2), title='twenty made-up comparisons; the truth is 8 points'); plt.show()

# %%
assert real.resolved and not none.resolved and none.points == 0
assert sum(one.low <= 8 <= one.high for one in found) >= 16
assert paired_difference(second, first).points == -real.points

# %% [markdown]
# ## What we proved
#
# * a table is one object with one command; a finished step is never made twice, and a stale one is refused;
# * a result file carries what it takes to believe it;
# * the interval of a difference holds seeds and clips, and covers a known difference.
#
# ## Try it
#
# 1. Give `guess_rates` only two-way questions and see which types can still differ from 50 %.
# 2. Let the made-up clips be equally easy (`ease = 0`) and watch the intervals shrink.
# 3. Compare one seed with one seed instead of three with three. How wide is the interval now, and what does it not know?
#
# <details><summary>Solutions</summary>
#
# 1. Two-way questions with unequal truth still differ from 50 % for a guesser that knows the prior; a uniform one is
#    at 50 % exactly.
# 2. The clips then differ no more than chance makes them, and the interval is that of independent questions.
# 3. As wide as the answers' noise alone; it does not know how much a different start of the training would change.
#
# </details>
