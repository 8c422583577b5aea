import numpy as np

from keras_df.search.rounding import rank_scores


def test_a_score_of_half_is_at_the_threshold():
    sigma = np.array([0.1, 0.2, 0.5, 1.0]) * 7
    scores = rank_scores(sigma, threshold=0.3)
    assert (scores > 0.5).sum() == 2
    assert (np.diff(scores) < 0).all()


def test_scores_do_not_depend_on_the_scale_of_the_kernel():
    sigma = np.array([0.1, 0.2, 0.5, 1.0])
    np.testing.assert_allclose(
        rank_scores(sigma, 0.3), rank_scores(1e3 * sigma, 0.3)
    )


def test_without_a_threshold_large_singular_values_still_come_first():
    scores = rank_scores(np.array([0.0, 0.2, 1.0]), threshold=0.0)
    assert (np.diff(scores) < 0).all()
    assert scores[-1] == 0


def test_a_zero_kernel_scores_zero():
    assert (rank_scores(np.zeros(3), 0.0) == 0).all()
