"""The harness task: its functions, run as a harness would run them, against our own scorer."""
import importlib.util
import json

import numpy as np
import pytest

from track4d_ref.clips import save_clip
from track4d_ref.extraction import score_extracted
from track4d_ref.harness import METRICS, doc_to_visual, document, gradable, process_results, video_name, write_task
from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.records import record_from_question, write_records
from track4d_ref.scoring import accuracy_table, score_rows, score_vsi
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError

yaml = pytest.importorskip('yaml')

@pytest.fixture(scope='module')
def records_file(tmp_path_factory):
    root, clip = tmp_path_factory.mktemp('bench'), simulate_clip(5, load_preset('tiny'))
    save_clip(clip, root / clip.id)
    asked = ask_all(clip, np.random.default_rng(0), per_type=2, style=Style(('choice', 'yes_no', 'free'), ('caption', 'circle')))
    records = [record_from_question(question, clip.id, clip.id) for question in asked]
    write_records(root / 'records.jsonl', records)
    return root / 'records.jsonl', records

def load_task(folder):
    """What a harness does: load utils.py, resolve the !function tags of the YAML."""
    spec = importlib.util.spec_from_file_location('task_utils', folder / 'utils.py')
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    class Loader(yaml.SafeLoader): pass
    Loader.add_constructor('!function', lambda loader, node: getattr(utils, loader.construct_scalar(node).removeprefix('utils.')))
    return yaml.load(next(folder.glob('*.yaml')).read_text(), Loader)

def test_task_folder_runs_and_equals_our_scorer(records_file, tmp_path):
    path, records = records_file
    kept, left_out = write_task(path, tmp_path / 'task', 'my_bench')
    assert kept == sum(map(gradable, records)) > 3 and kept + left_out == len(records) and left_out > 0
    task = load_task(tmp_path / 'task')
    assert task['task'] == 'my_bench' and task['dataset_path'] == 'json' and task['output_type'] == 'generate_until'
    docs = [json.loads(line) for line in open(task['dataset_kwargs']['data_files']['test'])]
    answers, graded = [], {metric['metric']: [] for metric in task['metric_list']}
    for i, doc in enumerate(docs):
        video, = task['doc_to_visual'](doc, None)
        assert video.endswith('.mp4') and task['doc_to_text'](doc, {'default': {}}) == doc['prompt']
        truth = task['doc_to_target'](doc)
        answers.append((truth, f'The answer is ({truth}).', 'A. ', '')[i % 4])
        for name, row in task['process_results'](doc, [answers[-1]]).items(): graded[name].append(row)
    assert graded.keys() == METRICS.keys()
    rows = [dict(type=d['type'], category=d['category'], clip=d['clip'], choices=d['choices'], truth=d['answer'], answer=a)
            for d, a in zip(docs, answers)]
    for metric in task['metric_list']:
        scorer = {'exact_match_vsi': score_vsi, 'extracted_match': score_extracted}[metric['metric']]
        ours = accuracy_table(score_rows(rows, scorer)).lines[-1].accuracy
        assert metric['aggregation'](graded[metric['metric']]) == ours and metric['higher_is_better'] is True

def test_records_with_other_circles_have_other_videos(records_file):
    import dataclasses
    record = next(r for r in records_file[1] if gradable(r))
    circle = {'object': 1, 'mode': 'circle', 'frame': 0, 'uv': [3.0, 4.0]}
    circled = dataclasses.replace(record, references=(circle,))
    moved = dataclasses.replace(record, references=({**circle, 'uv': [9.0, 4.0]},))
    named = dataclasses.replace(record, references=({**circle, 'mode': 'caption'},))
    assert len({video_name(r) for r in (circled, moved, named)}) == 3
    assert video_name(named) == video_name(dataclasses.replace(record, references=()))
    assert document(record)['answer'] == record.answer

def test_dialogues_and_open_answers_stay_out(records_file):
    import dataclasses
    record = next(r for r in records_file[1] if r.choices)
    assert not gradable(dataclasses.replace(record, messages=record.messages * 2))
    assert not gradable(dataclasses.replace(record, choices=(), answer='2.4 m'))
    assert gradable(dataclasses.replace(record, choices=(), answer='No'))

def test_errors_are_sentences_and_leave_nothing(records_file, tmp_path):
    path, records = records_file
    with pytest.raises(InputError, match='task name'): write_task(path, tmp_path / 'a', 'a b')
    write_records(tmp_path / 'open.jsonl', [r for r in records if not gradable(r)])
    with pytest.raises(InputError, match='nothing to grade'): write_task(tmp_path / 'open.jsonl', tmp_path / 'b')
    write_records(tmp_path / 'lost.jsonl', records)                          # no clips beside this file
    with pytest.raises(InputError): write_task(tmp_path / 'lost.jsonl', tmp_path / 'c')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['lost.jsonl', 'open.jsonl']
    with pytest.raises(InputError, match='no such video'): doc_to_visual({'id': 'x', 'video': 'videos/x.mp4'}, tmp_path)

def test_first_response_counts():
    doc = dict(id='1', clip='c', type='depth', category='spatial', choices=['near', 'far'], answer='B')
    graded = process_results(doc, ['B. far', 'A'])
    assert all(row['correct'] for row in graded.values()) and graded['exact_match_vsi']['scorer'] == 'score_vsi'

def test_the_harness_itself_loads_and_runs_the_task(records_file, tmp_path):
    """With lmms-eval installed: its own YAML loader, its own task class, its own walk through the documents."""
    utils = pytest.importorskip('lmms_eval.utils', reason='lmms-eval is not installed: pip install --no-deps lmms-eval')
    task_module = pytest.importorskip('lmms_eval.api.task', reason='lmms-eval lacks one of its own dependencies')
    path, records = records_file
    kept, _ = write_task(path, tmp_path / 'task', 'my_bench')
    config = utils.load_yaml_config(yaml_path=str(tmp_path / 'task' / 'my_bench.yaml'))
    task = task_module.ConfigurableTask(config=config, model_name='none')
    docs, answers, graded = list(task.test_docs()), [], {}
    assert len(docs) == kept
    for i, doc in enumerate(docs):
        assert task.doc_to_visual(doc)[0].endswith('.mp4') and task.doc_to_text(doc) == doc['prompt']
        answers.append((task.doc_to_target(doc), 'The answer is B.', '')[i % 3])
        for name, row in task.process_results(doc, [answers[-1]]).items(): graded.setdefault(name, []).append(row)
    rows = [dict(type=d['type'], category=d['category'], clip=d['clip'], choices=d['choices'], truth=d['answer'], answer=a)
            for d, a in zip(docs, answers)]
    for name, scorer in METRICS.items():
        assert task.aggregation()[name](graded[name]) == accuracy_table(score_rows(rows, scorer)).lines[-1].accuracy
        assert task.higher_is_better()[name] is True
