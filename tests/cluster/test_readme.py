from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import ray

README = Path(__file__).parents[2] / "README.md"


def test_the_script_in_the_readme_runs_as_it_stands(cluster: None, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    script = tmp_path / "script.py"
    script.write_text(found.group(1))
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "3 built" in done.stdout and "2 built" in done.stdout
