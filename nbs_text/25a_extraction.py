# %% [markdown]
# # Extraction
# > Reading an option letter out of free text with rules that fit on one page

# %%
#| default_exp extraction

# %% [markdown]
# #| export
# `choices` is a dictionary from letter to option text, as in VLM4D's files; texts may be numbers. An
# extraction is the letter ('' if none) and the name of the rule that found it. Verdicts compare option
# *texts*, so two letters with the same text are both right.

# %% [markdown]
# * **What** a cascade of nine rules from "<answer>B</answer>" down to "The bus is moving to the left."
# * **Why** models asked for a letter write sentences; the published verdicts come from a language model as
#   judge, which nobody can run again
# * **Paper** VLM4D (o3 and o4-mini as judges, no string rule), MLLM-4D's released extractor, 4DP-QA section
#   4 (exact match)
# * **Needs** `TRACK4D_DATA` for the measured pictures; made-up answers take their place without it
# * **Time** 20 seconds
# * **Before this** `25_scoring`

# %% [markdown]
# ## One answer, fifteen spellings
#
# A model is told to answer with a letter. What comes back is a letter, a letter in bold, a letter in
# brackets, a letter and its text, the text alone, a sentence that contains the text, an essay with the
# answer at the end, the placeholder of the prompt, or nothing. The exact match of `25_scoring` accepts four
# of these. A language model as judge accepts nearly all, but it is slow, it changes from version to
# version, and it needs a key.
#
# The rules of this notebook lie between: deterministic, readable, and close to the judge. Each was thought
# of on some of the recorded VLM4D files and checked on others (last section); a rule tuned on the file it
# is checked on would prove nothing.

# %%
#| export
import re
import unicodedata
from dataclasses import dataclass

from track4d_ref.scoring import LETTERS, YES_NO, exact_match_vsi, normalise_text

# %%
import json
import os
from collections import Counter, defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, GREY = '#2b6cb0', '#dd6b20', '#a0aec0'
plt.rcParams.update({'figure.dpi': 90, 'axes.spines.top': False, 'axes.spines.right': False, 'font.size': 9})


# %% [markdown]
# The naive reader takes the first capital letter between A and D. It is right for the tidy half of the
# world and wrong in ways that look like opinions: "A car drives to the left" is read as A, and "Answer:
# Definitely right" as A or D. Silent errors of that kind are worse than a missing answer.

# %%
def extract_v1(response): return next((letter for letter in response if letter in 'ABCD'), '')

{text: extract_v1(text) for text in ('B', '**B**', 'A car drives to the left', 'the bus turns right')}

# %%
assert extract_v1('**B**') == 'B' and extract_v1('A car drives to the left') == 'A'      # the second is wrong

# %% [markdown]
# ## Clearing the ground
#
# Before a piece of text is read, its decoration goes: Markdown stars, LaTeX (`\boxed`, `\text`), dollar
# signs, brackets, quotes. Blanks are collapsed. The dollar sign matters because VLM4D's prompt shows
# `$LETTER` where it meant a placeholder, and models echo `$LETTER` or write `$B`.

# %%
#| export
LATEX = re.compile(r'\\(?:boxed|text|textbf|mathrm|mathbf)(?![a-z])|\\[()\[\]]')
DECORATION = re.compile(r'''[*_`#$"“”‘’(){}\[\]<>]|(?<!\w)'|'(?!\w)''')

def plain(text: str) -> str:
    """The text without Markdown, LaTeX, brackets and quotes; white space collapsed."""
    return ' '.join(DECORATION.sub(' ', LATEX.sub(' ', text)).split())


# %%
decorated = ['**B**', r'\boxed{\text{B}}', '$B', '(B)', '"B: to the\n left"', "the robot's foot"]
[plain(text) for text in decorated]

# %%
assert [plain(text) for text in decorated] == ['B', 'B', 'B', 'B', 'B: to the left', "the robot's foot"]

# %% [markdown]
# ## Reading one piece
#
# A piece is a short text that should *begin* with the answer, such as what follows "the answer is". Words
# that carry no choice are skipped ("option", "letter", "most likely", a colon). Then two readings are
# tried:
#
# 1. a capital option letter not followed by another letter (so "Answer: Behind" is not B); a small letter
#    counts only when a full stop, comma, colon, bracket or the end follows, since "a" is usually an
#    article;
# 2. the longest option text that starts the piece, ending at a word boundary: "left side of the road" must
#    not be read as "left", nor "10" as "1".
#
# Synonyms are not merged: "clockwise" beside "anti-clockwise" shows how a helpful rule would turn the
# answer around.

# %%
#| export
NO_CHOICE = 'is|are|the|be|es|est|ist|option|choice|letter|answer|correct|final|most likely|likely'
FILLER = re.compile(rf'(?:[\s:=,.→–—是为は은-]|(?:{NO_CHOICE})\b)+', re.IGNORECASE)

def option_texts(choices: dict) -> dict[str, str]:
    """Letter -> normalised option text, empty texts left out."""
    texts = {letter: normalise_text(text) for letter, text in choices.items()}
    return {letter: text for letter, text in texts.items() if text}

def starting_letter(text: str, choices: dict) -> str:
    """The option letter that opens a plain text, or ''."""
    letters = ''.join(map(re.escape, choices))
    found = re.match(f'([{letters}])(?![A-Za-z])', text)
    found = found or re.match(f'([{letters.lower()}])(?=[.:,)]|$)', text)
    return found.group(1).upper() if found else ''

def starting_text(text: str, choices: dict) -> str:
    """The letter of the longest option text that opens a plain text at a word boundary, or ''."""
    text = normalise_text(text)
    fitting = [(len(option), letter) for letter, option in option_texts(choices).items()
               if text.startswith(option) and not re.match(r'\w', text[len(option):])]
    return max(fitting)[1] if fitting else ''


# %% [markdown]
# One more reading matters: the piece may say clearly that it is **no** answer. "A or C" names two letters;
# "N/A" and "cannot be determined" name none. The search must stop there, or a rule further down would pick
# up a stray word from the reasoning and turn an honest refusal into an opinion. `NO_ANSWER` is the mark for
# that. Of the models at hand pixtral needs it most: asked for a letter without being sure, it writes "$B$
# or $C$".

# %%
#| export
NO_ANSWER = '?'
TWO_LETTERS = re.compile(r'[A-Z](?: or | and | & | ?/ ?)[A-Z](?![A-Za-z])(?! (?:is|are)\b)')
REFUSAL = re.compile(r"n/?a\b|none\b|neither\b|undetermined|unknown|unclear|uncertain|inconclusive|"
                     r"impossible|unable|can(?:not|'t)|could not|not (?:determined|clear|possible|enough)",
                     re.IGNORECASE)

def read_piece(piece: str, choices: dict) -> str:
    """The letter a short text begins with, as letter or option text; NO_ANSWER if it declines; or ''."""
    text = plain(piece)
    filler = FILLER.match(text)
    text = text[filler.end():] if filler else text
    letter = starting_letter(text, choices)
    if letter: return NO_ANSWER if TWO_LETTERS.match(text) else letter
    return starting_text(text, choices) or (NO_ANSWER if REFUSAL.match(text) else '')


# %%
directions = dict(A='left', B='right', C='not moving', D='left side of the road')
pieces = [': B', ' is: **D**', ' is option (C).', ' is b.', ' is a bus', ': left', ': Left side of the road.',
          ' is Behind', ': leftmost', ': $LETTER', ' is $A$ or $C$', ': N/A', ' is A and C is wrong']
print({piece: read_piece(piece, directions) for piece in pieces})

# %%
assert [read_piece(piece, directions) for piece in pieces] == [*'BDCB', '', 'A', 'D', '', '', '', '?', '?',
                                                               'A']
assert read_piece(': clockwise', dict(A='anti-clockwise', B='clockwise')) == 'B'
assert read_piece(' is 10', dict(A=1, B=10)) == 'B' and read_piece(' is 0.', dict(A=0, B=3)) == 'A'

# %% [markdown]
# ## After a phrase
#
# Reasoning ends with "the final answer is", but it may also quote the phrase on the way, correct itself, or
# write it twice. So we find **where each phrase starts**, read the text behind each, and take the last one
# that yields something. One regular expression that also swallowed its tail would hide a second phrase
# standing close behind the first.
#
# Three strengths of phrases are kept apart. "Final answer", "correct answer" and LaTeX's `\boxed` announce
# the result. A plain "answer" mostly does. "Option" and "I choose" are weakest, because an explanation
# walks through the options it rejects: "C: not moving. Option A would need motion." A letter that is
# rejected in the same breath ("option A is incorrect") is skipped altogether. A few common words of other
# languages stand beside the English ones, since multilingual models fall back into them.

# %%
#| export
STRONG_PHRASE = re.compile(r'\b(?:final|correct|best) answer\b|\\boxed\b|最终答案', re.IGNORECASE)
ANSWER_PHRASE = re.compile(r'\b(?:answer|ans|antwort|respuesta|réponse|resposta|risposta|ответ)\b|答案|答え|정답',
                           re.IGNORECASE)
OPTION_PHRASE = re.compile(r'\b(?:option|choice|choose|select|pick|go with)\b|选项', re.IGNORECASE)
REJECTED = re.compile(r'[A-Z]\b[^.\n]{0,40}?\b(?:is|are|can be|seems) '
                      r'(?:not\b|incorrect|wrong|eliminated|ruled out|unlikely|impossible)')

def after_phrase(response: str, choices: dict, phrase: re.Pattern, width: int) -> str:
    """The letter read from the `width` characters behind the last `phrase` that yields one, or ''."""
    for end in reversed([found.end() for found in phrase.finditer(response)]):
        piece = response[end:end + width]
        letter = read_piece(piece, choices)
        if letter and not REJECTED.match(plain(piece)): return letter
    return ''


# %%
changed_mind = 'The answer is A. No, wait. The correct answer is C, so the final answer is: $LETTER'
[after_phrase(changed_mind, directions, phrase, 80) for phrase in (STRONG_PHRASE, ANSWER_PHRASE)]

# %%
assert after_phrase(changed_mind, directions, STRONG_PHRASE, 80) == 'C'
twice = 'The correct answer is left. The correct answer is right.'
assert after_phrase(twice, directions, STRONG_PHRASE, 80) == 'B'
walk = 'Option A is incorrect. Option B fits. Option D is ruled out.'
assert after_phrase(walk, directions, OPTION_PHRASE, 60) == 'B'
assert after_phrase('no phrase here', directions, ANSWER_PHRASE, 60) == ''

# %% [markdown]
# ## When only a sentence is left
#
# Two of the 23 recorded models, asked to think step by step, answer "The spaceship is moving towards the
# left direction." No letter, no phrase. A person reads this without trouble because exactly one option
# occurs in it. The rule says the same: going back from the last sentence, the first one that mentions any
# option decides, **if it mentions exactly one**. Two mentions ("from left to right") are nobody's answer.
#
# All options are searched in one expression, longest first, so "not moving" is not also counted as
# "moving". A hyphen belongs to a word: "counter-clockwise" does not mention "clockwise". When every option
# is a whole number, spelled numbers up to ten count as well ("two dogs").

# %%
#| export
SENTENCE_END = re.compile(r'(?<=[.!?]) ')
NUMBER_WORDS = {word: str(i) for i, word in enumerate(
    ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'))}
NUMBER_WORD = re.compile(r'\b(?:' + '|'.join(NUMBER_WORDS) + r')\b')

def mentioned(response: str, choices: dict) -> str:
    """The letter of the only option text in the last sentence that has any, or ''."""
    letters = {text: letter for letter, text in reversed(option_texts(choices).items())}
    if not letters: return ''
    text = plain(response).casefold()
    if all(option.isdigit() for option in letters):
        text = NUMBER_WORD.sub(lambda found: NUMBER_WORDS[found.group()], text)
    longest_first = '|'.join(re.escape(option) for option in sorted(letters, key=len, reverse=True))
    option = re.compile(rf'(?<![\w-])(?:{longest_first})(?![\w-])')
    for sentence in reversed(SENTENCE_END.split(text)):
        found = set(option.findall(sentence))
        if found: return letters[found.pop()] if len(found) == 1 else ''
    return ''


# %%
sentences = {'The bus goes towards the left direction.': 'A', 'It is not moving. It just stands there.': 'C',
             'It moves from left to right.': '', 'It is turning counter-clockwise.': '',
             'It stays on the left side of the road.': 'D'}
{text: mentioned(text, directions) for text in sentences}

# %%
assert all(mentioned(text, directions) == letter for text, letter in sentences.items())
assert mentioned('There are two dogs.', dict(A=1, B=2, C=3)) == 'B'
assert mentioned('There are two dogs.', dict(A='two cats', B='three')) == ''

# %% [markdown]
# ## The cascade
#
# The rules are tried from the most explicit to the least, and the name of the one that fired is kept, so a
# report can say how a number came about:
#
# | rule | looks at |
# |---|---|
# | `tag` | only the inside of the first `<answer>…</answer>`, with all rules below |
# | `strong phrase`, `answer phrase` | what follows "final answer" or `\boxed`, then a plain "answer" |
# | `opening letter` | the start of the whole response |
# | `option phrase` | what follows "option", "choice" or "I choose" |
# | `verdict behind` | a letter in front of "is correct", "is the best answer" |
# | `whole text` | the response equals an option text |
# | `closing letter` | a lone capital letter at the very end (but not the A of "N/A") |
# | `mention` | the last sentence that names an option |
# | `none` | nothing found: counted as wrong **and** counted separately |
#
# Only the last 20,000 characters are read **[ours]**: the longest recorded response has a tenth of that,
# and a model stuck in a loop must not stall the scorer. Full-width and styled letters (Ｂ, 𝐁) become plain
# ones first. An answer tag is found by two plain searches for the same reason. Models that think inside
# `<think>…</think>` are taken at what they say behind it, and chat marks (`<|im_end|>`, `</s>`) and HTML
# tags are no part of an answer.

# %%
#| export
LONGEST_RESPONSE = 20_000   # characters
TAG_OPEN, TAG_CLOSE = re.compile('<answer>', re.IGNORECASE), re.compile('</answer>', re.IGNORECASE)
THINKING_END = re.compile('</think(?:ing)?>', re.IGNORECASE)
MARKUP = re.compile(r'<\|[^<>|]{1,40}\|>|</?[a-z][a-z_]{0,20}/?>', re.IGNORECASE)

@dataclass(frozen=True)
class Extraction:
    """The option letter found ('' if none) and the rule that found it."""
    letter: str
    rule: str

def tagged(response: str) -> str | None:
    """The text inside the first <answer>...</answer>, or None."""
    opening = TAG_OPEN.search(response)
    closing = TAG_CLOSE.search(response, opening.end()) if opening else None
    return response[opening.end():closing.start()] if closing else None

def spoken(response: str) -> str:
    """What stands behind the last </think>, if anything does, without chat marks and HTML tags."""
    behind = THINKING_END.split(response)[-1]
    return MARKUP.sub(' ', behind if MARKUP.sub(' ', behind).strip() else response)

def closing_letter(response: str, choices: dict) -> str:
    """A lone capital option letter at the very end, or ''."""
    letters = ''.join(map(re.escape, choices))
    found = re.search(rf'(?<![A-Za-z/])([{letters}])\W*$', plain(response)[-40:])
    return found.group(1) if found else ''


# %% [markdown]
# The opening letter hides one trap: "A car drives to the left" begins with a capital A that is an article.
# A blank and a lower-case word behind an A is therefore taken for prose, unless the words are the text of
# option A.

# %%
#| export
def opening_letter(response: str, choices: dict) -> str:
    """The letter that opens the response, unless it is the article of 'A car drives by'; NO_ANSWER for two."""
    text = re.sub(r'^\W+', '', plain(response))                       # bullets, ticks, arrows
    if TWO_LETTERS.match(text): return NO_ANSWER
    letter = starting_letter(text, choices)
    article = letter == 'A' and re.match(r'A [a-z]', text) is not None
    return '' if article and not normalise_text(text[2:]).startswith(normalise_text(choices['A'])) else letter

def whole_text(response: str, choices: dict) -> str:
    """The letter of the option text that equals the response, or ''."""
    said = normalise_text(plain(response))
    return next((letter for letter, text in option_texts(choices).items() if text == said), '')


# %% [markdown]
# Some write the letter first and the verdict behind it: "So, B (right) is the correct answer." Between the
# two nothing may stand but the option's own text; otherwise "A man is right of it" would be an A.

# %%
#| export
VERDICT = r'(?:is|must be|would be|seems) (?:the |most )*(?:correct|right|best|answer)\b'

def letter_before_verdict(response: str, choices: dict) -> str:
    """The last letter, alone or with its option text, in front of "is correct" or the like; or ''."""
    letters = ''.join(map(re.escape, choices))
    texts = '|'.join(map(re.escape, option_texts(choices).values()))
    found = re.findall(rf'(?<![A-Za-z])([{letters}])(?:[:.,]? (?i:{texts}))?,? {VERDICT}', plain(response))
    return found[-1] if found else ''


# %%
assert letter_before_verdict('So, B (right) is the correct answer.', directions) == 'B'
assert letter_before_verdict('A man is right of the car.', directions) == ''

# %%
#| export
RULES = {'strong phrase': lambda response, choices: after_phrase(response, choices, STRONG_PHRASE, 80),
         'answer phrase': lambda response, choices: after_phrase(response, choices, ANSWER_PHRASE, 60),
         'opening letter': opening_letter,
         'option phrase': lambda response, choices: after_phrase(response, choices, OPTION_PHRASE, 60),
         'verdict behind': letter_before_verdict,
         'whole text': whole_text,
         'closing letter': closing_letter,
         'mention': mentioned}

def extract_answer(response: str, choices: dict) -> Extraction:
    """Read an option letter out of a response; `choices` maps letters to option texts. It may find none."""
    response = unicodedata.normalize('NFKC', response[-LONGEST_RESPONSE:])
    inside = tagged(response)
    text = spoken(response if inside is None else inside)
    for rule, read in RULES.items():
        letter = read(text, choices)
        if letter == NO_ANSWER: break
        if letter: return Extraction(letter, rule if inside is None else 'tag')
    return Extraction('', 'none')


# %%
table = [('B', 'B'), ('B.', 'B'), ('(B)', 'B'), ('**B**', 'B'), ('$B', 'B'), ('B: right', 'B'), ('b', 'B'),
         ('B) right', 'B'), ('The answer is B.', 'B'), (r'\boxed{B}', 'B'), (r'So $\boxed{\text{B}}$.', 'B'),
         ('right', 'B'), ('Right.', 'B'), ('Therefore, the final answer is: $LETTER', ''),
         ('Answer: not moving', 'C'), ('not a turn', ''), ('', ''), ('E', ''), ('Final answer: N/A', ''),
         ('The final answer is A. Hmm. The final answer is B.', 'B'), ('<answer>\nright\n</answer>', 'B'),
         ('<answer>B</answer> or C? Answer: C', 'B'), ('<ANSWER>(c) not moving</ANSWER>', 'C'),
         ('<answer></answer> B', ''), ('A car drives to the right.', 'B'), ('A left', 'A'),
         ('I think it is B', 'B'), ('It goes from left to right.', ''),
         ('The correct answer is option C: not moving', 'C')]
table += [('**Answer: B**', 'B'), ('Option B', 'B'), ('ASSISTANT: B', 'B'), ('B<|im_end|>', 'B'),
          ('✅ B', 'B'),
          ("I'd go with B.", 'B'), ('{"answer": "B"}', 'B'), ('最终答案是 B', 'B'), ('Die Antwort ist B.', 'B'),
          ('（Ｂ）', 'B'), ('C: not moving. Option A would need motion.', 'C'), ('Final answer: $B$ or $C$', ''),
          ('It may go left. The final answer cannot be determined.', '')]
table += [('<think>Left? So A. Or option C.</think>\n\nB', 'B'), ('<|begin_of_box|>B<|end_of_box|>', 'B'),
          ('Answer: <b>B</b>', 'B'), ('<think>Left, so the answer is A.</think>', 'A')]
for text, letter in table:
    found = extract_answer(text, directions)
    print(f'{text[:52]!r:56}{found.letter or "–":3}{found.rule}')

# %%
assert all(extract_answer(text, directions).letter == letter for text, letter in table)
assert extract_answer('answer: clockwise', dict(A='up', B='down', C='left', D='clockwise')).letter == 'D'
for monster in ('<answer>', 'answer ', 'left right ', '(', 'A ', '\\boxed{', 'so. '):
    monster *= 1_000_000 // len(monster)
    assert extract_answer(monster, directions).letter in ('', 'A', 'B', 'C', 'D')


# %% [markdown]
# ## From letter to verdict
#
# The verdict compares option texts, not letters, because VLM4D stores the true option's text and has a
# question in which two options share one text. For our own records the truth is a letter or Yes/No;
# `score_extracted` has the same shape as `score_vsi`, so it can be given to `score_rows` and `rescore`.

# %%
#| export
def is_right(letter: str, choices: dict, truth) -> bool:
    """True if the option behind `letter` has the text of `truth` (spelling normalised, numbers as text)."""
    return letter in choices and normalise_text(choices[letter]) == normalise_text(truth)

def score_extracted(row: dict) -> dict:
    """A scorer for `scoring.score_rows`: `correct` and `parsed` by extraction from free text."""
    truth, answer = str(row['truth']), str(row['answer'])
    if row.get('choices'):
        letter = extract_answer(answer, dict(zip(LETTERS, row['choices']))).letter
        return dict(correct=letter == truth.upper(), parsed=bool(letter))
    if truth.lower() in YES_NO:
        letter = extract_answer(answer, dict(Y='yes', N='no')).letter
        return dict(correct=letter == truth[0].upper(), parsed=bool(letter))
    return dict(correct=normalise_text(answer) == normalise_text(truth), parsed=bool(answer.strip()))


# %%
same_text = dict(A='left', B='right', C='away from the camera', D='Away from the camera.')
score_extracted(dict(truth='No', answer='It says no.')), is_right('D', same_text, 'away from the camera')

# %%
assert is_right('C', same_text, 'away from the camera') and is_right('D', same_text, 'away from the camera')
assert is_right('A', dict(A=0, B=1), 0)
assert not is_right('', same_text, 'left') and not is_right('E', same_text, 'left')
assert score_extracted(dict(truth='B', choices=('x', 'y'), answer='(B) y')) == dict(correct=True, parsed=True)
assert score_extracted(dict(truth='Yes', answer='No, it is not.')) == dict(correct=False, parsed=True)


# %% [markdown]
# ## The other extractor
#
# MLLM-4D released only extracted letters, found by four rules: the first lone letter in the answer tag in
# any case; "answer" or "option", a colon and a letter with nothing required behind it; a lone letter at the
# very end; a response of one letter. We rebuild it from that description for comparison. Its vectors show
# what a missing word boundary costs: "answer: clockwise" becomes C.

# %%
#| export
def extract_like_mllm4d(response: str) -> str:
    """The letter MLLM-4D's released evaluation would find, or ''; kept for comparison, with its errors."""
    inside = tagged(response)
    found = re.search(r'\b([A-D])\b', inside, re.IGNORECASE) if inside is not None else None
    found = found or re.search(r'(?:answer|option|答案|选项)\s*[:：]\s*([A-D])', response, re.IGNORECASE)
    found = found or re.search(r'\b([A-D])$', response.strip()[-100:], re.IGNORECASE)
    return found.group(1).upper() if found else ''


# %%
vectors = {'<answer>right</answer>': '', '<answer>C: left</answer>': 'C', '<answer>not a turn</answer>': 'A',
           'so the final answer is: B': 'B', 'answer: clockwise': 'C', 'Answer: away from it': 'A', 'B': 'B',
           'The answer is B.': '', '(A)': '', 'B: left': '', 'foo B.': ''}
turns = dict(directions, C='clockwise')
{text: (extract_like_mllm4d(text), extract_answer(text, turns).letter) for text in vectors}

# %%
assert all(extract_like_mllm4d(text) == letter for text, letter in vectors.items())


# %% [markdown]
# ## How close to the judge?
#
# VLM4D's repository holds, for every model and question, the response and the judge's verdict. Rows are
# grouped by file; without the data a made-up sample with the same fields takes its place, so that the
# pictures exist everywhere. The rules were developed on four models (Qwen2.5-VL, VideoLLaMA3, InternVideo2,
# pixtral) and checked on the others; no rule was changed after looking at those. One idea was dropped:
# calling a letter void when the text behind it fits another option loses six judged answers for each one it
# wins.

# %%
def made_up_outputs(seed=7, count=300):
    rng, rows, names = np.random.default_rng(seed), [], ('left', 'right', 'up', 'down')
    shapes = ('{l}', '**{l}**', 'The final answer is: {l}', 'It moves {t}.', '$LETTER')
    for _ in range(count):
        choices = dict(zip('ABCD', map(str, rng.permutation(names))))
        letter, truth = str(rng.choice(list('ABCD'))), str(rng.choice(names))
        said = shapes[rng.choice(5, p=[.4, .1, .25, .2, .05])]
        response, correct = said.format(l=letter, t=choices[letter]), '{' in said and choices[letter] == truth
        rows.append(dict(choices=choices, response=response, ground_truth_answer=truth, correct=correct))
    return rows

data = os.environ.get('TRACK4D_DATA')
folder = Path(data) / 'vlm4d' / 'processed_outputs_paper_results' if data else None
outputs = {'made-up': made_up_outputs()}
if folder and folder.is_dir():
    outputs = {f'{path.parent.name.replace("_mc_", " ").replace("-output", "")}, {path.stem.split("_")[0]}':
               json.loads(path.read_text()) for path in sorted(folder.glob('*/*.json'))}
print(len(outputs), 'files,', sum(map(len, outputs.values())), 'answers')


# %%
def agreement(rows, read):
    return np.mean([is_right(read(row), row['choices'], row['ground_truth_answer']) == row['correct']
                    for row in rows])

def exact(row):
    return next((letter for letter in row['choices'] if exact_match_vsi(row['response'], letter)), '')

readers = {'exact match': exact,
           'as in MLLM-4D': lambda row: extract_like_mllm4d(row['response']),
           'this notebook': lambda row: extract_answer(row['response'], row['choices']).letter}
agreed = {file: [agreement(rows, read) for read in readers.values()] for file, rows in outputs.items()}
for file, values in agreed.items(): print(f'{file:45}', '  '.join(f'{100 * v:6.2f}' for v in values))

# %%
places = np.arange(len(agreed))[::-1]
fig, axis = plt.subplots(figsize=(8, .8 + .32 * len(agreed)))
for which, (name, colour) in enumerate(zip(readers, (GREY, ORANGE, BLUE))):
    axis.plot([100 * values[which] for values in agreed.values()], places, 'o', color=colour, label=name)
axis.set(yticks=places, yticklabels=agreed, xlabel='rows on which the extracted verdict equals the judge, %',
         title='Direct answers are easy; sentences tell the extractors apart')
axis.grid(axis='y', color='#edf2f7'); axis.legend(frameon=False, loc='center left', bbox_to_anchor=(1, .5))
fig.tight_layout()

# %% [markdown]
# On direct answers only the spelling differs: grok-2 writes "B: left", which the other two cannot read. On
# reasoning the exact match finds almost nothing, and what remains of its agreement is the share of *wrong*
# answers, since an unread answer counts as wrong too. InternVideo2 and Phi-4 write sentences; there,
# reading option texts pays.

# %%
rules = list(RULES) + ['none']
fired = {file: Counter(extract_answer(row['response'], row['choices']).rule for row in rows)
         for file, rows in outputs.items()}
colours = dict(zip(rules,
                   ('#2b6cb0', '#63b3ed', '#38a169', '#9ae6b4', '#d69e2e', '#805ad5', '#b794f4', '#dd6b20',
                           '#1a202c')))
fig, axis = plt.subplots(figsize=(8, .8 + .32 * len(fired)))
start = np.zeros(len(fired))
for rule in rules:
    share = np.array([100 * fired[file][rule] / len(rows) for file, rows in outputs.items()])
    axis.barh(places, share, left=start, color=colours[rule], label=rule, height=.7)
    start += share
axis.set(yticks=places, yticklabels=list(fired), xlabel='answers, %', xlim=(0, 100),
         title='Which rule found the answer')
axis.legend(frameon=False, loc='center left', bbox_to_anchor=(1, .5)); fig.tight_layout()

# %% [markdown]
# Every model has its own handwriting. A single clever regular expression would fit one bar of this picture.
#
# What is each rule worth? We switch them on one after the other and watch the agreement over the
# chain-of-thought answers.

# %%
thinking = [row for file, rows in outputs.items() if 'direct' not in file for row in rows]
partial = np.zeros(len(RULES) + 1)
for row in thinking:
    order = ['', *(read(row['response'], row['choices']) for read in RULES.values())]
    for count in range(len(order)):
        letter = next((letter for letter in order[:count + 1] if letter), '')
        partial[count] += is_right(letter, row['choices'], row['ground_truth_answer']) == row['correct']
partial /= len(thinking)
fig, axis = plt.subplots(figsize=(7, 2.9))
axis.step(range(len(partial)), 100 * partial, where='mid', color=BLUE)
axis.plot(100 * partial, 'o', color=BLUE)
axis.set(xticks=range(len(partial)), xticklabels=['nothing', *(f'+ {rule}' for rule in RULES)],
         ylabel='agreement, %', ylim=(None, 101), title='Each rule adds rows the one before could not read')
axis.tick_params(axis='x', rotation=20); fig.tight_layout()

# %%
direct = [row for file, rows in outputs.items() if 'direct' in file for row in rows]
ours = readers['this notebook']
print(f'chain of thought {agreement(thinking, ours):.4f}')
developed_on = ('Qwen2.5', 'VideoLLaMA3', 'InternVideo2-', 'pixtral')
for told, known in (('developed on', True), ('only checked on', False)):
    rows = [row for file, rows in outputs.items() for row in rows
            if any(name in file for name in developed_on) == known]
    if rows: print(f'{told} {len(rows)} rows: {agreement(rows, ours):.4f}')
if direct: print(f'direct {agreement(direct, ours):.4f}')
assert agreement(thinking, ours) >= .97 and (not direct or agreement(direct, ours) >= .999)
assert np.all(np.array(list(agreed.values()))[:, 2] >= np.array(list(agreed.values()))[:, 1] - .005)

# %% [markdown]
# ## What we proved
#
# - Forty-two spellings, from a bare letter to a contradiction, are read as the table says.
# - An answer that names two letters, or says that it cannot tell, is no answer.
# - Megabytes of hostile text are read in bounded time, because only the tail is read and no expression
#   backtracks.
# - Two letters with one text are both right; numbers and zero are options like others.
# - On recorded answers the extraction agrees with the judge on at least 99.9 % of direct and 97 % of
#   reasoning rows.
#
# ## Try it
#
# 1. Merge "anticlockwise" and "counter-clockwise" in `normalise_text`. Which recorded verdicts move, and to
#    which side?
# 2. Let `mentioned` accept two options and take the last one. Does the agreement rise or fall?
# 3. Add a rule for "neither" and decide whether it should count as an answer.
#
# <details><summary>Solutions</summary>
#
# 1. Merge them in the table of synonyms and run the comparison with the judge again: print the moved rows and read
#    them.
# 2. Answers that weigh one option and choose another gain, answers that end with a denial lose. Only the agreement
#    with the judge over all files decides; print it.
# 3. 'Neither' is an answer when no option says so: count it as wrong, not as unreadable, and keep the two counts
#    apart.
#
# </details>
