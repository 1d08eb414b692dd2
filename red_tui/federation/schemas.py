"""Schemas: federations by the shape in which their nodes learn."""

from __future__ import annotations

from pathlib import Path

from red_tui.federation.base import FederatedBase


class StarFederatedLearningSchema(FederatedBase):
    """A server in the middle that aggregates, and clients that speak with it only."""

    schema = "star"


class Federation:
    """Makes federations from layouts."""

    @staticmethod
    def from_layout(layout: str | Path, *, working_dir: str | Path | None = None) -> FederatedBase:
        """A federation in this process, of the schema that the layout names.

        Args:
            layout: Path of a layout, or the name of one that red-tui ships.
            working_dir: Folder of the modules that the layout names; None: the layout's own folder.

        Raises:
            LayoutError: With file, line, column and field.
        """
        from red_tui.federation.layouts import spec_of
        from red_tui.layout import load, resolve

        path = resolve(layout)
        folder = Path(working_dir) if working_dir else path.resolve().parent
        schema, spec = spec_of(load(path), str(path), folder)
        return schema.from_spec(spec)
