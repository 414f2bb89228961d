"""`src/report.py` on a made-up sweep: the page, its files, its refusals."""

import csv
import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_fakes import ACCURACIES, PIXEL, write_run, write_sweep

from src import report
from src.reports.writing import write_report


class Page(HTMLParser):
    """Checks that tags are nested, and keeps text, addresses, anchors and tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.addresses, self.ids = [], set(), [], []
        self.tables, self.words = [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in ("meta", "img", "wbr"):
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
        self.words += data
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


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The page of a report that several tests read; it has left the sweep as it was."""
    sweep = write_sweep(tmp_path_factory.mktemp("made") / "sweep")
    before = contents(sweep)
    path = write_report([sweep])
    assert before.items() <= contents(sweep).items()
    return path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_page_is_valid_and_needs_nothing_else(made):
    assert made.parts[-3:] == ("sweep", "report", "index.html")
    text = made.read_text()
    page = Page(text)
    assert not re.search(r"https?://", text)
    assert not {"script", "link", "iframe", "object"} & page.tags
    beside = {address for address in page.addresses if address.startswith("figures/")}
    assert beside and all((made.parent / address).is_file() for address in beside)  # to download
    assert all(address.startswith(("data:", "#", "figures/")) for address in page.addresses)
    anchors = [address[1:] for address in page.addresses if address.startswith("#")]
    assert sorted(anchors) == sorted(page.ids)
    assert "<script>alert('&')</script> is no number" in page.words  # the error of a run, as text
    assert "7 finished, 1 failed, 1 killed, 1 not started" in page.words
    head, *_ = page.words.partition("Curves")  # what all share stands above all else
    assert "Threads1\n" in head and "Epochs2\n" in head and "Batch size8\n" in head
    assert page.ids.index("curves") < page.ids.index("results")  # figures first


def test_tables_are_those_of_the_files_and_computed_by_hand(made):
    folder = made.parent / "tables"
    shown = Page(made.read_text()).tables
    for file in sorted(folder.glob("*.csv")):
        if file.stem != "runs":
            assert list(csv.reader(file.read_text().splitlines())) in shown, file.name
    found = {(r["metric"], r["runs"]): r for r in rows(folder / "results.csv")}
    for network, values in ACCURACIES.items():
        row = found["test/acc", network]
        assert row["n"] == ("3 (1 not finite)" if network == "CNN" else "3")
        assert float(row["mean"]) == pytest.approx(statistics.mean(values), abs=5e-4)
        assert float(row["standard deviation"]) == pytest.approx(statistics.stdev(values), abs=5e-4)
    pair, *_ = rows(folder / "paired_results.csv")
    # differences 0.10, 0.12, 0.08: mean 0.10, deviation 0.02, and t = 4.30
    assert list(pair.values()) == ["test/acc", "GCNN − CNN", "3", "0.100", "[0.050, 0.150]", "3"]
    runs = rows(folder / "runs.csv")
    assert len(runs) == 7 and runs[0]["command"] == "python src/train.py model=CNN seed=0"


def test_figures_and_pictures_are_beside_the_page(made):
    folder = made.parent / "figures"
    for kind, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        files = {path.stem: path for path in folder.glob(f"*.{kind}")}
        assert {"curves", "dynamics", "relaxed_weight_error_layers", "spectra"} <= set(files)
        assert all(path.read_bytes().startswith(start) for path in files.values())
    for picture in ("relaxed_weights_end", "best_landscape"):
        assert all((folder / f"{picture}-{network}.png").is_file() for network in ACCURACIES)


@pytest.mark.slow
def test_a_second_report_is_the_same_and_leaves_other_files_alone(made):
    (made.parent / "mine.txt").write_text("kept")
    first = contents(made.parent)
    write_report([made.parents[1]])
    assert contents(made.parent) == first


def test_options(run_report, made, tmp_path):
    out = tmp_path / "elsewhere"
    options = ["--metrics", "test/*", "val/acc", "--band", "range", "--title", "A & B"]
    options += ["--baseline", "GCNN", "--group-by", "model.net._target_"]
    path = run_report(made.parents[1], "--out", out, *options)
    assert path == out / "index.html"
    words = Page(path.read_text()).words
    assert "A & B" in words and "smallest to largest seed" in words
    assert {r["difference"] for r in rows(out / "tables" / "paired_results.csv")} == {"CNN − GCNN"}


def test_what_lessens_trust_is_said(run_report, tmp_path):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1, git={"commit": "b" * 40, "dirty": True})
    write_run(tmp_path / "c", seed=2, status="failed", error="why")
    write_run(tmp_path / "again", seed=0)
    words = Page(run_report(tmp_path, "--metrics", "test/acc").read_text()).words
    assert "different versions of the code" in words and "with changes" in words
    assert "differ in their number of threads" not in words
    assert "Not every run has finished" in words and "later run has the same config" in words
    write_run(tmp_path / "d", seed=3, threads=2)
    words = Page(run_report(tmp_path, "--metrics", "test/acc").read_text()).words
    assert "differ in their number of threads (1, 2): on a CPU" in words


def test_a_sweep_of_one_row_without_a_finished_run(run_report, tmp_path):
    """Evaluations are no rows."""
    write_run(tmp_path / "one", status="failed", error="why")
    write_run(tmp_path / "eval", status="failed", error="no", task_name="eval", model__alpha=1)
    text = run_report(tmp_path).read_text()
    assert "No run has finished" in text and "why" in text
    assert 'id="paired"' not in text and 'id="configs"' not in text
    assert not (tmp_path / "report" / "tables" / "configs.csv").exists()


@pytest.mark.slow
def test_a_swept_number_has_a_table_and_a_figure_and_named_metrics_share_one(run_report, tmp_path):
    for level in (0, 4):
        for seed in (0, 1):
            write_run(tmp_path / f"{level}-{seed}", seed=seed, data__level=level)
    metrics = ("test/acc", "val/acc", "*/relaxed_weight_error")
    folder = run_report(tmp_path, "--metrics", *metrics, "--x", "data.level").parent
    first, *_ = (folder / "tables" / "by_level.csv").read_text().splitlines()[1:]
    assert first == "test/acc,CNN,0.5 ± 0,0.5 ± 0"
    line, _ = rows(folder / "tables" / "overview.csv")
    errors = ["start/relaxed_weight_error", "dynamics/relaxed_weight_error"]
    assert list(line.values())[1:4] == ["1,234", "5,678,901", "0.51"]
    assert list(line)[1:] == ["parameters", "MACs", "s/step", "seeds", *metrics[:2], *errors]
    names = {"against_level", "curves", "relaxed_weight_error_layers"}
    assert {path.stem for path in (folder / "figures").iterdir()} == names


@pytest.mark.slow
def test_mixed_runs_make_a_page_with_a_part_for_each_data_set(run_report, tmp_path):
    """Configs with everything different, in lists and long texts too; none names a long file."""
    long = {"data__tasks": [[n, n % 4] for n in range(60)], "data__note": "x" * 400}
    for seed in (0, 1):
        digits = {"data___target_": "d.Digits", "model___target_": "m.Classification"}
        write_run(tmp_path / f"a{seed}", "CNN", seed, **digits)
        write_run(tmp_path / f"b{seed}", "GCNN", seed, **digits, data__num_train=500)
        plumes = {"data___target_": "d.Plumes", "model___target_": "m.Forecasting"}
        (tmp_path / f"d{seed}").mkdir()
        for n, more in enumerate(({}, long, {"model__schedule": {"_target_": "s.Linear"}})):
            run = write_run(tmp_path / f"d{seed}" / f"{n}", "CNNForecaster", seed, **plumes, **more)
            (run / "images").mkdir()
            (run / "images" / "forecast.png").write_bytes(PIXEL)
    path = run_report(tmp_path)
    page = Page(path.read_text())
    assert {"Digits-results", "Plumes-results", "Plumes-forecasts"} <= set(page.ids)
    names = [file.name for file in path.parent.rglob("*") if file.is_file()]
    assert max(map(len, names)) <= 90
    assert {row["runs"] for row in rows(path.parent / "tables" / "Digits-overview.csv")} == {
        "CNN, num_train=not set",
        "GCNN, num_train=500",
    }
    assert len(rows(path.parent / "tables" / "Plumes-overview.csv")) == 3
    assert len([name for name in names if name.startswith("Plumes-forecast-")]) == 3


def test_an_interrupted_report_says_so_in_one_line(run_report, monkeypatch, capsys, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("src.reports.writing.read_all", interrupt)
    with pytest.raises(SystemExit) as end:
        run_report(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 130 and "the same command" in line


def test_options_that_name_nothing_are_refused(run_report, made, tmp_path):
    for options, message in (
        (("--x", "level"), "`--x` must name keys of the configs"),
        (("--x", "model.alpha"), "`--x` must name a key with at least two numbers"),
        (("--metrics", "test/akk"), r"--metrics.*'test/akk'.*Use test/acc"),
        (("--baseline", "MLP"), r"--baseline.*'MLP'. Use one of: 'CNN'; 'GCNN'"),
        (("--out", __file__), "`--out` must be a directory; got the file"),
    ):
        with pytest.raises(SystemExit, match=message):
            run_report(made.parents[1], "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_line_ends_without_a_traceback(tmp_path):
    for arguments, code, message in ((["nowhere"], 1, "must be a directory"), ([], 2, "required")):
        command = [sys.executable, report.__file__, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)
        assert message in done.stderr
