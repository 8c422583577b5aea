"""Masks on what a kernel reads, made up for by what it still reads.

Let `C` be the second moment of the inputs of a kernel's matrix `W`, and the
mask `d` of an input the probability that it is there. In the mean over what is
there and what is not, the matrix that comes closest to `W` acts on inputs as

    W(d) = (C + (1/d - 1) B)^-1 C W = W - T (1 - d) W,
    T = (C + (1/d - 1) B)^-1 B / d,

where `B` holds the entries of `C` between inputs that come and go together.
Where all masks are 0 or 1 this is the least-squares fit of the inputs that
stay to what `W` wrote: layer-wise reconstruction, which `compress` does to a
plan, inside the search. Where inputs are not correlated, `T` is the identity
and `W(d) = d W`, the masked kernel of the paper's Eqs. 9 and 10.
"""

from keras import ops


def compensation(moment, together, mask):
    """Computes how the inputs that stay make up for those that go.

    Args:
        moment: Tensor of shape `(inputs, inputs)`, their second moment `C`,
            positive definite.
        together: Boolean array of shape `(inputs, inputs)`, which inputs have
            their mask in common.
        mask: Tensor of shape `(inputs,)`, values in `(0, 1]`.

    Returns:
        Tensor of shape `(inputs, inputs)`, the `T` of this module: if masks
        change by the factors `1 + r`, the compensated matrix `W(d)` changes
        by `T r W(d)`, to first order.

    Example:

    >>> compensation(np.eye(2), np.eye(2, dtype=bool), np.array([1.0, 0.5]))
    array([[1., 0.], [0., 1.]])

    Reference: least squares under dropout, as in Srivastava et al., Dropout,
    2014, section 9.1, for inputs that are dropped in groups.
    """
    shared = ops.where(together, moment, 0.0)
    return ops.solve(moment + shared * (1 / mask - 1), shared / mask)


def weigh(moment, matrix):
    """Multiplies each block of rows of a matrix by another matrix.

    Args:
        moment: Tensor of shape `(n, n)`, or None for an identity.
        matrix: Tensor of shape `(blocks * n, columns)`.

    Returns:
        Tensor of the shape of `matrix`.

    Example:

    >>> weigh(2 * np.eye(2), np.ones((4, 1)))[:, 0]
    array([2., 2., 2., 2.])
    """
    if moment is None:
        return matrix
    blocks = ops.reshape(matrix, (-1, moment.shape[0], matrix.shape[1]))
    return ops.reshape(ops.matmul(moment, blocks), matrix.shape)
