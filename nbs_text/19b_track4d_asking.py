# %% [markdown]
# # Asking LMM-Track4D
# > The same dialogues under four histories, to see what memory is worth.

# %%
#| default_exp track4d_asking

# %% [markdown]
# #| export
# A *reply* is what came back in one turn: token numbers, and a trajectory (J, 3) in metres where `[TRK]` was said. Modes are
# those of `dialogue_sets.HISTORY_MODES`.

# %% [markdown]
# * **What** greedy answers, trajectories, and the evaluation of whole dialogues under no, self, gold and corrupted history
# * **Why** "late-turn accuracy" compares models only if all of them saw the same kind of past
# * **Paper** LMM-Track4D reports late-turn Traj-Acc for no, self and gold history (second-hand). **How the state is produced in each mode
#   is [ours]**, and so are the corrupted history and the two switches that separate text from state
# * **Needs** torch, transformers
# * **Time** 60 seconds
# * **Before this** `19a_track4d_training`, `18b_trajectory_scores`

# %%
#| export
from dataclasses import dataclass

import numpy as np
import torch

from track4d_ref.dialogue_sets import answer_text, history, messages_of
from track4d_ref.dialogues import Dialogue
from track4d_ref.storage import InputError
from track4d_ref.tokens import answer_ids
from track4d_ref.track4d import Track4D, TurnRow, decode_turn, row_ids, run_turn
from track4d_ref.track4d_training import Lesson, carry_on
from track4d_ref.trajectory_scores import PathAnswer
from track4d_ref.trajectory_text import parse_trajectory

# %%
import matplotlib.pyplot as plt

from track4d_ref.dialogue_sets import HISTORY_MODES, other_target
from track4d_ref.dialogues import make_dialogue
from track4d_ref.patches import PatchLayout
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.tokens import train_tokenizer
from track4d_ref.track4d import Track4DConfig
from track4d_ref.track4d_training import Track4DPlan, make_lesson, train_track4d, turn_messages
from track4d_ref.trajectory_scores import path_scores
from track4d_ref.viz import time_colors, use_style
from track4d_ref.vlm import build_vlm

use_style()
torch.set_num_threads(1)

# %% [markdown]
# ## A model that has seen a little
#
# Six clips with two cameras, one dialogue each, and a few steps of training on them: paths come out, words hardly yet.

# %%
sizes = ('resolution=64', 'patch_size=8', 'text_width=96', 'text_layers=2', 'text_heads=4', 'text_kv_heads=2', 'vision_width=48', 'vision_layers=1')
preset, layout = load_preset('tiny', sizes), PatchLayout(8, 2, 2)
clips = [simulate_clip(31, preset, index, rig='ring', domain='open', smooth=False, objects=3) for index in range(6)]

# %%
pairs = [(clip, make_dialogue(clip, np.random.default_rng(index))) for index, clip in enumerate(clips)]
lessons = [make_lesson(clip, dialogue, layout) for clip, dialogue in pairs if dialogue]
corpus = [m['content'] for l in lessons for m in history(l.dialogue, len(l.dialogue.turns), 'gold', as_text=True)] * 4
tokenizer = train_tokenizer(corpus, 400)
model = Track4D(build_vlm(preset, tokenizer), tokenizer, Track4DConfig(width=48))
log = train_track4d(model, lessons, Track4DPlan(steps=40, batch=3, learning_rate=6e-3, gold_at_end=1.0))

# %%
print(len(lessons), 'lessons; loss of the words', [round(row['words'], 2) for row in log[::8]])
assert log[-1]['words'] < log[0]['words']

# %%
figure, axis = plt.subplots(figsize=(5.6, 1.9), dpi=90)
axis.plot([row['words'] for row in log], color='#0072B2'); axis.set(xlabel='step', ylabel='loss of the words', title='Forty steps on six clips: a start, no more'); plt.show()
assert np.isfinite([row['total'] for row in log]).all()


# %% [markdown]
# ## Answering in words
#
# The model answers each turn in words, greedily. If it says `[TRK]`, the decoder returns the trajectory; if not, nothing can be
# read, and that is counted. The state comes from the same turns as the text history does: its own, the true ones, another
# dialogue's, or none.

# %%
#| export
@torch.no_grad()
def say(model: Track4D, rows: list[TurnRow], tokens, state: torch.Tensor, most_words: int = 24) -> list[tuple[int, ...]]:
    "Greedy token numbers of the answers of open rows, without the end token."
    said, done, end = [()] * len(rows), [False] * len(rows), model.tokenizer.eos_token_id
    for _ in range(most_words):
        grown = [TurnRow(row.seen, row.messages, words) for row, words in zip(rows, said)]
        logits = run_turn(model, grown, tokens, state).logits
        for i, row in enumerate(grown):
            word = int(logits[i, len(row_ids(model, row)[0]) - 1].argmax())
            done[i] = done[i] or word == end
            if not done[i]: said[i] = (*said[i], word)
        if all(done): break
    return said


# %%
open_rows = [TurnRow(lesson.seen, ({'role': 'user', 'content': lesson.dialogue.turns[0].question},)) for lesson in lessons[:2]]
with torch.no_grad(): answers = say(model, open_rows, model.see([lesson.seen for lesson in lessons[:2]]), model.start(2), 8)
print([tokenizer.decode(words) for words in answers])
assert all(len(words) <= 8 for words in answers)


# %% [markdown]
# ## Turn after turn
#
# Three things pass from turn to turn: the text, the state, and the last position for the anchor `persist`. In a real dialogue all of them
# come from the model itself. To find out what each is worth, the modes replace them together, and two switches take them apart.
#
# After a turn, the state moves on along the history of the mode. `use_text=False` drops the text and keeps the state,
# `use_state=False` the reverse: so memory is not confused with context length. `format_given` lets every required turn say
# `[TRK]`: the geometry is then judged apart from the form, the confusion that the paper's headline table is criticised for.

# %%
#| export
@dataclass(frozen=True, eq=False)
class Replies:
    "What a model returned: all required trajectories, and for the answer-only turns (kind, was it right)."
    paths: list[PathAnswer]
    words: list[tuple[str, bool]]

    def answer_accuracy(self) -> float:
        "Share of right answers among the answer-only turns."
        return float(np.mean([right for _, right in self.words])) if self.words else float('nan')


# %%
#| export
def moved_state(model: Track4D, lessons: list[Lesson], number: int, mode: str, asked: list[TurnRow],
                said: list[tuple[int, ...]], others: list[Dialogue] | None, tokens: list[torch.Tensor], state: torch.Tensor,
                as_text: bool) -> torch.Tensor:
    "The states after turn `number`: produced by the own answers, the true ones, another dialogue's, or none."
    if mode == 'no': return model.start(len(lessons))
    rows = [TurnRow(row.seen, row.messages, words or (model.tokenizer.eos_token_id,)) for row, words in zip(asked, said)]
    if mode in ('gold', 'corrupted'):
        told = [lesson.dialogue for lesson in lessons] if mode == 'gold' else others
        turns = [dialogue.turns[min(number, len(dialogue.turns) - 1)] for dialogue in told]
        rows = [TurnRow(row.seen, (*row.messages[:-1], *messages_of([turn.question], [answer_text(turn, as_text)])))
                for row, turn in zip(asked, turns)]
    return run_turn(model, rows, tokens, state).step.state


# %%
#| export
@torch.no_grad()
def ask_batch(model: Track4D, lessons: list[Lesson], mode: str, others: list[Dialogue] | None = None, as_text: bool = False,
              use_text: bool = True, use_state: bool = True, format_given: bool = False) -> Replies:
    "Ask a batch of dialogues turn after turn under one history mode; `format_given` puts `[TRK]` into the model's mouth."
    if mode == 'corrupted' and not others: raise InputError('corrupted history needs one other dialogue per lesson')
    paths, words, own = [], [], {i: [] for i in range(len(lessons))}
    tokens, state, last = model.see([lesson.seen for lesson in lessons]), model.start(len(lessons)), None
    alive = list(range(len(lessons)))
    for number in range(max(len(lesson.dialogue.turns) for lesson in lessons)):
        stay = [place for place, i in enumerate(alive) if number < len(lessons[i].dialogue.turns)]
        alive, state, last = [alive[p] for p in stay], state[stay], tuple(v[stay] for v in last) if last else None
        part, here = [lessons[i] for i in alive], [tokens[i] for i in alive]
        kind = mode if use_text else 'no'
        past = [history(lessons[i].dialogue, number, kind, tuple(own[i]), others and others[i], as_text) for i in alive]
        rows = [TurnRow(lesson.seen, (*before, {'role': 'user', 'content': lesson.dialogue.turns[number].question}))
                for lesson, before in zip(part, past)]
        said = say(model, rows, here, state, 160 if as_text else 24) if not format_given else spoken_for(model, part, number)
        found, last = found_paths(model, part, number, rows, said, here, state, last, as_text)
        for place, i in enumerate(alive):
            text = model.tokenizer.decode(said[place])
            own[i].append(text or '.')
            note_reply(lessons[i], number, text, found.get(place), paths, words)
        told = [others[i] for i in alive] if others else None
        state = moved_state(model, part, number, mode if use_state else 'no', rows, said, told, here, state, as_text)
    return Replies(paths, words)


# %%
#| export
def spoken_for(model: Track4D, lessons: list[Lesson], number: int) -> list[tuple[int, ...]]:
    "The true words of turn `number` as token numbers: what a model with perfect form would say."
    return [tuple(answer_ids(model.tokenizer, lesson.dialogue.turns[number].answer)) for lesson in lessons]


# %%
#| export
def found_paths(model: Track4D, lessons: list[Lesson], number: int, rows: list[TurnRow], said: list[tuple[int, ...]],
                tokens: list[torch.Tensor], state: torch.Tensor, last: tuple | None,
                as_text: bool) -> tuple[dict, tuple | None]:
    "Trajectories (J, 3) by place in the batch, of those that were required and could be read."
    need = [i for i, lesson in enumerate(lessons) if lesson.dialogue.turns[number].returns_path]
    if as_text:
        read = {i: parse_trajectory(model.tokenizer.decode(said[i])) for i in need}
        return {i: path.xyz_m for i, path in read.items() if path.readable}, last
    need = [i for i in need if model.word in said[i]]
    if not need: return {}, last
    index, turns = torch.tensor(need), [lessons[i].dialogue.turns[number] for i in need]
    grown = [TurnRow(rows[i].seen, rows[i].messages, said[i]) for i in need]
    picked = [tokens[i] for i in need]
    output = run_turn(model, grown, picked, state[index])
    path, _ = decode_turn(model, grown, picked, output, turns, tuple(v[index] for v in last) if last else None)
    times_s = torch.as_tensor(np.stack([turn.times_s for turn in turns]), dtype=torch.float32)
    return dict(zip(need, path.xyz_m.numpy())), carry_on(last, index, path.xyz_m, times_s, len(lessons))


# %%
#| export
def note_reply(lesson: Lesson, number: int, text: str, found: np.ndarray | None, paths: list, words: list) -> None:
    "Write a turn's reply down: a trajectory beside its truth, or whether the words are right."
    turn = lesson.dialogue.turns[number]
    if turn.returns_path:
        order = 1 + lesson.dialogue.path_turns.index(number)
        paths.append(PathAnswer(lesson.dialogue.id, order, turn.xyz_m, found, lesson.others_m.get(number), turn.labels))
    else: words.append((turn.kind, text.strip() == turn.answer))

def ask_all_dialogues(model: Track4D, lessons: list[Lesson], mode: str, others: list[Dialogue] | None = None,
                      batch: int = 16, **options) -> Replies:
    "All lessons, batch by batch; `options` as in `ask_batch`."
    parts = [ask_batch(model, lessons[at:at + batch], mode, others and others[at:at + batch], **options)
             for at in range(0, len(lessons), batch)]
    return Replies([path for part in parts for path in part.paths], [word for part in parts for word in part.words])


# %%
swapped = [other_target(lesson.dialogue, [l.dialogue for l in lessons], np.random.default_rng(0)) for lesson in lessons]
table = {}
for mode in HISTORY_MODES:
    replies = ask_all_dialogues(model, lessons, mode, swapped, format_given=True)
    table[mode] = path_scores(replies.paths)
    print(f"{mode:10s} n {table[mode]['n']}  parse rate {table[mode]['parse_rate']:.2f}  ADE {table[mode]['ade_m']:.2f} m")
free = ask_all_dialogues(model, lessons[:3], 'self')
print(f"in its own words: parse rate {path_scores(free.paths)['parse_rate']:.2f}, answers right {free.answer_accuracy():.2f}")
assert all(row['n'] == table['no']['n'] > 8 and row['parse_rate'] == 1 for row in table.values())

# %% [markdown]
# Forty steps on six clips are no result; what matters here is that every mode runs and counts the same turns. One dialogue from
# above: truth and answer, turn by turn.

# %%
forced = Track4D(model.vlm, tokenizer, Track4DConfig(width=48)); forced.load_state_dict(model.state_dict())

# %%
tokens, state = forced.see([lessons[0].seen]), forced.start(1)
figure, axes = plt.subplots(1, len(lessons[0].dialogue.path_turns), figsize=(8, 2.8), dpi=90, sharex=True, sharey=True)
with torch.no_grad():
    for axis, number in zip(axes, lessons[0].dialogue.path_turns):
        rows = [TurnRow(lessons[0].seen, turn_messages(lessons[0], number, history(lessons[0].dialogue, number, 'gold')))]
        output = run_turn(forced, rows, tokens, state); state = output.step.state
        path, _ = decode_turn(forced, rows, tokens, output, [lessons[0].dialogue.turns[number]])
        truth = lessons[0].dialogue.turns[number].xyz_m
        axis.scatter(truth[:, 0], truth[:, 2], c=time_colors(4), s=60, marker='+'); axis.scatter(path.xyz_m[0, :, 0], path.xyz_m[0, :, 2], c=time_colors(4), s=25)
        axis.set(xlabel='right (m)', title=f'turn {number + 1}, gate {float(output.step.gate.mean()):.2f}')
axes[0].set_ylabel('ahead (m)'); plt.show()
assert 0 < float(output.step.gate.mean()) < 1

# %% [markdown]
# The scores of all modes side by side, with the counts that belong to them. A model this young differs between them by chance; the picture shows the form
# of the comparison, not its outcome.

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.1), dpi=90)
for axis, key in zip(axes, ('ade_m', 'sr@1m', 'traj_acc')):
    axis.bar(list(table), [row[key] for row in table.values()], color=['#bbbbbb', '#009E73', '#0072B2', '#D55E00'])
    axis.set(title=f"{key}, n = {table['no']['n']}")
plt.show()
assert set(table) == set(HISTORY_MODES)

# %% [markdown]
# ## What we proved
#
# * All four histories are asked on the same turns; what cannot be read is counted as unreadable.
# * Text and state can be dropped one without the other.
#
# ## Try it
#
# 1. Train with `gold_at_end=1` and ask with `self`. How much is lost compared to the mix?
# 2. Ask with `use_state=False`, then with `use_text=False`. Which of the two carries the subject?
# 3. Train `as_text=True` as long as the decoder. What is its parse rate after as many minutes?
