# %% [markdown]
# # FlexAttention
# > The same rule of who sees whom, as a function that a GPU compiler turns into a kernel; nothing is copied for a question.

# %%
#| default_exp flex_attention

# %% [markdown]
# * **What** packed rows through PyTorch's FlexAttention: the rule is three comparisons, whole blocks of the square are skipped
# * **Why** the two dense pieces of [`14c_prefix_attention`](14c_prefix_attention.ipynb) copy the prefix's keys and values for every question; with
#   4,096 visual tokens and 24 questions that copy is the largest thing in memory
# * **Paper** none **[ours]**
# * **Needs** torch; for training a GPU with Triton, for the compiled forward on a processor a C++ compiler
# * **Time** 15 seconds
# * **Before this** [`14c_prefix_attention`](14c_prefix_attention.ipynb)

# %%
#| export
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

# %%
import matplotlib.pyplot as plt
import numpy as np
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from track4d_ref.prefix_attention import prefix_attention_forward, shared_prefix
from track4d_ref.viz import PALETTE, use_style

use_style()


# %% [markdown]
# ## The rule as a function
#
# A packed row numbers its tokens: 0 for the prefix, 1, 2, … for the questions, -1 for padding. Token *q* sees token *k* if *k* does not
# come later and belongs to the prefix or to the same question. FlexAttention asks this function once for every *block* of 128 × 128 and
# keeps three lists: blocks that are empty, full, or mixed. Empty ones are never computed, full ones need no comparison.

# %%
#| export
def flex_mask(segments: torch.Tensor) -> BlockMask:
    "The block mask of packed rows with segment numbers (B, L)."
    rows, length = segments.shape
    def sees(row, _, query, key):
        kind = segments[row, key]
        return (query >= key) & ((kind == 0) | (kind == segments[row, query]))
    return create_block_mask(sees, rows, None, length, length, device=segments.device)


# %%
def row_of(prefix, questions, size): return torch.cat([torch.zeros(prefix), torch.arange(1, questions + 1).repeat_interleave(size)]).long()[None]
mask = flex_mask(row_of(600, 8, 75))
blocks = mask.to_dense()[0, 0]
figure, axis = plt.subplots(figsize=(3, 3), dpi=90)
axis.imshow(blocks, cmap='Greens', vmin=0, vmax=1.4); axis.set(xlabel='block of keys', ylabel='block of queries', title='blocks that are computed'); plt.show()
print(f'{int(blocks.sum())} of {blocks.numel()} blocks; mask is {mask.sparsity():.0f} % empty')
assert blocks[-1].sum() < len(blocks) and blocks[0].sum() == 1

# %% [markdown]
# With a long video almost all that is left is the prefix's own triangle and the questions' look at the prefix:

# %%
counts = (1, 4, 8, 16, 24)
empty = {name: [flex_mask(row_of(prefix, count, 60)).sparsity() for count in counts] for name, prefix in (('64 visual tokens', 64), ('4,096 visual tokens', 4096))}
figure, axis = plt.subplots(figsize=(5.5, 2.4), dpi=90)
for (name, values), colour in zip(empty.items(), PALETTE): axis.plot(counts, values, 'o-', color=colour, label=name)
axis.set(xlabel='questions', ylabel='empty blocks, %'); axis.legend(fontsize=8); plt.show()
assert 40 < empty['4,096 visual tokens'][-1] < 60

# %% [markdown]
# ## Equal to the two pieces
#
# Rows of different lengths, fewer keys than queries' heads, against the dense square and against our two pieces. On a processor
# FlexAttention has no backward pass, so the gradient is compared by the tests where a GPU is.

# %%
segments = torch.tensor([[0] * 40 + [1] * 9 + [2] * 14 + [-1] * 3, [0] * 25 + [1] * 20 + [2] * 5 + [3] * 16])
generator = torch.Generator().manual_seed(0)
query, key, value = (torch.randn(2, heads, segments.shape[1], 16, generator=generator) for heads in (6, 2, 2))
with torch.no_grad():
    flexible = flex_attention(query, key, value, block_mask=flex_mask(segments), enable_gqa=True, scale=0.25).transpose(1, 2)
    pieces = prefix_attention_forward(None, query, key, value, shared_prefix(segments), scaling=0.25)[0]
    order = torch.arange(segments.shape[1])
    square = (((segments[:, None] == 0) | (segments[:, None] == segments[:, :, None])) & (order[None] <= order[:, None]))[:, None]
    dense = scaled_dot_product_attention(query, key.repeat_interleave(3, 1), value.repeat_interleave(3, 1), attn_mask=square, scale=0.25).transpose(1, 2)
real = segments >= 0
apart = [float((flexible - other)[real].abs().max()) for other in (dense, pieces)]
print('largest difference to the dense square', apart[0], 'and to the two pieces', apart[1])
assert max(apart) < 1e-5

# %%
figure, axes = plt.subplots(1, 3, figsize=(7.5, 1.9), dpi=90)
for axis, values, name in zip(axes, (dense, pieces, flexible), ('dense square', 'two pieces', 'FlexAttention')):
    axis.imshow(values[0, :, 0].T, aspect='auto', cmap='RdBu', vmin=-2, vmax=2); axis.set_title(name, fontsize=9); axis.set_yticks([]); axis.set_xlabel('token')
plt.show()
assert torch.allclose(flexible[real], pieces[real], atol=1e-5)


# %% [markdown]
# ## What is copied
#
# Memory for keys and values that one layer of the 3B model holds for a row of 4,112 prefix tokens and questions of 60, in bfloat16:

# %%
def mib(tokens): return 2 * tokens * 2048 * 2 / 2**20               # keys and values, 16 heads of 128
held = {'two pieces': [mib(count * (4112 + 60)) for count in counts], 'FlexAttention': [mib(4112 + 60 * count) for count in counts]}
figure, axis = plt.subplots(figsize=(5.5, 2.4), dpi=90)
for (name, values), colour in zip(held.items(), PALETTE): axis.plot(counts, values, 'o-', color=colour, label=name)
axis.set(xlabel='questions', ylabel='MiB per layer'); axis.legend(fontsize=8); plt.show()
assert held['two pieces'][-1] > 15 * held['FlexAttention'][-1]

# %% [markdown]
# ## Switching it on
#
# The library's model takes a `BlockMask` in place of a mask when its attention is called `flex_attention`; notebook 20 hands it one then. It
# is not the default: on a processor it cannot train, and on a GPU nobody has measured it here. On a card, `use_flex_attention(model)` before
# the training, and compare `track4d preflight`'s seconds and peak with and without.

# %%
#| export
NAME = 'flex_attention'

def use_flex_attention(model) -> None:
    "Let the language model of a Qwen2.5-VL read packed rows with FlexAttention; training then needs a GPU."
    model.model.language_model.config._attn_implementation = NAME

def flex_attention_is_on(model) -> bool:
    "Whether `use_flex_attention` was called on this model, or it was loaded so."
    return model.model.language_model.config._attn_implementation == NAME


# %%
from track4d_ref.presets import load_preset
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm

model = build_vlm(load_preset('tiny'), train_tokenizer(['a b'] * 3, 280))
assert not flex_attention_is_on(model)
use_flex_attention(model)
assert flex_attention_is_on(model) and model.model.visual.config._attn_implementation == 'sdpa'

# %% [markdown]
# ## What we proved
#
# * The block mask computes what the dense square and the two pieces compute, for rows of different lengths.
# * It holds keys and values once, where the two pieces hold a copy for every question.
# * Speed and gradients on a GPU: **not measured here**.
#
# ## Try it
#
# 1. Sort the questions by length. Does the number of mixed blocks change?
# 2. On a GPU: from which prefix length on is FlexAttention faster than the two pieces?
#
# <details><summary>Solutions</summary>
#
# 1. A little: blocks on the border between two questions are mixed, and equal lengths that divide 128 have the fewest such borders.
# 2. Unknown here. Time one layer, forward and backward, for prefixes of 256 to 4,096 with 24 questions, after a first call that compiles.
#
# </details>
