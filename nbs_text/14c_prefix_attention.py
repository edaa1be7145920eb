# %% [markdown]
# # Attention with a shared prefix
# > Many questions behind one video: every question looks at the prefix and at itself, and no product is computed in vain.

# %%
#| default_exp prefix_attention

# %% [markdown]
# #| export
# Rows (B, L) carry segment numbers: 0 = prefix, 1, 2, … = questions, -1 = padding at the end. `SharedPrefix` takes the place
# of the attention mask in the library's model; the result is that of the dense mask, up to rounding.

# %% [markdown]
# * **What** the attention of packed rows in two dense pieces instead of one square that is mostly masked
# * **Why** with 24 questions per clip nine tenths of the square would be computed and thrown away
# * **Paper** none; **[ours]**, the blocks are those of prefix sharing in language model servers
# * **Needs** torch, transformers
# * **Time** 15 seconds
# * **Before this** `14_vlm`

# %%
#| export
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

# %%
import time

import matplotlib.pyplot as plt
import numpy as np


# %% [markdown]
# ## The square and what is needed of it
#
# $P$ prefix tokens and $n$ questions of $S$ tokens make a square of $(P + nS)^2$ products. Needed are $P^2$ for the prefix
# and $S\,(P+S)$ for each question.

# %%
def dense_mask(segments):
    order = torch.arange(segments.shape[1])
    query, key = segments[:, :, None], segments[:, None, :]
    return (((key == 0) | (key == query)) & (order[None, :] <= order[:, None]))[:, None]

counts = np.arange(1, 33)
fig, ax = plt.subplots(figsize=(5.5, 2.5), dpi=90)
for prefix, name in ((85, 'tiny: 85 tokens before the questions'), (4120, 'papers: 4,120')):
    ax.plot(counts, (prefix + 45 * counts) ** 2 / (prefix ** 2 + counts * 45 * (prefix + 45)), label=name)
ax.set_xlabel('questions of 45 tokens'); ax.set_ylabel('square / needed'); ax.legend(fontsize=8); plt.show()
assert (85 + 45 * 24) ** 2 > 8 * (85 ** 2 + 24 * 45 * (85 + 45))


# %% [markdown]
# ## Where everything is
#
# From the segment numbers we note once per batch: how long each prefix is, and for every question its row and the places of
# its tokens in the flattened batch. The prefix is always the beginning of a row, so plain causal attention over the first
# columns serves it; rows with a shorter prefix compute a few values there that nobody reads.

# %%
#| export
@dataclass(frozen=True)
class SharedPrefix:
    "Where prefix and segments of packed rows lie; made once per batch by `shared_prefix`."
    longest: int                 # columns of the longest prefix
    front: torch.Tensor          # places of all prefix tokens in the flattened rows
    front_columns: torch.Tensor  # the same places in the rows cut after `longest` columns
    row: torch.Tensor            # (N,) row of each segment
    places: torch.Tensor         # (N, S) places of its tokens in the flattened rows, padded with its first
    real: torch.Tensor           # (N, S) bool: not padding
    mask: torch.Tensor           # (N, 1, S, longest + S) bool: what each token of a segment sees


# %%
#| export
def shared_prefix(segments: torch.Tensor) -> SharedPrefix:
    "The layout of packed rows with segment numbers (B, L)."
    rows, columns = segments.shape
    device, flat = segments.device, segments.flatten()
    lengths = (segments == 0).sum(1)
    longest = int(lengths.max())
    code = torch.arange(rows, device=device).repeat_interleave(columns) * (columns + 1) + flat
    inside = torch.nonzero(flat > 0)[:, 0]
    _, sizes = torch.unique_consecutive(code[inside], return_counts=True)
    parts = inside.split(sizes.tolist())
    places = pad_sequence(list(parts), batch_first=True) if parts else inside.reshape(0, 1)
    real = torch.arange(places.shape[1], device=device) < sizes[:, None]
    row = places[:, 0] // columns
    own = torch.ones(places.shape[1], places.shape[1], dtype=torch.bool, device=device).tril()
    seen = torch.arange(longest, device=device) < lengths[row][:, None]                                # (N, longest)
    mask = torch.cat([seen[:, None].expand(-1, len(own), -1), own.expand(len(row), -1, -1)], -1)
    front = torch.nonzero(flat == 0)[:, 0]
    return SharedPrefix(longest, front, front // columns * longest + front % columns, row,
                        torch.where(real, places, places[:, :1]), real, mask[:, None])


# %%
segments = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, -1], [0, 0, 1, 1, 1, 1, 2, 3, 3]])
where = shared_prefix(segments)
print('rows of the segments', where.row.tolist(), 'lengths', where.real.sum(1).tolist())
assert where.row.tolist() == [0, 0, 1, 1, 1] and where.real.sum(1).tolist() == [2, 3, 4, 1, 2]
assert segments.flatten()[where.places].tolist() == [[1, 1, 1, 1], [2, 2, 2, 2], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]

# %% [markdown]
# What one question sees, as a picture: the whole prefix of its own row, then a triangle.

# %%
fig, axes = plt.subplots(1, 5, figsize=(7.5, 1.8), dpi=90)
for ax, mask, row in zip(axes, where.mask[:, 0], where.row):
    ax.imshow(mask, cmap=plt.matplotlib.colors.ListedColormap(['#ffffff', '#2d9d5f'])); ax.axvline(where.longest - .5, color='k', lw=1)
    ax.set_title(f'row {int(row)}', fontsize=8); ax.set_yticks([]); ax.set_xticks([])
axes[0].set_xlabel('prefix | itself', fontsize=8); plt.show()
assert not where.mask[2, 0, :, 2].any() and where.mask[0, 0, :, 2].all()     # the second row's prefix is shorter


# %% [markdown]
# ## The two pieces
#
# The library hands its attention function queries, keys and values as (B, heads, L, size) and whatever was passed as the
# mask. Ours takes the two pieces where the mask is a `SharedPrefix` and leaves everything else to the library.

# %%
#| export
def _pick(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    "Tokens (N, heads, S, size) at flat places (N, S) of values (B, heads, L, size)."
    flat = values.transpose(1, 2).flatten(0, 1)
    return flat.index_select(0, places.flatten()).unflatten(0, places.shape).transpose(1, 2)

def prefix_attention_forward(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    "The library's attention function: (B, L, heads, size) and no weights; dense masks go to its own SDPA."
    if not isinstance(attention_mask, SharedPrefix):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
    where, groups = attention_mask, query.shape[1] // key.shape[1]
    if groups > 1: key, value = (tensor.repeat_interleave(groups, 1) for tensor in (key, value))
    batch, heads, length, size = query.shape
    begin = [tensor[:, :, :where.longest] for tensor in (query, key, value)]
    front = scaled_dot_product_attention(*begin, dropout_p=dropout, is_causal=True, scale=scaling)
    joined = [torch.cat([start.index_select(0, where.row), _pick(tensor, where.places)], 2) for start, tensor in zip(begin[1:], (key, value))]
    asked = scaled_dot_product_attention(_pick(query, where.places), *joined, attn_mask=where.mask, dropout_p=dropout, scale=scaling)
    out = query.new_zeros(batch * length, heads, size)
    out = out.index_copy(0, where.front, front.transpose(1, 2).flatten(0, 1).index_select(0, where.front_columns))
    out = out.index_copy(0, where.places[where.real], asked.transpose(1, 2)[where.real])
    return out.unflatten(0, (batch, length)), None


# %%
#| export
NAME = 'shared_prefix'
AttentionInterface.register(NAME, prefix_attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)

def use_prefix_attention(model) -> bool:
    "Let the language model of a Qwen2.5-VL take `SharedPrefix` masks; False if it runs another attention than SDPA."
    config = model.model.language_model.config
    if config._attn_implementation == 'sdpa': config._attn_implementation = NAME
    return config._attn_implementation == NAME


# %% [markdown]
# Equal to the dense mask in value and gradient, with fewer keys than queries' heads and rows of different lengths:

# %%
generator = torch.Generator().manual_seed(0)
def leaves(heads): return torch.randn(2, heads, 9, 8, generator=generator, dtype=torch.float64, requires_grad=True)

query, key, value = leaves(6), leaves(2), leaves(2)
ours = prefix_attention_forward(None, query, key, value, where, scaling=8 ** -0.5)[0]
dense = scaled_dot_product_attention(query, key.repeat_interleave(3, 1), value.repeat_interleave(3, 1), attn_mask=dense_mask(segments),
                                     scale=8 ** -0.5).transpose(1, 2)
real = segments >= 0
weights = torch.randn(ours.shape, generator=generator, dtype=torch.float64) * real[..., None, None]
gradients = [torch.autograd.grad((out * weights).sum(), (query, key, value)) for out in (ours, dense)]
print('largest difference of values', float((ours - dense)[real].abs().max()))
assert torch.allclose(ours[real], dense[real], atol=1e-12) and (ours[~real] == 0).all()
assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*gradients))

# %% [markdown]
# ## What it saves
#
# One attention layer of the tiny size, forward and backward, on rows of 85 prefix tokens and questions of 45:

# %%
torch.set_num_threads(1)

def milliseconds(questions, packed):
    rows = torch.cat([torch.zeros(85), torch.arange(1, questions + 1).repeat_interleave(45)]).long().expand(2, -1)
    q, k, v = (torch.randn(2, 6, rows.shape[1], 32, requires_grad=True) for _ in range(3))
    mask = shared_prefix(rows) if packed else dense_mask(rows)
    spent = []
    for _ in range(4):
        begin = time.perf_counter()
        out = prefix_attention_forward(None, q, k, v, mask)[0] if packed else scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out.sum().backward(); spent.append(1000 * (time.perf_counter() - begin))
    return min(spent)

sizes = (2, 6, 12, 24)
spent = {name: [milliseconds(n, packed) for n in sizes] for name, packed in (('dense mask', False), ('two pieces', True))}
fig, ax = plt.subplots(figsize=(5.5, 2.4), dpi=90)
for name, values in spent.items(): ax.plot(sizes, values, 'o-', label=name)
ax.set_xlabel('questions'); ax.set_ylabel('milliseconds'); ax.legend(fontsize=8); plt.show()
print({name: [round(value, 1) for value in values] for name, values in spent.items()})
assert spent['two pieces'][-1] < spent['dense mask'][-1]

# %% [markdown]
# ## What we proved
#
# * Two dense pieces equal the masked square in value and gradient, for rows with different prefixes and grouped keys.
# * With many questions they take a fraction of the time.

# %% [markdown]
# ## Try it
#
# 1. Give two questions very different lengths. What does the padding of the shorter one cost, and how would you sort?
# 2. Let the questions see each other's answers on purpose: which part of `SharedPrefix` has to change?
#
# <details><summary>Solutions</summary>
#
# 1. The padded rows are computed and thrown away: cost goes with the longest times the number of questions. Sort by
#    length and cut into groups, as `length_batches` does.
# 2. The part that masks own keys per question: one causal block over all of them instead of one per question. Then
#    order matters, and nothing is equal to separate samples any more.
#
# </details>
