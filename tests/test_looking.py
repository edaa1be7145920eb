"""What the app does when it is pointed at and asked: every number against the clip's own geometry."""
import dataclasses
import shutil

import numpy as np
import pytest
from handmade_clip import make_clip

from track4d_ref.clips import load_clip
from track4d_ref.looking import (Reply, Track4DTalker, asked_times_s, clip_choices, first_thing, load_talker, model_choices, named_object,
                                 open_choice, plan_figure, point_at, point_at_object, suggestions, track_svg)
from track4d_ref.presets import load_preset
from track4d_ref.storage import InputError, project_path
from track4d_ref.tracks import track_points


@pytest.fixture(scope='module')
def street():
    return load_clip(project_path('data_samples/street'))


def test_any_pixel_is_where_both_tracks_meet(street):
    rng = np.random.default_rng(0)
    for _ in range(20):
        frame, uv_px = int(rng.integers(16)), rng.uniform((0, 130), (420, 252))
        pointed = point_at(street, frame, uv_px)
        assert np.allclose(pointed.visual_px[frame], uv_px) and np.allclose(pointed.true_px[frame], uv_px)
        inside = street.view.instances[frame, int(uv_px[1]), int(uv_px[0])]
        assert pointed.object_id == inside and (pointed.caption == 'the background') == (inside == 0)
        if not inside: assert np.allclose(pointed.true_px, uv_px) and np.ptp(pointed.xyz_world_m, 0).max() == 0


def test_clicks_on_the_rim_and_outside_are_moved_inside(street):
    for uv_px in ((420, 252), (-3, 200), (1e9, 251)):
        assert np.isfinite(point_at(street, 3, uv_px).visual_px[3]).all()


def test_without_depth_the_nearest_centre_is_meant():
    clip = make_clip()
    view = dataclasses.replace(clip.view, depth_m=None)
    clip = dataclasses.replace(clip, views=(view, *clip.views[1:]))
    item = next(item for item in clip.objects if item.present.any())
    frame = int(np.flatnonzero(item.present)[0])
    centre = track_points(clip, item.centers_m[:, None]).uv_px[frame, 0]
    assert point_at(clip, frame, centre).object_id == item.id
    empty = dataclasses.replace(clip, objects=())
    assert first_thing(empty) is None
    with pytest.raises(InputError, match='nothing to point at'): point_at(empty, 0, (1, 1))


def test_a_centre_counts_as_seen_where_its_object_is(street):
    car = point_at_object(street, 2, 0)
    assert car.caption == 'black car' == first_thing(street).caption and car.seen.all()


def test_svg_has_a_line_per_step_and_a_hollow_end_where_hidden():
    uv_px = np.array([[1.0, 2], [3, 4], [np.nan, np.nan], [5, 6], [7, 8]])
    seen = np.array([1, 1, 0, 1, 0], bool)
    assert track_svg(uv_px, seen, 4, 140, 'red').count('<line') == 4 and 'fill="white"' in track_svg(uv_px, seen, 4, 140, 'red')
    assert 'fill="red"' in track_svg(uv_px, seen, 3, 140, 'red') and '<circle' not in track_svg(uv_px, seen, 2, 140, 'red')


def test_times_named_in_a_question_are_the_times_asked_about(street):
    assert np.allclose(asked_times_s(street, 'from 1.2 s to 0.3 s?'), [0.3, 0.6, 0.9, 1.2])
    assert np.allclose(asked_times_s(street, 'Where is it at 0.3 s?')[[0, -1]], [0, 1.88], atol=0.01)
    assert asked_times_s(street, 'from 1 s to 900 s')[-1] <= 1.88


def test_one_name_or_none(street):
    assert named_object(street, 'Is the Orange car still?') == 1
    assert named_object(street, 'the orange car or the black car?') is None and named_object(street, 'scar black cars') is None


def test_choices_and_what_is_wrong_with_them(tmp_path):
    assert list(clip_choices())[0] == 'street' and len(clip_choices()) >= 5
    shutil.copytree(project_path('data_samples/street'), tmp_path / 'mine' / 'street')
    found = clip_choices([tmp_path / 'mine'])
    assert next(iter(found)) == str(tmp_path / 'mine' / 'street')                                # one's own first
    assert found['street'] == project_path('data_samples/street') and open_choice(found[str(tmp_path / 'mine' / 'street')]).frames_count == 16
    with pytest.raises(InputError, match='no clip folder here'): clip_choices([tmp_path / 'nowhere'])
    with pytest.raises(InputError, match='no checkpoint'): model_choices([tmp_path])
    assert next(iter(model_choices())) == 'tour_model' and 'vision_tiny' not in model_choices()


def test_the_shipped_model_answers_the_suggested_questions(street):
    preset = load_preset('tiny')
    ask, known = load_talker(model_choices()['tour_model'], preset), suggestions(street)
    replies = [ask(street, question) for question in known]
    print([(reply.text, truth) for reply, truth in zip(replies, known.values())])
    assert len(known) >= 3 and all(reply.text and not len(reply.xyz_m) for reply in replies)
    assert known == suggestions(street)


def test_a_model_with_a_decoder_returns_places_and_keeps_its_state(street, tmp_path):
    from track4d_ref.track4d import Track4D, save_track4d
    from track4d_ref.vlm import load_vlm
    preset = load_preset('tiny')
    model = Track4D(*load_vlm(project_path('data_samples/tour_model')))
    save_track4d(model, tmp_path / 'track4d')
    assert next(iter(model_choices([tmp_path / 'track4d']))) == 'track4d'
    talker = load_talker(model_choices([tmp_path / 'track4d'])['track4d'], preset)
    assert isinstance(talker, Track4DTalker)
    first = talker(street, 'Follow the black car from 0 s to 1.5 s.')
    assert len(first.xyz_m) in (0, 4) and len(talker.own) == 1
    talker(street, 'And where is it between 0.5 s and 1 s?')
    assert len(talker.own) == 2 and talker.clip_id == street.id
    other = load_clip(project_path('data_samples/clips/clip_000001'))
    talker(other, 'Where is it?')
    assert len(talker.own) == 1 and talker.clip_id == other.id


def test_the_plan_says_whose_path_it_is(street):
    reply = Reply('', np.linspace(0, 1, 4), np.ones((4, 3)))
    for shown, legend in ((plan_figure(street, 0), []), (plan_figure(street, 3, point_at_object(street, 2, 3), reply), ['black car: true path', "the model's path"])):
        assert shown.axes[0].get_legend_handles_labels()[1] == legend


def test_the_street_is_the_clip_of_the_front_page(street):
    from track4d_ref.tour import hero_clip
    made = hero_clip(load_preset('tiny'))
    assert (made.view.frames == street.view.frames).all() and np.allclose(made.view.w2c, street.view.w2c)
