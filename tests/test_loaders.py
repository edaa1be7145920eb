"""Exports read by the loaders of the trainers they are written for; each test is skipped where its trainer is not installed.

    pip install llamafactory ms-swift trl datasets      # an environment of their own; they pin other versions of transformers
    python -m pytest tests/test_loaders.py -n 0 -rs"""
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from track4d_ref.clips import save_clip
from track4d_ref.exports import DATASET_INFO, export_records, read_video, video_name
from track4d_ref.questions import Style, ask_all
from track4d_ref.records import record_from_question, record_video, write_records
from track4d_ref.storage import project_path
from test_questions import moving_camera, path, scene, thing

ROLES = {'system', 'user', 'assistant'}
# how Qwen2.5-VL's own template tells parts apart: by their type, and by the keys that they have
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}{% if part['type'] == 'video' or 'video' in part %}"
            "<|video_pad|>{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}")


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('loaders')
    objects = [thing(1, 'box', path((-2, 0, 1), (2, 0, 0)), 90), thing(2, 'can', path((1, 2, 1))), thing(5, 'cup', path((2, -1, 1)))]
    clip = scene(objects, moving_camera(shift_camera=(0, 0, 1.5)))
    save_clip(clip, folder / 'a')
    questions = ask_all(clip, np.random.default_rng(3), style=Style(('choice', 'yes_no', 'free'), ('caption', 'circle')))
    records = [record_from_question(question, 'a', 'a') for question in questions]
    write_records(folder / 'q.jsonl', records)
    for name in ('sharegpt', 'swift', 'trl'): export_records(records, folder / 'q.jsonl', folder / name, name)
    return folder, clip, records


def test_documented_schema_of_every_line(made):
    folder, _, records = made
    (info,) = json.loads((folder / 'sharegpt/dataset_info.json').read_text()).values()
    assert info == DATASET_INFO['track4d'] and info['formatting'] == 'sharegpt'
    assert set(info['columns']) <= {'prompt', 'query', 'response', 'history', 'messages', 'system', 'tools', 'images', 'videos', 'audios'}
    assert set(info['tags']) <= {f'{name}_tag' for name in ('role', 'content', 'user', 'assistant', 'observation', 'function', 'system')}
    for row in json.loads((folder / 'sharegpt' / info['file_name']).read_text()):
        assert [turn[info['tags']['role_tag']] for turn in row[info['columns']['messages']]] == ['human', 'gpt']     # odd, even
        assert sum(turn['value'].count('<video>') for turn in row['conversations']) == len(row['videos'])
    for line in (folder / 'swift/swift.jsonl').read_text().splitlines():
        row = json.loads(line)
        assert set(row) == {'messages', 'videos'} and all(set(m) == {'role', 'content'} and m['role'] in ROLES for m in row['messages'])
    for line in (folder / 'trl/trl.jsonl').read_text().splitlines():
        row = json.loads(line)
        parts = [part for m in row['messages'] for part in m['content']]
        assert {m['role'] for m in row['messages']} <= ROLES and [part['type'] for part in parts].count('video') == len(row['videos'])
        assert all(set(part) == ({'type', 'text'} if part['type'] == 'text' else {'type'}) for part in parts)


def test_llama_factory_loads_and_opens(made, monkeypatch):
    monkeypatch.setenv('DISABLE_VERSION_CHECK', '1')
    pytest.importorskip('llamafactory.data.loader', reason='LLaMA-Factory is not installed', exc_type=ImportError)
    from llamafactory.data.loader import _load_single_dataset
    from llamafactory.data.mm_plugin import get_mm_plugin
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import DataArguments
    folder, clip, records = made
    (attributes,) = get_dataset_list(['track4d'], str(folder / 'sharegpt'))
    arguments = DataArguments(dataset='track4d', dataset_dir=str(folder / 'sharegpt'))
    local = SimpleNamespace(cache_dir=str(folder / 'cache'), hf_hub_token=None)
    rows = _load_single_dataset(attributes, local, arguments, SimpleNamespace(local_process_index=0, dataloader_num_workers=0))
    assert len(rows) == len(records)
    for row, record in zip(rows, records):
        assert [m['content'] for m in (*row['_prompt'], *row['_response'])] == [m['content'] for m in record.messages]
        assert row['_videos'] == [str(folder / 'sharegpt' / video_name(record))] and os.path.isfile(row['_videos'][0])
    plugin = get_mm_plugin('qwen2_vl', image_token='<|image_pad|>', video_token='<|video_pad|>')
    plugin._validate_messages(rows[0]['_prompt'], [], rows[0]['_videos'], [])
    def frames_taken(video_fps):
        limits = dict(video_maxlen=64, image_max_pixels=10**6, image_min_pixels=1, video_max_pixels=10**6, video_min_pixels=1)
        return len(plugin._regularize_videos(rows[0]['_videos'], video_fps=video_fps, **limits)['videos'][0])
    count = len(record_video(records[0], clip))
    assert frames_taken(100.0) == count + count % 2          # all of them; the last twice where the number is odd
    assert frames_taken(2.0) < count                         # its default: frame numbers in questions would mean other frames


def test_ms_swift_loads_strictly_and_opens(made, monkeypatch):
    pytest.importorskip('swift.dataset', reason='ms-swift is not installed', exc_type=ImportError)
    from swift.dataset import load_dataset
    from swift.template.vision_utils import load_file
    folder, _, records = made
    monkeypatch.setenv('MODELSCOPE_CACHE', str(folder / 'cache'))
    rows, _ = load_dataset([str(folder / 'swift/swift.jsonl')], strict=True, load_from_cache_file=False)
    assert len(rows) == len(records)
    for row, record in zip(rows, records):
        assert [(m['role'], m['content']) for m in row['messages']] == [(m['role'], m['content']) for m in record.messages]
        assert list(row['videos']) == [video_name(record)]
    monkeypatch.setenv('ROOT_IMAGE_DIR', str(folder / 'swift'))           # where relative paths begin
    assert load_file(rows[0]['videos'][0]).read() == (folder / 'swift' / video_name(records[0])).read_bytes()


def test_trl_takes_it_for_a_conversation(made):
    pytest.importorskip('trl.data_utils', reason='TRL is not installed', exc_type=ImportError)
    datasets = pytest.importorskip('datasets', reason='the HF loader is an optional extra')
    from trl.data_utils import apply_chat_template, is_conversational, prepare_multimodal_messages
    from transformers import AutoTokenizer
    folder, clip, records = made
    rows = datasets.load_dataset('json', data_files=str(folder / 'trl/trl.jsonl'), split='train', cache_dir=str(folder / 'cache'))
    tokenizer = AutoTokenizer.from_pretrained(project_path('data_samples/base_tiny'))
    tokenizer.chat_template = TEMPLATE
    for row, record in zip(rows, records):
        assert is_conversational(row)
        messages = prepare_multimodal_messages(row['messages'])
        text = apply_chat_template(dict(messages=messages), tokenizer)['text']
        assert text.count('<|video_pad|>') == len(row['videos']) == 1 and record.question.split('\n')[0] in text and record.answer in text
    assert len(read_video(folder / 'trl' / rows[0]['videos'][0])) == len(record_video(records[0], clip))
