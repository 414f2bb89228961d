"""A stand-in for the simulation of plumes: instant, exactly resumable, different for each plume."""

import zlib

import numpy as np

from src.data.smoke import generation
from src.data.smoke.plumes import Plume, level_plumes
from src.data.smoke.settings import SmokeSettings


class FakeSimulation:
    """Frames that grow step by step by an amount that depends on the plume and the cell."""

    steps = 0  # made by all objects of the class
    raise_at: int | None = None  # the step that raises the error instead
    error: type[BaseException] = RuntimeError
    devices: list[str] = []

    def __init__(self, plumes, *, velocity_dt, smoke_dt=1.0, dtype="float32", device="cpu"):
        self.plumes, self.num_steps, self.dtype = list(plumes), 0, dtype
        size = plumes[0].resolution
        seeds = [zlib.crc32(repr(plume).encode()) for plume in plumes]
        growth = [np.random.default_rng(s).normal(size=(3, size, size)) for s in seeds]
        self.growth = np.stack(growth) * velocity_dt * smoke_dt
        self.total = np.zeros_like(self.growth)
        type(self).devices.append(device)

    def step(self):
        if FakeSimulation.steps == FakeSimulation.raise_at:
            raise FakeSimulation.error("stopped")
        FakeSimulation.steps += 1
        self.num_steps += 1
        self.total = self.total * 0.9 + self.growth

    def velocity(self, layout):
        """[S, 2, N, N]"""
        return (self.total[:, :2] + (layout == "centered")).astype(self.dtype)

    def density(self):
        """[S, 1, N, N]"""
        return self.total[:, 2:].astype(self.dtype)

    def state(self):
        return {"total": self.total.copy(), "num_steps": np.array(self.num_steps)}

    def restore(self, state):
        self.total, self.num_steps = state["total"], int(state["num_steps"])

    def max_divergence(self):
        """Some number, the largest at step 30."""
        return 1.0 / (1 + abs(self.num_steps - 30))


def use_fake_simulation(monkeypatch) -> type[FakeSimulation]:
    """Let generations of this process simulate nothing."""
    monkeypatch.setattr(generation, "Simulation", FakeSimulation)
    for name, value in (("steps", 0), ("raise_at", None), ("error", RuntimeError), ("devices", [])):
        monkeypatch.setattr(FakeSimulation, name, value)
    return FakeSimulation


def fake_frames(settings: SmokeSettings) -> np.ndarray:
    """The frames [S, T, C, N, N] of plumes of magnification 1, simulated one by one."""
    frames = []
    for plume in settings.plumes:
        times = {"velocity_dt": settings.velocity_dt, "smoke_dt": settings.smoke_dt}
        alone, own = FakeSimulation([plume], dtype=settings.dtype, **times), []
        for _ in range(settings.num_steps):
            alone.step()
            parts = [alone.velocity(settings.layout), alone.density()][: 1 + settings.density]
            own.append(np.concatenate(parts, 1)[0])
        frames.append(own[settings.skip_frames :])
    return np.array(frames)


def tiny_plumes(resolution: int = 16) -> list[Plume]:
    """Four plumes of level 1."""
    return level_plumes(1, inflow=(8, 3), radius=2, buoyancy=0.01, resolution=resolution)


def tiny_settings(**changes) -> SmokeSettings:
    """Four plumes on 16 x 16 cells; 60 steps, of which 4 are not stored."""
    options = {"name": "tiny", "plumes": tuple(tiny_plumes()), "resolution": 16}
    options |= {"num_steps": 60, "skip_frames": 4, "velocity_dt": 0.5}
    return SmokeSettings(**(options | changes))


def tiny_overrides(name: str) -> list[str]:
    """Overrides that make `data=smoke_<name>` small: 16 x 16 cells, few plumes, 24 frames."""
    plumes = {
        "translation": ["plumes.x=[4,8]", "plumes.y=[3]", "unseen_tasks=[[4,3]]"],
        "rotation": ["plumes.num_tasks=8", "train_tasks=null", "unseen_tasks=[[3,2]]"],
        "scale": ["plumes.factors=[1,1.5]", "unseen_tasks=[[1.5]]"],
        "level": ["level=4"],
        "level_published": ["level=4", "firsts.val=3", "firsts.future=3"],
        "strengths": ["level=4", "plumes.offsets=[0]", "starts.unseen=2", "starts.beyond=2"],
    }[name]
    places = [] if name == "translation" else ["plumes.inflow=[8,3]"]
    starts = ["starts.train=4", "starts.val=2", "starts.future=2", "starts.domain=2"]
    frames = ["num_inputs=2", "train_horizon=2", "test_horizon=3", "equivariance_frames=null"]
    sizes = ["resolution=16", "plumes.radius=2", "num_steps=24", "skip_frames=2"]
    overrides = (*plumes, *places, *starts, *frames, *sizes)
    return [f"data=smoke_{name}", *(f"data.{override}" for override in overrides)]
