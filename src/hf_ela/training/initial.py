"""Fine-tuning: the saved model that a training starts from, and the recipe that changes it little.

A few images cannot say much: few epochs at a low rate keep the weights near those of the model, and
batch normalisation keeps its statistics, so that what it has learnt is not forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hf_ela.errors import RecipeError, RunError
from hf_ela.hub.locate import PACKAGED, locate, split_revision
from hf_ela.models.folder import checked_weights, read_network
from hf_ela.models.settings import WEIGHTS_FILE, Settings
from hf_ela.recipes.loading import with_overrides
from hf_ela.recipes.schema import Recipe
from hf_ela.run_record import Origin

FREE = {
    "input": ("grid", "longest_side", "training"),
    "network": ("dropout", "trainable_blocks"),
}
"""Keys of the network and its inputs that the weights do not depend on."""


@dataclass(frozen=True)
class Initial:
    """A saved model that a training starts from.

    Attributes:
        source: ``pretrained``, ``user/repo`` on the Hub, or the path of a folder.
        revision: The commit of the repository, or None.
        folder: Where the model lies.
        settings: Its recipe, its calibration and the checksum of its weights.
    """

    source: str
    revision: str | None
    folder: Path
    settings: Settings

    @classmethod
    def load(cls, source: str, revision: str | None = None) -> Self:
        """Find a model, as `ElaClassifier.from_pretrained` does, and check its weights.

        Args:
            source: ``pretrained`` for the model of this package, ``user/repo`` on the Hub, a saved
                folder, or a run folder.
            revision: Branch, tag or commit of the repository.

        Raises:
            ModelError: There is no such model, or it is not usable.
            HubUnreachableError: The Hub did not answer.
        """
        folder, commit = locate(source, revision=revision, runtime="keras")
        weights, settings = checked_weights(folder)
        if commit is None and Path(source).exists():
            source = str(Path(source).resolve())
        return cls(source, commit, weights.parent, settings)

    @classmethod
    def again(cls, source: str, revision: str | None, sha256: str) -> Self:
        """Find the model that a training started from; it must have the same weights.

        Raises:
            RunError: Its weights are others now.
            ModelError: There is no such model, or it is not usable.
            HubUnreachableError: The Hub did not answer.
        """
        found = cls.load(source, revision)
        if found.sha256 != sha256:
            raise RunError(
                f"The training started from weights with the checksum {sha256[:12]}. Received: "
                f"{found.name} with {found.sha256[:12]}. Restore the model that it started from, "
                "or train anew."
            )
        return found

    @classmethod
    def recorded(cls, origin: Origin | None, given: str | None) -> Self | None:
        """Find the model that a record names; `given` says where it is, if it lay in a folder.

        Raises:
            RunError: A folder is needed and not `given`, or the reverse; or see `again`.
        """
        if origin is None:
            if given:
                raise RunError(
                    f"The training started from no model: leave out `initial`. Received: {given}."
                )
            return None
        if given:
            return cls.again(*split_revision(given), origin.sha256)
        if not origin.revision and origin.id != PACKAGED:
            raise RunError(
                f"The training started from a local model, {origin.id!r}, with the checksum "
                f"{origin.sha256[:12]}. Give its folder as `initial`."
            )
        return cls.again(origin.id, origin.revision, origin.sha256)

    @property
    def sha256(self) -> str:
        """The checksum of the weights."""
        return self.settings.sha256[WEIGHTS_FILE]

    @property
    def name(self) -> str:
        """``pretrained``, ``user/repo``, or the name of the folder."""
        return self.source if self.revision else Path(self.source).name

    @property
    def origin(self) -> dict[str, str | None]:
        """What `again` needs to find the model on this machine."""
        return {"source": self.source, "revision": self.revision, "sha256": self.sha256}

    @property
    def record(self) -> dict[str, str | None]:
        """What ``run.json`` says of the model."""
        return {"id": self.name, "revision": self.revision, "sha256": self.sha256}

    def recipe(self, overrides: Sequence[str] = ()) -> Recipe:
        """Return the recipe of the model, for a short training at a low rate.

        Args:
            overrides: As for `load_recipe`, but for what the weights depend on.

        Raises:
            RecipeError: An override is not valid, or the weights do not fit it.
        """
        values = self.settings.recipe.model_dump()
        frozen = self.settings.recipe.network.kind == "transfer"
        values["training"] |= {
            "epochs": 20,
            "batch_size": 16,
            "learning_rate": 1e-3 if frozen else 3e-4,  # a third or a tenth of training anew
            "schedule": "cosine",
            "weight_decay": 0.0,
            "early_stopping": None,
        }
        # A fifth needs five images of a class, and sources left out would need many.
        values["validation"] |= {"fraction": 0.2, "grouped": True}
        values["calibration"]["left_out"] = None
        recipe = with_overrides(values, overrides, source=f"of {self.name}")
        self.check_recipe(recipe, overrides)
        return recipe

    def check_recipe(self, recipe: Recipe, overrides: Sequence[str] = ()) -> None:
        """Check that the weights fit a recipe; `overrides` are what made it.

        Raises:
            RecipeError: They do not.
        """
        then, now = (_fitting(one) for one in (self.settings.recipe, recipe))
        changed = [section for section in then if then[section] != now[section]]
        if recipe.calibration.left_out:
            changed.append("calibration.left_out")
        if changed:
            keys = [text for text in overrides if text.strip().startswith(tuple(changed))]
            raise RecipeError(
                f"The recipe must be that of {self.name}, which the training starts from, in ELA, "
                f"inputs and network, and leave no sources out. Received: "
                f"{', '.join(keys or changed)}. Leave it out, or train anew, without `initial`."
            )

    def weights(self) -> list[Any]:
        """Return the weights of the model, in the order of `build_model`."""
        return list(read_network(self.folder).get_weights())


def _fitting(recipe: Recipe) -> dict[str, Any]:
    """Return what weights depend on, by section."""
    values = recipe.model_dump(include={"ela", "input", "network"})
    for section, keys in FREE.items():
        for key in keys:
            values[section].pop(key, None)
    return values
