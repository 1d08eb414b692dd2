"""What a federation and its nodes are told: an id and whatever further keys the user writes."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from red_tui.nodes.ids import check_id


class FederationConfig(BaseModel):
    """`federation_id` (also `FEDERATION_ID`) and further keys, which are kept and reach every node.

    Further keys read as attributes (`config.learning_rate`) or with `config.get("learning_rate", 0.1)`.

    Raises:
        pydantic.ValidationError: If `federation_id` cannot name actors.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    federation_id: str = Field(default="federation", validation_alias=AliasChoices("federation_id", "FEDERATION_ID"))

    @field_validator("federation_id")
    @classmethod
    def _names_actors(cls, value: str) -> str:
        return check_id(value, "federation id")

    @property
    def FEDERATION_ID(self) -> str:
        """The federation's id under its old name."""
        return self.federation_id

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or `default`."""
        return self.as_dict().get(key, default)

    def as_dict(self) -> dict[str, Any]:
        """All keys."""
        return self.model_dump()

    def updated(self, **keys: Any) -> FederationConfig:
        """A copy with some keys replaced or added."""
        return FederationConfig(**{**self.as_dict(), **keys})
