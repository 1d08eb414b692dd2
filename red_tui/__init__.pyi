"""Public names of red-tui, each with its home; `import red_tui` imports a home when one of its names is used."""

from .aggregation import strategies as strategies
from .aggregation.server import FederatedAggregator as FederatedAggregator, FederatedServer as FederatedServer
from .aggregation.strategies import Strategy as Strategy
from .checkpoints.sources import load_parameters as load_parameters
from .errors import (
    BuildError as BuildError,
    CheckpointError as CheckpointError,
    CommandRefused as CommandRefused,
    LayoutError as LayoutError,
    MessageError as MessageError,
    NameTaken as NameTaken,
    NotConnected as NotConnected,
    PlacementError as PlacementError,
    RedError as RedError,
    RoundError as RoundError,
    RunError as RunError,
    SelectionError as SelectionError,
    SessionError as SessionError,
    TopologyError as TopologyError,
)
from .federation.base import FederatedBase as FederatedBase, open_federations as open_federations
from .federation.schemas import (
    CustomFederatedLearningSchema as CustomFederatedLearningSchema,
    Federation as Federation,
    HierarchicalFederatedLearningSchema as HierarchicalFederatedLearningSchema,
    KConnectedFederatedLearningSchema as KConnectedFederatedLearningSchema,
    MeshFederatedLearningSchema as MeshFederatedLearningSchema,
    RingFederatedLearningSchema as RingFederatedLearningSchema,
    StarFederatedLearningSchema as StarFederatedLearningSchema,
)
from .federation.sessions import SessionResult as SessionResult
from .federation.state import FailurePolicy as FailurePolicy
from .messaging import Topology as Topology, TopologyRule as TopologyRule
from .messaging.mailbox import MailboxRule as MailboxRule
from .messaging.topology_actor import TopologyManager as TopologyManager
from .nodes.config import FederationConfig as FederationConfig
from .nodes.states import NodeState as NodeState
from .nodes.template import (
    EvaluateResult as EvaluateResult,
    FederatedNode as FederatedNode,
    FitResult as FitResult,
    Message as Message,
    Parameters as Parameters,
    remote as remote,
)
from .placement.build_plan import BuildPlan as BuildPlan
from .placement.groups import get_resources_split as get_resources_split
from .replay.verification import Verification as Verification, verify as verify
from .rounds.history import History as History, RoundResult as RoundResult
from .rounds.hooks import RoundHook as RoundHook, RunStart as RunStart
from .rounds.sampling import RoundSettings as RoundSettings
from .run_catalog.kept_run import Run as Run, RunSummary as RunSummary
from .run_catalog.run_comparison import RunComparison as RunComparison, compare as compare
from .run_catalog.run_list import runs as runs
from .runtime.virtual_node import VirtualNode as VirtualNode
from .supervisor.client import Client as Client
from .supervisor.launch import adopt as adopt, attach as attach, federations as federations, launch as launch

__version__: str
