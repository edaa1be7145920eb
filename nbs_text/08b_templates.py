# %% [markdown]
# # Templates
# > The words of the questions: eight phrasings for each type, and one grammar for claims that are true or false.

# %%
#| default_exp templates

# %% [markdown]
# #| export
# Slots: {a}, {b}, {c} are phrases for objects; {option} is an answer text, {other} the slot that was not chosen.
# {query}, {reference}, {frames} belong to the tracking questions. Nothing here draws a random number.

# %% [markdown]
# * **What** phrasings for the thirteen types, yes/no wrappers, instructions, and how they are filled in
# * **Why** a model should learn the question, not its wording; and a right claim must read exactly like a wrong one
# * **Paper** 4DP-QA §3.2: several templates per type, phrasings diversified with a language model; ours are **[ours]**
# * **Needs** nothing
# * **Time** 5 seconds
# * **Before this** `08_motion` (the words for movements)

# %%
#| export
import re

# %%
import matplotlib.pyplot as plt

# %% [markdown]
# ## Open questions
#
# 4DP-QA had a large language model diversify its templates. We write eight phrasings per type by hand: short ones and
# chatty ones, with and without "video", as a question and as a request. Types that ask the same thing share their
# phrasings: the change of a distance is one question whether or not one end of it is the camera, and depth in two
# frames differs from depth in one only in how the objects are referred to.

# %%
#| export
CAMERA = (
    'How does the camera move in this video?',
    'Which description fits the movement of the camera?',
    'What does the camera do between the first and the last frame?',
    'Seen from where it starts, how does the camera move and turn?',
    'Describe the motion of the camera.',
    "What is the camera's own motion over the whole video?",
    'Judge only the camera, not the objects: how does it move?',
    'Someone holds the camera. How do they move it?')

DISTANCE_CHANGE = (
    'How does the distance between {a} and {b} change?',
    'What happens to the distance between {a} and {b} over the video?',
    'Over the video, how does the gap between {a} and {b} develop?',
    'Compare the first and the last frame: what has become of the distance between {a} and {b}?',
    'Do {a} and {b} get closer to each other or further apart?',
    'Describe how far apart {a} and {b} are as time goes on.',
    'In three dimensions, how does the distance from {a} to {b} change?',
    'Which description fits the distance between {a} and {b}?')

# %% [markdown]
# The questions about one moving object name their reference system, since without it "left" means nothing: the first
# camera, the level ground or the screen for its direction, a view from above for its turning, its own front for an agent.

# %%
#| export
ROTATION = (
    'Seen from above, which way does {a} rotate?',
    'Does {a} turn clockwise or counterclockwise when seen from above?',
    'Imagine looking straight down on {a}. In which direction does it spin?',
    'Looking down along gravity, how does {a} rotate?',
    'In which sense does {a} turn over the video, seen from above?',
    'A bird hovers over {a}. Which way does it see it turn?',
    'Name the direction in which {a} rotates, as seen from above.',
    'From a top view, what is the sense of rotation of {a}?')

DIRECTION = (
    'From the point of view of the camera in the first frame, where does {a} move?',
    'In which direction does {a} travel, as seen by the first camera?',
    'Suppose the camera had stayed where it was in the first frame. Which way would it see {a} go?',
    "Describe the direction of {a} in the axes of the first frame's camera.",
    'Relative to the first camera position, how does {a} move through space?',
    'Leaving the motion of the camera aside, where does {a} go, as seen from the first frame?',
    'Which direction of movement fits {a}, judged from the first frame?',
    'Where in space does {a} head, told from the first view?')

SCREEN_DIRECTION = (
    'In the picture, which way does {a} move?', 'Where does {a} go on the screen?',
    'Compare the first and the last picture: how has {a} moved within the image?',
    'As a flat picture, in which direction does {a} travel?', 'Across the image plane, where does {a} move?',
    'Follow {a} with a finger on the screen. Which way does the finger go?',
    'Which movement in the image fits {a}, camera motion included?', 'How does the place of {a} in the picture change?')

# %%
#| export
LEVEL_DIRECTION = (
    'Over level ground and seen along the first view, where does {a} move?',
    'With up and down along gravity, in which direction does {a} go, as seen from the first camera?',
    'Hold the first camera level. Which way does it see {a} move?',
    'In gravity-aligned axes that face where the first camera faces, how does {a} move?',
    'Measured on the ground in front of the first camera, where does {a} go?',
    'Take gravity for up and down and the first viewing direction for ahead: how does {a} travel?',
    'Which direction of movement fits {a} in level axes turned like the first camera?',
    'A spirit level keeps the first camera upright. Where does it see {a} go?')

AGENT = (
    'From its own point of view, how does {a} move?',
    'Put yourself in the place of {a}: how does it move?',
    'With respect to its own front, what does {a} do?',
    'How would the one who steers {a} describe its motion?',
    'Relative to where {a} faces at first, how does it move?',
    'Which description fits the motion of {a} in its own frame?',
    'What does {a} do, told from its own seat?',
    "Take the front of {a} as 'forward'. How does it move?")

# %%
#| export
MOVED = (
    'Which travels further through the scene, {a} or {b}?',
    'Compare the paths of {a} and {b} in space. Which one is longer?',
    'Over the video, which covers more ground: {a} or {b}?',
    'Leaving the motion of the camera aside, which of the two goes further: {a} or {b}?',
    'Measure the paths of {a} and {b} in three dimensions. What do you find?',
    'Which one moves the greater distance, {a} or {b}?',
    'Of {a} and {b}, which has the longer way through the scene?',
    'How do the distances travelled by {a} and {b} compare?')

DEPTH = (
    'Which is nearer to the camera, {a} or {b}?',
    'Which one is closer to the viewer: {a} or {b}?',
    'Of {a} and {b}, which has the smaller distance from the camera?',
    'Compare how far {a} and {b} are from the camera. Which is nearer?',
    'Looking into the scene, what comes first, {a} or {b}?',
    'Is {a} or {b} nearer to where the picture was taken from?',
    'Which of the two is less far away from the camera: {a} or {b}?',
    'Name the nearer one, as seen by the camera: {a} or {b}?')

OBJECT_DISTANCE = (
    'Which is nearer to {c}, {a} or {b}?',
    'Measured in space, which of the two is closer to {c}: {a} or {b}?',
    'Take {c} as the reference. Which is nearer to it, {a} or {b}?',
    'Of {a} and {b}, which has the smaller distance to {c}?',
    'Compare the distances of {a} and {b} to {c}. Which is smaller?',
    'Standing at {c}, which would you reach first: {a} or {b}?',
    'Which neighbour of {c} is the closer one, {a} or {b}?',
    'Is it {a} or {b} that lies closer to {c}?')

# %% [markdown]
# The tracking questions follow the one wording which 4DP-QA prints for true motion, "Project the 3D trajectory of {object
# name} onto the image plane of frame 0". Visual tracking must ask for something else in so many words: where the point
# is seen in each frame. The list of frames stands in the question, in the order in which the answer has to come.

# %%
#| export
VISUAL_TRACK = (
    'Track the point {query} on {a}. Where is it seen in frames {frames}?',
    'The point {query} lies on {a}. Give its place in the picture in frames {frames}.',
    'Follow the point {query} of {a} through the video and report its image position in frames {frames}.',
    'Where does the point {query}, which belongs to {a}, appear in frames {frames}?',
    'Find the point {query} of {a} again in frames {frames}.',
    'In the pictures of frames {frames}, where is the point of {a} that is at {query}?',
    'Mark the point {query} on {a}. State where it is in each of the frames {frames}.',
    'Report the 2D track of the point {query} on {a} in frames {frames}, each in its own picture.')

TRUE_MOTION = (
    'Project the 3D trajectory of the point {query} on {a} onto the image plane of frame {reference}. Give frames {frames}.',
    'Had the camera stayed as in frame {reference}, where would the point {query} on {a} appear at frames {frames}?',
    'Take the motion of the camera away: seen from frame {reference}, where is the point {query} of {a} at frames {frames}?',
    'Draw the true motion of the point {query} on {a} in the picture of frame {reference}. Give its place at frames {frames}.',
    'With the camera fixed where it was in frame {reference}, track the point {query} on {a} at frames {frames}.',
    'The point {query} lies on {a}. Through the camera of frame {reference}, where is it at the times of frames {frames}?',
    'Freeze the camera at frame {reference}. Report where the point {query} of {a} moves to in frames {frames}.',
    'Project the 3D positions of the point {query} of {a} at frames {frames} into the view of frame {reference}.')

PHRASINGS = dict(
    camera_movement=CAMERA, camera_object_distance_change=DISTANCE_CHANGE, object_rotation=ROTATION, object_direction=DIRECTION,
    agent_motion=AGENT, moved_distance=MOVED, object_object_distance_change=DISTANCE_CHANGE, depth=DEPTH,
    object_object_distance=OBJECT_DISTANCE, multiview_depth=DEPTH, multiview_object_object_distance=OBJECT_DISTANCE,
    visual_tracking=VISUAL_TRACK, true_motion_tracking=TRUE_MOTION,
    object_direction_screen=SCREEN_DIRECTION, object_direction_level=LEVEL_DIRECTION)

# %%
slots = {name: {tuple(sorted(set(re.findall(r'{(\w+)}', text)))) for text in texts} for name, texts in PHRASINGS.items()}
slots

# %%
assert len(PHRASINGS) == 15 and all(len(set(texts)) >= 8 for texts in PHRASINGS.values())
assert all(len(kinds) == 1 for kinds in slots.values())      # all phrasings of a type use the same slots
assert all('first' in text or 'Leaving' in text for text in DIRECTION)   # the reference system is always said

# %% [markdown]
# ## Claims
#
# A yes/no question is a claim with a question mark. If right and wrong claims came from different tables, a model could
# tell them apart by their style. So each type has *one* subject and *one* predicate, both with slots, and what fills the
# slots decides whether the claim is true. Eight wrappers turn any claim into a question; two of their slots are enough,
# the claim as a statement and the claim as a question.

# %%
#| export
CLAIMS = dict(
    camera_movement=('the camera', '{option}'),
    camera_object_distance_change=('the distance between {a} and {b}', '{option}'),
    object_rotation=('{a}', 'rotates {option} when seen from above'),
    object_direction=('{a}', '{option}, as seen from the first frame'),
    object_direction_screen=('{a}', '{option} in the picture'),
    object_direction_level=('{a}', '{option}, in level axes of the first camera'),
    agent_motion=('{a}', '{option} from its own point of view'),
    moved_distance=('{option}', 'travels further than {other}'),
    object_object_distance_change=('the distance between {a} and {b}', '{option}'),
    depth=('{option}', 'is nearer to the camera than {other}'),
    object_object_distance=('{option}', 'is nearer to {c} than {other}'),
    multiview_depth=('{option}', 'is nearer to the camera than {other}'),
    multiview_object_object_distance=('{option}', 'is nearer to {c} than {other}'))

WRAPPERS = (
    '{asked}?', 'Is it right that {stated}?', 'Is this statement true: {stated}?', 'Would you say that {stated}?',
    'Look at the video: {asked}?', 'Someone claims that {stated}. Is that so?', 'Yes or no: {asked}?',
    'Check this claim: {stated}. Does it hold?')

VERBS = dict(moves='move', pans='pan', tilts='tilt', rolls='roll', stays='stay', increases='increase', decreases='decrease',
             rotates='rotate', turns='turn', travels='travel')

def base_form(predicate: str) -> str:
    "Third person to base form: 'moves forward, pans left' -> 'move forward, pan left'."
    return re.sub(r'\w+', lambda word: VERBS.get(word.group(), word.group()), predicate)


# %%
#| export
def asked(subject: str, predicate: str) -> str:
    "A claim as a question: 'does the camera move left', 'is the cup nearer to …'."
    if predicate.startswith('is '): return f'is {subject} {predicate[3:]}'
    return f'does {subject} {base_form(predicate)}'

def sentence(text: str) -> str:
    "The text with a capital first letter."
    return text[:1].upper() + text[1:]

def claim_question(kind: str, wrapper: int | str, **slots: str) -> str:
    "A claim of the type `kind` about its slots, as one of the yes/no questions: a number of WRAPPERS, or a wrapper."
    subject, predicate = (part.format(**slots) for part in CLAIMS[kind])
    wrapper = wrapper if isinstance(wrapper, str) else WRAPPERS[wrapper]
    return sentence(wrapper.format(stated=f'{subject} {predicate}', asked=asked(subject, predicate)))


# %%
for wrapper in range(4): print(claim_question('camera_movement', wrapper, option='moves forward and left, pans right'))
for wrapper in range(4, 8): print(claim_question('depth', wrapper, option='the red ball', other='the blue box'))

# %%
assert claim_question('camera_movement', 0, option='stays still') == 'Does the camera stay still?'
assert claim_question('depth', 0, option='the cup', other='the pan') == 'Is the cup nearer to the camera than the pan?'
assert claim_question('object_object_distance_change', 4, a='the red ball', b='the blue box', option='first increases, then decreases') \
    == 'Look at the video: does the distance between the red ball and the blue box first increase, then decrease?'

# %% [markdown]
# A right and a wrong claim must be equally long on average, or their length tells. The picture counts the words of true
# and false claims about the camera when the wrong one is the mirror image of the right one, as notebook 09 makes them.

# %%
words = ('moves forward', 'moves backward', 'moves left', 'moves right', 'pans left', 'pans right', 'tilts up', 'tilts down')
mirror = {words[n]: words[n ^ 1] for n in range(8)}
length = {kind: [len(claim_question('camera_movement', wrapper, option=pick[word]).split()) for word in words for wrapper in range(8)]
          for kind, pick in (('true', dict(zip(words, words))), ('false', mirror))}
figure, axis = plt.subplots(figsize=(5, 2.4), dpi=90)
axis.hist(length.values(), bins=range(4, 14), label=list(length), color=['#009E73', '#D55E00'], align='left')
axis.set(xlabel='words in the question', ylabel='questions', title='true and false claims are equally long'); axis.legend(); plt.show()

# %%
assert sorted(length['true']) == sorted(length['false'])

# %% [markdown]
# ## Other words for the transfer set
#
# A model that has learned our eight phrasings by heart has not learned to read. The transfer set, our stand-in for an
# external benchmark, therefore asks the same things in words that no training question uses **[ours]**: other verbs, other
# sentences, other wrappers. What is asked stays the same, and so do the options, because they are the answer's vocabulary.

# %%
#| export
_GAP = ('Track how far {a} is from {b}. What trend do you observe?', 'As the clip plays, what becomes of the space separating {a} and {b}?',
        'Tell how the separation of {a} and {b} evolves.', 'State the trend of the spacing between {a} and {b}.')
_CLOSER = ('Pick the one with less space to the lens: {a} or {b}?', 'Whose range from the camera is shorter, that of {a} or that of {b}?',
           'Reaching out from the lens, do you hit {a} or {b} sooner?', 'Rank {a} and {b} by range from the camera. Who is first?')
_NEIGHBOUR = ('Starting at {c}, is the shorter walk the one to {a} or to {b}?', 'Pick the one with less space to {c}: {a} or {b}?',
              'Rank {a} and {b} by their separation from {c}. Who is first?', 'Whose separation from {c} is shorter, that of {a} or that of {b}?')
TRANSFER = PHRASINGS | dict(
    camera_movement=('What did the person filming do with the camera?', 'Name the ego-motion behind this clip.',
                     'Between start and end of the clip, what changed in the pose of the viewer?', 'Tell what the shot does: which camera work is it?'),
    camera_object_distance_change=_GAP, object_object_distance_change=_GAP,
    object_rotation=('With a drone right overhead, in which sense would {a} be spinning?', 'State the spin of {a} on a floor plan.',
                     'On a map of the scene, which way round does {a} go?', 'Give the sense of rotation of {a} from the ceiling.'),
    object_direction=('With a tripod in place of the opening shot, which heading would {a} have?', 'Name the heading of {a} relative to the opening shot.',
                      'Undo all camera work. Which way is {a} travelling, relative to the opening shot?',
                      'Which heading does {a} keep in the coordinates of the opening shot?'),
    agent_motion=('Behind the wheel of {a}, what would you notice?', 'Name the manoeuvre of {a} in its own coordinates.',
                  'Tell the manoeuvre of {a} the way its driver would.', 'Which manoeuvre does {a} carry out, relative to its own nose?'),
    moved_distance=('Whose odometer shows more at the end, that of {a} or that of {b}?', 'Rank {a} and {b} by the length of their routes.',
                    'Lay the routes of {a} and {b} out straight. How do they compare?', 'Who puts in more metres, {a} or {b}?'),
    depth=_CLOSER, multiview_depth=_CLOSER, object_object_distance=_NEIGHBOUR, multiview_object_object_distance=_NEIGHBOUR)
TRANSFER_WRAPPERS = ('True or false, as yes or no: {stated}?', 'A colleague notes that {stated}. Do you agree?',
                     'Can you confirm that {stated}?', 'From the clip, {asked}?')
WORDINGS = dict(standard=(PHRASINGS, WRAPPERS), transfer=(TRANSFER, TRANSFER_WRAPPERS))   # phrasings of a type, wrappers of claims

# %%
for wrapper in TRANSFER_WRAPPERS: print(claim_question('depth', wrapper, option='the red egg', other='the blue plank'))
for kind in ('object_direction', 'moved_distance'): print(TRANSFER[kind][0])

# %%
slots_of = lambda texts: {tuple(sorted(set(re.findall(r'{(\w+)}', text)))) for text in texts}
assert all(slots_of(TRANSFER[kind]) == slots_of(PHRASINGS[kind]) for kind in PHRASINGS)
changed = [kind for kind in PHRASINGS if TRANSFER[kind] != PHRASINGS[kind]]
assert len(changed) == 11 and not any(set(TRANSFER[kind]) & set(PHRASINGS[kind]) for kind in changed)
assert not set(TRANSFER_WRAPPERS) & set(WRAPPERS)

# %% [markdown]
# ## Asking for the form of the answer
#
# The benchmark is scored by exact match of the first word, so the question says what it wants. For tracks it also says
# what the numbers are: x to the right and y down, both as a fraction of the picture.

# %%
#| export
LETTERS = 'ABCDEFGH'
INSTRUCTIONS = dict(
    choice='Answer with the letter of the right option.',
    yes_no='Answer Yes or No.',
    free='Answer with a short phrase.',
    track="For each frame give (x, y) as fractions of the picture's width and height, and whether the point is visible or "
          'occluded in that frame, in the order of the list.')

def prompt_text(text: str, choices: tuple[str, ...], form: str) -> str:
    "Question, lettered options, and what the answer should look like."
    options = [f'{letter}. {choice}' for letter, choice in zip(LETTERS, choices)] if form == 'choice' else []
    return '\n'.join([text, *options, INSTRUCTIONS[form]])


# %%
print(prompt_text(CAMERA[1], ('moves left', 'moves right', 'pans left', 'pans right'), 'choice'))

# %%
figure, axis = plt.subplots(figsize=(6.5, 2.8), dpi=90)
names = list(PHRASINGS)
axis.boxplot([[len(text.split()) for text in PHRASINGS[name]] for name in names], orientation='horizontal')
axis.set_yticks(range(1, 16), names, fontsize=7); axis.invert_yaxis()
axis.set(xlabel='words', title='length of the eight phrasings of each type'); plt.tight_layout(); plt.show()

# %%
coverage = [[sum(f'{{{slot}}}' in text for text in PHRASINGS[name]) for slot in ('a', 'b', 'c', 'query', 'reference', 'frames')] for name in names]
figure, axis = plt.subplots(figsize=(4.6, 3), dpi=90)
axis.imshow(coverage, cmap='Blues', vmin=0, vmax=10, aspect='auto')
axis.set_xticks(range(6), ('a', 'b', 'c', 'query', 'reference', 'frames'), fontsize=7, rotation=30); axis.set_yticks(range(15), names, fontsize=7)
for row, line in enumerate(coverage):
    for column, count in enumerate(line): axis.text(column, row, count or '', ha='center', va='center', fontsize=7, color='white')
axis.set_title('phrasings that use each slot', fontsize=9); plt.tight_layout(); plt.show()

# %%
assert prompt_text('Q?', ('x', 'y'), 'choice').splitlines() == ['Q?', 'A. x', 'B. y', INSTRUCTIONS['choice']]
assert prompt_text('Q?', (), 'yes_no') == 'Q?\nAnswer Yes or No.'

# %% [markdown]
# ## What we proved
#
# * Thirteen types (and direction in three systems), eight different phrasings each, and all phrasings of a type use the same slots.
# * Yes/no claims come from one subject and one predicate per type, so that only their content can give them away.
# * The grammar turns statements into questions without a parser: a table of ten verbs is enough.
#
# ## Try it
#
# 1. Add a ninth phrasing to a type and rebuild. Which assertion would have caught a missing slot?
# 2. Write the claims in another language. What has to change besides the tables?
#
# <details><summary>Solutions</summary>
#
# 1. The check that every template has exactly the slots of its type: a missing `{a}` would otherwise give a question
#    about nothing, and an extra one a `KeyError` in the middle of a data set.
# 2. The grammar of claims (word order, agreement of verbs) and the list of verbs. Answers must be translated with the
#    same table, since scoring compares texts.
#
# </details>
