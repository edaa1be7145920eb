# %% [markdown]
# # Adapters
# > LoRA and 4-bit weights by the libraries, on our model: add, train, save as one folder, load, merge.

# %%
#| default_exp adapters

# %% [markdown]
# * **What** the wiring between our model, peft's LoRA and bitsandbytes' NF4, and the one folder that holds all that was trained
# * **Why** the three commonest complaints of people who fine-tune: the adapter does not load, the merged model answers
#   differently, the new words were not saved
# * **Paper** MLLM-4D's script: rank 128, α 256, dropout 0.05 on q, k, v, o; 4DP-QA §4.1 trains all weights but the vision
#   encoder's; LMM-Track4D publishes nothing, rank 16 and α 32 are **[ours]**
# * **Needs** torch, transformers, peft, bitsandbytes (the extra `lora`)
# * **Time** 30 seconds
# * **Before this** [`21_lora`](21_lora.ipynb) and [`21a_nf4`](21a_nf4.ipynb), where both are written by hand

# %%
#| export
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from track4d_ref.presets import Preset
from track4d_ref.storage import InputError, atomic_folder, read_json, write_json
from track4d_ref.tokens import is_hub_name, load_tokenizer
from track4d_ref.vlm import bare_model, load_vlm, save_vlm

# %%
import tempfile
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.packing import ClipExample, collate, pack, packed_hidden, packed_loss
from track4d_ref.patches import Video
from track4d_ref.presets import load_preset
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm

from transformers.utils.logging import disable_progress_bar

warnings.filterwarnings('ignore'); disable_progress_bar()

# %% [markdown]
# ## A plan
#
# Five numbers and words of the preset say everything about adapters. Only matrices of the *language model* are adapted:
# the vision tower has matrices of the same names (`gate_proj`, `up_proj`, `down_proj`), and a list of names alone would
# catch them too, silently. Hence a pattern that begins with the language model.

# %%
#| export
ATTENTION = ('q_proj', 'k_proj', 'v_proj', 'o_proj')
FEED_FORWARD = ('gate_proj', 'up_proj', 'down_proj')

@dataclass(frozen=True)
class AdapterPlan:
    "Which matrices of the language model get adapters of which rank, and whether what is frozen is kept in four bits."
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ATTENTION + FEED_FORWARD
    quantize: str = 'none'                    # or 'nf4'
    new_tokens: tuple[int, ...] = ()          # rows of the word table that learn as well

    @property
    def pattern(self) -> str:
        "Regular expression of the module names that are adapted."
        return rf'.*language_model\.layers\.\d+\..*\.({"|".join(self.targets)})'

def adapter_plan(preset: Preset, new_tokens: tuple[int, ...] = ()) -> AdapterPlan | None:
    "The plan of a preset; None where lora_rank is 0 and every weight is trained."
    if not preset.lora_rank: return None
    targets = ATTENTION if preset.lora_targets == 'attention' else ATTENTION + FEED_FORWARD
    return AdapterPlan(preset.lora_rank, preset.lora_alpha, preset.lora_dropout, targets, preset.quantize, new_tokens)


# %%
preset = load_preset('tiny', ('lora_rank=8', 'lora_alpha=16', 'quantize=nf4', 'text_layers=3'))
plan = adapter_plan(preset)
print(plan)
assert adapter_plan(load_preset('tiny')) is None and adapter_plan(load_preset('rtx24')).quantize == 'nf4'

# %% [markdown]
# The model of this notebook is the tiny one, with a tokenizer that knows the words of three questions. Its matrices have
# both kinds of names, in both towers; the pattern picks those of the language model only.

# %%
user = lambda text: {'role': 'user', 'content': text}
says = lambda text: {'role': 'assistant', 'content': text}
corpus = ['How does the camera move? forward and left', 'Does it turn? Answer Yes or No.', 'Where is the red ball?'] * 9
tokenizer = train_tokenizer(corpus, 400)

def fresh(seed=0):
    model = build_vlm(preset, tokenizer, seed)
    with torch.no_grad(): model.get_input_embeddings().weight.mul_(3)       # louder words: a new table says almost nothing
    return model

import re
names = [name for name, part in fresh().named_modules() if isinstance(part, nn.Linear)]
caught = [name for name in names if re.fullmatch(plan.pattern, name)]
print(len(names), 'matrices,', len(caught), 'adapted; for example', caught[0])
assert len(caught) == 7 * preset.text_layers and not any('visual' in name for name in caught)
assert any('visual' in name and name.endswith('gate_proj') for name in names)


# %% [markdown]
# ## Frozen weights in four bits
#
# bitsandbytes' `Linear4bit` holds a matrix as NF4 (see [`21a_nf4`](21a_nf4.ipynb)) and computes with its dequantised
# values. We exchange the matrices of the language model one by one, each on the device where it will live, so that a model
# of 7 billion weights never has to lie on the card at full size. Word table, norms and the vision tower stay as they are.

# %%
#| export
def quantize_linears(part: nn.Module, compute_dtype: torch.dtype, device: torch.device | str = 'cpu') -> int:
    "Exchange every nn.Linear in `part` for a frozen 4-bit one (NF4, double quantisation); how many there were."
    from bitsandbytes.nn import Linear4bit, Params4bit
    count = 0
    for parent in list(part.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear: continue
            small = Linear4bit(child.in_features, child.out_features, child.bias is not None, compute_dtype,
                               compress_statistics=True, quant_type='nf4', device='meta')
            small.support_avx512bf16_for_cpu = False      # its packed kernel fails at widths that 64 does not divide
            small.weight = Params4bit(child.weight.data, requires_grad=False, quant_type='nf4',
                                      compress_statistics=True, module=small).to(device)
            if child.bias is not None: small.bias = nn.Parameter(child.bias.data.to(device), requires_grad=False)
            setattr(parent, name, small)
            count += 1
    return count


# %%
model = fresh()
layers = model.model.language_model.layers
bytes_of = lambda part: sum(p.numel() * p.element_size() for p in part.parameters())
before, count = bytes_of(layers), quantize_linears(layers, torch.float32)
after = bytes_of(layers)
print(f'{count} matrices, {before:,} bytes in float32, {after:,} in four bits: {before / after:.1f} times smaller')
assert count == len(caught) and 7 < before / after < 8.1

# %%
fig, ax = plt.subplots(figsize=(6, 1.5), dpi=90)
parts = {'vision tower': model.model.visual, 'word table': model.get_input_embeddings(), 'text layers': layers}
for row, sizes in enumerate(([bytes_of(p) for p in list(parts.values())[:2]] + [before], [bytes_of(p) for p in parts.values()])):
    left = 0
    for size, colour, name in zip(sizes, ('#2a6f97', '#e9c46a', '#52b788'), parts):
        ax.barh(row, size / 1e6, left=left, color=colour, label=name if row == 0 else None); left += size / 1e6
ax.set_yticks([0, 1], ['float32', 'NF4']); ax.set_xlabel('megabytes'); ax.legend(fontsize=7, ncols=3, loc=(0, 1.02)); plt.show()
assert bytes_of(model.model.visual) == bytes_of(fresh().model.visual)


# %% [markdown]
# ## Adding adapters
#
# peft does the rest. Everything but adapters (and the rows of new words) is frozen. The random numbers of the adapters
# come from the seed. A fingerprint of the base goes along: adapters are corrections to *particular* weights, and on other
# weights they are noise.

# %%
#| export
def base_fingerprint(model) -> str:
    "Sixteen digits that identify the weights of a model in any precision: the first numbers of every tensor, by name."
    digest = hashlib.sha256()
    for name, weight in bare_model(model).named_parameters():
        first = weight.detach().flatten()[:64].to(torch.bfloat16).float()
        digest.update(name.encode() + first.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]

def add_adapter(model, plan: AdapterPlan, seed: int = 0):
    "The model with adapters that start as a no-op; what is frozen becomes four bits where the plan says so."
    card = dict(plan=asdict(plan), fingerprint=base_fingerprint(model))
    peft_config, get_peft_model, _ = _peft(plan)
    _freeze(model, plan)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(model, peft_config)
    model.adapter_card = card
    return model


# %%
#| export
def _freeze(model, plan: AdapterPlan) -> None:
    for parameter in model.parameters(): parameter.requires_grad_(False)
    if plan.quantize == 'nf4':
        quantize_linears(model.model.language_model.layers, model.dtype, model.device)
        model.is_loaded_in_4bit = True                     # tells peft to take its 4-bit layers

def _peft(plan: AdapterPlan):
    "(configuration, function that adds, class that loads), or InputError if peft is not installed."
    try: from peft import LoraConfig, PeftModel, get_peft_model
    except ImportError: raise InputError('lora_rank > 0 needs peft; pip install "track4d_ref[lora]"') from None
    words = {'embed_tokens': list(plan.new_tokens)} if plan.new_tokens else None
    config = LoraConfig(r=plan.rank, lora_alpha=plan.alpha, lora_dropout=plan.dropout, target_modules=plan.pattern,
                        trainable_token_indices=words)
    return config, get_peft_model, PeftModel


# %% [markdown]
# Two new words join the tokenizer: `[TRK]` stands for a trajectory in LMM-Track4D, and a second one shows that several
# work. Under LoRA the word table is frozen; `trainable_token_indices` opens exactly these rows, and since the table is
# also the output layer, the same two rows learn in both places.

# %%
tokenizer.add_tokens(['[TRK]', '[CAM]'])
words = tuple(tokenizer.convert_tokens_to_ids(['[TRK]', '[CAM]']))

def grown(seed=0):
    model = fresh(seed)
    with torch.random.fork_rng(): torch.manual_seed(1); model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return model

plan = replace(plan, new_tokens=words)
model = add_adapter(grown(), plan)
counts = {name: sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and key in n)
          for name, key in (('adapters', 'lora_'), ('rows of new words', 'trainable_tokens'))}
total = sum(p.numel() for p in grown().parameters())
print(counts, f'of {total:,}: {100 * sum(counts.values()) / total:.1f} % is trained')
assert counts['rows of new words'] == 2 * preset.text_width
assert counts['adapters'] == sum(8 * (n.in_features + n.out_features) for k, n in grown().named_modules() if k in caught)

# %% [markdown]
# ## A no-op at the start
#
# Matrix B of every adapter starts as zero, so the new model must say what the base says, in four bits as in thirty-two. The
# data are two clips with five questions, packed as in [`20_packing`](20_packing.ipynb).

# %%
rng = np.random.default_rng(0)
film = lambda name, *shape: Video(name, rng.integers(0, 255, (*shape, 3), dtype=np.uint8), 0.5)
examples = [
    ClipExample('wide', (film('wide', 4, 56, 84),), ((user('How does the camera move?'), says('forward and left')),
                (user('Does it turn?'), says('No')), (user('Where is the red ball?'), says('[TRK]')))),
    ClipExample('tall', (film('tall', 2, 84, 28),), ((user('Does it turn?'), says('Yes')),
                (user('How does the camera move?'), says('[CAM] left'))))]
batch_of = lambda model: collate(model, [pack(model, tokenizer, clip) for clip in examples], examples)
hidden = lambda model: packed_hidden(model.eval(), batch_of(model)).detach()

plain, four = grown(), grown()
quantize_linears(four.model.language_model.layers, torch.float32)
assert torch.equal(hidden(add_adapter(grown(), replace(plan, quantize='none'))), hidden(plain))
assert torch.equal(hidden(model), hidden(four))
print('rounding to four bits moves the hidden states by', f'{float((hidden(four) - hidden(plain)).std() / hidden(plain).std()):.1%}')


# %% [markdown]
# ## It learns, and only where it may
#
# Forty steps of AdamW on five questions. Then three things are checked that go wrong in practice: the loss falls; every
# trainable tensor got a gradient (gradient checkpointing has silently cut it in more than one project, so it is on
# here); and what is frozen has not moved by one bit.

# %%
def learn(model, steps=40, rate=1e-2):
    model.train()
    bare_model(model).gradient_checkpointing_enable(gradient_checkpointing_kwargs=dict(use_reentrant=False))
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer, losses, seen, batch = torch.optim.AdamW(learned.values(), lr=rate, weight_decay=0), [], dict.fromkeys(learned, 0.0), batch_of(model)
    for _ in range(steps):
        loss = packed_loss(model, batch) / batch.dialogues
        loss.backward(); losses.append(loss.item())
        for name, p in learned.items(): seen[name] = max(seen[name], float(p.grad.abs().max()))
        optimizer.step(); optimizer.zero_grad()
    return losses, seen

frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
losses, seen = learn(model)
print(f'loss {losses[0]:.2f} → {losses[-1]:.2f}; {len(seen)} trainable tensors, smallest largest gradient {min(seen.values()):.1e}')
assert losses[-1] < 0.5 * losses[0] and min(seen.values()) > 0
assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)

# %%
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.4), dpi=90)
axes[0].plot(losses, color='#c1440e'); axes[0].set(xlabel='step', ylabel='loss per question', title='QLoRA on a processor', yscale='log')
kinds = {'A': 'lora_A', 'B': 'lora_B', 'new words': 'trainable_tokens'}
for row, (name, key) in enumerate(kinds.items()):
    values = [v for n, v in seen.items() if key in n]
    axes[1].plot(values, [row + 0.12 * ((i % 5) - 2) for i in range(len(values))], 'o', ms=3, color='#2a6f97')
axes[1].set(xscale='log', xlabel='largest gradient of each tensor', yticks=range(3)); axes[1].set_yticklabels(kinds)
plt.tight_layout(); plt.show()
assert all(any(key in name for name in seen) for key in kinds.values())

# %% [markdown]
# The word table itself is untouched; the two rows live beside it. In use they take the place of the table's rows:

# %%
table = bare_model(model).get_input_embeddings()
change = (table(torch.arange(len(tokenizer))) - grown().get_input_embeddings().weight).abs().amax(1).detach()
fig, ax = plt.subplots(figsize=(6, 1.8), dpi=90)
ax.plot(change, '.', ms=3, color='#2a6f97'); ax.set(xlabel='row of the word table', ylabel='largest change'); plt.show()
assert (change[list(words)] > 0).all() and float(change[:words[0]].max()) == 0
assert torch.equal(bare_model(model).lm_head.weight, table.weight)                  # the output layer follows


# %% [markdown]
# ## One folder
#
# What was trained belongs together: adapters, rows of new words, the tokenizer that knows these words, and heads such as
# LMM-Track4D's decoder (notebook 19), which are no part of the language model. It is written beside the old folder and
# renamed, so that a killed job leaves the old one. Loading on another base is refused.

# %%
#| export
def save_adapter(folder: Path | str, model, tokenizer, base: Path | str, heads: dict[str, nn.Module] | None = None) -> None:
    "Write adapters, rows of new words, tokenizer and heads into one folder; `base`: a hub name, absolute, or relative to the folder."
    tensors = {f'{head}.{name}': value.contiguous() for head, part in (heads or {}).items() for name, value in part.state_dict().items()}
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial, save_embedding_layers=False)
        (partial / 'README.md').unlink(missing_ok=True)                    # peft's empty model card
        tokenizer.save_pretrained(partial)
        if tensors: save_file(tensors, partial / 'heads.safetensors')
        write_json(partial / 'adapter.json', dict(model.adapter_card, base=str(base), heads=sorted(heads or ())))

def _read_card(folder: Path) -> tuple[dict, AdapterPlan]:
    if not (folder / 'adapter.json').exists():
        raise InputError(f'{folder}: holds no adapter.json; give a folder written by track4d train sft with lora_rank > 0')
    card = read_json(folder / 'adapter.json')
    try: return card, AdapterPlan(**{key: tuple(value) if isinstance(value, list) else value for key, value in card['plan'].items()})
    except (KeyError, TypeError) as error:
        raise InputError(f'{folder}/adapter.json: not a card of adapters ({error}); save the adapter again') from None

def _open_base(folder: Path, card: dict, base: Path | str | None, dtype: torch.dtype, device):
    "(model, tokenizer) of the base, moved and grown to the adapter's vocabulary; InputError if the weights differ."
    place = base or (card['base'] if is_hub_name(card['base']) else Path(folder, card['base']).resolve())
    model, tokenizer = load_vlm(place, dtype)[0], load_tokenizer(folder)
    if base_fingerprint(model) != card['fingerprint']:
        raise InputError(f'{folder}: was trained on other weights than those in {place}; give its own base')
    if len(tokenizer) > len(model.get_input_embeddings().weight): model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return model.to(device), tokenizer


# %%
#| export
def load_adapter(folder: Path | str, base: Path | str | None = None, heads: dict[str, nn.Module] | None = None,
                 dtype: torch.dtype = torch.float32, device: torch.device | str = 'cpu', learn: bool = False):
    "(model, tokenizer) with the adapters of `folder` on its base; fills `heads` from the same folder."
    folder = Path(folder)
    card, plan = _read_card(folder)
    model, tokenizer = _open_base(folder, card, base, dtype, device)
    _freeze(model, plan)
    model = _peft(plan)[2].from_pretrained(model, str(folder), is_trainable=learn)
    model.adapter_card = {key: card[key] for key in ('plan', 'fingerprint')}
    for name, part in (heads or {}).items():
        if name not in card['heads']: raise InputError(f'{folder}: holds no head {name!r}, only {card["heads"]}')
        saved = load_file(folder / 'heads.safetensors')
        part.load_state_dict({key.removeprefix(f'{name}.'): value for key, value in saved.items() if key.startswith(f'{name}.')})
    return model.eval(), tokenizer

def load_model(folder: Path | str, dtype: torch.dtype = torch.float32):
    "(model, tokenizer) from a folder of either kind: a whole model, or adapters whose base is found by their card."
    return load_adapter(folder, dtype=dtype) if Path(folder, 'adapter.json').exists() else load_vlm(folder, dtype)


# %%
workplace = tempfile.TemporaryDirectory()
place = Path(workplace.name)
head = nn.Linear(preset.text_width, 4)
save_vlm(fresh(), tokenizer, place / 'base')                      # what lies on the disk knows nothing of the new rows
save_vlm(fresh(5), tokenizer, place / 'other')
save_adapter(place / 'adapter', model, tokenizer, '../base', dict(decoder=head))
sizes = {file.name: file.stat().st_size for file in sorted((place / 'adapter').iterdir())}
print({name: f'{size / 1e3:.0f} kB' for name, size in sizes.items()})

second = nn.Linear(preset.text_width, 4)
again, its_tokenizer = load_adapter(place / 'adapter', heads=dict(decoder=second))
batch = batch_of(model)
logits = lambda model: bare_model(model).lm_head(packed_hidden(model.eval(), batch)).detach()
assert torch.equal(logits(again), logits(model)) and torch.equal(second.weight, head.weight)
assert its_tokenizer.tokenize('[TRK]') == ['[TRK]'] and not any(p.suffix in ('.bin', '.pt', '.pkl') for p in place.rglob('*'))


# %%
def refusal(call, *args, **keywords):
    try: call(*args, **keywords)
    except InputError as error: return str(error).replace(str(place), '…')

for sentence in (refusal(load_adapter, place / 'adapter', place / 'other'), refusal(load_adapter, place / 'base'),
                 refusal(load_adapter, place / 'adapter', heads=dict(trk=head))): print(sentence)
assert 'other weights' in refusal(load_adapter, place / 'adapter', place / 'other')
assert 'adapter.json' in refusal(load_adapter, place / 'base') and "head 'trk'" in refusal(load_adapter, place / 'adapter', heads=dict(trk=head))


# %% [markdown]
# ## Merging
#
# A merged model is a plain checkpoint for any server. Under QLoRA there is a choice that is rarely said aloud: the
# adapters have learned to correct weights *rounded to four bits*. Merged into the rounded weights, $\hat W + \tfrac{\alpha}{r}BA$,
# the model says what it said in training. Merged into the original weights, it is another model. We merge into the rounded
# ones, in full precision **[ours]**; adding and rounding again, as a 4-bit layer merged in place would, loses most.

# %%
#| export
@torch.no_grad()
def round_linears(part: nn.Module) -> None:
    "Replace the weights of every nn.Linear by what four bits keep of them."
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    for child in part.modules():
        if type(child) is nn.Linear:
            child.weight.copy_(dequantize_4bit(*quantize_4bit(child.weight, quant_type='nf4', compress_statistics=True)))

def merge_adapter(folder: Path | str, out: Path | str, base: Path | str | None = None, dtype: torch.dtype = torch.float32) -> None:
    "Write base + adapters as one plain model into `out`, in `dtype`; its answers are those of the adapted model."
    folder = Path(folder)
    card, plan = _read_card(folder)
    model, tokenizer = _open_base(folder, card, base, torch.float32, 'cpu')
    if plan.quantize == 'nf4': round_linears(model.model.language_model.layers)
    model = _peft(plan)[2].from_pretrained(model, str(folder)).merge_and_unload()
    model.tie_weights()
    save_vlm(model, tokenizer, out, dtype)


# %%
merge_adapter(place / 'adapter', place / 'merged')
merged, _ = load_vlm(place / 'merged')
unrounded = _peft(plan)[2].from_pretrained(_open_base(place / 'adapter', *_read_card(place / 'adapter')[:1], None, torch.float32, 'cpu')[0],
                                           str(place / 'adapter'))
errors = {name: (logits(other) - logits(model)).abs()[batch.segments >= 0].flatten()
          for name, other in (('into the rounded weights', merged), ('into the original weights', unrounded))}
fig, ax = plt.subplots(figsize=(6, 2.2), dpi=90)
for (name, values), colour in zip(errors.items(), ('#2d9d5f', '#c1440e')):
    ax.hist(np.log10(values.numpy() + 1e-9), bins=60, label=name, color=colour, alpha=.7)
ax.set(xlabel='log10 |logit merged - logit trained|', ylabel='entries'); ax.legend(fontsize=8); plt.show()
print({name: f'{float(values.max()):.1e}' for name, values in errors.items()})
assert float(errors['into the rounded weights'].max()) < 1e-4 < 1e-3 * float(errors['into the original weights'].max())
assert merged.lm_head.weight is merged.get_input_embeddings().weight
workplace.cleanup()

# %% [markdown]
# ## What we proved
#
# * Adapters start as an exact no-op, in four bits as in thirty-two; every trainable tensor gets a gradient under gradient
#   checkpointing; what is frozen stays equal to the bit.
# * New words learn two rows, in the table and in the output layer, and nothing else of either moves.
# * Saved and loaded, adapters, rows and heads give equal logits; a wrong base is refused; the merged model answers the same.
#
# ## Try it
#
# 1. Give `new_tokens=()` and train again: can the model still answer `[TRK]`? What would have to change elsewhere?
# 2. Adapt attention only (`lora_targets=attention`), as MLLM-4D's script does, with the same number of trained weights.
# 3. Merge into the original weights and train two more steps. Does the difference heal?
#
# <details><summary>Solutions</summary>
#
# 1. The word's row stays at the mean of all rows, and so does its logit, since the table is tied. Something else
#    would have to produce it: train the row, or answer with an existing word.
# 2. Raise the rank until the counts agree: attention alone has fewer weights per rank. Compare the loss on held-out
#    records at equal counts, with several seeds.
# 3. Merging into the original weights adds what was trained to correct the *rounded* ones. Two more steps heal a
#    part; print the difference of the logits before and after.
#
# </details>
