"""The bundled templates, of which one scales, for tests."""

from pathlib import Path
from typing import Any

import yaml

from templates import BUNDLED


def write_scaled_templates(folder: Path, **scaling: Any) -> Path:
    """Write the bundled templates into the folder; support scales in staging. Return the folder."""
    for path in BUNDLED.glob("*.yaml"):
        template = yaml.safe_load(path.read_text())
        if template["name"] == "support" and scaling:
            template["environments"]["staging"]["scaling"] = scaling
        (folder / path.name).write_text(yaml.safe_dump(template))
    return folder
