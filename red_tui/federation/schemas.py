"""Schemas: federations by the shape in which their nodes learn."""

from __future__ import annotations

from red_tui.federation.base import FederatedBase


class StarFederatedLearningSchema(FederatedBase):
    """A server in the middle that aggregates, and clients that speak with it only."""

    schema = "star"
