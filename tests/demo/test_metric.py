import pytest

from jaxmerge.demo.metric import japanese_answer


@pytest.mark.parametrize(
    "output, right",
    [
        ("6 - 1 = 5 。 答え は 5 個 です 。", 1.0),
        ("答え は 5 個 です 。", 1.0),
        (" 答え は 5 個 です 。 ", 1.0),
        ("6 - 1 = 5 。 答え は 6 個 です 。", 0.0),
        ("6 - 1 = 5 . the answer is 5 .", 0.0),
        ("6 - 1 = 5 個 です 。", 0.0),
        ("how 6 - 1 = 5 。 答え は 5 個 です 。", 0.0),
        ("答え は 5 個 です 。 答え は", 0.0),
        ("答え は 15 個 です 。", 0.0),
        ("", 0.0),
    ],
)
def test_right_means_japanese_complete_and_the_right_number(output, right):
    assert japanese_answer(output, {"number": 5}) == right
