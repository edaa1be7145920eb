"""The off-the-shelf model: questions on single frames are true, nothing in a slideshow moves, stages resume."""
import numpy as np
import pytest
import torch

from track4d_ref.base import (LESSONS, BasePlan, corpus, draw_lesson, keep_base_clips, name_ids, picture_rows, share_spellings, train_stages)
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip, simulate_clips
from track4d_ref.single_frames import FACTS, Picture, ask_picture, pictures_of
from track4d_ref.slideshows import NAMES, caption_dialogues, cell_names, pack_lesson, slideshow, token_naming_loss
from track4d_ref.packing import pack
from track4d_ref.storage import InputError, project_path
from track4d_ref.templates import LETTERS
from track4d_ref.tokens import IGNORE, train_tokenizer
from track4d_ref.vlm import build_vlm, load_vlm

SMALL = ('resolution=56', 'text_layers=1', 'text_width=48', 'text_heads=2', 'vision_layers=1', 'vision_width=32', 'vision_heads=2')


@pytest.fixture(scope='module')
def pictures():
    return [picture for clip in simulate_clips(6, 11, load_preset('tiny')) for picture in pictures_of(clip)]


def painted() -> Picture:
    "A hand-made picture, 56 x 84: a red ball upper left, a blue box lower right."
    instances = np.zeros((56, 84), dtype=np.int64)
    instances[4:16, 6:18], instances[36:50, 60:78] = 1, 2
    return Picture('painted', np.zeros((56, 84, 3), dtype=np.uint8), instances, ((1, 'red ball'), (2, 'blue box')))


def test_things_of_a_painted_picture():
    ball, box = painted().things
    assert (ball.caption, box.caption, ball.pixels, box.pixels) == ('red ball', 'blue box', 144, 252)
    assert painted().instances[int(ball.uv_px[1]), int(ball.uv_px[0])] == 1


def test_facts_of_a_painted_picture_are_true():
    things, size = painted().things, (84, 56)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        place = FACTS['place'](things, size, rng)
        assert place.answer == {'red ball': 'upper left', 'blue box': 'lower right'}[place.things[0].caption]
        sides = FACTS['sides'](things, size, rng)
        left = min(sides.things, key=lambda thing: thing.uv_px[0])
        wanted = left if 'left' in sides.texts[1] else next(thing for thing in sides.things if thing is not left)
        assert dict(zip(('{a}', '{b}'), sides.things))[sides.answer] is wanted
        assert FACTS['count'](things, size, rng).answer == '2'
        present = FACTS['present'](things, size, rng)
        assert present.answer in ('red ball', 'blue box') and not {'red ball', 'blue box'} & set(present.wrong)


def test_cell_names_are_shares():
    names = cell_names(painted())
    assert names.shape == (6, len(NAMES)) and np.allclose(names.sum(1), 1, atol=1e-6)
    assert np.isclose(names[0, NAMES.index('red')], 144 / 784 / 2) and names[1, -1] == 1


@pytest.mark.parametrize('kind', FACTS)
def test_questions_have_valid_answers(pictures, kind):
    rng, asked = np.random.default_rng(3), []
    for picture in pictures: asked += ask_picture(picture, rng, 4, kinds=(kind,))
    assert len(asked) > 10
    for question in asked:
        if question.form == 'choice':
            assert question.answer in LETTERS[:len(question.choices)] and len(set(question.choices)) == len(question.choices) > 1
        if question.form == 'yes_no': assert question.answer in ('Yes', 'No')


def test_nothing_moves_in_a_slideshow(pictures):
    example, asked = slideshow(pictures[:2], 4, 6, np.random.default_rng(0))
    frames = example.videos[0].frames
    circled = {question.frame for question in asked if question.circles}
    for part in (range(4), range(4, 8)):
        still = [frame for frame in part if frame not in circled]
        assert all(np.array_equal(frames[still[0]], frames[frame]) for frame in still)
    assert all('in frame' in question.prompt.lower() for question in asked)
    with pytest.raises(InputError, match='cannot share'): slideshow(pictures[:3], 4, 6, np.random.default_rng(0))


def test_pictures_need_an_instance_map():
    clip = simulate_clip(1, load_preset('tiny'))
    from dataclasses import replace
    bare = replace(clip, views=(replace(clip.view, instances=None),))
    with pytest.raises(InputError, match='instance map'): pictures_of(bare)


def test_captions_say_what_is_there():
    rng = np.random.default_rng(0)
    told = dict((question['content'], answer['content']) for question, answer in caption_dialogues(painted(), rng))
    assert sorted(told['Name the things.'].split(', ')) == ['blue box', 'red ball']
    assert sorted(told['Name the kinds and colours.'].split(', ')) == ['ball red', 'box blue']
    assert '(0.14, 0.17) red ball' in told['Name places with their things.']
    assert 'blue box (0.82, 0.76)' in told['Name the things with their places.']
    nothing = Picture('empty', painted().frame, np.zeros_like(painted().instances), painted().captions)
    assert caption_dialogues(nothing, rng) == ()


def test_stills_never_move(tmp_path):
    preset = load_preset('tiny', SMALL)
    data = keep_base_clips(tmp_path, preset, 3, 5)
    tokenizer = train_tokenizer(corpus(preset, 1), 800)
    model = build_vlm(preset, tokenizer)
    for seed in range(12):
        example, _, names = draw_lesson(model, tokenizer, data, LESSONS[-1], 1 + 3 * (seed % 2), preset, np.random.default_rng(seed))
        frames = example.videos[0].frames
        changed = [(frames[k] != frames[0]).any() for k in range(len(frames))]
        assert sum(changed) <= 1 or not changed[0]                      # at most the circle that is drawn in one frame
        assert len(names) == len(frames) // 2 * (56 // 28) ** 2


def test_naming_loss_is_least_at_the_truth():
    preset = load_preset('tiny', SMALL)
    tokenizer = train_tokenizer([' '.join(('', *NAMES))] * 3, 700)
    model, ids = build_vlm(preset, tokenizer), name_ids(tokenizer)
    names = torch.eye(len(NAMES))
    table = model.get_input_embeddings().weight.detach()[ids] * 50
    told_right, told_wrong = (token_naming_loss(model, table.roll(shift, 0), names, ids) for shift in (0, 1))
    assert told_right < told_wrong


def test_naming_tokens_leaves_all_other_words_alone():
    "With the whole vocabulary below the fraction, a long stage one pushed all other words the same way, until they were alike (LOG.md)."
    preset = load_preset('tiny', SMALL)
    tokenizer = train_tokenizer([' '.join(('', *NAMES))] * 3, 700)
    model, ids = build_vlm(preset, tokenizer), name_ids(tokenizer)
    words = model.get_input_embeddings().weight
    token_naming_loss(model, torch.randn(5, words.shape[1], generator=torch.Generator().manual_seed(1)), torch.eye(len(NAMES))[:5], ids).backward()
    moved = words.grad.abs().sum(1) > 0
    assert moved[ids].all() and moved.sum() == len(ids)


def test_interrupted_equals_uninterrupted(tmp_path):
    preset = load_preset('tiny', SMALL)
    tokenizer = train_tokenizer(corpus(preset, 1), 800)
    data = keep_base_clips(tmp_path, preset, 4, 2)
    kept = keep_base_clips(tmp_path, preset, 4, 2)
    assert np.array_equal(data.frames, kept.frames) and np.array_equal(data.truth, kept.truth) and data.captions == kept.captions
    plan = BasePlan(naming_steps=4, naming_pairs=3, lesson_steps=5, pictures=2, kept_pairs=1, save_every=1)
    whole, parts = build_vlm(preset, tokenizer), build_vlm(preset, tokenizer)
    train_stages(whole, tokenizer, data, plan, preset, tmp_path / 'whole', progress=False)

    class Stop(Exception): pass
    import track4d_ref.base as base
    save, calls = base.save_checkpoint, []
    def dies(*arguments):
        save(*arguments); calls.append(1)
        if len(calls) in (2, 6): raise Stop
    base.save_checkpoint = dies
    try:
        for _ in range(3):
            parts = build_vlm(preset, tokenizer)
            try: train_stages(parts, tokenizer, data, plan, preset, tmp_path / 'parts', progress=False)
            except Stop: continue
            break
    finally: base.save_checkpoint = save
    assert len(calls) == 9
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values()))


@pytest.fixture(scope='module')
def lesson(pictures):
    preset = load_preset('tiny', SMALL)
    tokenizer = train_tokenizer(corpus(preset, 1), 800)
    return build_vlm(preset, tokenizer), tokenizer


@pytest.mark.parametrize('terse', [0.0, 1.0])
def test_hints_foresee_the_truth_and_change_no_input(pictures, lesson, terse):
    model, tokenizer = lesson
    hinted = 0
    for seed, picture in enumerate(pictures):
        example, asked = slideshow([picture], 1, 10, np.random.default_rng(seed), modes=('caption', 'pixel'), terse=terse)
        plain, row = pack(model, tokenizer, example), pack_lesson(model, tokenizer, example, [question.hint for question in asked])
        assert torch.equal(plain.ids, row.ids) and torch.equal(plain.labels[plain.labels != IGNORE], row.labels[plain.labels != IGNORE])
        for number, question in enumerate(asked, 1):
            new = row.labels[(row.segments == number) & (plain.labels == IGNORE) & (row.labels != IGNORE)]
            if question.hint is None: assert len(new) == 0
            elif len(new): assert tokenizer.decode(new) == f' {question.hint[1]}'; hinted += 1
            if question.form == 'yes_no' and question.hint and question.answer == 'Yes':
                assert question.prompt[question.hint[0]:].startswith(question.hint[1])
    assert hinted > 15


def test_terse_questions_ask_the_same_in_fewer_words(pictures):
    asked = {terse: [question for seed, picture in enumerate(pictures) for question in ask_picture(picture, np.random.default_rng(seed), 8, terse=terse)]
             for terse in (0.0, 1.0)}
    assert all('Answer' not in question.prompt and 'in frame' not in question.prompt for question in asked[1.0])
    assert all(question.answer != 'Yes' or question.form == 'yes_no' for question in asked[1.0])
    words = {terse: np.mean([len(question.prompt.split()) for question in found]) for terse, found in asked.items()}
    assert words[1.0] < 0.6 * words[0.0]


def test_both_spellings_of_a_name_start_alike(lesson):
    model, tokenizer = lesson
    share_spellings(model, tokenizer)
    words = model.get_input_embeddings().weight
    assert all(torch.equal(words[tokenizer(name).input_ids[0]], words[tokenizer(f' {name}').input_ids[0]]) for name in NAMES)


def test_the_shipped_base_sees():
    "Free answers in words on unseen pictures beat the same model without the video."
    model, tokenizer = load_vlm(project_path('data_samples/base_tiny'))
    preset = load_preset('tiny', ('patch_size=7',))
    unseen = [picture for clip in simulate_clips(12, 8642, preset) for picture in pictures_of(clip, (0,))]
    right = {hidden: np.mean([row['correct'] for row in picture_rows(model, tokenizer, unseen, preset, 0, 8, hidden, ('free',), ('color', 'kind'))])
             for hidden in (False, True)}
    print(f'colours and kinds: {right[False]:.1%} seeing, {right[True]:.1%} blind')
    assert right[False] > right[True] + 0.1
