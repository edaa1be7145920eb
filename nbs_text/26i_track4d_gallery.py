# %% [markdown]
# # A gallery of dialogues
# > The shipped LMM-Track4D on scenes it has never seen: what was asked, what it said, where it thinks the thing went, and how its memory moved.

# %% [markdown]
# * **What** dialogues, overlays, plans from above with told and true trajectories, and the gate of TRK over the turns; good ones and bad ones
# * **Why** a mean distance hides whether a model follows the wrong thing well or the right thing badly
# * **Paper** LMM-Track4D shows dialogues of this kind; scenes, drawing and checkpoint are **[ours]**
# * **Needs** torch
# * **Time** 60 seconds
# * **Before this** [`19b_track4d_asking`](19b_track4d_asking.ipynb), [`26f_track4d_table`](26f_track4d_table.ipynb)

# %%
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch

from track4d_ref.clips import Clip
from track4d_ref.dialogue_sets import benchmark_entry, benchmark_plan, in_test
from track4d_ref.presets import load_preset
from track4d_ref.storage import project_path
from track4d_ref.track4d_asking import Replies, ask_batch
from track4d_ref.track4d_runs import load_small
from track4d_ref.track4d_training import Lesson, make_lesson
from track4d_ref.viz import PALETTE, use_style
from track4d_ref.vlm import layout_of
use_style(); torch.set_num_threads(1)

# %% [markdown]
# ## Scenes nobody trained on
#
# Entries of the benchmark whose scene fell into the test part. Each is simulated again from its number.

# %%
preset, model = load_preset('tiny'), load_small(project_path('data_samples/track4d_tiny'))
numbers = [number for number in range(0, len(benchmark_plan()), 9)]
entries = [(clip, dialogue) for clip, dialogue in (benchmark_entry(number, preset) for number in numbers) if in_test(dialogue.scene)]
lessons = [make_lesson(clip, dialogue, layout_of(model.vlm)) for clip, dialogue in entries]
print(len(lessons), 'dialogues of', len(numbers), 'entries;', sum(len(dialogue.turns) for _, dialogue in entries), 'turns')
assert len(lessons) >= 6 and all(in_test(dialogue.scene) for _, dialogue in entries)


# %% [markdown]
# ## Asking, with an eye on the gate
#
# The model answers turn after turn with its own history. A hook on TRK writes down the mean of its gate at every step: 0 keeps the state
# to the last bit, 1 forgets it.

# %%
@dataclass(frozen=True, eq=False)
class Asked:
    "A dialogue with the model's replies and the mean gate (turns,)."
    clip: Clip
    lesson: Lesson
    replies: Replies
    gates: list[float]

    @property
    def error_m(self) -> float: return float(np.mean([answer.ade_m for answer in self.replies.paths]))

def ask_watched(clip: Clip, lesson: Lesson) -> Asked:
    "One dialogue in `self` mode; a turn that returns a path passes TRK twice, with the same gate."
    gates = []
    hook = model.trk.register_forward_hook(lambda module, inputs, step: gates.append(float(step.gate.mean())))
    try: replies = ask_batch(model, [lesson], 'self')
    finally: hook.remove()
    found, path_answers, at, per_turn = gates, iter(replies.paths), 0, []
    for turn in lesson.dialogue.turns:
        at += 2 if turn.returns_path and next(path_answers).found_m is not None else 1
        per_turn.append(found[at - 1])
    assert at == len(found)
    return Asked(clip, lesson, replies, per_turn)

asked = sorted((ask_watched(clip, lesson) for (clip, _), lesson in zip(entries, lessons)), key=lambda one: one.error_m)
print('mean distance per dialogue, m:', np.round([one.error_m for one in asked], 2).tolist())


# %% [markdown]
# ## Overlays and plans
#
# Left: the first frame with the true path (line) and the told one (dots), both seen by the camera of frame 0. Right: the same from above,
# in metres right of and in front of that camera. Every colour is one turn; a grey line leads from each told state to the true one.

# %%
def project_px(clip: Clip, xyz_m: np.ndarray) -> np.ndarray:
    "Points (J, 3) in the frame of the first camera as pixels (J, 2); NaN behind it."
    uvw = xyz_m @ clip.view.K.T
    return np.where(uvw[:, 2:] > 0.05, uvw[:, :2] / np.maximum(uvw[:, 2:], 0.05), np.nan)

def draw_dialogue(picture, plan, one: Asked) -> None:
    "Overlay and plan of a dialogue."
    picture.imshow(one.clip.view.frames[0]); picture.set(xticks=[], yticks=[], xlim=(0, one.clip.view.width), ylim=(one.clip.view.height, 0))
    for answer, color in zip(one.replies.paths, PALETTE):
        true_px = project_px(one.clip, answer.truth_m)
        picture.plot(*true_px.T, color=color, lw=1.5); plan.plot(answer.truth_m[:, 0], answer.truth_m[:, 2], color=color, lw=1.5)
        if answer.found_m is None: continue
        picture.scatter(*project_px(one.clip, answer.found_m).T, s=14, color=color, edgecolor='white', linewidth=0.4, zorder=3)
        plan.scatter(answer.found_m[:, 0], answer.found_m[:, 2], s=14, color=color, edgecolor='white', linewidth=0.4, zorder=3)
        for told, true in zip(answer.found_m, answer.truth_m): plan.plot([told[0], true[0]], [told[2], true[2]], color='#999', lw=0.6, zorder=0)
    plan.plot(0, 0, '^', color='#333', ms=6); plan.set(xlabel='right, m', ylabel='ahead, m'); plan.axis('equal')
    picture.set_title(f'{one.lesson.dialogue.caption}: {one.error_m:.2f} m', fontsize=8)

def gallery(chosen: list[Asked]) -> None:
    "Overlays above, plans below."
    figure, axes = plt.subplots(2, len(chosen), figsize=(2.7 * len(chosen), 5), layout='constrained')
    for (picture, plan), one in zip(axes.T, chosen): draw_dialogue(picture, plan, one)
    plt.show()

gallery(asked[:3])
assert all(len(one.replies.paths) == len(one.lesson.dialogue.path_turns) for one in asked)

# %% [markdown]
# The middle of the field, and the worst:

# %%
gallery([*asked[len(asked) // 2:len(asked) // 2 + 1], *asked[-2:]])
assert asked[0].error_m <= asked[-1].error_m


# %% [markdown]
# ## What was said

# %%
def transcript(one: Asked) -> str:
    "The dialogue as text, the model's trajectories beside the true ones."
    lines, paths, words = [], iter(one.replies.paths), iter(one.replies.words)
    for turn in one.lesson.dialogue.turns:
        lines.append(f'USER   {turn.question}')
        if turn.returns_path:
            answer = next(paths)
            states = 'no trajectory' if answer.found_m is None else '  '.join('({:.1f}, {:.1f}, {:.1f})'.format(*state) for state in answer.found_m)
            truth = '  '.join('({:.1f}, {:.1f}, {:.1f})'.format(*state) for state in answer.truth_m)
            lines += [f'MODEL  {states}', f'TRUTH  {truth}   distance {answer.ade_m:.2f} m']
        else: lines.append(f'       answered in words: {"right" if next(words)[1] else "wrong"} (truth: {turn.answer})')
    return '\n'.join(lines)

print(transcript(asked[0]))

# %% [markdown]
# ## The gate
#
# How much of its state the model replaces, turn by turn.

# %%
longest = max(len(one.gates) for one in asked)
figure, axis = plt.subplots(figsize=(6, 2.2), layout='constrained')
for one in asked: axis.plot(range(1, len(one.gates) + 1), one.gates, color='#bbb', lw=0.7)
means = [np.mean([one.gates[turn] for one in asked if len(one.gates) > turn]) for turn in range(longest)]
axis.plot(range(1, longest + 1), means, color=PALETTE[0], marker='o', label='mean of all dialogues')
axis.set(xlabel='turn', ylabel='mean gate of TRK', ylim=(0, 1), xticks=range(1, longest + 1)); axis.legend(fontsize=7); plt.show()
assert all(0 <= gate <= 1 for one in asked for gate in one.gates)

# %% [markdown]
# ## What we proved
#
# * The shipped checkpoint answers scenes outside its training; the gallery shows its best, its middle and its worst.
# * A turn that returns a trajectory passes TRK with one gate, however often it is read.
#
# ## Try it
#
# 1. Ask in `gold` mode. Which of the bad dialogues become good, and is it the first turn that was wrong?
# 2. Colour the gate curves by the kind of turn. Do questions in words move the state?
#
# <details><summary>Solutions</summary>
#
# 1. `ask_batch(model, [lesson], 'gold')`; only later turns can profit, since the first one has no history.
# 2. Take `turn.kind` of each turn along with the gate; a turn in words has no `[TRK]` in its answer, so its step is computed and not kept.
#
# </details>
