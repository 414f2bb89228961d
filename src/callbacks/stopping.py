"""How far training is, and how it ended: all of it, or cut short by a time limit."""

from lightning import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import TrainerFn


def validates_in_training(trainer: Trainer) -> bool:
    """Whether a validation is one of training: not one by itself, nor Lightning's try before."""
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


def in_mid_epoch(trainer: Trainer) -> bool:
    """Whether batches of the running epoch, or of one that was cut short, are left."""
    return not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def epochs_trained(trainer: Trainer) -> float:
    """Epochs that the network was trained for: an integer, but in the middle of one."""
    loop = trainer.fit_loop
    epochs = loop.epoch_progress.current.ready  # with the one that is running or has just ended
    if not in_mid_epoch(trainer):
        return epochs
    return epochs - 1 + (loop.epoch_loop.batch_idx + 1) / trainer.num_training_batches


def out_of_time(trainer: Trainer) -> bool:
    """Whether a time limit (`trainer.max_time`, a `Timer`) ended training before its own end.

    Processes that train together all return what the first one finds.
    """
    epochs_done = trainer.fit_loop.epoch_progress.current.processed == trainer.max_epochs
    steps_done = 0 <= trainer.max_steps <= trainer.global_step
    left = [c.time_remaining() for c in trainer.callbacks if isinstance(c, Timer)]
    is_cut = trainer.should_stop and any(seconds is not None and seconds <= 0 for seconds in left)
    complete = steps_done or (epochs_done and not in_mid_epoch(trainer))
    return bool(trainer.strategy.broadcast(is_cut and not complete))
