# %% [markdown]
# # The report page
# > One self-contained HTML file: pictures, questions, answers, scores and what it took to get them.

# %%
#| default_exp report

# %% [markdown]
# * **What** a page builder, and the three pictures every report needs: accuracies, the training curve, a
#   question card
# * **Why** a result is believed when picture, number and run card stand on one page that can be mailed
# * **Paper** none; **[ours]**
# * **Needs** matplotlib
# * **Time** 10 seconds
# * **Before this** `04_viz`, `25_scoring`

# %%
#| export
import json
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from track4d_ref.scoring import AccuracyTable, render_html
from track4d_ref.storage import atomic_path
from track4d_ref.viz import INK, MUTED, PALETTE, figure_html, use_style

# %%
import tempfile

from track4d_ref.scoring import accuracy_table, score_rows
use_style()

# %% [markdown]
# ## A page is a list of parts
#
# No template engine: a page has a title and a list of HTML pieces, and every text that comes from data is
# escaped on the way in. Pictures are embedded, so the file needs nothing beside it and nothing from the
# network.

# %%
#| export
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.55 system-ui, -apple-system, 'Segoe UI', sans-serif; color: #1f2933;
  max-width: 60rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.75rem; margin-bottom: .2rem; }
h2 { margin: 2.4rem 0 .4rem; font-size: 1.25rem; border-bottom: 1px solid #d9e2ec; padding-bottom: .2rem; }
.lead { font-size: 1.05rem; color: #52606d; margin-top: 0; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
figcaption, .small { color: #627d98; font-size: .86rem; }
nav a { margin-right: 1rem; } a { color: #0072B2; text-decoration: none; }
table { border-collapse: collapse; font-size: .9rem; margin: .8rem 0; }
th, td { padding: .22rem .7rem; border-bottom: 1px solid #e4e7eb; text-align: right; }
th { color: #52606d; font-weight: 600; } td:first-child, th:first-child { text-align: left; padding-left: 0; }
.wide { overflow-x: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(27rem, 1fr)); gap: 1rem; }
.card { border: 1px solid #d9e2ec; border-radius: 8px; padding: .8rem 1rem; }
.card p { margin: .35rem 0; } .card ol { margin: .3rem 0; padding-left: 1.6rem; }
.truth { font-weight: 650; } .right { color: #00724f; } .wrong { color: #b3430a; }
.tag { font-size: .76rem; letter-spacing: .03em; text-transform: uppercase; color: #829ab1; }
pre { background: #f5f7fa; padding: .8rem 1rem; border-radius: 6px; overflow-x: auto; font-size: .82rem; }
"""


# %%
#| export
class Page:
    "A self-contained HTML page; texts are escaped, `add` takes ready HTML."
    def __init__(self, title: str, lead: str = ''):
        self.title, self.lead, self.parts, self.anchors = title, lead, [], []

    def add(self, html: str) -> None: self.parts.append(html)

    def heading(self, text: str) -> None:
        anchor = f'part-{len(self.anchors) + 1}'
        self.anchors.append((anchor, text))
        self.add(f'<h2 id="{anchor}">{escape(text)}</h2>')

    def prose(self, text: str) -> None: self.add(f'<p>{escape(text)}</p>')

    def figure(self, figure: Figure, caption: str) -> None:
        self.add(f'<figure>{figure_html(figure, caption)}<figcaption>{escape(caption)}</figcaption></figure>')

    def table(self, rows: list[tuple], bold: list[bool] = ()) -> None:
        self.add(f'<div class="wide">{render_html([tuple(map(str, row)) for row in rows], bold)}</div>')

    def run_card(self, card: dict) -> None:
        self.add(f'<pre>{escape(json.dumps(card, indent=1, ensure_ascii=False))}</pre>')


# %%
#| export
def page_html(page: Page) -> str:
    "The whole page as text."
    links = ''.join(f'<a href="#{anchor}">{escape(text)}</a>' for anchor, text in page.anchors)
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<title>{escape(page.title)}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>\n'
            f'<h1>{escape(page.title)}</h1>\n<p class="lead">{escape(page.lead)}</p>\n'
            f'<nav class="small">{links}</nav>\n'
            + '\n'.join(page.parts) + '\n</body></html>\n')

def write_page(page: Page, path: Path | str) -> Path:
    "Write the page atomically and return its path."
    with atomic_path(path) as partial: partial.write_text(page_html(page), encoding='utf-8')
    return Path(path)


# %%
page = Page('A page', 'with <b>nothing</b> on it')
page.heading('One & only'); page.prose('2 < 3'); page.table([('type', 'right'), ('depth', 7)])
with tempfile.TemporaryDirectory() as folder: text = write_page(page, Path(folder) / 'page.html').read_text()
assert '&lt;b&gt;nothing' in text and '2 &lt; 3' in text and '<td>7</td>' in text and 'http' not in text


# %% [markdown]
# ## Accuracies, with what they must be compared to
#
# A lone percentage says nothing. Each line of the chart therefore shows every model on the same questions,
# its 95 % interval, and a grey tick for chance. The blind model is the one to look at first: whatever it
# reaches, no video was needed for.

# %%
#| export
def accuracy_chart(tables: dict[str, AccuracyTable]) -> Figure:
    "Dots with 95 % intervals per question type, one colour per table; grey ticks are chance."
    names = [line.name for line in next(iter(tables.values())).lines if line.level != 'category']
    figure, axis = plt.subplots(figsize=(8, 0.9 + 0.5 * len(names)))
    for shift, (label, table) in zip(np.linspace(-0.24, 0.24, len(tables)), tables.items()):
        color, lines = _COLORS.get(label, INK), {line.name: line for line in table.lines}
        for row, line in ((row, lines[name]) for row, name in enumerate(names) if name in lines):
            axis.plot([100 * line.low, 100 * line.high], [row + shift] * 2, color=color, lw=3, alpha=0.35,
                      solid_capstyle='round')
            axis.plot(100 * line.accuracy, row + shift, 'o', color=color, ms=5,
                      label=label if row == 0 else None)
            axis.plot([100 * line.chance] * 2, [row - 0.34, row + 0.34], color=MUTED, lw=1, zorder=0)
    axis.set(xlim=(0, 101), ylim=(len(names) - 0.5, -0.5), xlabel='accuracy (%)')
    axis.set_yticks(range(len(names)), [name.replace('_', ' ') for name in names])
    figure.legend(loc='outside upper right', ncols=len(tables), frameon=False)
    return figure

_COLORS = {'before training': PALETTE[4], 'blind': PALETTE[1], 'after training': PALETTE[0]}

# %%
rng = np.random.default_rng(3)
def made_up(skill):
    rows = [{'clip': str(i % 30), 'type': kind, 'category': 'camera', 'choices': ('a', 'b', 'c', 'd'),
             'truth': 'A',
             'answer': 'A' if rng.random() < share else 'C'} for kind, share in skill.items()
            for i in range(90)]
    return accuracy_table(score_rows(rows))

tables = {'before training': made_up(dict(camera_movement=.26, depth=.3)),
          'blind': made_up(dict(camera_movement=.3, depth=.33)),
          'after training': made_up(dict(camera_movement=.8, depth=.55))}
chart = accuracy_chart(tables); plt.show()

# %%
lines = {label: table.lines[-1] for label, table in tables.items()}
assert lines['after training'].low > lines['blind'].high and all(line.chance == 0.25
                                                                 for line in lines.values())


# %% [markdown]
# ## The training curve
#
# The raw loss is noisy, so it is drawn thin, with a running mean over it. The dashed line is what a model
# pays that knows only how often each answer occurs; below it, the video is being used.

# %%
#| export
def training_chart(steps: list[int], losses: list[float], floor: float | None = None,
                   floor_name: str = 'answers guessed without video') -> Figure:
    "Loss over steps with its running mean, and the loss a model reaches without looking."
    figure, axis = plt.subplots(figsize=(8, 2.6))
    axis.plot(steps, losses, color=PALETTE[5], lw=0.8, alpha=0.7)
    axis.plot(steps, running_mean(losses), color=PALETTE[0], lw=2)
    if floor is not None:
        axis.axhline(floor, color=PALETTE[1], ls='--', lw=1.2)
        axis.text(steps[-1], floor, f' {floor_name}', color=PALETTE[1], ha='right', va='bottom', fontsize=8)
    axis.set(xlabel='step', ylabel='loss per answer token', ylim=(0, None),
             xlim=(steps[0], steps[-1]) if len(steps) > 1 else None)
    return figure

def running_mean(values: list[float], share: float = 0.05) -> np.ndarray:
    "Exponential mean whose memory is `share` of the series."
    keep, total, smooth = 1 - 1 / max(1.0, share * len(values)), values[0], []
    for value in values:
        total = keep * total + (1 - keep) * value
        smooth.append(total)
    return np.array(smooth)


# %%
losses = list(2.2 * np.exp(-np.arange(400) / 130) + 0.25 + rng.normal(0, 0.12, 400))
curve = training_chart(list(range(400)), losses, floor=1.1); plt.show()

# %%
assert np.allclose(running_mean([3.0] * 7),
                   3) and np.diff(running_mean(losses)).std() < 0.2 * np.diff(losses).std()


# %% [markdown]
# ## The question card
#
# A person checks a question in one glance: the clip, the words, the options, the truth in bold, and what
# each model said.

# %%
#| export
def question_card(picture: str, kind: str, text: str, choices: tuple[str, ...], truth: str,
                  answers: dict[str, str]) -> str:
    "A card as HTML: picture (HTML), question, options with the truth in bold, each model's answer marked."
    options = ''.join(f'<li class="{"truth" if chr(65 + i) == truth else ""}">{escape(choice)}</li>'
                      for i, choice in enumerate(choices))
    options = f'<ol type="A">{options}</ol>' if choices else f'<p class="truth">{escape(truth)}</p>'
    marks = {True: ('right', '✓'), False: ('wrong', '✗')}
    said = ' · '.join(f'{escape(name)}: <span class="{marks[answer == truth][0]}">{escape(answer)} '
                      f'{marks[answer == truth][1]}</span>' for name, answer in answers.items())
    return (f'<div class="card"><span class="tag">{escape(kind.replace("_", " "))}</span>{picture}'
            f'<p>{escape(text)}</p>{options}<p class="small">{said}</p></div>')

def card_grid(cards: list[str]) -> str:
    "Cards side by side where the page is wide enough."
    return f'<div class="cards">{"".join(cards)}</div>'


# %%
figure, axis = plt.subplots(figsize=(4, 1.5)); axis.plot([0, 1, 2], [0, 1, 0], 'o-', color=PALETTE[0])
axis.set(title='any picture may stand in a card', xticks=[], yticks=[]); plt.show()

# %%
card = question_card('<img alt="">', 'camera_movement', 'How does the camera move?', ('forward', 'left & up'),
                     'B', {'before': 'A', 'after': 'B'})
assert '<li class="truth">left &amp; up</li>' in card and card.count('✓') == 1 and card.count('✗') == 1
assert card_grid([card, card]).count('class="card"') == 2

# %% [markdown]
# ## What we proved
#
# * A page is one file that asks the network for nothing, and no text from data becomes markup.
# * Every accuracy stands beside chance, the blind model and its interval.
#
# ## Try it
#
# 1. Add a fourth model to `accuracy_chart`. Which colour does it get, and is the chart still readable?
# 2. Give `question_card` a caption with a `<script>` tag. What does the browser show?
#
# <details><summary>Solutions</summary>
#
# 1. The fourth of `PALETTE`. Bars of four models in five groups still fit; beyond that draw dots with intervals.
# 2. The text `<script>`: every caption passes through `escape`. Check it by `assert '&lt;script&gt;' in card`.
#
# </details>
