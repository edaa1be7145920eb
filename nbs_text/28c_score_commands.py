# %% [markdown]
# # Commands that measure
# > `track4d evaluate`, `score`, `reproduce`, `figures`: answers of a model, their scores, the papers' tables and pictures.

# %%
#| default_exp score_commands

# %% [markdown]
# * **What** the commands a reviewer uses
# * **Why** numbers must be checkable without a model: answers are stored, scorers may change
# * **Paper** none; the commands are **[ours]**
# * **Needs** typer
# * **Time** 20 seconds
# * **Before this** [`28_commands`](28_commands.ipynb)

# %%
#| export
from pathlib import Path
from typing import Annotated

import typer

from track4d_ref.commands import (JsonOption, OutOption, PresetOption, RealDataOption, SeedOption, SetOption, app,
                                  say, score)
from track4d_ref.storage import InputError

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.commands import draw_terminal, run_command


# %% [markdown]
# ## Ask a model
#
# Answers every question of a record file, stores what the model said, scores it; goes on where it was stopped.

# %%
#| export
@app.command(epilog='Example: track4d evaluate --model runs/model --bench runs/held-out')
def evaluate(model: Annotated[Path, typer.Option(help='folder of a checkpoint')],
             bench: Annotated[Path, typer.Option(help='record file (JSONL), or a folder of them')],
             out: OutOption = Path('runs/answers.jsonl'),
             blind: Annotated[bool, typer.Option(help='hide the video')] = False,
             preset: PresetOption = 'tiny', set_: SetOption = [], as_json: JsonOption = False) -> None:
    "Answer every question of a record file and score the answers; goes on where it was stopped."
    from track4d_ref.evaluation import answer_records, scored_table
    from track4d_ref.presets import load_preset
    from track4d_ref.vlm import load_vlm
    answers = answer_records(*load_vlm(model), bench, out, load_preset(preset, tuple(set_)), blind)
    table = scored_table(answers)
    say({'rows': table.cells()}, as_json, table.text())


# %%
folder = Path(tempfile.mkdtemp())
answer = run_command('evaluate', '--model', folder / 'model', '--bench', folder)
draw_terminal([('track4d evaluate --model model --bench bench', answer[0], answer[1].replace(str(folder) + '/', ''))]); plt.show()
assert answer[0] == 2


# %% [markdown]
# ## Score what was recorded
#
# No model is needed: stored answers are scored again, and the published VLM4D table is recomputed from the benchmark's own outputs.

# %%
#| export
@score.command(epilog='Example: track4d score records --answers runs/answers.jsonl')
def records(answers: Annotated[Path, typer.Option(help='answers written by track4d evaluate (JSONL)')],
            as_json: JsonOption = False) -> None:
    "Score stored answers again; says which verdicts moved since they were stored."
    from track4d_ref.evaluation import rescore_answers
    table, moved = rescore_answers(answers)
    say({'rows': table.cells(), 'moved': moved}, as_json,
        f'{table.text()}\n{len(moved)} verdicts moved since the answers were stored')


# %%
#| export
@score.command(epilog='Example: track4d score vlm4d --data VLM4D/data --outputs VLM4D/outputs')
def vlm4d(questions_: Annotated[Path, typer.Option('--data', help='folder of the question files')],
          outputs: Annotated[Path, typer.Option(help='folder of recorded model outputs')],
          as_json: JsonOption = False) -> None:
    "The published VLM4D table from recorded outputs: three scoring layers, intervals, blind prior."
    from track4d_ref.vlm4d import LAYERS, render_vlm4d, score_vlm4d, shares
    result = score_vlm4d(questions_, outputs, progress=not as_json)
    counts = lambda answers, layer: {cell: dict(correct=share.correct, total=share.total)
                                     for cell, share in shares(answers, layer).items()}
    models = {name: {layer: counts(answers, layer) for layer in LAYERS}
              for name, answers in result.models.items()}
    say({'models': models, 'blind': result.blind}, as_json, '' if as_json else render_vlm4d(result, 'text'))


# %%
answer = run_command('score', 'records', '--answers', folder / 'nowhere.jsonl')
draw_terminal([('track4d score records --answers nowhere.jsonl', answer[0], answer[1].replace(str(folder) + '/', ''))]); plt.show()
assert answer[0] == 2 and 'nowhere.jsonl' in answer[1]


# %% [markdown]
# ## Reproduce
#
# A table of a paper by its name: from nothing, resumable; or, with `--from-results`, as it was stored.

# %%
#| export
@app.command(epilog='Example: track4d reproduce table2 --preset tiny --from-results')
def reproduce(names: Annotated[list[str], typer.Argument(help='tables by name, or all')],
              preset: PresetOption = 'tiny', set_: SetOption = [], seed: SeedOption = 0,
              out: OutOption = Path('runs/reproduce'),
              from_results: Annotated[bool, typer.Option('--from-results', help='show the stored results')] = False,
              as_json: JsonOption = False) -> None:
    "Make the papers' tables again at reduced scale, the paper's number beside ours."
    from track4d_ref.presets import load_preset
    from track4d_ref.reproduce import chosen_experiments, reproduce as make
    settings = load_preset(preset, tuple(set_))
    made = [make(experiment, settings, out, seed, from_results) for experiment in chosen_experiments(names)]
    say({'results': [stored for stored, _ in made]}, as_json, '\n\n'.join(text for _, text in made))


# %%
answer = run_command('reproduce', 'table9')
draw_terminal([('track4d reproduce table9', *answer)]); plt.show()
assert answer[0] == 2 and 'table9' in answer[1]


# %% [markdown]
# ## Draw
#
# The papers' figures from data.

# %%
#| export
@app.command(epilog='Example: track4d figures --out runs/figures')
def figures(out: OutOption = Path('runs/figures'),
            only: Annotated[str, typer.Option(help='figure2, or all')] = 'all',
            data_root: RealDataOption = None,
            as_json: JsonOption = False) -> None:
    "Draw the papers' figures again: Figure 2 of 4DP-QA on a simulated clip and on the real samples at hand."
    from track4d_ref.tour import write_figures
    if only not in ('all', 'figure2'): raise InputError(f'--only {only}: no such figure; use figure2 or all')
    files = write_figures(out, data_root)
    say({'files': [str(file) for file in files]}, as_json, '\n'.join(map(str, files)))


# %%
answer = run_command('figures', '--only', 'figure9')
draw_terminal([('track4d figures --only figure9', *answer)]); plt.show()
assert answer[0] == 2 and 'figure9' in answer[1]

# %%
assert all('Example: track4d score' in command.epilog for command in score.registered_commands)

# %% [markdown]
# ## What we proved
#
# * A missing file is named; nothing is written.
# * Scores come from recorded answers.
#
# ## Try it
#
# 1. Pipe `track4d score vlm4d … --json` into `jq` and find the model with the best score on false positives.
# 2. Change one stored answer by hand and score again: which verdict moves?
