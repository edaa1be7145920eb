# %% [markdown]
# # The results page
# > Every stored result on one HTML page, with the published table beside it and the run card under it; made from `results/*.json` alone.

# %%
#| default_exp results_page

# %% [markdown]
# #| export
# A result file is a JSON object. Written by an experiment it holds `experiment`, `source`, `scale`, `result` and `card`; a benchmark
# holds its numbers beside `card`, or is a run card whose numbers lie in `extra`. The page needs nothing but these files.

# %% [markdown]
# * **What** `read_results(folder)`, `results_page(folder)`: all results, checked and shown; the same files give the same bytes
# * **Why** a number in a README is believed when one click leads to its interval, its command and the machine it ran on
# * **Paper** none; **[ours]**
# * **Needs** the JSON files in `results/`
# * **Time** 20 seconds
# * **Before this** `27a_report` (the page), `27d_paper_figures` (the exhibits), `26z_reproduce` (how results are rendered)

# %% [markdown]
# ## What a result must carry
#
# A stored number without its circumstances is a rumour. Seven fields are asked of every file: the command that prints it, the preset,
# the seed, a hash of the data, the version of the code, the libraries and the machine. `card_of` finds them in either of the two
# layouts, and `missing_fields` says what is not there. A test runs it over the whole folder, so a result without a card cannot be added.

# %%
#| export
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt

from track4d_ref.paper_figures import EXHIBITS, Exhibit, beside_chart, belongs
from track4d_ref.report import Page, page_html
from track4d_ref.scoring import render_html
from track4d_ref.storage import InputError, atomic_path, project_path, read_json
from track4d_ref.viz import figure_html, figure_png, use_style

CARD_FIELDS = ('command', 'preset', 'seed', 'data_hash', 'code', 'libraries', 'machine')
EMPTY_HASH = hashlib.sha256().hexdigest()[:16]     # of no files: everything was simulated from the seed

def card_of(stored: dict) -> dict:
    """The run card of a stored result: its field `card`, or the file itself."""
    card = stored.get('card', stored)
    return card if isinstance(card, dict) else {}

def missing_fields(stored: dict) -> list[str]:
    """Fields of the run card that a stored result lacks or leaves empty; a seed of 0 is not empty."""
    card = card_of(stored)
    return [field for field in CARD_FIELDS if card.get(field) in (None, '', {}, [])]


# %%
#| export
@dataclass(frozen=True)
class StoredResult:
    """One file of `results/`."""
    name: str
    stored: dict

    @property
    def card(self) -> dict: return card_of(self.stored)

def read_results(folder: Path | str | None = None) -> list[StoredResult]:
    """All results of a folder (None: the shipped ones), by name; InputError names a file that is none."""
    root = Path(folder) if folder is not None else project_path('results')
    if not root.is_dir(): raise InputError(f'{root}: no such folder; name one that holds results as JSON files')
    found = []
    for path in sorted(root.glob('*.json')):
        stored = read_json(path)
        missing = missing_fields(stored) if isinstance(stored, dict) else list(CARD_FIELDS)
        if missing: raise InputError(f'{path}: its run card lacks {", ".join(missing)}; run the command again')
        found.append(StoredResult(path.stem, stored))
    return found


# %%
import tempfile

import numpy as np

from track4d_ref.experiments import Experiment, write_result
from track4d_ref.presets import load_preset
from track4d_ref.runcard import run_card
from track4d_ref.storage import write_json

use_style()
shipped = read_results()
for result in shipped: print(f'{result.name:50}', result.card['command'][:60])

# %%
counts = {field: len(json.dumps(result.card[field])) for result in shipped[:1] for field in CARD_FIELDS}
figure, axis = plt.subplots(figsize=(6.4, 1.7))
axis.barh(list(counts), list(counts.values())); axis.invert_yaxis()
axis.set(xlabel='characters', title=f'The card of {shipped[0].name}'); plt.show()

# %%
assert shipped and all(missing_fields(result.stored) == [] for result in shipped)
assert missing_fields({}) == list(CARD_FIELDS) and 'seed' not in missing_fields({'card': {'seed': 0}})
folder = Path(tempfile.mkdtemp())
write_json(folder / 'rumour.json', {'accuracy': 97.3})
try: read_results(folder)
except InputError as error: print(str(error).replace(str(folder), 'results'))
else: raise AssertionError('a result without a card must be refused')


# %% [markdown]
# ## Numbers of a file that nobody described
#
# Results of experiments render themselves. Benchmarks and the tour only hold nested numbers, and whoever adds one should not have to
# write a page for it. So the numbers are laid out by their place: a list of objects becomes a table with a column per field, words first,
# and everything else becomes lines "where · what". Nothing is dropped, long lists excepted; those are curves, and they belong into a chart.

# %%
#| export
def shown(value) -> str:
    """A number, text or flag as a short string; four significant digits."""
    if isinstance(value, bool) or value is None: return {True: 'yes', False: 'no', None: '–'}[value]
    if isinstance(value, float): return f'{value:,.4g}' if abs(value) < 10_000 else f'{value:,.0f}'
    return f'{value:,}' if isinstance(value, int) else str(value)

def leaves(value, place: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """('where · what', value) for every number of a nested object; short lists of numbers in one line."""
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in leaves(part, (*place, str(key)))]
    name = ' · '.join(place).replace('_', ' ')
    if isinstance(value, list):
        if any(isinstance(part, (dict, list)) for part in value):
            return [leaf for number, part in enumerate(value) for leaf in leaves(part, (*place, str(number + 1)))]
        return [(name, ' – '.join(map(shown, value)) if len(value) <= 4 else f'{len(value)} values')]
    return [(name, shown(value))]


# %%
#| export
def row_tables(value, place: tuple[str, ...] = ()) -> tuple[dict[str, list[tuple[str, ...]]], object]:
    """Lists of objects as tables by their place, and what is left of the value without them."""
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        if any(isinstance(field, (dict, list)) for part in value for field in part.values()): return {}, value
        fields = sorted(dict.fromkeys(field for part in value for field in part), key=lambda field: not isinstance(value[0].get(field), str))
        rows = [tuple(shown(part.get(field)) for field in fields) for part in value]
        return {' · '.join(place).replace('_', ' '): [tuple(f.replace('_', ' ') for f in fields), *rows]}, None
    if not isinstance(value, dict): return {}, value
    tables, rest = {}, {}
    for key, part in value.items():
        found, left = row_tables(part, (*place, str(key)))
        tables |= found
        if left not in (None, {}) or part is None: rest[key] = left
    return tables, rest


# %%
nested = {'times_faster': 5.2301, 'separate': {'peak_mib': 1106.6, 'words': 384}, 'interval': [92.4, 99.1],
          'curve': list(range(50)),
          'rows': [{'name': 'ours', 'clips_per_s': 5.68}, {'name': 'other', 'clips_per_s': 1.7, 'cores': 2}]}
tables, rest = row_tables(nested)
print(tables); print(leaves(rest))

# %%
assert tables == {'rows': [('name', 'clips per s', 'cores'), ('ours', '5.68', '–'), ('other', '1.7', '2')]}
assert leaves(rest) == [('times faster', '5.23'), ('separate · peak mib', '1,107'),
                        ('separate · words', '384'),
                        ('interval', '92.4 – 99.1'), ('curve', '50 values')]
assert [shown(value) for value in (True, None, 1234567.8, 0.00012345)] == ['yes', '–', '1,234,568',
                                                                           '0.0001234']

# %% [markdown]
# ## A table for the eye
#
# Renderers hand over cells. Some put a second table with a heading of its own below the first, some have more rows than a screen.
# `table_html` separates the tables (a heading is a row in which three cells or more, and all that say anything, begin with a letter),
# keeps an interval in one piece where a column is narrow, and folds what has more than thirty rows under a line that says how many.

# %%
#| export
Cells = list[tuple[str, ...]]

def sub_tables(cells: Cells) -> list[Cells]:
    """Cells cut where another heading begins, each part without the columns that it leaves empty."""
    starts = [n for n, row in enumerate(cells) if not n or len(''.join(cell[:1] for cell in row)) > 2
              and ''.join(cell[:1] for cell in row).isalpha()]
    parts = [cells[start:stop] for start, stop in zip(starts, [*starts[1:], None])]
    kept = [[n for n in range(len(cells[0])) if any(row[n:n + 1] not in ((), ('',)) for row in part)] for part in parts]
    return [[tuple(row[n] for n in columns if n < len(row)) for row in part] for part, columns in zip(parts, kept)]

def table_html(cells: Cells, most: int = 30) -> str:
    """Cells as tables with whole intervals; those of more than `most` rows are folded away."""
    tables = []
    for part in sub_tables(cells):
        whole = re.sub(r'(\([^()<]*\))</td>', r'<span>\1</span></td>', render_html(part))
        line = f'<details><summary class="small">{len(part) - 1} rows</summary>' if len(part) > most + 1 else ''
        tables.append(f'{line}<div class="wide">{whole}</div>{"</details>" if line else ""}')
    return ''.join(tables)


# %%
two = [('model', 'Traj-Acc %', 'ADE m', 'read %'), ('ours', '43.5 (36–51)', '1.48 (1.27–1.71)', '100.0'),
       ('late turns', 'difference %', 'ADE m', ''), ('gold - no', '+37.2 (+30.2 to +44.7)', '-1.09 (-1.26 to -0.94)', '')]
for part in sub_tables(two): print(part)

# %%
assert [len(part) for part in sub_tables(two)] == [2, 2] and [len(part[0]) for part in sub_tables(two)] == [4, 3]
assert table_html(two).count('<table') == 2 and '<span>(1.27–1.71)</span>' in table_html(two)
assert '<details>' not in table_html(two) and '31 rows' in table_html([('n', 'square'), *((str(n), str(n * n)) for n in range(31))])

# %% [markdown]
# ## A result as a block
#
# `result_block` puts one result on the page. An experiment that is known under its name renders its own cells, and if those hold pairs of
# "ours" and "paper" they are drawn too. If the rendering fails (a result older than its renderer), the plain layout takes its place and
# says so, because one stale file must not take the page down. The run card folds away under a line that says when to look at it.

# %%
#| export
Renderers = dict[str, Callable[[dict], Cells]]        # experiment name -> result to cells

def card_line(card: dict) -> str:
    """The run card in one line of text."""
    preset, machine = card['preset'].get('name', '–'), card['machine']
    took = '' if not card.get('wall_s') else f' · {card["wall_s"] / 60:.1f} min'
    where = machine.get('gpu') or f'{machine.get("cores", "?")} CPU cores'
    data = 'simulated from the seed' if card['data_hash'] == EMPTY_HASH else f'data {card["data_hash"][:8]}'
    return f'preset {preset} · seed {card["seed"]} · {data} · code {card["code"].get("hash", "–")[:8]} · {where}{took}'

def card_html(card: dict) -> str:
    """The command and the run card, folded away."""
    body = escape(json.dumps(card, indent=1, ensure_ascii=False, sort_keys=True))
    return (f'<p class="small"><code>{escape(card["command"])}</code></p><details><summary class="small">'
            f'{escape(card_line(card))}</summary><pre>{body}</pre></details>')

def plain_html(stored: dict) -> str:
    """Any result as tables of its numbers, the card left out."""
    numbers = {k: v for k, v in stored.items() if k != 'card'} if 'card' in stored else stored.get('extra', {})
    tables, rest = row_tables(numbers.get('result', numbers))
    parts = [table_html([('number', 'value'), *lines])] if (lines := leaves(rest or {})) else []
    return ''.join([*parts, *(f'<h4>{escape(name)}</h4>{table_html(cells)}' for name, cells in tables.items())])


# %%
#| export
def result_block(result: StoredResult, renderers: Renderers) -> str:
    """One stored result as HTML: its table, ours beside the paper's if in pairs, scale, command, card."""
    stored, name = result.stored, result.stored.get('experiment', result.name)
    parts = [f'<h3 id="{escape(result.name)}">{escape(name.replace("_", " "))}</h3>']
    if stored.get('source'): parts.append(f'<p class="small">{escape(str(stored["source"]))}</p>')
    try:
        cells = [tuple(map(str, row)) for row in renderers[name](stored['result'])]
        parts.append(table_html(cells))
        if figure := beside_chart(cells): parts.append(figure_html(figure, f'{name}: ours beside the published numbers', 125))
        plt.close('all')
    except Exception as error:
        why = f'<p class="small wrong">its table could not be rendered: {escape(repr(error))}</p>'
        parts.append((why if name in renderers else '') + plain_html(stored))
    if stored.get('scale'): parts.append(f'<p class="small"><b>Scale.</b> {escape(str(stored["scale"]))}</p>')
    return ''.join([*parts, card_html(result.card)])


# %%
def run_table(preset, folder, seed):
    return {'depth': [71.0, 66.2, 75.1, 88.8], 'rotation': [64.5, 55.0, 73.3, 72.6]}
def table_cells(result):
    return [('type', 'accuracy % (ours)', 'accuracy % (paper)'),
            *((kind, f'{a:.1f} ({b:.1f}–{c:.1f})', f'{d:.1f}') for kind, (a, b, c, d) in result.items())]

made_up = Experiment('table_made_up', '4DP-QA, Table 2', 'nothing was measured here', run_table, table_cells)
(folder / 'rumour.json').unlink()
write_result(folder, made_up, load_preset('tiny'), 3, run_table(None, None, 3), started=None)
write_json(folder / 'benchmark.json',
           nested | {'card': run_card('python benchmarks/none.py', load_preset('tiny'), 0)})
benchmark, table = read_results(folder)
beside_chart(table_cells(table.stored['result'])); plt.show()

# %%
html = result_block(table, {'table_made_up': table_cells})
assert '88.8' in html and 'nothing was measured' in html and 'simulated from the seed' in html
assert html.count('<img') == 1
broken = result_block(table, {'table_made_up': lambda result: 1 / 0})
assert 'could not be rendered' in broken and '71' in broken and 'times faster' in result_block(benchmark, {})

# %% [markdown]
# ## The page
#
# First what was measured, in one table with links; then one section per paper, in the order of its figures and tables. Each exhibit shows
# the published numbers as a picture, names the difference in scale, and carries our results if there are any. If there are none, it says
# so. What belongs to no paper (speed, memory, the tour) comes last.

# %%
#| export
PAPERS = {'4DP-QA': 'Scalable QA for 4D perception', 'LMM-Track4D': 'trajectory-grounded dialogue',
          'MLLM-4D': 'stereo curation, then GRPO with a spatio-temporal reward',
          'VLM4D': 'the benchmark all three are judged on'}
EXTRA_STYLE = """<style>body{max-width:68rem} h3{margin:1.5rem 0 .2rem} h4{margin:.8rem 0 .1rem;font-weight:600;color:#52606d}
code{background:#f5f7fa;padding:.1rem .35rem;border-radius:4px;font-size:.85em} .open{color:#829ab1} td span{white-space:nowrap}
.exhibit{border:1px solid #d9e2ec;border-radius:8px;padding:.2rem 1.1rem .7rem;margin:1.1rem 0} summary{cursor:pointer}
.ours{border-left:3px solid #0072B2;padding-left:1rem;margin-top:.8rem} .accuracy{font-size:.9rem} td:first-child{min-width:9rem}
.overview td,.overview th{text-align:left;vertical-align:top;padding-left:0} .chips{margin:.35rem 0}
.chips b{display:inline-block;width:8.5rem} .chips a.have{background:#e6f2f9;border-color:#0072B2} .chips a{display:inline-block;
border:1px solid #d9e2ec;border-radius:99px;padding:.1rem .7rem;margin:.15rem .3rem .15rem 0;font-size:.85rem}
nav{position:sticky;top:0;background:#fffe;padding:.5rem 0;z-index:1}</style>"""


# %%
#| export
def exhibit_html(exhibit: Exhibit, results: list[StoredResult], renderers: Renderers) -> str:
    """One exhibit: published numbers, difference in scale, our results or the word that there are none."""
    own = [result for result in results if belongs(exhibit, result.stored)]
    picture = figure_html(exhibit.draw([result.stored for result in own]), f'{exhibit.paper}, {exhibit.item}: {exhibit.shows}', 125)
    ours = ''.join(f'<div class="ours">{result_block(result, renderers)}</div>' for result in own)
    nothing = '<p class="small open">No result of ours is stored for it.</p>'
    if exhibit.paper == 'VLM4D': nothing = '<p class="small"><code>track4d score vlm4d</code> recomputes it.</p>'
    return (f'<div class="exhibit" id="{escape(exhibit.name)}">'
            f'<h3>{escape(exhibit.item[0].upper() + exhibit.item[1:])}: {escape(exhibit.shows)}</h3>{picture}'
            f'<p class="small">Drawn from the published numbers. <b>Difference in scale:</b> {escape(exhibit.scale)}.</p>{ours or nothing}</div>')


# %%
#| export
def chips(paper: str, results: list[StoredResult]) -> str:
    """Links to a paper's exhibits; those with a result of ours are filled."""
    measured = {e.name for e in EXHIBITS if e.paper == 'VLM4D' or any(belongs(e, r.stored) for r in results)}
    links = [f'<a class="{"have" if e.name in measured else ""}" href="#{e.name}">{escape(e.item)}</a>'
             for e in EXHIBITS if e.paper == paper]
    return f'<p class="chips"><b>{escape(paper)}</b> {"".join(links)}</p>'

def overview(results: list[StoredResult]) -> str:
    """What the papers show (filled: with numbers of ours), and a table of all results with links."""
    lines = [f'<tr><td><a href="#{escape(r.name)}">{escape(r.name.replace("_", " "))}</a></td>'
             f'<td>{escape(str(r.stored.get("source", "no table of a paper: " + r.card["command"].split(" --")[0])))}</td>'
             f'<td class="small">{escape(card_line(r.card))}</td></tr>'
             for r in sorted(results, key=lambda r: 'source' not in r.stored)]
    table = '<table class="overview"><thead><tr><th>result</th><th>belongs to</th><th>made with</th></tr></thead>'
    table += f'<tbody>{"".join(lines)}</tbody></table>'
    note = '<p class="small">Filled: with numbers of this project. Open: published numbers only.</p>'
    return f'{"".join(chips(paper, results) for paper in PAPERS)}{note}<div class="wide">{table}</div>'

def results_hash(folder: Path | str | None = None) -> str:
    """A short hash over names and contents of the result files, to tell whether the page is fresh."""
    texts = [json.dumps([result.name, result.stored], sort_keys=True) for result in read_results(folder)]
    return hashlib.sha256(''.join(texts).encode()).hexdigest()[:16]


# %%
#| export
def results_page(folder: Path | str | None = None, renderers: Renderers | None = None) -> str:
    """The whole page as HTML, from the JSON files of a folder alone (None: the shipped results)."""
    results, renderers = read_results(folder), renderers or {}
    use_style()
    page = Page('Results',
                'The published numbers of three papers on 4D vision-language models, and what this project '
                'measured at its own scale. Every number of ours has its command and run card under it.')
    page.add(f'{EXTRA_STYLE}<meta name="results" content="{results_hash(folder)}">')
    page.heading('Overview'); page.add(overview(results))
    for paper, words in PAPERS.items():
        page.heading(paper); page.prose(words[0].upper() + words[1:] + '.')
        for exhibit in EXHIBITS:
            if exhibit.paper == paper: page.add(exhibit_html(exhibit, results, renderers))
    rest = [result for result in results if not any(belongs(exhibit, result.stored) for exhibit in EXHIBITS)]
    page.heading('Speed, memory and the rest')
    for result in rest: page.add(f'<div class="exhibit">{result_block(result, renderers)}</div>')
    return page_html(page)


# %%
html = results_page(folder, {'table_made_up': table_cells})
print(len(html) // 1024, 'KB,', html.count('<img'), 'pictures,', html.count('<details>'), 'run cards')

# %%
assert html == results_page(folder,
    {'table_made_up': table_cells})                    # the same files, the same bytes
assert html.count('<details>') == 2 and all(exhibit.name in html
                                            for exhibit in EXHIBITS) and 'http' not in html
start, end = html.index('id="4dpqa_table2"'), html.index('id="4dpqa_table3"')
assert start < html.index('88.8') < end             # ours stands in its exhibit
assert results_hash(folder) in html and 'No result of ours' in html


# %% [markdown]
# The exhibits are also wanted one by one, as pictures for a talk. `write_exhibits` writes a PNG for each, one more for each of our results
# that has the paper's numbers beside it, and the page.

# %%
#| export
def write_exhibits(out: Path | str, only: str = 'all', folder: Path | str | None = None,
                   renderers: Renderers | None = None) -> list[Path]:
    """Write exhibits as PNG files and index.html; `only` one exhibit, 'page' or 'all'."""
    out, results, files, pictures = Path(out), read_results(folder), [], {}
    use_style()
    for exhibit in EXHIBITS:
        if only not in ('all', exhibit.name): continue
        own = [result for result in results if belongs(exhibit, result.stored)]
        pictures[exhibit.name] = exhibit.draw([result.stored for result in own])
        for result in own:
            render = (renderers or {}).get(result.stored.get('experiment'))
            figure = beside_chart(render(result.stored['result'])) if render else None
            if figure: pictures[f'{exhibit.name}_{result.name}'] = figure
    for name, figure in pictures.items():
        files.append(out / f'{name}.png')
        with atomic_path(files[-1]) as partial: partial.write_bytes(figure_png(figure, 150))
        plt.close(figure)
    if only in ('all', 'page'):
        files.append(out / 'index.html')
        with atomic_path(files[-1]) as partial: partial.write_text(results_page(folder, renderers), encoding='utf-8')
    return files


# %%
written = write_exhibits(folder / 'pictures', 'all', folder, {'table_made_up': table_cells})
print(len(written), 'files:', ', '.join(path.name for path in written[:4]), '…')
assert {path.stem for path in written} >= {'index', '4dpqa_table2', '4dpqa_table2_table_made_up_tiny',
                                           'vlm4d_figure6'}
assert [path.name for path in write_exhibits(folder / 'one', 'page', folder)] == ['index.html']

# %% [markdown]
# How much of the papers do we have numbers for? The picture counts exhibits with and without a stored result. VLM4D needs none: its
# tables are recomputed from recorded outputs by a command.

# %%
have = {paper: [any(belongs(e, r.stored) for r in shipped) for e in EXHIBITS if e.paper == paper]
        for paper in list(PAPERS)[:3]}
figure, axis = plt.subplots(figsize=(6.4, 1.5))
measured = np.array([sum(flags) for flags in have.values()])
total = np.array([len(flags) for flags in have.values()])
axis.barh(list(have), total, color='#d9e2ec', label='published')
axis.barh(list(have), measured, label='with a result of ours')
axis.set(xlabel='figures and tables', title='What has been measured so far', xticks=range(max(total) + 1))
axis.invert_yaxis()
axis.legend(loc='center left', bbox_to_anchor=(1, .5)); plt.show()
assert (measured <= total).all() and total.sum() == sum(e.paper != 'VLM4D' for e in EXHIBITS)

# %% [markdown]
# ## What we proved
#
# * Every shipped result carries a complete run card, and a file without one is refused in one sentence.
# * The page is a function of the files: the same results give the same bytes, and a new result finds its place by the source it names.
# * A result that cannot be rendered is shown plainly instead of breaking the page.
#
# ## Try it
#
# 1. Add a result of your own with `write_result` and `source='4DP-QA, Table 3'`. Where does it appear?
# 2. Change the seed in a copy of a result file. What on the page tells you that it is not the shipped one?
#
# <details><summary>Solutions</summary>
#
# 1. Under the exhibit whose source it names; the page finds it by `source`.
# 2. The run card beside it shows another seed, and the page's hash of all results is no longer the shipped one.
#
# </details>
