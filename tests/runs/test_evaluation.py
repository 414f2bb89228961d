from omegaconf import OmegaConf

from src.runs.evaluation import evaluation_config, stored_config

TRAINED = {
    "model": {"net": {"width": 12}},
    "data": {"data_dir": "/there/data", "batch_size": 5},
    "seed": 4,
    "paths": {"data_dir": "/there/data", "output_dir": "/there/run"},
    "task_name": "train",
    "trainer": {"max_epochs": 3},
}


def test_what_rebuilds_network_and_data_is_stored():
    stored = stored_config(OmegaConf.create(TRAINED))
    assert stored == {key: TRAINED[key] for key in TRAINED if key != "trainer"}
    assert type(stored["model"]["net"]) is dict


def test_network_data_and_seed_are_the_checkpoints_and_folders_are_not():
    composed = OmegaConf.create(
        {
            "model": {"net": {"width": 1, "other": 2}},
            "data": {"data_dir": "${paths.data_dir}"},
            "seed": None,
            "paths": {"data_dir": "/here/data"},
            "split": "val",
        }
    )
    config = evaluation_config(composed, TRAINED)
    assert config.model == {"net": {"width": 12}}
    assert config.data == {"data_dir": "/here/data", "batch_size": 5}
    assert (config.seed, config.split) == (4, "val")
