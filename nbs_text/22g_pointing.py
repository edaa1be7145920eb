# %% [markdown]
# # Pointing
# > Which visual tokens are meant by "the red ball", and how the thing under each token moves.

# %%
#| default_exp pointing

# %% [markdown]
# * **What** for every visual token the share of each object and its motion between the two frames; two losses that ask for them
# * **Why** a place in the picture (`22f_grounding`) is the *result* of finding an object. Here the finding itself is taught: of 256
#   tokens, which ones? And a tower that has only seen stills must feel motion before anyone can speak about it
# * **Paper** 4DP-QA's geometry encoder (L4P) is taught depth, flow and tracks as dense maps; LMM-Track4D aligns mentions with
#   objects. Both losses here are **[ours]**, and nothing of them is left in the trained model
# * **Needs** torch
# * **Time** 40 seconds
# * **Before this** `22f_grounding`, `26a_clip_sets` for how the truth is kept

# %%
#| export
import numpy as np
import torch
from torch.nn.functional import rms_norm, smooth_l1_loss

from track4d_ref.clips import Clip
from track4d_ref.grounding import MOST_OBJECTS
from track4d_ref.measurements import Measured
from track4d_ref.motion import yaw_deg
from track4d_ref.packing import PackedClip
from track4d_ref.patches import PatchLayout
from track4d_ref.vlm import bare_model

# %%
import matplotlib.pyplot as plt

from track4d_ref.grounding import listening, mention_ends, mention_places
from track4d_ref.measurements import measure
from track4d_ref.packing import ClipExample, collate, pack, packed_loss, visual_features
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.simulator import simulate_clip
from track4d_ref.tokens import train_tokenizer
from track4d_ref.viz import PALETTE, use_style
from track4d_ref.vlm import build_vlm
use_style(); torch.set_num_threads(1)


# %% [markdown]
# ## What is under a token
#
# A visual token covers a cell in two neighbouring frames. The instance maps say which part of it each object fills.

# %%
#| export
def object_shares(clip: Clip, layout: PatchLayout = PatchLayout()) -> np.ndarray:
    "Share (tokens, 8) of every visual token's cell that each object of the clip fills, in the order of tokens and objects."
    view, cell = clip.view, layout.cell
    shape = (view.frames.shape[0] // layout.temporal, layout.temporal, view.height // cell, cell, view.width // cell, cell)
    shares = np.zeros((shape[0] * shape[2] * shape[4], MOST_OBJECTS), np.float32)
    for number, item in enumerate(clip.objects[:MOST_OBJECTS]):
        shares[:, number] = (view.instances == item.id).reshape(shape).mean((1, 3, 5)).ravel()
    return shares


# %%
preset, layout = load_preset('tiny'), PatchLayout(patch=7)
clip = simulate_clip(77, preset, 3)
measured, shares = measure(clip), object_shares(clip, layout)
figure, axes = plt.subplots(1, 1 + len(clip.objects), figsize=(8, 2.2))
axes[0].imshow(clip.view.frames[0]); axes[0].set_title('frame 0', fontsize=8)
for number, (axis, item) in enumerate(zip(axes[1:], clip.objects)):
    axis.imshow(shares[:64, number].reshape(8, 8), cmap='viridis', vmin=0, vmax=1); axis.set_title(item.caption, fontsize=8)
for axis in axes: axis.axis('off')
plt.show()
pixels = np.array([(clip.view.instances == item.id).sum() for item in clip.objects])
assert shares.shape == (256, MOST_OBJECTS) and np.allclose(shares.sum(0)[:len(pixels)] * 2 * 14 ** 2, pixels, rtol=1e-4)

# %% [markdown]
# ## How it moves
#
# Between the two frames of a pair an object's centre moves and the object turns. The displacement is told in the axes of the first
# of the two cameras, the only ones a tower can know that sees one pair at a time; it is the *object's* motion, not that of its image:
# whoever stands still while the camera drives past moves by zero. Units are those of `22f_grounding` for a clip of eight frames, so that
# the motions of its seven steps sum to about the displacement there.

# %%
#| export
STEPS_OF_A_CLIP = 7

def pair_motions(m: Measured, temporal: int = 2) -> np.ndarray:
    "True motion (pairs, 8, 4) of the objects within each pair of frames: displacement in its first camera's axes, and turn; order one."
    first = np.arange(0, len(m.frames), temporal)
    moved = m.centers_m[:, first + 1] - m.centers_m[:, first]                                   # (N, pairs, 3)
    moved = np.einsum('pij,npj->npi', m.w2c[first, :3, :3], moved) / m.scale_m[0]
    yaw = np.deg2rad(yaw_deg(m.poses[..., :3, :3], m.clip.up))                                  # (N, T)
    turned = (yaw[:, first + 1] - yaw[:, first] + np.pi) % (2 * np.pi) - np.pi
    told = STEPS_OF_A_CLIP * np.concatenate([4 * moved, 2 * turned[..., None]], -1)
    told = np.pad(np.clip(np.nan_to_num(told), -3, 3), ((0, MOST_OBJECTS), (0, 0), (0, 0)))[:MOST_OBJECTS]
    return told.swapaxes(0, 1).astype(np.float32)


# %% [markdown]
# Two checks: a camera that turns or drives does not change what is at rest, and turning the whole world changes nothing.

# %%
motions = pair_motions(measured)
still = [number for number, path in enumerate(measured.centers_m) if np.ptp(path, 0).max() < 1e-9]
assert motions.shape == (4, MOST_OBJECTS, 4) and all(np.allclose(motions[:, number, :3], 0, atol=1e-5) for number in still)
from dataclasses import replace
half = np.pi / 2
turn = np.array([[np.cos(half), -np.sin(half), 0, 3.0], [np.sin(half), np.cos(half), 0, -1.0], [0, 0, 1, 0], [0, 0, 0, 1]])
turned = replace(measured, w2c=measured.w2c @ np.linalg.inv(turn), poses=turn @ measured.poses)
assert np.allclose(pair_motions(turned)[..., :3], motions[..., :3], atol=1e-4)

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.5, 2.3), sharey=True, layout='constrained')
for axis, part, title in zip(axes, (0, 2), ('to the right', 'away from the camera')):
    for number, item in enumerate(clip.objects):
        axis.plot(motions[:, number, part], 'os^D'[number % 4] + '-', ms=4, color=PALETTE[number], label=item.caption)
    axis.set(xlabel='pair of frames', xticks=range(4), title=title)
axes[0].set_ylabel('true motion'); axes[1].legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5)); plt.show()

# %% [markdown]
# ## Two losses
#
# **Pointing.** After the first layer of the language model the state of a mention's last token and the states of the visual tokens
# go through one linear layer; their products, as in attention, must put the mention's weight on the tokens of its object. The next
# layer's attention can use the same likeness, and from there on the mention knows what its object's tokens know. **Motion.** A second
# linear layer reads from every visual token, as it leaves the tower, the motion of what it shows; a token without an object is asked for
# zero, at a twentieth of the weight.

# %%
#| export
POINT_WIDTH = 64                 # [ours] numbers that are compared
POINT_LAYER = 0.25               # [ours] share of the layers below the states that are compared: the first of four

def pointing_loss(pointer: torch.nn.Linear, hidden: torch.Tensor, batch_ids: torch.Tensor, video_token: int,
                  places: list[list[tuple[int, int]]], shares: torch.Tensor) -> torch.Tensor:
    """Sum over mentions of the cross-entropy between where they look among the visual tokens and where their object is.

    Hidden states (B, L, width), token ids (B, L), places as from `mention_places`, shares (B, tokens, 8)."""
    total, width = hidden.new_zeros(()), hidden.shape[-1]
    for states, ids, found, share in zip(hidden, batch_ids, places, shares):
        if not found: continue
        place, number = torch.tensor(found).T
        looks = pointer(rms_norm(states[place], (width,))) @ pointer(rms_norm(states[ids == video_token], (width,))).T
        wanted = share[:, number].T                                                             # (mentions, tokens)
        visible = wanted.sum(1)
        wanted = wanted / visible.clamp(min=1e-3)[:, None]
        wrong = -(wanted * (looks / POINT_WIDTH ** 0.5).log_softmax(-1)).sum(1)
        total = total + wrong[visible > 0.1].sum()
    return total

def motion_loss(reader: torch.nn.Linear, seen: torch.Tensor, shares: torch.Tensor, motions: torch.Tensor) -> torch.Tensor:
    "Mean error of the motions read from visual tokens (B * tokens, width); shares (B, tokens, 8), motions (B, pairs, 8, 4)."
    pairs = motions.shape[1]
    thing = shares.unflatten(1, (pairs, -1))                                                    # (B, pairs, cells, 8)
    share = thing.sum(-1).flatten()
    wanted = (thing @ motions).flatten(0, 2) / share.clamp(min=1e-3)[:, None]
    weight = 2 * share.clamp(max=0.5) + 0.05
    wrong = smooth_l1_loss(reader(rms_norm(seen, seen.shape[-1:])), wanted, reduction='none', beta=0.3).mean(-1)
    return (weight * wrong).sum() / weight.sum()


# %%
#| export
def add_pointer(readout: torch.nn.ModuleDict, model, seed: int) -> None:
    "Add the linear layers of both losses to the readouts of `22f_grounding`."
    width = bare_model(model).config.text_config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        readout['pointer'], readout['motion'] = torch.nn.Linear(width, POINT_WIDTH, bias=False), torch.nn.Linear(width, 4)


# %% [markdown]
# A loop over mentions and over tokens, as one would write it down from the text, gives the same numbers:

# %%
tokenizer = train_tokenizer(['what is the red ball doing in the video'] * 20, 400)
small = load_preset('tiny', ('patch_size=7', 'text_layers=4', 'text_width=96', 'text_heads=4', 'text_kv_heads=4', 'vision_layers=1', 'vision_width=64'))
model = build_vlm(small, tokenizer)
readout = torch.nn.ModuleDict()
add_pointer(readout, model, 0)
captions = {item.id: item.caption for item in clip.objects}
asked = ask_all(clip, np.random.default_rng(2), ('depth', 'object_direction'), 2, style=Style(forms=('choice',)))
dialogues = tuple(({'role': 'user', 'content': question.prompt}, {'role': 'assistant', 'content': question.answer}) for question in asked)
example = ClipExample(clip.id, (Video(clip.id, clip.view.frames, 0.25),), dialogues)
row = pack(model, tokenizer, example)
places = mention_places(tokenizer, row, [question.prompt for question in asked], [mention_ends(q.prompt, q.references, captions) for q in asked])
batch, video = collate(model, [row], [example]), bare_model(model).config.video_token_id
truth = torch.tensor(shares)[None], torch.tensor(motions)[None]


# %%
def slow_pointing(states: torch.Tensor) -> float:
    visual, total = [state for state, id in zip(states, row.ids) if id == video], 0.0
    for place, number in places:
        scores = torch.stack([readout['pointer'](rms_norm(states[place], (96,))) @ readout['pointer'](rms_norm(state, (96,))) for state in visual]) / 8
        share = shares[:, number]
        if share.sum() > 0.1: total -= sum(float(part * score) for part, score in zip(share / share.sum(), scores.log_softmax(0)))
    return total

with torch.no_grad():
    seen = visual_features(model, batch)
    with listening(model, POINT_LAYER) as early: packed_loss(model, batch)
    fast = pointing_loss(readout['pointer'], early[0], batch.ids, video, [places], truth[0])
    felt = motion_loss(readout['motion'], seen, *truth)
told, total, weights = readout['motion'](rms_norm(seen, (96,))), 0.0, 0.0
for token in range(256):
    share = shares[token].sum()
    wanted = shares[token] @ motions[token // 64] / max(share, 1e-3)
    weight = 2 * min(share, 0.5) + 0.05
    total += weight * smooth_l1_loss(told[token], torch.tensor(wanted, dtype=torch.float32), beta=0.3).item(); weights += weight
assert abs(slow_pointing(early[0][0]) - fast.item()) < 1e-2 * fast.item() and abs(total / weights - felt.item()) < 1e-4

# %% [markdown]
# ## Learning to point
#
# A small model on one clip: where the mention of each object looks, before and after. The map is the mention's weight over the cells
# of the first pair of frames.

# %%
optimizer, history = torch.optim.AdamW([*model.parameters(), *readout.parameters()], 2e-3), []
def looks() -> tuple[torch.Tensor, np.ndarray]:
    with listening(model, POINT_LAYER) as early: packed_loss(model, batch)
    loss = pointing_loss(readout['pointer'], early[0], batch.ids, video, [places], truth[0]) / len(places)
    states = readout['pointer'](rms_norm(early[0][0], (96,)))
    return loss, (states[[place for place, _ in places]] @ states[row.ids == video].T / 8).softmax(-1).detach().numpy()

before = looks()[1]
for _ in range(60):
    loss, after = looks()
    loss.backward(); optimizer.step(); optimizer.zero_grad(); history.append(loss.item())

# %%
numbers = sorted({number for _, number in places})
figure, axes = plt.subplots(2, 1 + len(numbers), figsize=(8, 3.6))
for line, (maps, title) in enumerate(((before, 'before'), (after, 'after'))):
    axes[line, 0].imshow(clip.view.frames[0]); axes[line, 0].set_title(title, fontsize=8)
    for axis, number in zip(axes[line, 1:], numbers):
        which = next(k for k, (_, found) in enumerate(places) if found == number)
        axis.imshow(maps[which, :64].reshape(8, 8), cmap='viridis'); axis.set_title(clip.objects[number].caption, fontsize=8)
for axis in axes.flat: axis.axis('off')
plt.tight_layout(); plt.show()
on_object = [after[k][shares[:, number] > 0].sum() for k, (_, number) in enumerate(places)]
print(f'weight on the right tokens after sixty steps: {100 * np.mean(on_object):.0f} %')
assert history[-1] < 0.8 * history[0] and np.mean(on_object) > 0.5

# %% [markdown]
# ## What we proved
#
# * The shares of all objects are the pixels of the instance map, and the motion of what rests is zero however the camera moves.
# * Both losses equal their loops, and pointing can be learned.
#
# ## Try it
#
# 1. Let a mention point after the *second* layer. Which references need two layers to be understood?
# 2. Ask tokens for the motion in the axes of the first camera of the *clip*. Why can a tower that sees one pair not know it?
#
# <details><summary>Solutions</summary>
#
# 1. "The red ball": "ball" must first have heard "red" beside it, which takes one layer; then its state can be compared. A pixel,
#    "(34, 50) in frame 3", has to gather several digits first.
# 2. Where the first camera looked is not in the pair. A camera that has turned by a quarter sees as "to the right" what was "away
#    from the camera" at first; the language model, which sees all pairs, has to turn it back.
#
# </details>
