"""Names that configs may use inside `${...}`; imported before anything heavy."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.files import RUN_CONFIG

ROOT = Path(__file__).resolve().parents[2]


def is_run_directory(path: str | Path) -> bool:
    """Whether a run was started in this directory: it holds the run's resolved config."""
    return (Path(str(path)) / RUN_CONFIG).is_file()  # a folder named 7 comes as a number


def run_dir(resume: str | None, base: str) -> str:
    """Directory of a run: the resumed one, or a new one below `base`.

    A new one is named by the time to the microsecond, so that runs started in the same second do
    not share a directory. A `resume` that is no run directory is left to the config checks.
    """
    if resume is not None and is_run_directory(resume):
        return os.path.abspath(str(resume))
    return os.path.join(base, datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f"))


def output_dir(otherwise: str) -> str:
    """Hydra's directory of this job; without Hydra, as in a notebook, another one."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    return (hydra and OmegaConf.select(hydra, "runtime.output_dir")) or otherwise


def from_data(name: str, default: Any = None, *, _root_: DictConfig) -> Any:
    """An attribute of the data module that the config names, or an entry of it: `image_shape.0`.

    The data module is built for it and not set up, so such attributes must be there before. In a
    run's stored config the value stands in place of the question.

    Raises:
        ValueError: if the data module lacks it, and there is no default.
    """
    name, _, index = name.partition(".")
    value = getattr(instantiate(_root_.data, _convert_="all"), name, None)
    value = default if value is None else value
    if value is None:
        raise ValueError(
            f"the data module must have the attribute `{name}` before `setup`, because the config "
            f"of the model asks for it; got {_root_.data.get('_target_')} without. Give the class "
            f"one, or set what asks for it, such as model.net.num_classes=5."
        )
    return value[int(index)] if index else value


def group_options(*, _root_: DictConfig) -> str:
    """The groups that a script's config chooses from, with their options, for its --help."""
    runtime, lines = _root_.hydra.runtime, []
    folders = [Path(source.path) for source in runtime.config_sources if source.schema == "file"]
    for group in sorted({key.partition("@")[0] for key in runtime.choices}):
        options = {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}
        if group.partition("/")[0] != "hydra":
            lines.append(f"{group}: {', '.join(sorted(options))}")
    return "\n".join(lines)


def register_resolvers() -> None:
    """Make these names known to configs, and PROJECT_ROOT where no entry point has set it.

    `run_dir` is cached, because a run asks for its directory repeatedly. `output_dir` is not: the
    jobs of a sweep take over what was evaluated where the sweep was started.
    """
    os.environ.setdefault("PROJECT_ROOT", str(ROOT))
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("output_dir", output_dir, replace=True)
    OmegaConf.register_new_resolver("from_data", from_data, replace=True)
    OmegaConf.register_new_resolver("group_options", group_options, replace=True)
