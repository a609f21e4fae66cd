from __future__ import annotations

import os
import subprocess
import sys
import warnings

from routellm_core.providers.litellm import import_litellm


def test_only_the_first_import_touches_filters() -> None:
    import_litellm()
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=ImportWarning)
        before = list(warnings.filters)
        import_litellm()
        assert list(warnings.filters) == before


def test_the_environment_is_as_it_was() -> None:
    code = (
        "import os; from routellm_core.providers.litellm import import_litellm; import_litellm(); "
        "print('LITELLM_LOCAL_MODEL_COST_MAP' in os.environ)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "LITELLM_LOCAL_MODEL_COST_MAP"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    assert done.stdout.strip() == "False"
    assert "cost map" not in done.stderr
