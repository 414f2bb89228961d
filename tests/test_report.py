"""`src/report.py` on a made-up sweep: the page, its files, its refusals."""

import csv
import os
import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_fakes import ACCURACIES, write_run, write_sweep

from src import report
from src.reports.sections import Options
from src.reports.writing import write_report

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags are nested, and keeps text, addresses, anchors and tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.addresses, self.ids = [], [], [], []
        self.tables, self.words = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


@pytest.fixture
def run_report(monkeypatch, capsys):
    """Run the entry point in this process; returns the page's path."""

    def run(*arguments) -> Path:
        monkeypatch.setattr(sys, "argv", ["src/report.py", *map(str, arguments)])
        report.main()
        return Path(capsys.readouterr().out.strip())

    return run


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path / "sweep")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict[Path, bytes]]:
    """The page of a report that several tests read, and what was in the sweep before."""
    sweep = write_sweep(tmp_path_factory.mktemp("made") / "sweep")
    before = contents(sweep)
    return write_report(Options([sweep])), before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_is_valid_and_needs_nothing_else(made):
    path, before = made
    assert path.parts[-3:] == ("sweep", "report", "index.html")
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert not re.search(r"https?://", text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    anchors = [address[1:] for address in page.addresses if address.startswith("#")]
    assert set(anchors) == set(page.ids) and len(set(page.ids)) == len(page.ids)
    after = contents(path.parents[1])
    assert {file: data for file, data in after.items() if path.parent not in file.parents} == before


def test_errors_are_shown_as_text(made):
    text = made[0].read_text()
    assert "<script>" not in text
    assert "<script>alert('&')</script> is no number" in "".join(Page(text).words)


def test_tables_are_those_of_the_files_and_computed_by_hand(made):
    path, _ = made
    shown = Page(path.read_text()).tables
    for file in sorted((path.parent / "tables").glob("*.csv")):
        if file.stem != "runs":
            assert list(csv.reader(file.read_text().splitlines())) in shown, file.name
    found = {(r["metric"], r["runs"]): r for r in rows(path.parent / "tables" / "results.csv")}
    for network, values in ACCURACIES.items():
        row = found["test/acc", network]
        assert row["n"] == ("3 (1 not finite)" if network == "CNN" else "3")
        assert float(row["mean"]) == pytest.approx(statistics.mean(values), abs=5e-4)
        assert float(row["standard deviation"]) == pytest.approx(statistics.stdev(values), abs=5e-4)
    (pair,) = [
        r for r in rows(path.parent / "tables" / "paired_results.csv") if r["metric"] == "test/acc"
    ]
    # differences 0.10, 0.12, 0.08: mean 0.10, deviation 0.02, t = 0.10 / (0.02 / √3)
    assert (pair["difference"], pair["n"], pair["mean"]) == ("GCNN − CNN", "3", "0.100")
    assert (pair["95 % interval of the mean"], pair["p"]) == ("[0.050, 0.150]", "0.013")
    assert pair["seeds left out"] == "-"
    assert len(rows(path.parent / "tables" / "runs.csv")) == 7


def test_figures_and_pictures_are_beside_the_page(made):
    folder = made[0].parent / "figures"
    drawn = {"curves", "dynamics", "relaxed_weight_error_layers", "spectra", "angles"}
    for kind, start in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        files = {path.stem: path for path in folder.glob(f"*.{kind}")}
        assert drawn <= set(files)
        assert all(path.read_bytes().startswith(start) for path in files.values())
    copied = {f"{name}-{n}.png" for n in ACCURACIES for name in ("relaxed_weights_end",)}
    copied |= {f"best_landscape-{network}.png" for network in ACCURACIES}
    assert copied <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_second_report_replaces_the_first(run_report, sweep):
    folder = run_report(sweep).parent
    first = contents(folder)
    (folder / "mine.txt").write_text("kept")
    run_report(sweep)
    assert contents(folder) == first | {folder / "mine.txt": b"kept"}
    run_report(sweep, "--metrics", "test/acc")
    left = {path.name for path in (folder / "figures").iterdir()}
    assert not [name for name in left if name.startswith(("curves", "dynamics"))]
    assert (folder / "mine.txt").is_file()
    assert not list(folder.rglob("*.tmp"))


def test_options(run_report, sweep, tmp_path):
    out = tmp_path / "elsewhere"
    options = ("--title", "A & B", "--baseline", "GCNN", "--group-by", "model.net._target_")
    chosen = ("--metrics", "test/*", "val/acc", "--band", "range")
    path = run_report(sweep, "--out", out, *chosen, *options)
    assert path == out / "index.html"
    words = "".join(Page(path.read_text()).words)
    assert "A & B" in words and "from the smallest to the largest seed" in words
    assert {r["difference"] for r in rows(out / "tables" / "paired_results.csv")} == {"CNN − GCNN"}
    assert not (sweep / "report").exists()


def test_what_lessens_trust_is_said(run_report, tmp_path):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, commit="b" * 40, dirty=True)
    write_run(tmp_path / "c", seed=2, status="failed", error="why")
    words = "".join(Page(run_report(tmp_path).read_text()).words)
    assert "different commits" in words and "differed from its commit" in words
    assert "Not every run has finished" in words


def test_a_single_run_and_a_sweep_without_a_finished_one(run_report, tmp_path):
    text = run_report(write_run(tmp_path / "one")).read_text()
    assert "nothing tells how much seeds matter" in text
    assert 'id="paired"' not in text
    text = run_report(write_run(tmp_path / "two", status="failed", error="why")).read_text()
    assert "No run has finished" in text and "why" in text


@pytest.mark.parametrize(
    "options, message",
    [
        (("--metrics", "test/akk"), r"--metrics.*'test/akk'.*Use test/acc"),
        (("--group-by", "width"), r"--group-by.*'width'"),
        (("--baseline", "MLP"), r"--baseline.*'MLP'. Use one of: 'CNN'; 'GCNN'"),
    ],
)
def test_options_that_name_nothing_are_refused(run_report, sweep, options, message):
    with pytest.raises(SystemExit, match=message):
        run_report(sweep, *options)
    assert not (sweep / "report").exists()


def test_out_must_not_be_a_file(run_report, sweep, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="`--out` must be a directory; got the file"):
        run_report(sweep, "--out", tmp_path / "file")


@pytest.mark.slow
def test_the_command_line_ends_without_a_traceback(tmp_path):
    def status(*arguments):
        root = Path(__file__).resolve().parents[1]
        command = [sys.executable, str(root / "src" / "report.py"), *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    code, said = status(str(tmp_path / "nowhere"))
    assert code == 1 and "must be a directory" in said
    assert status()[0] == 2
    assert status("--help")[0] == 0
