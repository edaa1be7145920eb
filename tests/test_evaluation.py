import dataclasses

import numpy as np
import pytest

from track4d_ref.evaluation import (allowed_answers, answer_all, answers_of, free_prompt, likeliest_answers, read_answers, rescore_answers,
                                    write_answers)
from track4d_ref.examples import blinded, examples_from_questions, grouped, video_key
from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.scoring import score_rows
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vlm import build_vlm

PRESET = load_preset('tiny', ('text_layers=1', 'text_width=48', 'text_heads=2', 'text_kv_heads=1', 'vision_layers=1', 'vision_width=32', 'vision_heads=2'))


@pytest.fixture(scope='module')
def asked():
    clip = simulate_clip(5, PRESET, index=1)
    questions = ask_all(clip, np.random.default_rng(0), ('camera_movement', 'depth', 'moved_distance'), 3, style=Style(modes=('caption',)))
    pairs = list(zip(*examples_from_questions(clip, questions, PRESET)))
    tokenizer = train_tokenizer([record.question + record.answer for _, group in pairs for record in group], 400)
    return pairs, build_vlm(PRESET, tokenizer, 1), tokenizer


def test_packed_answers_equal_single_answers(asked):
    pairs, model, tokenizer = asked
    for example, records in pairs:
        together = answers_of(model, tokenizer, example, records)
        alone = [answers_of(model, tokenizer, dataclasses.replace(example, dialogues=(dialogue,)), [record])[0]
                 for dialogue, record in zip(example.dialogues, records)]
        assert together == alone and all(answer in allowed_answers(record) for answer, record in zip(together, records))


def test_likeliest_option_does_not_depend_on_the_order_of_options(asked):
    pairs, model, tokenizer = asked
    example, records = pairs[0]
    record = next(record for record in records if len(record.choices) >= 3)
    turned = dataclasses.replace(record, choices=record.choices[::-1])
    first, second = (likeliest_answers(model, tokenizer, example, [one])[0] for one in (record, turned))
    assert record.choices['ABCD'.index(first)] == turned.choices['ABCD'.index(second)]
    assert 'A. ' not in free_prompt(record)


def test_blind_answers_do_not_see_the_video(asked):
    pairs, model, tokenizer = asked
    other = [(dataclasses.replace(example, videos=tuple(dataclasses.replace(video, frames=255 - video.frames) for video in example.videos)), group)
             for example, group in pairs]
    assert answer_all(model, tokenizer, pairs, blind=True, progress=False) == answer_all(model, tokenizer, other, blind=True, progress=False)
    assert blinded(pairs[0][0]).videos == ()


def test_records_share_a_video_exactly_when_their_pixels_do(asked):
    records = [record for _, group in asked[0] for record in group]
    assert len(grouped(records)) == 1
    circled = dataclasses.replace(records[0], references=({'object': 1, 'mode': 'circle', 'frame': 0, 'uv': (0.5, 0.5)},))
    assert len(grouped([*records, circled])) == 2 and video_key(circled) != video_key(records[0])


def test_stored_answers_survive_a_crash_and_tell_what_moved(asked, tmp_path):
    pairs, model, tokenizer = asked
    rows = score_rows(answer_all(model, tokenizer, pairs, progress=False))
    path = tmp_path / 'answers.jsonl'
    write_answers(path, rows)
    with open(path, 'a') as file: file.write('{"id": "half-writ')
    assert read_answers(path) == rows and rescore_answers(path)[1] == []
    write_answers(path, [dict(row, correct=not row['correct']) for row in rows])
    assert len(rescore_answers(path)[1]) == len(rows)


@pytest.mark.parametrize('text, words', [('{"id": 1}\n{}\n', 'line 1'), ('not json\n{}\n', 'line 1'), ('[1]\n', 'line 1')])
def test_broken_answers_are_told(tmp_path, text, words):
    (tmp_path / 'a.jsonl').write_text(text)
    with pytest.raises(InputError, match=words): read_answers(tmp_path / 'a.jsonl')
    with pytest.raises(InputError, match='no such file'): read_answers(tmp_path / 'b.jsonl')
