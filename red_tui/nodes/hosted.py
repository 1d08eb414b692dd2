"""A node inside a host: what it has of its own, and what it asks its host for."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any, cast

from red_tui.nodes.config import FederationConfig
from red_tui.nodes.node_log import NodeLog, NodeLogger
from red_tui.nodes.read_log import ReadLog
from red_tui.nodes.runtime import NodeRuntime, keeps_state
from red_tui.nodes.talk import Talk

if TYPE_CHECKING:
    from red_tui.nodes.host import Host


class HostedNode(NodeRuntime):
    """The framework's half of a node inside a host: what a node seldom needs is made when it is asked for."""

    red_host: Host
    red_group: int
    red_position: int

    @property
    def config(self) -> FederationConfig:
        """What the node is told."""
        made = self.__dict__.get("_config")
        if made is None:
            made = self.__dict__["_config"] = self.red_host.config_of(self.red_group, self.red_position)
        return cast("FederationConfig", made)

    @config.setter
    def config(self, value: FederationConfig) -> None:
        self.__dict__["_config"] = value

    @property
    def log(self) -> logging.Logger:
        """The node's logger; its last lines are kept from its first use on."""
        made = self.__dict__.get("_log")
        if made is None:
            # Not one of the logging module's own: those live for ever, and there may be thousands.
            made = NodeLogger(f"red_tui.node.{self.node_id}", logging.INFO)
            self._red_log = NodeLog()
            made.addHandler(self._red_log)
            self.__dict__["_log"] = made
        return cast("logging.Logger", made)

    @log.setter
    def log(self, value: logging.Logger) -> None:
        self.__dict__["_log"] = value

    def red_read_log(self) -> ReadLog:
        """The host's: its nodes live and die together."""
        return self.red_host.read_log

    def red_near(self, handle: Any) -> Talk | None:
        """The `Talk` of a node of the same host: messages between them do not leave the process."""
        return self.red_host.talk_of(handle)

    def red_detail(self) -> dict[str, Any]:
        """What only the host knows of the node."""
        captured = self.__dict__.get("_red_log")
        lines = [list(line) for line in captured.lines] if captured is not None else []
        return {"pid": os.getpid(), "host": socket.gethostname(), "log": lines}


def hosted_class(template: type, host: Host) -> type[HostedNode]:
    """The class of a template's nodes inside a host."""
    members = {"red_keeps_state": keeps_state(template), "red_host": host, "__module__": template.__module__}
    return cast("type[HostedNode]", type(template.__name__, (HostedNode, template), members))
