"""Print what is installed beside this Python that Rowcast needs, as a CycloneDX 1.5 list of contents (SBOM)."""

from __future__ import annotations

import importlib.metadata as metadata
import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from licences import needed


def component(name: str) -> dict[str, object]:
    about = metadata.metadata(name).json
    version = str(about["version"])
    licence = str(about.get("license_expression") or about.get("license") or "").splitlines()[:1]
    made: dict[str, object] = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "bom-ref": f"pkg:pypi/{name}@{version}",
    }
    if licence:
        made["licenses"] = [{"license": {"name": licence[0]}}]
    return made


def main() -> None:
    own, *others = ["rowcast", *(name for name in needed("rowcast") if name != "rowcast")]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(own) | {"type": "application"},
        },
        "components": [component(name) for name in others],
    }
    print(json.dumps(bom, indent=1))


if __name__ == "__main__":
    main()
