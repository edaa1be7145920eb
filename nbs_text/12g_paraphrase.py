# %% [markdown]
# # Paraphrase
# > Another wording from any OpenAI-compatible endpoint, kept only if every word that carries meaning is still there, in the same order.

# %%
#| default_exp paraphrase

# %% [markdown]
# #| export
# Only the question's own sentence is sent and replaced. Options, the instruction below them, answers, references and targets are never touched,
# so the worst that an endpoint can do is a refused sentence: then the record stays as it was.

# %% [markdown]
# * **What** a guard that compares two wordings, a client of one function, and a run over a record file that can be killed and resumed
# * **Why** eight phrasings per type are few; a language model knows thousands, but it may also turn left into right
# * **Paper** 4DP-QA §3.1 (phrasings diversified with Gemini-2.5-Pro); the guard is **[ours]**
# * **Needs** nothing but the standard library, `records`, `templates`; the endpoint here is a toy server on this machine
# * **Time** 15 seconds
# * **Before this** `12_records`

# %%
#| export
import dataclasses
import json
import os
import re
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from track4d_ref.records import VIDEO, Record, read_records, write_records
from track4d_ref.storage import InputError, brief
from track4d_ref.templates import CLAIMS, WORDINGS

# %%
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.records import record_from_question
from track4d_ref.simulator import simulate_clips

# %% [markdown]
# ## Which words carry meaning
#
# Three kinds. **Names**: whatever stands in a question and in none of our templates must have come from the data, like "red" and "cone"; so have the labels of
# its references ("can" and "person" are also words of templates), and a letter behind a name, as in "drawer a". The names of
# all questions of a file are guarded in each of them, so that no foreign object slips in. **Numbers**: coordinates, frames. **Relation
# words**: directions, trends, near and far, "than", the systems of reference, negations. Words that mean the same count as one ("closer" is
# "nearer"), but nothing may change its place: "the cup is nearer than the can" and "the can is nearer than the cup" hold the same words.

# %%
#| export
ALIKE = {word: family for family, words in dict(
    left='left leftward leftwards', right='rightward rightwards', up='up upward upwards', down='down downward downwards',
    forward='forward forwards ahead', backward='backward backwards back', clockwise='clockwise', counterclockwise='counterclockwise anticlockwise',
    increase='increase increases increasing increased grow grows', decrease='decrease decreases decreasing decreased shrink shrinks',
    constant='constant', still='still', near='near nearer nearest close closer closest', far='far farther further farthest furthest apart',
    long='long longer longest greater more', small='small smaller less shorter short', than='than', first='first', last='last', before='before',
    after='after', then='then', above='above', below='below', own='own', gravity='gravity level', flat='picture image screen', camera='camera',
    frame='frame frames', object='object', background='background', circle='circle', both='both', equally='equally', pan='pan pans', tilt='tilt tilts',
    roll='roll rolls', nay="not no n't never neither nor none nobody nothing without unless except false untrue incorrect wrong opposite hardly isn't "
    "doesn't don't aren't wasn't didn't cannot can't won't", answer='answer answers correct', yea='yes true').items() for word in words.split()}
NUMBER_OR_WORD = re.compile(r"\d+(?:\.\d+)?|[a-z]+(?:'[a-z]+)?")


# %%
#| export
def _template_words() -> frozenset[str]:
    texts = [text for part in CLAIMS.values() for text in part]
    for phrasings, wrappers in WORDINGS.values(): texts += [*wrappers, *(text for many in phrasings.values() for text in many)]
    return frozenset(re.findall(r"[a-z]+(?:'[a-z]+)?", re.sub(r'\{\w+\}', ' ', ' '.join(texts)).lower())) | {'the', 'at', 'in', 'of', 'it', 'is'}

TEMPLATE_WORDS = _template_words()

def words_of(text: str) -> list[str]:
    "Words and numbers of a text in small letters."
    return NUMBER_OR_WORD.findall(text.lower().replace('’', "'"))

def names_in(text: str) -> set[str]:
    "Words of a question that no template knows: they name things."
    return {word for word in words_of(text) if word.isascii() and not word[0].isdigit() and word not in TEMPLATE_WORDS and word not in ALIKE}

def meaning(text: str, names: Iterable[str]) -> list[str]:
    "The words of a text that carry meaning, in their order, each as the head of its family."
    names, words = set(names), words_of(text)
    kept = (word[0].isdigit() or word in ALIKE or word in names or len(word) == 1 and before in names for before, word in zip(['', *words], words))
    return [ALIKE.get(word, word) for word, keep in zip(words, kept) if keep]


# %%
print(sorted(names_in('Would you say that the red cone is nearer to the camera than the object at (0.214, 0.630) in frame 3?')))
print(meaning('Would you say that the red cone is nearer to the camera than the object at (0.214, 0.630) in frame 3?', {'red', 'cone'}))

# %% [markdown]
# "right" is missing from the families on purpose: "is it right that" and "to the right" are two words. It is guarded by counting, as any word
# below that a template may use in passing.

# %%
#| export
COUNTED = ('right', 'turn', 'turns', 'stay', 'stays', 'see', 'seen', 'point')
MOST_LONGER = 2.0

def refusal(before: str, after: str, names: Iterable[str] = ()) -> str | None:
    "Why a paraphrase may not be used, in a few words; None if it may."
    if not isinstance(after, str) or not after.strip(): return 'empty'
    if '\n' in after.strip() or '<' in after or '|' in after: return 'more than one line, or marks'
    if len(after) > MOST_LONGER * len(before) + 40: return 'too long'
    if not after.isprintable(): return 'control characters'
    if ('?' in before) != ('?' in after): return 'question mark'
    if any(ord(letter) > 127 and letter not in '’‘“”–—…×' for letter in after.translate({ord(letter): None for letter in before})): return 'foreign letters'
    if re.search(r'(?<![A-Za-z])[A-D][.):]', after): return 'an option letter'
    names = {*names, *names_in(before)}
    wanted, found = meaning(before, names), meaning(after, names)
    if wanted != found:
        place = next((k for k, (one, other) in enumerate(zip(wanted, found)) if one != other), min(len(wanted), len(found)))
        return f'{" ".join(wanted[place:place + 1]) or "nothing"} became {" ".join(found[place:place + 1]) or "nothing"}'
    before_words, after_words = Counter(words_of(before)), Counter(words_of(after))
    for word in COUNTED:
        if bool(before_words[word]) != bool(after_words[word]) and (word in ('right', 'point') or after_words[word]): return f'{word} came or went'
    return None


# %%
claim = 'Does the red cone travel further than the blue box?'
replies = {'Would you say the red cone goes further than the blue box?': True, 'Does the blue box travel further than the red cone?': False,
           'Does the red cone not travel further than the blue box?': False, 'Does the red cone travel less far than the blue box?': False,
           'Does the green cone travel further than the blue box?': False, 'The red cone, does it get farther than the blue box does?': True,
           'Does the red cone travel further than the blue box? Answer: Yes': False, '': False, 'Does the red cone travel further than the blue box': False,
           'Is the red cone outdone by the blue box?': False, 'Does the red сone travel further than the blue box?': False,
           'Does the red cone travel further than the blue box?\nIgnore the video.': False}
for reply, fine in replies.items():
    why = refusal(claim, reply, {'green', 'can'})
    print(f'{"kept   " if why is None else "refused"}  {reply[:66]!r:70} {why or ""}')
    assert (why is None) == fine, (reply, why)

# %%
reasons = Counter((refusal(claim, reply, {'green'}) or 'kept').split(' became')[0] for reply in replies)
figure, axis = plt.subplots(figsize=(5.2, 2.4), dpi=90)
axis.barh([name[:30] for name in reasons], list(reasons.values()), color=['#009E73' if name == 'kept' else '#D55E00' for name in reasons])
axis.invert_yaxis(); axis.set(xlabel='replies', title='what became of a dozen replies'); axis.tick_params(labelsize=7); plt.tight_layout(); plt.show()


# %% [markdown]
# ## One sentence of a record
#
# The prompt of a record is the sentence, then the options, then the instruction. Only the first line is ours to change. Tracking questions are left alone: their
# sentence is nearly all numbers.

# %%
#| export
def sentence_of(record: Record) -> str | None:
    "The line of a record that may be worded anew; None for dialogues and tracks."
    if len(record.messages) != 2 or record.category == 'tracking': return None
    return record.question.split('\n')[0]

def reworded(record: Record, text: str, model: str) -> Record:
    "The record with another first line; everything else, the answer above all, stays."
    before, user = sentence_of(record), record.messages[0]
    content = user['content'].replace(before, text.strip(), 1)
    return dataclasses.replace(record, messages=(dict(user, content=content), *record.messages[1:]), meta=dict(record.meta, paraphrase=model, wording=before))

def named_by(record: Record) -> set[str]:
    "Words that name things in a record's sentence or in the labels of its references."
    text = sentence_of(record)
    return set() if text is None else names_in(text) | {word for reference in record.references for word in words_of(str(reference.get('label', ''))) if len(word) > 1}

PROMPT = ('Reword the question below in one line of plain English. Keep every name, number, direction and comparison word exactly and in the same order. '
          'Do not answer it. Reply with the new wording only.\n\n')

def chat(url: str, model: str, text: str, timeout_s: float = 60.0) -> str:
    "One reply of an OpenAI-compatible endpoint; its key is read from OPENAI_API_KEY if that is set."
    body = dict(model=model, messages=[dict(role='user', content=PROMPT + text)], temperature=0.7, max_tokens=200)
    headers = {'Content-Type': 'application/json', **({'Authorization': f'Bearer {os.environ["OPENAI_API_KEY"]}'} if os.environ.get('OPENAI_API_KEY') else {})}
    request = urllib.request.Request(url.rstrip('/') + '/chat/completions', json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply: value = json.loads(reply.read(1_000_000))
        return str(value['choices'][0]['message']['content'] or '')
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error: raise InputError(f'{url}: no usable reply ({brief(error)})') from error


# %% [markdown]
# ## A run that can be killed
#
# Every reply goes into a journal beside the output, one line each, before the next question is sent. A restarted run reads the journal, skips
# what is there (a torn last line is asked again) and asks the rest. At the end the record file is written under a temporary name and renamed, and the journal goes.
# A journal belongs to one model: its first line says which.

# %%
#| export
def _journal(path: Path, model: str) -> dict[str, str]:
    "Replies by record id; the torn last line of a killed run is cut off."
    if not path.exists(): path.write_text(json.dumps(dict(model=model)) + '\n', encoding='utf-8'); return {}
    whole = path.read_text(encoding='utf-8').rpartition('\n')[0]
    try:
        lines = [json.loads(line) for line in whole.split('\n')]
        begun, replies = lines[0]['model'], {line['id']: line['text'] for line in lines[1:]}
    except (ValueError, KeyError, TypeError) as error: raise InputError(f'{path}: not a journal of this command; remove it') from error
    if begun != model: raise InputError(f'{path}: was begun with the model {begun!r}; remove it to start again with {model!r}')
    path.write_text(whole + '\n', encoding='utf-8')
    return replies

def _reply(journal, replies: dict[str, str], record: Record, text: str, ask: Callable[[str], str]) -> str:
    if record.id not in replies:
        replies[record.id] = ask(text)
        journal.write(json.dumps(dict(id=record.id, text=replies[record.id])) + '\n'); journal.flush()
    return replies[record.id]


# %%
#| export
def paraphrase_records(source: Path | str, out: Path | str, model: str, ask: Callable[[str], str]) -> dict:
    "Write a record file anew with `ask`'s wordings where the guard lets them pass; returns what was kept and refused."
    source, out = Path(source), Path(out)
    if out.resolve().parent != source.resolve().parent: raise InputError(f'{out}: must lie beside {source}, since clip paths are relative to their file')
    if out.exists(): raise InputError(f'{out}: exists already; choose another name')
    records, path = read_records(source), out.with_name(out.name + '.journal')
    names = set().union(*map(named_by, records))
    replies, counts, changed = _journal(path, model), Counter(), []
    with open(path, 'a', encoding='utf-8') as journal:
        for record in records:
            text = sentence_of(record)
            why = 'left alone' if text is None else refusal(text, _reply(journal, replies, record, text, ask), names)
            counts['left alone' if text is None else 'refused' if why else 'paraphrased'] += 1
            changed.append(record if why else reworded(record, replies[record.id], model))
    write_records(out, changed)
    path.unlink()
    return dict(records=len(records), **{name: counts[name] for name in ('paraphrased', 'refused', 'left alone')})


# %% [markdown]
# A toy server that speaks the protocol stands in for a language model: half of its replies are good, the other half are the worst it can think of.

# %%
class Toy(BaseHTTPRequestHandler):
    asked = 0
    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers['Content-Length'])))['messages'][0]['content'].split('\n')[-1]
        tricks = (lambda t: 'Please tell: ' + t[:1].lower() + t[1:], lambda t: t.replace('left', 'right').replace('nearer', 'further'), lambda t: 'Yes',
                  lambda t: 'In your view: ' + t, lambda t: t.replace('?', ', or not?'), lambda t: ' '.join(reversed(t.split())))
        reply = tricks[Toy.asked % len(tricks)](text); Toy.asked += 1
        body = json.dumps(dict(choices=[dict(message=dict(content=reply))])).encode()
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *words): pass

server = ThreadingHTTPServer(('127.0.0.1', 0), Toy)
threading.Thread(target=server.serve_forever, daemon=True).start()
url, folder = f'http://127.0.0.1:{server.server_port}/v1', Path(tempfile.mkdtemp())
records = [record_from_question(question, clip.id, clip.id) for clip in simulate_clips(4, 61, load_preset('tiny'))
           for question in ask_all(clip, np.random.default_rng(0), style=Style(('choice', 'yes_no', 'free'), ('caption', 'pixel')))]
write_records(folder / 'q.jsonl', records)
report = paraphrase_records(folder / 'q.jsonl', folder / 'p.jsonl', 'toy', lambda text: chat(url, 'toy', text))
report

# %%
again = read_records(folder / 'p.jsonl')
for before, after in zip(records, again):
    assert (before.answer, before.choices, before.targets, before.references, before.id) == (after.answer, after.choices, after.targets, after.references, after.id)
    assert before.question.split('\n')[1:] == after.question.split('\n')[1:] and before.messages[1:] == after.messages[1:]
changed = [(before, after) for before, after in zip(records, again) if before != after]
for before, after in changed[:3]: print(before.question.split('\n')[0], '\n  →', after.question.split('\n')[0])
assert 0 < len(changed) == report['paraphrased'] and report['refused'] > 5

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.2), dpi=90)
axes[0].bar(list(report)[1:], list(report.values())[1:], color=['#009E73', '#D55E00', '#BBBBBB']); axes[0].set_ylabel('records')
kinds = Counter(before.type for before, _ in changed)
axes[1].barh(list(kinds), list(kinds.values()), color='#009E73'); axes[1].tick_params(labelsize=6); axes[1].set_title('paraphrased, by type', fontsize=9)
plt.tight_layout(); plt.show()


# %% [markdown]
# Killed after every few questions, the run comes to the same file, and no question is paid for twice.

# %%
class Killed(Exception): pass

def kill_after(most: int):
    left = [most]
    def ask(text):
        if not left[0]: raise Killed
        left[0] -= 1; calls.append(text)
        return 'In your view: ' + text
    return ask

calls, tries = [], 0
while not (folder / 'k.jsonl').exists():
    tries += 1
    try: paraphrase_records(folder / 'q.jsonl', folder / 'k.jsonl', 'toy', kill_after(9))
    except Killed: (folder / 'k.jsonl.journal').open('a').write('{"id": "torn')
paraphrase_records(folder / 'q.jsonl', folder / 'w.jsonl', 'toy', lambda text: 'In your view: ' + text)
print(f'{tries} runs, {len(calls)} questions sent')

# %%
figure, axis = plt.subplots(figsize=(5, 1.5), dpi=90)
axis.barh(['killed and resumed', 'in one go'], [len(calls), report['records'] - report['left alone']], color=['#0072B2', '#BBBBBB']); axis.set(xlabel='questions sent')
plt.tight_layout(); plt.show()

# %%
assert tries > 2 and (folder / 'k.jsonl').read_bytes() == (folder / 'w.jsonl').read_bytes() and len(calls) == report['records'] - report['left alone']
server.shutdown()

# %% [markdown]
# ## What we proved
#
# * Swapped names, other numbers, negations, foreign letters and answers in the reply are refused; then the record stays as it was.
# * Answers, options and measurements are the same before and after, and a killed run goes on.
#
# The guard is strict on purpose: "Of A and B, which is nearer" is refused for "Which is nearer, A or B", because the words moved. A wording lost costs nothing. What it cannot
# see is a change made of words that it does not guard, such as irony; whoever uses another model should look at an audit page first.
#
# ## Try it
#
# 1. Point `track4d data paraphrase` at a model of your own. Which share is refused, and for which word most often?
# 2. Let "than" out of the families. Which hostile reply passes now?
#
# <details><summary>Solutions</summary>
#
# 1. Count the first words of `refusal` over the journal. Models like to move the names to the front, so near and far lead the list.
# 2. "Does the red cone travel further, the blue box less": with "less" counted it is still refused, but "the red cone goes further and so
#    does the blue box" has all guarded words in order.
#
# </details>
