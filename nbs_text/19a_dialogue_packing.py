# %% [markdown]
# # A dialogue in one row
# > All turns of a dialogue are read in one pass; only `[TRK]`, whose state must wait for the turn before, goes one by one.

# %%
#| default_exp dialogue_packing

# %% [markdown]
# #| export
# B dialogues, P tokens of video prefix, L tokens in all. A *branch* is the end of one turn's answer, from `[TRK]` on, read once
# more with the state in it. `allowed` (B, 1, queries, keys) says who may look at whom; positions are (3, B, L).

# %% [markdown]
# * **What** the turns of `19_track4d` without reading the video again for each of them, in training and in conversation
# * **Why** five turns one by one cost five passes over the video; here they cost one, and the numbers are the same
# * **Paper** LMM-Track4D says nothing about it. **All of it is [ours]**; the exactness is proven below
# * **Needs** torch, transformers
# * **Time** 30 seconds
# * **Before this** `19_track4d`

# %%
#| export
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from track4d_ref.patches import rope_positions
from track4d_ref.storage import InputError
from track4d_ref.tokens import IGNORE, chat_ids, prefix_ids
from track4d_ref.track4d import SeenClip, Track4D, shown_grids, shown_tokens
from track4d_ref.vlm import layout_of

# %%
import time

import matplotlib.pyplot as plt

from track4d_ref.dialogue_sets import answer_text, history, messages_of
from track4d_ref.dialogues import make_dialogue
from track4d_ref.patches import PatchLayout
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.tokens import train_tokenizer
from track4d_ref.track4d import TurnRow, answer_loss, run_turn, see_clip
from track4d_ref.viz import use_style
from track4d_ref.vlm import build_vlm

use_style()
torch.set_num_threads(1)

# %% [markdown]
# ## Reading on
#
# A causal language model never changes its mind about a token because of what comes later. So what it has read can be kept: keys
# and values of every layer. `read_on` takes what was read so far, reads some more tokens, and returns their hidden states
# with everything read. A mask says explicitly who may look at whom; nothing is assumed to be in order.

# %%
#| export
Layers = tuple[tuple[torch.Tensor, torch.Tensor], ...]

def read_on(model: Track4D, words: torch.Tensor, positions: torch.Tensor, allowed: torch.Tensor,
            past: Layers | None = None) -> tuple[torch.Tensor, Layers]:
    "Hidden states (B, q, width) of q more tokens, given as embeddings, and the keys and values of all tokens so far."
    cache = DynamicCache(past) if past else DynamicCache()
    hidden = model.vlm.model.language_model(inputs_embeds=words, attention_mask=allowed, position_ids=positions,
                                            past_key_values=cache, use_cache=True).last_hidden_state
    return hidden, tuple((layer.keys, layer.values) for layer in cache.layers)


# %% [markdown]
# The video comes first in every turn, and is the longest part. It is read once per dialogue.

# %%
#| export
@dataclass(frozen=True)
class Prefix:
    "The videos of B dialogues as read: keys and values, which of the P columns exist (B, P), the next position (B,)."
    layers: Layers
    valid: torch.Tensor
    next: torch.Tensor

    def select(self, index) -> 'Prefix':
        "The prefixes of some of the dialogues."
        return Prefix(tuple((k[index], v[index]) for k, v in self.layers), self.valid[index], self.next[index])

def prefix_row(model: Track4D, seen: SeenClip) -> tuple[list[int], np.ndarray]:
    "Token ids and positions (3, P) of a clip's videos with what stands before and behind them."
    layout, config, grids = layout_of(model.vlm), model.vlm.config, shown_grids(model, seen)
    ids = prefix_ids(model.tokenizer, tuple(map(layout.tokens, grids)))
    seconds = [video.seconds_per_frame * layout.temporal for video in seen.videos]
    where = np.array(ids) == config.video_token_id
    return ids, rope_positions(where, grids, seconds, config.vision_config.tokens_per_second, layout.merge)


# %%
#| export
def _padded(rows: list, filler=0) -> torch.Tensor: return pad_sequence([torch.as_tensor(row) for row in rows], True, filler)

def embed(model: Track4D, ids: torch.Tensor, tokens: list[torch.Tensor] | None = None) -> torch.Tensor:
    "Embeddings (B, L, width) of token ids, the visual ones replaced by `tokens` in their order."
    words = model.vlm.get_input_embeddings()(ids)
    if tokens is None: return words
    visual = (ids == model.vlm.config.video_token_id)[..., None]
    return words.masked_scatter(visual, torch.cat(tokens).to(words.dtype))

def read_prefix(model: Track4D, seen: list[SeenClip], tokens: list[torch.Tensor]) -> Prefix:
    "Read the videos of some dialogues; `tokens` are those of `Track4D.see`."
    rows = [prefix_row(model, clip) for clip in seen]
    ids, positions = _padded([ids for ids, _ in rows]), _padded([place.T for _, place in rows]).permute(2, 0, 1)
    valid = _padded([torch.ones(len(ids), dtype=torch.bool) for ids, _ in rows], False)
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    allowed = own_too(causal & valid[:, None])
    shown = [shown_tokens(model, clip, part) for clip, part in zip(seen, tokens)]
    _, layers = read_on(model, embed(model, ids, shown), positions, allowed[:, None])
    return Prefix(layers, valid, torch.tensor([int(place[0, -1]) + 1 for _, place in rows]))

def own_too(allowed: torch.Tensor) -> torch.Tensor:
    "The same mask (B, q, keys), with every query allowed to look at itself, so that padding has something to look at."
    queries, keys = allowed.shape[-2:]
    return allowed | torch.eye(keys, dtype=torch.bool)[keys - queries:]


# %%
sizes = ('resolution=64', 'patch_size=8', 'text_width=96', 'text_layers=2', 'text_heads=4', 'text_kv_heads=2', 'vision_width=48')
preset, layout = load_preset('tiny', sizes), PatchLayout(8, 2, 2)
clips = [simulate_clip(21, preset, index, rig='ring', domain='open', smooth=False, views=2 + index % 2) for index in range(3)]
dialogues = [make_dialogue(clip, np.random.default_rng(index)) for index, clip in enumerate(clips)]
seen = [see_clip(clip, layout) for clip in clips]
corpus = [m['content'] for d in dialogues for m in history(d, len(d.turns), 'gold', as_text=True)] * 4 + ['Yes. No.'] * 3
tokenizer = train_tokenizer(corpus, 400)
model = Track4D(build_vlm(preset, tokenizer), tokenizer)
with torch.no_grad(): model.rtge.strength.fill_(0.2); model.trk.into_word.weight.normal_(std=0.2)   # opened, so that it matters

# %%
tokens = model.see(seen)
with torch.no_grad(): prefix = read_prefix(model, seen, tokens)
print('tokens of the prefixes', prefix.valid.sum(1).tolist(), ' next positions', prefix.next.tolist())
assert prefix.valid.sum(1).tolist() == [len(prefix_row(model, clip)[0]) for clip in seen]


# %% [markdown]
# ## A conversation
#
# To answer, the text of the turn is read behind the prefix, and then word after word is chosen, each read on its own. When the
# model says `[TRK]` for the first time, the state goes into that word's embedding, and the hidden state there is kept for the
# decoder. With `forced` words the same function reads a given answer, which is how true histories move the state.

# %%
#| export
@dataclass(frozen=True)
class Spoken:
    "Answers as token numbers, whether they hold a `[TRK]` (B,), and the hidden states (B, width) at the first one."
    words: list[tuple[int, ...]]
    asked: torch.Tensor
    hidden: torch.Tensor

def text_rows(model: Track4D, prefix: Prefix, texts: list[list[int]]) -> tuple:
    "(ids, positions, allowed, valid) of texts behind their prefixes, padded at the end."
    ids = _padded(texts)
    valid = _padded([torch.ones(len(text), dtype=torch.bool) for text in texts], False)
    positions = (prefix.next[:, None] + torch.arange(ids.shape[1])).expand(3, -1, -1)
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril() & valid[:, None]
    before = prefix.valid[:, None].expand(-1, ids.shape[1], -1)
    return ids, positions, own_too(torch.cat([before, causal], -1))[:, None], torch.cat([prefix.valid, valid], -1)


# %%
#| export
@torch.no_grad()
def speak(model: Track4D, prefix: Prefix, texts: list[list[int]], state: torch.Tensor, most_words: int = 24,
          forced: list[tuple[int, ...]] | None = None) -> Spoken:
    "Greedy answers to open texts (token ids ending where the assistant begins), or the `forced` ones."
    ids, positions, allowed, valid = text_rows(model, prefix, texts)
    hidden, layers = read_on(model, embed(model, ids), positions, allowed, prefix.layers)
    count, lengths = len(texts), torch.tensor([len(text) for text in texts])
    now, at = hidden[torch.arange(count), lengths - 1], prefix.next + lengths
    said, kept, asked = [[] for _ in texts], torch.zeros_like(now), torch.zeros(count, dtype=torch.bool)
    done, end = torch.zeros(count, dtype=torch.bool), model.tokenizer.eos_token_id
    for number in range(most_words):
        word = model.vlm.lm_head(now).argmax(-1)
        if forced: word = torch.tensor([row[number] if number < len(row) else end for row in forced])
        done = done | (word == end)
        if done.all(): break
        first = (word == model.word) & ~asked & ~done
        words = embed(model, word[:, None])
        words = torch.where(first[:, None, None], model.trk.word(words[:, 0], state)[:, None], words)
        valid = torch.cat([valid, ~done[:, None]], -1)
        now, layers = read_on(model, words, at[None, :, None].expand(3, -1, -1), own_too(valid[:, None])[:, None], layers)
        now, at = now[:, 0], at + 1
        kept, asked = torch.where(first[:, None], now, kept), asked | first
        for row, one, over in zip(said, word.tolist(), done.tolist()): row += [] if over else [one]
    return Spoken([tuple(row) for row in said], asked, kept)


# %% [markdown]
# Against the slow way, in which every turn is a whole row of its own: the hidden state at `[TRK]` must be the same, with a state in
# the word and a history in front.

# %%
open_text = lambda messages: chat_ids(tokenizer, messages)[0]
state = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
rows, texts, answers = [], [], []
for clip, dialogue in zip(seen, dialogues):
    number = dialogue.path_turns[1]
    before, turn = history(dialogue, number, 'gold'), dialogue.turns[number]
    rows.append(TurnRow(clip, (*before, *messages_of([turn.question], [turn.answer]))))
    texts.append(open_text((*before, {'role': 'user', 'content': turn.question})))
    answers.append(tuple(tokenizer(turn.answer, add_special_tokens=False).input_ids))

# %%
with torch.no_grad(): slow = run_turn(model, rows, tokens, state)
spoken = speak(model, prefix, texts, state, forced=answers)
heard = model.heard(spoken.hidden, [row.messages[-2]['content'] for row in rows])         # with the question's words, as TRK gets it
print(f'largest difference of the hidden states {float((heard - slow.hidden).abs().max()):.1e}')
assert spoken.asked.all() and torch.allclose(heard, slow.hidden, atol=1e-5) and spoken.words == answers
free, again = (speak(model, prefix.select(part), [texts[i] for i in part], state[part], 6) for part in ([0, 1, 2], [1]))
assert free.words[1] == again.words[0]

# %% [markdown]
# Which columns the five most recent words of the longest answer may look at: the prefix and the text of their own dialogue, never the padding.

# %%
_, _, shown, _ = text_rows(model, prefix, texts)
figure, axes = plt.subplots(1, 3, figsize=(8, 2.6), dpi=80)
for axis, mask, dialogue in zip(axes, shown[:, 0], dialogues):
    axis.imshow(mask, cmap='Blues', aspect='auto', interpolation='nearest'); axis.axvline(prefix.valid.shape[1] - 0.5, color='#D55E00', lw=1)
    axis.set(title=f'{dialogue.caption}: {int(mask[-1].sum())} keys', xlabel='keys: video | text')
axes[0].set_ylabel('queries: text'); plt.show()
assert not shown[0, 0, :, :prefix.valid.shape[1]][:, ~prefix.valid[0]].any()


# %% [markdown]
# ## All turns at once, for training
#
# In training all answers are known, so all turns can be read in one row. What differs between histories is the mask:
#
# | history | a turn looks at | positions |
# |---|---|---|
# | `gold` | video and all turns before it | run on |
# | `state`, `no` | video only | start again behind the video |
#
# One thing cannot be in the row: a turn's own `[TRK]` carries a state that exists only after the turn before. In the row it stands as
# an ordinary word, which is exactly what later turns see of it. Its *branch*, from `[TRK]` to the end of the answer, is read once
# more with the state: three tokens per turn instead of the whole row.

# %%
#| export
@dataclass(frozen=True, eq=False)
class PackedTurns:
    "Rows of B dialogues: ids, labels and turn numbers (B, L; -1 in prefix and padding), positions, mask, `[TRK]` places."
    ids: torch.Tensor
    labels: torch.Tensor
    turn: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor              # (B, L, L)
    word_at: torch.Tensor              # (B, turns) column of the turn's last `[TRK]`, -1 without one
    end_at: torch.Tensor               # (B, turns) column behind the turn's last token

@lru_cache(maxsize=100_000)
def _turn_ids(tokenizer, question: str, answer: str) -> tuple[list[int], list[int]]:
    return chat_ids(tokenizer, ({'role': 'user', 'content': question}, {'role': 'assistant', 'content': answer}))

def _packed_row(model: Track4D, seen: SeenClip, turns: list[tuple[dict, ...]], joined: bool) -> tuple:
    "(ids, labels, turn numbers, positions) of one dialogue; `turns` hold question and answer each."
    ids, places = prefix_row(model, seen)
    labels, number, places, start = [IGNORE] * len(ids), [-1] * len(ids), [places], int(places[0, -1]) + 1
    for k, messages in enumerate(turns):
        more, learn = _turn_ids(model.tokenizer, *(message['content'] for message in messages))
        if joined and k:                                    # the template's line break before a later question
            lead = model.tokenizer('\n<|im_start|>user\n', add_special_tokens=False).input_ids
            more, learn = lead + more, [IGNORE] * len(lead) + learn
        ids, labels, number = ids + more, labels + learn, number + [k] * len(more)
        places.append(np.tile(start + np.arange(len(more)), (3, 1)))
        start += len(more) * joined
    return ids, labels, number, np.concatenate(places, 1)


# %%
#| export
def pack_turns(model: Track4D, seen: list[SeenClip], turns: list[list[tuple[dict, ...]]], joined: bool = True) -> PackedTurns:
    "Rows of some dialogues; with `joined` every turn looks at the turns before it, else at the video alone."
    made = [_packed_row(model, clip, messages, joined) for clip, messages in zip(seen, turns)]
    ids, labels, turn = (_padded([row[i] for row in made], filler) for i, filler in ((0, 0), (1, IGNORE), (2, -2)))
    positions = _padded([row[3].T for row in made]).permute(2, 0, 1)
    allowed = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril() & (turn >= -1)[:, None]
    if not joined: allowed = allowed & ((turn[:, None] == -1) | (turn[:, None] == turn[:, :, None]))
    order, most = torch.arange(ids.shape[1]), max(len(messages) for messages in turns)
    mine = turn[:, None] == torch.arange(most)[:, None]                                       # (B, turns, L)
    last = lambda where: torch.where(where, order, -1).amax(-1)
    word_at = last(mine & ((ids == model.word) & (labels != IGNORE))[:, None])
    return PackedTurns(ids, labels, turn, positions, own_too(allowed), word_at, last(mine) + 1)


# %%
#| export
class PackedReading:
    "The plain pass over packed rows, and the branch of each turn on demand."

    def __init__(self, model: Track4D, rows: PackedTurns, tokens: list[torch.Tensor]):
        self.model, self.rows = model, rows
        self.words = embed(model, rows.ids, tokens)
        self.hidden, self.layers = read_on(model, self.words, rows.positions, rows.allowed[:, None])
        self.branches, self.at_word = {}, {}

    def branch(self, number: int, index: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        "Hidden states (b, width) at the `[TRK]` of turn `number` in the rows `index`, with states (b, S) in it."
        rows, at, end = self.rows, self.rows.word_at[index, number], self.rows.end_at[index, number]
        if (at < 0).any(): raise InputError(f'turn {number}: a row without {self.model.tokenizer.decode([self.model.word])}')
        columns = at[:, None] + torch.arange(int((end - at).max()))                           # (b, q)
        inside, columns = columns < end[:, None], columns.clamp(max=rows.ids.shape[1] - 1)
        words = self.words[index[:, None], columns]
        words = torch.cat([self.model.trk.word(words[:, 0], state)[:, None], words[:, 1:]], 1)
        before = rows.allowed[index, at] & (torch.arange(rows.ids.shape[1]) < at[:, None])    # (b, L)
        own = torch.ones(columns.shape[1], columns.shape[1], dtype=torch.bool).tril() & inside[:, None]
        allowed = own_too(torch.cat([before[:, None].expand(-1, columns.shape[1], -1), own], -1))
        hidden, _ = read_on(self.model, words, rows.positions[:, index[:, None], columns], allowed[:, None],
                            tuple((k[index], v[index]) for k, v in self.layers))
        labels = torch.where(inside, rows.labels[index[:, None], columns], IGNORE)
        self.branches[number], self.at_word[number] = (hidden[:, :-1], labels[:, 1:]), hidden[:, 0]
        return hidden[:, 0]

    def word_losses(self) -> torch.Tensor:
        "Mean cross-entropy of the answers of each turn (turns,): the plain pass up to `[TRK]`, the branches after it."
        rows, most = self.rows, self.rows.word_at.shape[1]
        late = torch.zeros_like(rows.ids, dtype=torch.bool)                                   # told by a branch instead
        for number in self.branches:
            mine = (rows.turn == number) & (rows.word_at[:, number:number + 1] >= 0)
            late |= mine & (torch.arange(rows.ids.shape[1]) > rows.word_at[:, number:number + 1])
        where = (rows.labels != IGNORE) & ~late
        where[:, 0] = False
        told = [(self.hidden[:, :-1][where[:, 1:]], rows.labels[where], rows.turn[where])]
        for number, (hidden, labels) in self.branches.items():
            known = labels != IGNORE
            told.append((hidden[known], labels[known], torch.full((int(known.sum()),), number)))
        hidden, labels, turn = (torch.cat(parts) for parts in zip(*told))
        losses = cross_entropy(self.model.vlm.lm_head(hidden).float(), labels, reduction='none')
        sums = torch.zeros(most).index_add(0, turn, losses)
        return sums / torch.bincount(turn, minlength=most).clamp(min=1)


# %% [markdown]
# The proof: turn after turn, the packed reading gives the hidden state at `[TRK]`, the state, and the loss of the words that a row per turn
# gives, for both kinds of mask.

# %%
worst, states = {}, {}
for kind in ('gold', 'no'):
    pairs = [[messages_of([t.question], [answer_text(t)]) for t in d.turns] for d in dialogues]
    with torch.no_grad():
        reading = PackedReading(model, pack_turns(model, seen, pairs, kind == 'gold'), tokens)
        slow_state, fast_state, slow_words = model.start(3), model.start(3), []
        for number in range(min(len(d.turns) for d in dialogues)):
            rows = [TurnRow(s, (*history(d, number, kind), *p[number])) for s, d, p in zip(seen, dialogues, pairs)]
            slow = run_turn(model, rows, tokens, slow_state)
            index = torch.nonzero(slow.asked)[:, 0]
            if len(index):
                hidden = model.heard(reading.branch(number, index, fast_state[index]), [dialogues[i].turns[number].question for i in index])
                step = model.trk(hidden, fast_state[index])
                fast_state = fast_state.index_copy(0, index, step.state)
            slow_state = slow.step.state; slow_words.append(float(answer_loss(slow)))
        fast_words = reading.word_losses()[:len(slow_words)]
    worst[kind] = float((fast_state - slow_state).abs().max()), float((fast_words - torch.tensor(slow_words)).abs().max())
print({kind: [f'{value:.1e}' for value in pair] for kind, pair in worst.items()})
assert max(max(pair) for pair in worst.values()) < 2e-5

# %%
packed = {kind: pack_turns(model, seen[:1], pairs[:1], kind == 'gold') for kind in ('gold', 'no')}
figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.4), dpi=80)
for axis, (kind, rows) in zip(axes, packed.items()):
    start = int((rows.turn[0] == -1).sum()) - 12
    axis.imshow(rows.allowed[0, start:, start:], cmap='Blues', interpolation='nearest')
    for at in rows.word_at[0]: axis.plot(at - start, at - start, 'o', color='#D55E00', ms=5) if at >= 0 else None
    axis.set(title=f'{kind}: who looks at whom', xlabel='end of the video, then the turns')
plt.show()
assert packed['no'].allowed.sum() < packed['gold'].allowed.sum()
assert len(packed['gold'].ids[0]) > len(packed['no'].ids[0])


# %% [markdown]
# ## What it saves
#
# The same losses, with gradients, one row per turn and packed:

# %%
def slow_pass():
    state, total = model.start(3), 0
    for number in range(min(len(d.turns) for d in dialogues)):
        rows = [TurnRow(s, (*history(d, number, 'gold'), *p[number])) for s, d, p in zip(seen, dialogues, pairs)]
        output = run_turn(model, rows, [t.detach() for t in tokens], state); state = output.step.state
        total = total + answer_loss(output)
    total.backward()

def fast_pass():
    reading, state = PackedReading(model, pack_turns(model, seen, pairs), [t.detach() for t in tokens]), model.start(3)
    for number in range(reading.rows.word_at.shape[1]):
        index = torch.nonzero(reading.rows.word_at[:, number] >= 0)[:, 0]
        if len(index): state = state.index_copy(0, index, model.trk(reading.branch(number, index, state[index]), state[index]).state)
    reading.word_losses().sum().backward()


# %%
spent_s = {}
for name, run in (('one row per turn', slow_pass), ('packed', fast_pass)):
    run()
    times = []
    for _ in range(3): began = time.process_time(); run(); times.append(time.process_time() - began)
    spent_s[name] = min(times)
figure, axis = plt.subplots(figsize=(5.4, 1.5), dpi=90)
axis.barh(list(spent_s), [1000 * s for s in spent_s.values()], color=['#bbbbbb', '#0072B2']); axis.set(xlabel='CPU milliseconds, forward and backward'); plt.show()
print(f"packed is {spent_s['one row per turn'] / spent_s['packed']:.1f} times as fast")
assert spent_s['packed'] < spent_s['one row per turn']

# %% [markdown]
# ## What we proved
#
# * Hidden states, TRK's states and word losses of the packed row equal those of one row per turn, for histories of both kinds.
# * A conversation on kept keys and values gives the same hidden state at `[TRK]`; a batch does not change an answer.
# * The video is read once per dialogue instead of once per turn.
#
# ## Try it
#
# 1. Let two dialogues about one clip share the prefix, as notebook 20 does for questions. Which mask do you need?
# 2. Remove the branches, so that `[TRK]` never carries a state. Which of the checks fails first?
# 3. How long must a dialogue be before packing pays off ten times?
#
# <details><summary>Solutions</summary>
#
# 1. The mask of notebook 20: each dialogue sees the prefix and itself. States stay per dialogue, so the branches of
#    both must be told apart.
# 2. The comparison with turn-by-turn reading: the word's embedding lacks the state, so the second trajectory turn
#    differs first.
# 3. Cost without packing is the number of turns × (prefix + text so far), with packing prefix + all text. Solve turns
#    × prefix ≈ 10 × (prefix + turns × text).
#
# </details>
