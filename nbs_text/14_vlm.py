# %% [markdown]
# # The model
# > transformers' own Qwen2.5-VL class at two sizes: tiny from scratch, or a real checkpoint; saved, loaded, and asked.

# %%
#| default_exp vlm

# %% [markdown]
# #| export
# A *sample* is a pair (videos, messages): the videos of one clip and one dialogue about them. `model_inputs`
# turns samples into the library's own arguments, one row per sample. `ask` and `choose` answer one question
# per row; notebook 20 does the same with all questions of a clip in one row.

# %% [markdown]
# * **What** a vision-language model that fits into a laptop, in the same class as the real one
# * **Why** the code a student steps through must be the code that runs the 3-billion-parameter checkpoint
# * **Paper** 4DP-QA §4 (Qwen2.5-VL-3B and 7B), MLLM-4D §4 and LMM-Track4D build on the same family; the tiny
#   sizes are **[ours]**
# * **Needs** torch, transformers, safetensors
# * **Time** 20 seconds
# * **Before this** notebooks 13 and 13a

# %%
#| export
import math
from pathlib import Path

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from track4d_ref.patches import PatchLayout, Video, refuse_if_too_long, video_to_patches
from track4d_ref.presets import Preset
from track4d_ref.storage import InputError, atomic_folder
from track4d_ref.tokens import (IGNORE, answer_ids, chat_ids, first_line, is_hub_name,
                                load_tokenizer, prefix_ids)

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.presets import load_preset
from track4d_ref.tokens import train_tokenizer


# %% [markdown]
# ## One class, three numbers per tower
#
# Depth, width and heads come from the preset. Three details are fixed here:
#
# * the rotary sections: Qwen splits the frequencies of a head into time, row and column like 16 : 24 : 24;
#   we keep that ratio at any head size;
# * all layers of the tiny vision tower attend over the whole pair of frames (the real one uses windows of
#   112 pixels, which at our resolution is the whole frame);
# * the table of word embeddings is also the output layer, as in the real 3B.

# %%
#| export
def rope_sections(head_size: int) -> list[int]:
    "How many of a head's head_size / 2 frequencies turn with time, row, column; Qwen's 16 : 24 : 24 of 64."
    side = round(head_size / 2 * 24 / 64)
    return [head_size // 2 - 2 * side, side, side]

def vlm_config(preset: Preset, tokenizer) -> Qwen2_5_VLConfig:
    "Configuration of the tiny or small model; token numbers come from the tokenizer."
    number = tokenizer.convert_tokens_to_ids
    feed_forward = lambda width: 64 * math.ceil(width * 8 / 3 / 64)   # three matrices, as many weights as two
    text = dict(vocab_size=len(tokenizer), hidden_size=preset.text_width,
                intermediate_size=feed_forward(preset.text_width),
                num_hidden_layers=preset.text_layers, num_attention_heads=preset.text_heads,
                num_key_value_heads=preset.text_kv_heads, max_position_embeddings=4 * preset.max_tokens,
                rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=number('<|im_end|>'),
                pad_token_id=number('<|endoftext|>'),
                rope_parameters=dict(rope_type='default', rope_theta=1e4,
                                     mrope_section=rope_sections(preset.text_width // preset.text_heads)))
    vision = dict(depth=preset.vision_layers, hidden_size=preset.vision_width, num_heads=preset.vision_heads,
                  intermediate_size=feed_forward(preset.vision_width), out_hidden_size=preset.text_width,
                  patch_size=preset.patch_size, spatial_merge_size=preset.merge_size,
                  temporal_patch_size=preset.temporal_patch_size, tokens_per_second=4,
                  fullatt_block_indexes=list(range(preset.vision_layers)))
    marks = {f'{name}_id': number(f'<|{mark}|>') for name, mark in (
        ('image_token', 'image_pad'), ('video_token', 'video_pad'), ('vision_start_token', 'vision_start'),
        ('vision_end_token', 'vision_end'))}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **marks)


# %%
#| export
def build_vlm(preset: Preset, tokenizer, seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    "A new model with random weights decided by the seed; the global random state is left alone."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = vlm_config(preset, tokenizer)
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.float32)
    return model.eval()

def bare_model(model) -> Qwen2_5_VLForConditionalGeneration:
    "The Qwen2.5-VL model inside adapters, or the model itself."
    return model.get_base_model() if hasattr(model, 'get_base_model') else model

def layout_of(model) -> PatchLayout:
    "How this model's vision tower cuts frames."
    vision = bare_model(model).config.vision_config
    return PatchLayout(vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)


# %%
preset = load_preset('tiny')
corpus = ['How does the camera move? A. forward and left B. pan right C. tilt up D. backward. ',
          'Answer with the letter.',
          'Does the camera move forward? Answer Yes or No.', 'Where is the red ball? left right up down'] * 9
tokenizer = train_tokenizer(corpus, 400)
model = build_vlm(preset, tokenizer)
parts = {'vision tower': model.model.visual, 'word table': model.get_input_embeddings(),
         'text layers': model.model.language_model.layers}
counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
for name, count in counts.items(): print(f'{name:13s} {count:9,} parameters')
assert sum(counts.values()) + preset.text_width == sum(p.numel() for p in model.parameters())

# %% [markdown]
# Where the weights are, beside the published sizes of the real 3B (vision 0.67, word table 0.31, text layers
# 2.77 billion):

# %%
real = dict(zip(counts, (668e6, 311e6, 2775e6)))
fig, ax = plt.subplots(figsize=(6, 1.7), dpi=90)
for row, sizes in enumerate((counts, real)):
    left = 0
    for (name, count), colour in zip(sizes.items(), ('#2a6f97', '#e9c46a', '#52b788')):
        ax.barh(row, count / sum(sizes.values()), left=left, color=colour, label=name if row == 0 else None)
        left += count / sum(sizes.values())
ax.set_yticks([0, 1], ['tiny', 'Qwen2.5-VL-3B']); ax.set_xlabel('share of the parameters')
ax.legend(fontsize=7, ncols=3, loc=(0, 1.02)); plt.show()
assert model.lm_head.weight is model.get_input_embeddings().weight
assert sum(rope_sections(128)) == 64 and rope_sections(128) == [16, 24, 24]

# %% [markdown]
# Same seed, same model; and nobody else's random numbers were touched:

# %%
torch.manual_seed(5); first = torch.rand(1); torch.manual_seed(5)
twin = build_vlm(preset, tokenizer)
assert torch.equal(torch.rand(1), first)
assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))
assert not torch.equal(build_vlm(preset, tokenizer, seed=1).lm_head.weight, model.lm_head.weight)


# %% [markdown]
# ## From samples to the library's arguments
#
# One row per sample. Rows are padded on the left for answering (so that all answers begin in the same
# column) and on the right for training. Positions are computed by the library from the grids and
# `second_per_grid_ts`. A row that is longer than the positions the model was built for is refused by the
# name of its video, never cut.

# %%
#| export
def video_inputs(model, videos: tuple[Video, ...]) -> dict[str, torch.Tensor]:
    "Patches of all videos and their grids; {} without videos."
    if not videos: return {}
    layout = layout_of(model)
    return dict(pixel_values_videos=torch.cat([video_to_patches(v.frames, layout, v.name) for v in videos]),
                video_grid_thw=torch.tensor([layout.grid(*v.frames.shape[:3], v.name) for v in videos]),
                second_per_grid_ts=torch.tensor([v.seconds_per_frame * layout.temporal for v in videos]))

def most_positions(model) -> int:
    "The longest sequence the model was built for."
    return bare_model(model).config.text_config.max_position_embeddings

def video_token_counts(model, videos: tuple[Video, ...]) -> tuple[int, ...]:
    "Visual tokens of each video."
    layout = layout_of(model)
    return tuple(layout.tokens(layout.grid(*v.frames.shape[:3], v.name)) for v in videos)


# %%
#| export
def model_inputs(model, tokenizer, samples, pad_left: bool = False) -> dict[str, torch.Tensor]:
    "Arguments of the library's forward for a list of (videos, messages), one padded row each, with labels."
    rows = []
    for number, (videos, messages) in enumerate(samples):
        ids, labels = chat_ids(tokenizer, messages, f'sample {number}')
        counts = video_token_counts(model, videos)
        front = prefix_ids(tokenizer, counts)
        name, shape = (videos[0].name, videos[0].frames.shape) if videos else (str(number), ())
        refuse_if_too_long(name, sum(counts), len(front + ids) - sum(counts), most_positions(model),
                           layout_of(model), shape)
        rows.append((front + ids, [IGNORE] * len(front) + labels))
    longest = max(len(ids) for ids, _ in rows)
    def padded(values, filler):
        room = [filler] * (longest - len(values))
        return room + values if pad_left else values + room
    input_ids = torch.tensor([padded(ids, tokenizer.pad_token_id) for ids, _ in rows])
    made = dict(input_ids=input_ids, labels=torch.tensor([padded(labels, IGNORE) for _, labels in rows]),
                attention_mask=torch.tensor([padded([1] * len(ids), 0) for ids, _ in rows]),
                mm_token_type_ids=(input_ids == bare_model(model).config.video_token_id).int() * 2,
                **video_inputs(model, tuple(video for videos, _ in samples for video in videos)))
    return {name: value.to(bare_model(model).device) for name, value in made.items()}


# %%
rng = np.random.default_rng(0)
wide = Video('wide', rng.integers(0, 255, (4, 84, 140, 3), dtype=np.uint8), 0.25)
square = Video('square', rng.integers(0, 255, (8, 112, 112, 3), dtype=np.uint8), 0.25)
def says(question, answer):
    return {'role': 'user', 'content': question}, {'role': 'assistant', 'content': answer}

samples = [((wide,), says('How does the camera move?', 'pan right')),
           ((square,), says('Does the camera move left?', 'No')),
           ((), says('Where is the red ball?', 'left'))]
inputs = model_inputs(model, tokenizer, samples)
for name, value in inputs.items(): print(f'{name:20s} {str(tuple(value.shape)):12s} {value.dtype}')
with torch.no_grad(): output = model(**inputs)
print(f'untrained loss {float(output.loss):.3f} ≈ ln(vocabulary) = {math.log(len(tokenizer)):.3f}')
assert abs(float(output.loss) - math.log(len(tokenizer))) < 0.4

# %% [markdown]
# The three rows as pictures: video tokens, words that are read, words that are learned, padding.

# %%
kind = torch.where(inputs['mm_token_type_ids'] == 2, 1, 2)
kind = torch.where(inputs['labels'] != IGNORE, 3, kind) * inputs['attention_mask']
fig, ax = plt.subplots(figsize=(8, 1.6), dpi=90)
colours = plt.matplotlib.colors.ListedColormap(['#ffffff', '#9db4c0', '#e0e0e0', '#2d9d5f'])
ax.imshow(kind, aspect='auto', cmap=colours)
ax.set_yticks(range(3), ['wide video', 'square video', 'no video']); ax.set_xlabel('token')
ax.set_title('video (blue), read (grey), learned (green), padding (white)', fontsize=9); plt.show()
assert (kind == 1).sum(1).tolist() == [30, 64, 0]

# %%
long = Video('long', np.zeros((560, 112, 112, 3), np.uint8), 0.25)
try: model_inputs(model, tokenizer, [((long,), says('Where is the red ball?', 'left'))])
except InputError as error: refused = str(error)
print(refused)
assert 'sample long' in refused and 'frames instead of 560' in refused


# %% [markdown]
# Does the model look at the video at all? Other frames must change the loss; so must another frame rate,
# because time is in the positions. Both are tested on the training path here; how much time there is on
# either path, further below.

# %%
def loss_of(frames, seconds):
    video = Video('probe', frames, seconds)
    inputs = model_inputs(model, tokenizer, [((video,), samples[1][1])])
    with torch.no_grad(): return float(model(**inputs).loss)

base_loss = loss_of(square.frames, 0.25)
assert loss_of(255 - square.frames, 0.25) != base_loss and loss_of(square.frames, 0.5) != base_loss
assert loss_of(square.frames, 0.25) == base_loss


# %% [markdown]
# ## Save and load
#
# A model folder holds `config.json`, `model.safetensors` and the tokenizer. Half precision halves the file;
# a model that ships with the project is saved like that, and is always computed with in float32 on a CPU.

# %%
#| export
def save_vlm(model, tokenizer, folder: Path | str, dtype: torch.dtype = torch.float32) -> None:
    "Write configuration, weights (safetensors, in `dtype`) and tokenizer into `folder`, whole or not at all."
    weights = {name: value.to(dtype).contiguous() for name, value in model.state_dict().items()}
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial, state_dict=weights)
        tokenizer.save_pretrained(partial)

def load_vlm(folder: Path | str, dtype: torch.dtype = torch.float32):
    "(model, tokenizer) from a folder, or of a checkpoint 'owner/model'; InputError if it cannot be read."
    remote = is_hub_name(folder)
    if not remote and not (Path(folder) / 'config.json').exists():
        raise InputError(f'{folder}: holds no config.json; give the folder of a saved model')
    read = Qwen2_5_VLForConditionalGeneration.from_pretrained
    try: model = read(str(folder), dtype=dtype, local_files_only=not remote)
    except Exception as error:
        fix = f'download it with: hf download {folder}' if remote else 'save or download it again'
        raise InputError(f'{folder}: the model cannot be read ({first_line(error)}); {fix}') from None
    return model.eval(), load_tokenizer(folder)


# %%
with tempfile.TemporaryDirectory() as folder:
    save_vlm(model, tokenizer, f'{folder}/full')
    save_vlm(model, tokenizer, f'{folder}/half', dtype=torch.bfloat16)
    again, its_tokenizer = load_vlm(f'{folder}/full')
    half, _ = load_vlm(f'{folder}/half')
    size = lambda name: Path(folder, name, 'model.safetensors').stat().st_size / 1e6
    sizes = {name: size(name) for name in ('full', 'half')}
print({name: f'{size:.1f} MB' for name, size in sizes.items()})
assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
assert its_tokenizer.get_vocab() == tokenizer.get_vocab() and next(half.parameters()).dtype == torch.float32
with torch.no_grad(): assert torch.equal(again(**inputs).logits, output.logits)

# %% [markdown]
# Half precision moves the logits a little. How little, as a histogram of the difference over all tokens and
# entries:

# %%
with torch.no_grad(): drift = (half(**inputs).logits - output.logits).abs()
drift = drift[inputs['attention_mask'].bool()].flatten()
fig, ax = plt.subplots(figsize=(5.5, 2.2), dpi=90)
ax.hist(drift, bins=60, color='#2a6f97'); ax.set_yscale('log')
ax.set(xlabel='|logit in bfloat16 - logit in float32|', ylabel='entries'); plt.show()
assert 0 < float(drift.max()) < 0.1 and float(drift.mean()) < 0.05 * float(output.logits.std())


# %% [markdown]
# ## Asking
#
# Greedy answers, several questions at once, through the library's own `generate`. With a cache each new word
# costs one step; without it the whole sequence is read again. Both must say the same words.

# %%
#| export
def ask(model, tokenizer, samples, most_words: int = 16, cached: bool = True) -> list[str]:
    "Greedy answers (texts without end token) to (videos, messages) samples that end with the user's message."
    inputs = model_inputs(model, tokenizer, samples, pad_left=True)
    inputs.pop('labels')
    with torch.no_grad():
        out = model.generate(**inputs, do_sample=False, max_new_tokens=most_words, use_cache=cached,
                             pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    return [tokenizer.decode(row, skip_special_tokens=True) for row in out[:, inputs['input_ids'].shape[1]:]]


# %% [markdown]
# An untrained model says the same word all the time, whatever it sees. For an honest test we enlarge its
# weights, so that what it says depends on every token.

# %%
loud = build_vlm(preset, tokenizer, seed=3)
with torch.no_grad():
    for parameter in loud.parameters():
        if parameter.ndim == 2: parameter.mul_(3)
questions = [(videos, messages[:1]) for videos, messages in samples]
answers = ask(loud, tokenizer, questions, most_words=7)
for answer in answers: print(repr(answer))
assert answers == ask(loud, tokenizer, questions, most_words=7, cached=False)
assert answers == [ask(loud, tokenizer, [question], most_words=7)[0] for question in questions]


# %% [markdown]
# ## Time, on both paths
#
# Seconds reach the model through one argument, `second_per_grid_ts`, and several versions of the library
# have lost it on the way, when training or when generating, without a word. So we listen at the door of the
# language model: which positions arrive there when it is trained, and which when it answers? **Twice the
# frame rate must be exactly half the encoded time**, on both paths.

# %%
def times(seconds, path):
    "The time positions of the video's tokens, as they reach the language model, counted from its first."
    video, caught = Video('square', square.frames, seconds), []
    listen = lambda module, args, named: caught.append(named['position_ids'])
    hook = loud.model.language_model.register_forward_pre_hook(listen, with_kwargs=True)
    inputs = model_inputs(loud, tokenizer, [((video,), samples[1][1])], pad_left=path == 'answering')
    is_video = inputs['mm_token_type_ids'][0] == 2
    if path == 'training': loud(**inputs).loss.backward(); loud.zero_grad()
    else:
        inputs.pop('labels')
        loud.generate(**inputs, do_sample=False, max_new_tokens=2, pad_token_id=0)
    hook.remove()
    found = caught[0][-3, 0][is_video]             # time, row, column are the last three rows
    return (found - found[0]).numpy()


# %%
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.4), sharey=True)
for ax, path in zip(axes, ('training', 'answering')):
    slow, fast = times(1.0, path), times(0.5, path)
    ax.plot(slow, color='#c1440e', label='1 frame a second')
    ax.plot(fast, color='#2a6f97', label='2 frames a second')
    ax.set(title=path, xlabel='visual token'); ax.legend(fontsize=7)
    assert slow.max() == 3 * 2 * 4 and (slow == 2 * fast).all()     # 3 pairs of 2 s at 4 positions a second
axes[0].set_ylabel('time position'); plt.show()


# %% [markdown]
# And the words of the answer change with it, or rather their scores, with a cache and without:

# %%
def first_scores(seconds, cached):
    question = [((Video('square', square.frames, seconds),), samples[1][1][:1])]
    inputs = model_inputs(loud, tokenizer, question, pad_left=True)
    inputs.pop('labels')
    return loud.generate(**inputs, do_sample=False, max_new_tokens=2, use_cache=cached, output_logits=True,
                         return_dict_in_generate=True, pad_token_id=0).logits

for cached in (True, False):
    assert not torch.allclose(first_scores(.25, cached)[0], first_scores(.5, cached)[0])
assert torch.allclose(first_scores(.25, True)[1], first_scores(.25, False)[1], atol=1e-4)


# %% [markdown]
# ## Choosing
#
# A question with options needs no free text: compare the log-probability of each option as the answer,
# $\sum_i \log p(w_i \mid \text{video}, \text{question}, w_{<i})$ including the end token. Options may have
# any length.

# %%
#| export
def choose(model, tokenizer, videos: tuple[Video, ...], messages: tuple[dict, ...],
           choices: tuple[str, ...]) -> torch.Tensor:
    "Log-probabilities (choices,) of each text as the assistant's whole answer; one row per choice."
    samples = [(videos, (*messages, {'role': 'assistant', 'content': choice})) for choice in choices]
    inputs = model_inputs(model, tokenizer, samples)
    labels = inputs.pop('labels')[:, 1:]
    with torch.no_grad(): logits = model(**inputs).logits[:, :-1]
    said = labels != IGNORE
    return (torch.log_softmax(logits, -1).gather(-1, labels.clamp(min=0)[..., None])[..., 0] * said).sum(1)


# %%
options = ('forward', 'pan right', 'A', 'left right up down')
scores = choose(loud, tokenizer, (square,), says('How does the camera move?', '')[:1], options)
for option, score in zip(options, scores):
    print(f'{option:20s} {score:8.3f}   {len(answer_ids(tokenizer, option))} tokens + end')
one = choose(loud, tokenizer, (square,), says('How does the camera move?', '')[:1], options[1:2])
assert torch.allclose(one[0], scores[1], atol=1e-4)

# %% [markdown]
# The probabilities of *all* answers add up to one, so the scores of some are below zero and add up to less:

# %%
assert (scores < 0).all() and float(scores.exp().sum()) < 1
inputs = model_inputs(loud, tokenizer, [((square,), says('How does the camera move?', 'pan right'))])
with torch.no_grad(): loss = loud(**inputs).loss
assert abs(float(loss) * (len(answer_ids(tokenizer, 'pan right')) + 1) + float(scores[1])) < 1e-3

# %% [markdown]
# ## What we proved
#
# * one class serves both sizes; equal seeds give equal models;
# * saved and loaded models compute the same, bit for bit;
# * cached, uncached, batched and single answers are the same words;
# * video and frame rate reach the loss and the answers; twice the frame rate is half the encoded time on
#   both paths.

# %% [markdown]
# ## Try it
#
# 1. Build the preset `small` and draw its bar beside the two above.
# 2. Give `model_inputs` a video of 100 × 112 pixels and read the error.
# 3. Divide the scores of `choose` by the number of tokens. Which option wins now, and which rule is fairer?
#
# <details><summary>Solutions</summary>
#
# 1. `build_vlm(load_preset('small'), tokenizer)` and sum `p.numel()` by part. Width grows the matrices with its
#    square, depth linearly, the word table linearly.
# 2. 100 is not a multiple of 28 (patch 14 times merge 2). The sentence names the video, the size and the multiple to
#    use.
# 3. Sums favour short options, means favour long ones with predictable ends. For a fixed set of options whose lengths
#    differ, compare with the unconditional score of each option; that is fairer than both.
#
# </details>
