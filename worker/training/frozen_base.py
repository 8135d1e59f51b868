"""The frozen base as its facts: the network is built only when somebody needs it.

A job that finds its features needs none, and building takes seconds.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import keras

from shared.artifacts import sha256_file
from shared.base_models import get_base_model, resolve_image_size_px
from shared.errors import UserError
from shared.training_spec import TrainingSpec
from worker.training import build_model
from worker.training.pretrained_weights import find_base_weights

# Raise it with any change to how a base is built or its weights are read.
_VERSION = 2
_PLAIN_PRECISION = "float32"


class FrozenBase:
    """The base model that a training spec names.

    Args:
        spec: Names the base model, its weights and the image size.
        weights_dirs: Folders searched for weight files. Defaults to none.
        download_weights: Whether absent ImageNet weights may be fetched.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        weights_dirs: list[Path] | None = None,
        *,
        download_weights: bool = True,
    ) -> None:
        self._spec = spec
        self._weights_dirs = weights_dirs or []
        self._download_weights = download_weights
        self._described = get_base_model(spec.base_model)
        self._networks: dict[str, keras.Model] = {}

    @property
    def image_size_px(self) -> int:
        """Side of the square that it is fed, pixels."""
        return resolve_image_size_px(self._spec.base_model, self._spec.image_size_px)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self._described.parameters

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the network and its weights, the versions aside.

        The digest of the weights' file stands for the weights: reading a file is
        cheap, building a network to look into it is not.

        Raises:
            UserError: When the weights cannot be had.
        """
        return {
            "version": _VERSION,
            "base_model": self._spec.base_model,
            "feature_maps": self._spec.feature_maps,
            "image_size_px": self.image_size_px,
            "weights": self._describe_weights(),
        }

    def build(self, precision: str = _PLAIN_PRECISION) -> keras.Model:
        """Returns the network, built at the first call.

        Args:
            precision: A Keras dtype policy; weights are float32 under each.

        Raises:
            UserError: When its weights cannot be had, do not fit, or were replaced
                after `identity` was read: features would be kept under a wrong name.
        """
        if precision not in self._networks:
            try:
                self._networks[precision] = build_model.build_base(
                    self._spec,
                    self._weights_dirs,
                    download_weights=self._download_weights,
                    precision=precision,
                )
            finally:
                keras.config.set_dtype_policy(_PLAIN_PRECISION)
            if self._describe_weights() != self.identity["weights"]:
                raise UserError(
                    "The weights file was replaced while it was read: start the job "
                    f"again. Received: weights={self._spec.weights!r}.",
                    field="weights",
                )
        return self._networks[precision]

    def _describe_weights(self) -> dict[str, Any]:
        if self._spec.weights is None:
            return {"seed": self._spec.seed}
        path = find_base_weights(
            self._described,
            self._spec.weights,
            self._weights_dirs,
            download=self._download_weights,
        )
        return {"sha256": sha256_file(path)}
