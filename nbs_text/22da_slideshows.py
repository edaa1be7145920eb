# %% [markdown]
# # Slideshows, captions and lessons
# > Pictures as videos in which nothing moves, with everything a model is taught about them.

# %%
#| default_exp slideshows

# %% [markdown]
# #| export
# A *lesson* is a packed slideshow whose questions carry hints: at the place in the prompt where the truth could be said, the
# truth is asked for as well. Hints are for training only; an answer never needs them.

# %% [markdown]
# * **What** videos of still pictures, captions, names for visual tokens, and hints inside questions
# * **Why** a question gives one word to learn from; captions and hints give one for every step of the way to the answer
# * **Paper** stands for the pre-training of Qwen2.5-VL that 4DP-QA §4.1 starts from; **[ours]**
# * **Needs** numpy, torch
# * **Time** 20 seconds
# * **Before this** [`22d_single_frames`](22d_single_frames.ipynb), [`20_packing`](20_packing.ipynb)

# %%
#| export
from dataclasses import replace

import numpy as np
import torch

from track4d_ref.packing import ClipExample, PackedClip, pack
from track4d_ref.patches import PatchLayout, Video
from track4d_ref.references import CIRCLE_COLORS, draw_circle
from track4d_ref.single_frames import COLORS, FACTS, KINDS, Picture, PictureQuestion, ask_picture
from track4d_ref.storage import InputError
from track4d_ref.tokens import IGNORE
from track4d_ref.vlm import bare_model

# %%
import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clips
from track4d_ref.single_frames import pictures_of
from track4d_ref.viz import PALETTE, use_style
use_style()

# %%
preset = load_preset('tiny')
pictures = [picture for clip in simulate_clips(4, 5, preset) for picture in pictures_of(clip)]
first = pictures[0]


# %% [markdown]
# ## Slideshows
#
# One video = one picture shown all the time, or several unrelated pictures, each for the same number of frames. Between
# two pictures everything changes at once, so nothing about motion can be learned from it, but "in frame 5" can.

# %%
#| export
def slideshow(pictures: list[Picture], pairs: int, questions: int, rng: np.random.Generator, seconds_per_frame: float = 0.25,
              forms=('choice', 'yes_no', 'free'), kinds=tuple(FACTS),
              modes=('caption', 'pixel', 'circle'), terse: float = 0.0) -> tuple[ClipExample, list[PictureQuestion]]:
    """A video of `pairs` pairs of frames that shows these pictures in equal parts, with about `questions` questions.

    InputError if the pairs cannot be shared out evenly."""
    if pairs % len(pictures): raise InputError(f'{len(pictures)} pictures cannot share {pairs} pairs of frames; use a divisor')
    hold, asked = 2 * pairs // len(pictures), []
    frames = np.repeat(np.stack([picture.frame for picture in pictures]), hold, 0)            # (2 pairs, H, W, 3)
    for number, picture in enumerate(pictures):
        frame = number * hold + int(rng.integers(hold))
        circled = 'circle' in modes and bool(rng.random() < 0.5)
        asked += ask_picture(picture, rng, max(questions // len(pictures), 1), frame, len(pictures) > 1, circled, forms, kinds,
                             [mode for mode in modes if mode != 'circle'], terse)
    for question in asked:
        for u, v, radius_px, color in question.circles: draw_circle(frames[question.frame], np.array((u, v)), radius_px, CIRCLE_COLORS[color])
    dialogues = tuple(({'role': 'user', 'content': question.prompt}, {'role': 'assistant', 'content': question.answer}) for question in asked)
    name = '+'.join(picture.name for picture in pictures)
    return ClipExample(name, (Video(name, frames, seconds_per_frame),), dialogues), asked


# %%
example, asked = slideshow(pictures[::2], 4, 8, np.random.default_rng(3))
figure, axes = plt.subplots(1, 4, figsize=(7.5, 2.9))
for axis, number in zip(axes, range(4)):
    question = asked[2 * number]
    axis.imshow(example.videos[0].frames[question.frame]); axis.axis('off')
    words = question.prompt.split('\n')[0]
    axis.set_title('\n'.join(words[k:k + 30] for k in range(0, len(words), 30)) + f'\n→ {question.answer}', fontsize=6, loc='left')
plt.show()
assert example.videos[0].frames.shape == (8, 112, 112, 3) and len(example.dialogues) == len(asked)

# %% [markdown]
# ## Captions
#
# A caption names all things of a picture in random order, each as "red ball", "ball red", or with its place. It is the densest
# lesson in binding: after "red" exactly one kind is right, after a place exactly one colour.

# %%
#| export
CAPTIONS = {'Name the things.': '{color} {kind}', 'Name the kinds and colours.': '{kind} {color}',       # instruction → how a thing is written
            'Name the things with their places.': '{color} {kind} {place}', 'Name places with their things.': '{place} {color} {kind}'}

def caption_dialogues(picture: Picture, rng: np.random.Generator, count: int = 4) -> tuple[tuple[dict, ...], ...]:
    "`count` of the four captions of a picture as dialogues; () if nothing can be seen."
    things, (height, width) = picture.things, picture.instances.shape
    if not things: return ()
    dialogues = []
    for instruction in rng.permutation(list(CAPTIONS))[:count]:
        ordered = [things[k] for k in rng.permutation(len(things))]
        places = [f'({thing.uv_px[0] / width:.2f}, {thing.uv_px[1] / height:.2f})' for thing in ordered]
        told = ', '.join(CAPTIONS[instruction].format(color=thing.color, kind=thing.kind, place=place) for thing, place in zip(ordered, places))
        dialogues.append(({'role': 'user', 'content': str(instruction)}, {'role': 'assistant', 'content': told}))
    return tuple(dialogues)


# %%
rng = np.random.default_rng(2)
for asked, told in caption_dialogues(first, rng): print(asked['content'], '->', told['content'])
assert all(thing.color in told['content'] for _, told in caption_dialogues(first, rng) for thing in first.things)

# %% [markdown]
# ## What every token should be called
#
# A visual token covers a cell of 28 × 28 pixels. The words for what it covers, weighted by the share of the cell, are a target
# for the token itself: read through the names' rows of the model's own word table, it must say them (notebook
# [`22e_base`](22e_base.ipynb)).
# Half of a thing's share goes to its colour, half to its kind; the rest of the cell is "nothing".

# %%
#| export
NAMES = (*COLORS, *KINDS, 'nothing')

def cell_names(picture: Picture, layout: PatchLayout = PatchLayout()) -> np.ndarray:
    "Shares of NAMES (rows * columns, names) in every cell of a picture, in the order of the visual tokens."
    height, width = picture.instances.shape
    cell = layout.cell
    shares = np.zeros((height // cell, width // cell, len(NAMES)), dtype=np.float32)
    cover = lambda mask: mask.reshape(height // cell, cell, width // cell, cell).mean((1, 3))
    for id, caption in picture.captions:
        for word in caption.split(): shares[..., NAMES.index(word)] += cover(picture.instances == id) / 2
    shares[..., -1] = 1 - shares[..., :-1].sum(-1)
    return shares.reshape(-1, len(NAMES))

def token_naming_loss(model, seen: torch.Tensor, names: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    "Cross-entropy of visual tokens (N, width), read through the rows of the names, against shares (N, names) of what they cover."
    rows = bare_model(model).get_output_embeddings().weight[ids]
    told = (torch.nn.functional.rms_norm(seen, seen.shape[-1:]) @ rows.T).log_softmax(-1)
    weights = torch.where(names[:, -1] < 0.98, 1.0, 0.2)
    return -(weights[:, None] * names * told).sum() / weights.sum()


# %%
names = cell_names(first)
figure, axes = plt.subplots(1, 2, figsize=(5, 2.5))
axes[0].imshow(first.frame); axes[1].imshow(1 - names[:, -1].reshape(4, 4), cmap='viridis', vmin=0, vmax=1)
for axis in axes: axis.axis('off')
for k, row in enumerate(names):
    axes[1].text(k % 4, k // 4, '\n'.join(NAMES[n] for n in np.argsort(row[:-1])[::-1][:2] if row[n] > 0.02), fontsize=6, ha='center', va='center', color='white')
axes[1].set_title('share of the cell that is a thing, and its words', fontsize=7); plt.show()
assert np.allclose(names.sum(1), 1, atol=1e-5) and names.shape == (16, 17)

# %% [markdown]
# ## Hints
#
# Between "what colour is the ball?" and the letter of an option lie three steps: find the ball, read its colour, find the option.
# Only the last one is graded, and a small model stays at chance for hundreds of steps. A hint grades the second step too: the token
# after the question must foresee "red", although what follows is "A."; and in "is it right that the ball is blue?" the token before
# "blue" must foresee "red", so that the next one can notice the difference. Labels change, inputs do not: a hint adds something to
# learn, and nothing to read. **[ours]**

# %%
#| export
HINT_WEIGHT = 0.5        # [ours] of a hint, beside 1 for the answer

def hinted_labels(tokenizer, prompt: str, hint: tuple[int, str]) -> list[tuple[int, int]]:
    "(token of the prompt, token id that should be foreseen there) for every word of a hint."
    spans = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    start = next((number for number, (_, end) in enumerate(spans) if end > hint[0]), None)
    truth = tokenizer(f' {hint[1]}', add_special_tokens=False).input_ids
    return [] if start is None else [(start + k, token) for k, token in enumerate(truth) if start + k < len(spans)]

def pack_lesson(model, tokenizer, example: ClipExample, hints: list[tuple[int, str] | None]) -> PackedClip:
    "The packed row of a clip with the hints of its last dialogues (None = no hint) as further labels."
    row = pack(model, tokenizer, example)
    labels, weights = row.labels.clone(), row.weights.clone()
    for number, hint in enumerate(hints, len(example.dialogues) - len(hints) + 1):
        if hint is None: continue
        start, prompt = int((row.segments == number).nonzero()[0]), example.dialogues[number - 1][0]['content']
        found = hinted_labels(tokenizer, prompt, hint)
        for at, token in found:
            labels[start + at], weights[start + at] = token, HINT_WEIGHT / len(found)
    return replace(row, labels=labels, weights=weights)


# %%
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm
small = load_preset('tiny', ('text_layers=1', 'vision_layers=1'))
many = [question for picture in pictures for question in ask_picture(picture, np.random.default_rng(0), 12)]
words = [' '.join(('', *NAMES))] * 200 + [text for question in many for text in (question.prompt, question.answer)]
tokenizer = train_tokenizer(words, small.vocabulary)
model = build_vlm(small, tokenizer)
example, asked = slideshow(pictures[:1], 1, 8, np.random.default_rng(4), modes=('caption',))
plain = pack(model, tokenizer, example)
lesson = pack_lesson(model, tokenizer, example, [question.hint for question in asked])

# %% [markdown]
# Blue words are foreseen by hints, green ones are answers; both are predicted by the token before them.

# %%
figure, axes = plt.subplots(3, 1, figsize=(8.5, 2.2), layout='constrained')
for axis, question in zip(axes, [question for question in asked if question.hint][:3]):
    number, place = asked.index(question) + 1, 0
    for token, label, before in zip(*(values[plain.segments == number].tolist() for values in (plain.ids, lesson.labels, plain.labels))):
        text, told = (tokenizer.decode([known]).replace('\n', '↵') if known != IGNORE else '' for known in (token, label))
        axis.text(place, 0, text.replace(' ', '·'), fontsize=5.5, family='monospace')
        axis.text(place, 0.9, told, fontsize=5.5, family='monospace', weight='bold', color=PALETTE[0 if before == IGNORE else 2])
        place += max(len(text), len(told)) + 0.3
    axis.axis('off'); axis.set(xlim=(0, 175), ylim=(-0.3, 1.6))
plt.show()
changed = lesson.labels != plain.labels
assert changed.any() and (plain.labels[changed] == IGNORE).all() and bool((lesson.ids == plain.ids).all())

# %% [markdown]
# ## What we proved
#
# * Nothing in a slideshow moves, and every question names its frame where there are several.
# * Every cell's names add up to one; captions name every thing that can be seen.
# * Hints add labels where there were none and leave the inputs alone.
#
# ## Try it
#
# 1. Which questions can carry no hint, and why?
# 2. Give the answer no weight and keep the hints. What does the model still learn to say?
#
# <details><summary>Solutions</summary>
#
# 1. "What can be seen?" has several true answers until the options are read, and which of two things is further left is told by
#    pointing at one of them, not by a name.
# 2. Colours, kinds and places at the end of a question, but neither letters nor Yes and No: those are in no hint.
#
# </details>
