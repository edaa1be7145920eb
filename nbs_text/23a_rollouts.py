# %% [markdown]
# # Rollouts
# > A group of answers to one question: sampled with the video read once, scored in one packed row.

# %%
#| default_exp rollouts

# %% [markdown]
# #| export
# A group is G completions of one prompt. Completions are token ids without padding; they end with the end token unless
# `finished` is False. Log-probabilities are padded to (completions, longest), with a mask of the same shape.

# %% [markdown]
# * **What** sampling for reinforcement learning, and scoring the samples, both with a shared prefix
# * **Why** GRPO asks the same question twelve times; without sharing, the video is read twelve times for each of three passes
# * **Paper** MLLM-4D §5.3: G = 12, temperature 1.0, at most 4096 tokens (script); sharing the prefix is **[ours]**
# * **Needs** `packing`, `vlm`
# * **Time** 20 seconds
# * **Before this** `20_packing`

# %%
#| export
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

# %%
#| export
from track4d_ref.packing import ClipExample, PackedClip, collate, pack, packed_hidden, visual_features
from track4d_ref.storage import InputError
from track4d_ref.tokens import IGNORE
from track4d_ref.vlm import bare_model

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

# %%
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.tokens import answer_ids, train_tokenizer
from track4d_ref.viz import INK, MUTED, PALETTE, use_style
from track4d_ref.vlm import build_vlm, model_inputs

use_style()
torch.set_num_threads(1)                             # so small a model gains nothing from a second thread


# %% [markdown]
# ## Sampling with a generator
#
# Temperature divides the logits; top-p keeps the most likely words whose probabilities together reach p, and always the
# first. The random number comes from a `torch.Generator` that is handed in, so a run can be repeated and resumed.

# %%
#| export
def sample_words(logits: torch.Tensor, generator: torch.Generator, temperature: float = 1.0,
                 top_p: float = 1.0) -> torch.Tensor:
    "One word per row of logits (rows, vocabulary); temperature 0 takes the likeliest."
    if temperature == 0: return logits.argmax(-1)
    share = torch.softmax(logits.float() / temperature, -1)
    if top_p < 1:
        ranked, order = share.sort(-1, descending=True)
        ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= top_p, 0.0)     # the word that crosses p stays
        share = torch.zeros_like(share).scatter(-1, order, ranked)
    return torch.multinomial(share.cpu(), 1, generator=generator)[:, 0].to(logits.device)


# %%
probabilities = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03])
many = probabilities.log().expand(20000, -1)
figure, axes = plt.subplots(1, 3, figsize=(8, 2.2), sharey=True)
for axis, (temperature, top_p) in zip(axes, ((1.0, 1.0), (0.5, 1.0), (1.0, 0.8))):
    counts = torch.bincount(sample_words(many, torch.Generator().manual_seed(0), temperature, top_p), minlength=5) / len(many)
    axis.bar(range(5), counts, color=PALETTE[0]); axis.plot(range(5), probabilities, 'o', color=PALETTE[1])
    axis.set(title=f'temperature {temperature}, top-p {top_p}', xlabel='word')
plt.show()
assert counts[3:].sum() == 0 and abs(counts[0] - 0.5 / 0.9) < 0.02
assert (sample_words(many, torch.Generator(), 0.0) == 0).all()

# %% [markdown]
# ## One reading, G continuations
#
# The prompts of a step are read side by side, padded on the left. Their key–value caches are then repeated G times, and the
# G continuations go on word by word. What the video cost was paid once per *prompt*. A completion that has ended keeps
# running with padding until the last one of the batch is done; its surplus is cut off. The marks that stand for visual
# tokens are never sampled: an untrained model would say them, and the packed row would look for a video there. **[ours]**
#
# A frozen tower sees the same video again in every step. Who keeps its states (notebook 20) may hand them in as `states`, and no
# pixel is read again. **[ours]**

# %%
#| export
States = Callable[[ClipExample], torch.Tensor]     # a prompt → states of the frozen tower before its merger

@dataclass(frozen=True)
class Group:
    "G completions (tensors of ids) of one prompt, their texts, and whether each ended by itself."
    prompt: ClipExample
    completions: tuple[torch.Tensor, ...]
    texts: tuple[str, ...]
    finished: tuple[bool, ...]


# %%
#| export
def _check_prompt(prompt: ClipExample) -> None:
    if len(prompt.dialogues) != 1 or len(prompt.dialogues[0]) % 2 == 0:
        raise InputError(f'prompt {prompt.name}: has {len(prompt.dialogues)} dialogue(s); give one that ends with the user')


# %%
#| export
def read_prompts(model, tokenizer, prompts: list[ClipExample], states: States | None = None):
    "(cache, mask (B, L), next position (B,), hidden state of the last word (B, width)) of prompts padded on the left."
    core = bare_model(model)
    rows = [pack(model, tokenizer, prompt) for prompt in prompts]
    longest = max(len(row.ids) for row in rows)
    left = lambda values, filler: torch.nn.functional.pad(values, (longest - values.shape[-1], 0), value=filler)
    ids = torch.stack([left(row.ids, tokenizer.pad_token_id) for row in rows]).to(core.device)
    mask = torch.stack([left(torch.ones_like(row.ids), 0) for row in rows]).to(core.device)
    positions = torch.stack([left(row.positions, 0) for row in rows], 1).to(core.device)                  # (3, B, L)
    words = core.get_input_embeddings()(ids)
    kept = None if states is None else [states(prompt) for prompt in prompts]
    seen = visual_features(model, collate(model, rows, prompts, states=kept).to(core.device))
    if seen is not None: words = words.masked_scatter((ids == core.config.video_token_id)[..., None], seen.to(words.dtype))
    cache = DynamicCache(config=core.config.text_config)
    hidden = core.model(inputs_embeds=words, attention_mask=mask, position_ids=positions, past_key_values=cache,
                        use_cache=True)
    return cache, mask, positions[0, :, -1] + 1, hidden.last_hidden_state[:, -1]


# %%
#| export
@torch.no_grad()
def rollouts(model, tokenizer, prompts: list[ClipExample], count: int, most_words: int, generator: torch.Generator,
             temperature: float = 1.0, top_p: float = 1.0, states: States | None = None) -> list[Group]:
    "`count` sampled completions of each prompt; every prompt with its video is read once."
    for prompt in prompts: _check_prompt(prompt)
    core = bare_model(model)
    cache, mask, position, hidden = read_prompts(model, tokenizer, prompts, states)
    cache.batch_repeat_interleave(count)
    mask, position, hidden = (value.repeat_interleave(count, 0) for value in (mask, position, hidden))
    unsayable = torch.tensor([core.config.video_token_id, core.config.image_token_id], device=core.device)
    done, said = torch.zeros(len(mask), dtype=torch.bool, device=core.device), []
    for step in range(most_words):
        logits = core.lm_head(hidden).index_fill(-1, unsayable, -torch.inf)
        word = sample_words(logits, generator, temperature, top_p).masked_fill(done, tokenizer.pad_token_id)
        said.append(word)
        done |= word == tokenizer.eos_token_id
        if bool(done.all()) or step == most_words - 1: break
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        place = (position + step)[None, :, None].expand(3, -1, -1)
        hidden = core.model(inputs_embeds=core.get_input_embeddings()(word[:, None]), attention_mask=mask, use_cache=True,
                            past_key_values=cache, position_ids=place).last_hidden_state[:, -1]
    return [_group(tokenizer, prompt, ids) for prompt, ids in zip(prompts, torch.stack(said, 1).cpu().split(count))]


# %%
#| export
def _group(tokenizer, prompt: ClipExample, ids: torch.Tensor) -> Group:
    "Rows (G, S) cut after their end token."
    ended = ids == tokenizer.eos_token_id
    lengths = torch.where(ended.any(1), ended.int().argmax(1) + 1, ids.shape[1]).tolist()
    completions = tuple(row[:length] for row, length in zip(ids, lengths))
    texts = tuple(tokenizer.decode(row, skip_special_tokens=True) for row in completions)
    return Group(prompt, completions, texts, tuple(ended.any(1).tolist()))


# %%
user = lambda text: ({'role': 'user', 'content': text},)
corpus = ['How far does the red ball move? A. 1.0 B. 2.0 C. 0.4 D. 3.1', 'Answer with the letter.', '<thinking> Camera Center: [0.1, 0.2, 0.3]'] * 9
tokenizer, preset = train_tokenizer(corpus, 320), load_preset('tiny')
rng = np.random.default_rng(0)
film = lambda name, frames, height, width: Video(name, rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8), 0.25)
prompts = [ClipExample('clip 1', (film('a', 8, 112, 84),), (user(corpus[0] + ' Answer with the letter.'),)),
           ClipExample('clip 2', (film('b', 4, 56, 112),), (user('How far does the red ball move?'),))]
model = build_vlm(preset, tokenizer, seed=1)
with torch.no_grad():
    for parameter in model.parameters():
        if parameter.ndim == 2: parameter.mul_(2)          # livelier answers than those of an untrained model
groups = rollouts(model, tokenizer, prompts, 5, 12, torch.Generator().manual_seed(3))
for group in groups: print(group.prompt.name, [len(ids) for ids in group.completions], group.finished)
again = rollouts(model, tokenizer, prompts, 5, 12, torch.Generator().manual_seed(3))
assert all(torch.equal(a, b) for one, two in zip(groups, again) for a, b in zip(one.completions, two.completions))

# %% [markdown]
# At temperature 0 the words must be those of the library's own `generate`, prompt by prompt, without any sharing or padding:

# %%
greedy = rollouts(model, tokenizer, prompts, 3, 8, torch.Generator(), temperature=0.0)
for group in greedy:
    inputs = model_inputs(model, tokenizer, [(group.prompt.videos, group.prompt.dialogues[0])], pad_left=True)
    inputs.pop('labels')
    with torch.no_grad(): library = model.generate(**inputs, do_sample=False, max_new_tokens=8, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    for ids in group.completions: assert torch.equal(ids, library[0, inputs['input_ids'].shape[1]:][:len(ids)])


# %% [markdown]
# ## One packed row per group
#
# Learning needs the log-probability of every sampled word under the current weights, with gradients. The packed row of
# notebook 20 does it once more: segment 0 is everything the completions share, here the video **and the question**;
# segments 1 … G are the completions. Each completion's first word is predicted by the last word of segment 0, the
# following ones by their neighbour to the left.

# %%
#| export
@dataclass(frozen=True)
class GroupRow:
    "The packed row of a group; `predictor` (words,) is the place from which each word of the completions is predicted."
    row: PackedClip
    predictor: torch.Tensor
    lengths: tuple[int, ...]


# %%
#| export
def pack_group(model, tokenizer, group: Group) -> GroupRow:
    "Prompt as segment 0, completions as segments 1 … G; positions of each go on where the prompt ends."
    prompt = pack(model, tokenizer, group.prompt)
    front, start = len(prompt.ids), prompt.positions[0, -1] + 1
    lengths = tuple(len(ids) for ids in group.completions)
    segments = torch.cat([torch.full((length,), number) for number, length in enumerate(lengths, 1)])
    offsets = torch.cat([torch.arange(length) for length in lengths])
    places = front + torch.arange(len(offsets))
    words = torch.cat(group.completions)
    row = replace(prompt, ids=torch.cat([prompt.ids, words]), labels=torch.cat([torch.full((front,), IGNORE), words]),
                  segments=torch.cat([torch.zeros(front, dtype=torch.long), segments]),
                  positions=torch.cat([prompt.positions, (start + offsets).expand(3, -1)], 1),
                  weights=torch.zeros(front + len(words)))
    return GroupRow(row, torch.where(offsets == 0, front - 1, places - 1), lengths)


# %%
#| export
def completion_logps(model, tokenizer, groups: list[Group], temperature: float = 1.0,
                     states: States | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    "Log-probabilities (all completions, longest) of the sampled words and their mask, one packed row per group."
    core = bare_model(model)
    rows = [pack_group(model, tokenizer, group) for group in groups]
    kept = None if states is None else [states(group.prompt) for group in groups]
    batch = collate(model, [row.row for row in rows], [group.prompt for group in groups], tokenizer.pad_token_id, states=kept)
    batch = batch.to(core.device)
    hidden, found = packed_hidden(model, batch), []
    for states, row, group in zip(hidden, rows, groups):
        words = torch.cat(group.completions).to(core.device)
        logits = core.lm_head(states[row.predictor.to(core.device)])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
        found += torch.log_softmax(logits, -1).gather(-1, words[:, None])[:, 0].split(row.lengths)
    mask = pad_sequence([torch.ones_like(part) for part in found], batch_first=True)
    return pad_sequence(found, batch_first=True), mask.detach()


# %% [markdown]
# The picture below cuts the five completions to different lengths, as end tokens would.

# %%
from track4d_ref.packing import attention_mask

# %%
groups = [replace(group, completions=tuple(ids[:4 + 2 * k] for k, ids in enumerate(group.completions))) for group in groups]
row = pack_group(model, tokenizer, groups[1])
figure, axis = plt.subplots(figsize=(4.4, 4.1))
front = int((row.row.segments == 0).sum())
seen = attention_mask(row.row.segments[None])[0, 0].numpy() * (1 + (row.row.segments[:, None].numpy() > 0))
axis.imshow(seen, cmap='YlGnBu', vmax=3, interpolation='nearest')
axis.axvline(front - 0.5, color=PALETTE[1], linewidth=1); axis.axhline(front - 0.5, color=PALETTE[1], linewidth=1)
axis.set(title=f'video and question ({front}), then five completions', xlabel='is read', ylabel='reads'); plt.show()
assert seen[front:, :front].all() and not seen[:front, front:].any()


# %% [markdown]
# The proof: every completion in a row of its own, through the library's forward. Log-probabilities agree, and so do the
# gradients of their sum.

# %%
def separate_logps(model, groups):
    "One ordinary row per completion; the video is encoded anew for each."
    found = []
    for group in groups:
        for ids in group.completions:
            inputs = model_inputs(model, tokenizer, [(group.prompt.videos, group.prompt.dialogues[0])])
            length = inputs['input_ids'].shape[1]
            inputs['input_ids'] = torch.cat([inputs['input_ids'], ids[None]], 1)
            inputs['attention_mask'] = torch.ones_like(inputs['input_ids'])
            inputs['mm_token_type_ids'] = (inputs['input_ids'] == model.config.video_token_id).int() * 2
            inputs.pop('labels')
            logits = model(**inputs).logits[0, length - 1:-1]
            found.append(torch.log_softmax(logits, -1).gather(-1, ids[:, None])[:, 0])
    return pad_sequence(found, batch_first=True)


# %%
def gradients(values):
    model.zero_grad(); values.sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


# %%
together, mask = completion_logps(model, tokenizer, groups)
apart = separate_logps(model, groups)
packed, single = gradients(together * mask), gradients(apart * mask)
scale = max(float(value.abs().max()) for value in single.values())
worst = {name: float((packed[name] - single[name]).abs().max()) / scale for name in single}
print(f'log-probabilities differ by {float((together - apart).detach().abs().max()):.1e}, gradients by {max(worst.values()):.1e} of the largest')
assert torch.allclose(together, apart, atol=1e-4) and max(worst.values()) < 1e-5

# %%
figure, axis = plt.subplots(figsize=(5.5, 2.4))
axis.plot(apart[mask.bool()].detach(), together[mask.bool()].detach(), '.', color=PALETTE[0])
axis.plot([-9, 0], [-9, 0], color=MUTED, linewidth=0.8)
axis.set(xlabel='log-probability, separate rows', ylabel='one packed row', title='ten completions of two prompts'); plt.show()
assert mask.sum() == sum(len(ids) for group in groups for ids in group.completions)

# %% [markdown]
# ## How much is shared
#
# With $V$ tokens of video, $Q$ of question and $A$ of completion a group costs $V+Q+GA$ tokens instead of $G\,(V+Q+A)$.
# With the paper's numbers (about 392 video tokens in its script, up to 4,096 at 448² and 32 frames) and a chain of
# thought of 300 words, the ratio depends on which term is large.

# %%
video, words = np.array([64, 392, 1024, 4096]), np.array([20, 100, 300, 1000])
ratio = 12 * (video[:, None] + 60 + words) / (video[:, None] + 60 + 12 * words)
figure, axis = plt.subplots(figsize=(4.6, 2.8))
axis.imshow(ratio, cmap='YlGnBu', vmin=1, vmax=14)
for (r, c), value in np.ndenumerate(ratio): axis.text(c, r, f'{value:.1f}', ha='center', va='center', color='white' if value > 7 else INK)
axis.set(xticks=range(4), xticklabels=words, yticks=range(4), yticklabels=video, xlabel='words per completion', ylabel='video tokens', title='tokens read: separate / shared, G = 12'); plt.show()
assert (np.diff(ratio, axis=0) > 0).all() and ratio.max() < 12

# %% [markdown]
# ## What we proved
#
# * sampling follows temperature and top-p, repeats with the same generator, and at temperature 0 gives the library's words;
# * a packed group has the log-probabilities and gradients of separate rows;
# * the saving is largest for long videos and short answers, and at most G.

# %% [markdown]
# ## Try it
#
# 1. Let completion 2 see completion 1 (`key <= query` in the mask). Which assertion fails?
# 2. Sample with top-p 0.9, then score without it. Why is that the usual thing to do, and what does it cost?
# 3. Give both prompts the same video. What else could be shared, and what would have to change in `read_prompts`?
#
# <details><summary>Solutions</summary>
#
# 1. The equality with separate sampling, at the second completion.
# 2. Sampling from the nucleus and scoring with the whole distribution makes the ratio of the two not exactly one. It
#    is usual as it is simple; the cost is a bias, small while the nucleus holds nearly all mass.
# 3. The prefix of the video for both prompts; `read_prompts` would have to group by video and give each prompt a
#    segment, as in packing.
#
# </details>
