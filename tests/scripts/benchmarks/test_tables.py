from dataclasses import asdict

from scripts.benchmarks.tables import Table
from scripts.benchmarks.timing import Ratio

TABLE = Table("Speed", [{"layer": "a", "ratio": Ratio(30.4, 28.6, 33.0), "ms": 0.12345}], "A note.")


def test_markdown_rounds_and_the_record_keeps_all_digits():
    lines = TABLE.markdown().splitlines()
    assert lines[:2] + lines[-2:] == ["**Speed**", "", "", "A note."]
    head, rule, row = lines[2:-2]
    assert (head, rule) == ("| layer | ratio | ms |", "| --- | --- | --- |")
    assert row == "| a | 30 (29-33) | 0.123 |"
    row = {"layer": "a", "ratio": {"value": 30.4, "low": 28.6, "high": 33.0}, "ms": 0.12345}
    assert asdict(TABLE) == {"title": "Speed", "note": "A note.", "rows": [row]}
