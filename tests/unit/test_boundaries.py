"""What may be imported by what, as the running interpreter sees it: deferred imports included."""

from __future__ import annotations

import subprocess
import sys

import pytest

import red_tui


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=True)
    return set(done.stdout.split())


def told_by(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=True).stdout


def test_importing_the_library_imports_neither_textual_nor_ray() -> None:
    loaded = modules_after("import red_tui as red")
    assert not loaded & {"ray", "textual", "numpy", "pydantic"}


def test_twenty_million_nodes_take_no_more_memory_than_their_columns() -> None:
    told = told_by(
        "import psutil, red_tui as red\n"
        "class C(red.FederatedNode): pass\n"
        "red.StarFederatedLearningSchema(C, ['train'] * 2)\n"
        "roles = ['train'] * 20_000_000\n"
        "before = psutil.Process().memory_info().rss\n"
        "fed = red.StarFederatedLearningSchema(C, roles)\n"
        "assert fed.num_nodes == 20_000_000\n"
        "print(psutil.Process().memory_info().rss - before)\n"
    )
    assert int(told) <= 900_000_000


def test_making_a_federation_of_a_million_needs_no_ray() -> None:
    loaded = modules_after(
        "import red_tui as red\n"
        "class C(red.FederatedNode): pass\n"
        "fed = red.StarFederatedLearningSchema(C, ['train'] * 1_000_000)\n"
        "assert fed.num_nodes == 1_000_000 and fed['client_999999'].state == 'virtual'\n"
        "assert len(fed.select('id:client_12*')) == 11111\n"
        "node = red.VirtualNode(C, 'client_1', 'train')\n"
        "assert not node.built"
    )
    assert "ray" not in loaded and "textual" not in loaded


def test_the_console_imports_no_ray() -> None:
    loaded = modules_after("import red_tui.console.run, red_tui.cli.main")
    assert "ray" not in loaded


def test_a_replay_imports_no_ray_in_its_link_and_no_textual_without_a_screen() -> None:
    loaded = modules_after(
        "import tempfile, pathlib, red_tui.link.replay_link\n"
        "from red_tui.protocol.events import Event\n"
        "from red_tui.journal.journal import Journal\n"
        "from red_tui.replay.replay_commands import open_replay\n"
        "path = pathlib.Path(tempfile.mkdtemp()) / 'journal.db'\n"
        "told = {'rows': [[0, 2]], 'state': 'ready', 'ids': ['server', 'client_0'], 'bundle': 0}\n"
        "Journal(path).append(Event(1, 1.0, 'node', 'info', 'x', 'ready', 'ready', told))\n"
        "opened = open_replay(str(path))\n"
        "assert opened.feed.watch(None, 0.0)['full'] and opened.verbs.command('graph', {})"
    )
    assert "ray" not in loaded and "textual" not in loaded


def test_a_worker_of_nodes_imports_no_networkx_and_nothing_of_the_federation() -> None:
    code = (
        "import sys, red_tui as red, red_tui.runtime.bundle_actor, red_tui.runtime.node_actor\n"
        "class Client(red.FederatedNode): pass\n"
        "red.FitResult({}, 1)\n"
        "print(*sorted(name for name in sys.modules if name.startswith(('networkx', 'red_tui.federation'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=True)
    assert done.stdout.split() == []


def test_a_federation_around_a_server_imports_no_networkx() -> None:
    code = (
        "import sys, red_tui as red, red_tui.supervisor.supervisor_actor, red_tui.cli.layout_check\n"
        "class Client(red.FederatedNode): pass\n"
        "fed = red.StarFederatedLearningSchema(Client, ['train'] * 3, {'federation_id': 'star'})\n"
        "assert fed.num_nodes == 3 and fed.topology.rule.name == 'star'\n"
        "print(*sorted(name for name in sys.modules if name.startswith('networkx')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", red_tui.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(red_tui, name) is not None
    assert name in dir(red_tui)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Federation2"):
        red_tui.Federation2  # noqa: B018
