# %% [markdown]
# # Memory, before anything runs
# > From a configuration and the shape of one row: the bytes of weights, adapters, gradients, optimiser and activations, part by part.

# %%
#| default_exp memory

# %% [markdown]
# #| export
# Weights are counted on the meta device, so no checkpoint is needed. Activations are what `backward` needs of one decoder layer,
# for gradient checkpointing keeps only the input of each layer. Everything is in bytes.

# %% [markdown]
# * **What** a table of memory for fine-tuning, and a meter that checks it on slices of the real model
# * **Why** "out of memory" after an hour of downloading is the commonest end of a first try
# * **Paper** none; QLoRA's own paper counts weights only, while rows with a long video are decided by activations **[ours]**
# * **Needs** torch, transformers; peft and bitsandbytes for the measured part
# * **Time** 60 seconds
# * **Before this** [`21c_real_sizes`](21c_real_sizes.ipynb), [`14c_prefix_attention`](14c_prefix_attention.ipynb)

# %%
#| export
import weakref
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from track4d_ref.adapters import AdapterPlan
from track4d_ref.nf4 import nf4_bytes
from track4d_ref.real_sizes import meta_model

# %%
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.adapters import add_adapter
from track4d_ref.optimizers import mixed
from track4d_ref.packing import ClipExample, collate, pack, packed_loss, visual_features
from track4d_ref.patches import PatchLayout, Video
from track4d_ref.real_sizes import real_config, slice_model
from track4d_ref.tokens import train_tokenizer
from track4d_ref.viz import PALETTE, use_style

warnings.filterwarnings('ignore'); use_style(); torch.set_num_threads(1)


# %% [markdown]
# ## The shape of a row
#
# Memory does not ask what a row says, only how long its parts are: the prefix with the video, the number of questions, the
# longest of them, the words that are learned, and the patches that go through the tower.

# %%
#| export
@dataclass(frozen=True)
class RowShape:
    "Tokens of a packed row: prefix (with the video), questions, the longest of them, learned ones; and patches of the tower."
    prefix: int
    questions: int
    longest: int
    learned: int
    patches: int

    @property
    def asked(self) -> int: return self.questions * self.longest

    @property
    def length(self) -> int: return self.prefix + self.asked

def row_shape(row, patches: int) -> RowShape:
    "The shape of a `PackedClip`."
    sizes = torch.bincount(row.segments[row.segments >= 0])
    return RowShape(int(sizes[0]), len(sizes) - 1, int(sizes[1:].max()), int((row.labels >= 0).sum()), patches)


# %%
def video_row(frames, side, questions, longest=60, learned=4):
    grid = PatchLayout().grid(frames, side, side)
    return RowShape(PatchLayout().tokens(grid) + 16, questions, longest, learned * questions, int(np.prod(grid)))

paper = video_row(32, 448, 24)
print(paper, 'length', paper.length)
assert paper.prefix == 4096 + 16 and paper.patches == 16384 and paper.length == 4112 + 24 * 60

# %% [markdown]
# Tokens grow with the square of the side and in proportion to the frames; the questions come on top, once:

# %%
figure, axis = plt.subplots(figsize=(6.5, 2.4), dpi=90)
for side, colour in zip((224, 336, 448), PALETTE):
    axis.plot([8, 16, 24, 32], [video_row(frames, side, 24).length for frames in (8, 16, 24, 32)], 'o-', color=colour, label=f'{side} px')
axis.axhline(24 * 60, color='grey', ls=':'); axis.set(xlabel='frames', ylabel='tokens of a row'); axis.legend(fontsize=8); plt.show()
assert video_row(16, 448, 0).prefix - 16 == 2 * (video_row(8, 448, 0).prefix - 16) == 8 * (video_row(8, 224, 0).prefix - 16)

# %% [markdown]
# ## What lies there all the time
#
# | part | bytes per weight |
# |---|---|
# | frozen matrices of the language model in NF4 | 0.516 |
# | what else is frozen (tower, word tables, norms) in bfloat16 | 2 |
# | adapters, in float32 because a step of 1e-4 vanishes in bfloat16 | 4 |
# | their gradients | 4 |
# | AdamW: two averages | 8, or a little over 2 in eight bits |

# %%
#| export
STATE_BYTES = dict(adamw=8.0, adamw8bit=2.0 + 8 / 256, muon=4.0)      # per trained weight

def adapted_linears(model, plan: AdapterPlan) -> dict[str, nn.Linear]:
    "The matrices of the language model that get adapters."
    layers = model.model.language_model.layers
    return {name: part for name, part in layers.named_modules()
            if isinstance(part, nn.Linear) and name.rsplit('.')[-1] in plan.targets}

def standing_bytes(config, plan: AdapterPlan | None, optimizer: str = 'adamw', half: bool = True,
                   freeze_vision: bool = True) -> dict[str, float]:
    "Bytes of weights, adapters, gradients and optimiser state; without a plan every weight is trained, in float32."
    model, each = meta_model(config), 2 if half else 4
    count = lambda part: sum(weight.numel() for weight in part.parameters())
    if plan is None:
        trained = count(model) - freeze_vision * count(model.model.visual)
        return {'frozen weights': 4.0 * (count(model) - trained), 'trained weights': 4.0 * trained, 'gradients': 4.0 * trained,
                'optimiser': STATE_BYTES[optimizer] * trained}
    layers = model.model.language_model.layers
    matrices = [part.weight.numel() for part in layers.modules() if isinstance(part, nn.Linear)]
    small = sum(map(nf4_bytes, matrices)) if plan.quantize == 'nf4' else each * sum(matrices)
    adapters = plan.rank * sum(part.in_features + part.out_features for part in adapted_linears(model, plan).values())
    return {'matrices': float(small), 'other frozen weights': each * (count(model) - sum(matrices)), 'adapters': 4.0 * adapters,
            'gradients': 4.0 * adapters, 'optimiser': STATE_BYTES[optimizer] * adapters}


# %%
GIB = 2**30
plan = AdapterPlan(rank=16, quantize='nf4')
for size in ('3B', '7B'):
    parts = standing_bytes(real_config(size), plan, 'adamw8bit')
    print(size, {name: round(value / GIB, 2) for name, value in parts.items()}, f'{sum(parts.values()) / GIB:.2f} GiB')
whole = standing_bytes(real_config('3B'), None)
print('3B, every weight but the tower', f'{sum(whole.values()) / GIB:.0f} GiB')
assert sum(whole.values()) > 40 * GIB > 24 * GIB > sum(standing_bytes(real_config('7B'), plan, 'adamw8bit').values())

# %% [markdown]
# The same from tensors instead of arithmetic: a slice with adapters, and the bytes of everything it holds.

# %%
tokenizer = train_tokenizer(['How does the camera move? left right forward', 'Yes No'] * 5, 400)
half = torch.backends.cpu.get_cpu_capability() == 'AVX512'
def learner(layers=1, dropout=0.0):
    model = slice_model('3B', tokenizer, layers, 1, dtype=torch.bfloat16 if half else torch.float32)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=dict(use_reentrant=False))
    model = add_adapter(model, replace(plan, dropout=dropout)).train()
    for weight in model.get_base_model().model.visual.parameters(): weight.requires_grad_(False)
    return model

def held(model):
    states = [weight.quant_state for weight in model.parameters() if hasattr(weight, 'quant_state')]
    own = sum(tensor.nbytes for tensor in {id(t): t for t in (*model.parameters(), *model.buffers())}.values())
    return own + sum(state.absmax.nbytes + state.state2.absmax.nbytes + 4 for state in states)

model = learner()
config = real_config('3B', 1, 1, tokenizer)
parts = standing_bytes(config, plan, half=half)
formula, counted = sum(parts[name] for name in ('matrices', 'other frozen weights', 'adapters')), held(model)
print(f'formula {formula / 2**20:.2f} MiB, tensors {counted / 2**20:.2f} MiB')
assert abs(formula / counted - 1) < 0.001


# %% [markdown]
# ## What comes and goes
#
# With gradient checkpointing one layer's activations exist at a time, and of all others the input. The list for one layer,
# for each token, in bytes ($h$ width, $m$ feed-forward width, $b$ = 2 bytes of bfloat16; adapters in four bits save no other
# inputs, for a frozen matrix needs none):
#
# * two norms in float32: $8h$; inputs of the adapted matrices: $3bh$; the feed-forward part: $4bm$
# * attention over the prefix: queries, keys, values, result: $4bh$ per prefix token
# * attention of the questions: queries and result $2bh$ per question token, and **a copy of the prefix's keys and values for
#   every question**: $2bh$ · questions · (prefix + longest). This is the price of `14c_prefix_attention`'s two dense pieces
# * with dropout, a changed copy and a mask of every adapted input: $3(6h + m)$
#
# On the way back come three more vectors of the feed-forward width, or as many bytes again as the questions' keys and values;
# and one matrix at a time is unpacked from four bits.

# %%
#| export
@dataclass(frozen=True)
class LayerBytes:
    "What one decoder layer keeps for its backward pass, and the most that is added on the way back."
    feed_forward: float
    attention: float
    back: float
    unpacked: float

    @property
    def total(self) -> float: return self.feed_forward + self.attention + self.back + self.unpacked

def layer_bytes(config, row: RowShape, plan: AdapterPlan | None, half: bool = True) -> LayerBytes:
    "Bytes of one layer at work on a packed row; shapes as in the list of notebook 21d."
    text, b = config.text_config, 2 if half else 4
    h, m = text.hidden_size, text.intermediate_size
    dropped = 3 * (6 * h + m) if plan and plan.dropout else 0
    copies = 2 * b * h * row.questions * (row.prefix + row.longest)
    mask = row.asked * (row.prefix + row.longest) * (1 + b)
    tokens = row.length * (8 * h + 3 * b * h + 4 * b * m + dropped)
    attention = 4 * b * h * row.prefix + 2 * b * h * row.asked + copies + mask
    back = max(3 * b * m * row.length, copies + 3 * b * h * row.length)
    return LayerBytes(tokens, attention, back, b * h * m if plan and plan.quantize == 'nf4' else 0)


# %%
#| export
def passing_bytes(config, row: RowShape, plan: AdapterPlan | None, half: bool = True, checkpointing: bool = True) -> dict[str, float]:
    "Bytes of activations at their peak: inputs of all layers, one layer at work (or all), logits of the learned words."
    text, b = config.text_config, 2 if half else 4
    at_work, layers = layer_bytes(config, row, plan, half), text.num_hidden_layers
    kept = b * text.hidden_size * row.length * layers if checkpointing else (layers - 1) * (at_work.feed_forward + at_work.attention)
    logits = row.learned * text.vocab_size * (b + 2 * 4)
    return {'layers waiting': kept, 'layer at work': at_work.total, 'logits': logits}

def tower_bytes(config, row: RowShape, half: bool = True) -> float:
    "Bytes of the frozen tower's pass over one clip, which is over before the language model begins: patches and one block."
    vision, b = config.vision_config, 2 if half else 4
    pixels = vision.in_channels * vision.temporal_patch_size * vision.patch_size ** 2 * 4
    return row.patches * (pixels + b * (4 * vision.hidden_size + 3 * vision.intermediate_size))


# %% [markdown]
# ## A meter
#
# What a tensor library allocates can be watched: every operation passes through a *dispatch mode*, and every storage tells
# when it dies. This meter works on a processor to the byte; on a GPU `torch.cuda.max_memory_allocated` says the same.

# %%
#| export
class LiveBytes(TorchDispatchMode):
    "Counts the bytes of tensors that are made inside this context while they live; `peak` is the most there ever were."
    def __init__(self):
        super().__init__()
        self.now, self.peak, self.alive = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for leaf in tree_leaves((args, kwargs)):                     # what comes from outside is known, and costs nothing
            if isinstance(leaf, torch.Tensor): self._count(leaf.untyped_storage(), 0)
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor): self._count(leaf.untyped_storage(), leaf.untyped_storage().nbytes())
        return made

    def _count(self, storage, size) -> None:
        key = storage._cdata
        if key in self.alive: return
        self.alive[key] = weakref.finalize(storage, self._forget, key, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key, size) -> None:
        self.alive.pop(key, None)
        self.now -= size


# %%
outside = torch.zeros(500)
with LiveBytes() as meter:
    outside.view(2, 250).mul_(2)                    # nothing new
    first = torch.zeros(1000, 250)                  # 1 MB
    second = first.view(250, 1000).T                # the same bytes
    third = (first + 1) * 2                         # two more, of which one dies
    del first, second
assert meter.peak == 3_000_000 and meter.now == 1_000_000


# %% [markdown]
# ## Formula against meter
#
# A layer of the 3B model with adapters in four bits reads rows of four shapes: longer videos, more questions, dropout. Processors
# without AVX-512 multiply in bfloat16 a hundred times slower than in float32; there the same comparison is made in float32.

# %%
def measured(model, frames, height, width, questions):
    question = dict(role='user', content='How does the camera move in this video? left or right, or forward?')
    dialogue = (question, dict(role='assistant', content='left'))
    example = ClipExample('clip', (Video('clip', np.zeros((frames, height, width, 3), np.uint8), 0.25),), (dialogue,) * questions)
    row = pack(model, tokenizer, example)
    batch = collate(model, [row], [example])
    precision = 'bfloat16' if half else 'float32'
    with torch.no_grad(), mixed(precision, batch.ids.device), LiveBytes() as tower: seen = visual_features(model, batch)
    batch = replace(batch, features=seen, pixels=None)
    with LiveBytes() as meter:
        with mixed(precision, batch.ids.device): loss = packed_loss(model, batch)
        loss.backward()
    return row_shape(row, frames * height * width // 392), meter.peak, tower.peak

def compared(layers, dropout, shapes):
    model, rows = learner(layers, dropout), []
    for shape in shapes:
        row, peak, tower = measured(model, *shape)
        model.zero_grad()
        parts = passing_bytes(real_config('3B', layers, 1, tokenizer), row, replace(plan, dropout=dropout), half)
        rows.append((row, sum(parts.values()) / 2**20, peak / 2**20, tower_bytes(config, row, half) / 2**20, tower / 2**20))
        print(f'{layers} layers, dropout {dropout}, {row.length} tokens, {row.questions} questions: formula {rows[-1][1]:.0f} MiB, '
              f'meter {rows[-1][2]:.0f} MiB; tower {rows[-1][3]:.0f} and {rows[-1][4]:.0f}')
    return rows

rows = compared(1, 0.0, [(2, 224, 280, 2), (4, 224, 280, 6), (8, 224, 280, 8)]) + compared(2, 0.05, [(4, 140, 224, 8)])
assert all(abs(row[1] / row[2] - 1) < 0.2 for row in rows) and all(abs(row[3] / row[4] - 1) < 0.5 for row in rows)

# %%
figure, axis = plt.subplots(figsize=(6.5, 2.6), dpi=90)
at = np.arange(len(rows))
axis.bar(at - 0.2, [row[1] for row in rows], 0.4, label='formula', color=PALETTE[0])
axis.bar(at + 0.2, [row[2] for row in rows], 0.4, label='meter', color=PALETTE[1])
axis.set_xticks(at, [f'{row[0].length} tokens\n{row[0].questions} questions' for row in rows], fontsize=7)
axis.set_ylabel('MiB'); axis.legend(fontsize=8); plt.show()
assert rows[2][2] > rows[1][2] > rows[0][2]


# %% [markdown]
# ## The table
#
# Everything together. The tower's pass and the language model's activations are never there at the same time, so the peak
# takes the larger one.

# %%
#| export
def memory_table(config, row: RowShape, plan: AdapterPlan | None, optimizer: str = 'adamw', half: bool = True,
                 checkpointing: bool = True, freeze_vision: bool = True) -> dict[str, float]:
    "Bytes of every part and of the peak, for one row at a time, from a configuration alone."
    standing = standing_bytes(config, plan, optimizer, half, freeze_vision)
    passing = passing_bytes(config, row, plan, half, checkpointing)
    tower = tower_bytes(config, row, half)
    return {**standing, **passing, 'tower (not at the same time)': tower,
            'peak': sum(standing.values()) + max(sum(passing.values()), tower)}

def table_text(table: dict[str, float]) -> str:
    "The table as lines of text, in GiB."
    return '\n'.join(f'{name:30s}{value / 2**30:8.2f} GiB' for name, value in table.items())


# %%
tables = {size: memory_table(real_config(size), paper, replace(plan, dropout=0.05), 'adamw8bit') for size in ('3B', '7B')}
for size, table in tables.items(): print(f'Qwen2.5-VL-{size}, QLoRA, 24 questions about 32 frames of 448 x 448\n{table_text(table)}\n')
assert tables['3B']['peak'] < tables['7B']['peak'] < 24 * GIB

# %% [markdown]
# What more questions per row cost, and what a card allows. Beyond a point the copies of keys and values grow faster than
# anything else; `split_dialogues` cuts a clip's questions into rows that fit.

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.5, 2.7), dpi=90, sharey=True)
counts = (1, 4, 8, 16, 24, 32, 48)
for axis, size in zip(axes, ('3B', '7B')):
    for side, colour in zip((224, 336, 448), PALETTE):
        peaks = [memory_table(real_config(size), video_row(32, side, count), plan, 'adamw8bit')['peak'] / GIB for count in counts]
        axis.plot(counts, peaks, 'o-', color=colour, label=f'{side} px')
    for card in (12, 16, 24): axis.axhline(card, color='grey', ls=':', lw=1); axis.text(0, card, f'{card} GB', fontsize=7, va='bottom')
    axis.set(xlabel='questions per row', title=f'{size}, 32 frames')
axes[0].set_ylabel('peak, GiB'); axes[0].legend(fontsize=8, loc='center right', bbox_to_anchor=(1, 0.62)); plt.show()
assert memory_table(real_config('3B'), video_row(32, 224, 24), plan, 'adamw8bit')['peak'] < 12e9

# %% [markdown]
# ## What we proved
#
# * The bytes that stand all the time follow from counting, and equal the tensors of a slice to a thousandth.
# * The bytes that pass follow from a list of what a layer keeps: within 3 % of a meter that sees every tensor, and 8 % below it with dropout. The
#   tower's pass is told a quarter too low; it never decides.
#
# ## Try it
#
# 1. What does `checkpointing=False` cost for the 3B model with one question? And with 224 pixels?
# 2. Which is cheaper: 24 questions in one row, or two rows of twelve? Look at memory and at the benchmark of packing.
#
# <details><summary>Solutions</summary>
#
# 1. Every layer then keeps what one keeps at work: at 448 pixels about 36 times as much, just beyond 24 GB; at 224 pixels with one question it fits.
# 2. Two rows of twelve need about half of what a layer copies, and read the video twice unless the tower's features are kept.
#
# </details>
