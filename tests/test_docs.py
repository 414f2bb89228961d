"""Commands in README, docs, notebooks and helps are ones that scripts take. None is run."""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from src.sweeps.checks import offer_missing_launchers
from tests.conftest import ROOT, process_as_before
from tests.test_configs import composed

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HELPS = [ROOT / "src" / "report.py", *sorted((ROOT / "configs").glob("*.yaml"))]
PROGRAMS = ("python", "make", "pip", "sbatch", "wandb")
OF_WANDB = {"sweep", "agent", "sync", "leet", "login"}
FLAGS = {"-m", "--help", "--cfg", "job"}  # of Hydra
# What stands for `<level>`, and so on; other placeholders are paths.
PLACES = {"experiments": "rgcnn_rotmnist", "level": "0", "tab": "cnn"}
OWN = {"data=shapes": "data=rotmnist"}  # what docs/extending.md makes; see test_extending.py


def commands(text: str) -> list[str]:
    """Commands in blocks of bash and in code spans, placeholders filled in, comments left out."""
    text = re.sub(r"<([a-z ]+)>", lambda found: PLACES.get(found[1], "some"), text)
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = [line for b in blocks for line in b.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    found = []
    for line in lines:
        line = " ".join(re.sub(r" # .*", "", line).split()).replace("experiment=...", "")
        line = re.sub(r"^([A-Z_]+=\S+ )+", "", line)
        line = re.sub(r"^bash -c '(?:time )?(.*)'", r"\1", line)
        if line.startswith(tuple(f"{name} " for name in PROGRAMS)):
            found.append(line)
    return found


def all_commands() -> list[str]:
    """Each command that is shown anywhere, once."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    found = [command for text in texts for command in commands(text)]
    for page in HELPS:
        for line in re.findall(r"^ +(python src/.*)", page.read_text(encoding="utf-8"), re.M):
            (command,) = commands(f"`{line}`")
            if page.suffix == ".yaml":  # what it does stands behind
                command = re.match(r"python \S+( -m)?( \S+=\S+)*", command)[0]
            found.append(command)
    return list(dict.fromkeys(found))


def one_value(override: Override, number: int) -> str:
    """An override; of one that sweeps, with the value of that number."""
    if not override.is_sweep_override():
        return override.input_line
    values = list(override.sweep_string_iterator())
    return f"{override.key_or_group}={values[number % len(values)]}"


def check_overrides(script: str, typed: list[str], monkeypatch) -> None:
    """Compose and resolve with each option of a group that is swept; of numbers, with some."""
    offer_missing_launchers()
    typed = [OWN.get(word, word) for word in typed if word not in FLAGS]
    parsed = OverridesParser.create().parse_overrides(typed)
    swept = [override for override in parsed if override.is_sweep_override()]
    groups = [override for override in swept if Path("configs", override.key_or_group).is_dir()]
    for number in range(max((len(list(o.sweep_string_iterator())) for o in groups), default=1)):
        words = [one_value(override, number) for override in parsed]
        config = composed(script, *words, with_hydra=True)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
        OmegaConf.resolve(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))


class Parsed(Exception):
    """A parser has taken the arguments."""


def check_arguments(script: str, typed: list[str], monkeypatch) -> None:
    """Let the script's own parser read the arguments, and go no further."""
    read = argparse.ArgumentParser.parse_args

    def parse(parser):
        read(parser)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(sys, "argv", [script, *typed])
    with pytest.raises(Parsed):
        import_module(".".join(Path(script).with_suffix("").parts)).main()


def check(command: str, monkeypatch) -> None:
    """Raise unless a command is one that its program takes."""
    program, *typed = shlex.split(command)
    if program == "make":
        for line in subprocess.check_output(["make", "-n", *typed], text=True).splitlines():
            if " src/" in line:
                check(line.replace(line.split()[0], "python", 1), monkeypatch)
    elif program == "pip":
        known = tomllib.loads(Path("pyproject.toml").read_text())["project"]
        extras = re.findall(r"\w+", "".join(re.findall(r"\.\[(.*?)\]", command)))
        assert set(extras) <= set(known["optional-dependencies"])
    elif program == "python" and typed[0] != "-c":
        script, *typed = typed
        if (Path("configs") / Path(script).name).with_suffix(".yaml").is_file():
            assert Path(script).is_file()
            check_overrides(Path(script).stem, typed, monkeypatch)
        else:
            check_arguments(script, typed, monkeypatch)
    else:
        assert program != "wandb" or typed[0] in OF_WANDB
        named = {word for word in typed if Path(word).suffix in (".sh", ".yaml")}
        assert {word for word in named if not Path(word).is_file()} == set()


@pytest.fixture
def checked(monkeypatch):
    monkeypatch.chdir(ROOT)

    def check_here(command):
        if command.startswith("make ") and shutil.which("make") is None:
            pytest.skip("make is not installed")
        with process_as_before():
            check(command, monkeypatch)

    return check_here


@pytest.mark.parametrize("command", all_commands())
def test_commands_that_are_shown_are_taken(checked, command):
    checked(command)


WRONG = [
    ("python src/train.py experiment=none", Exception, "Could not find 'experiment/none'"),
    ("python src/train.py -m experiment=rgcnn_rotmnist model.net.widths=1,2", Exception, "widths"),
    ("python src/none.py seed=1", ImportError, "none"),
    ("python src/report.py some --baselines GCNN", SystemExit, "2"),
    ("python scripts/benchmark_layers.py --only none", SystemExit, "2"),
    ("make none", subprocess.CalledProcessError, "make"),
    ('make train ARGS="none=1"', Exception, "none"),
    ("pip install -e '.[none]'", AssertionError, "none"),
    ("sbatch scripts/slurm/none.sh", AssertionError, "none.sh"),
]


@pytest.mark.parametrize(("command", "kind", "message"), WRONG)
def test_wrong_commands_are_found(checked, command, kind, message):
    (shown,) = commands(f"Type `{command}`.")
    with pytest.raises(kind, match=message):
        checked(shown)


def test_the_layers_that_are_shown_have_the_shapes_beside_them():
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "layers.md").read_text(), re.S)
    names = {}
    exec(block, names)
    *_, (line, shape) = re.findall(r"^(.*?) +# (\[.*\])$", block, re.M)
    assert list(eval(line, names)) == eval(shape)
