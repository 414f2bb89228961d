from report_fakes import stored_run

from src.reports.grouping import group_runs
from src.reports.shared import facts_of_runs, shared_facts, shared_settings

OPTIMIZER = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1, "weight_decay": None}


def test_facts_are_what_all_rows_share():
    """The second row has another number of epochs, which is then no fact but a part of its name."""
    same = {"model__optimizer": OPTIMIZER, "data___target_": "d.Digits", "data__source": "bundled"}
    runs = [stored_run("CNN", seed, **same) for seed in (0, 1)]
    facts = {"Data": "Digits: source=bundled", "Network": "CNN", "Optimizer": "Adam: lr=0.1"}
    facts |= {"Epochs": "2", "Batch size": "8"}
    assert shared_facts(shared_settings(group_runs(runs))) == facts
    groups = group_runs([*runs, stored_run("CNN", **same, trainer__max_epochs=3)])
    del facts["Epochs"]
    assert shared_facts(shared_settings(groups)) == facts
    assert [group.label for group in groups] == ["max_epochs=2", "max_epochs=3"]
    assert shared_settings([]) == {}


def test_threads_and_versions_are_said_once_or_with_numbers_of_runs():
    runs = [stored_run(seed=seed) for seed in range(7)]
    for number, run in enumerate(runs):
        run.environment["devices"] = {"torch_threads": 1 + number // 6}
        run.environment["python"] = f"3.{number}"
    facts = facts_of_runs(group_runs(runs), [])
    assert facts["Threads"] == "1 (6 runs); 2 (1 runs)"
    assert facts["Versions"].count("Python") == 4 and facts["Versions"].endswith("; 3 others")
