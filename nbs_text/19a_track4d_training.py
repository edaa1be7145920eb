# %% [markdown]
# # Training LMM-Track4D
# > Turn after turn through a dialogue, with losses on words, paths, slots and confidence.

# %%
#| default_exp track4d_training

# %% [markdown]
# #| export
# A *lesson* is a seen clip with one dialogue. Turn k of all dialogues of a batch is one forward pass, and TRK's state goes
# from turn to turn.

# %% [markdown]
# * **What** the loss of a dialogue, and the training loop with checkpoints
# * **Why** a model trained on perfect history only falls apart on its own; one never shown a gap never learns to remember
# * **Paper** LMM-Track4D: no training recipe is published. **Schedule, mix and losses are [ours]**
# * **Needs** torch, transformers
# * **Time** 60 seconds
# * **Before this** `19_track4d`, `18b_trajectory_scores`

# %%
#| export
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from track4d_ref.clips import Clip
from track4d_ref.dialogue_packing import PackedReading, pack_turns
from track4d_ref.dialogue_sets import answer_text, history, messages_of
from track4d_ref.dialogues import Dialogue, dialogue_path_m
from track4d_ref.muon import Muon
from track4d_ref.oskra import LossWeights, slot_losses, trajectory_losses, weighted
from track4d_ref.patches import PatchLayout
from track4d_ref.storage import atomic_path
from track4d_ref.track4d import SeenClip, Track4D, TurnOutput, TurnRow, decode_turn, see_clip, shown_tokens
from track4d_ref.trk import StateStep, cut_gradient

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.dialogues import make_dialogue
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.tokens import train_tokenizer
from track4d_ref.track4d import Track4DConfig, answer_loss, run_turn
from track4d_ref.viz import use_style
from track4d_ref.vlm import build_vlm

use_style()
torch.set_num_threads(1)


# %% [markdown]
# ## Lessons
#
# A lesson is everything that training needs of a clip, made once: patches wait as frames, tags and coverage as tensors, the
# dialogue as it is. The paths of the clip's *other* objects ride along, not to be learned but to be scored against: a
# prediction that follows the wrong thing should be found out as such, not only as "far off".

# %%
#| export
@dataclass(frozen=True, eq=False)
class Lesson:
    "A dialogue with what is seen of its clip, and the paths (M, J, 3) of the other objects at every trajectory turn."
    seen: SeenClip
    dialogue: Dialogue
    others_m: dict[int, np.ndarray]

def make_lesson(clip: Clip, dialogue: Dialogue, layout: PatchLayout, size_px: int | None = None) -> Lesson:
    "The lesson of a clip and one of its dialogues."
    others = [item for item in clip.objects if item.id != dialogue.target]
    paths = {number: np.stack([dialogue_path_m(clip, item, dialogue.turns[number].times_s) for item in others])
             for number in dialogue.path_turns if others}
    return Lesson(see_clip(clip, layout, size_px), dialogue, paths)

def turn_messages(lesson: Lesson, number: int, before: tuple[dict, ...], as_text: bool = False) -> tuple[dict, ...]:
    "The messages of a turn with its true answer, after a given history."
    turn = lesson.dialogue.turns[number]
    return (*before, *messages_of([turn.question], [answer_text(turn, as_text)]))


# %%
preset = load_preset('tiny', ('resolution=64', 'patch_size=8', 'text_width=96', 'text_layers=2', 'text_heads=4', 'text_kv_heads=2', 'vision_width=48', 'vision_layers=1'))
layout = PatchLayout(8, 2, 2)
clips = [simulate_clip(31, preset, index, rig='ring', domain='open', smooth=False, objects=3) for index in range(6)]
pairs = [(clip, make_dialogue(clip, np.random.default_rng(index))) for index, clip in enumerate(clips)]
lessons = [make_lesson(clip, dialogue, layout) for clip, dialogue in pairs if dialogue]

# %%
print(len(lessons), 'lessons with', [len(lesson.dialogue.turns) for lesson in lessons], 'turns')
assert all(paths.shape == (2, 4, 3) for lesson in lessons for paths in lesson.others_m.values())

# %% [markdown]
# ## The loss of a dialogue
#
# Turn by turn: words, trajectory, slots, and the confidence that TRK's gate uses. Gradients through the state are cut every
# two turns. A batch may hold dialogues of different length; a dialogue leaves the batch after its last turn, and the
# means are over what was there.
#
# The words are cheap to learn, the slots slow: without the two slot terms (`claim`, `focus`) nothing tells the model *which* tokens the name in
# the question means, and the position loss alone finds the middle of the room. Naming is the hard part of this
# task at small scale; we therefore supervise it where masks exist.
#
# Three kinds of training history, mixed by the plan: the true turns; *state only* (the text is dropped, so the
# subject of "it" must be in the state); nothing.

# %%
#| export
TRAINING_HISTORIES = ('gold', 'state', 'no')

def turn_losses(model: Track4D, lessons: list[Lesson], number: int, rows: list[TurnRow], tokens: list[torch.Tensor],
                output: TurnOutput, last: tuple | None, decoder=None) -> tuple[dict, tuple | None]:
    "Losses of the trajectory turns among the rows, and what the next turn may go on from."
    picked = [i for i, lesson in enumerate(lessons) if lesson.dialogue.turns[number].returns_path]
    if not picked: return {}, last
    device = output.hidden.device
    index = torch.tensor(picked, device=device)
    turns = [lessons[i].dialogue.turns[number] for i in picked]
    part = output.select(index)
    some = [rows[i] for i in picked], [tokens[i] for i in picked]
    before = tuple(value[index] for value in last) if last else None
    found, scene = decode_turn(model, *some, part, turns, before, decoder)
    truth = torch.as_tensor(np.stack([turn.xyz_m for turn in turns]), dtype=torch.float32, device=device)
    seen = torch.as_tensor(np.stack([turn.seen for turn in turns]), device=device)
    losses = trajectory_losses(found, truth, seen, truth.isfinite().all(-1))
    losses['visible'] = losses['visible'] + binary_cross_entropy_with_logits(part.step.confidence_logit, seen.any(1).float())
    covered = [row.seen.coverage.get(lessons[i].dialogue.target) for i, row in zip(picked, some[0])]
    times_s = torch.as_tensor(np.stack([turn.times_s for turn in turns]), dtype=torch.float32, device=device)
    if found.focus is not None and all(cover is not None for cover in covered):
        coverage = torch.nn.utils.rnn.pad_sequence(covered, True).to(device) * scene.mask
        losses |= slot_losses(found, scene, coverage, times_s)
    return losses, carry_on(last, index, found.xyz_m.detach(), times_s, len(lessons))


# %%
#| export
def carry_on(last, index: torch.Tensor, xyz_m: torch.Tensor, times_s: torch.Tensor, count: int) -> tuple:
    "Position, velocity and time of the newest answers, in the rows `index` of `count`."
    nowhere = torch.full((count, 3), math.nan, device=xyz_m.device)
    step_s = (times_s[:, -1] - times_s[:, -2])[:, None]
    fresh = (xyz_m[:, -1], (xyz_m[:, -1] - xyz_m[:, -2]) / step_s, times_s[:, -1])
    return tuple(old.index_copy(0, index, new) for old, new in zip(last or (nowhere, nowhere, nowhere[:, 0]), fresh))


# %%
def dialogue_loss_v1(model, lessons, kind='gold', weights=LossWeights(), as_text=False):
    tokens, state, last = model.see([lesson.seen for lesson in lessons]), model.start(len(lessons)), None
    sums, counts = {}, {}
    alive = list(range(len(lessons)))
    for number in range(max(len(lesson.dialogue.turns) for lesson in lessons)):
        stay = [place for place, i in enumerate(alive) if number < len(lessons[i].dialogue.turns)]
        alive, state = [alive[place] for place in stay], state[stay]
        last = tuple(value[stay] for value in last) if last else None
        if kind == 'no': state, last = model.start(len(alive)), None
        part = [lessons[i] for i in alive]
        past = [history(lesson.dialogue, number, 'gold' if kind == 'gold' else 'no', as_text=as_text) for lesson in part]
        rows = [TurnRow(lesson.seen, turn_messages(lesson, number, before, as_text)) for lesson, before in zip(part, past)]
        here = [tokens[i] for i in alive]
        output = run_turn(model, rows, here, cut_gradient(state, number, model.trk.config))
        losses = {'words': answer_loss(output)}
        if not as_text:
            more, last = turn_losses(model, part, number, rows, here, output, last)
            losses |= more
            told = output.asked.nonzero()[:, 0]
            if len(told): losses['name'] = name_loss(model, output.step.state[told], [part[i] for i in told])
        for name, value in losses.items(): sums[name], counts[name] = sums.get(name, 0) + value, counts.get(name, 0) + 1
        state = output.step.state
    means = {name: value / counts[name] for name, value in sums.items()}
    paths = {name: value for name, value in means.items() if name != 'words'}
    return means | {'total': means['words'] + (weighted(paths, weights) if paths else 0)}


# %% [markdown]
# That is the definition, and it reads the video once per turn. `19a_dialogue_packing` reads all turns in one row; the sums
# are the same. A turn's branch waits for the state of the turn before; where the history is `no`, state and last position are
# empty at every turn.

# %%
#| export
def dialogue_loss(model: Track4D, lessons: list[Lesson], kind: str = 'gold', weights: LossWeights = LossWeights(),
                  as_text: bool = False) -> dict[str, torch.Tensor]:
    "All losses of a batch of dialogues, each the mean over turns; 'total' is their weighted sum."
    tokens = model.see([lesson.seen for lesson in lessons])
    turns = [[turn_messages(lesson, number, (), as_text) for number in range(len(lesson.dialogue.turns))]
             for lesson in lessons]
    shown = [shown_tokens(model, lesson.seen, part) for lesson, part in zip(lessons, tokens)]
    reading = PackedReading(model, pack_turns(model, [l.seen for l in lessons], turns, kind == 'gold'), shown)
    state, last, found = model.start(len(lessons)), None, {}
    for number in range(0 if as_text else max(map(len, turns))):
        if kind == 'no': state, last = model.start(len(lessons)), None
        index = torch.nonzero(reading.rows.word_at[:, number] >= 0)[:, 0]
        if not len(index): continue
        losses, state, last = branch_losses(model, lessons, number, reading, index, tokens, state, last)
        for name, value in losses.items(): found.setdefault(name, []).append(value)
    means = {name: sum(values) / len(values) for name, values in found.items()}
    paths = {name: value for name, value in means.items() if not name.startswith('beside')}
    words, others = reading.word_losses().mean(), sum(means[name] for name in means if name not in paths)
    return {'words': words} | means | {'total': words + others + (weighted(paths, weights) if paths else 0)}

def detached(step: StateStep) -> StateStep:
    "The same step without its past."
    return StateStep(**{name: value.detach() for name, value in vars(step).items()})


# %%
#| export
def name_loss(model: Track4D, state: torch.Tensor, lessons: list[Lesson]) -> torch.Tensor:
    "Cross-entropy of TRK's states (b, S), read through the word table, against the words of their targets' names."
    told = model.vlm.lm_head(model.namer(state)).float().log_softmax(-1)
    words = [torch.tensor(model.tokenizer(f' {lesson.dialogue.caption}', add_special_tokens=False).input_ids) for lesson in lessons]
    return -torch.stack([row[ids.to(row.device)].mean() for row, ids in zip(told, words)]).mean()

def beside_view(model: Track4D, name: str, lessons: list[Lesson], tokens: list[torch.Tensor],
                output: TurnOutput) -> tuple[list[torch.Tensor], TurnOutput]:
    "What a decoder beside is shown: all, the tokens without ray and time (if features are kept), or a state without a past."
    if name == 'no RTGE' and all(lesson.seen.features is not None for lesson in lessons):
        return [lesson.seen.features for lesson in lessons], output
    if name == 'no memory': return tokens, replace(output, step=detached(model.trk(output.hidden, model.start(len(lessons)))))
    return tokens, output


# %%
#| export
def branch_losses(model: Track4D, lessons: list[Lesson], number: int, reading: PackedReading, index: torch.Tensor,
                  tokens: list[torch.Tensor], state: torch.Tensor, last: tuple | None) -> tuple:
    "Losses of turn `number` in the rows `index`; states (B, S) and last positions after it."
    old = cut_gradient(state, number, model.trk.config)
    part = [lessons[i] for i in index]
    hidden = model.heard(reading.branch(number, index, old[index]), [lesson.dialogue.turns[number].question for lesson in part])
    step = model.trk(hidden, old[index])
    rows, nothing = [TurnRow(lesson.seen, ()) for lesson in part], torch.zeros(len(index), 1)
    output = TurnOutput(nothing, nothing, nothing > -1, hidden, step)
    here = tuple(value[index] for value in last) if last else None
    losses, new = turn_losses(model, part, number, rows, [tokens[i] for i in index], output, here)
    losses['name'] = name_loss(model, step.state, part)
    apart = TurnOutput(nothing, nothing, output.asked, output.hidden.detach(), detached(step))
    for name, head in model.beside.items():                       # these learn from the trunk, the trunk not from them
        shown, told = beside_view(model, name, part, [tokens[i].detach() for i in index], apart)
        more, _ = turn_losses(model, part, number, rows, shown, told, here, head)
        losses[f'beside {name}'] = weighted(more)
    unknown = torch.full((len(lessons), 3), math.nan, device=state.device)
    last = tuple(whole.index_copy(0, index, value) for whole, value in zip(last or (unknown, unknown, unknown[:, 0]), new))
    return losses, old.index_copy(0, index, step.state), last


# %%
corpus = [m['content'] for l in lessons for m in history(l.dialogue, len(l.dialogue.turns), 'gold', as_text=True)] * 4
tokenizer = train_tokenizer(corpus, 400)
model = Track4D(build_vlm(preset, tokenizer), tokenizer, Track4DConfig(width=48))

# %%
first = {kind: dialogue_loss(model, lessons[:3], kind) for kind in TRAINING_HISTORIES}
slow = {kind: dialogue_loss_v1(model, lessons[:3], kind) for kind in TRAINING_HISTORIES}
apart = max(abs(float(first[kind][name] - slow[kind][name])) for kind in first for name in slow[kind])
print({name: round(float(value), 2) for name, value in first['gold'].items()}, f'largest difference {apart:.0e}')
assert apart < 1e-4 and first['gold'].keys() == slow['gold'].keys() and first['gold']['residual'] == 0

# %% [markdown]
# The terms at the very start, before a single step, weighted as they enter the sum:

# %%
figure, axis = plt.subplots(figsize=(6.4, 2.3), dpi=90)
terms = {name: float(value) * getattr(LossWeights(), name, 1.0) for name, value in first['gold'].items() if name != 'total'}
axis.barh(list(terms), list(terms.values()), color='#0072B2'); axis.invert_yaxis(); axis.set(xlabel='weighted loss', title='What the first step sees'); plt.show()
assert abs(sum(terms.values()) - float(first['gold']['total'])) < 0.1


# %% [markdown]
# ## Training
#
# AdamW with a cosine; the share of true text history falls from 1 to one half while state-only and empty histories take the
# rest. Without that mix a model learns that the subject always stands in the text, and never uses its state. The draw of a
# step depends on the seed and the number of the step alone, so that an interrupted run sees the same batches as one that
# was never stopped.
#
# The clock may stop a run, and a stopped run goes on from its checkpoint.

# %%
#| export
@dataclass(frozen=True)
class Track4DPlan:
    "How to train; all [ours]."
    steps: int = 400
    seconds: float = 0.0              # > 0: stop by the clock
    batch: int = 8
    tokens: int = 2048                # a batch of long clips is smaller: it holds at most so many visual tokens
    learning_rate: float = 1e-3
    optimizer: str = 'muon'           # or 'adamw'; muon for matrices of the language model's layers and of the parts
    weight_decay: float = 0.01
    clip: float = 1.0
    gold_at_end: float = 0.5          # share of batches with the true text history at the end; 1 at the start
    as_text: bool = False             # the text baseline: trajectories as words, no decoder
    save_every: int = 0
    seed: int = 0


# %%
#| export
def history_kind(plan: Track4DPlan, progress: float, rng: np.random.Generator) -> str:
    "Which training history the next batch has."
    gold = 1 - (1 - plan.gold_at_end) * progress
    if plan.as_text: return 'gold'
    return 'gold' if rng.random() < gold else str(rng.choice(['state', 'state', 'no']))

def draw_lessons(lessons: list[Lesson], count: int, rng: np.random.Generator, tokens: int = 1 << 30) -> list[Lesson]:
    "Lessons with equally many visual tokens, so that no row is padded, and at most `tokens` of them (or one lesson)."
    length = len(lessons[int(rng.integers(len(lessons)))].seen.tags)
    alike = [lesson for lesson in lessons if len(lesson.seen.tags) == length]
    count = max(1, min(count, len(alike), tokens // length))
    return [alike[i] for i in rng.choice(len(alike), count, replace=False)]

def optimizers_of(model: Track4D, plan: Track4DPlan) -> list[torch.optim.Optimizer]:
    "AdamW, and Muon at ten times the rate for the matrices of the language model's layers and of the parts where the plan says so."
    learning = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    matrix = lambda name, value: plan.optimizer == 'muon' and value.ndim == 2 and ('language_model.layers.' in name or not name.startswith('vlm.'))
    others = [value for name, value in learning if not matrix(name, value)]
    matrices = [value for name, value in learning if matrix(name, value)]
    made = [torch.optim.AdamW(others, weight_decay=plan.weight_decay, betas=(0.9, 0.98))]
    return made + ([Muon(matrices, weight_decay=plan.weight_decay)] if matrices else [])

def save_progress(path: Path, model: Track4D, optimizers: list, rows: list[dict], spent_s: float) -> None:
    "Weights, optimisers and log of a run, whole or not at all."
    with atomic_path(path) as partial:
        torch.save({'model': model.state_dict(), 'optimizers': [one.state_dict() for one in optimizers], 'rows': rows,
                    'spent_s': spent_s}, partial)


# %%
#| export
def read_progress(path: Path, model: Track4D, optimizers: list) -> tuple[list[dict], float]:
    "Put a saved run back in place; its log and the seconds it has taken."
    saved = torch.load(path, weights_only=True, map_location=model.vlm.device)
    model.load_state_dict(saved['model'])
    for one, state in zip(optimizers, saved['optimizers']): one.load_state_dict(state)
    return saved['rows'], saved['spent_s']

def learning_rate(plan: Track4DPlan, step: int, progress: float) -> float:
    "Twenty steps of warm-up, then a cosine down to a twentieth; ten times as much for Muon."
    return plan.learning_rate * min(1, (step + 1) / 20) * (0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2)


# %%
#| export
def train_track4d(model: Track4D, lessons: list[Lesson], plan: Track4DPlan, out: Path | str | None = None,
                  on_step=None) -> list[dict]:
    "Train in place; one dict per iteration. With `out`, a checkpoint there is continued and kept up to date."
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizers, rows, spent_s, file = optimizers_of(model, plan), [], 0.0, Path(out) / 'progress.pt' if out else None
    if file and file.exists(): rows, spent_s = read_progress(file, model, optimizers)
    began = time.time() - spent_s
    for step in range(len(rows), plan.steps):
        progress = max((time.time() - began) / plan.seconds if plan.seconds else 0, step / plan.steps)
        if progress >= 1: break
        for factor, one in zip((1, 10), optimizers): one.param_groups[0]['lr'] = factor * learning_rate(plan, step, progress)
        rng = np.random.default_rng([plan.seed, step])
        kind = history_kind(plan, progress, rng)
        losses = dialogue_loss(model, draw_lessons(lessons, plan.batch, rng, plan.tokens), kind, as_text=plan.as_text)
        for value in trained: value.grad = None
        losses['total'].backward()
        torch.nn.utils.clip_grad_norm_(trained, plan.clip)
        for one in optimizers: one.step()
        rows.append({'iteration': step, 'history': kind, **{name: float(value.detach()) for name, value in losses.items()}})
        if on_step: on_step(rows[-1])
        if file and plan.save_every and step % plan.save_every == plan.save_every - 1:
            save_progress(file, model, optimizers, rows, time.time() - began)
    if file: save_progress(file, model, optimizers, rows, time.time() - began)
    return rows


# %%
log = train_track4d(model, lessons, Track4DPlan(steps=12, batch=3, learning_rate=2e-3))

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.2), dpi=90)
for axis, name in zip(axes, ('words', 'position', 'claim')):
    axis.plot([row[name] for row in log], '.-', color='#0072B2'); axis.set(xlabel='step', title=name)
plt.show()
assert len(log) == 12 and np.mean([row['total'] for row in log[-3:]]) < np.mean([row['total'] for row in log[:3]])


# %% [markdown]
# A run that is stopped and continued sees the same batches. Three steps at once, or two and one from the checkpoint. The third loss is
# not the same here: a plan of two steps lowers its rate sooner than one of three, so the weights differ before the third. A run that
# is killed keeps its plan, and then all losses agree (`19e_track4d_runs`).

# %%
def fresh():
    return Track4D(build_vlm(preset, train_tokenizer(corpus, 400)), tokenizer, Track4DConfig(width=48))

with tempfile.TemporaryDirectory() as folder:
    whole = train_track4d(fresh(), lessons, Track4DPlan(steps=3, batch=1))
    train_track4d(fresh(), lessons, Track4DPlan(steps=2, batch=1), folder)
    parts = train_track4d(fresh(), lessons, Track4DPlan(steps=3, batch=1), folder)

# %%
print([round(row['total'], 3) for row in whole], [round(row['total'], 3) for row in parts])
assert len(parts) == 3 and parts[0]['total'] == whole[0]['total']

# %% [markdown]
# The mix of histories over a run, as the plan draws it:

# %%
rng = np.random.default_rng(0)
drawn = [history_kind(Track4DPlan(), progress, rng) for progress in np.linspace(0, 1, 2000)]
kinds = np.array([[kind == name for name in TRAINING_HISTORIES] for kind in drawn])

# %%
figure, axis = plt.subplots(figsize=(5.6, 2.1), dpi=90)
axis.stackplot(np.linspace(0, 1, 20), kinds.reshape(20, 100, 3).mean(1).T, labels=TRAINING_HISTORIES, colors=('#0072B2', '#009E73', '#bbbbbb'))
axis.set(xlabel='progress of the run', ylabel='share of batches', xlim=(0, 1), ylim=(0, 1), title='Histories during training')
axis.legend(loc='center left', bbox_to_anchor=(1, 0.5)); plt.show()
assert kinds[:100, 0].mean() > 0.9 and 0.35 < kinds[-300:, 0].mean() < 0.65

# %% [markdown]
# ## What we proved
#
# * Every term of the loss is there, finite, and the sum falls within a few steps.
# * A stopped run goes on from its checkpoint with the batches it would have seen.
#
# ## Try it
#
# 1. Set the weights of `claim` and `focus` to zero. After how many steps does the position loss stop falling?
# 2. Train with `gold_at_end=1`. Does $W_{\rm in}$ move at all?
# 3. Which part's gradient is largest in the first step, and why is it not RTGE's network?
#
# <details><summary>Solutions</summary>
#
# 1. Print the three curves. Without them nothing tells the slots which tokens are the target's except the positions
#    themselves, and these are flat while the wrong token is looked at.
# 2. Hardly: the state is produced by the true words and reaches the loss only through positions of later turns. Look
#    at its gradient in the first step.
# 3. The decoder's last layers: they act on metres at once. RTGE's network begins as a no-op behind a factor of zero,
#    so its own gradient is zero in the first step.
#
# </details>
