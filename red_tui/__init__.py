"""red-tui: a federation of virtual nodes on Ray.

`import red_tui as red` is all that a script needs.  It imports neither textual nor, until the first
verb that needs a cluster, ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from red_tui.errors import BuildError as BuildError
    from red_tui.errors import CommandRefused as CommandRefused
    from red_tui.errors import LayoutError as LayoutError
    from red_tui.errors import MessageError as MessageError
    from red_tui.errors import NameTaken as NameTaken
    from red_tui.errors import NotConnected as NotConnected
    from red_tui.errors import PlacementError as PlacementError
    from red_tui.errors import RedError as RedError
    from red_tui.errors import RoundError as RoundError
    from red_tui.errors import SelectionError as SelectionError
    from red_tui.errors import SessionError as SessionError
    from red_tui.errors import TopologyError as TopologyError
    from red_tui.federation.base import FederatedBase as FederatedBase
    from red_tui.federation.living import open_federations as open_federations
    from red_tui.federation.schemas import CustomFederatedLearningSchema as CustomFederatedLearningSchema
    from red_tui.federation.schemas import Federation as Federation
    from red_tui.federation.schemas import (
        HierarchicalFederatedLearningSchema as HierarchicalFederatedLearningSchema,
    )
    from red_tui.federation.schemas import KConnectedFederatedLearningSchema as KConnectedFederatedLearningSchema
    from red_tui.federation.schemas import MeshFederatedLearningSchema as MeshFederatedLearningSchema
    from red_tui.federation.schemas import RingFederatedLearningSchema as RingFederatedLearningSchema
    from red_tui.federation.schemas import StarFederatedLearningSchema as StarFederatedLearningSchema
    from red_tui.federation.sessions import SessionResult as SessionResult
    from red_tui.federation.state import FailurePolicy as FailurePolicy
    from red_tui.messaging import Topology as Topology
    from red_tui.messaging import TopologyRule as TopologyRule
    from red_tui.messaging.directory import TopologyManager as TopologyManager
    from red_tui.nodes.config import FederationConfig as FederationConfig
    from red_tui.nodes.mailbox import MailboxRule as MailboxRule
    from red_tui.nodes.mailbox import Message as Message
    from red_tui.nodes.states import NodeState as NodeState
    from red_tui.nodes.template import EvaluateResult as EvaluateResult
    from red_tui.nodes.template import FederatedNode as FederatedNode
    from red_tui.nodes.template import FitResult as FitResult
    from red_tui.nodes.template import Parameters as Parameters
    from red_tui.nodes.template import remote as remote
    from red_tui.nodes.virtual import VirtualNode as VirtualNode
    from red_tui.placement.groups import get_resources_split as get_resources_split
    from red_tui.placement.plan import BuildPlan as BuildPlan
    from red_tui.rounds import strategies as strategies
    from red_tui.rounds.aggregator import FederatedAggregator as FederatedAggregator
    from red_tui.rounds.history import History as History
    from red_tui.rounds.history import RoundResult as RoundResult
    from red_tui.rounds.sampling import RoundSettings as RoundSettings
    from red_tui.rounds.server import FederatedServer as FederatedServer
    from red_tui.rounds.strategies import Strategy as Strategy
    from red_tui.supervisor.client import Client as Client
    from red_tui.supervisor.launch import adopt as adopt
    from red_tui.supervisor.launch import attach as attach
    from red_tui.supervisor.launch import federations as federations
    from red_tui.supervisor.launch import launch as launch

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "BuildError CommandRefused LayoutError NameTaken NotConnected PlacementError RedError RoundError SelectionError"
        " TopologyError MessageError SessionError"
    ),
    "federation.base": "FederatedBase",
    "federation.living": "open_federations",
    "federation.schemas": (
        "Federation StarFederatedLearningSchema RingFederatedLearningSchema MeshFederatedLearningSchema"
        " KConnectedFederatedLearningSchema CustomFederatedLearningSchema HierarchicalFederatedLearningSchema"
    ),
    "federation.state": "FailurePolicy",
    "messaging": "Topology TopologyRule",
    "messaging.directory": "TopologyManager",
    "nodes.config": "FederationConfig",
    "federation.sessions": "SessionResult",
    "nodes.mailbox": "MailboxRule Message",
    "nodes.states": "NodeState",
    "nodes.template": "EvaluateResult FederatedNode FitResult Parameters remote",
    "nodes.virtual": "VirtualNode",
    "placement.groups": "get_resources_split",
    "placement.plan": "BuildPlan",
    "rounds.history": "History RoundResult",
    "rounds.sampling": "RoundSettings",
    "rounds.aggregator": "FederatedAggregator",
    "rounds.server": "FederatedServer",
    "rounds.strategies": "Strategy",
    "supervisor.client": "Client",
    "supervisor.launch": "adopt attach federations launch",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
_MODULES = {"strategies": "rounds.strategies"}

__all__ = sorted((*_HOME_OF, *_MODULES))  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME_OF and name not in _MODULES:
        raise AttributeError(f"module 'red_tui' has no attribute {name!r}")
    home = importlib.import_module(f"red_tui.{_MODULES.get(name) or _HOME_OF[name]}")
    value = home if name in _MODULES else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names."""
    return sorted({*globals(), *_HOME_OF, *_MODULES})
