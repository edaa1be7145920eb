"Paraphrases: what the guard refuses, what a run leaves alone, a hostile endpoint, a killed run."
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from track4d_ref.paraphrase import chat, names_in, paraphrase_records, refusal, sentence_of
from track4d_ref.questions import Style, ask_all
from track4d_ref.records import read_records, record_from_question, write_records
from track4d_ref.storage import InputError
from test_questions import moving_camera, path, scene, thing

NEAR = 'Is it right that the red can is nearer to the camera than the red person in frame 3?'
MOVE = 'Would you say that the object at (0.214, 0.630) in frame 3 moves forward and left, as seen from the first frame?'
PAIR = 'Does the mug travel further than the cabinet drawer a?'


@pytest.mark.parametrize('before, after, fine', [
    (NEAR, NEAR, True),
    (NEAR, 'Is it right to say that the red can is closer to the camera than the red person in frame 3?', True),
    (NEAR, 'Is it right that the red person is nearer to the camera than the red can in frame 3?', False),          # swapped
    (NEAR, 'Is it right that than the red can, nearer to the camera is the red person in frame 3?', False),
    (NEAR, 'Is it right that the red can is farther from the camera than the red person in frame 3?', False),
    (NEAR, 'Is it right that the red can is not nearer to the camera than the red person in frame 3?', False),
    (NEAR, "Isn't it right that the red can is nearer to the camera than the red person in frame 3?", False),
    (NEAR, 'Is it right that the red can is nearer to the camera than the red person in frame 4?', False),
    (NEAR, 'Is it right that the red can is nearer to the camera than the person in frame 3?', False),
    (NEAR, 'Is it wrong that the red can is nearer to the camera than the red person in frame 3?', False),
    (NEAR, NEAR + ' Answer: Yes', False), (NEAR, NEAR + '\nYes', False), (NEAR, '', False), (NEAR, '   ', False), (NEAR, None, False),
    (NEAR, '<video> ' + NEAR, False), (NEAR, NEAR + ' ' + NEAR, False), (NEAR, NEAR.replace('e', 'е'), False), (NEAR, NEAR + '\x07', False),
    (NEAR, 'A. ' + NEAR, False), (NEAR, NEAR + ' Think of the blue cone.', False), (NEAR, NEAR[:-1] + '.', False),
    (MOVE, 'Does the object at (0.214, 0.630) in frame 3 move forward and left, judged from the first frame?', True),
    (MOVE, MOVE.replace('left', 'right'), False), (MOVE, MOVE.replace('forward and left', 'left and forward'), False),
    (MOVE, MOVE.replace('0.214, 0.630', '0.630, 0.214'), False), (MOVE, MOVE.replace('0.214', '0.21'), False),
    (MOVE, MOVE.replace('first frame', 'last frame'), False), (MOVE, MOVE.replace(', as seen from the first frame', ''), False),
    (PAIR, 'Does the mug go further than the cabinet drawer a?', True), (PAIR, PAIR.replace('drawer a', 'drawer b'), False)])
def test_guard(before, after, fine):
    assert (refusal(before, after, {'can', 'person', 'cone', 'blue'}) is None) == fine, refusal(before, after, {'can', 'person', 'cone', 'blue'})


def test_names_are_what_no_template_says():
    assert names_in('Seen from above, which way does the yellow teapot rotate?') == {'yellow', 'teapot'}


@pytest.fixture
def made(tmp_path):
    clip = scene([thing(1, 'box', path((-2, 0, 1), (2, 0, 0)), 90), thing(2, 'can', path((1, 2, 1))), thing(5, 'cup', path((2, -1, 1)))],
                 moving_camera(shift_camera=(0, 0, 1.5)))
    records = [record_from_question(question, 'a', 'a') for question in ask_all(clip, np.random.default_rng(3), style=Style(modes=('caption', 'pixel')))]
    write_records(tmp_path / 'q.jsonl', records)
    return tmp_path, records


class Stub(BaseHTTPRequestHandler):
    replies, seen = [], []
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        Stub.seen.append((self.path, self.headers.get('Authorization'), body))
        reply = Stub.replies[len(Stub.seen) % len(Stub.replies)](body['messages'][0]['content'].split('\n')[-1])
        data = reply if isinstance(reply, bytes) else json.dumps(dict(choices=[dict(message=dict(content=reply))])).encode()
        self.send_response(200); self.send_header('Content-Length', str(len(data))); self.end_headers(); self.wfile.write(data)
    def log_message(self, *words): pass


@pytest.fixture
def server():
    Stub.seen.clear()
    running = ThreadingHTTPServer(('127.0.0.1', 0), Stub)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{running.server_port}/v1'
    running.shutdown()


def test_hostile_endpoint_changes_no_answer(made, server, monkeypatch):
    folder, records = made
    monkeypatch.setenv('OPENAI_API_KEY', 'secret')
    Stub.replies = [lambda t: 'Please tell: ' + t, lambda t: ' '.join(reversed(t.split())), lambda t: t + '\nA. left', lambda t: t.replace('nearer', 'farther'),
                    lambda t: 'x' * 5000, lambda t: 'No', lambda t: None, lambda t: {'a': 1}]
    report = paraphrase_records(folder / 'q.jsonl', folder / 'p.jsonl', 'm', lambda text: chat(server, 'm', text))
    assert sum(report[name] for name in ('paraphrased', 'refused', 'left alone')) == report['records'] == len(records) and report['paraphrased'] and report['refused']
    for before, after in zip(records, read_records(folder / 'p.jsonl')):
        same = ('id', 'answer', 'choices', 'targets', 'references', 'segment', 'type')
        assert all(getattr(before, name) == getattr(after, name) for name in same) and before.messages[1:] == after.messages[1:]
        assert before.question.split('\n')[1:] == after.question.split('\n')[1:] and after.messages[0]['content'].startswith('<video>\n')
        if before.category == 'tracking': assert before == after
    where, key, body = Stub.seen[0]
    assert where == '/v1/chat/completions' and key == 'Bearer secret' and body['model'] == 'm'
    assert not (folder / 'p.jsonl.journal').exists() and 'secret' not in (folder / 'p.jsonl').read_text()


@pytest.mark.parametrize('reply', [b'', b'not json', b'{}', b'{"choices": []}', b'[1]'])
def test_unusable_replies_are_one_sentence(server, reply):
    Stub.replies = [lambda t: reply]
    with pytest.raises(InputError, match='no usable reply'): chat(server, 'm', 'Which?')
    with pytest.raises(InputError, match='no usable reply'): chat('http://127.0.0.1:9/v1', 'm', 'Which?')


def test_killed_runs_pay_no_question_twice(made):
    folder, records = made
    sent = []
    def ask(text):
        if len(sent) % 3 == 2 and sent[-1] is not None: sent.append(None); raise KeyboardInterrupt
        sent.append(text)
        return 'Please tell: ' + text
    while not (folder / 'k.jsonl').exists():
        try: paraphrase_records(folder / 'q.jsonl', folder / 'k.jsonl', 'm', ask)
        except KeyboardInterrupt: (folder / 'k.jsonl.journal').open('a').write('{"id": "x", "te')
    paraphrase_records(folder / 'q.jsonl', folder / 'w.jsonl', 'm', lambda text: 'Please tell: ' + text)
    assert (folder / 'k.jsonl').read_bytes() == (folder / 'w.jsonl').read_bytes()
    assert len([text for text in sent if text]) == sum(sentence_of(record) is not None for record in records)


def test_refusals_of_a_run(made, tmp_path):
    folder, _ = made
    (folder / 'o.jsonl.journal').write_text('{"model": "other"}\n')
    with pytest.raises(InputError, match='other'): paraphrase_records(folder / 'q.jsonl', folder / 'o.jsonl', 'm', str)
    (folder / 'o.jsonl.journal').write_text('no journal\n')
    with pytest.raises(InputError, match='not a journal'): paraphrase_records(folder / 'q.jsonl', folder / 'o.jsonl', 'm', str)
    with pytest.raises(InputError, match='exists already'): paraphrase_records(folder / 'q.jsonl', folder / 'q.jsonl', 'm', str)
    (folder / 'elsewhere').mkdir()
    with pytest.raises(InputError, match='beside'): paraphrase_records(folder / 'q.jsonl', folder / 'elsewhere/p.jsonl', 'm', str)
