# %% [markdown]
# # The command line
# > `track4d …`: every step of the road as one command, with one way to fail.

# %%
#| default_exp cli

# %% [markdown]
# * **What** the commands, their common options, and how a mistake is told
# * **Why** reviewers reproduce by command, and a practitioner's shell script must be able to trust exit codes
# * **Paper** none; **[ours]**
# * **Needs** typer
# * **Time** 20 seconds
# * **Before this** the whole road; each command is one call of an earlier notebook

# %%
#| export
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from track4d_ref.storage import InputError, project_path, write_json

# %%
import subprocess

import matplotlib.pyplot as plt

# %% [markdown]
# ## The shape of every command
#
# Three options are the same everywhere: `--preset` and `--set` turn the one dial, `--json` prints the result for programs
# instead of people. The heavy imports (torch, transformers) happen inside the commands, so that `--help` is quick.

# %%
#| export
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help='4D perception by vision-language models: clips, questions, training, scores. Start with: track4d tour')
data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help='Make, convert and export data.')
train = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help='Train a model.')
score = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help='Score recorded answers; no model needed.')
for name, group in dict(data=data, train=train, score=score).items(): app.add_typer(group, name=name)

PresetOption = Annotated[str, typer.Option('--preset', help='scale of everything: tiny, small or rtx24 (settings.ini)')]
SetOption = Annotated[list[str], typer.Option('--set', help='override one number of the preset: key=value (repeatable)')]
SeedOption = Annotated[int, typer.Option('--seed', min=0, help='the same seed gives the same result')]
JsonOption = Annotated[bool, typer.Option('--json', help='print the result as JSON')]
OutOption = Annotated[Path, typer.Option('--out', help='where to write')]


# %%
#| export
def say(result: dict, as_json: bool, sentence: str) -> None:
    "Print the result for a program (JSON) or for a person (a sentence)."
    typer.echo(json.dumps(result, indent=1, ensure_ascii=False, default=str) if as_json else sentence)


# %%
assert {group.name for group in app.registered_groups} == {'data', 'train', 'score'}


# %% [markdown]
# ## One way to fail
#
# A mistake of the user ends as one sentence on the error stream and exit code 2. Interrupting with Ctrl-C ends with 130
# and says that nothing is lost: everything is written atomically, and long jobs resume. Any other exception is a bug, and
# shows its trace.

# %%
#| export
def main(arguments: list[str] | None = None) -> None:
    "Entry point of `track4d`: runs a command; a user's mistake becomes one sentence and exit code 2."
    try: app(args=arguments, prog_name='track4d')
    except InputError as error:
        print(f'track4d: {error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print('track4d: stopped; finished parts are kept, run the same command again to go on', file=sys.stderr)
        sys.exit(130)


# %% [markdown]
# ## The main job
#
# `track4d tour` is the whole road in one command; `27b_tour` explains its steps.

# %%
#| export
@app.command(epilog='Example: track4d tour --out runs/tour')
def tour(out: OutOption = Path('runs/tour'), preset: PresetOption = 'tiny', set_: SetOption = [], seed: SeedOption = 0,
         data_root: Annotated[Path | None, typer.Option('--data', envvar='TRACK4D_DATA', help='folder of real samples')] = None,
         as_json: JsonOption = False) -> None:
    "Video in, 4D questions out, a model trained on them, a score at the end; writes one HTML report."
    from track4d_ref.presets import load_preset
    from track4d_ref.tour import run_tour
    result = run_tour(out, load_preset(preset, (*set_, f'seed={seed}')), data_root)
    say(result, as_json, f'Report: {result["report"]}')


# %%
assert [command.callback.__name__ for command in app.registered_commands] == ['tour']


# %% [markdown]
# ## Data
#
# Simulated clips, real clips, questions. Each of the three resumes where an interrupted run stopped.

# %%
#| export
@data.command(epilog='Example: track4d data simulate --preset tiny --n 1000 --seed 0 --out runs/clips')
def simulate(n: Annotated[int, typer.Option('--n', min=1, help='how many clips')] = 100, out: OutOption = Path('runs/clips'),
             preset: PresetOption = 'tiny', set_: SetOption = [], seed: SeedOption = 0,
             workers: Annotated[int, typer.Option(min=1, help='processes; the result is the same for any number')] = 1,
             as_json: JsonOption = False) -> None:
    "Simulate clips with known 4D truth; the same seed gives the same bytes."
    from track4d_ref.presets import load_preset
    from track4d_ref.simulator import write_clips
    manifest = write_clips(out, n, seed, load_preset(preset, tuple(set_)), workers=workers)
    say({'clips': n, 'manifest': str(manifest)}, as_json, f'{n} clips in {out}')


# %%
#| export
@data.command(epilog='Example: track4d data convert kitti KITTI_ROOT --out runs/kitti')
def convert(source: Annotated[str, typer.Argument(help='kitti, adt, …; an unknown name lists all')],
            path: Annotated[Path, typer.Argument(help='folder of the data set')],
            out: OutOption = Path('runs/converted'), as_json: JsonOption = False) -> None:
    "Convert a public data set to clips; says what was skipped and why."
    from track4d_ref.readers import convert_source
    report = convert_source(source, path, out)
    say(report, as_json, f'{len(report["written"])} clips in {out}, {len(report["skipped"])} skipped'
        + ''.join(f'\n  skipped {item["name"]}: {item["why"]}' for item in report['skipped']))


# %%
#| export
@data.command(epilog='Example: track4d data questions --clips runs/clips')
def questions(clips: Annotated[Path, typer.Option(help='folder with clip folders anywhere below it')],
              types: Annotated[str, typer.Option(help='comma-separated question types, or all')] = 'all',
              per_type: Annotated[int, typer.Option('--per-type', min=1, help='at most so many of each type and clip')] = 2,
              workers: Annotated[int, typer.Option(min=1, help='processes; the result is the same for any number')] = 1,
              seed: SeedOption = 0, as_json: JsonOption = False) -> None:
    "Ask 4DP-QA's questions about every clip; writes questions_00000.jsonl … beside the clips."
    from track4d_ref.questions import QUESTION_TYPES
    from track4d_ref.records import iterate_records
    from track4d_ref.shards import Plan, write_question_shards
    names = tuple(QUESTION_TYPES) if types == 'all' else tuple(name.strip() for name in types.split(','))
    files = write_question_shards(clips, Plan(seed=seed, per_type=per_type, types=names), workers)
    total = sum(1 for file in files for _ in iterate_records(file))
    say({'questions': total, 'files': [str(file) for file in files]}, as_json, f'{total} questions in {len(files)} files beside {clips}')


# %%
assert [command.callback.__name__ for command in data.registered_commands] == ['simulate', 'convert', 'questions']


# %% [markdown]
# ## Training and evaluation
#
# Both read a record file; the clips lie where the records say, relative to the file. Answers are stored, so that a scorer
# may change later without running the model again.

# %%
#| export
@train.command(epilog='Example: track4d train sft --data runs/clips --out runs/model')
def sft(records: Annotated[Path, typer.Option('--data', help='record file (JSONL), or a folder of them, to learn from')], out: OutOption = Path('runs/model'),
        model: Annotated[str, typer.Option(help='folder of a checkpoint to start from; none starts from random weights')] = 'none',
        resume: Annotated[bool, typer.Option(help='go on from the checkpoint in --out')] = True,
        preset: PresetOption = 'tiny', set_: SetOption = [], as_json: JsonOption = False) -> None:
    "Supervised fine-tuning on records; many questions share one reading of their clip."
    from track4d_ref.presets import load_preset
    from track4d_ref.training import train_on_records
    result = train_on_records(records, out, load_preset(preset, tuple(set_)), None if model == 'none' else model, resume, progress=not as_json)
    say(result, as_json, f'{result["steps"]} steps, last loss {result["loss"]:.3f}; model in {out / "model"}')

@train.command(epilog='Example: track4d train vision --out runs/vision_tiny')
def vision(out: OutOption = Path('runs/vision_tiny'), clips: Annotated[int, typer.Option(min=1, help='simulated clips')] = 2200,
           seconds: Annotated[float, typer.Option(min=1, help='training time')] = 480.0, preset: PresetOption = 'tiny',
           set_: SetOption = [], seed: SeedOption = 7, as_json: JsonOption = False) -> None:
    "Pre-train the tiny vision tower on depth, colour and flow from nothing; this made data_samples/vision_tiny."
    from track4d_ref.presets import load_preset
    from track4d_ref.vision import train_vision
    scores = train_vision(out, load_preset(preset, tuple(set_)), clips, seconds, seed)
    say(scores, as_json, f'flow R² {scores["flow_r2"]:.3f}, log depth error {scores["log_depth_error"]:.3f}, colour {scores["color_accuracy"]:.3f}; tower in {out}')

@app.command(epilog='Example: track4d evaluate --model runs/model --bench runs/held-out --out runs/answers.jsonl')
def evaluate(model: Annotated[Path, typer.Option(help='folder of a checkpoint')], bench: Annotated[Path, typer.Option(help='record file (JSONL), or a folder of them')],
             out: OutOption = Path('runs/answers.jsonl'), blind: Annotated[bool, typer.Option(help='hide the video')] = False,
             preset: PresetOption = 'tiny', set_: SetOption = [], as_json: JsonOption = False) -> None:
    "Answer every question of a record file and score the answers; goes on where it was stopped."
    from track4d_ref.evaluation import answer_records, scored_table
    from track4d_ref.presets import load_preset
    from track4d_ref.vlm import load_vlm
    table = scored_table(answer_records(*load_vlm(model), bench, out, load_preset(preset, tuple(set_)), blind))
    say({'rows': table.cells()}, as_json, table.text())


# %%
assert [command.callback.__name__ for command in train.registered_commands] == ['sft', 'vision']


# %% [markdown]
# ## Scores from recorded answers

# %%
#| export
@score.command(epilog='Example: track4d score records --answers runs/answers.jsonl')
def records(answers: Annotated[Path, typer.Option(help='answers written by track4d evaluate (JSONL)')], as_json: JsonOption = False) -> None:
    "Score stored answers again; says which verdicts moved since they were stored."
    from track4d_ref.evaluation import rescore_answers
    table, moved = rescore_answers(answers)
    say({'rows': table.cells(), 'moved': moved}, as_json, f'{table.text()}\n{len(moved)} verdicts moved since the answers were stored')

@score.command(epilog='Example: track4d score vlm4d --data VLM4D/data --outputs VLM4D/processed_outputs_paper_results')
def vlm4d(questions_: Annotated[Path, typer.Option('--data', help="folder with the benchmark's question files")],
          outputs: Annotated[Path, typer.Option(help='folder with recorded model outputs')], as_json: JsonOption = False) -> None:
    "The published VLM4D table from recorded outputs: three scoring layers, intervals, blind prior."
    from track4d_ref.vlm4d import LAYERS, render_vlm4d, score_vlm4d, shares
    result = score_vlm4d(questions_, outputs, progress=not as_json)
    percents = {name: {layer: {cell: dict(correct=share.correct, total=share.total) for cell, share in shares(answers, layer).items()} for layer in LAYERS}
                for name, answers in result.models.items()}
    say({'models': percents, 'blind': result.blind}, as_json, '' if as_json else render_vlm4d(result, 'text'))


# %%
assert all('Example: track4d score' in command.epilog for command in score.registered_commands)


# %% [markdown]
# ## Figures

# %%
#| export
@app.command(epilog='Example: track4d figures --out runs/figures')
def figures(out: OutOption = Path('runs/figures'), only: Annotated[str, typer.Option(help='figure2, or all')] = 'all',
            data_root: Annotated[Path | None, typer.Option('--data', envvar='TRACK4D_DATA', help='folder of real samples')] = None,
            as_json: JsonOption = False) -> None:
    "Draw the papers' figures again: Figure 2 of 4DP-QA on a simulated clip and on the real samples at hand."
    from track4d_ref.tour import write_figures
    if only not in ('all', 'figure2'): raise InputError(f'--only {only}: no such figure; use figure2 or all')
    files = write_figures(out, data_root)
    say({'files': [str(file) for file in files]}, as_json, '\n'.join(map(str, files)))


# %%
#| export
if __name__ == '__main__' and sys.argv[0].endswith('cli.py'): main()     # python -m track4d_ref.cli


# %% [markdown]
# ## What a person sees
#
# Each command's help ends with an example that works. Three mistakes, three sentences.

# %%
def terminal(*words):
    done = subprocess.run([sys.executable, '-m', 'track4d_ref.cli', *words], capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip()

mistakes = [('tour', '--preset', 'huge'), ('data', 'simulate', '--set', 'framse=4'), ('score', 'records', '--answers', 'nowhere.jsonl')]
told = [terminal(*words) for words in mistakes]

# %%
figure, axis = plt.subplots(figsize=(7.5, 1.5), dpi=90); axis.axis('off')
for row, (words, (code, sentence)) in enumerate(zip(mistakes, told)):
    axis.text(0, 1 - row * 0.36, f'$ track4d {" ".join(words)}', family='monospace', fontsize=7, color='#0072B2', va='top')
    axis.text(0.02, 0.86 - row * 0.36, f'{sentence[:104]}   [exit {code}]', family='monospace', fontsize=6.5, va='top')
plt.show()

# %%
assert all(code == 2 and len(sentence.splitlines()) == 1 for code, sentence in told)
code, helped = terminal('--help')
assert code == 0 and all(name in helped for name in ('tour', 'data', 'train', 'evaluate', 'score', 'figures'))

# %% [markdown]
# The map of commands, as they are registered:

# %%
groups = {'': app, 'data': data, 'train': train, 'score': score}
commands = [' '.join(filter(None, (group, command.name or command.callback.__name__.rstrip('_')))) for group, holder in groups.items() for command in holder.registered_commands]
figure, axis = plt.subplots(figsize=(7.5, 1.7), dpi=90); axis.axis('off')
for place, command in enumerate(commands):
    axis.text((place % 3) / 3, 1 - (place // 3) * 0.24, f'track4d {command}', family='monospace', fontsize=8, va='top')
plt.show()

# %%
assert {'tour', 'data simulate', 'train sft', 'evaluate', 'score vlm4d'} <= set(commands)

# %%
figure, axis = plt.subplots(figsize=(7.5, 1.1), dpi=90); axis.axis('off')
for place, (code, meaning) in enumerate({'0': 'done', '2': 'a mistake in what was given', '130': 'interrupted; run again to go on'}.items()):
    axis.text(0.02 + place * 0.3, 0.5, code, fontsize=16, color=('#009E73', '#D55E00', '#E69F00')[place]); axis.text(0.1 + place * 0.3, 0.53, meaning, fontsize=8)
axis.set_title('three ways to end', fontsize=9, loc='left'); plt.show()

# %% [markdown]
# ## What we proved
#
# * Every mistake ends in one sentence and exit code 2.
# * Help is quick, lists every command and shows an example.
#
# ## Try it
#
# 1. Interrupt `track4d data simulate` half-way and run it again. What does it do with the clips that are there?
# 2. Pipe `track4d score vlm4d … --json` into `jq` and find the model with the best score on false positives.
