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

from track4d_ref.commands import (JsonOption, OutOption, PresetOption, RealDataOption, SeedOption, SetOption,
                                  app,
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
def evaluate(model: Annotated[Path, typer.Option(help='folder of a model, or of adapters')],
             bench: Annotated[Path, typer.Option(help='record file (JSONL), or a folder of them')],
             out: OutOption = Path('runs/answers.jsonl'),
             blind: Annotated[bool, typer.Option(help='hide the video')] = False,
             aloud: Annotated[bool, typer.Option(help='the model says its answers in words before the letter')] = False,
             preset: PresetOption = 'tiny', set_: SetOption = [], as_json: JsonOption = False) -> None:
    "Answer every question of a record file and score the answers; goes on where it was stopped."
    from track4d_ref.adapters import load_model
    from track4d_ref.evaluation import answer_records, answers_aloud, answers_of, scored_table
    from track4d_ref.presets import load_preset
    answers = answer_records(*load_model(model), bench, out, load_preset(preset, tuple(set_)), blind, answers_aloud if aloud else answers_of)
    table = scored_table(answers)
    say({'rows': table.cells()}, as_json, table.text())


# %%
folder = Path(tempfile.mkdtemp())
answer = run_command('evaluate', '--model', folder / 'model', '--bench', folder)
draw_terminal([('track4d evaluate --model model --bench bench', answer[0],
                answer[1].replace(str(folder) + '/', ''))]); plt.show()
assert answer[0] == 2


# %% [markdown]
# ## Score what was recorded
#
# No model is needed: stored answers are scored again, and the published VLM4D table is recomputed from the benchmark's own outputs.

# %%
#| export
@score.command(epilog='Example: track4d score records --answers runs/answers.jsonl')
def records(answers: Annotated[Path, typer.Option(help='answers written by track4d evaluate (JSONL)')],
            scorer: Annotated[str, typer.Option(help='exact (the papers\' rule) or extracted')] = 'exact',
            as_json: JsonOption = False) -> None:
    "Score stored answers again; says which verdicts and which stored numbers moved."
    from track4d_ref.evaluation import rescore_answers
    from track4d_ref.scoring import render_text
    table, moved, both = rescore_answers(answers, scorer)
    told = f'\n\n{render_text(both)}' if moved else ''
    say({'rows': table.cells(), 'moved': moved, 'stored_and_now': both}, as_json,
        f'{table.text()}\n{len(moved)} verdicts moved since the answers were stored{told}')


# %%
#| export
@score.command(epilog='Example: track4d score vlm4d --data VLM4D/data --outputs VLM4D/outputs')
def vlm4d(questions_: Annotated[Path, typer.Option('--data', help='folder of the question files')],
          outputs: Annotated[Path, typer.Option(help='folder of recorded model outputs')],
          compare: Annotated[list[str], typer.Option(help='two models to test, once for each')] = [],
          as_json: JsonOption = False) -> None:
    "VLM4D's published table from recorded outputs: three layers, intervals, blind prior, paired tests."
    from track4d_ref.vlm4d import pair_cells, render_vlm4d, result_json, score_vlm4d
    if len(compare) not in (0, 2):
        raise InputError('--compare: name two models, as in --compare cot|A --compare cot|B')
    result = score_vlm4d(questions_, outputs, progress=not as_json)
    pair = tuple(compare) or None
    found = result_json(result) | ({'compare': pair_cells(result, *pair)} if pair else {})
    say(found, as_json, '' if as_json else render_vlm4d(result, 'text', pair))


# %% [markdown]
# Others score with a harness. `track4d score harness` writes a task folder for lmms-eval whose functions call our scorer
# (`25d_harness`), so the two cannot disagree.

# %%
#| export
@score.command(epilog='Example: track4d score harness --records runs/clips/questions_00000.jsonl '
                      '--out runs/task')
def harness(records_: Annotated[Path, typer.Option('--records', help='record file (JSONL)')],
            out: OutOption = Path('runs/task'),
            name: Annotated[str, typer.Option(help='name of the task')] = 'track4d',
            as_json: JsonOption = False) -> None:
    "Write an lmms-eval task folder (YAML, functions, questions, videos) whose scores come from this package."
    from track4d_ref.harness import write_task
    kept, left_out = write_task(records_, out, name)
    say({'task': str(out), 'kept': kept, 'left_out': left_out}, as_json,
        f'{kept} questions in {out}, {left_out} left out; run: lmms_eval --include_path {out} --tasks {name}')


# %%
answer = run_command('score', 'records', '--answers', folder / 'nowhere.jsonl')
draw_terminal([('track4d score records --answers nowhere.jsonl', answer[0],
                answer[1].replace(str(folder) + '/', ''))]); plt.show()
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
              from_results: Annotated[bool,
                                      typer.Option('--from-results', help='show the stored results')] = False,
              as_json: JsonOption = False) -> None:
    "Make the papers' tables again at reduced scale, the paper's number beside ours."
    from track4d_ref.presets import load_preset
    from track4d_ref.reproduce import chosen_experiments, reproduce as make, stored_experiments
    settings = load_preset(preset, tuple(set_))
    chosen, stored = chosen_experiments(names), stored_experiments(settings.name)
    missing = [experiment.name for experiment in chosen if from_results and names == ['all'] and experiment not in stored]
    made = [make(experiment, settings, out, seed, from_results) for experiment in chosen if experiment.name not in missing]
    note = [f'No stored result yet: {", ".join(missing)}; make one with track4d reproduce NAME --preset {settings.name}'] if missing else []
    say({'results': [found for found, _ in made], 'missing': missing}, as_json, '\n\n'.join([text for _, text in made] + note))


# %%
answer = run_command('reproduce', 'table9')
draw_terminal([('track4d reproduce table9', *answer)]); plt.show()
assert answer[0] == 2 and 'table9' in answer[1]


# %% [markdown]
# ## Draw
#
# Every figure and table of the papers is redrawn from `results/` and from the published numbers that ship with the project, and one page
# shows them together. The page lies in the repository as `results/index.html`; `track4d figures --only page --out results` makes it anew.

# %%
#| export
@app.command(epilog='Example: track4d figures --out runs/figures; track4d figures --only 4dpqa_table4')
def figures(out: OutOption = Path('runs/figures'),
            only: Annotated[str, typer.Option(help='figure2, page, one exhibit, or all')] = 'all',
            results: Annotated[Path | None,
                               typer.Option(help='folder of results; the shipped ones unless told')] = None,
            data_root: RealDataOption = None,
            as_json: JsonOption = False) -> None:
    "Draw the papers' figures and tables again, ours beside the published, and the page of all results."
    from track4d_ref.paper_figures import EXHIBITS
    names = ('all', 'page', 'figure2', *(exhibit.name for exhibit in EXHIBITS))
    if only not in names: raise InputError(f'--only {only}: no such figure; use {", ".join(names)}')
    from track4d_ref.reproduce import EXPERIMENTS
    from track4d_ref.results_page import write_exhibits
    from track4d_ref.tour import write_figures
    files = write_figures(out, data_root) if only in ('all', 'figure2') else []
    renderers = {name: experiment.render for name, experiment in EXPERIMENTS.items()}
    if only != 'figure2': files += write_exhibits(out, only, results, renderers)
    say({'files': [str(file) for file in files]}, as_json, '\n'.join(map(str, files)))


# %%
answer = run_command('figures', '--only', 'figure9')
draw_terminal([('track4d figures --only figure9', *answer)]); plt.show()
assert answer[0] == 2 and 'figure9' in answer[1] and '4dpqa_table4' in answer[1]

# %%
assert all('Example: track4d score' in command.epilog for command in score.registered_commands)


# %% [markdown]
# ## Blind
#
# What three readers without a video get right on a benchmark, per type, trained on its other scenes and on training questions
# ([`12f_bench_blind`](12f_bench_blind.ipynb)). The stored table is `results/blind_bench.json`.

# %%
#| export
@score.command(epilog='Example: track4d score blind --bench data_samples/bench --out runs/blind_bench.json')
def blind(bench: Annotated[Path, typer.Option(help='folder of a benchmark, with questions.jsonl')],
          scenes: Annotated[int, typer.Option(min=1, help='training scenes whose questions the readers learn')] = 300,
          out: OutOption = Path('runs/blind_bench.json'), as_json: JsonOption = False) -> None:
    "Accuracy of readers that see no video, per type, beside chance."
    import time
    from track4d_ref.bench_blind import TRAINING_SEED, blind_table
    from track4d_ref.presets import load_preset
    from track4d_ref.runcard import run_card
    from track4d_ref.scoring import render_text
    from track4d_ref.storage import write_json
    preset, started = load_preset('tiny'), time.perf_counter()
    rows = blind_table(bench, preset, scenes, progress=not as_json)
    card = run_card(f'track4d score blind --bench {bench} --scenes {scenes}', preset, TRAINING_SEED, [bench / 'questions.jsonl'], started)
    write_json(out, dict(rows=rows, card=card))
    say({'rows': rows}, as_json, render_text([tuple(rows[0]), *(tuple(map(str, row.values())) for row in rows)]))


# %%
answer = run_command('score', 'blind', '--bench', 'no/such/folder')
draw_terminal([('track4d score blind --bench no/such/folder', *answer)]); plt.show()
assert answer[0] == 2 and 'no/such/folder' in answer[1]

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
#
# <details><summary>Solutions</summary>
#
# 1. `track4d score vlm4d … --json | jq` over the models' cells: sort by the false-positive cell and take the last.
# 2. The one of that row; the command says how many verdicts moved and prints each stored number beside the new one.
#
# </details>
