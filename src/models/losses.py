"""Losses of forecasts."""

from torch import Tensor, nn


class RelativeLoss(nn.Module):
    r"""Squared error of each window relative to its own size, mean over windows.

    .. math:: \mathrm{mean}_b\,
              \frac{\mathrm{mean}_{t, c, x} (\hat v_b - v_b)^2}{\mathrm{mean}_{t, c, x}\, v_b^2}

    so that slow plumes count as much as fast ones. [B, T, 2, H, W] twice -> a number.
    """

    def forward(self, forecast: Tensor, truth: Tensor) -> Tensor:
        error, size = (v.square().flatten(1).mean(1) for v in (forecast - truth, truth))
        return (error / size).mean()


LOSSES = {"mse": nn.MSELoss, "relative": RelativeLoss}
