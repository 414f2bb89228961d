"""Where Hydra takes plugins from: this one, by its underscore, only when it is asked for."""

from src.sweeps.sweeper import Sweeper

__all__ = ["Sweeper"]
