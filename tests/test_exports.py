"Exports and audit: round trips, videos, validation, data card, the page and its marks."
import dataclasses
import json

import numpy as np
import pytest

from track4d_ref.audit import audit_card, error_rate, named_frames, read_marks, write_audit_page
from track4d_ref.clips import save_clip
from track4d_ref.exports import FORMATS, data_card, export_records, read_export, read_video, validate_export, video_name
from track4d_ref.questions import Style, ask_all
from track4d_ref.records import record_from_question, record_video, write_records
from track4d_ref.storage import InputError
from test_questions import moving_camera, path, scene, thing


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    objects = [thing(1, 'box', path((-2, 0, 1), (2, 0, 0)), 90), thing(2, 'can', path((1, 2, 1))), thing(5, 'cup', path((2, -1, 1)))]
    clip = scene(objects, moving_camera(shift_camera=(0, 0, 1.5)))
    save_clip(clip, folder / 'clips/a')
    questions = ask_all(clip, np.random.default_rng(3), style=Style(modes=('caption', 'pixel', 'circle')))
    records = [record_from_question(question, 'a', 'clips/a') for question in questions]
    write_records(folder / 'q.jsonl', records)
    return folder, clip, records


@pytest.mark.parametrize('name', FORMATS)
def test_export_round_trip_and_validation(made, name):
    folder, clip, records = made
    target = export_records(records, folder / 'q.jsonl', folder / name, name)
    samples = read_export(folder / name, name)
    assert [messages for messages, _ in samples] == [list(record.messages) for record in records]
    assert [videos for _, videos in samples] == [[video_name(record)] for record in records]
    assert validate_export(folder / name, name)['samples'] == len(records) and target.is_file()
    first = {path.relative_to(folder / name): path.read_bytes() for path in (folder / name).rglob('*') if path.is_file()}
    export_records(records, folder / 'q.jsonl', folder / f'{name} again', name)
    assert all((folder / f'{name} again' / path).read_bytes() == data for path, data in first.items())


def test_documented_shapes(made):
    folder, _, records = made
    for name in ('llava', 'sharegpt', 'swift', 'trl'): export_records(records[:1], folder / 'q.jsonl', folder / f'shape {name}', name)
    llava = json.loads((folder / 'shape llava/llava.json').read_text())[0]
    assert [turn['from'] for turn in llava['conversations']] == ['human', 'gpt'] and llava['conversations'][0]['value'].startswith('<video>\n')
    sharegpt, info = json.loads((folder / 'shape sharegpt/sharegpt.json').read_text())[0], json.loads((folder / 'shape sharegpt/dataset_info.json').read_text())
    (entry,) = info.values()
    assert {entry['columns']['messages'], entry['columns']['videos']} == set(sharegpt) and entry['file_name'] == 'sharegpt.json'
    swift = json.loads((folder / 'shape swift/swift.jsonl').read_text())
    assert set(swift) == {'messages', 'videos'} and swift['messages'][0]['content'].count('<video>') == len(swift['videos']) == 1
    trl = json.loads((folder / 'shape trl/trl.jsonl').read_text())
    assert [part['type'] for part in trl['messages'][0]['content']] == ['video', 'text'] and '<video>' not in json.dumps(trl)


def test_videos_hold_the_frames_and_circles_have_their_own(made):
    folder, clip, records = made
    export_records(records, folder / 'q.jsonl', folder / 'v', 'swift')
    for record in records:
        wanted, found = record_video(record, clip), read_video(folder / 'v' / video_name(record))
        assert len(found) == len(wanted) and np.abs(found[:, :wanted.shape[1], :wanted.shape[2]].astype(int) - wanted).mean() < 6
    circled = [record for record in records if any(reference['mode'] == 'circle' for reference in record.references)]
    assert circled and all(video_name(record) != video_name(dataclasses.replace(record, references=())) for record in circled)


def test_validation_finds_what_is_wrong(made):
    folder, _, records = made
    def fresh(name): return export_records(records[:3], folder / 'q.jsonl', folder / name, 'swift')
    fresh('gone'); (folder / 'gone' / video_name(records[0])).unlink()
    fresh('broken'); (folder / 'broken' / video_name(records[0])).write_bytes(b'x' * 50)
    path = fresh('marks'); path.write_text(path.read_text().replace('<video>', '', 1))
    path = fresh('outside'); path.write_text(path.read_text().replace('videos/', '../videos/'))
    path = fresh('cut'); path.write_text(path.read_text()[:-30])
    for name in ('gone', 'broken', 'marks', 'outside', 'cut', 'never written'):
        with pytest.raises(InputError): validate_export(folder / name, 'swift')
    with pytest.raises(InputError, match='yaml'): export_records(records, folder / 'q.jsonl', folder / 'x', 'yaml')


def test_huggingface_folder_loads(made):
    datasets = pytest.importorskip('datasets', reason='the HF loader is an optional extra')
    folder, _, records = made
    export_records(records, folder / 'q.jsonl', folder / 'hub', 'hf')
    assert datasets.load_dataset(str(folder / 'hub'), split='train')['answer'] == [record.answer for record in records]


def test_data_card_counts(made):
    _, _, records = made
    card = data_card(records, 'A title')
    assert card.startswith('# A title\n') and f'{len(records)} records on 1 clips.' in card
    for kind in {record.type for record in records}: assert f'| {kind} | {sum(record.type == kind for record in records)} |' in card


def test_page_has_a_card_per_record_and_escapes(made, tmp_path):
    folder, clip, records = made
    page = write_audit_page(tmp_path / 'audit.html', records[:5], folder / 'q.jsonl', 'A & B').read_text()
    assert page.count('<article') == 5 and page.count('src="data:image/png') == 5 and 'A &amp; B' in page
    assert 'src="http' not in page and 'href="http' not in page
    bad = dataclasses.replace(records[0], id='x" onclick="y', type='<i>')
    assert '<i>' not in audit_card(bad, clip) and 'data-id="x&quot;' in audit_card(bad, clip)
    for record in records: assert {reference['frame'] for reference in record.references} <= set(named_frames(record))


def test_marks(made, tmp_path):
    _, _, records = made
    (tmp_path / 'marks.json').write_text(json.dumps({records[0].id: 'right', records[1].id: 'wrong', 'else': 'unclear'}))
    table = error_rate(records, read_marks(tmp_path / 'marks.json'))
    assert table['all'] == dict(right=1, wrong=1, unclear=0) and table[records[0].type]['right'] == 1
    (tmp_path / 'bad.json').write_text('["right"]')
    with pytest.raises(InputError, match='bad.json'): read_marks(tmp_path / 'bad.json')
