# %% [markdown]
# # Reproduce
# > Every table by its name: run it from nothing, or show the stored result, with the paper's number beside ours.

# %%
#| default_exp reproduce

# %% [markdown]
# * **What** `EXPERIMENTS`, all tables by name, and `reproduce`, what `track4d reproduce NAME` does
# * **Why** one list, so that nothing is reported that no command prints
# * **Paper** the tables of all three papers; which ones exist so far is printed below
# * **Needs** nothing
# * **Time** 10 seconds
# * **Before this** `26_experiments` and the notebooks of its tables

# %%
#| export
import time
from collections.abc import Iterable
from pathlib import Path

from track4d_ref.curation import CURATION
from track4d_ref.experiments import GUESSING, Experiment, read_result, result_file, write_result
from track4d_ref.ladder import GRPO_REWARD, LADDER
from track4d_ref.presets import Preset
from track4d_ref.rounds import ROUNDS_EXPERIMENT
from track4d_ref.scoring import render_markdown, render_text
from track4d_ref.storage import InputError
from track4d_ref.tables import DATASIZE, TABLE2, TABLE3, TABLE4
from track4d_ref.track4d_parts import TRACK4D_PARTS
from track4d_ref.track4d_real import TRACK4D_REAL
from track4d_ref.track4d_table import TRACK4D
from track4d_ref.track_answers import TRACKS

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.viz import PALETTE, use_style
use_style()

# %% [markdown]
# ## The list
#
# A notebook that makes a table ends with an `Experiment`; it becomes known by a line here. Names must differ.

# %%
#| export
EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in (
    GUESSING, TABLE2, TABLE3, TABLE4, DATASIZE, ROUNDS_EXPERIMENT, TRACKS, CURATION, LADDER, GRPO_REWARD, TRACK4D, TRACK4D_REAL, TRACK4D_PARTS,
)}

def chosen_experiments(names: Iterable[str]) -> list[Experiment]:
    "The experiments of these names; 'all' means all of them. InputError names what does not exist."
    names = list(names)
    if names == ['all']: return list(EXPERIMENTS.values())
    for name in names:
        if name not in EXPERIMENTS:
            raise InputError(f'experiment {name!r} does not exist; choose from all, {", ".join(EXPERIMENTS)}')
    return [EXPERIMENTS[name] for name in names]

def stored_experiments(preset: str) -> list[Experiment]:
    "The experiments that have a shipped result for a preset."
    def stored(experiment: Experiment) -> bool:
        try: return bool(read_result(None, experiment.name, preset))
        except InputError: return False
    return [experiment for experiment in EXPERIMENTS.values() if stored(experiment)]


# %%
for name, experiment in EXPERIMENTS.items(): print(f'{name:16s} {experiment.source}')
assert all(experiment.name == name for name, experiment in EXPERIMENTS.items())
assert set(stored_experiments('tiny')) <= set(EXPERIMENTS.values())
try: chosen_experiments(['table9']); raise AssertionError
except InputError as error: print(error)

# %%
figure, axis = plt.subplots(figsize=(6, 0.5 + 0.22 * len(EXPERIMENTS)))
words = [len(experiment.scale.split()) for experiment in EXPERIMENTS.values()]
axis.barh(list(EXPERIMENTS), words, color=PALETTE[0]); axis.set(xlabel='words of honesty about the scale'); plt.show()
assert min(words) >= 4


# %% [markdown]
# ## Show a result
#
# The table, where the published numbers stand, what the scale changes, and enough of the run card to find the run again.

# %%
#| export
def result_text(experiment: Experiment, stored: dict, markdown: bool = False) -> str:
    "A stored result as text: title, table, scale and run card in one line each."
    card, render = stored['card'], render_markdown if markdown else render_text
    took = '' if card['wall_s'] is None else f" · {card['wall_s'] / 60:.1f} min"
    made = f"preset {card['preset']['name']} · seed {card['seed']} · code {card['code']['hash'][:8]} · {card['machine']['cores']} cores{took}"
    return '\n'.join([f'{experiment.name}: {experiment.source}', '', render(experiment.render(stored['result'])), '',
                      f'Scale: {experiment.scale}.', f'Made by: {card["command"]} ({made})'])

def reproduce(experiment: Experiment, preset: Preset, out: Path | str, seed: int = 0, from_results: bool = False) -> tuple[dict, str]:
    """The stored file and its text: run into `out` (goes on where it was stopped), or read with `from_results`.

    A fresh run ends with the shipped result beside it, where one ships for this preset."""
    if from_results:
        stored = read_result(None, experiment.name, preset.name)
        return stored, result_text(experiment, stored)
    out, started = Path(out), time.perf_counter()
    result = experiment.run(preset, out / experiment.name, seed)
    write_result(out, experiment, preset, seed, result, started=started)
    stored = read_result(out, experiment.name, preset.name)
    text = result_text(experiment, stored)
    try: shipped = read_result(None, experiment.name, preset.name)
    except InputError: return stored, text
    return stored, f'{text}\n\nThe shipped result, for comparison:\n\n{result_text(experiment, shipped)}'


# %%
folder, preset = Path(tempfile.mkdtemp()), load_preset('tiny')
stored, text = reproduce(GUESSING, preset, folder, seed=3)
print(text)

# %%
rows = stored['result']
figure, axis = plt.subplots(figsize=(7, 2.4))
axis.bar(range(len(rows)), [count for _, count in rows.values()], color=PALETTE[2])
axis.set_xticks(range(len(rows)), [name.replace('_', '\n') for name in rows], fontsize=5.5); axis.set(ylabel='questions'); plt.show()

# %%
assert result_file(folder, 'guessing', 'tiny').exists() and 'Scale:' in text and 'track4d reproduce guessing' in text
assert reproduce(GUESSING, preset, folder, seed=3)[0]['result'] == rows

# %% [markdown]
# The same table as Markdown, as the README shows it; and as a picture, so that the eye can compare:

# %%
print(result_text(GUESSING, stored, markdown=True).splitlines()[2])
cells = GUESSING.render(rows)
figure, axis = plt.subplots(figsize=(4, 2.6))
axis.scatter([float(line[3]) for line in cells[1:]], [float(line[2]) for line in cells[1:]], color=PALETTE[0])
axis.plot([25, 55], [25, 55], color=PALETTE[1], lw=1); axis.set(xlabel='paper (%)', ylabel='ours (%)', title='chance per question type'); plt.show()
assert len(cells) == 12

# %% [markdown]
# ## What we proved
#
# * every experiment has one name, one command, one sentence about its scale;
# * a run writes what `--from-results` shows.
#
# ## Try it
#
# 1. Write an `Experiment` of your own (counts of question types per domain, say) and add it to the list.
# 2. Stop a long run with Ctrl-C, start it again, and watch which steps are skipped.
#
# <details><summary>Solutions</summary>
#
# 1. A function that makes the result, one that turns it into cells, and one line in `EXPERIMENTS`. `track4d reproduce
#    NAME` then knows it.
# 2. Finished steps are files; each is read instead of made. Delete one and only that is made again.
#
# </details>
