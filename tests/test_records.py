"Records: schema, files, ids, and the way back to the frames."
import dataclasses
import json

import numpy as np
import pytest

from track4d_ref.clips import save_clip
from track4d_ref.questions import Question
from track4d_ref.records import Record, check_record, iterate_records, open_clip, read_records, record_from_question, record_video, write_records
from track4d_ref.storage import InputError
from test_questions import path, scene, thing


def question(text='How does the camera move?', answer='B', choices=('pans left', 'pans right'), **changes):
    return dataclasses.replace(Question('camera_movement', text, choices, answer, (0, 2, 3), 0, (), dict(shift_m=[0.1, 0, 2.5]),
                                        dict(form='choice', label='pans right')), **changes)


def record(**changes):
    return dataclasses.replace(record_from_question(question(), 'clip_000003', 'clips/clip_000003'), **changes)


def test_record_of_a_question():
    made = record()
    assert made.messages[0]['content'].startswith('<video>\nHow does the camera move?\nA. pans left\nB. pans right\n')
    assert made.messages[1] == dict(role='assistant', content='B') and made.category == 'camera' and made.segment == (0, 2, 3)
    assert made.id.startswith('clip_000003-') and made.id == record().id
    assert made.id != record_from_question(question(answer='A'), 'clip_000003', 'x').id
    check_record(dataclasses.asdict(made))


def test_round_trip_and_bytes(tmp_path):
    records = [record(), record(id='two', meta=dict(note='Grüße, 4D → 文字')), record(id='three', choices=(), answer='moves on')]
    assert write_records(tmp_path / 'deep/er/a.jsonl', records) == 3
    assert read_records(tmp_path / 'deep/er/a.jsonl') == records == list(iterate_records(tmp_path / 'deep/er/a.jsonl'))
    write_records(tmp_path / 'b.jsonl', read_records(tmp_path / 'deep/er/a.jsonl'))
    assert (tmp_path / 'b.jsonl').read_bytes() == (tmp_path / 'deep/er/a.jsonl').read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_records(tmp_path / 'a.jsonl', [record()])
    before = (tmp_path / 'a.jsonl').read_bytes()
    with pytest.raises(InputError, match='answer'): write_records(tmp_path / 'a.jsonl', [record(), record(id='bad', answer='Q')])
    with pytest.raises(ValueError): write_records(tmp_path / 'a.jsonl', [record(targets=dict(x=float('nan')))])
    assert (tmp_path / 'a.jsonl').read_bytes() == before and len(list(tmp_path.iterdir())) == 1


USER, ASSISTANT = dict(role='user', content='<video>\nWhat?'), dict(role='assistant', content='B')
FAULTS = [
    ('version', 7), ('version', None), ('segment', []), ('segment', [2, 1]), ('segment', [0, 0]), ('segment', 'all'), ('segment', [-1, 2]), ('segment', [0.5]),
    ('view', '0'), ('view', True), ('answer', 'C'), ('answer', 'AB'), ('answer', ''), ('answer', 2), ('choices', None), ('meta', []), ('targets', None),
    ('messages', [USER]), ('messages', [ASSISTANT, USER]), ('messages', []), ('messages', [dict(role='user', content='no mark'), ASSISTANT]),
    ('messages', [USER, ASSISTANT, USER, ASSISTANT]), ('messages', [dict(role='user', text='<video>'), ASSISTANT]), ('messages', ['hello']),
    ('references', [dict(object=1)]), ('references', [dict(object=1, mode='pixel', frame=3, uv=None)])]


@pytest.mark.parametrize('name,value', FAULTS)
def test_every_fault_names_its_field(name, value, tmp_path):
    good = json.loads(json.dumps(dataclasses.asdict(record())))
    with pytest.raises(InputError, match=name): check_record({**good, name: value})
    (tmp_path / 'bad.jsonl').write_text(json.dumps(good) + '\n' + json.dumps({**good, name: value}) + '\n')
    with pytest.raises(InputError, match=r'bad\.jsonl line 2'): read_records(tmp_path / 'bad.jsonl')


def test_missing_unknown_double_and_cut(tmp_path):
    good = dataclasses.asdict(record())
    with pytest.raises(InputError, match='answer'): check_record({key: value for key, value in good.items() if key != 'answer'})
    with pytest.raises(InputError, match='colour'): check_record({**good, 'colour': 1})
    with pytest.raises(InputError, match='absent.jsonl'): read_records(tmp_path / 'absent.jsonl')
    line = json.dumps(good)
    (tmp_path / 'double.jsonl').write_text(f'{line}\n{line}\n')
    with pytest.raises(InputError, match='twice'): read_records(tmp_path / 'double.jsonl')
    (tmp_path / 'cut.jsonl').write_text(f'{line}\n{line[:50]}')
    with pytest.raises(InputError, match='cut.jsonl line 2'): read_records(tmp_path / 'cut.jsonl')


def test_dialogues_are_records_too():
    turns = ({'role': 'system', 'content': 'Be brief.'}, USER, ASSISTANT, {'role': 'user', 'content': 'And then?'}, {'role': 'assistant', 'content': 'It stops.'})
    check_record(dataclasses.asdict(record(messages=turns, choices=(), answer='It stops.')))
    assert record(messages=turns).question == 'And then?'


def test_back_to_the_frames_with_circles(tmp_path):
    clip = scene([thing(1, 'box', path((-1, -2, 1)))])
    save_clip(clip, tmp_path / 'clips/one')
    circle = dict(object=1, mode='circle', frame=1, uv=[0.5, 0.5], color='cyan', radius=0.2)
    made = record(clip='clips/one', segment=(1, 4, 6), references=(circle,))
    write_records(tmp_path / 'a.jsonl', [made])
    (back,) = read_records(tmp_path / 'a.jsonl')
    video = record_video(back, open_clip(back, tmp_path / 'a.jsonl'))
    plain = clip.view.frames[[1, 4, 6]]
    assert video.shape == plain.shape and (video[[0, 2]] == plain[[0, 2]]).all() and (video[1] != plain[1]).any()
    for change, field in ((dict(view=1), 'view'), (dict(segment=(1, 99)), 'segment')):
        with pytest.raises(InputError, match=field): record_video(dataclasses.replace(back, references=(), **change), clip)
    with pytest.raises(InputError): open_clip(dataclasses.replace(back, clip='../outside'), tmp_path / 'a.jsonl')
