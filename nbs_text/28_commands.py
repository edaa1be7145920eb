# %% [markdown]
# # What all commands share
# > One application, its groups, its common options, one way to print a result and one way to show a terminal.

# %%
#| default_exp commands

# %% [markdown]
# * **What** the empty application that the next three notebooks fill: groups, options, printing
# * **Why** an option that is spelled the same everywhere is learned once
# * **Paper** none; the commands are **[ours]**
# * **Needs** typer
# * **Time** 10 seconds
# * **Before this** nothing; [`00b_presets`](00b_presets.ipynb) explains `--preset` and `--set`

# %%
#| export
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import typer

# %% [markdown]
# ## Four doors and five options
#
# The application has three groups, `data`, `train` and `score`; what belongs to no group stands at the top. Five options are the same
# everywhere: `--preset` and `--set` turn the one dial, `--seed` fixes chance, `--out` says where to write, and `--json` prints the result
# for a program instead of a person. The heavy imports (torch, transformers) happen inside the commands, so that `--help` is quick.

# %%
#| export
typer_group = lambda text: typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=text)
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  rich_markup_mode=None, help='4D perception by vision-language models: clips, questions, '
                                              'training, scores. Start with: track4d tour')
data = typer_group('Make, convert and export data.')
train = typer_group('Train a model.')
score = typer_group('Score recorded answers; no model needed.')
for name, group in dict(data=data, train=train, score=score).items(): app.add_typer(group, name=name)

# %%
#| export
PresetOption = Annotated[str, typer.Option('--preset', help='scale: tiny, small or rtx24 (settings.ini)')]
SetOption = Annotated[list[str], typer.Option('--set', help='key=value overrides the preset (repeatable)')]
SeedOption = Annotated[int, typer.Option('--seed', min=0, help='the same seed gives the same result')]
JsonOption = Annotated[bool, typer.Option('--json', help='print the result as JSON')]
OutOption = Annotated[Path, typer.Option('--out', help='where to write')]
RealDataOption = Annotated[Path | None,
                           typer.Option('--data', envvar='TRACK4D_DATA', help='folder of real samples')]

# %%
assert {group.name for group in app.registered_groups} == {'data', 'train', 'score'}

# %% [markdown]
# The options as a table of what they mean; every command of the next notebooks takes those that apply to it.

# %%
options = {option.__metadata__[0].default: option.__metadata__[0].help
           for option in (PresetOption, SetOption, SeedOption, OutOption, JsonOption)}
figure, axis = plt.subplots(figsize=(7.2, 1.3), dpi=90); axis.axis('off')
for row, (name, text) in enumerate(options.items()):
    axis.text(0.02, 0.95 - row * 0.23, name, family='monospace', fontsize=8.5, color='#0072B2')
    axis.text(0.16, 0.95 - row * 0.23, text, fontsize=8.5)
plt.show()
assert list(options) == ['--preset', '--set', '--seed', '--out', '--json']


# %% [markdown]
# ## One way to print
#
# A person reads a sentence; a program reads JSON. The same result serves both.

# %%
#| export
def say(result: dict, as_json: bool, sentence: str) -> None:
    "Print the result for a program (JSON) or for a person (a sentence)."
    typer.echo(json.dumps(result, indent=1, ensure_ascii=False, default=str) if as_json else sentence)


# %%
from contextlib import redirect_stdout
from io import StringIO

def printed(as_json):
    with redirect_stdout(StringIO()) as out:
        say({'clips': 3, 'place': Path('runs/clips')}, as_json, '3 clips in runs/clips')
    return out.getvalue().strip()

assert printed(False) == '3 clips in runs/clips' and json.loads(printed(True)) == {'clips': 3,
                                                                                   'place': 'runs/clips'}

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.2, 1.1), dpi=90)
for axis, (title, as_json) in zip(axes, {'for a person': False, 'for a program (--json)': True}.items()):
    axis.axis('off'); axis.set_title(title, fontsize=9, loc='left')
    axis.text(0, 0.9, printed(as_json), family='monospace', fontsize=8, va='top')
plt.show()


# %% [markdown]
# ## A terminal in a notebook
#
# The notebooks show commands as a person meets them: what was typed in blue, what came back in black, and the exit code. The command
# runs for real, in an interpreter of its own.

# %%
#| export
def run_command(*words: str) -> tuple[int, str]:
    "Run `track4d words …` in a fresh interpreter; its exit code and everything it printed."
    command = [sys.executable, '-m', 'track4d_ref.cli', *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip()

def draw_terminal(shown: list[tuple[str, int, str]], columns: int = 104) -> plt.Figure:
    "Draw (typed, exit code, printed) triples as a terminal."
    heights = [1 + max(1, len(printed.splitlines())) for _, _, printed in shown]
    figure, axis = plt.subplots(figsize=(7.8, 0.17 * sum(heights) + 0.12 * len(shown)), dpi=90)
    axis.set(xlim=(0, 1), ylim=(sum(heights) + 0.7 * len(shown), 0)); axis.axis('off')
    row = 0
    for (typed, code, printed), height in zip(shown, heights):
        mark = '' if code == 0 else f'   [exit {code}]'
        typed_line = f'$ {typed}{mark}'[:columns]
        axis.text(0, row, typed_line, family='monospace', fontsize=7.2, color='#0072B2', va='top')
        text = '\n'.join(line[:columns] for line in printed.splitlines())
        axis.text(0.02, row + 1.1, text, family='monospace', fontsize=6.8, va='top', linespacing=1.25)
        row += height + 0.7
    return figure


# %%
draw_terminal([('track4d data simulate --n 3', 0, '3 clips in runs/clips'),
               ('track4d data simulate --preset huge', 2,
                "track4d: settings.ini has no preset 'huge'; use tiny, small or rtx24")])
plt.show()
assert run_command('--version-of-what')[0] == 2

# %% [markdown]
# ## What we proved
#
# * One application with three groups; the same five options everywhere.
# * A result can be read by a person and by a program.
#
# ## Try it
#
# 1. Add an option `--quiet` that all commands share. Which cell changes, and which commands?
# 2. Make `say` write YAML instead. What would a shell script lose?
#
# <details><summary>Solutions</summary>
#
# 1. One `Annotated` option beside the others here, and one parameter in each command that should have it.
# 2. `jq` and every language's built-in JSON parser. A person gains little: sentences are for people.
#
# </details>
