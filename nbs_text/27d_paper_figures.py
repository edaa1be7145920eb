# %% [markdown]
# # The papers' figures and tables
# > One function per figure or table of the three papers: the published numbers drawn, ours beside them where we have them.

# %%
#| default_exp paper_figures

# %% [markdown]
# #| export
# An exhibit is one figure or table of a paper. Its `draw` takes the stored results that belong to it (possibly none) and returns a
# figure of the published numbers; our own numbers come from `results/*.json` and are shown by `beside_chart`.

# %% [markdown]
# * **What** `EXHIBITS`, a list of what the papers show, and functions that draw each of it again
# * **Why** a reader with the paper open should find the same table here, with the published number, ours,
#   and the reason for the difference
# * **Paper** 4DP-QA Tables 1 to 4; LMM-Track4D's benchmark and history; MLLM-4D Tables 1 and 2, ladder,
#   Figure 5; VLM4D Table 1, Figure 6
# * **Needs** nothing; results of this project are drawn where they exist
# * **Time** 10 seconds
# * **Before this** `27c_published`, `26_experiments`

# %% [markdown]
# ## Dots on lines
#
# Nearly all tables of the papers have the same shape: models down the side, a few accuracies across. A bar
# chart of sixteen models is a fence; dots on lines let the eye run down one colour. Rows of the paper's own
# method are set in bold and rows that only guess stand where they belong, since everything is compared with
# them.
#
# One drawing function therefore serves all of them. It takes the rows, the columns to show, and the names
# to emphasise.

# %%
#| export
import re
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from track4d_ref.published import SETTINGS, PublishedTable, mixture_table, published_table
from track4d_ref.viz import MUTED, PALETTE

def dots_chart(table: PublishedTable, columns: tuple[str, ...], bold: str = r'$^', title: str = '') -> Figure:
    """Rows as lines, one colour per column; row names that match the pattern `bold` are emphasised."""
    names = list(table.rows)
    figure, axis = plt.subplots(figsize=(7.6, 0.9 + 0.235 * len(names)))
    lines = {column: table.column(column) for column in columns}
    for row, name in enumerate(names):
        values = [line[name] for line in lines.values() if name in line]
        axis.plot([min(values), max(values)], [row, row], color=MUTED, lw=1, alpha=.45, zorder=1)
    for color, (column, line) in zip(PALETTE, lines.items()):
        axis.plot(list(line.values()), [names.index(name) for name in line], 'o', color=color, ms=5.5,
                  label=column)
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - .4, -.6), xlabel='accuracy (%)')
    for label in axis.get_yticklabels():
        if re.search(bold, label.get_text()): label.set(fontweight='bold', color='#22252B')
    axis.grid(axis='x', alpha=.3)
    figure.suptitle(title, x=0.01, ha='left', fontsize=10, fontweight='bold')
    figure.legend(loc='outside lower center', ncols=min(len(columns), 5), frameon=False)
    return figure


# %%
from track4d_ref.viz import use_style
use_style()

example = dots_chart(published_table('4DP-QA', 'table3'), ('real', 'synthetic', 'overall'), r'\+ 4DP-QA',
                     '4DP-QA, Table 3')
plt.show()

# %%
axis, = example.axes
assert len(axis.get_yticklabels()) == 16 and sum(label.get_fontweight() == 'bold'
                                                 for label in axis.get_yticklabels()) == 3
assert [len(line.get_xdata()) for line in axis.lines[-3:]] == [16, 16, 16]
plt.close('all')

# %% [markdown]
# ## 4DP-QA
#
# Table 1 counts the sources, Table 2 holds the benchmark, Table 3 the transfer to VLM4D, Table 4 the
# mixtures. Table 4 is the one with an argument in it, so it is drawn as two panels: what a mixture does on
# the own benchmark, and what it does on somebody else's. The best point of each line carries a ring. They
# are in different places: standard questions win at home, true motion wins away.

# %%
#| export
SOURCES = {'SHIFT': (3200, 1.6e6), 'Virtual KITTI 2': (50, 21300), 'Aria Digital Twin': (273, 644e3),
           'HOT3D': (424, 1e6),
           'Kubric': (9700, 320e3)}                   # 4DP-QA, Table 1: videos, frames

def table_1(results: list[dict] = ()) -> Figure:
    """4DP-QA Table 1: videos and frames per source, on logarithmic axes."""
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 1.9), sharey=True)
    for axis, (place, what) in zip(axes, enumerate(('videos', 'frames'))):
        counts = [row[place] for row in SOURCES.values()]
        axis.barh(list(SOURCES), counts, color=PALETTE[place], height=.6)
        for row, count in enumerate(counts):
            axis.text(count * 1.1, row, f'{count:,.0f}', va='center', fontsize=8)
        axis.set(xscale='log', xlabel=what, xlim=(10, max(counts) * 12))
    axes[0].invert_yaxis()
    return figure

def table_2(results: list[dict] = ()) -> Figure:
    """4DP-QA Table 2: the three categories and the overall accuracy of every model."""
    return dots_chart(published_table('4DP-QA', 'table2'),
                      ('all camera', 'all object', 'all spatial', 'overall'), r'\+ 4DP-QA|Random')

def table_3(results: list[dict] = ()) -> Figure:
    """4DP-QA Table 3: transfer to VLM4D."""
    return dots_chart(published_table('4DP-QA', 'table3'), ('real', 'synthetic', 'overall'), r'\+ 4DP-QA')


# %%
#| export
def table_4(results: list[dict] = ()) -> Figure:
    """4DP-QA Table 4: five data mixtures on two benchmarks, three backbones; rings mark the best mixture."""
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.8))
    for axis, (column, title) in zip(axes, (('overall', '4DP-QA-Bench'), ('VLM4D overall', 'VLM4D'))):
        for color, (backbone, values) in zip(PALETTE, mixture_table(column).items()):
            axis.plot(SETTINGS, list(values.values()), 'o-', color=color, ms=4.5, label=backbone)
            best = max(values, key=values.get)
            axis.plot(best, values[best], 'o', ms=11, mfc='none', mec=color)
        axis.set(title=title, ylabel='accuracy (%)')
        axis.set_xticks(range(5), ['(I)\nbase', '(II)\nstandard', '(III)\n+ true m.', '(IV)\n+ visual',
                                   '(V)\n+ both'], fontsize=7.5)
    axes[0].legend(loc='lower right')
    return figure


# %%
figure = table_4(); plt.show()


# %%
def rings(axis): return [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 1]
assert rings(figure.axes[0]) == ['(II)'] * 3 and rings(figure.axes[1]) == ['(III)'] * 3
assert sum(videos for videos, _ in SOURCES.values()) == 13_647 and sum(frames
    for _, frames in SOURCES.values()) == 3_585_300
plt.close('all')


# %% [markdown]
# ## LMM-Track4D
#
# Little is known: the size of its benchmark, and what the history of a dialogue is worth on late turns. The
# second is drawn with the differences written between the bars, because they are the claim.

# %%
#| export
def track4d_bench(results: list[dict] = ()) -> Figure:
    """LMM-Track4D, Track4D-Bench: long and short dialogues per source."""
    table = published_table('LMM-Track4D', 'bench')
    figure, axis = plt.subplots(figsize=(7.6, 1.6))
    left = np.zeros(3)
    for color, kind in zip(PALETTE, ('short', 'long')):
        counts = np.array(table.rows[kind][:3])
        axis.barh(table.columns[:3], counts, left=left, color=color, label=kind, height=.6)
        for row, (start, count) in enumerate(zip(left, counts)):
            axis.text(start + count / 2, row, f'{count:.0f}', ha='center', va='center', color='white',
                      fontsize=8)
        left += counts
    axis.set(xlabel='dialogues'); axis.invert_yaxis(); axis.legend(loc='lower right')
    return figure

def track4d_history(results: list[dict] = ()) -> Figure:
    """LMM-Track4D, late-turn Traj-Acc under three histories, with the steps between them."""
    values = published_table('LMM-Track4D', 'history').column('late-turn Traj-Acc')
    figure, axis = plt.subplots(figsize=(5.6, 1.8))
    axis.barh(list(values), list(values.values()), color=PALETTE[2], height=.55)
    before = None
    for row, value in enumerate(values.values()):
        step = '' if before is None else f'   {value - before:+.1f}'
        axis.text(value + .6, row, f'{value:.1f}{step}', va='center', fontsize=9); before = value
    axis.set(xlim=(0, 90), xlabel='late-turn Traj-Acc (%)'); axis.invert_yaxis()
    return figure


# %%
track4d_history(); plt.show()
figure = track4d_bench()
assert sum(bar.get_width() for bar in figure.axes[0].patches) == 526
plt.close('all')


# %% [markdown]
# ## MLLM-4D
#
# Its two tables have the shape above. The ladder is drawn as steps with the sampling error of 1,371
# questions around the VLM4D line: the last two steps lie within it, and nothing in the paper resolves them.
# Figure 5 shows accuracy against the amount of data; only the ends of its curves are stated in words, so
# only those are drawn.

# %%
#| export
def mllm4d_table_1(results: list[dict] = ()) -> Figure:
    """MLLM-4D Table 1: six subtasks of MLLM4D-Bench; here the mean and the extremes over the subtasks."""
    table = published_table('MLLM-4D', 'table1')
    spread = {name: (min(values[:6]), values[6], max(values[:6])) for name, values in table.rows.items()}
    return dots_chart(PublishedTable('MLLM-4D', 'table1', ('weakest subtask', 'average', 'strongest subtask'),
                                     spread),
                      ('weakest subtask', 'average', 'strongest subtask'), '^MLLM-4D')

def mllm4d_table_2(results: list[dict] = ()) -> Figure:
    """MLLM-4D Table 2: VLM4D real, synthetic, overall."""
    return dots_chart(published_table('MLLM-4D', 'table2'), ('real', 'synthetic', 'overall'), '^MLLM-4D')

def mllm4d_ladder(results: list[dict] = ()) -> Figure:
    """MLLM-4D ablation: five steps; the band is the 95 % sampling error of the 1,371 real questions."""
    table = published_table('MLLM-4D', 'ladder')
    figure, axis = plt.subplots(figsize=(7.6, 2.6))
    for color, name, lift in zip(PALETTE, table.columns, (2.2, -5.4)):
        values = np.array(list(table.column(name).values()))
        axis.plot(range(5), values, 'o-', color=color, label=name)
        for step, value in enumerate(values):
            axis.text(step, value + lift, f'{value:.1f}', ha='center', fontsize=8, color=color)
    error = 196 * np.sqrt(values / 100 * (1 - values / 100) / 1371)
    axis.fill_between(range(5), values - error, values + error, color=color, alpha=.15, lw=0)
    axis.set(ylim=(30, 82), ylabel='accuracy (%)')
    axis.set_xticks(range(5), ['base', 'SFT, monocular', 'SFT, stereo', '+ GRPO', '+ ST-reward'])
    axis.legend(loc='lower right')
    return figure


# %%
#| export
def mllm4d_figure_5(results: list[dict] = ()) -> Figure:
    """MLLM-4D Figure 5: accuracy against the amount of data; only the points stated in words."""
    stated = published_table('MLLM-4D', 'scaling').column('VLM4D real')
    figure, axis = plt.subplots(figsize=(5.6, 2.2))
    axis.plot([2e5, 2e6], [stated['SFT 200K'], stated['SFT 2M']], 'o-', color=PALETTE[0], label='SFT')
    axis.plot([3e4], [stated['RFT 30K']], 'D', color=PALETTE[1], label='GRPO on top of SFT')
    axis.set(xscale='log', xlabel='questions', ylabel='VLM4D real (%)', ylim=(55, 65)); axis.legend()
    return figure


# %%
mllm4d_ladder(); plt.show()

# %%
steps = list(published_table('MLLM-4D', 'ladder').column('VLM4D (real)').values())
error = 196 * (.6 * .4 / 1371) ** .5
print(f'sampling error ± {error:.1f} points; '
      f'the last two steps: {steps[3] - steps[2]:.1f} and {steps[4] - steps[3]:.1f}')
assert max(steps[4] - steps[3], steps[3] - steps[2]) < error < steps[1] - steps[0]


# %% [markdown]
# ## VLM4D
#
# The benchmark all three are judged on. Table 1 is 23 models under chain of thought; Figure 6 compares with
# direct output for the 22 models that have both. Connected dots show it at a glance: thinking aloud helps
# some models and hurts more.

# %%
#| export
def vlm4d_table_1(results: list[dict] = ()) -> Figure:
    """VLM4D Table 1: real and synthetic accuracy of 23 models under chain of thought, best first."""
    table = published_table('VLM4D', 'cot')
    ranked = dict(sorted(table.rows.items(), key=lambda item: -item[1][-1]))
    return dots_chart(PublishedTable('VLM4D', 'cot', table.columns, ranked), ('real', 'synthetic', 'overall'))

def vlm4d_figure_6(results: list[dict] = ()) -> Figure:
    """VLM4D Figure 6: overall accuracy, direct output against chain of thought."""
    thinking, direct = (published_table('VLM4D', prompt).column('overall')
                        for prompt in ('cot', 'direct-output'))
    both = {name: (direct[name], thinking[name]) for name in sorted(direct, key=lambda name: -thinking[name])}
    table = PublishedTable('VLM4D', 'figure 6', ('direct output', 'chain of thought'), both)
    return dots_chart(table, table.columns)


# %%
figure = vlm4d_figure_6(); plt.show()

# %%
gain = [thinking - direct
        for direct, thinking in zip(*(line.get_xdata() for line in figure.axes[0].lines[-2:]))]
print(f'chain of thought helps {sum(g > 0 for g in gain)} of {len(gain)} models; '
      f'the mean gain is {np.mean(gain):+.1f} points')
assert len(gain) == 22 and 5 < sum(g > 0 for g in gain) < 17
plt.close('all')

# %% [markdown]
# ## Ours beside the paper's
#
# An experiment of this project renders its result as cells of a table. Columns that end in "(ours)" and
# "(paper)" are pairs, and a pair can be drawn without knowing what it means. Cells may carry an interval
# behind the number, "81.3 (79.0–83.5)".

# %%
#| export
NUMBER = re.compile(r'[-+−]?\d+(?:\.\d+)?')

def numbers_in(cell: str) -> list[float]:
    """The numbers of a cell: the value, then perhaps the ends of its interval; empty if there is none."""
    text = cell.replace(',', '').replace('−', '-')
    return [float(found) for found in NUMBER.findall(re.sub(r'(?<=\d)[–-](?=\d)', ' ', text))]

def beside_pairs(cells: list[tuple[str, ...]]) -> dict[str, list[tuple[str, list[float], float]]]:
    """Name of a pair of columns '… (ours)', '… (paper)' -> (row, ours, the paper's), rows with both."""
    header, pairs = [str(title) for title in cells[0]], {}
    for place, title in enumerate(header):
        name = title.removesuffix('(ours)').strip()
        if not title.endswith('(ours)') or f'{name} (paper)'.strip() not in header: continue
        other = header.index(f'{name} (paper)'.strip())
        rows = [(row[0], numbers_in(row[place]), numbers_in(row[other])) for row in cells[1:]]
        found = [(row, mine, theirs[0]) for row, mine, theirs in rows if mine and theirs]
        if found: pairs[name or 'value'] = found
    return pairs


# %%
#| export
def beside_chart(cells: list[tuple[str, ...]]) -> Figure | None:
    """Our numbers, with intervals, beside the paper's, a panel per pair of columns; None without a pair."""
    pairs = beside_pairs(cells)
    if not pairs: return None
    most = max(map(len, pairs.values()))
    figure, axes = plt.subplots(1, len(pairs), figsize=(7.6, 0.9 + 0.26 * most), squeeze=False)
    for axis, (name, rows) in zip(axes[0], pairs.items()):
        for place, (_, mine, theirs) in enumerate(rows):
            axis.plot([mine[0], theirs], [place] * 2, color=MUTED, lw=1, alpha=.45, zorder=1)
            if len(mine) >= 3:
                axis.plot(mine[1:3], [place] * 2, color=PALETTE[0], lw=5, alpha=.3, solid_capstyle='butt')
        axis.plot([mine[0] for _, mine, _ in rows], range(len(rows)), 'o', color=PALETTE[0], label='ours')
        axis.plot([theirs for *_, theirs in rows], range(len(rows)), 'D', color=PALETTE[1], ms=5,
                  label='paper')
        axis.set(yticks=range(len(rows)), yticklabels=[row for row, *_ in rows], ylim=(len(rows) - .4, -.6),
                 xlabel=name)
        axis.grid(axis='x', alpha=.3)
    axes[0][-1].legend(loc='best')
    return figure


# %%
made_up = [('type', 'accuracy % (ours)', 'accuracy % (paper)', 'questions'),
           ('depth', '71.0 (66.2–75.1)', '88.8', '120'),
           ('rotation', '64.5', '72.6', '90'), ('direction', '–', '71.6', '80')]
beside_chart(made_up); plt.show()

# %%
assert beside_pairs(made_up) == {'accuracy %': [('depth', [71.0, 66.2, 75.1], 88.8),
                                                ('rotation', [64.5], 72.6)]}
assert beside_chart([('a', 'b'), ('1', '2')]) is None and numbers_in('+1.5 (-0.3 to +3.2)') == [1.5, -.3,
    3.2] and numbers_in('–') == []


# %% [markdown]
# ## The list of exhibits
#
# Each line: paper, item, what it shows, how our scale differs, and the function. `belongs` decides which
# stored result goes with which exhibit, by the sentence in which an experiment names its source. Nothing
# has to be registered twice.

# %%
#| export
@dataclass(frozen=True)
class Exhibit:
    """One figure or table of a paper, and what is different at our scale."""
    name: str
    paper: str
    item: str
    shows: str
    scale: str
    draw: Callable[[list[dict]], Figure]


# %%
#| export
_4D, _TRACK, _MLLM, _VLM = '4DP-QA', 'LMM-Track4D', 'MLLM-4D', 'VLM4D'
_SMALL = 'ours: a Qwen2.5-VL of a few million weights, simulated clips of 8 frames, minutes on two cores'
_RECORDED = 'none: recomputed from the recorded outputs of the published models'
EXHIBITS = (
    Exhibit('4dpqa_table1', _4D, 'Table 1', 'the sources',
            'ours: readers for all five, tested on small samples; training clips are simulated', table_1),
    Exhibit('4dpqa_table2', _4D, 'Table 2', 'accuracy on 4DP-QA-Bench by category',
            f'paper: 3B to 8B weights, 400K questions, 32 A100; {_SMALL}', table_2),
    Exhibit('4dpqa_table3', _4D, 'Table 3', 'transfer to VLM4D',
            'ours: a held-out simulated domain stands in for VLM4D', table_3),
    Exhibit('4dpqa_table4', _4D, 'Table 4', 'what tracking questions add',
            f'paper: 400K questions per mixture; {_SMALL}', table_4),
    Exhibit('track4d_bench', _TRACK, 'Track4D-Bench', 'size of the benchmark',
            'ours: 526 simulated dialogues in the same proportion', track4d_bench),
    Exhibit('track4d_history', _TRACK, 'history', 'what the history is worth on late turns',
            f'the metric of the paper is unknown; {_SMALL}', track4d_history),
    Exhibit('mllm4d_table1', _MLLM, 'Table 1', 'MLLM4D-Bench, six subtasks',
            f'paper: 8B weights, 2M questions; {_SMALL}', mllm4d_table_1),
    Exhibit('mllm4d_table2', _MLLM, 'Table 2', 'VLM4D',
            'ours: not evaluated on VLM4D, whose videos are not public with it', mllm4d_table_2),
    Exhibit('mllm4d_ladder', _MLLM, 'ablation', 'from the base to GRPO with ST-reward',
            f'paper: 8 H100 for days; {_SMALL}', mllm4d_ladder),
    Exhibit('mllm4d_figure5', _MLLM, 'Figure 5', 'accuracy against data size',
            f'paper: 10K to 2M questions; {_SMALL}', mllm4d_figure_5),
    Exhibit('vlm4d_table1', _VLM, 'Table 1', '23 models under chain of thought', _RECORDED, vlm4d_table_1),
    Exhibit('vlm4d_figure6', _VLM, 'Figure 6', 'direct output against chain of thought', _RECORDED,
            vlm4d_figure_6))


# %%
#| export
def belongs(exhibit: Exhibit, stored: dict) -> bool:
    """True if a stored result names this paper and item as its source ("4DP-QA, Table 2, …")."""
    source = str(stored.get('source', '')).casefold()
    item = re.escape(exhibit.item.casefold())
    return exhibit.paper.casefold() in source and re.search(rf'\b{item}(?!\w)', source) is not None


# %%
for exhibit in EXHIBITS:
    figure = exhibit.draw([])
    assert figure.axes and exhibit.scale and exhibit.draw.__doc__
    plt.close(figure)
by_paper = {paper: [e.item for e in EXHIBITS if e.paper == paper]
            for paper in dict.fromkeys(e.paper for e in EXHIBITS)}
by_paper

# %%
table2 = EXHIBITS[1]
assert belongs(table2, {'source': '4DP-QA, Table 2, line "Random"'}) and not belongs(table2,
    {'source': '4DP-QA, Table 21'})
assert not belongs(table2, {'source': 'MLLM-4D, Table 2'}) and not belongs(table2, {})
assert len({e.name for e in EXHIBITS}) == len(EXHIBITS)

# %% [markdown]
# ## What we proved
#
# * Each table and figure whose numbers are known is drawn by one function from data that adds up.
# * The best mixture is another one at home than away, in the paper's own numbers.
# * The last two steps of MLLM-4D's ladder lie inside the sampling error of its benchmark.
#
# ## Try it
#
# 1. Sort Table 2 by the gain over the own baseline instead of by the paper's order.
# 2. Draw VLM4D's false-positive column against the directional one. Which models say "no" too easily?
# 3. Add an exhibit for the table of a fourth paper. Which two files change?
#
# <details><summary>Solutions</summary>
#
# 1. Sort by `ours - baseline`; print both orders. A paper's order is part of its argument.
# 2. A scatter of the two columns: models far above the diagonal reject what is not there by saying 'no' to
#    everything. The prior of always 'no' belongs into the picture.
# 3. The JSON of published numbers and the list of exhibits.
#
# </details>
