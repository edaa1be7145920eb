# %% [markdown]
# # Commands that make data
# > `track4d data …`: simulate clips, convert real data sets, ask questions; each resumes where it was stopped.

# %%
#| default_exp data_commands

# %% [markdown]
# * **What** the group `data` of the command line
# * **Why** data are made once and used by everything else, so the command must be repeatable and interruptible
# * **Paper** none; the commands are **[ours]**
# * **Needs** typer
# * **Time** 20 seconds
# * **Before this** [`28_commands`](28_commands.ipynb)

# %%
#| export
import re
from pathlib import Path
from typing import Annotated

import typer

from track4d_ref.storage import InputError
from track4d_ref.commands import JsonOption, OutOption, PresetOption, SeedOption, SetOption, data, say

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.clips import load_clip
from track4d_ref.commands import draw_terminal, run_command


# %% [markdown]
# ## Simulate
#
# The same seed gives the same bytes, for any number of worker processes. Clips that are already there are kept, so an interrupted run
# is finished by running it again.

# %%
#| export
@data.command(epilog='Example: track4d data simulate --preset tiny --n 1000 --seed 0 --out runs/clips')
def simulate(n: Annotated[int, typer.Option('--n', min=1, help='how many clips')] = 100,
             out: OutOption = Path('runs/clips'),
             preset: PresetOption = 'tiny', set_: SetOption = [], seed: SeedOption = 0,
             workers: Annotated[int, typer.Option(min=1, help='processes; the result stays the same')] = 1,
             as_json: JsonOption = False) -> None:
    "Simulate clips with known 4D truth; the same seed gives the same bytes."
    from track4d_ref.presets import load_preset
    from track4d_ref.simulator import write_clips
    manifest = write_clips(out, n, seed, load_preset(preset, tuple(set_)), workers=workers)
    say({'clips': n, 'manifest': str(manifest)}, as_json, f'{n} clips in {out}')


# %%
folder = Path(tempfile.mkdtemp())
words = ('data', 'simulate', '--n', '3', '--seed', '5', '--out', folder / 'clips')
code, sentence = run_command(*words)
draw_terminal([('track4d data simulate --n 3 --seed 5 --out runs/clips', code,
                sentence.replace(str(folder), 'runs'))])
plt.show()
assert (folder / 'clips').is_dir()


# %% [markdown]
# ## Convert
#
# Every data set of the papers by name, and `own` for npz files of your own; what could not be read is reported, with the reason, and the
# rest is converted. Frame rate and picture size can be brought to what a model wants; the intrinsics follow. Killed in the middle, the
# same command goes on where it stopped.

# %%
#| export
def picture_size(text: str | None) -> tuple[int, int] | None:
    "'448x448' → (448, 448), height first; None stays None."
    if text is None: return None
    match = re.fullmatch(r'(\d{1,5})[x×](\d{1,5})', text)
    if not match: raise InputError(f'--size {text[:20]!r}: give HEIGHTxWIDTH, like 448x448')
    return int(match[1]), int(match[2])


@data.command(epilog='Example: track4d data convert kitti KITTI_ROOT --out runs/kitti')
def convert(source: Annotated[str, typer.Argument(help='kitti, adt, …; an unknown name lists all')],
            path: Annotated[Path, typer.Argument(help='folder of the data set')],
            out: OutOption = Path('runs/converted'),
            frames: Annotated[int,
                              typer.Option(min=2, help='most frames of a clip; longer ones are cut')] = 64,
            fps: Annotated[float | None,
                           typer.Option(help='thin the frames to at most so many per second')] = None,
            size: Annotated[str | None,
                            typer.Option(help='HEIGHTxWIDTH in pixels; cut and scaled, K follows')] = None,
            most: Annotated[int | None, typer.Option(min=1, help='stop after so many clips')] = None,
            pictured: Annotated[bool, typer.Option(help='leave out moments without a picture')] = False,
            as_json: JsonOption = False) -> None:
    "Convert a public data set, or your own npz files, to clips; resumable; says what was skipped and why."
    from track4d_ref.readers import convert_source, conversion_summary
    report = convert_source(source, path, out, frames, fps, picture_size(size), most, pictured)
    say(report, as_json, conversion_summary(report, out))
    if report['skipped'] and not report['written'] + report['kept']: raise typer.Exit(2)     # nothing came out


# %%
answer = run_command('data', 'convert', 'nuscenes', folder)
draw_terminal([('track4d data convert nuscenes DATA', answer[0], answer[1].replace(str(folder), 'DATA'))])
plt.show()
assert answer[0] == 2 and 'kitti' in answer[1]


# %% [markdown]
# ## Questions
#
# Asks 4DP-QA's questions about every clip below a folder and writes them beside the clips, in shards.

# %%
#| export
@data.command(epilog='Example: track4d data questions --clips runs/clips')
def questions(clips: Annotated[Path, typer.Option(help='folder with clip folders anywhere below it')],
              types: Annotated[str, typer.Option(help='comma-separated question types, or all')] = 'all',
              per_type: Annotated[int,
                                  typer.Option('--per-type', min=1, help='at most so many per type')] = 2,
              workers: Annotated[int, typer.Option(min=1, help='processes; the result stays the same')] = 1,
              engine: Annotated[str, typer.Option(help='processes, or ray on many machines (extra cluster)')] = 'processes',
              seed: SeedOption = 0, as_json: JsonOption = False) -> None:
    "Ask 4DP-QA's questions about every clip; writes questions_00000.jsonl … beside the clips."
    from track4d_ref.questions import QUESTION_TYPES
    from track4d_ref.records import iterate_records
    from track4d_ref.shards import Plan, write_question_shards
    names = tuple(QUESTION_TYPES) if types == 'all' else tuple(name.strip() for name in types.split(','))
    files = write_question_shards(clips, Plan(seed=seed, per_type=per_type, types=names), workers, engine)
    total = sum(1 for file in files for _ in iterate_records(file))
    say({'questions': total, 'files': [str(file) for file in files]}, as_json,
        f'{total} questions in {len(files)} files beside {clips}')


# %%
answer = run_command('data', 'questions', '--clips', folder / 'clips', '--seed', '1')
draw_terminal([('track4d data questions --clips runs/clips --seed 1', answer[0],
                answer[1].replace(str(folder), 'runs'))])
plt.show()
assert answer[0] == 0 and 'questions in' in answer[1]


# %% [markdown]
# ## Dialogues
#
# LMM-Track4D's benchmark at our scale: 526 dialogues, train and test by scene, with a card. Clips are remade from their numbers,
# so only the dialogues are written.

# %%
#| export
@data.command(epilog='Example: track4d data dialogues --out runs/track4d_bench')
def dialogues(out: OutOption = Path('runs/track4d_bench'),
              entries: Annotated[int, typer.Option(min=1, max=526, help='the first so many of the 526')] = 526,
              preset: PresetOption = 'tiny', set_: SetOption = [], seed: SeedOption = 0, as_json: JsonOption = False) -> None:
    "Write Track4D-Bench-tiny: dialogues that return trajectories, split by scene, and a card that counts them."
    from track4d_ref.presets import load_preset
    from track4d_ref.track4d_bench import write_benchmark
    card = write_benchmark(out, load_preset(preset, tuple(set_)), seed, entries, progress=not as_json)
    counts = card['counts']
    say(card, as_json, f'{counts["train"]["dialogues"]} dialogues to train on, {counts["test"]["dialogues"]} to test; card in {out / "card.json"}')


# %%
answer = run_command('data', 'dialogues', '--out', folder / 'bench', '--entries', 2, '--set', 'resolution=56')
said = next(line for line in answer[1].replace(str(folder), 'runs').splitlines() if 'to train on' in line)     # without the bar of progress
draw_terminal([('track4d data dialogues --out runs/bench --entries 2', answer[0], said)]); plt.show()
assert answer[0] == 0 and (folder / 'bench' / 'card.json').exists()


# %% [markdown]
# ## Paraphrase
#
# Other wordings from a language model behind any OpenAI-compatible address, a server on your own machine included. What the guard of
# [`12g_paraphrase`](12g_paraphrase.ipynb) refuses stays as it was; answers are never touched. A killed run goes on with the reply after the last one stored.

# %%
#| export
@data.command(epilog='Example: track4d data paraphrase --questions runs/clips/questions_00000.jsonl --url http://localhost:8000/v1 --model NAME')
def paraphrase(questions: Annotated[Path, typer.Option(help='a record file')],
               url: Annotated[str, typer.Option(help='address of an OpenAI-compatible endpoint, up to /v1; a key is read from OPENAI_API_KEY')],
               model: Annotated[str, typer.Option(help='the model to ask for')],
               out: Annotated[Path | None, typer.Option(help='a new file beside the old one; by default with _paraphrased in its name')] = None,
               as_json: JsonOption = False) -> None:
    "Word questions anew by a language model, where no word that carries meaning changes; resumable."
    from track4d_ref.paraphrase import chat, paraphrase_records
    out = out or questions.with_name(f'{questions.stem}_paraphrased{questions.suffix}')
    report = paraphrase_records(questions, out, model, lambda text: chat(url, model, text))
    say(report | {'file': str(out)}, as_json, f'{report["paraphrased"]} of {report["records"]} questions worded anew, {report["refused"]} refused, in {out}')


# %%
asked = folder / 'clips' / 'questions_00000.jsonl'
answer = run_command('data', 'paraphrase', '--questions', asked, '--url', 'http://127.0.0.1:9/v1', '--model', 'nobody')
draw_terminal([('track4d data paraphrase --questions runs/clips/questions_00000.jsonl --url http://127.0.0.1:9/v1 --model nobody', answer[0],
                answer[1].replace(str(folder), 'runs'))]); plt.show()
assert answer[0] == 2 and 'no usable reply' in answer[1]


# %% [markdown]
# ## Benchmark
#
# Writes the shipped benchmark, or with `--transfer` its held-out sibling, again: the same bytes as `data_samples/bench` and
# `data_samples/transfer`. It takes some minutes, most of them for the oracle, so here only a refusal is shown; what the
# command does is told in [`12e_bench`](12e_bench.ipynb).

# %%
#| export
@data.command(epilog='Example: track4d data bench --out runs/bench')
def bench(out: OutOption = Path('runs/bench'),
          transfer: Annotated[bool, typer.Option(help='the held-out domain in other words instead')] = False,
          workers: Annotated[int, typer.Option(min=1, help='processes; the result stays the same')] = 1,
          as_json: JsonOption = False) -> None:
    "Write 4DP-QA-Bench-tiny: questions, compact clips and the card of what was asked and dropped."
    from track4d_ref.bench import BENCH, TRANSFER, write_bench
    from track4d_ref.presets import load_preset
    card = write_bench(out, TRANSFER if transfer else BENCH, load_preset('tiny'), workers)
    say(card, as_json, f'{card["questions"]} questions about {card["scenes_used"]} scenes in {out}')


# %%
answer = run_command('data', 'bench', '--out', folder / 'clips')
draw_terminal([('track4d data bench --out runs/clips', answer[0], answer[1].replace(str(folder), 'runs'))])
plt.show()
assert answer[0] == 2 and 'no benchmark' in answer[1]

# %%
assert {'simulate', 'convert',
        'questions', 'dialogues', 'bench'} <= {command.callback.__name__ for command in data.registered_commands}

# %% [markdown]
# ## What we proved
#
# * The commands run, say what they did, and fail with one sentence.
#
# ## Try it
#
# 1. Interrupt `track4d data simulate --n 200` half-way and run it again. What does it do with the clips that are there?
# 2. Ask only for types 12 and 13 with `--types`. How many questions come from three clips?
#
# <details><summary>Solutions</summary>
#
# 1. They are kept, and only the missing ones are made; the bytes are those of an uninterrupted run.
# 2. `track4d data questions --clips runs/clips --types visual_tracking,true_motion_tracking`; at most `--per-type`
#    for each type and clip.
#
# </details>
