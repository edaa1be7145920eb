# %% [markdown]
# # Commands that train
# > `track4d train …`: from records or simulated clips to a checkpoint; each goes on from its last checkpoint.

# %%
#| default_exp train_commands

# %% [markdown]
# * **What** the group `train` of the command line
# * **Why** a training that cannot be resumed is a training that will be repeated
# * **Paper** none; the commands are **[ours]**
# * **Needs** typer
# * **Time** 20 seconds
# * **Before this** [`28_commands`](28_commands.ipynb)

# %%
#| export
from pathlib import Path
from typing import Annotated

import typer

from track4d_ref.commands import JsonOption, OutOption, PresetOption, SeedOption, SetOption, say, train

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.commands import draw_terminal, run_command


# %% [markdown]
# ## Supervised fine-tuning
#
# Reads a record file or a folder of them; the clips lie where the records say, relative to the file. Several cards
# share the steps of one run with `accelerate launch --multi_gpu -m track4d_ref.cli train sft …`.

# %%
#| export
@train.command(epilog='Example: track4d train sft --data runs/clips --out runs/model')
def sft(records: Annotated[Path, typer.Option('--data', help='record file (JSONL), or a folder of them')],
        out: OutOption = Path('runs/model'),
        model: Annotated[str, typer.Option(help='checkpoint to start from; none: random weights')] = 'none',
        resume: Annotated[bool, typer.Option(help='go on from the checkpoint in --out')] = True,
        logger: Annotated[str,
            typer.Option(help='none, tensorboard or trackio; log.csv is always written')] = 'none',
        steps: Annotated[int, typer.Option(min=0, help='so many steps; 0: the preset\'s seconds, or one pass')] = 0,
        save_every: Annotated[int, typer.Option(min=1, help='steps from one checkpoint to the next')] = 50,
        preset: PresetOption = 'tiny', set_: SetOption = [], as_json: JsonOption = False) -> None:
    "Supervised fine-tuning on records; many questions share one reading of their clip."
    from track4d_ref.presets import load_preset
    from track4d_ref.training import train_on_records
    start, length = None if model == 'none' else model, dict(steps=steps, seconds=0.0) if steps else {}
    scale = load_preset(preset, tuple(set_))
    result = train_on_records(records, out, scale, start, resume, progress=not as_json, logger=logger, save_every=save_every, **length)
    if result: say(result, as_json,
        f'{result["steps"]} steps, last loss {result["loss"]:.3f}; '
        f'{result["saved"]} in {out / result["saved"]}')


# %%
folder = Path(tempfile.mkdtemp())
answer = run_command('train', 'sft', '--data', folder / 'nothing', '--out', folder / 'run')
draw_terminal([('track4d train sft --data nothing --out runs/run', answer[0],
                answer[1].replace(str(folder) + '/', ''))]); plt.show()
assert answer[0] == 2 and not (folder / 'run').exists()

# %% [markdown]
# A mistyped key of the preset is named before anything is read or written:

# %%
answer = run_command('train', 'sft', '--data', folder, '--out', folder / 'run', '--set', 'learning_rat=1e-3')
draw_terminal([('track4d train sft --set learning_rat=1e-3 …', *answer)]); plt.show()
assert answer[0] == 2 and "learning_rat" in answer[1]


# %% [markdown]
# ## Adapters become a plain model
#
# `--set lora_rank=16` (and `quantize=nf4`) makes `train sft` write adapters. Other programs want one whole checkpoint; this command makes it. The
# merged model answers as the adapted one did ([`21b_adapters`](21b_adapters.ipynb) says why that is not obvious).

# %%
#| export
@train.command(epilog='Example: track4d train merge --adapter runs/model/adapter --out runs/merged')
def merge(adapter: Annotated[Path, typer.Option(help='folder written by train sft with lora_rank > 0')],
          out: OutOption = Path('runs/merged'),
          model: Annotated[Path | None, typer.Option(help='base checkpoint, if it has moved')] = None,
          half: Annotated[bool, typer.Option(help='write bfloat16 instead of float32')] = False,
          as_json: JsonOption = False) -> None:
    "Write base and adapters as one whole checkpoint."
    import torch
    from track4d_ref.adapters import merge_adapter
    merge_adapter(adapter, out, model, torch.bfloat16 if half else torch.float32)
    say({'model': str(out)}, as_json, f'merged model in {out}')


# %%
answer = run_command('train', 'merge', '--adapter', folder / 'none', '--out', folder / 'merged')
draw_terminal([('track4d train merge --adapter none', answer[0], answer[1].replace(str(folder) + '/', ''))])
plt.show()
assert answer[0] == 2 and 'adapter.json' in answer[1] and not (folder / 'merged').exists()


# %% [markdown]
# ## The vision tower
#
# From nothing to the tower in `data_samples/vision_tiny`; [`14a_vision`](14a_vision.ipynb) explains the losses.

# %%
#| export
@train.command(epilog='Example: track4d train vision --out runs/vision_tiny')
def vision(out: OutOption = Path('runs/vision_tiny'),
           clips: Annotated[int, typer.Option(min=1, help='simulated clips')] = 2200,
           seconds: Annotated[float, typer.Option(min=1, help='training time')] = 480.0,
           preset: PresetOption = 'tiny', set_: SetOption = [], seed: SeedOption = 7,
           as_json: JsonOption = False) -> None:
    "Pre-train the vision tower on depth, colour and flow; this made data_samples/vision_tiny."
    from track4d_ref.presets import load_preset
    from track4d_ref.vision import train_vision
    scores = train_vision(out, load_preset(preset, tuple(set_)), clips, seconds, seed)
    say(scores, as_json, f'flow R² {scores["flow_r2"]:.3f}, log depth error {scores["log_depth_error"]:.3f}, '
                         f'colour {scores["color_accuracy"]:.3f}; tower in {out}')


# %%
answer = run_command('train', 'vision', '--help')
draw_terminal([('track4d train vision --help', *answer)]); plt.show()
assert answer[0] == 0 and 'Example: track4d train vision' in answer[1]


# %% [markdown]
# ## The base
#
# From nothing to `data_samples/base_tiny`: a model that sees single frames and knows no word for motion
# ([`22e_base`](22e_base.ipynb)).

# %%
#| export
@train.command(epilog='Example: track4d train base --set patch_size=7 --set text_kv_heads=6 --out runs/base')
def base(out: OutOption = Path('runs/base'),
         clips: Annotated[int, typer.Option(min=2, help='simulated clips')] = 6000,
         naming: Annotated[int, typer.Option(min=1, help='steps in which tokens learn to say what they are')] = 2600,
         lessons: Annotated[int, typer.Option(min=1, help='steps of captions and questions')] = 1100,
         preset: PresetOption = 'tiny', set_: SetOption = [], seed: SeedOption = 0,
         as_json: JsonOption = False) -> None:
    "Make the off-the-shelf model from nothing; goes on from its checkpoints. Made data_samples/base_tiny."
    from track4d_ref.base import BasePlan, train_base
    from track4d_ref.presets import load_preset
    plan = BasePlan(clips=clips, naming_steps=naming, lesson_steps=lessons, seed=seed)
    scores = train_base(out, load_preset(preset, tuple(set_)), plan, progress=not as_json)
    seeing, blind = (scores[name]['all']['percent'] for name in ('seeing', 'blind'))
    say(scores, as_json,
        f'{seeing} % of questions on single frames ({blind} % blind); model in {out / "model"}')


# %% [markdown]
# ## LMM-Track4D
#
# A base model gets RTGE, TRK and OSK-RA and learns from the dialogues of Track4D-Bench-tiny. The clips are rendered and seen by the frozen
# tower once, into `--out/lessons`; a stopped run goes on from its checkpoint.

# %%
#| export
@train.command(epilog='Example: track4d train track --model data_samples/base_tiny --steps 300 --out runs/track')
def track(out: OutOption = Path('runs/track'),
          model: Annotated[Path, typer.Option(help='folder of the base model')] = Path('data_samples/base_tiny'),
          steps: Annotated[int, typer.Option(min=1, help='batches of dialogues')] = 300,
          entries: Annotated[int, typer.Option(min=1, max=526, help='the first so many clips of the benchmark')] = 526,
          as_text: Annotated[bool, typer.Option(help='the baseline that writes its trajectories out in words')] = False,
          preset: PresetOption = 'tiny', set_: SetOption = [], seed: SeedOption = 0, as_json: JsonOption = False) -> None:
    "Train LMM-Track4D on dialogues that return trajectories."
    from track4d_ref.presets import load_preset
    from track4d_ref.track4d_runs import train_run
    from track4d_ref.track4d_training import Track4DPlan
    plan = Track4DPlan(steps, as_text=as_text, save_every=20, seed=seed)
    result = train_run(out, load_preset(preset, tuple(set_)), model, plan, entries=entries, progress=not as_json)
    say(result, as_json, f'{result["steps"]} steps on {result["lessons"]} dialogues, last loss {result["total"]:.2f}; model in {result["model"]}')


# %%
answer = run_command('train', 'track', '--model', folder / 'nothing', '--out', folder / 'track')
draw_terminal([('track4d train track --model nothing --out runs/track', answer[0], answer[1].replace(str(folder) + '/', ''))]); plt.show()
assert answer[0] == 2 and 'train base' in answer[1]

# %%
assert {'sft', 'vision', 'base', 'track'} <= {command.callback.__name__ for command in train.registered_commands}

# %% [markdown]
# ## What we proved
#
# * A mistake costs one sentence and leaves nothing behind.
#
# ## Try it
#
# 1. Stop `track4d train sft` with Ctrl-C and start it again. From which step does it go on?
# 2. Train with `--set train_steps=20` and with `40`. How does the last loss change?
#
# <details><summary>Solutions</summary>
#
# 1. From the last checkpoint in `--out`: read `log.csv`, the step number goes on. At most the steps since then are
#    repeated, with the same result.
# 2. Compare the last lines of both `log.csv`. Twice the time is not half the loss; on a plateau it may be no
#    difference at all.
#
# </details>
