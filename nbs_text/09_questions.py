# %% [markdown]
# # Questions
# > From facts to questions: thirteen types, balanced answers, four forms; one call asks a clip everything it can be asked.

# %%
#| default_exp questions

# %% [markdown]
# #| export
# `frames` of a question are the frames of the clip that make its video; all frame numbers in texts, references and targets
# count from 0 in that video. The answer is a letter, Yes/No, a short phrase, or a track.

# %% [markdown]
# * **What** the engine that chooses a fact, a form, a wording and references, and writes question and answer
# * **Why** this is the heart of 4DP-QA: geometry in, language out, nobody in the loop
# * **Paper** 4DP-QA §3.2 and the table of types; thirteen types in four categories; balancing rules are **[ours]**
# * **Needs** everything of `08_motion` … `08f_track_questions`
# * **Time** 20 seconds
# * **Before this** `08c_facts`, `08d_spatial_facts`, `08f_track_questions`

# %%
#| export
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from track4d_ref.clips import Clip
from track4d_ref.facts import (Fact, agent_facts, camera_distance_facts, camera_facts, direction_facts,
                               level_direction_facts, moved_facts, pair_distance_facts, rotation_facts, screen_direction_facts)
from track4d_ref.measurements import Measured, measure
from track4d_ref.presets import Thresholds, load_thresholds
from track4d_ref.references import point_text, refer_somehow
from track4d_ref.spatial_facts import (depth_facts, multiview_depth_facts, multiview_object_distance_facts,
                                       object_distance_facts)
from track4d_ref.storage import InputError
from track4d_ref.templates import LETTERS, PHRASINGS, WORDINGS, claim_question, prompt_text, sentence
from track4d_ref.track_questions import track_target

# %%
from collections import Counter

import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip, simulate_clips

# %% [markdown]
# ## Thirteen types, and what each of them needs
#
# The first column is 4DP-QA's number. A type says what it needs (so many objects, so many that move, so many frames), a
# cheap test that spares most useless searches; its `find` then lists the clear facts. The two tracking types have no list
# of facts: any visible point is one, and `find` is left empty.

# %%
#| export
# without camera poses the world of a clip is the camera of each frame: what moves, and where the camera goes, is unknown
NEEDS_WORLD = {'camera_movement', 'object_rotation', 'object_direction', 'agent_motion', 'moved_distance',
               'multiview_object_object_distance', 'true_motion_tracking'}

@dataclass(frozen=True)
class QuestionType:
    "One of 4DP-QA's thirteen question types; `objects` and `frames` are the least it needs."
    number: int
    name: str
    category: str
    find: Callable[[Measured, Thresholds, np.random.Generator], list[Fact]] | None
    objects: int = 0
    frames: int = 1

    def possible(self, m: Measured, cuts: Thresholds) -> bool:
        "Whether the segment has the objects, frames and camera poses this type needs."
        if self.name in NEEDS_WORLD and not m.clip.meta.get('camera_poses_known', True): return False
        visible = (m.seen(cuts.min_visible_px)).any(1).sum()
        return len(m.frames) >= self.frames and visible >= self.objects


# %%
#| export
QUESTION_TYPES = {kind.name: kind for kind in (
    QuestionType(1, 'camera_movement', 'camera', camera_facts, 0, 2),
    QuestionType(2, 'camera_object_distance_change', 'camera', camera_distance_facts, 1, 2),
    QuestionType(3, 'object_rotation', 'object', rotation_facts, 1, 2),
    QuestionType(4, 'object_direction', 'object', direction_facts, 1, 2),
    QuestionType(5, 'agent_motion', 'object', agent_facts, 1, 2),
    QuestionType(6, 'moved_distance', 'object', moved_facts, 2, 2),
    QuestionType(7, 'object_object_distance_change', 'object', pair_distance_facts, 2, 2),
    QuestionType(8, 'depth', 'spatial', depth_facts, 2),
    QuestionType(9, 'object_object_distance', 'spatial', object_distance_facts, 3),
    QuestionType(10, 'multiview_depth', 'spatial', multiview_depth_facts, 2, 2),
    QuestionType(11, 'multiview_object_object_distance', 'spatial', multiview_object_distance_facts, 3, 2),
    QuestionType(12, 'visual_tracking', 'tracking', None, 0, 3),
    QuestionType(13, 'true_motion_tracking', 'tracking', None, 0, 3))}

# %%
clip = simulate_clip(21, load_preset('tiny'))
m, cuts, rng = measure(clip), load_thresholds('simulator'), np.random.default_rng(0)
counts = {kind.name: len(kind.find(m, cuts, rng)) for kind in QUESTION_TYPES.values() if kind.find}
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), dpi=90, width_ratios=(1, 1.2))
axes[0].imshow(clip.view.frames[0]); axes[0].axis('off')
axes[1].barh(list(counts), list(counts.values()), color='#0072B2'); axes[1].invert_yaxis(); axes[1].tick_params(labelsize=7)
axes[1].set_title(f'clear facts in a clip with {len(clip.objects)} objects', fontsize=9); plt.tight_layout(); plt.show()

# %%
assert [kind.number for kind in QUESTION_TYPES.values()] == list(range(1, 14)) and set(QUESTION_TYPES) <= set(PHRASINGS)
assert all(kind.possible(m, cuts) for kind in QUESTION_TYPES.values() if kind.find and counts[kind.name])

# %% [markdown]
# ## What a question is
#
# Text, options and answer are what a model sees and is scored by. The rest is for people and for machines that check:
# which frames, which objects and how they were called, the measured values, and in `meta` how the question came about.

# %%
#| export
FORMS = ('choice', 'yes_no', 'free')

@dataclass(frozen=True)
class Style:
    "How to ask: allowed forms, ways to refer to objects, and whether labels may combine several movements."
    forms: tuple[str, ...] = ('choice', 'yes_no')
    modes: tuple[str, ...] = ('caption', 'pixel')     # add 'circle' where the frames are drawn on, see draw_references
    combined: bool = True
    systems: tuple[str, ...] = ('first camera',)      # of object_direction; also 'gravity-aligned' and 'screen'
    wording: str = 'standard'                         # or 'transfer': words that no training question uses

DIRECTION_SYSTEMS = {'first camera': (direction_facts, ''), 'gravity-aligned': (level_direction_facts, '_level'),
                     'screen': (screen_direction_facts, '_screen')}  # how to find them, which wording


# %%
#| export
@dataclass(frozen=True)
class Question:
    "One question about a clip segment, with its answer and where both come from."
    type: str
    text: str
    choices: tuple[str, ...]          # option texts in the order of the letters; () for yes/no, free form and tracks
    answer: str
    frames: tuple[int, ...]           # frames of the clip that make the video
    view: int = 0
    references: tuple[dict, ...] = ()
    targets: dict = field(default_factory=dict)
    meta: dict = field(default_factory=dict)

    @property
    def category(self) -> str: return QUESTION_TYPES[self.type].category

    @property
    def prompt(self) -> str:
        "Question, lettered options and the instruction, as a model gets them."
        return prompt_text(self.text, self.choices, self.meta['form'])

    def _repr_html_(self) -> str:
        return f'<pre style="margin:2px">{self.prompt}\n→ {self.answer}</pre>'


# %% [markdown]
# ## Choosing a fact, a form and an answer
#
# Three draws keep the answers balanced **[ours]**:
#
# 1. the *label* is drawn first, evenly among those that occur, and then a fact that has it;
# 2. a yes/no question is decided to be true or false by a fair coin, and a false claim takes its option from the same set
#    a multiple choice would have offered;
# 3. the options are shuffled with the question's own generator.
#
# A label such as "neither of them moves" makes no claim of the form "*x* travels further than *y*"; it is asked as a
# multiple choice instead.

# %%
#| export
def choose_fact(facts: list[Fact], rng: np.random.Generator) -> Fact:
    "A random fact, every label that occurs equally likely."
    groups = {}
    for fact in facts: groups.setdefault(fact.label, []).append(fact)
    group = groups[list(groups)[int(rng.integers(len(groups)))]]
    return group[int(rng.integers(len(group)))]

def offered_options(fact: Fact, rng: np.random.Generator, most: int = 4) -> list[str]:
    "At most four options of a fact in random order, the label among them."
    others = [option for option in fact.options if option != fact.label]
    chosen = [fact.label, *(others[k] for k in rng.permutation(len(others))[:most - 1])]
    return [chosen[k] for k in rng.permutation(len(chosen))]

def _is_single(fact: Fact) -> bool: return ' and ' not in fact.label and ', ' not in fact.label

def _is_slot(option: str) -> bool: return option.startswith('{')


# %%
skewed = [Fact('increases', ('increases', 'decreases'))] * 45 + [Fact('decreases', ('increases', 'decreases'))] * 5
shares = {'any fact': Counter(skewed[int(rng.integers(50))].label for _ in range(2000)),
          'label first': Counter(choose_fact(skewed, rng).label for _ in range(2000))}
figure, axis = plt.subplots(figsize=(4.6, 1.8), dpi=90)
axis.barh(list(shares), [count['increases'] / 2000 for count in shares.values()], color=['#D55E00', '#009E73'])
axis.axvline(0.5, color='k', linestyle=':'); axis.set(xlim=(0, 1), xlabel="share of 'increases' among 45 + 5 facts"); plt.tight_layout(); plt.show()

# %%
assert abs(shares['label first']['increases'] / 2000 - 0.5) < 0.05
options = offered_options(Fact('b', tuple('abcdefg')), rng)
assert len(set(options)) == 4 and 'b' in options


# %% [markdown]
# ## Writing the question
#
# The references come first. An object of a static question is named in its frame; one of a motion question in a random
# frame where it is visible, since the caption or the circle must be anchored somewhere. If the frames of the objects
# differ, a caption needs its frame as well: "the red ball in frame 3". If they are all the same, the whole question starts
# with "In frame 3:".

# %%
#| export
def _refer_all(m: Measured, fact: Fact, style: Style, cuts: Thresholds, rng: np.random.Generator):
    "Phrases and records for all objects of a fact, or None if one of them cannot be named."
    phrases, records, seen = [], [], m.seen(cuts.min_visible_px)
    for place, row in enumerate(fact.objects):
        frame = fact.frames[place] if fact.frames else int(rng.choice(np.flatnonzero(seen[row])))
        found = refer_somehow(m, row, frame, style.modes, rng, [record.get('color') for record in records])
        if found is None: return None
        phrase, record = found
        if record['mode'] == 'caption' and len(set(fact.frames)) > 1: phrase += f' in frame {frame}'
        phrases.append(phrase); records.append(record)
    return phrases, tuple(records)

def _plain(value): return (np.round(value, 4) + 0).tolist()          # + 0: no negative zeros

def _slots(kind: str, phrases: list[str]) -> dict[str, str]:
    if kind == 'camera_object_distance_change': return dict(a='the camera', b=phrases[0])
    return dict(zip('abc', phrases))

def _yes_no(kind: str, fact: Fact, options: list[str], slots: dict, wrappers, rng: np.random.Generator) -> tuple[str, str, int, str]:
    "Text, answer, wrapper number and claimed option (slots unfilled) of a claim that is true half of the time."
    true = bool(rng.random() < 0.5)
    wrong = [option for option in options if option != fact.label and _is_slot(option) == _is_slot(fact.label)]
    claimed = fact.label if true else wrong[int(rng.integers(len(wrong)))]
    wrapper = int(rng.integers(len(wrappers)))
    if _is_slot(claimed): slots = dict(slots, other=slots['b' if claimed == '{a}' else 'a'])
    text = claim_question(kind, wrappers[wrapper], **dict(slots, option=claimed.format(**slots)))
    return text, 'Yes' if true else 'No', wrapper, claimed


# %%
#| export
def _choose_form(kind: str, fact: Fact, style: Style, rng: np.random.Generator) -> str:
    claimable = kind != 'moved_distance' or _is_slot(fact.label)
    forms = [form for form in style.forms if form != 'yes_no' or claimable] or ['choice']
    return str(rng.choice(forms))

def phrase_fact(kind: str, m: Measured, fact: Fact, rng: np.random.Generator, cuts: Thresholds, style: Style = Style()) -> Question | None:
    "Write a fact as a question of one of the allowed forms; None if an object cannot be referred to."
    named = _refer_all(m, fact, style, cuts, rng)
    if named is None: return None
    slots, form, options = _slots(kind, named[0]), _choose_form(kind, fact, style, rng), offered_options(fact, rng)
    topic = kind + (DIRECTION_SYSTEMS[fact.system][1] if kind == 'object_direction' else '')
    phrasings, wrappers = WORDINGS[style.wording]
    label, choices, extra = fact.label.format(**slots), (), {}
    if form == 'yes_no': text, answer, template, extra['claim'] = _yes_no(topic, fact, options, slots, wrappers, rng)
    else:
        template = int(rng.integers(len(phrasings[topic])))
        text, answer = sentence(phrasings[topic][template].format(**slots)), label
    if form == 'choice':
        choices = tuple(option.format(**slots) for option in options)
        answer = LETTERS[options.index(fact.label)]
    if fact.frames and len(set(fact.frames)) == 1: text = f'In frame {fact.frames[0]}: {text[:1].lower()}{text[1:]}'
    meta = dict(form=form, label=label, truth=fact.label, options=options if form == 'choice' else [], system=fact.system, template=template, thresholds=cuts.source, **extra)
    return Question(kind, text, choices, answer, tuple(m.frames.tolist()), m.view_index, named[1],
                    {name: _plain(value) for name, value in fact.values.items()}, meta)


# %%
for kind in ('camera_movement', 'object_direction', 'depth', 'moved_distance', 'multiview_depth'):
    facts = QUESTION_TYPES[kind].find(m, cuts, rng)
    if facts: print(phrase_fact(kind, m, choose_fact(facts, rng), rng, cuts).prompt, '\n')

# %%
fact = Fact('{a}', ('{a}', '{b}'), (0, 1), (0, 0), 'camera')
asked = [phrase_fact('depth', m, fact, rng, cuts, Style(('yes_no',), ('caption',))) for _ in range(40)]
for question in asked:
    first, second = (m.clip.objects[n].caption for n in (0, 1))
    claims_first = question.text.index(first) < question.text.index(second)
    assert (question.answer == 'Yes') == claims_first and question.text.startswith('In frame 0: ')
assert {question.answer for question in asked} == {'Yes', 'No'}


# %% [markdown]
# ## Track questions
#
# The list of target frames stands in the question, shuffled, and the answer follows it. The query is a pixel, whatever
# mode names the object; a point of the background is called just that.

# %%
#| export
def phrase_track(kind: str, m: Measured, rng: np.random.Generator, cuts: Thresholds, style: Style = Style()) -> Question | None:
    "A visual or true-motion tracking question about a random point of the segment; None if no point will do."
    target = track_target(m, cuts, rng, kind == 'true_motion_tracking')
    if target is None: return None
    phrase, records = 'the background', ()
    if target.row >= 0:
        named = refer_somehow(m, target.row, target.reference, [mode for mode in style.modes if mode == 'caption'], rng)
        phrase, records = (named[0], (named[1],)) if named else ('the object', ())
    template = int(rng.integers(len(PHRASINGS[kind])))
    frames = ', '.join(map(str, target.frames))
    query = f'{point_text(target.query)} of frame {target.reference}'
    text = PHRASINGS[kind][template].format(a=phrase, query=query, reference=target.reference, frames=frames)
    targets = dict(object=int(m.clip.objects[target.row].id) if target.row >= 0 else 0, reference=target.reference,
                   query=list(target.query), frames=list(target.frames), xy=target.xy.round(6).tolist(),
                   visible=target.visible.tolist())
    system = 'camera of the reference frame' if kind == 'true_motion_tracking' else 'screen'
    meta = dict(form='track', label='track', system=system, template=template, thresholds=cuts.source)
    return Question(kind, sentence(text), (), target.answer, tuple(m.frames.tolist()), m.view_index, records, targets, meta)


# %%
tracks = [q for _ in range(40) if (q := phrase_track('true_motion_tracking', m, rng, cuts)) and q.targets['object']]
question = max(tracks, key=lambda q: np.ptp(q.targets['xy'], axis=0).sum())
question

# %%
figure, axis = plt.subplots(figsize=(3.6, 3.6), dpi=90)
reference, size = question.targets['reference'], (clip.view.width, clip.view.height)
axis.imshow(clip.view.frames[reference]); axis.axis('off')
points = np.array(question.targets['xy']) * size
axis.scatter(*(points - 0.5).T, c=['#009E73' if seen else '#D55E00' for seen in question.targets['visible']], s=30, edgecolor='w')
for frame, point in zip(question.targets['frames'], points): axis.text(*point, f' {frame}', color='white', fontsize=8)
axis.plot(*(np.array(question.targets['query']) * size - 0.5), 'w+', markersize=14)
axis.set_title(f'the answer in the picture of frame {reference}\n(+ query; green visible, orange occluded)', fontsize=8); plt.show()

# %%
assert len(question.targets['frames']) == len(question.targets['visible']) == question.answer.count('frame')
assert all(f'{frame}' in question.text for frame in question.targets['frames'])


# %% [markdown]
# ## Asking
#
# `ask` is one type, `ask_all` a whole clip: every type `per_type` times, the same fact never twice in the same words. Both
# are deterministic in the generator. Thresholds come from the section of the clip's source unless they are given.

# %%
#| export
def _prepare(clip: Clip, view: int, frames) -> Measured:
    m = measure(clip, view)
    if frames is None: return m
    if len(frames) == 0 or min(frames) < 0 or max(frames) >= clip.frames_count:
        raise InputError(f'clip {clip.id}: frames {list(frames)[:8]} do not fit its {clip.frames_count} frames')
    return m.at(frames)

def ask_measured(m: Measured, type: str, rng: np.random.Generator, cuts: Thresholds, style: Style = Style()) -> Question | None:
    "One question of a type about a measured segment, or None if nothing clear can be asked."
    if type not in QUESTION_TYPES: raise InputError(f'question type {type!r} does not exist; use one of {", ".join(QUESTION_TYPES)}')
    kind = QUESTION_TYPES[type]
    if not kind.possible(m, cuts): return None
    if kind.find is None: return phrase_track(type, m, rng, cuts, style)
    find = DIRECTION_SYSTEMS[str(rng.choice(style.systems))][0] if type == 'object_direction' else kind.find
    facts = find(m, cuts, rng)
    if not style.combined and type in ('camera_movement', 'object_direction'): facts = [fact for fact in facts if _is_single(fact)]
    return phrase_fact(type, m, choose_fact(facts, rng), rng, cuts, style) if facts else None

def ask(clip: Clip, type: str, rng: np.random.Generator, thresholds: Thresholds | None = None, style: Style = Style(),
        frames=None, view: int = 0) -> Question | None:
    "One question of a type about a clip (or some of its frames), or None if nothing clear can be asked."
    return ask_measured(_prepare(clip, view, frames), type, rng, thresholds or load_thresholds(clip.source), style)


# %%
#| export
def same_question(question: Question) -> tuple:
    "What makes two questions on one clip the same: wording, order of options and ways of referring do not count."
    if question.category == 'tracking': return question.type, question.targets['reference'], tuple(question.targets['query'])
    static = question.category == 'spatial'
    objects = frozenset((record['object'], record['frame'] if static else None) for record in question.references)
    label = question.meta['label'] if question.type == 'agent_motion' else None  # its turn and its drive are two facts
    return question.type, question.frames, objects, question.meta['form'], question.meta['system'], label

def ask_measured_all(m: Measured, rng: np.random.Generator, types=tuple(QUESTION_TYPES), per_type: int = 1,
                     cuts: Thresholds | None = None, style: Style = Style()) -> list[Question]:
    "Up to `per_type` different questions of each type about a measured segment."
    cuts, questions, known = cuts or load_thresholds(m.clip.source), [], set()
    for type in types:
        found = 0
        for _ in range(2 * per_type):
            question = ask_measured(m, type, rng, cuts, style)
            if question is None and QUESTION_TYPES[type].category in ('camera', 'object'): break
            if question is None or same_question(question) in known: continue
            known.add(same_question(question)); questions.append(question); found += 1
            if found == per_type: break
    return questions

def ask_all(clip: Clip, rng: np.random.Generator, types=tuple(QUESTION_TYPES), per_type: int = 1, thresholds: Thresholds | None = None,
            style: Style = Style(), frames=None, view: int = 0) -> list[Question]:
    "Up to `per_type` different questions of each type about a clip; all of them share one video."
    return ask_measured_all(_prepare(clip, view, frames), rng, types, per_type, thresholds, style)


# %%
questions = ask_all(clip, np.random.default_rng(5), style=Style(('choice', 'yes_no', 'free')))
for question in questions[:4]: display(question)

# %%
again = ask_all(clip, np.random.default_rng(5), style=Style(('choice', 'yes_no', 'free')))
assert questions == again and len({same_question(question) for question in questions}) == len(questions)
try: ask(clip, 'colour', rng)
except InputError as error: print(error)
else: raise AssertionError('an unknown type must be refused')


# %% [markdown]
# ## A page to check by eye
#
# Before anything is trained, look. The strip shows what the model would see, the drawing beside it what is true; the
# question must be answerable from the one and agree with the other.

# %%
def page(clip, question):
    m = measure(clip).at(question.frames)
    figure, axes = plt.subplots(1, 5, figsize=(9.5, 2.2), dpi=80)
    for axis, t in zip(axes, np.linspace(0, len(m.frames) - 1, 4).round().astype(int)):
        axis.imshow(m.view.frames[m.frames[t]]); axis.axis('off'); axis.set_title(f'frame {t}', fontsize=7)
    asked = {record['object']: letter for record, letter in zip(question.references, 'abc')}
    for n, item in enumerate(clip.objects):
        color = plt.cm.tab10(n) if item.id in asked else '#BBBBBB'
        axes[4].plot(*m.centers_m[n, :, :2].T, color=color); axes[4].plot(*m.centers_m[n, -1, :2], 'o', color=color, markersize=4)
        axes[4].text(*m.centers_m[n, -1, :2], ' ' + item.caption, fontsize=6, color=color)
    axes[4].plot(*m.camera_m[:, :2].T, 'k-'); axes[4].plot(*m.camera_m[-1, :2], 'k^', markersize=4); axes[4].set_aspect('equal'); axes[4].tick_params(labelsize=6)
    figure.suptitle(f'{question.prompt}\n→ {question.answer}', fontsize=7, x=0.02, ha='left', y=1.25); plt.show()

pool, shown = list(simulate_clips(24, 31, load_preset('tiny'))), []
for kind in ('object_direction', 'camera_object_distance_change', 'moved_distance', 'object_rotation'):
    for number, clip in enumerate(pool):
        question = ask(clip, kind, rng, style=Style(('choice',), ('caption',)))
        if question:
            page(pool.pop(number), question); shown.append(question); break

# %%
assert len(shown) == 4 and all(question.choices['ABCD'.index(question.answer)] == question.meta['label'] for question in shown)

# %% [markdown]
# ## Are the answers balanced?
#
# Over many clips, each letter should be right equally often, and so should Yes and No.

# %%
many = [question for clip in simulate_clips(60, 77, load_preset('tiny')) for question in ask_all(clip, rng, per_type=2)]
letters = Counter(question.answer for question in many if len(question.choices) == 4)
yes = Counter(question.answer for question in many if question.meta['form'] == 'yes_no')
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), dpi=90, width_ratios=(1, 0.7, 1.4))
axes[0].bar(list('ABCD'), [letters[letter] for letter in 'ABCD'], color='#0072B2'); axes[0].set_title('right letter', fontsize=9)
axes[1].bar(list(yes), list(yes.values()), color='#0072B2'); axes[1].set_title('right answer', fontsize=9)
kinds = Counter(question.type for question in many)
axes[2].barh(list(kinds), list(kinds.values()), color='#0072B2'); axes[2].tick_params(labelsize=6.5); axes[2].invert_yaxis(); axes[2].set_title(f'{len(many)} questions', fontsize=9)
plt.tight_layout(); plt.show()


# %%
def spread(counts): return max(counts.values()) - min(counts.values()) <= 4.5 * np.sqrt(sum(counts.values()) / len(counts))
assert spread(letters) and spread(yes)

# %% [markdown]
# ## What we proved
#
# * The same generator gives the same questions; the same fact is not asked twice.
# * Labels are drawn before facts, claims are true by a fair coin, letters are shuffled: no answer is favoured.
# * Every question carries the frames, references and measurements that it rests on.
#
# ## Try it
#
# 1. Ask a clip with `Style(forms=('free',), combined=False)` and list the vocabulary of the answers.
# 2. Add a fourteenth type: which object leaves the picture first? What are its facts, its options, its claims?
#
# <details><summary>Solutions</summary>
#
# 1. `{q.answer for q in ask_all(clip, rng, style=Style(('free',), combined=False))}` over a hundred clips. It is
#    small and closed: that is what makes exact match a fair rule for free answers.
# 2. Facts: the first frame without a visible pixel of each object, with a dead zone of some frames between the two;
#    options: the captions; claims: '{a} leaves the picture before {b}'. Ask only where both leave.
#
# </details>
