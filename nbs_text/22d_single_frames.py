# %% [markdown]
# # What one picture shows
# > Questions about a single frame: colour, kind, place, number, left and right; everything but motion.

# %%
#| default_exp single_frames

# %% [markdown]
# #| export
# A *picture* is one frame with its instance map. Whatever is asked about it, one frame answers it.

# %% [markdown]
# * **What** the questions an off-the-shelf model can answer before it has ever been asked about motion
# * **Why** the papers fine-tune models that already see and name; ours must learn that first, and nothing else
# * **Paper** 4DP-QA §4.1 starts from Qwen2.5-VL; this substitute for its pre-training is **[ours]**
# * **Needs** numpy, torch
# * **Time** 30 seconds
# * **Before this** [`08e_references`](08e_references.ipynb), [`09_questions`](09_questions.ipynb), [`20_packing`](20_packing.ipynb)

# %%
#| export
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from track4d_ref.clips import Clip
from track4d_ref.references import distinct_color, point_text
from track4d_ref.storage import InputError
from track4d_ref.templates import LETTERS, prompt_text, sentence

# %%
import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clips
from track4d_ref.viz import PALETTE, use_style
use_style()

# %% [markdown]
# ## Things in a picture
#
# A picture holds the things that show at least 40 pixels **[ours]**. A thing has words (its caption: colour and kind), a pixel
# that certainly belongs to it, and the size of the circle that goes around it. Place and number are read from the instance
# map, never from poses: what cannot be seen cannot be asked.

# %%
#| export
LEAST_PX = 40     # [ours] pixels a thing must show to be asked about or counted
KINDS = ('ball', 'box', 'cylinder', 'cone', 'car', 'person')
COLORS = ('red', 'orange', 'yellow', 'green', 'cyan', 'blue', 'purple', 'pink', 'white', 'black')

@dataclass(frozen=True)
class Thing:
    "Something that can be seen in a picture; pixels (u, v) are those of the picture."
    id: int
    color: str
    kind: str
    pixels: int
    uv_px: tuple[float, float]        # a pixel centre inside its mask, near the middle
    radius_px: float

    @property
    def caption(self) -> str: return f'{self.color} {self.kind}'

def _thing(id: int, caption: str, mask: np.ndarray) -> Thing:
    pixels = np.argwhere(mask)                                                     # (P, 2) rows, columns
    middle = pixels[np.abs(pixels - pixels.mean(0)).sum(1).argmin()]
    radius_px = max(4.0, 0.55 * float(np.linalg.norm(np.ptp(pixels, axis=0) + 1)))
    color, kind = caption.split()
    return Thing(id, color, kind, len(pixels), (middle[1] + 0.5, middle[0] + 0.5), radius_px)


# %%
#| export
@dataclass(frozen=True, eq=False)
class Picture:
    "One frame (H, W, 3) uint8 with its instance map (H, W) and the captions of its objects."
    name: str
    frame: np.ndarray
    instances: np.ndarray
    captions: tuple[tuple[int, str], ...]        # (instance id, 'red ball')

    @cached_property
    def things(self) -> list[Thing]:
        "What shows at least LEAST_PX pixels, in the order of the ids."
        masks = [(id, caption, self.instances == id) for id, caption in self.captions]
        return [_thing(*found) for found in masks if found[2].sum() >= LEAST_PX]

def pictures_of(clip: Clip, frames: Iterable[int] = (0, -1)) -> list[Picture]:
    "Some frames of a simulated clip as pictures; InputError if it has no instance map."
    if clip.view.instances is None: raise InputError(f'clip {clip.id}: has no instance map; pictures need one')
    captions = tuple((int(item.id), item.caption) for item in clip.objects)
    return [Picture(f'{clip.id}-{frame}', clip.view.frames[frame], clip.view.instances[frame], captions) for frame in frames]


# %%
preset = load_preset('tiny')
pictures = [picture for clip in simulate_clips(4, 5, preset) for picture in pictures_of(clip)]

# %%
figure, axes = plt.subplots(1, 4, figsize=(7.5, 2.2))
for axis, picture in zip(axes, pictures[::2]):
    axis.imshow(picture.frame); axis.axis('off')
    for thing in picture.things:
        axis.text(*thing.uv_px, thing.caption, fontsize=6, ha='center', color='white', bbox=dict(fc='#0008', ec='none', pad=1))
plt.show()

# %%
first = pictures[0]
assert all(first.instances[int(v), int(u)] == thing.id for thing in first.things for u, v in [thing.uv_px])
assert all(thing.pixels >= LEAST_PX and thing.color in COLORS and thing.kind in KINDS for thing in first.things)

# %% [markdown]
# ## Facts
#
# A fact is a question about a picture with its true answer and the wrong ones it may be confused with. Eight kinds:
#
# | kind | asks | answers |
# |---|---|---|
# | `color` | the colour of a thing | ten colours |
# | `kind` | what sort of thing it is | six kinds |
# | `thing` | both: which thing is at this pixel, in this circle | captions |
# | `place` | which quarter of the picture it is in | four corners |
# | `sides` | which of two is further left / right | the two |
# | `heights` | which of two is higher / lower in the picture | the two |
# | `count` | how many things there are | 1 … 5 |
# | `present` | which thing can be seen at all | captions |
#
# Wrong answers come first from the same picture: a model that sees *some* red thing must still find the right one. Two
# things within 6 % of the picture of each other, or of the picture's middle, are too close to call.

# %%
#| export
CLEAR = 0.06      # [ours] fraction of the picture's side

@dataclass(frozen=True)
class PictureFact:
    "A question about things (0, 1 or 2 of them, named {a} and {b}) with the true answer and wrong ones, likeliest first."
    kind: str
    things: tuple[Thing, ...]
    texts: tuple[str, ...]                  # phrasings, the first one terse
    claim: str                              # statement with {option}
    answer: str
    wrong: tuple[str, ...]

def _confused(truth: str, near: Iterable[str], all_: Iterable[str], rng: np.random.Generator) -> tuple[str, ...]:
    "Wrong answers: those that occur in the picture first, then the others in random order."
    near = [word for word in dict.fromkeys(near) if word != truth]
    rest = [word for word in all_ if word not in (truth, *near)]
    return (*(near[k] for k in rng.permutation(len(near))), *(rest[k] for k in rng.permutation(len(rest))))

def _captions() -> list[str]: return [f'{color} {kind}' for color in COLORS for kind in KINDS]


# %%
#| export
def color_fact(things: list[Thing], size, rng: np.random.Generator) -> PictureFact | None:
    "What colour is {a}?"
    a = things[int(rng.integers(len(things)))]
    wrong = _confused(a.color, (thing.color for thing in things), COLORS, rng)
    texts = ('colour of {a}?', 'What colour is {a}?', 'Which colour does {a} have?', 'Name the colour of {a}.', 'Of what colour is {a}?')
    return PictureFact('color', (a,), texts, '{a} is {option}', a.color, wrong)

def kind_fact(things: list[Thing], size, rng: np.random.Generator) -> PictureFact | None:
    "What sort of thing is {a}?"
    a = things[int(rng.integers(len(things)))]
    wrong = _confused(a.kind, (thing.kind for thing in things), KINDS, rng)
    texts = ('kind of {a}?', 'What kind of thing is {a}?', 'Name the kind of {a}.', 'Which kind of object is {a}?', 'Of what kind is {a}?')
    return PictureFact('kind', (a,), texts, '{a} is a {option}', a.kind, wrong)

def thing_fact(things: list[Thing], size, rng: np.random.Generator) -> PictureFact | None:
    "Colour and kind of {a}."
    a = things[int(rng.integers(len(things)))]
    wrong = _confused(a.caption, (thing.caption for thing in things), _captions(), rng)
    texts = ('thing: {a}?', 'What is {a}, with its colour?', 'Which thing is {a}?', 'Describe {a}.', 'Name {a} with its colour.')
    return PictureFact('thing', (a,), texts, '{a} is a {option}', a.caption, wrong)

def present_fact(things: list[Thing], size, rng: np.random.Generator) -> PictureFact | None:
    "Which of these can be seen?"
    a = things[int(rng.integers(len(things)))]
    absent = [word for word in _captions() if word not in {thing.caption for thing in things}]
    alike = [word for word in absent if any(part in word.split() for thing in things for part in (thing.color, thing.kind))]
    texts = ('which is seen?', 'What can be seen?', 'Which of these is in the picture?', 'Which thing is there?', 'What does the picture show?')
    return PictureFact('present', (), texts, 'there is a {option} in the picture', a.caption, _confused(a.caption, alike, absent, rng))


# %%
#| export
CORNERS = ('upper left', 'upper right', 'lower left', 'lower right')

def place_fact(things: list[Thing], size, rng: np.random.Generator) -> PictureFact | None:
    "In which quarter of the picture is {a}?"
    clear = lambda thing: all(abs(place / side - 0.5) > CLEAR / 2 for place, side in zip(thing.uv_px, size))
    things = [thing for thing in things if clear(thing)]
    if not things: return None
    a = things[int(rng.integers(len(things)))]
    corner = CORNERS[2 * (a.uv_px[1] > size[1] / 2) + (a.uv_px[0] > size[0] / 2)]
    texts = ('place of {a}?', 'Where in the picture is {a}?', 'In which part of the picture is {a}?', 'Which quarter holds {a}?', 'Give its place: {a}.')
    return PictureFact('place', (a,), texts, '{a} is in the {option} of the picture', corner, _confused(corner, (), CORNERS, rng))

def pair_fact(kind: str, words: tuple[str, str], axis: int, things: list[Thing], size, rng: np.random.Generator) -> PictureFact | None:
    "Which of two things comes first along an axis of the picture (0 = to the right, 1 = down); `words` for less and for more."
    pairs = [(a, b) for a in things for b in things if a.id != b.id
             and abs(a.uv_px[axis] - b.uv_px[axis]) > CLEAR * size[axis]]
    if not pairs: return None
    a, b = pairs[int(rng.integers(len(pairs)))]
    way = int(rng.integers(2))
    answer = '{a}' if (a.uv_px[axis] < b.uv_px[axis]) == (way == 0) else '{b}'
    texts = tuple(text.format(word=words[way], a='{a}', b='{b}') for text in
                  ('{word}: {a} or {b}?', 'Which is {word} in the picture, {a} or {b}?', 'Which of the two is {word}: {a} or {b}?',
                   'Of {a} and {b}, which is {word}?', 'Compare {a} and {b}. Which is {word} in the picture?'))
    return PictureFact(kind, (a, b), texts, '{option} is ' + words[way] + ' than {other}', answer, ('{b}' if answer == '{a}' else '{a}',))


# %%
#| export
def count_fact(things: list[Thing], size, rng: np.random.Generator) -> PictureFact | None:
    "How many things are there?"
    if not 1 <= len(things) <= 5: return None
    numbers, truth = [str(k) for k in range(1, 6)], str(len(things))
    texts = ('how many?', 'How many things are there?', 'Count the objects.', 'How many objects does the picture show?', 'How many objects can be seen?')
    return PictureFact('count', (), texts, 'the number of objects is {option}', truth, _confused(truth, (), numbers, rng))

FACTS: dict[str, Callable] = dict(color=color_fact, kind=kind_fact, thing=thing_fact, present=present_fact, place=place_fact,
                                  sides=partial(pair_fact, 'sides', ('further left', 'further right'), 0),
                                  heights=partial(pair_fact, 'heights', ('higher', 'lower'), 1), count=count_fact)

# %%
rng = np.random.default_rng(0)
found = {name: find(first.things, (112, 112), rng) for name, find in FACTS.items()}
for name, fact in found.items():
    if fact: print(f'{name:8s} {fact.texts[1]:45s} -> {fact.answer}')
assert all(fact is None or fact.answer not in fact.wrong for fact in found.values())


# %% [markdown]
# ## Questions
#
# A fact becomes a question in one of the three forms of the benchmark: options with letters, yes or no, free. Things are
# referred to as 4D questions do it: by caption (only if the caption is unique in the picture), by a pixel, or by a circle that
# is drawn. The caption must not give the answer away: who asks for the colour says only the kind ("the ball"), who asks for the kind
# only the colour ("the red object"), and who asks for both says neither.
# In a video of several pictures every question names its frame. A *terse* question ("colour of the ball?") asks the same in a third
# of the words. A *hint* says where in the prompt the truth could be told, which notebook
# [`22da_slideshows`](22da_slideshows.ipynb) uses for teaching.

# %%
#| export
@dataclass(frozen=True)
class PictureQuestion:
    "A question on one frame of a video: its text with options, the answer, and the circles to draw (u, v, radius in px, colour)."
    kind: str
    form: str
    prompt: str
    choices: tuple[str, ...]
    answer: str
    frame: int
    circles: tuple[tuple[float, float, float, str], ...] = ()
    hint: tuple[int, str] | None = None      # (character of the prompt, what is true there), see below

def usable_modes(picture: Picture, thing: Thing, kind: str, modes) -> list[str]:
    "The ways in which a question of this kind may refer to a thing: by caption only if that is unique and gives nothing away."
    alone = lambda part: sum(getattr(other, part) == getattr(thing, part) for other in picture.things) == 1
    named = {'color': alone('kind'), 'kind': alone('color'), 'thing': False}.get(kind, alone('caption'))
    return [mode for mode in modes if mode != 'caption' or named]

def _refer(picture: Picture, thing: Thing, kind: str, when: str, modes, taken, rng: np.random.Generator):
    "A phrase for a thing and the circle it needs, if any."
    usable = usable_modes(picture, thing, kind, modes)
    mode = usable[int(rng.integers(len(usable)))]
    words = {'color': f'the {thing.kind}', 'kind': f'the {thing.color} object'}
    if mode == 'caption': return words.get(kind, f'the {thing.caption}'), None
    height, width = picture.instances.shape
    if mode == 'pixel': return f'the object at {point_text((thing.uv_px[0] / width, thing.uv_px[1] / height))}{when}', None
    color = distinct_color(picture.frame, np.array(thing.uv_px), thing.radius_px, rng, taken)
    return f'the object in the {color} circle{when}', (*thing.uv_px, thing.radius_px, color)


# %%
#| export
def _claim(fact: PictureFact, slots: dict, terse: bool, rng: np.random.Generator) -> tuple[str, str, str]:
    "A claim that is true half of the time, Yes or No, and what it states."
    true = bool(rng.random() < 0.5)
    option = fact.answer if true else fact.wrong[0]
    other = slots.get('b', '') if option == '{a}' else slots.get('a', '')
    stated = fact.claim.format(**slots, option=option.format(**slots), other=other)
    if terse: return f'{stated}?', 'Yes' if true else 'No', option.format(**slots)
    wrapper = ('Is it right that {}?', 'Is this statement true: {}?', 'Would you say that {}?', 'Check this claim: {}. Does it hold?')
    return wrapper[int(rng.integers(len(wrapper)))].format(stated), 'Yes' if true else 'No', option.format(**slots)

def _hint(fact: PictureFact, slots: dict, stem: str, stated: str) -> tuple[int, str] | None:
    "The character of the prompt at which the truth could be said, and the truth; None where no name says it there."
    truth = fact.answer.format(**slots).removeprefix('the ')
    if fact.kind == 'present' or truth.startswith('object') or (stated and fact.answer.startswith('{')): return None
    return (stem.rindex(stated) if stated else len(stem) + 1), truth


# %%
#| export
def phrase_picture_fact(picture: Picture, fact: PictureFact, form: str, frame: int, named_frame: bool, modes,
                        rng: np.random.Generator, terse: bool = False) -> PictureQuestion:
    "Write a fact as a question of this form about this frame of a video."
    circles, slots, when = [], {}, '' if terse else f' in frame {frame}'
    for slot, thing in zip('ab', fact.things):
        phrase, circle = _refer(picture, thing, fact.kind, when, modes, [c[3] for c in circles], rng)
        slots[slot] = phrase
        if circle: circles.append(circle)
    stated = ''
    if form == 'yes_no': text, answer, stated = _claim(fact, slots, terse, rng)
    else: text, answer = fact.texts[0 if terse else int(rng.integers(1, len(fact.texts)))].format(**slots), fact.answer.format(**slots)
    choices = ()
    if form == 'choice':
        options = [fact.answer, *fact.wrong[:3]]
        order = rng.permutation(len(options))
        choices = tuple(options[k].format(**slots) for k in order)
        answer = LETTERS[int(np.argmin(order))]
    if named_frame and f'in frame {frame}' not in text: text = f'In frame {frame}: {text[:1].lower()}{text[1:]}'
    stem = text if terse else sentence(text)
    prompt = prompt_text(stem, choices, form)
    if terse: prompt = prompt.rpartition('\n')[0]                      # without the instruction
    return PictureQuestion(fact.kind, form, prompt, choices, answer, frame, tuple(circles), _hint(fact, slots, stem, stated))


# %%
#| export
def ask_picture(picture: Picture, rng: np.random.Generator, count: int, frame: int = 0, named_frame: bool = False,
                circled: bool = False, forms=('choice', 'yes_no', 'free'), kinds=tuple(FACTS),
                modes=('caption', 'pixel'), terse: float = 0.0) -> list[PictureQuestion]:
    "`count` different questions on a picture, a share `terse` of them short; with `circled` one refers by a circle that must be drawn."
    things, size, questions = picture.things, picture.instances.shape[::-1], {}
    if not things: return []
    for attempt in range(4 * count):
        if len(questions) == count: break
        kind = 'thing' if circled and not attempt else kinds[int(rng.integers(len(kinds)))]
        fact = FACTS[kind](things, size, rng)
        allowed = ('circle',) if circled and not attempt else modes
        form = forms[int(rng.integers(len(forms)))]
        if fact is None or not all(usable_modes(picture, thing, kind, allowed) for thing in fact.things): continue
        if (kind, form) == ('present', 'free'): continue                # several answers would be right
        question = phrase_picture_fact(picture, fact, form, frame, named_frame, allowed, rng, rng.random() < terse)
        questions.setdefault(question.prompt, question)
    return list(questions.values())


# %%
questions = ask_picture(first, np.random.default_rng(1), 9, frame=2, named_frame=True)
for question in questions[:4]: print(question.prompt.replace('\n', ' | '), '->', question.answer)
assert len({question.prompt for question in questions}) == len(questions) == 9

# %%
rng, lengths = np.random.default_rng(5), {}
for terse in (0.0, 1.0):
    lengths[terse] = [len(question.prompt.split()) for picture in pictures * 6 for question in ask_picture(picture, rng, 8, terse=terse)]
figure, axis = plt.subplots(figsize=(5, 1.6))
axis.hist(list(lengths.values()), bins=range(0, 46, 3), density=True, color=PALETTE[:2], label=['full', 'terse'])
axis.set(xlabel='words of a question', yticks=[]); axis.legend(fontsize=7); plt.show()
assert np.mean(lengths[1.0]) < 0.6 * np.mean(lengths[0.0])

# %% [markdown]
# The truth is dealt evenly among the options that a question has. Some questions have only two (left or right, higher or lower), so A
# and B are right more often than C and D; Yes and No are even.

# %%
rng, many = np.random.default_rng(7), []
for picture in pictures * 12: many += ask_picture(picture, rng, 8)
shares = {form: [question.answer for question in many if question.form == form] for form in ('choice', 'yes_no')}
figure, axes = plt.subplots(1, 2, figsize=(7.5, 1.8))
for axis, (form, answers) in zip(axes, shares.items()):
    words, counts = np.unique(answers, return_counts=True)
    axis.bar(words, counts / counts.sum(), color=PALETTE[0]); axis.set_title(f'answers of {form} questions', fontsize=9)
plt.show()
assert all(abs(np.mean([answer == 'Yes' for answer in shares['yes_no']]) - 0.5) < 0.1 for _ in (0,))

# %% [markdown]
# ## What we proved
#
# * Every question is answered by one frame and its instance map.
# * Yes and No are equally frequent, and so is every letter among questions with as many options.
#
# ## Try it
#
# 1. Add a kind of fact that compares the sizes of two things in the picture. What makes it too close to call?
# 2. Ask about colours that no thing in the picture has. Which answer form can express that?
#
# <details><summary>Solutions</summary>
#
# 1. Compare the areas of the instance masks; too close to call below a ratio, and never when one touches the edge or
#    is covered.
# 2. Yes/No ('Is anything red?') and counts can; a choice among colours cannot, unless 'none of them' is an option in
#    true questions as well.
#
# </details>
