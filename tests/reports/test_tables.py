"""Cells, and that all formats hold the same ones."""

import csv
import io
import re

import pytest

from src.reports import tables
from src.reports.statistics import Estimate
from src.reports.tables import Table, number

HARD = r"a_b 100% & #1 $x^2$ {y} ~ \z <i> ± | − " + '"q", end'


def test_all_formats_hold_the_same_cells():
    table = Table("t", "What it holds", ("name", "value"), ((HARD, "1"), ("plain", "-")))
    cells = [list(table.columns), *map(list, table.rows)]
    assert list(csv.reader(io.StringIO(table.csv()))) == cells
    assert read_markdown(table.markdown()) == cells
    assert read_latex(table.latex()) == cells


def read_markdown(text):
    head, _, *body = text.splitlines()
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in (head, *body)]
    return [[re.sub(r"\\(.)", r"\1", cell).strip() for cell in line] for line in lines]


def read_latex(text):
    """What the characters stand for, each once and in one pass."""
    back = {code: character for character, code in tables.LATEX.items()}
    pattern = "|".join(re.escape(code) for code in sorted(back, key=len, reverse=True))
    lines = [line[: -len(r" \\")] for line in text.splitlines() if line.endswith(r" \\")]
    return [
        [re.sub(pattern, lambda m: back[m[0]], cell) for cell in line.split(" & ")]
        for line in lines
    ]


def test_latex_is_a_plain_tabular_with_every_special_character_escaped():
    text = Table("t", "c", ("a",), ((HARD,),)).latex()
    (line,) = [line for line in text.splitlines() if line.startswith("a\\_b")]
    assert r"100\% \& \#1 \$x\textasciicircum{}2\$ \{y\} \textasciitilde{}" in line
    assert text.startswith("% c\n\\begin{tabular}{l}\n\\hline\n")


def test_a_cell_of_several_lines_stays_in_its_row():
    table = Table("t", "c", ("a", "b"), (("one\ntwo", "3"),))
    assert table.markdown().splitlines()[2] == "| one two | 3 |"


@pytest.mark.parametrize(
    "value, step, text",
    [
        (0.85312, 0.0123, "0.853"),
        (0.0123, 0.0123, "0.012"),
        (5123.4, 1200.0, "5123"),
        (1.64e-7, 2.3e-8, "1.64e-07"),
        (2.3e-8, 2.3e-8, "2.3e-08"),
        (-0.5, 0.11, "-0.50"),
        (0.0, 0.0, "0"),
        (0.123456, None, "0.1235"),
        (None, None, "-"),
        (float("nan"), None, "-"),
    ],
)
def test_numbers_have_two_digits_of_what_matters(value, step, text):
    assert number(value, step) == text


def test_estimates_as_cells():
    found = Estimate(3, 0.85312, 0.0123, 0.82256, 0.88368, 1)
    assert tables.mean_and_deviation(found) == "0.853 ± 0.012"
    assert tables.interval(found) == "[0.823, 0.884]"
    assert tables.sample_size(found) == "3 (1 not finite)"
    alone = Estimate(1, 0.5)
    assert (tables.mean_and_deviation(alone), tables.interval(alone)) == ("0.5", "-")
    assert [tables.p_value(p) for p in (None, 1e-6, 0.0312)] == ["-", "<0.0001", "0.031"]
