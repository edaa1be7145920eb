# %% [markdown]
# # The command line
# > `track4d …`: every step of the road as one command, with one way to fail.

# %%
#| default_exp cli

# %% [markdown]
# * **What** the entry point, and the main job
# * **Why** reviewers reproduce by command, and a shell script must be able to trust exit codes
# * **Paper** none; the commands are **[ours]**
# * **Needs** typer
# * **Time** 20 seconds
# * **Before this** [`28a`](28a_data_commands.ipynb), [`28b`](28b_train_commands.ipynb) and [`28c`](28c_score_commands.ipynb), which register their commands

# %%
#| export
import sys
from pathlib import Path

from track4d_ref import app_page, data_commands, model_commands, score_commands, train_commands
from track4d_ref.commands import (JsonOption, OutOption, PresetOption, RealDataOption, SeedOption, SetOption,
                                  app, say)
from track4d_ref.storage import InputError

# %%
import matplotlib.pyplot as plt

from track4d_ref.commands import data, draw_terminal, run_command, score, train


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
        print('track4d: stopped; finished parts are kept, the same command goes on', file=sys.stderr)
        sys.exit(130)


# %%
figure, axis = plt.subplots(figsize=(7.5, 1.1), dpi=90); axis.axis('off')
endings = {'0': 'done', '2': 'a mistake in what was given', '130': 'interrupted; run again to go on'}
for place, (code, meaning) in enumerate(endings.items()):
    axis.text((0, 0.16, 0.55)[place], 0.5, code, fontsize=16, color=('#009E73', '#D55E00', '#E69F00')[place])
    axis.text((0.05, 0.21, 0.65)[place], 0.53, meaning, fontsize=8)
axis.set_title('three ways to end', fontsize=9, loc='left'); plt.show()


# %% [markdown]
# ## The main job
#
# `track4d tour` is the whole road in one command; [`27b_tour`](27b_tour.ipynb) explains its steps.

# %%
#| export
@app.command(epilog='Example: track4d tour --out runs/tour')
def tour(out: OutOption = Path('runs/tour'), preset: PresetOption = 'tiny', set_: SetOption = [],
         seed: SeedOption = 0, data_root: RealDataOption = None,
         as_json: JsonOption = False) -> None:
    "Video in, 4D questions out, a model trained on them, a score at the end; writes one HTML report."
    from track4d_ref.presets import load_preset
    from track4d_ref.tour import run_tour
    result = run_tour(out, load_preset(preset, (*set_, f'seed={seed}')), data_root)
    say(result, as_json, f'Report: {result["report"]}')


# %%
assert 'tour' in [command.callback.__name__ for command in app.registered_commands]

# %%
#| export
if __name__ == '__main__' and sys.argv[0].endswith('cli.py'): main()     # python -m track4d_ref.cli

# %% [markdown]
# ## What a person sees
#
# Three mistakes, three sentences:

# %%
mistakes = [('tour', '--preset', 'huge'), ('data', 'simulate', '--set', 'framse=4'),
            ('score', 'records', '--answers', 'nowhere.jsonl')]
told = [run_command(*words) for words in mistakes]
draw_terminal([(f'track4d {" ".join(words)}', *answer) for words, answer in zip(mistakes, told)]); plt.show()
assert all(code == 2 and len(sentence.splitlines()) == 1 for code, sentence in told)

# %% [markdown]
# The map of commands, as they are registered. Each has `--help` with an example that works.

# %%
groups = {'': app, 'data': data, 'train': train, 'score': score}
name_of = lambda command: command.name or command.callback.__name__.rstrip('_')
commands = [f'{group} {name_of(command)}'.strip() for group, holder in groups.items()
            for command in holder.registered_commands]
figure, axis = plt.subplots(figsize=(7.5, 0.12 * len(commands) + 0.3), dpi=90); axis.axis('off')
for place, command in enumerate(sorted(commands)):
    axis.text((place % 3) / 3, 1 - (place // 3) * 3 / len(commands), f'track4d {command}', family='monospace',
              fontsize=8, va='top')
plt.show()
assert {'tour', 'data simulate', 'train sft', 'evaluate', 'score vlm4d'} <= set(commands)

# %%
code, helped = run_command('--help')
assert code == 0 and all(name in helped for name in ('tour', 'data', 'train', 'evaluate', 'score', 'figures'))

# %% [markdown]
# ## What we proved
#
# * Every mistake ends in one sentence and exit code 2.
# * Help is quick, lists every command and shows an example.
#
# ## Try it
#
# 1. Interrupt `track4d tour` and start it again: which steps are not repeated?
# 2. Write a shell script that simulates, asks and trains, and stops at the first failure.
#
# <details><summary>Solutions</summary>
#
# 1. `track4d tour` repeats what is quick and trains again; the commands under `data`, `train` and `evaluate` go on
#    from what is there. Compare the files' times.
# 2. `set -e` and four lines: `track4d data simulate`, `data questions`, `train sft`, `evaluate`. Every mistake ends
#    with exit code 2, so the shell stops there.
#
# </details>
