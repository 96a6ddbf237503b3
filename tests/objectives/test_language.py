import socket

import pytest

from jaxmerge.errors import InputError
from jaxmerge.objectives.language import check_language, is_in_language


@pytest.mark.parametrize(
    "text, language, right",
    [
        ("答え は 3 個 です 。", "ja", True), ("太郎はリンゴを5個持っています。", "ja", True),
        ("x = 12345678; 答えは三です", "ja", True),
        ("the answer is 5 .", "ja", False), ("the answer is 5 .", "en", True), ("5", "ja", False),
        ("3 個 です", "ja", False),
        ("", "ja", False), ("12 + 30 = 42 !!", "en", False),
    ],
)  # fmt: skip
def test_gate(text: str, language: str, right: bool) -> None:
    assert is_in_language(text, language) is right


def test_digits_and_symbols_do_not_matter() -> None:
    noise = "0123456789 $%&=()+-* " * 30
    assert is_in_language(noise + "答えは三個です" + noise, "ja")


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxmerge.objectives import language

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    language._detector.cache_clear()
    assert is_in_language("答えは三個です", "ja")


def test_every_code_of_the_model_is_known() -> None:
    for code in ("ja", "en", "zh", "pt", "als"):
        check_language(code, "x")
    with pytest.raises(InputError, match="x: unknown language 'japanese'"):
        check_language("japanese", "x")
