import re

from src.reports.naming import LONGEST_STEM, as_text, canonical, file_stem, unused


def test_file_stems_are_short_plain_and_tell_long_texts_apart():
    assert file_stem("relaxed_weights-GCNN, alpha=0.1, text=a/b é") == (
        "relaxed_weights-GCNN_alpha=0.1_text=a_b"
    )
    long = [file_stem("x" * 3000 + end) for end in "ab"]
    assert long[0] != long[1]
    assert all(re.fullmatch(r"[A-Za-z0-9.=_-]+", stem) for stem in long)
    assert {len(stem) for stem in long} == {LONGEST_STEM}


def test_equal_values_have_equal_texts():
    assert canonical({"b": 1, "a": [1.0]}) == canonical({"a": [1], "b": 1.0})
    assert len({canonical(value) for value in (1, True, "1", None, [1])}) == 5
    assert [as_text(v) for v in (1e-4, True, None, [1, 2], "x")] == [
        *("0.0001", "true", "null", "[1, 2]", "x"),
    ]


def test_a_used_name_has_a_number():
    names = []
    for _ in range(3):
        names.append(unused("CNN", names))
    assert names == ["CNN", "CNN (2)", "CNN (3)"]
