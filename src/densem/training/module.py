"""The trained thing as Lightning sees it: network, loss, optimiser."""

from __future__ import annotations

import lightning
import torch
from torch import Tensor, nn

from densem.training.averaging import AveragedWeights
from densem.training.losses import Batch, loss_of, loss_with_affinities
from densem.training.orthogonal import OrthogonalMomentum
from densem.training.recipe import Optimizer, Recipe


def make_optimizer(network: nn.Module, config: Optimizer, dtype: torch.dtype) -> torch.optim.Optimizer:
    """The optimiser; biases and normalisation are not decayed.

    Args:
        network: whose parameters it changes.
        config: which and how.
        dtype: in which it may multiply matrices.
    """
    if config.name == "muon":
        return OrthogonalMomentum(
            network.parameters(),
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            dtype=dtype,
        )
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, betas=config.betas, eps=config.eps)


def recipe_loss(
    recipe: Recipe, outputs: dict[str, Tensor], batch: Batch, class_weights: Tensor | None = None
) -> Tensor:
    """The loss that a recipe says: of classes, and of affinities where it has some."""
    config = recipe.loss

    def of_classes(heads: dict[str, Tensor]) -> Tensor:
        return loss_of(heads, batch, config.auxiliary, config.soft, config.temperature, class_weights)

    return loss_with_affinities(outputs, batch, recipe.offsets, recipe.affinities.share, of_classes)


class TrainingModule(lightning.LightningModule):
    """One network in training, with its averaged weights."""

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        dtype: torch.dtype = torch.float32,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.class_weights = class_weights
        self.network = network
        self.recipe = recipe
        self.averaged = AveragedWeights(network, recipe.schedule.ema)
        self.optimizer = make_optimizer(network, recipe.optimizer, dtype)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        weights = None if self.class_weights is None else self.class_weights.to(batch.image.device)
        return recipe_loss(self.recipe, self.network(batch.image), batch, weights)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one optimiser, kept when training goes on in another Trainer."""
        return self.optimizer

    def set_learning_rate(self, rate: float) -> None:
        """For the step to come."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
