# %% [markdown]
# # Evaluation
# > Ask a model every question of a benchmark, keep what it said, and score it.

# %%
#| default_exp evaluation

# %% [markdown]
# * **What** from a model and a benchmark to stored answers and a table
# * **Why** answers are kept apart from scores, so that a scorer can change without running the model again
# * **Paper** 4DP-QA §4.2: options or Yes/No, exact match; the stored form is **[ours]**
# * **Needs** torch
# * **Time** 30 seconds
# * **Before this** `20_packing`, `22a_examples`, `25_scoring`

# %%
#| export
import json
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from track4d_ref.examples import blinded, grouped, make_example, record_files
from track4d_ref.packing import ClipExample, answer_logits, ask_packed, collate, pack, packed_hidden, pick
from track4d_ref.presets import Preset
from track4d_ref.records import VIDEO, Record, open_clip, read_records
from track4d_ref.extraction import score_extracted
from track4d_ref.scoring import AccuracyTable, accuracy_table, percent, rescore, score_rows, score_vsi
from track4d_ref.storage import InputError, atomic_path
from track4d_ref.templates import LETTERS, prompt_text
from track4d_ref.tokens import IGNORE
from track4d_ref.vlm import bare_model

# %%
import dataclasses

import matplotlib.pyplot as plt

from track4d_ref.examples import examples_from_questions
from track4d_ref.presets import load_preset
from track4d_ref.questions import ask_all
from track4d_ref.simulator import simulate_clips
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm
from track4d_ref.viz import PALETTE, use_style
use_style()


# %% [markdown]
# ## What a model may say
#
# A multiple-choice question is answered by a letter, a binary one by Yes or No. The answer counted is the allowed one the
# model finds most likely, read off the logits of a single forward pass over all questions of a clip. Free text and tracks
# have no list of allowed answers; they are decoded greedily. **[ours]**: the papers decode greedily throughout and lose
# answers that cannot be parsed; a model that was never trained would score zero instead of chance.

# %%
#| export
def allowed_answers(record: Record) -> tuple[str, ...]:
    "Letters, Yes and No, or nothing where any text may come."
    if record.choices: return tuple(LETTERS[:len(record.choices)])
    return ('Yes', 'No') if record.answer in ('Yes', 'No') else ()

def answer_row(record: Record, answer: str) -> dict:
    "What is stored of an answered question: enough to score it again without the model."
    return {'id': record.id, 'clip': record.clip, 'type': record.type, 'category': record.category,
            'choices': list(record.choices),
            'truth': record.answer, 'answer': answer}


# %%
preset = load_preset('tiny')
clips = list(simulate_clips(6, 11, preset))
questions = [ask_all(clip, np.random.default_rng(5), ('camera_movement', 'depth', 'visual_tracking'), 3)
             for clip in clips]
pairs = [(example, group) for clip, asked in zip(clips, questions)
         for example, group in zip(*examples_from_questions(clip, asked, preset))]
kinds = [allowed_answers(record) for _, group in pairs for record in group]

# %%
figure, axis = plt.subplots(figsize=(7.5, 1.9))
names = ['one of four letters', 'one of two or three', 'Yes or No', 'any text']
counts = [sum(len(k) == 4 for k in kinds), sum(len(k) in (2, 3) and k[0] == 'A' for k in kinds),
          sum(k == ('Yes', 'No') for k in kinds), kinds.count(())]
axis.barh(names, counts, color=PALETTE[0]); axis.invert_yaxis()
axis.set(xlabel='questions in this notebook', title='what may be answered'); plt.show()

# %%
assert sum(counts) == len(kinds) and all(record.answer in allowed_answers(record)
    or not allowed_answers(record) for _, group in pairs for record in group)


# %% [markdown]
# ## Asking
#
# All questions of a clip go through the model together, several clips at a time. Batching changes nothing: the packed mask
# keeps questions apart, as `20_packing` proved, and a test asks one by one and compares.

# %%
#| export
def without_answers(example: ClipExample) -> ClipExample:
    "The same example with each dialogue ending at the user's question."
    asked = (turns[:-1] if turns[-1]['role'] == 'assistant' else turns for turns in example.dialogues)
    return ClipExample(example.name, example.videos, tuple(asked))

def _subset(example: ClipExample, chosen: list[int]) -> ClipExample:
    return ClipExample(example.name, example.videos, tuple(example.dialogues[i] for i in chosen))

def answers_of(model, tokenizer, example: ClipExample, records: list[Record],
               most_words: int = 96) -> list[str]:
    "The model's answers to all questions of one example."
    example, answers = without_answers(example), [''] * len(records)
    closed = [i for i, record in enumerate(records) if allowed_answers(record)]
    open_ended = [i for i in range(len(records)) if i not in closed]
    if closed:
        logits = answer_logits(model, tokenizer, [_subset(example, closed)])[0]
        for i, row in zip(closed, logits): answers[i] = pick(row, tokenizer, allowed_answers(records[i]))
    if open_ended:
        texts = ask_packed(model, tokenizer, _subset(example, open_ended), most_words)
        for i, text in zip(open_ended, texts): answers[i] = text.strip()
    return answers


# %% [markdown]
# ## Answers aloud
#
# A model that was taught to say its answer in words before the letter, "moves left, so B" (`26a_clip_sets`), is decoded greedily. Words
# that are one of the options decide, as a reader would let them; else what comes after the last "so" is the answer, and where that is
# none of the allowed ones, the question counts as answered wrongly. The words can also be read alone: whoever says "moves right, so Yes"
# when asked whether the camera moves left *knows* the answer and draws the wrong conclusion. That second reading separates knowing from
# concluding; it needs to know what was claimed, and is never the main number. **[ours]**

# %%
#| export
MOST_WORDS = 40                  # tokens of an answer aloud; the longest option has 20. Open answers may have 96

def heard(text: str, record: Record) -> str:
    """The letter of the option that an answer aloud names, or the letter, Yes or No at its end; '' where none that is allowed was said.

    An answer to an open question is what was said."""
    if not allowed_answers(record): return text.strip()
    words, _, last = text.strip().rpartition(', so ')
    if words in record.choices: return LETTERS[record.choices.index(words)]
    return last if last in allowed_answers(record) else ''

def heard_in_words(text: str, record: Record) -> str:
    """What the words of an answer aloud alone say: the option they are, '' if none; of a claim Yes where they are what it claims.

    Needs the claim of a Yes/No question in the record's `meta`, as our generator stores it."""
    words, label = text.strip().rpartition(', so ')[0], record.meta['label']
    if record.choices: return LETTERS[record.choices.index(words)] if words in record.choices else ''
    claim = record.meta['claim']
    if claim == record.meta['truth']: claimed = words == label
    else: claimed = words != label and words in record.question if claim.startswith('{') else words == claim     # {a}: an object by its place
    return 'Yes' if claimed else 'No'

def answers_aloud(model, tokenizer, example: ClipExample, records: list[Record]) -> list[str]:
    "The model's answers to all questions of one example; those of closed ones are said in words first."
    texts = ask_packed(model, tokenizer, without_answers(example), MOST_WORDS if all(map(allowed_answers, records)) else 96)
    return [heard(text, record) for text, record in zip(texts, records)]


# %%
record = next(record for _, group in pairs for record in group if len(record.choices) == 4)
said = {'moves, so B': 'B', 'B': 'B', f'{record.choices[2]}, so A': 'C', 'moves, so E': '', 'moves left': ''}
for text, letter in said.items(): print(f'{text!r:30s} -> {heard(text, record)!r}')
assert all(heard(text, record) == letter for text, letter in said.items())

# %%
claim = next(r for _, group in pairs for r in group if r.answer in ('Yes', 'No') and r.type == 'camera_movement')
other = 'moves up' if claim.meta['claim'] != 'moves up' else 'moves down'
for words in (claim.meta['claim'], other): print(f"{words!r} about the claim {claim.meta['claim']!r}: {heard_in_words(f'{words}, so No', claim)}")
assert heard_in_words(f"{claim.meta['claim']}, so No", claim) == 'Yes' and heard_in_words(f'{other}, so Yes', claim) == 'No'
assert heard_in_words(f"{claim.meta['label']}, so ?", claim) == claim.answer


# %%
#| export
def answer_all(model, tokenizer, pairs: list[tuple[ClipExample, list[Record]]], blind: bool = False,
               progress: bool = True,
               answer=answers_of) -> list[dict]:
    "Rows of answers to every question; `blind` hides the videos; `answer` is this, `answers_aloud` or `likeliest_answers`."
    rows = []
    for example, records in tqdm(pairs, 'answering', unit='clip', disable=not progress):
        said = answer(model, tokenizer, blinded(example) if blind else example, records)
        rows += [answer_row(record, answer) for record, answer in zip(records, said)]
    return rows

def scored_table(rows: list[dict]) -> AccuracyTable:
    "The accuracy table of the closed questions among the rows."
    closed = [row for row in rows if row['choices'] or row['truth'] in ('Yes', 'No')]
    if not closed: raise InputError('there is no multiple-choice or Yes/No answer to score')
    return accuracy_table(score_rows(closed))


# %%
tokenizer = train_tokenizer([record.question + record.answer for _, group in pairs for record in group], 600)
model = build_vlm(dataclasses.replace(preset, text_layers=2, text_width=96, text_heads=3, text_kv_heads=1,
                                      vision_layers=1), tokenizer, 0)
closed = [(dataclasses.replace(example,
    dialogues=tuple(d for d, r in zip(example.dialogues, group) if allowed_answers(r))),
           [r for r in group if allowed_answers(r)]) for example, group in pairs]
rows = answer_all(model, tokenizer, closed, progress=False)
scored_table(rows)

# %%
figure, axis = plt.subplots(figsize=(7.5, 2))
for place, letter in enumerate('ABCD'):
    axis.bar(place - 0.2, sum(row['answer'] == letter for row in rows), 0.4, color=PALETTE[1],
             label='the untrained model says' if not place else None)
    axis.bar(place + 0.2, sum(row['truth'] == letter for row in rows), 0.4, color=PALETTE[0],
             label='the truth is' if not place else None)
axis.set_xticks(range(4), 'ABCD'); axis.legend(frameon=False)
axis.set(ylabel='questions', title='random weights have favourites'); plt.show()

# %%
alone = [answers_of(model, tokenizer, _subset(example, [i]), [record])[0] for example, group in closed
         for i, record in enumerate(group)]
assert alone == [row['answer'] for row in rows]                   # asking one by one changes nothing
assert {row['answer'] for row in rows} <= set('ABCD') | {'Yes', 'No'}


# %% [markdown]
# ## Options by likelihood
#
# Writing a letter takes two skills: seeing the answer, and binding it to a letter. A model with minutes of training has only
# the first. The usual cure for small language models is to ask the question without its options and to take the option
# whose *text* the model finds most likely. All options of all questions of a clip are segments of one packed row.

# %%
#| export
def free_prompt(record: Record) -> str:
    "The record's question without its lettered options, asking for a free answer."
    return f'{VIDEO}\n' + prompt_text(record.question.split('\nA. ')[0], (), 'free')

@torch.no_grad()
def text_logprobs(model, tokenizer, example: ClipExample) -> np.ndarray:
    "Log-probability (dialogues,) of each dialogue's last answer as a whole, all in one packed row."
    row = pack(model, tokenizer, example)
    batch = collate(model, [row], [example])
    hidden, labels = packed_hidden(model, batch)[0, :-1], batch.labels[0, 1:]
    where = labels != IGNORE
    logprobs = bare_model(model).lm_head(hidden[where]).float().log_softmax(-1)
    logprobs = logprobs.gather(-1, labels[where][:, None])[:, 0]
    return np.bincount(batch.segments[0, 1:][where].numpy(), logprobs.numpy(), len(example.dialogues) + 1)[1:]

def likeliest_answers(model, tokenizer, example: ClipExample, records: list[Record]) -> list[str]:
    "The letter of the most likely option text of each multiple-choice record of one video."
    turns = [({'role': 'user', 'content': free_prompt(record)}, {'role': 'assistant', 'content': choice})
             for record in records for choice in record.choices]
    scores = text_logprobs(model, tokenizer, ClipExample(example.name, example.videos, tuple(turns)))
    ends = np.cumsum([len(record.choices) for record in records])
    return [LETTERS[int(part.argmax())] for part in np.split(scores, ends[:-1])]


# %%
example, group = next((example, [r for r in group if len(r.choices) == 4]) for example, group in pairs
                      if any(len(r.choices) == 4 for r in group))
said = likeliest_answers(model, tokenizer, example, group)
turns = lambda choice: ({'role': 'user', 'content': free_prompt(group[0])},
                        {'role': 'assistant', 'content': choice})
one_by_one = [text_logprobs(model, tokenizer, ClipExample('x', example.videos, (turns(choice),)))[0]
              for choice in group[0].choices]
together = text_logprobs(model, tokenizer,
                         ClipExample('x', example.videos, tuple(map(turns, group[0].choices))))

# %%
figure, axis = plt.subplots(figsize=(7.5, 1.9)); axis.barh(group[0].choices, together, color=PALETTE[0])
axis.invert_yaxis(); axis.set(xlabel='log-probability of the whole text',
                              title=group[0].question.split('\n')[0]); axis.title.set_fontsize(8); plt.show()

# %%
assert np.allclose(one_by_one, together, atol=1e-4) and said[0] == 'ABCD'[int(np.argmax(one_by_one))]
assert '\nA. ' not in free_prompt(group[0]) and free_prompt(group[0]).count(VIDEO) == 1


# %% [markdown]
# ## Stored answers
#
# Answers are appended clip by clip, so a killed run goes on where it stopped: rows already in the file are kept, and a
# half-written last line is dropped. Scoring again reads only this file. If the scorer has changed in the meantime, the rows
# whose verdict moved are listed.

# %%
#| export
def read_answers(path: Path | str, must_exist: bool = True) -> list[dict]:
    "Stored rows; a half-written last line is dropped, anything else that is broken raises InputError."
    path = Path(path)
    if not path.is_file():
        if must_exist: raise InputError(f'{path}: no such file of answers; make one with track4d evaluate')
        return []
    lines, rows = path.read_text(encoding='utf-8', errors='replace').split('\n'), []
    for number, line in enumerate(lines, 1):
        try: row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            if number == len(lines): break
            raise InputError(f'{path} line {number}: not valid JSON; run track4d evaluate again') from None
        if row is None: continue
        if not isinstance(row, dict) or not {'id', 'type', 'truth', 'answer', 'choices'} <= set(row):
            raise InputError(f"{path} line {number}: needs the fields id, type, truth, answer and choices; "
                             "run track4d evaluate again")
        rows.append(row)
    return rows

def write_answers(path: Path | str, rows: list[dict]) -> None:
    "Write rows as JSONL, atomically."
    with atomic_path(path) as partial:
        partial.write_text(''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows),
                           encoding='utf-8')


# %%
#| export
def answer_records(model, tokenizer, bench: Path | str, out: Path | str, preset: Preset,
                   blind: bool = False, answer=answers_of) -> list[dict]:
    "Answer the questions of a benchmark that `out` does not hold yet; all rows, scored, are stored there."
    rows = read_answers(out, must_exist=False)
    done = {row['id'] for row in rows}
    for file in record_files(bench):
        todo = grouped(record for record in read_records(file) if record.id not in done)
        for number, records in enumerate(tqdm(todo, 'answering', unit='clip')):
            example = make_example(records, open_clip(records[0], file), preset, blind=blind)
            rows += score_rows(answer_all(model, tokenizer, [(example, records)], progress=False, answer=answer))
            if number % 20 == 19: write_answers(out, rows)
    write_answers(out, rows)
    return rows


# %% [markdown]
# When the rule changes, which stored numbers move? Every line of the table is printed twice, as it was stored and as it is under the
# chosen scorer, with the count of verdicts that went up and down. Two scorers are known by name: the papers' exact match and the reading
# by extraction.

# %%
#| export
SCORERS = {'exact': score_vsi, 'extracted': score_extracted}

def moved_cells(stored: list[dict], fresh: list[dict]) -> list[tuple[str, ...]]:
    "Every line of the accuracy table as stored and as scored now, with the verdicts that moved."
    was = {row['id']: bool(row['correct']) for row in stored}
    now = {row['id']: row['correct'] for row in fresh}
    up, down = ([dict(row, correct=what(row['id'])) for row in fresh] for what in
                (lambda id: now[id] and not was[id], lambda id: was[id] and not now[id]))
    tables = [accuracy_table(rows).lines for rows in (stored, fresh, up, down)]
    body = [(a.name, str(a.total), percent(a.accuracy), percent(b.accuracy), str(u.correct), str(d.correct))
            for a, b, u, d in zip(*tables)]
    return [('', 'answers', 'stored %', 'now %', 'became right', 'became wrong'), *body]

def rescore_answers(path: Path | str,
                    scorer: str = 'exact') -> tuple[AccuracyTable, list[str], list[tuple[str, ...]]]:
    "Stored answers under a scorer: the table, ids whose verdict moved, each stored number beside the new."
    if scorer not in SCORERS:
        raise InputError(f'scorer {scorer!r} is unknown; choose from {", ".join(SCORERS)}')
    rows = [row for row in read_answers(path) if row['choices'] or row['truth'] in ('Yes', 'No')]
    if not rows: raise InputError(f'{path}: holds no multiple-choice or Yes/No answer to score')
    fresh, moved = rescore(rows, SCORERS[scorer])
    return accuracy_table(fresh), moved, moved_cells(rows, fresh)


# %%
import tempfile
with tempfile.TemporaryDirectory() as folder:
    stored = Path(folder) / 'answers.jsonl'
    write_answers(stored, score_rows(rows))
    with open(stored, 'a') as file:
        file.write('{"id": "half')                  # a crash in the middle of a line
    recovered = read_answers(stored)
    again, moved, _ = rescore_answers(stored)
    lenient = [dict(row, correct=True) for row in recovered]
    write_answers(stored, lenient); _, moved_now, both = rescore_answers(stored)

# %%
figure, axis = plt.subplots(figsize=(7.5, 1.2))
axis.imshow([[row['id'] in moved_now for row in recovered]], aspect='auto', cmap='RdYlBu_r', vmin=-0.3,
            vmax=1.3)
axis.set(yticks=[], xlabel='stored answers; red: the verdict moves from a lenient scorer to ours')
plt.show()

# %%
assert len(recovered) == len(rows) and moved == [] and again.lines == scored_table(rows).lines
assert len(moved_now) == sum(row['answer'] != row['truth'] for row in rows)
assert both[-1][2] == '100.0' and both[-1][3] == f'{100 * again.lines[-1].accuracy:.1f}'
assert int(both[-1][5]) == len(moved_now)

# %% [markdown]
# ## What we proved
#
# * Packed and single questions get the same answers.
# * Answers survive a crash, and a changed scorer shows what it moves.
#
# ## Try it
#
# 1. Count how often greedy decoding of the untrained model gives an answer that can be read at all.
# 2. Hide the video (`blind=True`). Which question types lose nothing, and what does that say about the questions?
#
# <details><summary>Solutions</summary>
#
# 1. Share of answers that `allowed_answers` contains, before training. That is why closed questions are answered by
#    the likeliest option, and free ones are counted as unreadable if they are.
# 2. The types whose answers are unevenly distributed or told by the wording. Read them beside `09b_blind`: a question
#    that a blind model answers teaches nothing about seeing.
#
# </details>
