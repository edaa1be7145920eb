# %% [markdown]
# # Grounded mentions
# > Wherever a question names an object, the model must already know where that object is and how it moves.

# %%
#| default_exp grounding

# %% [markdown]
# * **What** `object_truth` and `camera_truth`, the places of mentions in a packed row, and a loss that reads the truth from them
# * **Why** an answer of one word teaches a small model hardly anything about *which* object was meant; 33 numbers per mention do
# * **Paper** 4DP-QA §3 teaches geometry beside the questions by point tracks written as text; reading it from hidden states
#   through a linear layer that is thrown away is **[ours]**
# * **Needs** torch
# * **Time** 30 seconds
# * **Before this** `08a_measurements`, `08e_references`, `20_packing`, `22da_slideshows`

# %%
#| export
import contextlib
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import rms_norm, smooth_l1_loss

from track4d_ref.measurements import Measured
from track4d_ref.motion import body_displacement_m, camera_angles_deg, camera_displacement_m, object_displacement_m, path_length_m, yaw_deg
from track4d_ref.packing import PackedClip
from track4d_ref.references import point_text
from track4d_ref.vlm import bare_model

# %%
import matplotlib.pyplot as plt

from track4d_ref.measurements import measure
from track4d_ref.packing import ClipExample, collate, pack, packed_loss
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.simulator import simulate_clip
from track4d_ref.tokens import train_tokenizer
from track4d_ref.viz import PALETTE, use_style
from track4d_ref.vlm import build_vlm
use_style(); torch.set_num_threads(1)

# %% [markdown]
# ## What there is to know of an object
#
# Eleven question types are functions of few numbers: where an object is at four moments (in the picture, by its distance, in the
# first camera's axes), how far and in which direction it went, and how it turned. Lengths are told in units of the scene's median
# depth, as the questions' thresholds are; all numbers are scaled to be of order one and cut at three. What cannot be seen at a
# moment is not asked for that moment.

# %%
#| export
MOMENTS = 4
OBJECT_FACTS = dict(place=8, log_distance=4, position=12, displacement=3, own_displacement=3, path=1, turn=1, distance_change=1)
CAMERA_FACTS = dict(displacement=3, angles=3)
MOST_OBJECTS = 8                 # of a clip; later ones are never asked for

def object_truth(m: Measured) -> tuple[np.ndarray, np.ndarray]:
    "Values (8, 33) of OBJECT_FACTS for the objects in order, scaled to order one, and their weights (8, 33), 0 = unknown."
    at = np.linspace(0, len(m.frames) - 1, MOMENTS).round().astype(int)
    scale_m, seen = m.scale_m[0], m.seen(10)[:, at].astype(float)
    flat = lambda values: values.reshape(len(values), -1)
    place = 3 * (m.uv_px[:, at] / np.array([m.view.width, m.view.height]) - 0.5)
    log_distance = np.log(np.maximum(m.distance_m, 1e-3))
    position = (m.centers_m[:, at] - m.camera_m[0]) @ m.w2c[0, :3, :3].T / scale_m
    moved = object_displacement_m(m.w2c[0], m.centers_m)[:, -1] / scale_m
    own = body_displacement_m(m.poses)[:, -1] / scale_m
    path, turn = path_length_m(m.centers_m) / scale_m, np.deg2rad(yaw_deg(m.poses[..., :3, :3], m.clip.up)[:, -1])
    change = log_distance[:, -1] - log_distance[:, 0]
    values = np.concatenate([flat(place), log_distance[:, at] - 1.8, flat(position), 4 * moved, 4 * own,
                             np.stack([4 * path, 2 * turn, 6 * change], 1)], 1)
    weights = np.concatenate([seen.repeat(2, 1), seen, seen.repeat(3, 1), np.ones((len(seen), 9))], 1)
    fit = lambda rows: np.pad(rows, ((0, MOST_OBJECTS), (0, 0)))[:MOST_OBJECTS].astype(np.float32)
    return fit(np.clip(np.nan_to_num(values), -3, 3)), fit(weights)


# %%
#| export
def camera_truth(m: Measured) -> np.ndarray:
    "Values (6,) of CAMERA_FACTS: displacement in the first camera's axes, then pan, tilt and roll, of order one."
    moved, turned = camera_displacement_m(m.w2c)[-1] / m.scale_m[0], np.deg2rad(camera_angles_deg(m.w2c)[-1])
    return np.clip(np.concatenate([4 * moved, 4 * turned]), -3, 3).astype(np.float32)


# %%
preset = load_preset('tiny')
clip = simulate_clip(77, preset, 3)
measured = measure(clip)
values, weights = object_truth(measured)
figure, axes = plt.subplots(1, 2, figsize=(7.5, 2.6), width_ratios=(1, 2.2))
axes[0].imshow(clip.view.frames[0]); axes[0].axis('off')
for row, item in enumerate(clip.objects):
    path = (values[row, :8].reshape(4, 2) / 3 + 0.5) * 112
    seen = weights[row, :8:2] > 0
    axes[0].plot(*path[seen].T, 'o-', color=PALETTE[row % len(PALETTE)], ms=3); axes[1].plot(values[row], 'o-', ms=3, lw=0.7, color=PALETTE[row % len(PALETTE)], label=item.caption)
starts = np.cumsum([0, *OBJECT_FACTS.values()])
for start in starts[1:-1]: axes[1].axvline(start - 0.5, color='0.8', lw=0.8)
axes[1].set_xticks((starts[:-1] + starts[1:] - 1) / 2, [name.replace('_', ' ') for name in OBJECT_FACTS], fontsize=6, rotation=25, ha='right'); axes[1].legend(fontsize=6)
axes[1].set_title('33 numbers per object', fontsize=8); plt.show()
assert values.shape == weights.shape == (MOST_OBJECTS, sum(OBJECT_FACTS.values())) and not weights[len(clip.objects):].any()

# %% [markdown]
# Two checks: whoever stands still has no displacement and no path, and doubling the world changes nothing but the distances.

# %%
still = np.linalg.norm(measured.centers_m[:, -1] - measured.centers_m[:, 0], axis=1) < 1e-9
block = {name: slice(int(start), int(start) + size) for (name, size), start in zip(OBJECT_FACTS.items(), starts)}
assert all(np.allclose(values[row, block[name]], 0, atol=1e-5) for row in np.flatnonzero(still) for name in ('displacement', 'path'))
double = lambda poses: np.concatenate([poses[..., :3] * 1.0, poses[..., 3:] * np.array([2, 2, 2, 1.0])[:, None]], -1)
from dataclasses import replace as changed
big = changed(measured, w2c=double(measured.w2c), camera_m=2 * measured.camera_m, poses=double(measured.poses), distance_m=2 * measured.distance_m, scale_m=2 * measured.scale_m)
twice = object_truth(big)[0]
same = np.ones(33, bool); same[block['log_distance']] = False
assert np.allclose(twice[:, same], values[:, same], atol=1e-5) and np.allclose(camera_truth(big), camera_truth(measured), atol=1e-5)


# %% [markdown]
# ## Where objects are mentioned
#
# A question names objects by caption, by pixel or by circle, in its text and again in its options. What was read up to the last
# letter of such a phrase decides which object is meant; so that is where the loss asks.

# %%
#| export
def phrase_of(reference: dict, captions: dict[int, str]) -> str:
    "The words by which a question refers to an object; captions by object id."
    if reference['mode'] == 'caption': return f'the {captions[reference["object"]]}'
    if reference['mode'] == 'pixel': return f'the object at {point_text(reference["uv"])} in frame {reference["frame"]}'
    return f'the object in the {reference["color"]} circle in frame {reference["frame"]}'

def mention_ends(prompt: str, references, captions: dict[int, str]) -> list[tuple[int, int]]:
    "(character after a mention, number of the object in its clip) for every mention in a prompt, in order."
    order, found = {id: number for number, id in enumerate(captions)}, set()
    for reference in references:
        phrase, number = phrase_of(reference, captions), order[reference['object']]
        at = prompt.find(phrase)
        while at >= 0 and number < MOST_OBJECTS:
            found.add((at + len(phrase), number))
            at = prompt.find(phrase, at + 1)
    return sorted(found)


# %%
captions = {item.id: item.caption for item in clip.objects}
asked = ask_all(clip, np.random.default_rng(2), ('depth', 'object_direction', 'moved_distance'), 2, style=Style(forms=('choice', 'yes_no')))
for question in asked[:3]:
    ends, marked = mention_ends(question.prompt, question.references, captions), question.prompt
    for end, number in reversed(ends): marked = f'{marked[:end]}«{number}»{marked[end:]}'
    print(marked, '\n')
assert all(len(mention_ends(q.prompt, q.references, captions)) >= len({r['object'] for r in q.references}) for q in asked)


# %% [markdown]
# ## Places in a packed row
#
# Many questions share one row; a character becomes a token, and the token a place in the row.

# %%
#| export
def mention_places(tokenizer, row: PackedClip, prompts: list[str], mentions: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    "(place in the packed row, number of the object) of every mention; prompts in the order of the row's dialogues."
    found = []
    for number, (prompt, ends) in enumerate(zip(prompts, mentions), 1):
        if not ends: continue
        start = int((row.segments == number).nonzero()[0])
        stops = [stop for _, stop in tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True).offset_mapping]
        found += [(start + bisect_left(stops, end), which) for end, which in ends]
    return found


# %%
tokenizer = train_tokenizer([question.prompt for question in asked] * 3, 500)
small = load_preset('tiny', ('text_layers=2', 'text_width=96', 'text_heads=4', 'text_kv_heads=4', 'vision_layers=1', 'vision_width=64'))
model = build_vlm(small, tokenizer)
prompts = [question.prompt for question in asked]
marks = [mention_ends(question.prompt, question.references, captions) for question in asked]
dialogues = tuple(({'role': 'user', 'content': question.prompt}, {'role': 'assistant', 'content': question.answer}) for question in asked)
example = ClipExample(clip.id, (Video(clip.id, clip.view.frames, 0.25),), dialogues)
row = pack(model, tokenizer, example)
places = mention_places(tokenizer, row, prompts, marks)
heads = [tokenizer.decode(row.ids[max(place - 5, 0):place + 1]) for place, _ in places]
for text, (_, number) in list(zip(heads, places))[:6]: print(number, repr(text))
meant = [prompt[:end][-4:] for prompt, ends in zip(prompts, marks) for end, _ in ends]
assert len(places) == len(meant) and all(text.endswith(last) for text, last in zip(heads, meant))

# %%
figure, axis = plt.subplots(figsize=(7.5, 1.3))
axis.imshow((row.segments[None] % 2 + (row.segments[None] > 0)).numpy(), aspect='auto', cmap=plt.matplotlib.colors.ListedColormap(['0.8', '#dbe9f6', '#f7e3cf']))
for place, number in places: axis.plot(place, 0, 'v', color=PALETTE[number], ms=6)
for number, item in enumerate(clip.objects): axis.plot([], [], 'v', color=PALETTE[number], label=item.caption)
axis.set(yticks=[], xlabel='place in the packed row: the video (grey), then the questions in turn'); axis.legend(ncols=4, fontsize=7, loc=(0, 1.04)); plt.show()

# %% [markdown]
# ## The loss
#
# Halfway up, where later layers can still use it, the hidden state of every mention goes through a linear layer and is compared with
# the truth; the last token of the video is asked for the camera's motion in the same way. A hook listens to one layer, so the model's
# code stays the library's.

# %%
#| export
GROUND_LAYER = 0.5               # [ours] share of the layers below the one that is listened to

@contextlib.contextmanager
def listening(model, share: float = GROUND_LAYER) -> Iterator[list[torch.Tensor]]:
    "Inside, the list fills with the hidden states (B, L, width) of the layer at `share` of the language model's depth."
    layers, heard = bare_model(model).model.language_model.layers, []
    note = lambda module, inputs, output: heard.append(output[0] if isinstance(output, tuple) else output)
    hook = layers[max(int(share * len(layers)) - 1, 0)].register_forward_hook(note)
    try: yield heard
    finally: hook.remove()

def new_readout(model, seed: int) -> torch.nn.ModuleDict:
    "Linear layers from a hidden state to the facts of an object and of the camera."
    width = bare_model(model).config.text_config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.ModuleDict(dict(mention=torch.nn.Linear(width, sum(OBJECT_FACTS.values())), camera=torch.nn.Linear(width, sum(CAMERA_FACTS.values()))))


# %%
#| export
def grounding_loss(readout: torch.nn.ModuleDict, hidden: torch.Tensor, rows: list[PackedClip], places: list[list[tuple[int, int]]],
                   truth: torch.Tensor, weights: torch.Tensor, camera: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over mentions, and sum over clips (for the camera), of the mean error of what hidden states (B, L, width) tell.

    Truth and weights (B, 8, 33) of objects, (B, 6) of cameras; places as from `mention_places`, one list per row."""
    error = lambda told, wanted: smooth_l1_loss(told, wanted, reduction='none', beta=0.5)
    ends = torch.tensor([int((row.segments == 0).nonzero()[-1]) for row in rows])
    normed = rms_norm(hidden, hidden.shape[-1:])
    turned = error(readout['camera'](normed[torch.arange(len(rows)), ends]), camera).mean(-1).sum()
    found = torch.tensor([(clip, *pair) for clip, pairs in enumerate(places) for pair in pairs])
    if len(found) == 0: return turned * 0, turned
    clip, place, number = found.T
    wrong = error(readout['mention'](normed[clip, place]), truth[clip, number]) * weights[clip, number]
    return wrong.mean(-1).sum(), turned


# %% [markdown]
# A small model on one clip, trained to know what its mentions mean: what it tells, before and after, against the truth.

# %%
readout = new_readout(model, 0)
batch = collate(model, [row], [example])
known = (torch.tensor(values)[None], torch.tensor(weights)[None], torch.tensor(camera_truth(measured))[None])
optimizer, history = torch.optim.AdamW([*model.parameters(), *readout.parameters()], 2e-3), []
def told() -> tuple[torch.Tensor, np.ndarray]:
    with listening(model) as heard: packed_loss(model, batch)
    assert len(heard) == 1 and heard[0].shape[:2] == batch.ids.shape
    numbers = readout['mention'](rms_norm(heard[0], heard[0].shape[-1:])[0, [place for place, _ in places]])
    return sum(grounding_loss(readout, heard[0], [row], [places], *known)), numbers.detach().numpy()

before = told()[1]
for _ in range(40):
    loss, _ = told()
    loss.backward(); optimizer.step(); optimizer.zero_grad(); history.append(loss.item())
after = told()[1]

# %%
figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.4))
axes[0].plot(history, color=PALETTE[0]); axes[0].set(xlabel='step', title='loss')
wanted = values[[number for _, number in places]]
for axis, numbers, title in zip(axes[1:], (before, after), ('before', 'after forty steps')):
    axis.plot([-3, 3], [-3, 3], color='0.7', lw=1); axis.plot(wanted.ravel(), numbers.ravel(), '.', ms=3, color=PALETTE[1])
    axis.set(xlabel='truth', title=title, xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
plt.tight_layout(); plt.show()
assert history[-1] < 0.3 * history[0] and not bare_model(model).model.language_model.layers[0]._forward_hooks

# %% [markdown]
# ## What we proved
#
# * The facts do not depend on the size of the world, except distances, and a thing at rest has no displacement.
# * Every mention of a question is found, in its text and in its options, and its last token in the packed row.
# * The loss can be learned, and after listening the model is as it was.
#
# ## Try it
#
# 1. Ask only for `place`. Which question types can the model then still answer?
# 2. Listen to the last layer instead of the middle. Why should that help the answers less?
#
# <details><summary>Solutions</summary>
#
# 1. None by itself: of the eleven types, depth needs distances, and all others need motion or positions in space. A place in the
#    picture is what *finds* the object, though, and finding was the bottleneck.
# 2. What the last layer knows no other token can read any more; from the middle, the answer's token still looks at the mention.
#
# </details>
