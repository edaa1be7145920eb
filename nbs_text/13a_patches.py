# %% [markdown]
# # Patches
# > Video on its way into the model: patches in Qwen2.5-VL's order, exact token counts, and time in the rotary positions.

# %%
#| default_exp patches

# %% [markdown]
# #| export
# Frames are uint8 (T, H, W, 3) in RGB. A *grid* is (t, h, w) counted in patches, t in pairs of frames. A
# visual token is a block of merge × merge patches of one pair. Positions are (3, length): time, row, column;
# text has all three equal.

# %% [markdown]
# * **What** a video becomes a matrix of patches, a known number of tokens, and positions that know about
#   seconds
# * **Why** "video tokens and features do not match" is the commonest error message of VLM training, and time
#   that gets lost in the positions the quietest one
# * **Paper** Qwen2.5-VL's layout, used by 4DP-QA §4 and MLLM-4D §4; refusing instead of truncating is
#   **[ours]**
# * **Needs** torch, pillow; transformers only to compare
# * **Time** 15 seconds
# * **Before this** notebook 13

# %%
#| export
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from track4d_ref.storage import InputError

# %%
import matplotlib.pyplot as plt


# %% [markdown]
# ## A video and its time
#
# The model wants three things of a video: frames, and how many seconds lie between them, and a name for
# error messages.

# %%
#| export
@dataclass(frozen=True)
class Video:
    "Frames uint8 (T, H, W, 3) and the seconds from one frame to the next."
    name: str
    frames: np.ndarray
    seconds_per_frame: float


# %%
#| export
@dataclass(frozen=True)
class PatchLayout:
    "How frames are cut: patch x patch pixels, merge x merge patches and `temporal` frames per visual token."
    patch: int = 14
    merge: int = 2
    temporal: int = 2

    @property
    def cell(self) -> int: return self.patch * self.merge            # pixels along one side of a visual token

    def grid(self, frames: int, height: int, width: int, name: str = 'video') -> tuple[int, int, int]:
        "Patches along (t, h, w); InputError names the video and the fix if the frames cannot be cut evenly."
        if frames == 0 or frames % self.temporal:
            raise InputError(f'{name}: {frames} frames cannot be paired in groups of {self.temporal}; '
                             f'use {max(frames // self.temporal, 1) * self.temporal} frames')
        if not height or not width or height % self.cell or width % self.cell:
            better = [max(round(side / self.cell), 1) * self.cell for side in (height, width)]
            raise InputError(f'{name}: frames of {height} x {width} pixels are not multiples of {self.cell}; '
                             f'resize them to {better[0]} x {better[1]}')
        return frames // self.temporal, height // self.patch, width // self.patch

    def tokens(self, grid: tuple[int, int, int]) -> int:
        "Visual tokens of a grid."
        return math.prod(grid) // self.merge ** 2


# %% [markdown]
# The example used below is not square, and its two pieces of motion can be told apart: a square that goes
# right and a disc that goes down.

# %%
def moving_shapes(frames=8, height=112, width=168):
    rows, columns = np.mgrid[:height, :width]
    clip = np.full((frames, height, width, 3), 235, np.uint8)
    clip[:] -= (rows[..., None] // 3).astype(np.uint8)
    for t in range(frames):
        clip[t][(abs(rows - 40) < 14) & (abs(columns - 30 - 12 * t) < 14)] = (200, 60, 50)
        clip[t][(rows - 20 - 9 * t) ** 2 + (columns - 130) ** 2 < 200] = (50, 90, 200)
    return clip

video = Video('shapes', moving_shapes(), 0.25)
layout = PatchLayout()
grid = layout.grid(*video.frames.shape[:3], video.name)
print('grid', grid, '→', math.prod(grid), 'patches →', layout.tokens(grid), 'visual tokens')
assert grid == (4, 8, 12) and layout.tokens(grid) == 4 * 4 * 6

# %% [markdown]
# The cut, drawn over a frame: thin lines are patches (14 pixels), thick lines visual tokens (28 pixels).
# Numbers count the visual tokens of the first pair of frames in the order in which the language model reads
# them.

# %%
fig, ax = plt.subplots(figsize=(6, 4), dpi=90)
ax.imshow(video.frames[0])
for x in range(0, 169, 14): ax.axvline(x - .5, color='k', lw=1.6 if x % 28 == 0 else .4)
for y in range(0, 113, 14): ax.axhline(y - .5, color='k', lw=1.6 if y % 28 == 0 else .4)
for token in range(24): ax.text(token % 6 * 28 + 3, token // 6 * 28 + 10, token, fontsize=8)
ax.set_xlabel('u (pixel)')
ax.set_ylabel('v (pixel)')
ax.set_title('One frame is 4 × 6 visual tokens', fontsize=10)
plt.show()
assert layout.cell == 28

# %% [markdown]
# ## Patches in Qwen's order
#
# First by four loops, as one would explain it on a blackboard: for each pair of frames, each block of 2 × 2
# patches, each patch in the block; and inside a patch colour first, then the two frames, then rows and
# columns. Pixels are normalised by the mean and spread of the images CLIP was trained on.

# %%
#| export
PIXEL_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
PIXEL_SPREAD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


# %%
def video_to_patches_v1(frames, layout):
    t, h, w = layout.grid(*frames.shape[:3])
    values = (frames / np.float32(255) - PIXEL_MEAN) / PIXEL_SPREAD
    patches = []
    for pair in range(t):
        for block_row in range(h // layout.merge):
            for block_column in range(w // layout.merge):
                for inner in range(layout.merge ** 2):
                    row = (block_row * layout.merge + inner // layout.merge) * layout.patch
                    column = (block_column * layout.merge + inner % layout.merge) * layout.patch
                    cut = values[2 * pair:2 * pair + 2, row:row + layout.patch, column:column + layout.patch]
                    patches.append(cut.transpose(3, 0, 1, 2).ravel())
    return np.stack(patches)


# %% [markdown]
# Then as one reshape and one permutation, for a whole batch of equally large videos at once:

# %%
#| export
def video_to_patches(frames: np.ndarray, layout: PatchLayout, name: str = 'video') -> torch.Tensor:
    "Patches (..., t*h*w, 3*temporal*patch*patch), normalised, of frames (..., T, H, W, 3) in Qwen's order."
    *batch, count, height, width, _ = frames.shape
    t, h, w = layout.grid(count, height, width, name)
    values = torch.from_numpy(frames.astype(np.float32)) / 255
    values = (values - torch.as_tensor(PIXEL_MEAN)) / torch.as_tensor(PIXEL_SPREAD)
    merge, patch = layout.merge, layout.patch
    values = values.reshape(-1, t, layout.temporal, h // merge, merge, patch, w // merge, merge, patch, 3)
    values = values.permute(0, 1, 3, 6, 4, 7, 9, 2, 5, 8)
    # (batch, t, h', w', merge, merge, colour, time, row, column)
    return values.reshape(*batch, t * h * w, 3 * layout.temporal * patch * patch)


# %%
patches = video_to_patches(video.frames, layout)
np.testing.assert_allclose(patches.numpy(), video_to_patches_v1(video.frames, layout), atol=1e-6)
both = video_to_patches(np.stack([video.frames, video.frames[::-1]]), layout)
assert patches.shape == (4 * 8 * 12, 3 * 2 * 14 * 14) and torch.equal(both[0], patches)

# %% [markdown]
# The order, as a picture: frame pixels coloured by the number of their patch. The little z of 2 × 2 patches
# is the block that the vision tower will merge into one token.

# %%
order = np.zeros((8, 12), int)
for index in range(96):
    block, inner = divmod(index, 4)
    order[block // 6 * 2 + inner // 2, block % 6 * 2 + inner % 2] = index
fig, ax = plt.subplots(figsize=(5.5, 3.6), dpi=90)
ax.imshow(order, cmap='viridis')
for (row, column), index in np.ndenumerate(order):
    ax.text(column, row, index, ha='center', va='center', fontsize=7, color='w' if index < 60 else 'k')
ax.set_xlabel('patch column')
ax.set_ylabel('patch row')
ax.set_title('Order of the patches of one pair', fontsize=10)
plt.show()
assert order[1, 1] == 3 and order[0, 2] == 4

# %% [markdown]
# ### The library as a witness
#
# transformers' video processor needs torchvision, its image processor does not. An image is a video of one
# frame shown twice, so it is a full witness for the layout, the order and the normalisation. Where
# torchvision is installed, a test compares with the video processor and the whole processor as well:
# patches, token ids, grids and seconds.

# %%
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

still = video.frames[3]
theirs = Qwen2VLImageProcessorPil()(images=[Image.fromarray(still)], return_tensors='pt')
ours = video_to_patches(np.stack([still, still]), layout)
print('largest difference', float((ours - theirs['pixel_values']).abs().max()))
assert torch.allclose(ours, theirs['pixel_values'], atol=1e-6)
assert theirs['image_grid_thw'].tolist() == [[1, 8, 12]]


# %% [markdown]
# ## From any camera to frames that can be cut
#
# Real clips are 1242 × 375 or 1408 × 1408. Two functions bring them to size: pick frames evenly, and resize
# so that both sides are multiples of 28 and the number of pixels stays within limits. The rule for the size
# is the library's.

# %%
#| export
def pick_frames(total: int, count: int) -> np.ndarray:
    "Indices (count,) spread evenly over `total` frames: 4DP-QA section 4 samples 32 frames uniformly."
    if count > total:
        raise InputError(f'{count} frames were asked for, but the clip has {total}; lower preset.frames')
    return np.round(np.linspace(0, total - 1, count)).astype(int)

def fitting_size(height: int, width: int, least_px: int, most_px: int,
                 layout: PatchLayout) -> tuple[int, int]:
    "Nearest (height, width) in multiples of a token's side, least_px <= area <= most_px, aspect ratio kept."
    cell = layout.cell
    fitted = [max(round(side / cell), 1) * cell for side in (height, width)]
    if math.prod(fitted) > most_px:
        scale = math.sqrt(height * width / most_px)
        fitted = [max(cell, math.floor(side / scale / cell) * cell) for side in (height, width)]
    elif math.prod(fitted) < least_px:
        scale = math.sqrt(least_px / (height * width))
        fitted = [math.ceil(side * scale / cell) * cell for side in (height, width)]
    return fitted[0], fitted[1]


# %%
#| export
def resize_frames(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    "Frames (T, H, W, 3) resized to (T, height, width, 3) with pillow's bicubic filter, as in the library."
    if frames.shape[1:3] == (height, width): return frames
    resized = (Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC) for frame in frames)
    return np.stack([np.asarray(frame) for frame in resized])


# %%
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

for height, width in [(375, 1242), (1408, 1408), (100, 333), (720, 1280), (56, 90)]:
    mine = fitting_size(height, width, 56 * 56, 28 * 28 * 256, layout)
    print(f'{height:5d} x {width:<5d} → {mine[0]} x {mine[1]}, {math.prod(mine) // 784} tokens a pair')
    assert mine == smart_resize(height, width, 28, 56 * 56, 28 * 28 * 256)
assert resize_frames(video.frames, 56, 84).shape == (8, 56, 84, 3)
assert pick_frames(21, 8).tolist() == [0, 3, 6, 9, 11, 14, 17, 20]

# %% [markdown]
# Pictures of other sizes go through the same witness:

# %%
tall = np.ascontiguousarray(moving_shapes(2, 150, 230)[0])
theirs = Qwen2VLImageProcessorPil(size={'shortest_edge': 56 * 56, 'longest_edge': 28 * 28 * 20})(
    images=[Image.fromarray(tall)], return_tensors='pt')
size = fitting_size(*tall.shape[:2], 56 * 56, 28 * 28 * 20, layout)
ours = video_to_patches(resize_frames(np.stack([tall, tall]), *size), layout)
assert torch.allclose(ours, theirs['pixel_values'], atol=1e-6)


# %% [markdown]
# ## Exact counts, and no truncation
#
# A text that is too long can be cut. A video that is cut leaves pads without features, and the model stops
# deep inside, or silently reads nonsense. So we count before anything runs, and refuse with the name of the
# sample and the fix.

# %%
#| export
def refuse_if_too_long(name: str, visual_tokens: int, text_tokens: int, most: int,
                       layout: PatchLayout = PatchLayout(), shape: tuple[int, ...] = ()) -> None:
    "InputError naming sample and fix if it has over `most` tokens; `shape` (T, H, W) makes the fix exact."
    if visual_tokens + text_tokens <= most: return
    room = max(most - text_tokens, 0) / max(visual_tokens, 1)
    fix = f'use at most {room:.2f} times the frames, or {math.sqrt(room):.2f} times the resolution'
    if shape:
        frames = math.floor(shape[0] * room / layout.temporal) * layout.temporal
        sides = [math.floor(side * math.sqrt(room) / layout.cell) * layout.cell for side in shape[1:3]]
        if frames and min(sides):
            fix = (f'use {frames} frames instead of {shape[0]}, '
                   f'or resize {shape[1]} x {shape[2]} to {sides[0]} x {sides[1]}')
    if not visual_tokens or not room: fix = 'shorten its text'
    raise InputError(f'sample {name}: {visual_tokens:,} video tokens + {text_tokens:,} text tokens exceed '
                     f'max_tokens {most:,}; {fix}')


# %%
try: refuse_if_too_long('kitti-0001', 9216, 310, 8192, layout, (36, 448, 896))
except InputError as error: print(error); caught = str(error)
assert 'kitti-0001' in caught and '9,216' in caught and '30 frames instead of 36' in caught
assert layout.tokens(layout.grid(30, 448, 896)) + 310 <= 8192
refuse_if_too_long('fits', 7882, 310, 8192)

# %% [markdown]
# What a video costs, before anything runs. The limits are those of the presets: a tiny clip is 64 tokens;
# the papers' 32 frames of 448 × 448 are 4,096.

# %%
fig, ax = plt.subplots(figsize=(6, 3.2), dpi=90)
for frames in (8, 16, 32, 64):
    sides = np.arange(112, 673, 56)
    counts = [layout.tokens(layout.grid(frames, int(side), int(side))) for side in sides]
    ax.plot(sides, counts, 'o-', ms=3, label=f'{frames} frames')
ax.axhline(8192, color='k', lw=.8, ls='--'); ax.text(120, 8800, 'max_tokens of rtx24', fontsize=8)
ax.set_yscale('log')
ax.set_xlabel('resolution (pixels)')
ax.set_ylabel('visual tokens')
ax.legend(fontsize=8)
plt.show()
assert layout.tokens(layout.grid(32, 448, 448)) == 4096 and layout.tokens(layout.grid(8, 112, 112)) == 64


# %% [markdown]
# ## Time in the positions
#
# Qwen2.5-VL gives each token three positions: time, row, column. Text counts up in all three at once. A
# visual token of pair $k$ at block row $i$ and column $j$ of a video that begins at position $p$ gets
#
# $$\big(p + \lfloor k \cdot r \cdot \Delta \rfloor,\quad p + i,\quad p + j\big)$$
#
# with $\Delta$ the seconds from one pair to the next and $r$ the model's `tokens_per_second`. This is the
# only place where the model hears about seconds. Text goes on at $p + \max(h, w)$ in blocks, **wherever time
# has got to by then**: a long video runs ahead of the words that follow it.

# %%
#| export
def video_positions(grid: tuple[int, int, int], start: int, seconds_per_pair: float, tokens_per_second: float,
                    merge: int = 2) -> np.ndarray:
    "Positions (3, tokens) of one video that begins at position `start`."
    t, h, w = grid[0], grid[1] // merge, grid[2] // merge
    time, row, column = np.meshgrid(np.arange(t), np.arange(h), np.arange(w), indexing='ij')
    ahead = time.astype(np.float32) * np.float32(seconds_per_pair * tokens_per_second)
    time = np.floor(ahead).astype(np.int64)
    return start + np.stack([time, row, column]).reshape(3, -1)

def rope_positions(is_video: Sequence[bool], grids: Sequence[tuple[int, int, int]],
                   seconds_per_pair: Sequence[float], tokens_per_second: float, merge: int = 2) -> np.ndarray:
    "Rotary positions (3, length) of a token sequence in which runs of `is_video` are the videos, in order."
    is_video = np.asarray(is_video, dtype=bool)
    positions, at, start, video = np.zeros((3, len(is_video)), np.int64), 0, 0, 0
    while at < len(is_video):
        if not is_video[at]:
            positions[:, at] = start
            at, start = at + 1, start + 1
            continue
        block = video_positions(grids[video], start, seconds_per_pair[video], tokens_per_second, merge)
        positions[:, at:at + block.shape[1]] = block
        at, start = at + block.shape[1], start + max(grids[video][1:]) // merge
        video += 1
    return positions


# %%
flags = [False] * 5 + [True] * 96 + [False] * 9
positions = rope_positions(flags, [grid], [0.5], tokens_per_second=40)
fig, ax = plt.subplots(figsize=(7, 3), dpi=90)
for line, label, colour in zip(positions, ('time', 'row', 'column'), ('#c1440e', '#2a6f97', '#52b788')):
    ax.plot(line, '.-', ms=3, lw=.6, label=label, color=colour)
ax.axvspan(5, 100.5, color='#eeeeee', zorder=0)
ax.set_xlabel('token')
ax.set_ylabel('position')
ax.legend(fontsize=8)
ax.set_title('A video (grey) between words: time runs ahead of the words that follow', fontsize=10)
plt.show()
assert positions[0].max() > positions[0, -1]
assert positions[0, 101] == 5 + 6

# %% [markdown]
# The library's own function agrees, for several videos in one sequence and for rates that do not divide
# evenly:

# %%
from types import SimpleNamespace
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

def library_positions(flags, grids, seconds, rate):
    vision = SimpleNamespace(spatial_merge_size=2, tokens_per_second=rate)
    one = lambda *args, **named: Qwen2_5_VLModel.get_vision_position_ids(None, *args, **named)
    stand_in = SimpleNamespace(config=SimpleNamespace(vision_config=vision), get_vision_position_ids=one)
    kinds = torch.as_tensor(flags)[None].int() * 2
    found = Qwen2_5_VLModel.get_rope_index(stand_in, torch.zeros_like(kinds).long(), kinds,
                                           video_grid_thw=torch.tensor(grids),
                                           second_per_grid_ts=torch.tensor(seconds))
    return found[0][:, 0].numpy()

two = [False] * 3 + [True] * 96 + [False] * 2 + [True] * 60 + [False] * 7
for rate in (2, 4, 25):
    ours = rope_positions(two, [(4, 8, 12), (3, 4, 20)], [0.5, 0.37], rate)
    assert (ours == library_positions(two, [(4, 8, 12), (3, 4, 20)], [0.5, 0.37], rate)).all()

# %% [markdown]
# And the sentence this section is for: **twice the frame rate halves the encoded time**, exactly.

# %%
slow = rope_positions(flags, [grid], [0.5], tokens_per_second=4)[0, 5:101] - 5
fast = rope_positions(flags, [grid], [0.25], tokens_per_second=4)[0, 5:101] - 5
print('one pair every 0.5 s: ', sorted(set(slow.tolist())), ' every 0.25 s:', sorted(set(fast.tolist())))
assert (slow == 2 * fast).all() and fast.max() == 3

# %% [markdown]
# ## What we proved
#
# * one permutation equals four loops, and both equal the library's processor;
# * counts are exact before anything runs; a sample that is too long is refused by name;
# * positions equal the library's for several videos; twice the frame rate is half the encoded time.

# %% [markdown]
# ## Try it
#
# 1. Swap rows and columns inside a patch in `video_to_patches`. Which assertion notices, and would a square,
#    symmetric picture have hidden it?
# 2. Set `tokens_per_second` to 1 and the frame rate to 8. How many different times are left? (One project
#    truncated them all to zero.)
# 3. How many frames of 448 × 448 fit into `max_tokens` of the preset `rtx24`?
#
# <details><summary>Solutions</summary>
#
# 1. The comparison with the library's processor; a symmetric picture would have hidden it, as would a square one for
#    the exchange of rows and columns of patches.
# 2. Two frames per token at 8 frames per second span 0.25 s; with one position per second, 4 tokens in a row share a
#    time. At rates where the product is below one and is truncated, all of them do.
# 3. 256 tokens per pair of frames: 8,192 tokens hold 32 pairs, so at most 62 frames once the question and the system
#    message have their room.
#
# </details>
