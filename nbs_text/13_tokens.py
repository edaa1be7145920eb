# %% [markdown]
# # Tokens
# > Text on its way into the model: a byte-level tokenizer of our own, Qwen's chat template, and the label mask.

# %%
#| default_exp tokens

# %% [markdown]
# #| export
# A dialogue is a sequence of messages `{'role': 'user' | 'assistant' | 'system', 'content': text}`. Its
# token ids come in two parts: the *prefix* (system message, opening of the first user message, the videos)
# is the same for every question on a clip; the *segment* is everything after it. Labels hold the token's own
# id where the model must learn it, else -100.

# %% [markdown]
# * **What** text → token ids, and which of them the model is trained to say
# * **Why** a label mask that is off by one word trains the wrong thing and never raises an error
# * **Paper** 4DP-QA §4 and MLLM-4D §4 train Qwen2.5-VL with its own template; the tiny tokenizer is
#   **[ours]**
# * **Needs** tokenizers, transformers
# * **Time** 10 seconds
# * **Before this** nothing

# %%
#| export
import re
from html import escape
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from track4d_ref.storage import InputError, atomic_folder

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML

# %% [markdown]
# ## A tokenizer of our own
#
# The real Qwen2.5-VL has 151,936 tokens; a table of embeddings for them alone would be ten times our whole
# tiny model. So tiny gets its own vocabulary, made by the same recipe: byte-level byte-pair encoding.
# *Byte-level* means that all 256 bytes are in the vocabulary, so that every text of the world can be
# written, only longer. Two rules come from Qwen:
#
# * digits stand apart (`0.412` is five tokens), so that numbers have one spelling;
# * the special tokens have their usual names, so that the same template works at both sizes.

# %%
#| export
SPECIAL_TOKENS = ('<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|vision_start|>', '<|vision_end|>',
                  '<|vision_pad|>', '<|image_pad|>', '<|video_pad|>')
WORD_PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


# %%
#| export
def train_tokenizer(texts, vocabulary: int) -> PreTrainedTokenizerFast:
    "Byte-level BPE with digits apart and Qwen's special tokens, with at most `vocabulary` entries."
    smallest = 256 + len(SPECIAL_TOKENS)
    if vocabulary < smallest:
        raise InputError(f'vocabulary = {vocabulary} cannot hold all bytes and special tokens; '
                         f'use at least {smallest}')
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORD_PATTERN), 'isolated'),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL_TOKENS), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return _wrap(core)

def _wrap(core: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token='<|im_end|>', pad_token='<|endoftext|>',
                                   clean_up_tokenization_spaces=False)


# %%
corpus = ['How does the camera move? A. forward and left B. pan right C. tilt up D. backward\n'
          'Answer with the letter.',
          'Does the camera move forward? Answer Yes or No.',
          'frame 17: (0.412, 0.587) visible; frame 3: occluded'] * 20
small = train_tokenizer(corpus, 500)
for text in ('How does the camera move?', 'frame 17: (0.412, 0.587)', 'Ωmega ≠ 漢'):
    print(f'{len(small.tokenize(text)):3d} tokens', small.tokenize(text))

# %% [markdown]
# Words it has met are one token, strange ones fall apart into bytes, and nothing is lost:

# %%
for text in (corpus[0], 'Ωmega ≠ 漢字 🚗\t\n two  blanks ', "it's 3.14159", '<b>&amp;</b>'):
    assert small.decode(small(text).input_ids) == text
assert small.tokenize('0.412') == ['0', '.', '4', '1', '2']
assert all(len(small(token).input_ids) == 1 for token in SPECIAL_TOKENS)

# %% [markdown]
# How large should the vocabulary be? The text of the questions shrinks fast at first; beyond some hundred
# entries every word of our templates is already a single token.

# %%
sizes = [264, 290, 320, 360, 420, 500]
lengths = [len(train_tokenizer(corpus, size)(corpus[0]).input_ids) for size in sizes]
fig, ax = plt.subplots(figsize=(5.5, 2.6), dpi=90)
ax.plot(sizes, lengths, 'o-')
ax.set_xlabel('entries in the vocabulary')
ax.set_ylabel('tokens of one question')
ax.set_ylim(0); ax.set_title('More entries, shorter questions', fontsize=10); plt.show()
assert lengths == sorted(lengths, reverse=True) and lengths[-1] < lengths[0] / 3


# %% [markdown]
# ## Saved beside the model
#
# A folder with `tokenizer.json` is all it takes; `AutoTokenizer` of a real checkpoint gives the same class.
# A model and its tokenizer lie in one folder, because the numbers of one mean nothing without the other. A
# name like `Qwen/Qwen2.5-VL-3B-Instruct` that is no folder here is looked up in the library's cache and on
# its hub.

# %%
#| export
def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path | str) -> None:
    "Write tokenizer.json and its configuration into `folder`, whole or not at all."
    with atomic_folder(folder) as partial: tokenizer.save_pretrained(partial)

def is_hub_name(name: Path | str) -> bool:
    "Whether `name` reads like 'owner/model' and there is no such folder, nor an owner's folder, here."
    return (re.fullmatch(r'[\w.-]+/[\w.-]+', str(name)) is not None and str(name)[0] != '.'
            and not Path(name).exists() and not Path(name).parent.exists())

def load_tokenizer(folder: Path | str) -> PreTrainedTokenizerFast:
    "The tokenizer in `folder`, or of a checkpoint 'owner/model'; InputError if it is missing or broken."
    path, remote = Path(folder), is_hub_name(folder)
    if not remote and not (path / 'tokenizer.json').exists():
        raise InputError(f'{path}: holds no tokenizer.json; give the folder of a saved model')
    try: return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=not remote)
    except Exception as error:
        fix = f'download it with: hf download {folder}' if remote else 'save the tokenizer again'
        raise InputError(f'{path}/tokenizer.json: not readable ({first_line(error)}); {fix}') from None

def first_line(error: Exception) -> str:
    "The first line of an error's message."
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# %%
import tempfile

with tempfile.TemporaryDirectory() as folder:
    save_tokenizer(small, f'{folder}/tokenizer')
    again = load_tokenizer(f'{folder}/tokenizer')
    assert again.get_vocab() == small.get_vocab()
    assert again.tokenize('0.412 漢') == small.tokenize('0.412 漢')
    assert is_hub_name('Qwen/Qwen2.5-VL-3B-Instruct')
    assert not is_hub_name(folder) and not is_hub_name('./model')

# %% [markdown]
# ## Qwen's chat template, cut where the video ends
#
# Qwen's template turns messages into one text:
#
# ```
# <|im_start|>system
# You are a helpful assistant.<|im_end|>
# <|im_start|>user
# <|vision_start|><|video_pad|>…<|vision_end|>How does the camera move?<|im_end|>
# <|im_start|>assistant
# forward<|im_end|>
# ```
#
# Everything up to the last `<|vision_end|>` is the same for every question on one clip. We call it the
# **prefix** and the rest the **segment**; packing (notebook 20) lives on that cut. The pad token stands once
# per visual token, and the next notebook counts those.

# %%
#| export
SYSTEM_MESSAGE = 'You are a helpful assistant.'

def prefix_text(video_tokens: tuple[int, ...] = (), system: str = SYSTEM_MESSAGE) -> str:
    "Template text up to the end of the videos; one number of visual tokens per video, none = a blind prompt."
    videos = ''.join(f'<|vision_start|>{"<|video_pad|>" * count}<|vision_end|>' for count in video_tokens)
    return f'<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{videos}'

def strip_video_marks(content: str) -> str:
    "The text of a message without its '<video>' marks and the line breaks after them."
    while content.startswith('<video>'): content = content.removeprefix('<video>').lstrip('\n')
    return content


# %%
#| export
def segment_pieces(messages: tuple[dict, ...], name: str = 'dialogue') -> list[tuple[str, bool]]:
    "Template text after the videos as (text, is it the assistant's own); ends open if the user spoke last."
    roles = [message.get('role') for message in messages]
    if not roles or roles != ['user', 'assistant'] * (len(roles) // 2) + ['user'] * (len(roles) % 2):
        raise InputError(f'{name}: roles {roles} must alternate user, assistant, … beginning with user; '
                         f'reorder messages')
    pieces = []
    for index, message in enumerate(messages):
        content = strip_video_marks(message['content'])
        if any(token in content for token in SPECIAL_TOKENS) or '<video>' in content:
            raise InputError(f'{name}: message {index} contains a special token or a late <video>; remove it')
        if message['role'] == 'assistant': pieces.append((f'{content}<|im_end|>', True))
        else: pieces += [('\n<|im_start|>user\n', False)] * (index > 0) + [
            (f'{content}<|im_end|>\n<|im_start|>assistant\n', False)]
    return pieces


# %%
dialogue = ({'role': 'user', 'content': '<video>\nHow does the camera move?'},
            {'role': 'assistant', 'content': 'forward'},
            {'role': 'user', 'content': 'Does the camera move left? Answer Yes or No.'},
            {'role': 'assistant', 'content': 'No'})
whole = prefix_text((3,)) + ''.join(text for text, _ in segment_pieces(dialogue))
print(whole)

# %% [markdown]
# The reference is the template that ships with the real checkpoints, in the template language of
# transformers. We write down the part of it that concerns us and compare the two renderings.

# %%
QWEN = """{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ m['role'] }}
{% for c in m['content'] %}{% if c['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{%
else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}"""
parts = [dict(role=m['role'], content=[{'type': 'video'}] * m['content'].startswith('<video>')
              + [{'type': 'text', 'text': strip_video_marks(m['content'])}]) for m in dialogue]
theirs = small.apply_chat_template(parts, chat_template=QWEN, tokenize=False)
assert prefix_text((1,)) + ''.join(text for text, _ in segment_pieces(dialogue)) + '\n' == theirs

# %% [markdown]
# ## The label mask
#
# The model learns to say the assistant's words and the `<|im_end|>` after them; it is not trained on the
# question, the template, or the video. The end token belongs to the labels: without it the model would never
# learn to stop.

# %%
#| export
IGNORE = -100

def chat_ids(tokenizer, messages: tuple[dict, ...], name: str = 'dialogue') -> tuple[list[int], list[int]]:
    "(ids, labels) of a segment; labels are the ids of the assistant's words and end tokens, else IGNORE."
    ids, labels = [], []
    for text, own in segment_pieces(messages, name):
        piece = tokenizer(text, add_special_tokens=False).input_ids
        ids += piece
        labels += piece if own else [IGNORE] * len(piece)
    return ids, labels

def prefix_ids(tokenizer, video_tokens: tuple[int, ...] = (), system: str = SYSTEM_MESSAGE) -> list[int]:
    "Token ids of `prefix_text`."
    return tokenizer(prefix_text(video_tokens, system), add_special_tokens=False).input_ids


# %%
#| export
def label_mask_html(tokenizer, ids: list[int], labels: list[int]) -> str:
    "The tokens as coloured text: green = learned, grey = only read; pads of a video are shown as one mark."
    cells, pad = [], tokenizer.convert_tokens_to_ids('<|video_pad|>')
    for index, (token, label) in enumerate(zip(ids, labels)):
        if token == pad and index and ids[index - 1] == pad: continue
        text = f'<|video_pad|> × {ids.count(pad)}' if token == pad else tokenizer.decode([token])
        colour = '#b7e4c7' if label != IGNORE else '#eeeeee'
        shown = escape(text).replace('\n', '↵')
        cells.append(f'<span style="background:{colour};color:#222;border:1px solid #fff">{shown}</span>')
    return f'<div style="font-family:monospace;line-height:1.9">{"".join(cells)}</div>'


# %%
ids, labels = chat_ids(small, dialogue)
front = prefix_ids(small, (64,))
HTML(label_mask_html(small, front + ids, [IGNORE] * len(front) + labels))

# %% [markdown]
# The test that matters: decoding what is *not* masked gives exactly the assistant's words, and nothing else.

# %%
learned = small.decode([label for label in labels if label != IGNORE])
assert learned == 'forward<|im_end|>No<|im_end|>'
assert all(label in (token, IGNORE) for token, label in zip(ids, labels))

# %% [markdown]
# The same mask as a strip: one column per token. Almost everything in a training sample is read, little is
# learned. That is the reason why one question per sample wastes work, and why notebook 20 packs many.

# %%
strip = np.array([[0] * len(front) + [2 if label != IGNORE else 1 for label in labels]])
fig, ax = plt.subplots(figsize=(8, 1.1), dpi=90)
ax.imshow(strip, aspect='auto', cmap=plt.matplotlib.colors.ListedColormap(['#9db4c0', '#e0e0e0', '#2d9d5f']))
ax.set_yticks([]); ax.set_xlabel('token')
count = f'{(strip == 2).sum()} of {strip.size} tokens'
ax.set_title(f'prefix (blue) · question and template (grey) · learned (green): {count}', fontsize=9)
plt.show()
assert (strip == 2).sum() < 0.1 * strip.size


# %% [markdown]
# ## Input that is refused
#
# A question which contains template tokens could close its own message and speak as the assistant. Roles
# that do not alternate have no place in the template. Both are refused, by name.

# %%
#| export
def answer_ids(tokenizer, answer: str) -> list[int]:
    "Token ids of an answer as the model has to say it, without the end token."
    return tokenizer(answer, add_special_tokens=False).input_ids


# %%
def refusal(call, *args):
    try: call(*args)
    except InputError as error: return str(error)

print(refusal(chat_ids, small, ({'role': 'user', 'content': 'hi<|im_end|>'},), 'sample 17'))
print(refusal(chat_ids, small, ({'role': 'assistant', 'content': 'hi'},), 'sample 18'))
assert 'sample 17' in refusal(chat_ids, small, ({'role': 'user', 'content': 'hi<|im_end|>'},), 'sample 17')
assert 'sample 18' in refusal(chat_ids, small, ({'role': 'assistant', 'content': 'hi'},), 'sample 18')
assert 'vocabulary = 100' in refusal(train_tokenizer, corpus, 100)
forward = answer_ids(small, 'forward')
assert forward == [label for label in labels if label != IGNORE][:len(forward)]

# %% [markdown]
# ## What the answer costs
#
# One more look at the lengths of the answers our question types ask for. Letters and Yes/No are one token; a
# trajectory is by far the longest answer, because digits stand apart.

# %%
answers = {'B': 'letter', 'Yes': 'yes/no', 'forward and left': 'words',
           'frame 17: (0.412, 0.587) visible': 'one track point'}
counts = [len(answer_ids(small, answer)) for answer in answers]
fig, ax = plt.subplots(figsize=(5.5, 1.9), dpi=90)
ax.barh(list(answers.values()), counts, color='#2d9d5f'); ax.set_xlabel('tokens to be learned'); plt.show()
assert counts[0] == 1 and max(counts) == counts[-1]

# %% [markdown]
# ## What we proved
#
# * any text survives the tokenizer, digits stand apart, each special token is one token;
# * prefix + segment is Qwen's own template, character by character;
# * the unmasked labels decode to the assistant's words and end tokens, exactly.

# %% [markdown]
# ## Try it
#
# 1. Leave the end token out of the labels in `segment_pieces` and find the assertion that notices.
# 2. Let `WORD_PATTERN` keep digits together (`\p{N}+`). How many tokens does a trajectory take now, and what
#    is lost?
# 3. Add a system message of your own to the prefix: which part of a cached prefix has to be computed again?
#
# <details><summary>Solutions</summary>
#
# 1. The one that decodes what has labels and expects the answer *and* its end. Without it the model never learns to
#    stop, and greedy answers run on to the limit.
# 2. Count tokens of one answer before and after. Fewer tokens, but each number becomes a word of its own that must
#    have been seen; digits generalise to unseen numbers.
# 3. Everything: the system message stands first, and what follows attends to it. Only text after the video can change
#    for free.
#
# </details>
