from scripts.benchmarks.tables import Table
from scripts.benchmarks.timing import Ratio

TABLE = Table("Speed", [{"layer": "a", "ratio": Ratio(30.4, 28.6, 33.0), "ms": 0.12345}], "A note.")


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "**Speed**",
        "",
        "| layer | ratio | ms |",
        "| --- | --- | --- |",
        "| a | 30 (29-33) | 0.123 |",
        "",
        "A note.",
    ]


def test_record_keeps_all_digits():
    row = {"layer": "a", "ratio": {"value": 30.4, "low": 28.6, "high": 33.0}, "ms": 0.12345}
    assert TABLE.record() == {"title": "Speed", "note": "A note.", "rows": [row]}
