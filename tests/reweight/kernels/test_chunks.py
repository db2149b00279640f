"""Chunks are mapped in order, loaded late, and refused when they can be read only once."""

import pytest

from reweight.kernels.chunks import map_chunks, row_slices


def test_slices_cover_all_rows_once():
    rows = list(range(20_001))
    assert [i for part in row_slices(20_001) for i in rows[part]] == rows
    assert list(row_slices(0)) == []


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_sequences_of_chunks_and_of_loaders_are_mapped_in_order(n_jobs):
    chunks = [[1, 2], [3], [4, 5]]
    loaders = [lambda chunk=chunk: chunk for chunk in chunks]
    assert list(map_chunks(sum, chunks, n_jobs=n_jobs)) == [3, 3, 9]
    assert list(map_chunks(sum, loaders, n_jobs=n_jobs)) == [3, 3, 9]


def test_a_callable_is_read_one_chunk_at_a_time():
    alive = []

    def chunks():
        for i in range(3):
            alive.append(i)
            yield [i]

    results = map_chunks(sum, chunks)
    assert next(results) == 0
    assert alive == [0]


def test_an_iterator_is_refused():
    with pytest.raises(TypeError, match="can be read only once"):
        next(map_chunks(sum, iter([[1]])))
