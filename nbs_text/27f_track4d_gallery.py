# %% [markdown]
# # Gallery of LMM-Track4D
# > Four dialogues with the shipped checkpoint: what was asked and said, the paths in the picture and from above, and the gate of the state.

# %%
#| default_exp track4d_gallery

# %% [markdown]
# #| export
# A *talk* is one dialogue with what the model returned, turn by turn. Paths (J, 3) are metres in the dialogue's frame, the first
# view's camera at the clip's first frame. True paths are drawn as hollow circles, the model's as filled ones, in the colour of their turn.

# %% [markdown]
# * **What** one figure per dialogue: words, overlay, bird's-eye, gate; and the gate along a stream
# * **Why** a table says how often a model is right, a picture says in what way it is wrong
# * **Paper** LMM-Track4D shows dialogues with trajectories; its figures are not available to us. **These are [ours]**
# * **Needs** `data_samples/track4d_tiny`
# * **Time** 40 seconds
# * **Before this** `19b_track4d_asking`, `26f_track4d_table`

# %%
#| export
import textwrap
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch

from track4d_ref.cameras import invert_pose, project
from track4d_ref.clips import Clip
from track4d_ref.dialogue_packing import read_prefix, speak
from track4d_ref.dialogue_sets import history
from track4d_ref.dialogues import Dialogue, Turn, nearest_frames
from track4d_ref.track4d import SeenClip, Track4D, TurnOutput, TurnRow, decode_turn, see_clip
from track4d_ref.track4d_asking import open_ids
from track4d_ref.track4d_training import carry_on
from track4d_ref.viz import MUTED, PALETTE
from track4d_ref.vlm import layout_of

# %%
from track4d_ref.dialogue_sets import benchmark_entry, benchmark_plan, in_test
from track4d_ref.presets import load_preset
from track4d_ref.storage import project_path
from track4d_ref.track4d import stream_chunks
from track4d_ref.track4d_runs import load_small
from track4d_ref.viz import use_style

use_style()
torch.set_num_threads(1)

# %% [markdown]
# ## Talking
#
# Turn after turn with the model's own history: speak, and where `[TRK]` was said, move the state and decode.

# %%
#| export
@dataclass(frozen=True, eq=False)
class Said:
    "One turn as it went: the words, the path (J, 3) if one was asked for and returned, and the gate's mean (NaN without `[TRK]`)."
    turn: Turn
    words: str
    xyz_m: np.ndarray | None
    gate: float
    confidence: float

@torch.no_grad()
def talk(model: Track4D, clip: Clip, dialogue: Dialogue) -> list[Said]:
    "Ask one dialogue about one clip, with the model's own answers as history."
    seen = see_clip(clip, layout_of(model.vlm))
    tokens, state, last, told = model.see([seen]), model.start(1), None, []
    prefix = read_prefix(model, [seen], tokens)
    for number, turn in enumerate(dialogue.turns):
        past = history(dialogue, number, 'self', tuple(said.words for said in told))
        spoken = speak(model, prefix, [open_ids(model, (*past, {'role': 'user', 'content': turn.question}))], state)
        step, path = model.trk(spoken.hidden, state), None
        if spoken.asked[0] and turn.returns_path: path, last = _path(model, seen, tokens, spoken.hidden, step, turn, last)
        told.append(Said(turn, model.tokenizer.decode(spoken.words[0]) or '.', path, float(step.gate.mean()) if spoken.asked[0] else float('nan'),
                         float(step.confidence_logit.sigmoid())))
        state = torch.where(spoken.asked[:, None], step.state, state)
    return told

def _path(model: Track4D, seen: SeenClip, tokens: list, hidden: torch.Tensor, step, turn: Turn, last) -> tuple[np.ndarray, tuple]:
    "The decoded path (J, 3) of a turn, and what the next turn may go on from."
    nothing = torch.zeros(1, 1)
    path, _ = decode_turn(model, [TurnRow(seen, ())], tokens, TurnOutput(nothing, nothing, nothing[0] > -1, hidden, step), [turn], last)
    times_s = torch.as_tensor(turn.times_s[None], dtype=torch.float32)
    return path.xyz_m[0].numpy(), carry_on(last, torch.tensor([0]), path.xyz_m, times_s, 1)


# %%
preset, model = load_preset('tiny'), load_small(project_path('data_samples/track4d_tiny'))
wanted = [('kitti', False), ('kitti', True), ('apidis', False), ('wildtrack', False)]
chosen = []
for venue, long in wanted:
    for number, entry in enumerate(benchmark_plan()):
        if entry != (venue, long): continue
        clip, dialogue = benchmark_entry(number, preset)
        if in_test(dialogue.scene) and len(dialogue.path_turns) >= 3: chosen.append((clip, dialogue)); break
talks = [talk(model, clip, dialogue) for clip, dialogue in chosen]
for said in talks[0]: print(f'{said.turn.question:55s} {said.words:22s} (true: {said.turn.answer})')
assert len(talks) == 4 and any(said.xyz_m is not None for told in talks for said in told)

# %% [markdown]
# ## One figure per dialogue
#
# The overlay shows the frame in the middle of the first trajectory turn, with the paths of all turns; from above one sees what the picture
# hides, the error along the line of sight.

# %%
#| export
def _ink(said: Said, order: int) -> str: return PALETTE[order % len(PALETTE)]

def draw_words(axis, told: list[Said]) -> None:
    "The dialogue as text; a path's mean error stands behind its answer, a wrong answer is followed by the true one."
    axis.axis('off'); axis.set(xlim=(0, 1), ylim=(0, 1))
    lines, order = [], 0
    for said in told:
        if said.turn.returns_path:
            note = 'no path' if said.xyz_m is None else f'off by {np.linalg.norm(said.xyz_m - said.turn.xyz_m, axis=1).mean():.2f} m'
            ink, order = _ink(said, order), order + 1
        else: ink, note = '#222222', '' if said.words.strip() == said.turn.answer else f'true: {said.turn.answer}'
        lines += [(line, MUTED) for line in textwrap.wrap(said.turn.question, 44)] + [(f'   {said.words.strip()[:40]}  {note}', ink)]
    for row, (line, ink) in enumerate(lines): axis.text(0, 1 - (row + 0.5) / max(len(lines), 14), line, color=ink, fontsize=7, va='center')

def draw_overlay(axis, clip: Clip, told: list[Said], view_index: int = 0) -> None:
    "True and returned paths on one frame of a view."
    view, turns = clip.views[view_index], [said for said in told if said.turn.returns_path]
    frame = int(nearest_frames(clip, turns[0].turn.times_s[1:2])[0])
    w2c = view.w2c[frame] @ invert_pose(clip.view.w2c[0])
    axis.imshow(view.frames[frame]); axis.set(xticks=[], yticks=[], xlim=(0, view.width), ylim=(view.height, 0))
    for order, said in enumerate(turns):
        for path, face in ((said.turn.xyz_m, 'none'), (said.xyz_m, _ink(said, order))):
            if path is None: continue
            uv_px, depth_m = project(view.K, w2c, path)
            near = depth_m > 0.3
            axis.plot(*uv_px[near].T, '-', color=_ink(said, order), lw=0.8)
            axis.scatter(*uv_px[near].T, s=14, facecolors=face, edgecolors=_ink(said, order), zorder=3)

def draw_above(axis, told: list[Said]) -> None:
    "The same paths from above: x to the right, z away from the first camera."
    for order, said in enumerate(said for said in told if said.turn.returns_path):
        axis.plot(*said.turn.xyz_m[:, [0, 2]].T, '-o', color=_ink(said, order), mfc='none', ms=5, lw=0.8)
        if said.xyz_m is None: continue
        axis.plot(*said.xyz_m[:, [0, 2]].T, '-o', color=_ink(said, order), ms=4, lw=0.8)
        for a, b in zip(said.turn.xyz_m, said.xyz_m): axis.plot([a[0], b[0]], [a[2], b[2]], ':', color=MUTED, lw=0.6)
    axis.set(xlabel='x, m', ylabel='z, m'); axis.set_aspect('equal', adjustable='datalim')

def draw_gate(axis, told: list[Said]) -> None:
    "The gate's mean and the confidence of seeing the target, turn by turn."
    turns = np.arange(1, len(told) + 1)
    axis.plot(turns, [said.gate for said in told], 'o-', color=PALETTE[0], label='gate')
    axis.plot(turns, [said.confidence if np.isfinite(said.gate) else np.nan for said in told], 's', color=PALETTE[1], ms=4, label='seen')
    axis.set(ylim=(0, 1.05), xlabel='turn', xticks=turns); axis.legend(fontsize=6, loc='lower left')

def gallery_figure(clip: Clip, told: list[Said], title: str) -> plt.Figure:
    "Words, overlay in every view, bird's-eye, gate."
    views = min(len(clip.views), 2)
    figure, axes = plt.subplots(1, 3 + views, figsize=(4.2 + 2.1 * (2 + views), 2.4), dpi=80, width_ratios=(1.9, *(1,) * views, 1, 0.8))
    draw_words(axes[0], told)
    for view in range(views): draw_overlay(axes[1 + view], clip, told, view)
    draw_above(axes[-2], told); draw_gate(axes[-1], told)
    figure.suptitle(title, fontsize=9); figure.tight_layout()
    return figure


# %%
for (clip, dialogue), told in zip(chosen[:2], talks[:2]): gallery_figure(clip, told, f'{dialogue.meta["venue"]}-like: {dialogue.caption}'); plt.show()
assert all(np.isfinite(said.xyz_m).all() for told in talks for said in told if said.xyz_m is not None)

# %% [markdown]
# The same for clips with two and three views, where rays meet:

# %%
for (clip, dialogue), told in zip(chosen[2:], talks[2:]): gallery_figure(clip, told, f'{dialogue.meta["venue"]}-like, {len(clip.views)} views: {dialogue.caption}'); plt.show()
errors = [float(np.linalg.norm(said.xyz_m - said.turn.xyz_m, axis=1).mean()) for told in talks for said in told if said.xyz_m is not None]
print('mean errors of these turns, m:', [round(e, 2) for e in errors])
assert len(errors) > 4 and max(errors) < 100

# %% [markdown]
# ## The gate along a stream
#
# The long clip once more, two frames at a time and without any question: the gate per chunk, beside how many pixels of the target are seen.

# %%
clip, dialogue = chosen[1]
chunks = [see_clip(clip, layout_of(model.vlm), frames=(start, start + 2)) for start in range(0, clip.frames_count, 2)]
with torch.no_grad(): steps = list(stream_chunks(model, chunks, model.start(1)))
gates, pixels = [float(step.gate.mean()) for step in steps], [(clip.view.instances[2 * k:2 * k + 2] == dialogue.target).sum() / 2 for k in range(len(steps))]
figure, axes = plt.subplots(2, 1, figsize=(6, 2.6), dpi=90, sharex=True)
axes[0].plot(gates, '.-', color=PALETTE[0]); axes[0].set(ylabel='gate', ylim=(0, 1))
axes[1].bar(range(len(pixels)), pixels, color=MUTED); axes[1].set(ylabel='pixels', xlabel='chunk of two frames'); plt.show()
assert len(gates) == clip.frames_count // 2 and 0 < min(gates) <= max(gates) < 1

# %% [markdown]
# ## What we proved
#
# * The shipped checkpoint answers whole dialogues with words and finite paths; the figures are drawn from what it returned.
#
# ## Try it
#
# 1. Give the model true answers as history instead of its own. Which figure changes?
# 2. Exchange the two views of the third dialogue. Where does the error go?
# 3. Cover the target in one frame with a grey box. Does the gate close?
