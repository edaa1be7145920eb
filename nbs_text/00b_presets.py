# %% [markdown]
# # Presets
# > One dial for the scale of everything: `settings.ini`, read once, typed, checked.

# %%
#| default_exp presets

# %% [markdown]
# * **What** every number of the reproduction in one file, at three scales, with the papers' numbers beside them
# * **Why** a reviewer must see at a glance where we differ from a paper, and a student must run the same code on a laptop
# * **Paper** 4DP-QA §4.1, MLLM-4D §4.1 for the published values
# * **Needs** the standard library
# * **Time** 5 seconds
# * **Before this** `00a_storage` for the error type (it is short)

# %%
#| export
import configparser
import dataclasses
from pathlib import Path

from track4d_ref.storage import InputError, project_path

# %%
import matplotlib.pyplot as plt

# %% [markdown]
# ## The file
#
# `settings.ini` has one section per scale. `tiny` runs on a laptop, `small` on any GPU, `rtx24` is a real Qwen2.5-VL-3B
# on one 24 GB card. The sections named `paper-…` hold what the papers published. The file is *not* nbdev's configuration;
# its first comment says why that matters. It travels with the package, so the dial is at hand after a `pip install` too.

# %%
#| export
SCALES = ('tiny', 'small', 'rtx24')


# %% [markdown]
# Two options of Python's `configparser` matter. Without `inline_comment_prefixes` the value of `1e-3  # note` is that
# whole string, and without `interpolation=None` a per cent sign raises.

# %%
#| export
def read_settings(path: Path | str | None = None) -> configparser.ConfigParser:
    "The sections of settings.ini as text; a broken file raises InputError."
    path = Path(path or project_path('settings.ini'))
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=('#',))
    try: found = parser.read(path, encoding='utf-8')
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f'{path}: {" ".join(str(error).split())}; repair that line') from None
    if not found: raise InputError(f'{path}: no such file; check the path')
    return parser


# %%
settings = read_settings()
print(settings.sections())

# %%
from itertools import product
keys = list(settings['tiny'])
sections = [s for s in settings.sections() if not s.startswith('thresholds')]
figure, axis = plt.subplots(figsize=(5.5, 6.5), dpi=90)
axis.imshow([[key in settings[section] for section in sections] for key in keys], aspect='auto', cmap='Blues', vmin=-0.1, vmax=4)
axis.set_xticks(range(len(sections)), sections, rotation=25, ha='right'); axis.set_yticks(range(len(keys)), keys, fontsize=7)
for row, column in product(range(len(keys)), range(len(sections))):
    axis.text(column, row, settings[sections[column]].get(keys[row], '').split('/')[-1][:10], ha='center', va='center', fontsize=6.5)
axis.set_title('one dial: our three scales and the published values', fontsize=9)
plt.show()

# %%
assert list(settings['tiny']) == list(settings['small']) == list(settings['rtx24'])
assert all(set(settings[s]) <= set(keys) for s in sections)


# %% [markdown]
# ## A preset is a frozen record
#
# Each key has a type, written once, here. Reading turns text into that type; an unknown or missing key, or a value that
# does not fit, is an error that names the key. Nothing in the package carries a second default.

# %%
#| export
@dataclasses.dataclass(frozen=True)
class Preset:
    "The numbers of one scale; the fields are the keys of settings.ini."
    name: str
    frames: int; resolution: int; fps: float                              # the square simulated clips, in pixels
    objects_min: int; objects_max: int
    patch_size: int; merge_size: int; temporal_patch_size: int
    max_tokens: int
    base: str                                                             # 'none', or a checkpoint's name or folder
    vocabulary: int
    text_layers: int; text_width: int; text_heads: int; text_kv_heads: int
    vision_layers: int; vision_width: int; vision_heads: int
    train_clips: int; eval_clips: int
    questions_per_type: int; batch_clips: int
    optimizer: str; precision: str; accumulation: int
    learning_rate: float; weight_decay: float; warmup_fraction: float; gradient_clip: float
    train_steps: int; train_seconds: float
    lora_rank: int; lora_alpha: float; lora_dropout: float             # rank 0: every weight is trained
    lora_targets: str; quantize: str                                      # attention | all; none | nf4
    gradient_checkpointing: int                                           # 1: compute activations twice, keep few
    seed: int


# %%
#| export
_KINDS = {int: 'a whole number', float: 'a number', str: 'text'}

def _typed(record: type, values: dict[str, str], where: str, **given):
    "Build dataclass `record` from texts; unknown, missing or ill-typed keys raise InputError."
    fields = {field.name: field.type for field in dataclasses.fields(record) if field.name not in given}
    for key in values:
        if key not in fields:
            raise InputError(f'{where}: unknown key {key!r}; known keys are {", ".join(fields)}')
    missing = [key for key in fields if key not in values]
    if missing: raise InputError(f'{where}: key {missing[0]!r} is missing; add it')
    typed = {}
    for key, value in values.items():
        try: typed[key] = fields[key](value)
        except ValueError:
            raise InputError(f'{where}: {key} = {value!r} is not {_KINDS[fields[key]]}; give one') from None
        if fields[key] is float and not abs(typed[key]) < float('inf'):
            raise InputError(f'{where}: {key} = {value!r} is not a finite number; give one')
    return record(**given, **typed)


# %% [markdown]
# Reading is then two steps: take the section, apply the overrides of `--set key=value`.

# %%
#| export
def load_preset(name: str = 'tiny', overrides: tuple[str, ...] = (), path: Path | str | None = None) -> Preset:
    "The preset `name`, with `key=value` overrides applied; InputError names a wrong preset, key or value."
    settings = read_settings(path)
    if name not in SCALES or name not in settings:
        raise InputError(f'preset {name!r} does not exist; choose one of {", ".join(SCALES)}')
    values = dict(settings[name])
    for override in overrides:
        key, equals, value = override.partition('=')
        if not equals: raise InputError(f'--set {override!r}: write it as key=value')
        if key.strip() not in values:
            raise InputError(f'--set {override!r}: unknown key {key.strip()!r}; known keys are {", ".join(values)}')
        values[key.strip()] = value.strip()
    return _checked(_typed(Preset, values, f'preset {name}', name=name))


# %% [markdown]
# Types are not enough: zero frames or a resolution that the patches do not divide would fail much later, far from the
# cause. So the few rules that tie numbers together are checked here as well.

# %%
#| export
MAY_BE_ZERO = ('weight_decay', 'warmup_fraction', 'train_steps', 'train_seconds', 'seed', 'lora_rank', 'lora_dropout', 'gradient_checkpointing')
WORDS = dict(lora_targets=('attention', 'all'), quantize=('none', 'nf4'))

def _checked(preset: Preset) -> Preset:
    "Refuse numbers that cannot work together, naming the key."
    for field in dataclasses.fields(preset):
        value = getattr(preset, field.name)
        if field.name in MAY_BE_ZERO: wrong = field.type is not str and value < 0
        else: wrong = field.type in (int, float) and value <= 0
        if wrong: raise InputError(f'preset {preset.name}: {field.name} = {value} is too small; give a larger number')
    cell = preset.patch_size * preset.merge_size
    if preset.resolution % cell:
        raise InputError(f'preset {preset.name}: resolution = {preset.resolution} is not a multiple of '
                         f'patch_size * merge_size = {cell}; use {-(-preset.resolution // cell) * cell}')
    if preset.frames % preset.temporal_patch_size:
        raise InputError(f'preset {preset.name}: frames = {preset.frames} is not a multiple of '
                         f'temporal_patch_size = {preset.temporal_patch_size}; use {preset.frames + 1}')
    for key, words in WORDS.items():
        if getattr(preset, key) not in words:
            raise InputError(f'preset {preset.name}: {key} = {getattr(preset, key)!r} does not exist; use {" or ".join(words)}')
    if preset.quantize != 'none' and not preset.lora_rank:
        raise InputError(f'preset {preset.name}: quantize = {preset.quantize} needs adapters; set lora_rank, for example 16')
    if preset.objects_min > preset.objects_max:
        raise InputError(f'preset {preset.name}: objects_min = {preset.objects_min} exceeds objects_max = {preset.objects_max}')
    return preset


# %%
def told(*arguments, **keywords) -> str:
    try: load_preset(*arguments, **keywords)
    except InputError as error: return str(error)
    return 'no error'

mistakes = [('huge',), ('tiny', ('framse=4',)), ('tiny', ('frames=many',)), ('tiny', ('resolution=100',)), ('tiny', ('learning_rate=inf',))]
sentences = [told(*mistake) for mistake in mistakes]

# %%
figure, axis = plt.subplots(figsize=(7.5, 1.9), dpi=90); axis.axis('off')
import textwrap
for row, (mistake, sentence) in enumerate(zip(mistakes, sentences)):
    axis.text(0, 1 - row * 0.22, ' '.join(map(str, mistake))[:34], family='monospace', fontsize=7, color='#D55E00', va='top')
    axis.text(0.36, 1 - row * 0.22, '\n'.join(textwrap.wrap(sentence, 76)[:2]), fontsize=7, va='top')
axis.set_title('what a person gives, and the sentence they read', fontsize=9, loc='left'); plt.show()

# %%
tiny = load_preset('tiny')
assert load_preset('tiny', ('frames=4', 'learning_rate=1e-4')) == dataclasses.replace(tiny, frames=4, learning_rate=1e-4)
assert "unknown key 'framse'" in sentences[1] and 'is not a whole number' in sentences[2] and 'use 112' in sentences[3]
assert 'no error' not in sentences


# %% [markdown]
# ## Thresholds per source
#
# Labels turn continuous geometry into words, and the borders between words are **[ours]**: the papers did not publish
# theirs. They differ between data sets (a driving car and a hand in a kitchen move at different scales), so each source
# may override the defaults in a section of its own.

# %%
#| export
@dataclasses.dataclass(frozen=True)
class Thresholds:
    "Borders between labels for one source of clips; see `motion` for what each one cuts."
    source: str
    still_fraction: float
    axis_ratio: float
    axis_absent: float
    straightness: float
    rotation_deg: float
    still_rotation_deg: float
    max_tilt_deg: float
    distance_change: float
    distance_margin: float
    path_ratio: float
    moving_fraction: float
    min_visible_px: int

def load_thresholds(source: str = 'default', path: Path | str | None = None) -> Thresholds:
    "Thresholds of [thresholds-default], overridden by [thresholds-SOURCE] where that section exists."
    settings = read_settings(path)
    values = dict(settings['thresholds-default']) if 'thresholds-default' in settings else {}
    if f'thresholds-{source}' in settings: values.update(settings[f'thresholds-{source}'])
    return _typed(Thresholds, values, f'thresholds-{source}', source=source)


# %%
sources = ['default', 'simulator', 'kitti', 'adt']
names = [field.name for field in dataclasses.fields(Thresholds)][1:]
grid = [[getattr(load_thresholds(source), name) for source in sources] for name in names]
figure, axis = plt.subplots(figsize=(5.5, 3.0), dpi=90); axis.axis('off')
table = axis.table([[f'{value:g}' for value in row] for row in grid], rowLabels=names, colLabels=sources, loc='center', cellLoc='center')
for (row, column), cell in table.get_celld().items():
    if row and column > 0 and grid[row - 1][column] != grid[row - 1][0]: cell.set_facecolor('#CDE7F5')
axis.set_title('thresholds; blue: a source differs from the default', fontsize=9, pad=14); plt.show()

# %%
assert load_thresholds('never-heard-of') == dataclasses.replace(load_thresholds('default'), source='never-heard-of')
assert load_thresholds('adt').still_fraction < load_thresholds('default').still_fraction

# %% [markdown]
# ## What we proved
#
# * The three scales have the same keys, and the papers' sections name no key that we do not have.
# * Wrong presets, keys, types and combinations are refused with a sentence that names them.
#
# ## Try it
#
# 1. Halve `resolution` of `tiny` with an override. How many video tokens are left per clip?
# 2. Which published values are furthest from `rtx24`? Why could we not use them on one card?
#
# <details><summary>Solutions</summary>
#
# 1. `load_preset('tiny', ('resolution=56',))`. A visual token covers 28 × 28 pixels and two frames: 8 frames of 112
#    give 4 · 4 · 4 = 64 tokens, of 56 give 4 · 2 · 2 = 16. Two times smaller, four times fewer.
# 2. The batch sizes and the full training of all weights: AdamW keeps two numbers per weight, which for three billion
#    weights in float32 is more than 24 GB before the first activation. `rtx24` therefore trains adapters, in four
#    bits, and accumulates the batch.
#
# </details>
