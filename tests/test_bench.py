"""The benchmark: planned counts, confirmed answers, even letters, equal bytes, and what ships with the project."""
import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from track4d_ref.bench import BENCH, TRANSFER, choose_questions, deal_letters, question_pool, scene_clip, total, write_bench
from track4d_ref.clips import load_clip, save_clip
from track4d_ref.evaluation import allowed_answers
from track4d_ref.examples import grouped
from track4d_ref.presets import load_preset
from track4d_ref.records import open_clip, read_records, record_video
from track4d_ref.storage import InputError, project_path, read_json
from track4d_ref.templates import LETTERS

PRESET = load_preset('tiny')
PLANS = {plan.name: plan for plan in (BENCH, TRANSFER)}
SMALL = replace(BENCH, scenes=8, counts=dict(depth=(0, 8), camera_movement=(2, 4), object_direction=(2, 0)))


@pytest.fixture(scope='module')
def pool(): return question_pool(SMALL, PRESET, progress=False)[0]


def bytes_below(folder): return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_equal_plans_give_equal_bytes_for_any_number_of_workers(tmp_path):
    card = write_bench(tmp_path / 'one', SMALL, PRESET, progress=False)
    write_bench(tmp_path / 'two', SMALL, PRESET, workers=2, progress=False)
    assert bytes_below(tmp_path / 'one') == bytes_below(tmp_path / 'two') and card['questions'] == total(SMALL)


def test_balance_and_letters(pool):
    chosen = choose_questions(pool, SMALL)
    dealt = deal_letters([question for _, question in chosen], np.random.default_rng(1))
    count = Counter((question.type, question.answer) for question in dealt)
    assert abs(count['depth', 'Yes'] - count['depth', 'No']) <= 2
    for (_, before), after in zip(chosen, dealt):
        if not before.choices: assert after == before; continue
        assert sorted(before.choices) == sorted(after.choices) and after.choices[LETTERS.index(after.answer)] == before.meta['label']
        assert after.meta['options'][LETTERS.index(after.answer)] == after.meta['truth']


def test_letters_are_even_after_dealing(pool):
    choices = [question for _, question in pool if len(question.choices) == 4]
    count = Counter((question.type, question.answer) for question in deal_letters(choices, np.random.default_rng(3)))
    for kind in {kind for kind, _ in count}: assert np.ptp([count[kind, letter] for letter in 'ABCD']) <= 1


def test_too_few_scenes_are_named(pool):
    with pytest.raises(InputError, match="of 90 questions .'object_direction', 'choice'. are missing"):
        choose_questions(pool, replace(SMALL, counts=dict(object_direction=(90, 0))))


def test_foreign_folder_is_refused(tmp_path):
    (tmp_path / 'letter.txt').write_text('mine')
    with pytest.raises(InputError, match='no benchmark'): write_bench(tmp_path, SMALL, PRESET, progress=False)
    assert (tmp_path / 'letter.txt').read_text() == 'mine'


@pytest.fixture(scope='module', params=PLANS)
def shipped(request):
    folder = project_path(f'data_samples/{request.param}')
    return PLANS[request.param], folder, read_records(folder / 'questions.jsonl')


def test_shipped_counts_follow_the_plan(shipped):
    plan, folder, records = shipped
    forms = Counter((record.type, 'choice' if record.choices else 'yes_no') for record in records)
    assert forms == {(kind, form): count for kind, counts in plan.counts.items() for form, count in zip(('choice', 'yes_no'), counts) if count}
    assert read_json(folder / 'bench.json')['questions'] == len(records) == total(plan) and all(map(allowed_answers, records))


def test_shipped_answers_are_even(shipped):
    _, _, records = shipped
    for kind in {record.type for record in records}:
        groups = {}
        for record in records:
            if record.type == kind: groups.setdefault(allowed_answers(record), []).append(record.answer)
        for allowed, answers in groups.items():
            assert max(answers.count(one) for one in allowed) <= len(answers) / len(allowed) + 0.06 * len(answers) + 2, (kind, allowed)


def test_shipped_videos_open(shipped):
    _, folder, records = shipped
    for group in grouped(records)[::40]:
        video = record_video(group[0], open_clip(group[0], folder / 'questions.jsonl'))
        assert video.shape == (PRESET.frames, PRESET.resolution, PRESET.resolution, 3) and video.std() > 5


def test_shipped_scene_is_simulated_again_to_the_same_bytes(shipped, tmp_path):
    plan, folder, records = shipped
    name = records[len(records) // 2].clip
    save_clip(scene_clip(plan, PRESET, int(name[-4:])), tmp_path / 'again', compact=True)
    digest = lambda files: {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    assert digest(bytes_below(tmp_path / 'again')) == digest(bytes_below(folder / name))
    assert load_clip(tmp_path / 'again').meta['seed'] == plan.seed >= 90_000


def test_shipped_numbers_are_rounded_and_have_no_negative_zero(shipped):
    _, folder, records = shipped
    assert '-0.0,' not in (folder / 'questions.jsonl').read_text() and '-0.0]' not in (folder / 'questions.jsonl').read_text()
    for record in records[::300]:
        with np.load(folder / record.clip / 'world.npz', allow_pickle=False) as world:
            floats = [world[name] for name in world.files if world[name].dtype == float]
        for values in floats: assert np.array_equal(np.round(values, 7), values, equal_nan=True) and not np.signbit(values[values == 0]).any()


def test_transfer_shares_no_wording_and_no_thing_with_training(shipped):
    plan, folder, records = shipped
    labels = {item.label for record in records[::25] for item in open_clip(record, folder / 'questions.jsonl').objects}
    trained = {'ball', 'box', 'cylinder', 'cone', 'car', 'person'}
    assert labels <= trained if plan.name == 'bench' else not labels & trained
