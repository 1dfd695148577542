"""Writes templates/data/models.yaml from the catalogue of the OpenClaw that instances run.

    python scripts/models.py [--check]

OpenClaw has to be in .cache/openclaw: `OPENCLAW=1 make test ARGS="-k openclaw"` fetches it.
"""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from remediator.provisioning.cloudinit import SOFTWARE
from sandbox.process.openclaw import OpenClaw, present

FILE: Final = Path(__file__).parent.parent / "templates/data/models.yaml"
HEAD: Final = """\
# Models by provider, as the catalogue of the pinned OpenClaw has them: those that it knows, and those that it
# says are gone, with the one that it says to use instead. Written by scripts/models.py.
"""


def catalogue(program: OpenClaw) -> dict[str, dict[str, Any]]:
    """Return `models` (provider → names) and `retired` (provider → name → the one to use, or "")."""
    folder = program.home / "openclaw/node_modules/openclaw/dist/extensions"
    models: dict[str, set[str]] = {}
    retired: dict[str, dict[str, str]] = {}
    for path in folder.glob("*/openclaw.plugin.json"):
        content = json.loads(path.read_text(encoding="utf-8")).get("modelCatalog", {})
        for provider, facts in content.get("providers", {}).items():
            models.setdefault(provider, set()).update(model["id"] for model in facts.get("models", []))
        for fact in content.get("suppressions", []):
            if "when" not in fact:  # else it holds of some ways to the provider alone
                instead = re.search(r"\bUse [a-z-]+/([\w.-]+?)\.?(?: |$)", fact["reason"])
                gone = retired.setdefault(fact["provider"], {})
                gone[fact["model"]] = instead[1] if instead else ""
    return {
        "models": {provider: sorted(names) for provider, names in sorted(models.items()) if names},
        "retired": {provider: dict(sorted(names.items())) for provider, names in sorted(retired.items())},
    }


def main() -> int:
    """Write the file, or compare it (`--check`); return the exit code."""
    program = present()
    if program is None:
        print("OpenClaw is not in .cache/openclaw")
        return 2
    content = catalogue(program)
    before = yaml.safe_load(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    source = f"OpenClaw {SOFTWARE['OPENCLAW_VERSION']}"
    if before.get("source") == source and all(before.get(key) == value for key, value in content.items()):
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{FILE.name} differs from what {source} has: python scripts/models.py")
        return 1
    facts = {"as_of": f"{datetime.now(UTC):%Y-%m-%d}", "source": source, **content}
    FILE.write_text(HEAD + yaml.safe_dump(facts, sort_keys=False, width=118, default_flow_style=None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
