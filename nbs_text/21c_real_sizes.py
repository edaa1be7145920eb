# %% [markdown]
# # Real sizes
# > Qwen2.5-VL-3B and -7B by their published dimensions, without a download: counted on the meta device, or run as a slice of few layers.

# %%
#| default_exp real_sizes

# %% [markdown]
# #| export
# A *slice* is a model whose every matrix has the real shape and of which only the number of layers, and the list of
# words, is smaller. What holds for a layer of it holds for a layer of the real one: shapes, bytes, rounding, time.

# %% [markdown]
# * **What** the two checkpoints that 4DP-QA fine-tunes, as configurations; whole on the meta device, in slices on a laptop
# * **Why** "will it fit?" and "is it still exact at that width?" are questions about shapes, and a shape needs no download
# * **Paper** 4DP-QA §4.1: Qwen2.5-VL-3B and -7B; the dimensions are those of the checkpoints' own `config.json`
# * **Needs** torch, transformers
# * **Time** 20 seconds
# * **Before this** [`14_vlm`](14_vlm.ipynb), [`21b_adapters`](21b_adapters.ipynb)

# %%
#| export
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from track4d_ref.storage import InputError

# %%
import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.packing import ClipExample, collate, pack, packed_loss
from track4d_ref.patches import Video
from track4d_ref.tokens import train_tokenizer
from track4d_ref.viz import PALETTE, use_style

use_style()

# %% [markdown]
# ## Two configurations
#
# Written down once, from the files the checkpoints come with. The two differ in the language model alone; the vision
# tower is the same but for the width it hands over. The small one uses its word table twice (for reading and for
# writing), the larger one has a second table for writing: half a billion weights that four-bit rounding does not touch.

# %%
#| export
TEXT = {'3B': dict(hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16,
                   num_key_value_heads=2, vocab_size=151936),
        '7B': dict(hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
                   num_key_value_heads=4, vocab_size=152064)}
TOWER = dict(depth=32, hidden_size=1280, num_heads=16, intermediate_size=3420, patch_size=14, spatial_merge_size=2,
             temporal_patch_size=2, window_size=112, tokens_per_second=2)
PUBLISHED_WEIGHTS = {'3B': 3_754_622_976, '7B': 8_292_166_656}      # of the checkpoints on the hub

# %%
figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.2), dpi=90)
for axis, key in zip(axes, ('hidden_size', 'intermediate_size', 'num_hidden_layers')):
    axis.bar(list(TEXT), [sizes[key] for sizes in TEXT.values()], color=PALETTE[:2])
    axis.set_title(key, fontsize=9)
    for at, sizes in enumerate(TEXT.values()): axis.text(at, sizes[key], sizes[key], ha='center', va='bottom', fontsize=8)
    axis.margins(y=0.2)
plt.show()
assert all(sizes['hidden_size'] // sizes['num_attention_heads'] == 128 for sizes in TEXT.values())


# %% [markdown]
# One function makes the library's configuration. The number of layers may be cut, and with a tokenizer the words are
# those of the tokenizer. Every eighth block of the real tower looks at a whole frame, the others at windows of 112 pixels;
# in a slice the last block looks at the whole, so both kinds are present from two blocks on.

# %%
#| export
def real_config(size: str, text_layers: int | None = None, vision_layers: int | None = None,
                tokenizer=None) -> Qwen2_5_VLConfig:
    "Configuration of Qwen2.5-VL-`size` ('3B' or '7B'), with fewer layers or a smaller vocabulary where asked."
    if size not in TEXT: raise InputError(f'size {size!r} is not known; use {" or ".join(TEXT)}')
    text = dict(TEXT[size], max_position_embeddings=128000, rms_norm_eps=1e-6, bos_token_id=151643, eos_token_id=151645,
                rope_parameters=dict(rope_type='default', rope_theta=1e6, mrope_section=[16, 24, 24]))
    vision = dict(TOWER, out_hidden_size=text['hidden_size'], fullatt_block_indexes=[7, 15, 23, 31])
    marks = {}
    if text_layers: text['num_hidden_layers'] = text_layers
    if vision_layers: vision.update(depth=vision_layers, fullatt_block_indexes=[vision_layers - 1])
    if tokenizer is not None:
        number = tokenizer.convert_tokens_to_ids
        text.update(vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=number('<|im_end|>'),
                    pad_token_id=number('<|endoftext|>'))
        names = dict(image_token='image_pad', video_token='video_pad', vision_start_token='vision_start',
                     vision_end_token='vision_end')
        marks = {f'{name}_id': number(f'<|{mark}|>') for name, mark in names.items()}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=size == '3B', **marks)


# %% [markdown]
# ## The whole model, weighing nothing
#
# On the *meta* device a tensor has a shape and no numbers. Both models are built in a second, and their weights can be
# counted to the last one: the counts are those of the files on the hub.

# %%
#| export
def meta_model(config: Qwen2_5_VLConfig) -> Qwen2_5_VLForConditionalGeneration:
    "The model of a configuration on the meta device: every shape, no memory."
    with torch.device('meta'): return Qwen2_5_VLForConditionalGeneration(config)

def weights_by_part(model) -> dict[str, int]:
    "How many weights each part has; a table that serves twice is counted once."
    parts = dict.fromkeys(('vision tower', 'word table', 'matrices of the language model', 'rest of the language model',
                           'output table'), 0)
    for name, weight in model.named_parameters():
        if '.visual.' in name: part = 'vision tower'
        elif 'embed_tokens' in name: part = 'word table'
        elif 'lm_head' in name: part = 'output table'
        elif weight.ndim == 2: part = 'matrices of the language model'
        else: part = 'rest of the language model'
        parts[part] += weight.numel()
    return parts


# %%
counted = {}
for size in TEXT:
    counted[size] = weights_by_part(meta_model(real_config(size)))
    print(size, f'{sum(counted[size].values()):,}', counted[size])
    assert sum(counted[size].values()) == PUBLISHED_WEIGHTS[size]

# %% [markdown]
# Most of the weights are the matrices of the language model's layers: those go to four bits. What remains is not small:
# in the 7B model tower and tables hold a fifth of all weights, and kept in 16 bits they are as large as everything that is
# rounded to four.

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.5, 2.4), dpi=90, sharey=True)
for axis, bits in zip(axes, (16, 4.127)):
    for row, size in enumerate(TEXT):
        left = 0
        for (part, count), colour in zip(counted[size].items(), PALETTE):
            gib = count * (bits if part.startswith('matrices') else 16) / 8 / 2**30
            axis.barh(row, gib, left=left, color=colour, label=part if row == 0 else None); left += gib
        axis.text(left, row, f' {left:.1f} GiB', va='center', fontsize=8)
    axis.set(xlabel='GiB', title=f'matrices in {bits:g} bits', yticks=range(2), yticklabels=list(TEXT)); axis.margins(x=0.2)
figure.legend(*axes[0].get_legend_handles_labels(), fontsize=7, ncol=3, loc='upper center', bbox_to_anchor=(0.5, 0.02)); plt.show()
outside = {size: 1 - parts['matrices of the language model'] / sum(parts.values()) for size, parts in counted.items()}
assert 0.2 < outside['7B'] < outside['3B'] < 0.3


# %% [markdown]
# ## A slice that runs
#
# One block and one layer of the 3B model, with two hundred million weights drawn at random, read a clip of three pairs
# of frames and answer two questions. The same function with two layers is what the equality test of packing runs on, and
# what the speed benchmark measures.

# %%
#| export
def slice_model(size: str, tokenizer, text_layers: int = 1, vision_layers: int = 1, seed: int = 0,
                dtype: torch.dtype = torch.float32) -> Qwen2_5_VLForConditionalGeneration:
    "A model with the matrices of the real one, few layers, the tokenizer's words and random weights decided by the seed."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = real_config(size, text_layers, vision_layers, tokenizer)
        return Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype).eval()


# %%
talk = lambda *texts: tuple(dict(role=('user', 'assistant')[i % 2], content=text) for i, text in enumerate(texts))
tokenizer = train_tokenizer(['How does the camera move? left right', 'Is it red? Yes No'] * 5, 300)
frames = np.random.default_rng(0).integers(0, 256, (6, 56, 140, 3), dtype=np.uint8)
example = ClipExample('noise', (Video('noise', frames, 0.25),), (talk('How does the camera move?', 'left'), talk('Is it red?', 'No')))
model = slice_model('3B', tokenizer)
matrices = {name.split('layers.0.')[1]: tuple(weight.shape) for name, weight in model.named_parameters()
            if 'language_model.layers.0' in name and weight.ndim == 2}
matrices

# %%
figure, axis = plt.subplots(figsize=(6, 2.4), dpi=90)
axis.barh([name.replace('.weight', '') for name in matrices], [np.prod(shape) / 1e6 for shape in matrices.values()], color=PALETTE[0])
axis.set(xlabel='million weights', title='one layer of the 3B language model'); plt.show()
whole = meta_model(real_config('3B'))
assert all(tuple(whole.get_parameter(f'model.language_model.layers.35.{name}').shape) == shape for name, shape in matrices.items())

# %% [markdown]
# It computes a loss near that of guessing among all words, and its gradient reaches the first matrix of the tower:

# %%
loss = packed_loss(model, collate(model, [pack(model, tokenizer, example)], [example])) / 2
loss.backward()
gradient = model.model.visual.patch_embed.proj.weight.grad
print(f'loss {loss.item():.2f}, guessing {np.log(len(tokenizer)):.2f}; largest gradient of the patch embedding {float(gradient.abs().max()):.1e}')
assert abs(loss.item() - np.log(len(tokenizer))) < 1 and float(gradient.abs().max()) > 0

# %% [markdown]
# ## What we proved
#
# * The two configurations have exactly as many weights as the checkpoints on the hub.
# * A slice has the matrices of the real model, computes a loss and passes a gradient down to the patches.
#
# ## Try it
#
# 1. How many layers of the 7B model fit into the memory of your laptop, in float32? Compute first, then build them.
# 2. Build the 3B model on the meta device with `tie_word_embeddings=False`. How many weights does that add?
#
# <details><summary>Solutions</summary>
#
# 1. A layer has 233 million weights, 0.93 GB in float32. A slice has few words and one block (0.4 GB), so 16 free GB hold about
#    sixteen; build them with `slice_model('7B', tokenizer, 16)` and look at the process.
# 2. One more table of 151,936 words by 2,048: 311 million weights, a twelfth of the model.
#
# </details>
