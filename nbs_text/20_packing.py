# %% [markdown]
# # Packing
# > One clip, many questions: the video is read once, each question as if it were alone. Exactly equal to separate samples.

# %%
#| default_exp packing

# %% [markdown]
# #| export
# A packed row is prefix (segment 0: system message and videos) + one segment per dialogue (1, 2, …); padding is -1. A token
# sees what stands before it in the prefix and in its own segment. Positions of every segment restart where the prefix ends.

# %% [markdown]
# * **What** all questions on a clip in one sequence, with the video encoded and read once
# * **Why** 4D data has dozens of questions per video; a trainer that reads the video for each does the same work dozens of times
# * **Paper** none: the papers train one question per sample; packing is **[ours]**, and the same training signal to the last digit
# * **Needs** torch, transformers
# * **Time** 30 seconds
# * **Before this** notebooks 13, 13a and 14

# %%
#| export
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy, rms_norm
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.vision_utils import get_vision_window_index

from track4d_ref.flex_attention import flex_attention_is_on, flex_mask
from track4d_ref.patches import Video, refuse_if_too_long, rope_positions
from track4d_ref.prefix_attention import shared_prefix, use_prefix_attention
from track4d_ref.storage import InputError
from track4d_ref.tokens import IGNORE, answer_ids, chat_ids, prefix_ids
from track4d_ref.vlm import bare_model, layout_of, most_positions, video_inputs, video_token_counts

# %%
import time

import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import ask, build_vlm, choose, model_inputs

# %% [markdown]
# ## Why packing pays
#
# A tiny clip is 64 visual tokens, a real one 4,096; a question is 20 to 60. One sample per question reads
# $n\,(V + Q)$ tokens, a packed row $V + n\,Q$. The curve is the ratio; it flattens at $1 + V/Q$. The vision tower in front
# gains even more: it runs once instead of $n$ times.

# %%
questions = np.arange(1, 49)
fig, ax = plt.subplots(figsize=(6, 2.8), dpi=90)
for visual, name in ((64, 'tiny: 64 visual tokens'), (512, 'small: 512'), (4096, 'papers: 4,096')):
    gain = questions * (visual + 40) / (visual + questions * 40)
    ax.plot(questions, gain, label=name)
ax.set_xlabel('questions per clip'); ax.set_ylabel('tokens read, separate / packed'); ax.legend(fontsize=8); plt.show()
assert 24 * (4096 + 40) / (4096 + 24 * 40) > 19


# %% [markdown]
# ## One row
#
# The prefix comes from notebook 13, the segments too. Positions: inside the prefix they are those of notebook 13a. Every
# segment then begins at the position after `<|vision_end|>`, which is **the last position of the prefix plus one**. It is
# not the largest position plus one: the time axis of the video runs ahead of the words (notebook 13a's picture), and
# taking the maximum shifts every question by an amount that depends on the length of the video. Nothing crashes then; the
# answers are just a little wrong.

# %%
#| export
@dataclass(frozen=True)
class ClipExample:
    "The videos of one clip and all dialogues about them; a dialogue that ends with the user waits for an answer."
    name: str
    videos: tuple[Video, ...]
    dialogues: tuple[tuple[dict, ...], ...]
    caption: str = ''                 # words that are true of the whole clip, for `naming_loss`; '' = none

@dataclass(frozen=True)
class PackedClip:
    "One packed row, all (length,) but positions (3, length); weights are 1 / labels of the dialogue, so dialogues count alike."
    name: str
    ids: torch.Tensor
    labels: torch.Tensor
    segments: torch.Tensor
    positions: torch.Tensor
    weights: torch.Tensor
    caption: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))  # (words,) different token ids


# %%
#| export
def pack(model, tokenizer, example: ClipExample, most_tokens: int | None = None) -> PackedClip:
    "The packed row of a clip; InputError if one dialogue with its videos exceeds `most_tokens` or the model's own limit."
    config = bare_model(model).config
    counts = video_token_counts(model, example.videos)
    inputs = video_inputs_of_positions(model, example.videos)
    ids = prefix_ids(tokenizer, counts)
    positions = [rope_positions(np.array(ids) == config.video_token_id, *inputs,
                                config.vision_config.tokens_per_second, config.vision_config.spatial_merge_size)]
    start = positions[0][0, -1] + 1
    labels, segments, weights = [IGNORE] * len(ids), [0] * len(ids), [0.] * len(ids)
    for number, messages in enumerate(example.dialogues, 1):
        new_ids, new_labels = chat_ids(tokenizer, messages, f'{example.name}, dialogue {number}')
        text_tokens = len(new_ids) + len(positions[0][0]) - sum(counts)
        refuse_if_too_long(example.name, sum(counts), text_tokens, most_tokens or most_positions(model),
                           layout_of(model), example.videos[0].frames.shape if example.videos else ())
        learned = sum(label != IGNORE for label in new_labels)
        ids, labels, segments = ids + new_ids, labels + new_labels, segments + [number] * len(new_ids)
        weights += [(label != IGNORE) / max(learned, 1) for label in new_labels]
        positions.append(np.broadcast_to(start + np.arange(len(new_ids)), (3, len(new_ids))))
    return PackedClip(example.name, torch.tensor(ids), torch.tensor(labels), torch.tensor(segments),
                      torch.as_tensor(np.concatenate(positions, 1)), torch.tensor(weights, dtype=torch.float64),
                      torch.tensor(sorted(set(answer_ids(tokenizer, example.caption))), dtype=torch.int64))

def video_inputs_of_positions(model, videos: tuple[Video, ...]) -> tuple[list, list]:
    "(grids, seconds per pair of frames) of the videos, as `rope_positions` takes them."
    layout = layout_of(model)
    return ([layout.grid(*v.frames.shape[:3], v.name) for v in videos],
            [v.seconds_per_frame * layout.temporal for v in videos])


# %% [markdown]
# The example has an uneven video, three dialogues of different lengths, and one of them with two turns:

# %%
user = lambda text: {'role': 'user', 'content': text}
says = lambda text: {'role': 'assistant', 'content': text}
corpus = ['How does the camera move? A. forward and left B. pan right C. tilt up D. backward. Answer with the letter.',
          'Does the camera move forward? Answer Yes or No.', 'Where is the red ball? left right up down'] * 9
preset = load_preset('tiny')
tokenizer = train_tokenizer(corpus, 400)
model = build_vlm(preset, tokenizer, seed=2)
rng = np.random.default_rng(1)
film = lambda name, *shape: Video(name, rng.integers(0, 255, (*shape, 3), dtype=np.uint8), 0.7)
example = ClipExample('clip 7', (film('wide', 6, 84, 140),), (
    (user('How does the camera move?'), says('forward and left')),
    (user('Does the camera move forward? Answer Yes or No.'), says('Yes')),
    (user('Where is the red ball?'), says('left'), user('Where is it now?'), says('down'))))
row = pack(model, tokenizer, example)
print({int(s): int((row.segments == s).sum()) for s in row.segments.unique()}, 'tokens per segment (0 = prefix)')
assert (row.labels != IGNORE).sum() == (row.weights > 0).sum() and abs(float(row.weights.sum()) - 3) < 1e-6

# %%
fig, ax = plt.subplots(figsize=(7.5, 2.8), dpi=90)
for axis, label, colour in zip(row.positions, ('time', 'row', 'column'), ('#c1440e', '#2a6f97', '#52b788')):
    ax.plot(axis, '.-', ms=3, lw=.5, label=label, color=colour)
for segment in range(1, 4): ax.axvspan(*np.flatnonzero(row.segments == segment)[[0, -1]] + [-.5, .5], color='#eeeeee', zorder=0)
ax.set_xlabel('token'); ax.set_ylabel('rotary position'); ax.legend(fontsize=8)
ax.set_title('Positions restart for every dialogue (grey) where the prefix ended', fontsize=10); plt.show()
starts = [int(row.positions[0, row.segments == segment][0]) for segment in (1, 2, 3)]
assert len(set(starts)) == 1 and starts[0] == row.positions[1, row.segments == 0][-1] + 1 < row.positions.max()


# %% [markdown]
# ## Who may look at whom
#
# First as two loops with the rule in words, then as one comparison of the segment numbers. (Where the model runs on SDPA,
# `packed_hidden` computes only the coloured parts, see `14c_prefix_attention`; the mask serves every other attention.)

# %%
def attention_mask_v1(segments):
    allowed = np.zeros((len(segments), len(segments)), bool)
    for query in range(len(segments)):
        for key in range(query + 1):
            allowed[query, key] = segments[key] == 0 or segments[key] == segments[query]
    return allowed


# %%
#| export
def attention_mask(segments: torch.Tensor) -> torch.Tensor:
    "Boolean mask (B, 1, L, L) of packed rows (B, L): causal, prefix and own segment only; padding sees padding."
    order = torch.arange(segments.shape[1], device=segments.device)
    query, key = segments[:, :, None], segments[:, None, :]
    allowed = ((key == 0) | (key == query)) & (order[None, :] <= order[:, None])
    return allowed[:, None]


# %%
mask = attention_mask(row.segments[None])[0, 0]
fig, ax = plt.subplots(figsize=(4.4, 4.4), dpi=90)
shade = mask.int() * (1 + (row.segments[None, :] > 0).int())
ax.imshow(shade, cmap=plt.matplotlib.colors.ListedColormap(['#ffffff', '#9db4c0', '#2d9d5f']), interpolation='nearest')
ax.set_xlabel('token that is looked at'); ax.set_ylabel('token that looks')
ax.set_title('Shared prefix (blue), one triangle per dialogue', fontsize=10); plt.show()
assert (mask.numpy() == attention_mask_v1(row.segments.numpy())).all()


# %% [markdown]
# ## Several clips in one batch
#
# Rows are padded to the longest. Every video of the batch goes through the vision tower in one call.

# %%
#| export
@dataclass(frozen=True)
class PackedBatch:
    "Padded rows (B, L), positions (3, B, L), and what the vision tower needs; `features` replace the tower, `states` its blocks."
    ids: torch.Tensor
    labels: torch.Tensor
    segments: torch.Tensor
    positions: torch.Tensor
    weights: torch.Tensor
    pixels: torch.Tensor | None
    grids: torch.Tensor | None
    features: torch.Tensor | None = None
    states: torch.Tensor | None = None           # what a frozen tower gives its merger, from `tower_states`
    captions: tuple[torch.Tensor, ...] = ()

    @property
    def dialogues(self) -> int: return int(self.segments.amax(1).sum())

    def to(self, device) -> 'PackedBatch':
        "The same batch on another device."
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **moved)


# %%
#| export
def collate(model, rows: list[PackedClip], examples: list[ClipExample], pad_id: int = 0,
            features: list[torch.Tensor] | None = None, states: list[torch.Tensor] | None = None) -> PackedBatch:
    "One batch of packed rows; with `features` or `states` (one tensor per clip) the frames are not touched."
    stack = lambda name, filler: pad_sequence([getattr(row, name) for row in rows], batch_first=True, padding_value=filler)
    positions = pad_sequence([row.positions.T for row in rows], batch_first=True).permute(2, 0, 1)  # (3, B, L)
    video = video_inputs(model, tuple(video for example in examples for video in example.videos)) if features is None and states is None else {}
    return PackedBatch(stack('ids', pad_id), stack('labels', IGNORE), stack('segments', -1), positions, stack('weights', 0.),
                       video.get('pixel_values_videos'), video.get('video_grid_thw'),
                       torch.cat(features) if features else None,
                       torch.cat(states) if states else None, tuple(row.caption for row in rows))

def visual_features(model, batch: PackedBatch) -> torch.Tensor | None:
    "Features (visual tokens, width) of all videos in the batch; cached ones where the batch has them, None if blind."
    tower = bare_model(model).model.visual
    if batch.states is not None and batch.features is None: return tower.merger(batch.states.flatten(0, 1))
    if batch.features is not None or batch.pixels is None: return batch.features
    return tower(batch.pixels.to(tower.dtype), grid_thw=batch.grids).pooler_output


# %% [markdown]
# The last part of the tower, the *merger*, turns 2 × 2 patches into one token of the language model's width. The papers
# freeze the encoder and train what connects it; then the states before the merger are what can be kept.

# %%
#| export
def tower_states(model, batch: PackedBatch) -> torch.Tensor:
    "States (visual tokens, merge * merge, width) of the tower before its merger, in the order of the tokens."
    tower = bare_model(model).model.visual
    states = tower(batch.pixels.to(tower.dtype), grid_thw=batch.grids).last_hidden_state   # in the order of its windows
    order, _ = get_vision_window_index(batch.grids, tower.spatial_merge_size, tower.window_size, tower.patch_size)
    return states.unflatten(0, (-1, tower.spatial_merge_unit))[torch.argsort(order)]


# %%
wide = ClipExample('large', (film('large', 2, 168, 140),), example.dialogues[:1])          # larger than one window
batch = collate(model, [pack(model, tokenizer, wide)], [wide])
with torch.no_grad():
    kept = tower_states(model, batch)
    assert torch.equal(visual_features(model, replace(batch, pixels=None, states=kept)), visual_features(model, batch))


# %%
#| export
def packed_hidden(model, batch: PackedBatch) -> torch.Tensor:
    "Last hidden states (B, L, width) of packed rows."
    core = bare_model(model)
    words = core.get_input_embeddings()(batch.ids)
    seen = visual_features(model, batch)
    if seen is not None:
        words = words.masked_scatter((batch.ids == core.config.video_token_id)[..., None], seen.to(words.dtype))
    if flex_attention_is_on(core): mask = dict(full_attention=flex_mask(batch.segments))
    elif use_prefix_attention(core): mask = dict(full_attention=shared_prefix(batch.segments))
    else: mask = attention_mask(batch.segments)
    return core.model(inputs_embeds=words, attention_mask=mask, position_ids=batch.positions, use_cache=False).last_hidden_state

def packed_loss(model, batch: PackedBatch) -> torch.Tensor:
    "Sum over dialogues of their mean cross-entropy; logits are computed only where something is learned."
    where = batch.labels[:, 1:] != IGNORE
    logits = bare_model(model).lm_head(packed_hidden(model, batch)[:, :-1][where])
    losses = cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), batch.labels[:, 1:][where], reduction='none')
    return (losses * batch.weights[:, 1:][where].to(losses.dtype)).sum()


# %% [markdown]
# ## The proof
#
# Separate samples, through the library's own forward and loss, one dialogue at a time; packed rows of two clips with
# different videos, in one call. Loss **and every gradient** must agree: to 1e-9 in float64 and 1e-5 in float32.
#
# One obstacle: the library computes its norms and the rotation of the vision tower in float32 even inside a float64 model,
# and float32 gradients summed in another order differ by 1e-7. For the proof in float64 we lift these islands.

# %%
second = ClipExample('clip 9', (film('tall', 4, 112, 56), film('small', 2, 56, 84)), (
    (user('Does the camera move forward? Answer Yes or No.'), says('No')), (user('How does the camera move?'), says('pan right'))))

from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as library

def norm_in_own_precision(self, hidden_states):
    return self.weight * hidden_states * torch.rsqrt(hidden_states.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

def rotate_in_own_precision(query, key, cos, sin):
    cos, sin = cos.unsqueeze(-2).to(query.dtype), sin.unsqueeze(-2).to(query.dtype)
    return [value * cos + library.rotate_half(value) * sin for value in (query, key)]

def gradients(model): return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

def separate(model, examples):
    model.zero_grad(); total = 0.
    for clip in examples:
        for dialogue in clip.dialogues:
            inputs = model_inputs(model, tokenizer, [(clip.videos, dialogue)])
            inputs['pixel_values_videos'] = inputs['pixel_values_videos'].to(model.dtype)
            logits = model(**{k: v for k, v in inputs.items() if k != 'labels'}).logits[0, :-1]
            loss = cross_entropy(logits, inputs['labels'][0, 1:]); loss.backward(); total += loss.item()
    return total, gradients(model)

def packed(model, examples):
    model.zero_grad()
    loss = packed_loss(model, collate(model, [pack(model, tokenizer, clip) for clip in examples], examples))
    loss.backward()
    return loss.item(), gradients(model)


# %%
from unittest.mock import patch

results = {}
islands = (patch.object(library.Qwen2_5_VLRMSNorm, 'forward', norm_in_own_precision),
           patch.object(library, 'apply_rotary_pos_emb_vision', rotate_in_own_precision))
for dtype, limit in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
    model = build_vlm(preset, tokenizer, seed=2).to(dtype)
    lifted = islands if dtype == torch.float64 else ()
    for island in lifted: island.start()
    (loss_a, grad_a), (loss_b, grad_b) = separate(model, [example, second]), packed(model, [example, second])
    for island in lifted: island.stop()
    results[str(dtype)] = worst = {name: float((grad_a[name] - grad_b[name]).abs().max()) for name in grad_a}
    print(f'{str(dtype):14s} loss {loss_a:.9f} and {loss_b:.9f}, largest difference of a gradient {max(worst.values()):.1e}')
    assert grad_a.keys() == grad_b.keys() and len(grad_a) == len(list(model.parameters()))
    assert abs(loss_a - loss_b) < limit * 10 and max(worst.values()) < limit

# %% [markdown]
# Parameter by parameter, sorted: in float64 nothing but rounding is left.

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.6), dpi=90)
for (name, worst), colour in zip(results.items(), ('#2a6f97', '#c1440e')):
    ax.plot(sorted(max(value, 1e-20) for value in worst.values()), color=colour, label=name)
ax.set_yscale('log'); ax.set_xlabel('parameter'); ax.set_ylabel('|gradient packed - separate|'); ax.legend(fontsize=8); plt.show()
assert max(results['torch.float64'].values()) < 1e-9

# %% [markdown]
# The proof has teeth. With the tempting mistake (go on after the *largest* position) the loss is different:

# %%
wrong = replace(row, positions=torch.where(row.segments > 0, row.positions - starts[0] + row.positions[:, row.segments == 0].max() + 1, row.positions))
model = build_vlm(preset, tokenizer, seed=2).double()
with torch.no_grad(): right_loss, wrong_loss = [float(packed_loss(model, collate(model, [r], [example]))) for r in (row, wrong)]
print('right', right_loss, ' with the mistake', wrong_loss)
assert abs(right_loss - wrong_loss) > 1e-7

# %% [markdown]
# The order of the questions does not matter, nor does what else is in the batch, nor whether features come from a cache:

# %%
turned = replace(example, dialogues=example.dialogues[::-1])
with torch.no_grad():
    alone = float(packed_loss(model, collate(model, [row], [example])))
    reverse = float(packed_loss(model, collate(model, [pack(model, tokenizer, turned)], [turned])))
    batch = collate(model, [row], [example])
    cached = float(packed_loss(model, collate(model, [row], [example], features=[visual_features(model, batch)])))
assert abs(alone - reverse) < 1e-9 and alone == cached


# %% [markdown]
# ## What a clip is called
#
# A new model has a long plateau: while it learns to write, what it sees is noise to it, and by the time it can write it
# has learned to look away. A second, direct path ends that: the mean visual token of a clip, read by the same word table
# that reads answers, must **name** the words of a caption, such as "moves forward, pans left":
#
# $$\mathcal L_\text{name} = -\sum_{\text{clips}} \frac1{|W|}\sum_{w\in W} \log \operatorname{softmax}\big(E\,\operatorname{norm}(\bar v)\big)_w$$
#
# with $E$ the tied word table and $\bar v$ the mean over the clip's visual tokens. It is off unless asked for **[ours]**; a
# model that has been pre-trained with captions does not need it.

# %%
#| export
def naming_loss(model, batch: PackedBatch, seen: torch.Tensor) -> torch.Tensor:
    "Sum over clips with video and caption of the mean cross-entropy of the caption's words, told by the mean visual token."
    core = bare_model(model)
    tokens = (batch.ids == core.config.video_token_id).sum(1)                                        # (B,)
    total = seen.new_zeros(())
    for clip, caption in zip(seen.split(tokens.tolist()), batch.captions):
        if len(clip) == 0 or len(caption) == 0: continue
        mean = rms_norm(clip.mean(0), clip.shape[-1:])
        total = total - core.lm_head(mean).log_softmax(-1)[caption.to(seen.device)].mean()
    return total


# %%
named = [replace(clip, caption=caption) for clip, caption in ((example, 'move forward'), (second, ''))]
rows = [pack(model, tokenizer, clip) for clip in named]
batch = collate(model, rows, named)
with torch.no_grad():
    seen = visual_features(model, batch)
    by_hand = seen[:int((rows[0].ids == model.config.video_token_id).sum())].mean(0)
    scores = (model.lm_head.weight @ (by_hand / by_hand.square().mean().sqrt())).log_softmax(0)
    expected = -np.mean([float(scores[word]) for word in set(answer_ids(tokenizer, 'move forward'))])
    print('naming loss', float(naming_loss(model, batch, seen)), 'by hand', expected)
    assert abs(float(naming_loss(model, batch, seen)) - expected) < 1e-6


# %% [markdown]
# ## Bounded padding
#
# Clips have different numbers of questions. Rows of similar length go together: we shuffle, sort within pools of some
# batches, cut, and shuffle the batches. The pool keeps the order random; the sorting keeps padding small.

# %%
#| export
def split_dialogues(example: ClipExample, most: int) -> list[ClipExample]:
    "Examples with at most `most` dialogues each, in order; the video is shared inside each."
    return [replace(example, dialogues=example.dialogues[at:at + most]) for at in range(0, len(example.dialogues), most)]

def length_batches(lengths: np.ndarray, batch: int, rng: np.random.Generator, pool: int = 8) -> Iterator[np.ndarray]:
    "Indices of one epoch in batches of similar length, in random order; the last batch of the epoch may be smaller."
    order = rng.permutation(len(lengths))
    batches = []
    for at in range(0, len(order), batch * pool):
        part = order[at:at + batch * pool]
        part = part[np.argsort(lengths[part], kind='stable')]
        batches += [part[i:i + batch] for i in range(0, len(part), batch)]
    for number in rng.permutation(len(batches)): yield batches[number]

def padding_share(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    "Share of padding among all tokens of the padded batches."
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - sum(lengths[batch].sum() for batch in batches) / padded


# %%
lengths = np.random.default_rng(3).integers(150, 900, 333)
shares = {pool: padding_share(lengths, list(length_batches(lengths, 16, np.random.default_rng(0), pool))) for pool in (1, 2, 4, 8, 16)}
fig, ax = plt.subplots(figsize=(5.5, 2.2), dpi=90)
ax.bar([str(pool) for pool in shares], [100 * share for share in shares.values()], color='#9db4c0')
ax.set_xlabel('batches per pool'); ax.set_ylabel('padding (%)'); plt.show()
covered = np.concatenate(list(length_batches(lengths, 16, np.random.default_rng(0))))
assert sorted(covered.tolist()) == list(range(333)) and shares[8] < 0.15 < shares[1]


# %% [markdown]
# ## Answers, packed
#
# An open dialogue ends with the user; the next word is the answer. For questions with options (letters, Yes / No) it is
# enough to compare the logits of the options' first tokens at that place: one forward for all questions of several clips.

# %%
#| export
@torch.no_grad()
def answer_logits(model, tokenizer, examples: list[ClipExample]) -> list[torch.Tensor]:
    "For each clip the logits (dialogues, vocabulary) of the first word of each open dialogue's answer."
    rows = [pack(model, tokenizer, example) for example in examples]
    batch = collate(model, rows, examples).to(bare_model(model).device)
    hidden = packed_hidden(model, batch)
    found = []
    for row, states in zip(rows, hidden):
        last = [int(torch.nonzero(row.segments == number)[-1]) for number in range(1, int(row.segments.max()) + 1)]
        found.append(bare_model(model).lm_head(states[last]).float().cpu())
    return found

def pick(logits: torch.Tensor, tokenizer, choices: tuple[str, ...]) -> str:
    "The choice whose first token has the highest logit (vocabulary,); InputError if two choices begin alike."
    first = [answer_ids(tokenizer, choice)[0] for choice in choices]
    if len(set(first)) < len(first): raise InputError(f'choices {choices} begin with the same token; use letters')
    return choices[int(logits[first].argmax())]


# %%
model = build_vlm(preset, tokenizer, seed=2)
with torch.no_grad():
    for parameter in model.parameters():
        if parameter.ndim == 2: parameter.mul_(3)
waiting = [replace(clip, dialogues=tuple(dialogue[:-1] for dialogue in clip.dialogues)) for clip in (example, second)]
scores = answer_logits(model, tokenizer, waiting)
for clip, logits in zip(waiting, scores):
    for dialogue, line in zip(clip.dialogues, logits):
        alone = model_inputs(model, tokenizer, [(clip.videos, dialogue)], pad_left=True)
        with torch.no_grad(): reference = model(**alone).logits[0, -1]
        assert torch.allclose(line, reference, atol=1e-3)
        print(f"{dialogue[-1]['content']:50s}", pick(line, tokenizer, ('Yes', 'No')))


# %% [markdown]
# Options can also be compared as whole answers, without letters: the log-probability of each option's text, all options of
# all questions in one row. Same numbers as `choose` of notebook 14.

# %%
#| export
@torch.no_grad()
def option_scores(model, tokenizer, example: ClipExample, choices: list[tuple[str, ...]]) -> list[torch.Tensor]:
    "For each open dialogue the log-probabilities (options,) of its choices as the assistant's whole answer."
    if any(len(dialogue) > 1 for dialogue in example.dialogues):
        raise InputError(f'{example.name}: option_scores takes dialogues of one question; cut the earlier turns')
    closed = tuple((*dialogue, {'role': 'assistant', 'content': choice}) for dialogue, options in zip(example.dialogues, choices) for choice in options)
    told = replace(example, dialogues=closed)
    batch = collate(model, [pack(model, tokenizer, told)], [told]).to(bare_model(model).device)
    where = batch.labels[:, 1:] != IGNORE
    logits = bare_model(model).lm_head(packed_hidden(model, batch)[:, :-1][where]).float()
    said = logits.log_softmax(-1).gather(1, batch.labels[:, 1:][where][:, None])[:, 0].cpu()
    segments = batch.segments[:, 1:][where].cpu() - 1
    return list(torch.zeros(len(closed)).index_add(0, segments, said).split([len(options) for options in choices]))


# %%
questions = replace(example, dialogues=tuple(dialogue[:1] for dialogue in example.dialogues))
options = [('forward and left', 'pan right', 'A'), ('Yes', 'No'), ('left', 'right up')]
for dialogue, texts, line in zip(questions.dialogues, options, option_scores(model, tokenizer, questions, options)):
    print(dialogue[0]['content'], {text: round(float(score), 1) for text, score in zip(texts, line)})
    assert torch.allclose(line, choose(model, tokenizer, questions.videos, dialogue, texts), atol=2e-2)


# %% [markdown]
# Free answers: read the prefix once, repeat its cache for each question, read the questions side by side, then go on word
# by word. The words are those of the library's `generate`.

# %%
#| export
@torch.no_grad()
def ask_packed(model, tokenizer, example: ClipExample, most_words: int = 16) -> list[str]:
    "Greedy answers to all open dialogues of one clip; the prefix is read once and its cache shared."
    core, row = bare_model(model), pack(model, tokenizer, example)
    device, front = core.device, int((row.segments == 0).sum())
    cut = lambda values, number: values[..., row.segments == number]
    rows, count = [cut(row.ids, n).flip(0) for n in range(1, len(example.dialogues) + 1)], len(example.dialogues)
    prefix = collate(model, [replace(row, **{name: cut(getattr(row, name), 0) for name in
                                             ('ids', 'labels', 'segments', 'positions', 'weights')})], [example]).to(device)
    words = core.get_input_embeddings()(prefix.ids)
    seen = visual_features(model, prefix)
    if seen is not None: words = words.masked_scatter((prefix.ids == core.config.video_token_id)[..., None], seen.to(words.dtype))
    cache = DynamicCache(config=core.config.text_config)
    core.model(inputs_embeds=words, position_ids=prefix.positions, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(count)
    ids = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id).flip(1).to(device)  # padded on the left
    lengths = torch.tensor([len(r) for r in rows], device=device)
    start = row.positions[0, front - 1].to(device) + 1
    return _continue_greedily(core, tokenizer, cache, ids, lengths, front, start, most_words)


# %%
#| export
def _continue_greedily(core, tokenizer, cache, ids, lengths, front: int, start, most_words: int) -> list[str]:
    width = ids.shape[1]
    position = torch.arange(width, device=ids.device)[None] - (width - lengths)[:, None]                  # (Q, S)
    mask = torch.cat([torch.ones(len(ids), front, device=ids.device).long(), (position >= 0).long()], 1)
    position = start + position.clamp(min=0)
    done, said = torch.zeros(len(ids), dtype=torch.bool, device=ids.device), []
    for _ in range(most_words):
        out = core.model(inputs_embeds=core.get_input_embeddings()(ids), attention_mask=mask, past_key_values=cache,
                         position_ids=position.expand(3, -1, -1), use_cache=True).last_hidden_state[:, -1]
        word = core.lm_head(out).argmax(-1).masked_fill(done, tokenizer.pad_token_id)
        said.append(word)
        done |= word == tokenizer.eos_token_id
        if bool(done.all()): break
        ids, position = word[:, None], position[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return [tokenizer.decode(line, skip_special_tokens=True) for line in torch.stack(said, 1)]


# %%
for clip in waiting:
    together = ask_packed(model, tokenizer, clip, most_words=6)
    library = [ask(model, tokenizer, [(clip.videos, dialogue)], most_words=6)[0] for dialogue in clip.dialogues]
    print(together)
    assert together == library

# %% [markdown]
# ## How much faster
#
# Measured here and now, one training step (forward and backward) for 1 to 24 questions on a tiny clip. The benchmark
# folder does this with care, against a peer; this is only the shape of the curve.

# %%
model = build_vlm(preset, tokenizer)
clip = film('square', 8, 112, 112)
def step_seconds(count, together):
    dialogues = tuple((user(corpus[k % 3]), says('Yes')) for k in range(count))
    groups = [ClipExample('c', (clip,), dialogues)] if together else [ClipExample('c', (clip,), (d,)) for d in dialogues]
    begin = time.perf_counter()
    for group in groups: packed_loss(model, collate(model, [pack(model, tokenizer, group)], [group])).backward()
    return time.perf_counter() - begin

step_seconds(2, True)
counts = (1, 3, 6, 12, 24)
rates = {name: [n / min(step_seconds(n, flag) for _ in range(2)) for n in counts] for name, flag in (('packed', True), ('separate', False))}
fig, ax = plt.subplots(figsize=(6, 2.8), dpi=90)
for name, values in rates.items(): ax.plot(counts, values, 'o-', label=name)
ax.set_xlabel('questions per clip'); ax.set_ylabel('questions per second'); ax.legend(); plt.show()
print(f"24 questions: {rates['packed'][-1] / rates['separate'][-1]:.1f} times as many questions per second")
assert rates['packed'][-1] > rates['separate'][-1]

# %% [markdown]
# ## What we proved
#
# * packed and separate samples have the same loss and the same gradients, with several videos, uneven sizes and two turns;
# * positions that go on after the largest position are caught;
# * order of questions, other clips in the batch and cached features change nothing;
# * packed answers are the library's answers.

# %% [markdown]
# ## Try it
#
# 1. Let questions see each other (drop `key == query`): which assertion fails first?
# 2. Set `weights` to one per label. What does a trajectory of 60 tokens do to a Yes/No question beside it?
# 3. Change `seconds_per_frame` of the example to 0.01. Why does the mistake of *The proof* go unnoticed then?
#
# <details><summary>Solutions</summary>
#
# 1. The comparison with separate samples, at the second question: the first one sees the same as before.
# 2. It outweighs the question beside it sixty to two in the clip's gradient; weights of 1/labels make both count
#    alike.
# 3. With such short frames all time positions round to the same value, so a mistake in them cannot show. Proofs need
#    inputs in which the parts differ.
#
# </details>
