# %% [markdown]
# # Commands around a training
# > `track4d preflight` before it, `track4d ask` after it, and `track4d data export` for those who train elsewhere.

# %%
#| default_exp model_commands

# %% [markdown]
# * **What** three commands: will it fit, what does it say, and take it with you
# * **Why** a practitioner's day is spent around the training, not in it
# * **Paper** none; the commands are **[ours]**
# * **Needs** typer, av
# * **Time** 40 seconds
# * **Before this** [`22c_preflight`](22c_preflight.ipynb), [`28b_train_commands`](28b_train_commands.ipynb)

# %%
#| export
import sys
from pathlib import Path
from typing import Annotated

import typer

from track4d_ref.commands import JsonOption, OutOption, PresetOption, SetOption, app, data, say
from track4d_ref.storage import InputError

# %%
import contextlib
import io
import json
import tempfile

import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.clips import load_clip, save_clip, write_video
from track4d_ref.commands import draw_terminal
from track4d_ref.cli import main
from track4d_ref.presets import load_preset
from track4d_ref.questions import ask_all
from track4d_ref.records import record_from_question, write_records
from track4d_ref.simulator import simulate_clips
from track4d_ref.training import train_on_records


# %% [markdown]
# ## Will it fit?
#
# With data: every sample measured, the mask decoded, one real step, memory and hours. Without data, `--config` makes the memory
# table from a configuration alone; `3B` and `7B` are known by name. Samples that would be refused make the exit code 1, so a script
# stops there.

# %%
#| export
@app.command(epilog='Example: track4d preflight --data runs/clips; track4d preflight --config 3B --preset rtx24')
def preflight(records: Annotated[Path | None, typer.Option('--data', help='record file (JSONL), or a folder of them')] = None,
              config: Annotated[str | None, typer.Option(help='3B, 7B or a config.json: a memory table, nothing is loaded')] = None,
              questions: Annotated[int, typer.Option(min=1, help='questions per row, with --config')] = 24,
              model: Annotated[str, typer.Option(help='checkpoint to start from; none: the preset\'s')] = 'none',
              preset: PresetOption = 'tiny', set_: SetOption = [], as_json: JsonOption = False) -> None:
    "Before training: lengths, the longest sample, what is learned, one real step, peak memory and time."
    from track4d_ref import preflight as checks
    from track4d_ref.presets import load_preset
    scale = load_preset(preset, tuple(set_))
    if (records is None) == (config is None): raise InputError('preflight: give either --data or --config')
    if config is not None:
        row, table = checks.config_table(config, scale, questions)
        return say(dict(row=vars(row), memory=table), as_json, checks.config_text(row, table))
    found = checks.preflight(records, scale, None if model == 'none' else model)
    say(found, as_json, checks.preflight_text(found, scale))
    if found['refused']: raise typer.Exit(1)


# %%
def typed(*words):
    "A command in this process: (exit code, what it printed)."
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try: main([str(word) for word in words])
        except SystemExit as end: return end.code or 0, printed.getvalue().strip()

folder = Path(tempfile.mkdtemp())
shown = lambda text: text.replace(str(folder) + '/', '')
code, told = typed('preflight', '--config', '7B', '--preset', 'rtx24', '--questions', 12)
draw_terminal([('track4d preflight --config 7B --preset rtx24 --questions 12', code, told)]); plt.show()
assert code == 0 and 'peak' in told

# %%
preset = load_preset('tiny', ('train_steps=0', 'batch_clips=2', 'lora_rank=4', 'quantize=nf4'))
small = [word for key in ('train_steps=0', 'batch_clips=2', 'lora_rank=4', 'quantize=nf4') for word in ('--set', key)]
(folder / 'clips').mkdir()
records = []
for number, made in enumerate(simulate_clips(4, 5, preset)):
    save_clip(made, folder / 'clips' / made.id)
    records += [record_from_question(asked, made.id, made.id) for asked in ask_all(made, np.random.default_rng(number), ('camera_movement', 'depth'), 2)]
write_records(folder / 'clips' / 'questions.jsonl', records)
code, told = typed('preflight', '--data', folder / 'clips', *small)
draw_terminal([('track4d preflight --data clips --set lora_rank=4 …', code, shown(told))], columns=150); plt.show()
assert code == 0 and '⟦' in told and 'one pass: 2 steps' in told


# %% [markdown]
# ## What does it say?
#
# A clip folder or any video file, and a question. Without `--question` every line that is typed is a turn of one dialogue.
# A video file is thinned to the preset's number of frames, spread evenly over it.

# %%
#| export
def read_any_video(path: Path, preset):
    "A clip folder's first view, or a video file thinned to the preset's frames, as a `Video` of the preset's size."
    from track4d_ref.clips import load_clip
    from track4d_ref.examples import fitted_video
    from track4d_ref.exports import read_video
    from track4d_ref.patches import pick_frames
    if path.is_dir():
        clip = load_clip(path)
        return fitted_video(clip.id, clip.views[0].frames, clip.times_s, preset)
    if not path.exists(): raise InputError(f'{path}: no such clip or video; check the path')
    import av
    frames = read_video(path)
    with av.open(str(path)) as container: rate = float(container.streams.video[0].average_rate or preset.fps)
    chosen = pick_frames(len(frames), preset.frames)
    return fitted_video(path.stem, frames[chosen], chosen / rate, preset)


# %%
#| export
@app.command(epilog='Example: track4d ask --model runs/model/model --clip holiday.mp4 --question "How does the camera move?"')
def ask(model: Annotated[Path, typer.Option(help='folder of a model, or of adapters')],
        clip: Annotated[Path, typer.Option(help='clip folder or video file')],
        question: Annotated[list[str], typer.Option(help='a question (repeatable); none: a chat, one line per turn')] = [],
        words: Annotated[int, typer.Option(min=1, help='longest answer, in tokens')] = 64,
        preset: PresetOption = 'tiny', set_: SetOption = [], as_json: JsonOption = False) -> None:
    "Ask a model about a clip or a video file; many questions share one reading of it, or chat line by line."
    from track4d_ref.adapters import load_model
    from track4d_ref.packing import ClipExample, ask_packed
    from track4d_ref.presets import load_preset
    from track4d_ref.vlm import ask as answer_rows
    from transformers.utils.logging import disable_progress_bar
    disable_progress_bar()
    video = read_any_video(clip, load_preset(preset, tuple(set_)))
    brain, tokenizer = load_model(model)
    if question:
        open_turns = tuple(({'role': 'user', 'content': text},) for text in question)
        answers = ask_packed(brain, tokenizer, ClipExample(str(clip), (video,), open_turns), words)
        pairs = [dict(question=text, answer=answer) for text, answer in zip(question, answers)]
        return say(dict(answers=pairs), as_json, '\n'.join(f'{pair["question"]}\n  {pair["answer"]}' for pair in pairs))
    turns = ()
    for line in filter(None, map(str.strip, sys.stdin)):
        turns += ({'role': 'user', 'content': line},)
        answer = answer_rows(brain, tokenizer, [((video,), turns)], words)[0]
        turns += ({'role': 'assistant', 'content': answer},)
        say(dict(question=line, answer=answer), as_json, f'  {answer}')


# %% [markdown]
# A model that was trained for a few steps answers with something; what matters here is that a clip folder and its video file
# lead to the same pixels, within what video compression leaves. (That questions in one row are answered as if alone is proved in notebook 20.)

# %%
train_on_records(folder / 'clips', folder / 'run', load_preset('tiny', ('train_steps=0', 'batch_clips=2')), progress=False)
model, clip_folder = folder / 'run' / 'model', folder / 'clips' / records[0].clip
write_video(folder / 'film.mp4', load_clip(clip_folder).views[0].frames, 4.0)
both = ('--question', 'How does the camera move in this video?', '--question', 'Is the camera still?\nAnswer Yes or No.')
printed = typed('ask', '--model', model, '--clip', clip_folder, *both, '--words', 8, '--json')[1]
answers = json.loads(printed[printed.index('{'):printed.rindex('}') + 1])['answers']
code, told = typed('ask', '--model', model, '--clip', folder / 'film.mp4', *both[:2], '--words', 8)
draw_terminal([('track4d ask --model run/model --clip film.mp4 --question "How does the camera move in this video?"', code, told)]); plt.show()
assert code == 0 and [pair['question'] for pair in answers] == [both[1], both[3]] and both[1] in told

# %%
from_folder, from_file = (read_any_video(path, load_preset('tiny')) for path in (clip_folder, folder / 'film.mp4'))
difference = np.abs(from_folder.frames.astype(int) - from_file.frames)
print(f'mean difference of a pixel {difference.mean():.2f} of 255, seconds per frame {from_folder.seconds_per_frame} and {from_file.seconds_per_frame}')
assert difference.mean() < 6 and from_folder.frames.shape == from_file.frames.shape and abs(from_file.seconds_per_frame - 0.25) < 1e-6


# %% [markdown]
# ## Take it with you
#
# The same records for another trainer: LLaVA, ShareGPT (LLaMA-Factory), ms-swift, TRL, or a Hugging Face data set. Every file that is
# named is opened again before the command says that it is done ([`12b_exports`](12b_exports.ipynb)).

# %%
#| export
@data.command(epilog='Example: track4d data export --records runs/clips --format swift --out runs/swift')
def export(records_: Annotated[Path, typer.Option('--records', help='record file (JSONL), or a folder of them')],
           format_: Annotated[str, typer.Option('--format', help='llava, sharegpt, swift, trl or hf')] = 'sharegpt',
           out: OutOption = Path('runs/export'), as_json: JsonOption = False) -> None:
    "Records and their videos in another trainer's format, checked by opening every file."
    from track4d_ref.examples import record_files
    from track4d_ref.exports import export_records, validate_export
    from track4d_ref.records import read_records
    files = record_files(records_)
    if len(files) > 1: raise InputError(f'{records_}: holds {len(files)} record files; export them one by one into folders of their own')
    target = export_records(read_records(files[0]), files[0], out, format_)
    counts = validate_export(out, format_)
    say(dict(counts, file=str(target)), as_json, f'{counts["samples"]} samples with {counts["videos"]} videos in {target}')


# %%
code, told = typed('data', 'export', '--records', folder / 'clips', '--format', 'swift', '--out', folder / 'swift')
draw_terminal([('track4d data export --records clips --format swift --out swift', code, shown(told))]); plt.show()
assert code == 0 and (folder / 'swift' / 'swift.jsonl').exists() and f'{len(records)} samples' in told

# %% [markdown]
# ## What we proved
#
# * A preflight refuses by its exit code what training would refuse, and needs no download for a memory table.
# * A question about a clip and about its video file reach the model alike.
# * An export is opened again, file by file, before it is called done.
#
# ## Try it
#
# 1. Start a chat: `track4d ask --model runs/model/model --clip holiday.mp4`. What does the model do with a second question?
# 2. Export to `trl` and load the file with the `datasets` library. Which column holds the video?
#
# <details><summary>Solutions</summary>
#
# 1. It reads the first question and its own answer again, as turns of one dialogue; whether that helps depends on whether it was trained
#    on dialogues.
# 2. `videos`: a list of paths, relative to the export's folder; `messages` holds the typed parts.
#
# </details>
