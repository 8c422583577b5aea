import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import ops

from keras_df.ops.matricization import SCHEME_1
from keras_df.ops.matricization import SCHEME_2
from keras_df.ops.matricization import dematricize
from keras_df.ops.matricization import matricize


@st.composite
def unfoldings(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    order = draw(st.permutations(range(len(shape))))
    cut = draw(st.integers(0, len(shape)))
    return tuple(shape), tuple(order[:cut]), tuple(order[cut:])


def kernel_of(shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@settings(max_examples=25, deadline=None)
@given(unfoldings())
def test_dematricize_inverts_matricize(unfolding):
    shape, rows, columns = unfolding
    tensor = kernel_of(shape)
    matrix = matricize(tensor, rows, columns)
    assert len(matrix.shape) == 2
    np.testing.assert_array_equal(
        dematricize(matrix, shape, rows, columns), tensor
    )


@settings(max_examples=25, deadline=None)
@given(unfoldings())
def test_matricize_inverts_dematricize(unfolding):
    shape, rows, columns = unfolding
    height = int(np.prod([shape[axis] for axis in rows]))
    matrix = kernel_of((height, int(np.prod(shape)) // height))
    tensor = dematricize(matrix, shape, rows, columns)
    np.testing.assert_array_equal(matricize(tensor, rows, columns), matrix)


def test_scheme_1_puts_the_window_and_inputs_into_rows():
    kernel = kernel_of((3, 2, 4, 5))
    matrix = np.asarray(matricize(kernel, *SCHEME_1))
    assert matrix.shape == (24, 5)
    for i, j, c, o in np.ndindex(kernel.shape):
        assert matrix[(i * 2 + j) * 4 + c, o] == kernel[i, j, c, o]


def test_scheme_2_puts_height_and_inputs_into_rows():
    kernel = kernel_of((3, 2, 4, 5))
    matrix = np.asarray(matricize(kernel, *SCHEME_2))
    assert matrix.shape == (12, 10)
    for i, j, c, o in np.ndindex(kernel.shape):
        assert matrix[i * 4 + c, o * 2 + j] == kernel[i, j, c, o]


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_scheme_1_factorization_is_a_window_and_a_pointwise(padding):
    images, first, second = kernel_of((2, 6, 7, 4)), (36, 2), (2, 5)
    first, second = kernel_of(first), kernel_of(second)
    kernel = dematricize(first @ second, (3, 3, 4, 5), *SCHEME_1)
    middle = ops.conv(images, first.reshape(3, 3, 4, 2), padding=padding)
    pair = ops.conv(middle, second.reshape(1, 1, 2, 5))
    whole = ops.conv(images, kernel, padding=padding)
    np.testing.assert_allclose(pair, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_scheme_2_factorization_is_a_column_and_a_row(padding):
    images = kernel_of((2, 6, 7, 4))
    first, second = kernel_of((4 * 3, 2)), kernel_of((2, 5 * 3))
    kernel = dematricize(first @ second, (3, 3, 4, 5), *SCHEME_2)
    column = first.reshape(3, 1, 4, 2)
    row = second.reshape(2, 5, 3, 1).transpose(3, 2, 0, 1)
    middle = ops.conv(images, column, padding=padding)
    pair = ops.conv(middle, row, padding=padding)
    whole = ops.conv(images, kernel, padding=padding)
    np.testing.assert_allclose(pair, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "rows, columns",
    [((0, 1), (3,)), ((0, 1, 2), (2, 3)), ((0, 1, 2), (4,)), ((), (0, 1))],
)
def test_axes_that_are_no_partition_are_refused(rows, columns):
    with pytest.raises(ValueError, match="every axis of the tensor exactly"):
        matricize(np.ones((2, 2, 2, 2)), rows, columns)
    with pytest.raises(ValueError, match="every axis of the tensor exactly"):
        dematricize(np.ones((8, 2)), (2, 2, 2, 2), rows, columns)
