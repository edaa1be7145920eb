"""Patches in Qwen2.5-VL's order, exact counts, refusals that help, and time in the positions."""
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from track4d_ref.patches import (PIXEL_MEAN, PIXEL_SPREAD, PatchLayout, fitting_size, pick_frames, refuse_if_too_long, resize_frames,
                                 rope_positions, video_positions, video_to_patches)
from track4d_ref.storage import InputError

LAYOUT = PatchLayout()


def film(frames, height, width, seed=0): return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize('frames, height, width', [(2, 28, 84), (6, 84, 56), (4, 112, 140)])
def test_order_one_pixel_at_a_time(frames, height, width):
    video, (t, h, w) = film(frames, height, width), LAYOUT.grid(frames, height, width)
    patches = video_to_patches(video, LAYOUT).reshape(t, h // 2, w // 2, 2, 2, 3, 2, 14, 14)
    rng = np.random.default_rng(1)
    for _ in range(200):
        time, row, column, colour = rng.integers(frames), rng.integers(height), rng.integers(width), rng.integers(3)
        (block_row, inner_row), (block_column, inner_column) = divmod(row // 14, 2), divmod(column // 14, 2)
        found = patches[time // 2, block_row, block_column, inner_row, inner_column, colour, time % 2, row % 14, column % 14]
        assert abs(float(found) - (video[time, row, column, colour] / 255 - PIXEL_MEAN[colour]) / PIXEL_SPREAD[colour]) < 1e-5


def test_batch_equals_single():
    pair = np.stack([film(4, 56, 84, 1), film(4, 56, 84, 2)])
    assert torch.equal(video_to_patches(pair, LAYOUT)[1], video_to_patches(pair[1], LAYOUT))


def test_image_processor_of_the_library_agrees():
    module = pytest.importorskip('transformers.models.qwen2_vl.image_processing_pil_qwen2_vl', reason='no pillow image processor')
    from PIL import Image
    still = film(1, 170, 211)[0]
    theirs = module.Qwen2VLImageProcessorPil(size={'shortest_edge': 3136, 'longest_edge': 28 * 28 * 30})(images=[Image.fromarray(still)], return_tensors='pt')
    size = fitting_size(170, 211, 3136, 28 * 28 * 30, LAYOUT)
    ours = video_to_patches(resize_frames(np.stack([still, still]), *size), LAYOUT)
    assert torch.allclose(ours, theirs['pixel_values'], atol=1e-6)
    assert theirs['image_grid_thw'].tolist() == [list(LAYOUT.grid(2, *size))]


def test_video_processor_of_the_library_agrees():
    pytest.importorskip('torchvision', reason='the library needs torchvision for its video processor')
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    video = film(6, 84, 112)
    theirs = Qwen2VLVideoProcessor(do_resize=False)(videos=[torch.as_tensor(video).permute(0, 3, 1, 2)], return_tensors='pt')
    assert torch.allclose(video_to_patches(video, LAYOUT), theirs['pixel_values_videos'], atol=1e-5)


def test_whole_processor_of_the_library_agrees():
    pytest.importorskip('torchvision', reason='the library needs torchvision for its video processor')
    from transformers import Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from track4d_ref.patches import Video
    from track4d_ref.presets import load_preset
    from track4d_ref.tokens import prefix_ids, train_tokenizer
    from track4d_ref.vlm import build_vlm, video_inputs, video_token_counts
    tokenizer = train_tokenizer(['How does the camera move?'] * 5, 300)
    model = build_vlm(load_preset('tiny'), tokenizer)
    videos = (Video('a', film(6, 84, 112), 0.5), Video('b', film(4, 56, 140, 1), 0.5))
    processor = Qwen2_5_VLProcessor(Qwen2VLImageProcessorPil(), tokenizer, Qwen2VLVideoProcessor(do_resize=False))
    text = '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n' + 2 * '<|vision_start|><|video_pad|><|vision_end|>'
    theirs = processor(text=[text], videos=[torch.as_tensor(video.frames).permute(0, 3, 1, 2) for video in videos],
                       video_metadata=[dict(total_num_frames=len(video.frames), fps=2.0) for video in videos],
                       do_sample_frames=False, return_tensors='pt')
    ours = video_inputs(model, videos)
    assert theirs['input_ids'][0].tolist() == prefix_ids(tokenizer, video_token_counts(model, videos))
    assert torch.allclose(theirs['pixel_values_videos'], ours['pixel_values_videos'], atol=1e-5)
    assert theirs['video_grid_thw'].tolist() == ours['video_grid_thw'].tolist()
    assert [float(value) for value in theirs['second_per_grid_ts']] == ours['second_per_grid_ts'].tolist()


@pytest.mark.parametrize('shape, fix', [((5, 56, 84), 'use 4 frames'), ((1, 56, 84), 'use 2 frames'), ((4, 50, 84), '56 x 84'),
                                        ((4, 56, 100), '56 x 112'), ((4, 9, 28), '28 x 28'), ((0, 56, 84), 'use 2 frames')])
def test_uneven_videos_are_refused_with_the_fix(shape, fix):
    with pytest.raises(InputError, match='clip 9') as caught: LAYOUT.grid(*shape, 'clip 9')
    assert fix in str(caught.value)


@given(st.integers(1, 12), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_counts(pairs, rows, columns):
    assert LAYOUT.tokens(LAYOUT.grid(2 * pairs, 28 * rows, 28 * columns)) == pairs * rows * columns


@given(st.integers(20, 2000), st.integers(20, 2000))
@settings(max_examples=60, deadline=None)
def test_fitting_size_stays_within_limits(height, width):
    if max(height, width) / min(height, width) > 30: return
    fitted = fitting_size(height, width, 56 * 56, 28 * 28 * 200, LAYOUT)
    assert all(side % 28 == 0 and side > 0 for side in fitted) and 56 * 56 <= fitted[0] * fitted[1] <= 28 * 28 * 200


def test_frames_are_spread_and_keep_both_ends():
    assert pick_frames(21, 4).tolist() == [0, 7, 13, 20] and pick_frames(5, 5).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match='has 5'): pick_frames(5, 6)


def test_too_long_names_sample_and_fix():
    with pytest.raises(InputError, match='sample kitti.*9,216.*8,192.*frames'): refuse_if_too_long('kitti', 9216, 310, 8192)
    assert refuse_if_too_long('kitti', 7000, 1192, 8192) is None


@pytest.mark.parametrize('shape', [(36, 448, 896), (32, 448, 448), (64, 112, 1120)])
def test_the_fix_it_names_is_enough(shape):
    layout, text = PatchLayout(), 310
    tokens = lambda frames, height, width: layout.tokens(layout.grid(frames, height, width))
    with pytest.raises(InputError) as caught: refuse_if_too_long('a', tokens(*shape), text, 1500, layout, shape)
    frames, _, height, width, new_height, new_width = map(int, re.findall(r'\d+', str(caught.value).split('; ')[1]))
    assert (height, width) == shape[1:] and tokens(frames, *shape[1:]) + text <= 1500
    assert tokens(shape[0], new_height, new_width) + text <= 1500


@pytest.mark.parametrize('visual, text', [(0, 900), (64, 900)])
def test_too_much_text_is_told(visual, text):
    with pytest.raises(InputError, match='shorten its text'): refuse_if_too_long('a', visual, text, 800)


def test_positions_by_hand():
    flags = [False, False] + [True] * 6 + [False]
    positions = rope_positions(flags, [(1, 4, 6)], [1.0], 4)
    assert positions.tolist() == [[0, 1, 2, 2, 2, 2, 2, 2, 5], [0, 1, 2, 2, 2, 3, 3, 3, 5], [0, 1, 2, 3, 4, 2, 3, 4, 5]]


@pytest.mark.parametrize('rate', [2, 3, 4, 25])
def test_twice_the_frame_rate_halves_the_time(rate):
    slow, fast = (video_positions((5, 4, 6), 11, seconds, rate)[0] - 11 for seconds in (2.0, 1.0))
    assert (slow == 2 * fast).all() and fast.max() == 4 * rate
