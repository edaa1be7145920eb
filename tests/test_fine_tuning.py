"""Clip sets, mixtures, fine-tuning and the tables made of its verdicts."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from track4d_ref.clip_sets import MIXTURES, NAMES, SHARES, cell_words, clip_lines, clip_set, draw_example, spoken
from track4d_ref.evaluation import answers_aloud
from track4d_ref.fine_tuning import FineTunePlan, bench_examples, fine_tune, fine_tune_step, prepare, verdicts, verdicts_aloud
from track4d_ref.presets import load_preset
from track4d_ref.rounds import ROUNDS, rounds_cells, rounds_of, run_rounds, steps_of
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError, project_path, read_json
from track4d_ref.tables import BENCHES, budget_of, cell, rows_of, table2_cells, table4_cells
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm, load_vlm

PRESET = load_preset('tiny', ('text_layers=1', 'vision_layers=1', 'text_width=48', 'text_heads=2', 'text_kv_heads=1', 'vision_width=32', 'vision_heads=2'))


@pytest.fixture(scope='module')
def data(tmp_path_factory): return clip_set(tmp_path_factory.mktemp('set'), PRESET, 501, 3, piece=3, progress=False)


@pytest.fixture(scope='module')
def tokenizer(data):
    texts = [text for line in data.lines for q in line['plain'] for text in (q['prompt'], q['answer'])]
    return train_tokenizer(texts + [' '.join(('', *NAMES))] * 20, 600)


def test_pieces_are_kept_and_equal(tmp_path, data):
    again = clip_set(tmp_path, PRESET, 501, 3, piece=3, progress=False)
    assert np.array_equal(again.frames, data.frames) and again.lines == data.lines
    before = next(tmp_path.iterdir()).stat().st_mtime_ns
    clip_set(tmp_path, PRESET, 501, 2, piece=3, progress=False)
    assert next(tmp_path.iterdir()).stat().st_mtime_ns == before


def test_words_of_cells_count_what_the_masks_show():
    clip = simulate_clip(9, PRESET, 1, height=84, width=140)
    words = cell_words(clip)
    share = 1 - words[:, -1].reshape(4, 3, 5).mean((1, 2))
    assert np.allclose(share, (clip.view.instances > 0).reshape(4, 2, -1).mean((1, 2)), atol=1e-5)


def test_circles_never_clash():
    for index in range(6):
        lines = clip_lines(simulate_clip(31, PRESET, index), np.random.default_rng(index))
        marks = [(circle['frame'], circle['color']) for circle in lines['circles']]
        assert len(set(marks)) == len(marks) <= 4


@pytest.mark.parametrize('mixture', MIXTURES, ids=lambda mixture: mixture.name)
def test_mixtures_keep_the_number_of_questions(data, mixture):
    drawn = [draw_example(data, k % 3, mixture, 8, np.random.default_rng(k))[1] for k in range(30)]
    kinds = [line['type'] for lines in drawn for line in lines]
    assert 0.8 * 8 * 30 <= len(kinds) <= 8 * 30
    assert ('true_motion_tracking' in kinds) == (mixture.true_motion > 0) and ('visual_tracking' in kinds) == (mixture.visual > 0)


def test_a_step_depends_on_seed_and_number_alone(data, tokenizer):
    plan = FineTunePlan(videos=2, questions=3, parts=1)
    losses = [fine_tune_step(prepare(build_vlm(PRESET, tokenizer), plan), tokenizer, data, replace(plan, seed=seed), step, 0.25)[0]
              for seed, step in ((0, 0), (0, 0), (1, 0), (0, 1))]
    assert losses[0] == losses[1] and len(set(losses)) == 3


def test_pause_and_resume_end_alike(tmp_path, data, tokenizer):
    plan = FineTunePlan(videos=2, questions=2, parts=1, steps=3, save_every=1)
    whole = fine_tune(build_vlm(PRESET, tokenizer), tokenizer, data, plan, PRESET, tmp_path / 'whole', progress=False)
    for _ in range(2): assert fine_tune(build_vlm(PRESET, tokenizer), tokenizer, data, plan, PRESET, tmp_path / 'cut', stop=0.0, progress=False) is None
    cut = fine_tune(build_vlm(PRESET, tokenizer), tokenizer, data, plan, PRESET, tmp_path / 'cut', progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters()))


def test_a_step_may_have_fewer_videos_than_parts_or_none_with_questions(data, tokenizer):
    plan = FineTunePlan(videos=2, questions=3)
    loss, questions = fine_tune_step(prepare(build_vlm(PRESET, tokenizer), plan), tokenizer, data, plan, 0, 0.25)
    assert plan.parts > plan.videos and loss > 0 and questions > 0
    silent = replace(data, lines=[dict(plain=[], circled=[], circles=[], tracks=[])] * 3)
    assert fine_tune_step(prepare(build_vlm(PRESET, tokenizer), plan), tokenizer, silent, plan, 0, 0.25) == (0.0, 0)


FEELING = FineTunePlan(videos=3, questions=3, pointing=0.3, moving=1.0, steps=3, save_every=1)


def test_pointing_and_motion_do_not_depend_on_how_a_step_is_cut(data, tokenizer):
    found = []
    for parts in (1, 3):
        model = prepare(build_vlm(PRESET, tokenizer), replace(FEELING, parts=parts)).double()
        fine_tune_step(model, tokenizer, data, replace(FEELING, parts=parts), 0, 0.25)
        found.append([model.readout['pointer'].weight.grad, *(p.grad for name, p in model.named_parameters() if 'visual.blocks' in name and p.ndim == 2)])
    # the naming losses and motion weigh tokens within a part, so cutting may change them a little; mentions are counted over the step
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-4, atol=1e-7) and len(found[0]) > 2
    assert all(grad.abs().sum() > 0 for grad in found[0])


def test_only_a_plan_with_motion_trains_the_towers_blocks(data, tokenizer):
    for plan, learns in ((FEELING, True), (replace(FEELING, moving=0.0), False)):
        model = prepare(build_vlm(PRESET, tokenizer), plan)
        assert all(p.requires_grad == learns for name, p in model.named_parameters() if 'visual.blocks' in name or 'patch_embed' in name)
        assert all(p.requires_grad for name, p in model.named_parameters() if 'visual.merger' in name)


def test_a_run_with_pointing_resumes_and_leaves_nothing_behind(tmp_path, data, tokenizer):
    before = set(dict(build_vlm(PRESET, tokenizer).named_parameters()))
    whole = fine_tune(build_vlm(PRESET, tokenizer), tokenizer, data, FEELING, PRESET, tmp_path / 'whole', progress=False)
    assert fine_tune(build_vlm(PRESET, tokenizer), tokenizer, data, FEELING, PRESET, tmp_path / 'cut', stop=0.0, progress=False) is None
    cut = fine_tune(build_vlm(PRESET, tokenizer), tokenizer, data, FEELING, PRESET, tmp_path / 'cut', progress=False)
    assert set(dict(whole.named_parameters())) == before and all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters()))


def test_lora_leaves_words_and_layers_alone(tmp_path, data, tokenizer):
    model = build_vlm(PRESET, tokenizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    wrapped = prepare(model, FineTunePlan('lora'))
    names = [name for name, p in wrapped.named_parameters() if p.requires_grad]
    assert names and all('lora' in name or 'merger' in name or 'readout' in name for name in names)
    after = fine_tune(build_vlm(PRESET, tokenizer), tokenizer, data, FineTunePlan('lora', videos=2, questions=2, parts=1, steps=2), PRESET, tmp_path, progress=False)
    assert torch.equal(dict(after.named_parameters())['model.language_model.embed_tokens.weight'], before['model.language_model.embed_tokens.weight'])
    assert set(dict(after.named_parameters())) == set(before)


def test_unknown_ways_and_presets_are_refused():
    with pytest.raises(InputError, match='way'): FineTunePlan('half')
    with pytest.raises(InputError, match='budget'): budget_of(replace(PRESET, name='rtx24'))


def made_up(accuracies):
    rng = np.random.default_rng(0)
    questions = {bench: [[f'c{k // 4}', ('depth', 'camera_movement')[k % 2], ('spatial', 'camera')[k % 2], 2] for k in range(80)] for bench in BENCHES}
    digits = lambda share: ''.join('01'[int(rng.random() < share)] for _ in range(80))
    return dict(questions=questions, models={name: [{bench: digits(share) for bench in BENCHES} for _ in range(2)] for name, share in accuracies.items()})


def test_tables_from_verdicts():
    result = made_up({'base': 0.0, 'Std': 1.0, 'Std + TM': 1.0})
    assert cell(rows_of(result, 'bench', 'Std'), 'overall').startswith('100.0') and cell(rows_of(result, 'bench', 'base'), 'spatial').startswith('0.0')
    assert cell(rows_of(result, 'bench', 'Std'), 'object') == '–'
    lines = table4_cells(result)
    assert [line[0] for line in lines] == ['data', 'base', 'Std', 'Std + TM'] and lines[3][2].startswith('+0.0') and lines[3][-2] == '81.3'
    assert {line[0] for line in table2_cells(result)} >= {'overall', 'camera', 'depth', 'camera_movement'}
    assert verdicts([dict(correct=True), dict(correct=False)]) == '10'


def test_answers_are_said_in_words_first():
    line = dict(form='choice', label='moves left', answer='B')
    assert spoken(line) == 'moves left, so B' and spoken(dict(line, form='yes_no', answer='No')) == 'moves left, so No'
    assert spoken(dict(line, form='free', answer='moves left')) == 'moves left'


@pytest.mark.parametrize('text, choices, heard', [('moves left, so B', 4, 'B'), (' moves left, so B ', 4, 'B'), ('moves left, so E', 4, ''), ('B', 4, 'B'),
                                                  ('increases, so No', 0, 'No'), ('so, so Yes', 0, 'Yes'), ('increases, so A', 0, ''), ('', 2, ''), ('b, so A', 4, 'B'), ('b, so Z', 2, 'B'), ('c, so A', 2, 'A'), ('increases, so', 0, '')])
def test_what_is_heard_of_an_answer_aloud(monkeypatch, text, choices, heard):
    from types import SimpleNamespace
    from track4d_ref.packing import ClipExample
    monkeypatch.setattr('track4d_ref.evaluation.ask_packed', lambda *_: [text])
    record = SimpleNamespace(choices=('a', 'b', 'c', 'd')[:choices], answer='A' if choices else 'Yes')
    assert answers_aloud(None, None, ClipExample('c', (), (({'role': 'user', 'content': 'how?'},),)), [record]) == [heard]


def test_open_questions_keep_what_was_said(monkeypatch):
    from types import SimpleNamespace
    from track4d_ref.packing import ClipExample
    monkeypatch.setattr('track4d_ref.evaluation.ask_packed', lambda model, tokenizer, example, most: ['moves up, so A', f'frame 3: at most {most}'])
    records = [SimpleNamespace(choices=('moves down', 'moves up'), answer='A'), SimpleNamespace(choices=(), answer='frame 3: (0.1, 0.2) visible')]
    turns = (({'role': 'user', 'content': 'how?'},),) * 2
    assert answers_aloud(None, None, ClipExample('c', (), turns), records) == ['B', 'frame 3: at most 96']


def test_forms_are_drawn_as_the_benchmark_asks_them(data):
    drawn = [(line['type'], line['form']) for k in range(60) for line in draw_example(data, k % 3, MIXTURES[0], 6, np.random.default_rng(k))[1]]
    assert set(drawn) <= set(SHARES) and SHARES['depth', 'choice'] == 1
    of = lambda form: sum(pair == ('depth', form) for pair in drawn)
    assert of('yes_no') > 3 * of('choice')


def test_shipped_model_gives_its_stored_answers():
    stored = read_json(project_path('results/rounds_tiny.json'))['result']['models']
    last = steps_of(dict(models=stored))[-1]
    pairs = bench_examples(project_path('data_samples/bench'), load_preset('tiny'))[:8]
    said, words = verdicts_aloud(*load_vlm(project_path('data_samples/questions_tiny')), pairs, progress=False)
    assert len(said) == sum(len(records) for _, records in pairs) > 30
    assert stored[last][0]['bench'].startswith(said) and stored[f'{last}, by its words'][0]['bench'].startswith(words)


def test_the_truth_is_read_right_in_both_ways():
    from track4d_ref.evaluation import heard, heard_in_words
    records = [record for bench in BENCHES for _, group in bench_examples(project_path(f'data_samples/{bench}'), load_preset('tiny')) for record in group]
    for record in records:
        text = f'{record.meta["label"]}, so {record.answer}'
        assert heard(text, record) == heard_in_words(text, record) == record.answer
    assert len(records) == 3028


def test_rounds_go_on_from_the_plan_of_table_2():
    preset = load_preset('tiny')
    (first, clips), *further = rounds_of(preset, 3)
    assert (first.steps, clips, first.seed, first.pointing, first.moving) == (budget_of(preset).steps, budget_of(preset).clips, 3, 0, 0)
    assert [plan.seed for plan, _ in further] == [4] and len(further) == len(ROUNDS['tiny'])
    assert all(plan.way == first.way and plan.mixture == first.mixture and plan.videos == first.videos for plan, _ in further)


def test_rounds_without_a_budget_stop_before_anything_is_asked(tmp_path):
    with pytest.raises(InputError, match='budget'): run_rounds(load_preset('rtx24'), tmp_path / 'rounds', 0)
    assert list(tmp_path.iterdir()) == []


def test_rounds_stand_in_order_of_their_steps():
    stored = read_json(project_path('results/rounds_tiny.json'))['result']
    assert steps_of(dict(models=['base', '1600 steps', '800 steps', '800 steps, by its words'])) == ['800 steps', '1600 steps']
    lines = rounds_cells(stored)
    assert lines[0][2:5] == ('base', '800 steps', '800 steps, by its words') and lines[-1][0] == 'transfer' and len({len(line) for line in lines}) == 1
    table2 = read_json(project_path('results/table2_tiny.json'))['result']['models']
    assert stored['models']['800 steps'][0]['bench'] == table2['full'][0]['bench']
