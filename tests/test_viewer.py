"""Sliders, swung cameras, pages and animations."""
import dataclasses
import subprocess
import sys

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade_clip import HEIGHT, WIDTH, make_clip
from PIL import Image

from track4d_ref.cameras import camera_center, look_at, transform
from track4d_ref.storage import InputError
from track4d_ref.viewer import (camera_slider, draw_orbit, frame_points, html_slider, motion_frame, orbit, render_points,
                                slider, swung_camera, write_gif, write_rerun)
from track4d_ref.viz import figure_png


def numbered(index):
    figure, axis = plt.subplots(figsize=(2, 1))
    axis.bar([0], [index + 1])
    axis.set_ylim(0, 9)
    return figure


def test_slider_shows_what_its_function_draws_and_draws_it_once():
    calls = []
    picture, control = slider(lambda index: calls.append(index) or numbered(index), 4, start=1, dpi=50).children
    for index in (3, 0, 3, 1): control.value = index
    assert calls == [1, 3, 0] and picture.value == figure_png(numbered(1), 50) and control.max == 3


def test_points_seen_by_their_own_camera_give_the_picture_back():
    view = make_clip().view
    xyz, colors = frame_points(view, 4)
    image = render_points(view.K, view.w2c[4], xyz, colors, HEIGHT, WIDTH, dot_px=1)
    known = np.isfinite(view.depth_m[4])
    assert (image[known] == view.frames[4][known]).all() and (image[~known] == 255).all()
    with pytest.raises(InputError, match='frames and depth'): frame_points(dataclasses.replace(view, depth_m=None), 0)


def test_near_points_cover_far_ones_and_strays_are_ignored():
    K, w2c = make_clip().view.K, np.eye(4)
    xyz = np.array([[0.0, 0, 2], [0, 0, 5], [0, 0, -1], [1e9, 0, 1e-3], [50, 0, 2]])
    colors = np.arange(15, dtype=np.uint8).reshape(5, 3)
    image = render_points(K, w2c, xyz, colors, HEIGHT, WIDTH)
    assert {tuple(color) for color in image[(image != 255).any(-1)].tolist()} == {(0, 1, 2)}
    assert (image != 255).any(-1).sum() == 4


def test_orbit_keeps_the_distance_and_turns_the_right_way():
    w2c, pivot, up = look_at((0.5, -6, 2), (0.2, 0, 1), (0, 0, 1), 0.2), np.array([0.2, 0, 1]), np.array([0.0, 0, 1])
    turned = orbit(w2c, pivot, up, np.pi / 2)
    assert np.allclose(camera_center(turned), (0.2 + 6, 0.3, 2))          # counterclockwise from above
    assert np.allclose(transform(turned, pivot[None]), transform(w2c, pivot[None]))
    assert np.allclose(orbit(turned, pivot, up, -np.pi / 2), w2c)


def test_camera_slider_starts_at_the_real_camera():
    clip = make_clip()
    assert np.allclose(swung_camera(clip, 2, 0.0), clip.view.w2c[2])
    picture, control = camera_slider(clip, 2, count=3).children
    assert control.value == 1 and picture.value == figure_png(draw_orbit(clip, 2, 0.0), 80)


def test_page_holds_every_picture_and_is_the_same_every_time():
    page = html_slider(numbered, 3, 'bars <growing>', dpi=40)
    assert page.count('data:image/png') == 4 and 'max="2"' in page and '&lt;growing&gt;' in page
    assert page == html_slider(numbered, 3, 'bars <growing>', dpi=40)
    assert 'src="http' not in page


def test_animation_has_all_frames_and_rests_at_the_end(tmp_path):
    clip = make_clip()
    uv = np.random.default_rng(0).uniform(5, 50, (clip.frames_count, 2, 2))
    write_gif(tmp_path / 'a.gif', lambda frame: motion_frame(clip, frame, uv, uv, ['red', 'blue']), clip.frames_count, dpi=40)
    with Image.open(tmp_path / 'a.gif') as animation:
        assert animation.n_frames == clip.frames_count
        durations = []
        for frame in range(animation.n_frames):
            animation.seek(frame)
            durations.append(animation.info['duration'])
    assert durations[-1] > 3 * durations[0]
    assert list(tmp_path.iterdir()) == [tmp_path / 'a.gif']


def test_a_clip_for_rerun_is_whole_and_passes_its_own_check(tmp_path):
    pytest.importorskip('rerun', reason='the extra `viewer` is not installed')
    clip = make_clip()
    write_rerun(tmp_path / 'clip.rrd', clip)
    assert list(tmp_path.iterdir()) == [tmp_path / 'clip.rrd']
    command = [sys.executable, '-m', 'rerun_cli', 'rrd']
    subprocess.run([*command, 'verify', str(tmp_path / 'clip.rrd')], check=True, capture_output=True)
    told = subprocess.run([*command, 'print', str(tmp_path / 'clip.rrd')], check=True, capture_output=True, text=True).stdout
    for view in clip.views: assert f'/world/{view.name}/picture' in told and f'/world/{view.name}/depth' in told
    for item in clip.objects: assert f'/world/objects/{item.id}/box' in told


def test_missing_rerun_is_said_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(InputError, match=r'track4d_ref\[viewer\]'): write_rerun(tmp_path / 'clip.rrd', make_clip())
    assert not list(tmp_path.iterdir())
