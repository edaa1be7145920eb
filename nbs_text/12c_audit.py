# %% [markdown]
# # Audit
# > One HTML page on which a person sees clip, drawn reference, bird's-eye truth and question, and marks each right or wrong.

# %%
#| default_exp audit

# %% [markdown]
# * **What** a self-contained page of cards with buttons, marks that are saved as JSON, and the error rate they give
# * **Why** the paper's benchmark went through several rounds of human validation; nothing replaces looking
# * **Paper** 4DP-QA §3.4; the page is **[ours]**
# * **Needs** matplotlib, `records`, `viz`
# * **Time** 30 seconds
# * **Before this** `12_records`, `04_viz`

# %%
#| export
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from track4d_ref.clips import Clip
from track4d_ref.records import Record, open_clip, record_video
from track4d_ref.storage import InputError, atomic_path, read_json
from track4d_ref.viz import birds_eye, figure_html

# %%
import tempfile

from track4d_ref.clips import save_clip
from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.records import record_from_question, write_records
from track4d_ref.simulator import simulate_clips


# %% [markdown]
# ## One card
#
# On the left what the model sees: up to five frames, among them every frame that the question names, with circles drawn and
# pixel references marked by a cross (the model gets no cross). On the right what is true: the scene from above, the asked
# objects by name. A tracking answer is drawn as numbered dots into the picture it belongs to.

# %%
#| export
def named_frames(record: Record, most: int = 5) -> list[int]:
    "Video frames worth showing: those the record names, filled up evenly."
    frames = [reference['frame'] for reference in record.references]
    if record.category == 'tracking': frames += [record.targets['reference'], *record.targets['frames']]
    even = np.linspace(0, len(record.segment) - 1, most).round().astype(int).tolist()
    return sorted(list(dict.fromkeys([*frames, even[0], even[-1], *even]))[:most])

def draw_card(record: Record, clip: Clip) -> Figure:
    "Frames with references and the scene from above, as one figure."
    video, shown = record_video(record, clip), named_frames(record)
    height, width = video.shape[1:3]
    figure, axes = plt.subplots(1, len(shown) + 1, figsize=(2 * len(shown) + 2.6, 2.4), width_ratios=[1] * len(shown) + [1.3])
    for axis, frame in zip(axes, shown):
        axis.imshow(video[frame]); axis.axis('off'); axis.set_title(f'frame {frame}', fontsize=8)
        for reference in record.references:
            if reference['mode'] == 'pixel' and reference['frame'] == frame:
                axis.plot(reference['uv'][0] * width - 0.5, reference['uv'][1] * height - 0.5, 'w+', markersize=10)
        if record.category == 'tracking': _draw_track(axis, record, frame, width, height)
    _draw_above(axes[-1], record, clip)
    figure.tight_layout()
    return figure


# %%
#| export
def _draw_track(axis, record: Record, frame: int, width: int, height: int) -> None:
    targets = record.targets
    if frame == targets['reference']: axis.plot(targets['query'][0] * width, targets['query'][1] * height, 'w+', markersize=12)
    for target, (x, y), seen in zip(targets['frames'], targets['xy'], targets['visible']):
        home = targets['reference'] if record.type == 'true_motion_tracking' else target
        if frame != home: continue
        axis.plot(x * width, y * height, 'o', color='#009E73' if seen else '#D55E00', markersize=4)
        axis.text(x * width, y * height, f' {target}', fontsize=6, color='white')

def _draw_above(axis, record: Record, clip: Clip) -> None:
    part = clip.segment(record.segment[0], record.segment[-1] + 1)
    ids = {reference['object'] for reference in record.references}
    frames = {reference['frame'] for reference in record.references}
    now = record.segment[frames.pop()] - record.segment[0] if record.category == 'spatial' and len(frames) == 1 else 0
    birds_eye(axis, part, frame=now, ids=sorted(ids) if ids else None)
    axis.tick_params(labelsize=6); axis.set_title('from above', fontsize=8)


# %%
folder, style = Path(tempfile.mkdtemp()), Style(modes=('caption', 'pixel', 'circle'))
clips, records = list(simulate_clips(4, 23, load_preset('tiny'))), []
for number, clip in enumerate(clips):
    save_clip(clip, folder / clip.id)
    records += [record_from_question(question, clip.id, clip.id) for question in ask_all(clip, np.random.default_rng(number), style=style)]
write_records(folder / 'questions.jsonl', records)
by_type = {record.type: record for record in records}
for name in ('object_direction', 'depth', 'true_motion_tracking'):
    record = by_type[name]
    figure = draw_card(record, next(clip for clip in clips if clip.id == record.clip))
    figure.suptitle(f'{record.question}\n→ {record.answer}'[:420], fontsize=7, x=0.02, ha='left', y=1.34); figure.set_dpi(65); plt.show()

# %%
for record in records:
    shown = named_frames(record)
    assert len(shown) <= 5 and shown == sorted(set(shown)) and {reference['frame'] for reference in record.references} <= set(shown)

# %% [markdown]
# ## The page
#
# Cards, three buttons each, a line that counts, and a button that saves the marks as `marks.json` through the browser. All
# pictures are inside the file, so it can be sent to whoever should judge. The only script is thirty lines of plain
# JavaScript; texts are escaped, since captions come from data.

# %%
#| export
PAGE_STYLE = ('body{font:14px sans-serif;margin:1.5em;max-width:1100px}article{border:1px solid #ccc;padding:.7em;margin:.8em 0}'
              'pre{white-space:pre-wrap;margin:.3em 0}img{max-width:100%}button.on{background:#0072B2;color:#fff}#state{position:sticky;top:0;background:#fff;padding:.4em}')
PAGE_SCRIPT = """
const marks = {};
function count() {
  const values = Object.values(marks), wrong = values.filter(v => v === 'wrong').length;
  document.getElementById('state').firstChild.textContent =
    values.length + ' of ' + document.querySelectorAll('article').length + ' marked, ' + wrong + ' wrong ';
}
document.querySelectorAll('article button').forEach(button => button.onclick = () => {
  const card = button.closest('article');
  card.querySelectorAll('button').forEach(other => other.classList.remove('on'));
  button.classList.add('on');
  marks[card.dataset.id] = button.textContent;
  count();
});
document.getElementById('save').onclick = () => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([JSON.stringify(marks, null, 1)], {type: 'application/json'}));
  link.download = 'marks.json';
  link.click();
};
count();
"""
VERDICTS = ('right', 'wrong', 'unclear')


# %%
#| export
def audit_card(record: Record, clip: Clip) -> str:
    "One record as an HTML article with its picture and buttons."
    figure = draw_card(record, clip)
    picture = figure_html(figure, f'frames and bird’s-eye view of {record.id}', dpi=70)
    plt.close(figure)
    buttons = ' '.join(f'<button>{verdict}</button>' for verdict in VERDICTS)
    return (f'<article data-id="{escape(record.id, quote=True)}"><b>{escape(record.type)}</b> · {escape(record.clip)}{picture}'
            f'<pre>{escape(record.question)}</pre><p>→ <b>{escape(record.answer)}</b></p>{buttons}</article>')

def write_audit_page(path: Path | str, records: Sequence[Record], record_file: Path | str, title: str = 'Audit') -> Path:
    "A self-contained page of the given records; clips are found relative to their record file."
    path, cards, clip = Path(path), [], None
    for record in sorted(records, key=lambda record: record.clip):
        if clip is None or clip[0] != record.clip: clip = record.clip, open_clip(record, record_file)
        cards.append(audit_card(record, clip[1]))
    page = (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{PAGE_STYLE}</style><h1>{escape(title)}</h1>'
            f'<p id="state"> <button id="save">save marks.json</button></p>{"".join(cards)}<script>{PAGE_SCRIPT}</script></html>')
    with atomic_path(path) as partial: partial.write_text(page, encoding='utf-8')
    return path


# %%
chosen = list(by_type.values())
page = write_audit_page(folder / 'audit.html', chosen, folder / 'questions.jsonl', 'Audit of a few simulated questions')
text = page.read_text()
print(f'{len(chosen)} cards, {page.stat().st_size / 1e6:.1f} MB')

# %%
import dataclasses
assert text.count('<article') == len(chosen) and text.count('data:image/png') == len(chosen) and 'http' not in text.replace('http://www.w3.org', '')
hostile = dataclasses.replace(chosen[0], id='"><script>', messages=({'role': 'user', 'content': '<video>\n<script>alert(1)</script>'}, chosen[0].messages[1]))
assert '<script>' not in audit_card(hostile, next(clip for clip in clips if clip.id == hostile.clip))


# %% [markdown]
# ## The marks
#
# The saved file maps record ids to verdicts. `error_rate` joins it with the records and counts per type; what nobody marked
# is not counted as right.

# %%
#| export
def read_marks(path: Path | str) -> dict[str, str]:
    "Marks saved by the page; InputError for anything else."
    marks = read_json(path)
    if not isinstance(marks, dict) or not set(marks.values()) <= set(VERDICTS): raise InputError(f'{path}: not marks; every value must be one of {", ".join(VERDICTS)}')
    return marks

def error_rate(records: Iterable[Record], marks: dict[str, str]) -> dict[str, dict[str, int]]:
    "Per type and for 'all': how many were marked right, wrong and unclear."
    table = {'all': dict.fromkeys(VERDICTS, 0)}
    for record in records:
        if record.id not in marks: continue
        for name in ('all', record.type): table.setdefault(name, dict.fromkeys(VERDICTS, 0))[marks[record.id]] += 1
    return table


# %%
rng = np.random.default_rng(0)
made_up = {record.id: str(rng.choice(VERDICTS, p=(0.9, 0.05, 0.05))) for record in records}
(folder / 'marks.json').write_text(json.dumps(made_up))
table = error_rate(records, read_marks(folder / 'marks.json'))
figure, axis = plt.subplots(figsize=(6, 2.8), dpi=90)
left = np.zeros(len(table))
for verdict, color in zip(VERDICTS, ('#009E73', '#D55E00', '#BBBBBB')):
    values = np.array([row[verdict] for row in table.values()]); axis.barh(list(table), values, left=left, color=color, label=verdict); left += values
axis.invert_yaxis(); axis.tick_params(labelsize=7); axis.legend(fontsize=7); axis.set_title('made-up marks, to show the table', fontsize=9); plt.tight_layout(); plt.show()

# %%
assert sum(table['all'].values()) == len(records) and sum(sum(row.values()) for name, row in table.items() if name != 'all') == len(records)
(folder / 'bad.json').write_text('{"x": "maybe"}')
try: read_marks(folder / 'bad.json')
except InputError as error: assert 'bad.json' in str(error)
else: raise AssertionError('unknown verdicts must be refused')

# %% [markdown]
# ## What we proved
#
# * A card shows every frame its question names; the page needs no network; hostile texts stay text.
#
# ## Try it
#
# 1. Mark the page of `data_samples` yourself. Which type has your first "unclear", and which threshold would remove it?
# 2. Let two people mark the same page and compute how often they agree.
#
# <details><summary>Solutions</summary>
#
# 1. There is no right answer: write down the question's measured value beside its threshold. Most unclear ones lie
#    just outside the dead zone, so widen that one and count what is lost.
# 2. Agreement is the share of equal marks; subtract what chance gives (Cohen's kappa), since most marks are 'right'.
#
# </details>
