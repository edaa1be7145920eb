import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from track4d_ref.storage import (InputError, atomic_folder, atomic_path, inside, project_path, read_arrays, read_json,
                                 write_arrays, write_json)


def test_atomic_path_keeps_the_old_file_when_the_block_dies(tmp_path):
    target = tmp_path / 'a.txt'
    target.write_text('old')
    with pytest.raises(RuntimeError), atomic_path(target) as partial:
        partial.write_text('half')
        raise RuntimeError
    assert target.read_text() == 'old' and os.listdir(tmp_path) == ['a.txt']


def test_atomic_folder_replaces_a_full_folder(tmp_path):
    for text in ('first', 'second'):
        with atomic_folder(tmp_path / 'clip') as partial: (partial / text).write_text(text)
    assert os.listdir(tmp_path) == ['clip'] and os.listdir(tmp_path / 'clip') == ['second']


def test_atomic_folder_keeps_the_old_one_when_the_block_dies(tmp_path):
    with atomic_folder(tmp_path / 'clip') as partial: (partial / 'x').write_text('old')
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / 'clip') as partial: raise RuntimeError
    assert (tmp_path / 'clip' / 'x').read_text() == 'old' and os.listdir(tmp_path) == ['clip']


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.from_regex(r'[a-z]{1,8}', fullmatch=True),
                       hnp.arrays(st.sampled_from([np.uint8, np.int32, np.float64, np.bool_]), hnp.array_shapes(max_dims=3, max_side=4)), max_size=4))
def test_arrays_round_trip_to_equal_bytes(tmp_path_factory, arrays):
    folder = tmp_path_factory.mktemp('arrays')
    write_arrays(folder / 'a.npz', **arrays)
    back = read_arrays(folder / 'a.npz')
    assert back.keys() == arrays.keys()
    for name in arrays:
        assert back[name].dtype == arrays[name].dtype and np.array_equal(back[name], arrays[name], equal_nan=back[name].dtype.kind == 'f')
    write_arrays(folder / 'b.npz', **dict(reversed(arrays.items())))
    assert (folder / 'a.npz').read_bytes() == (folder / 'b.npz').read_bytes()


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / 'evil.npz', x=np.array([{'a': 1}], dtype=object))
    with pytest.raises(InputError, match='evil.npz'): read_arrays(tmp_path / 'evil.npz')
    (tmp_path / 'evil2.npz').write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match='evil2.npz'): read_arrays(tmp_path / 'evil2.npz')


@pytest.mark.parametrize('cut', [0, 1, 30, 200, 500])
def test_truncated_arrays_are_refused(tmp_path, cut):
    write_arrays(tmp_path / 'a.npz', x=np.random.default_rng(0).normal(size=(30, 40)))
    (tmp_path / 'a.npz').write_bytes((tmp_path / 'a.npz').read_bytes()[:cut])
    with pytest.raises(InputError, match='a.npz'): read_arrays(tmp_path / 'a.npz')


@pytest.mark.parametrize('text', ['', '{', '[1,', '\x00', '{"a": }', '[' * 200_000])
def test_broken_json_is_refused(tmp_path, text):
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(InputError, match='a.json'): read_json(tmp_path / 'a.json')


def test_json_refuses_nan_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError): write_json(tmp_path / 'a.json', {'x': float('nan')})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('path', ['../x', 'a/../../x', '/etc/passwd', '..', 'a\0b'])
def test_paths_do_not_leave_their_root(tmp_path, path):
    with pytest.raises(InputError): inside(tmp_path, path)


def test_links_do_not_lead_outside(tmp_path):
    (tmp_path / 'root').mkdir()
    (tmp_path / 'root' / 'link').symlink_to(tmp_path)
    with pytest.raises(InputError, match='leaves'): inside(tmp_path / 'root', 'link/secret')
    assert inside(tmp_path / 'root', 'a/./b') == (tmp_path / 'root' / 'a' / 'b').resolve()


def test_project_path_knows_the_settings():
    assert project_path('settings.ini').is_file()
    with pytest.raises(InputError, match='clone'): project_path('nothing-of-that-name')
