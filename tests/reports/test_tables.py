import csv
import io
import math
import re

from src.reports import tables
from src.reports.statistics import Estimate
from src.reports.tables import Table, number

HARD = r"a_b 100% & #1 $x^2$ {y} ~ \z <i> ± | − " + '"q", end'


TABLE = Table("t", "c", ("a_1", "b"), ((HARD, "1"), ("one\ntwo", "-")))


def test_csv_and_markdown_hold_the_same_cells():
    cells = [["a_1", "b"], [HARD, "1"], ["one two", "-"]]
    read = list(csv.reader(io.StringIO(TABLE.csv())))
    assert [[" ".join(cell.split()) for cell in line] for line in read] == cells
    head, ends, *body = TABLE.markdown().splitlines()
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in (head, *body)]
    assert [[re.sub(r"\\(.)", r"\1", cell).strip() for cell in line] for line in lines] == cells
    assert ends == "|---|---:|"


def test_latex_has_the_rules_of_booktabs_and_every_special_character_escaped():
    hard = r"a\_b 100\% \& \#1 \$x\textasciicircum 2\$ \{y\} \textasciitilde \space "
    hard += r'\textbackslash z \textless{}i\textgreater{} $\pm$ | $-$ "q", end'
    head = [r"% c; needs \usepackage{booktabs}", r"\begin{tabular}{lr}", r"\toprule"]
    body = [r"a\_1 & b \\", r"\midrule", rf"{hard} & 1 \\", r"one two & - \\"]
    assert TABLE.latex().splitlines() == [*head, *body, r"\bottomrule", r"\end{tabular}"]


def test_numbers_and_estimates_have_two_digits_of_what_matters():
    for value, step, text in (
        (0.85312, 0.0123, "0.853"),
        (0.0123, 0.0123, "0.012"),
        (5123.4, 1200.0, "5123"),
        (1.64e-7, 2.3e-8, "1.64e-07"),
        (2.3e-8, 2.3e-8, "2.3e-08"),
        (-0.5, 0.11, "-0.50"),
        (0.0, 0.0, "0"),
        (0.123456, math.nan, "0.1235"),
        (math.nan, math.nan, "-"),
        (math.inf, 1.0, "-"),
    ):
        assert number(value, step) == text
    found = Estimate(3, 1, 0.85312, 0.0123, 0.82256, 0.88368)
    assert tables.mean_and_deviation(found) == "0.853 ± 0.012"
    assert tables.interval(found) == "[0.823, 0.884]"
    alone = Estimate(1, 0, 0.5)
    assert (tables.mean_and_deviation(alone), tables.interval(alone)) == ("0.5", "-")
