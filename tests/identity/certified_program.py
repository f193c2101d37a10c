"""Where the certified OpenID Connect provider (npm: oidc-provider) is; keys as it takes them."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from jupyterhub_collab.cli.up.proxy import find_node, find_npm
from jupyterhub_collab.errors import UserError
from jupyterhub_collab.identity import jwks
from tests.identity.publishing import EC_KEY, RSA_KEY

FILES = Path(__file__).with_name("certified")
UNPROVED = "not proved that a certified OpenID Connect provider's tokens are believed"


def find_program(config):
    """Command that runs the provider; its packages are kept between runs."""
    lock = FILES / "package-lock.json"
    version = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    folder = config.cache.mkdir(f"oidc-provider-{version}")
    try:
        node = find_node()
        npm = find_npm(node)
    except UserError as e:
        pytest.skip(f"{e} ({UNPROVED})")
    if not (folder / "installed").exists():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(FILES / name, folder)
        done = subprocess.run(
            [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"npm could not install oidc-provider ({UNPROVED})")
        (folder / "installed").touch()
    shutil.copy(FILES / "server.mjs", folder)
    return [str(node), str(folder / "server.mjs")]


def private_jwk(key):
    kind = {RSA_KEY: RSAAlgorithm, EC_KEY: ECAlgorithm}.get(key, OKPAlgorithm)
    found = kind.to_jwk(key, as_dict=True)
    found.pop("key_ops", None)  # PyJWT says "sign" only; the set is published with it
    return {**found, "kid": jwks.thumbprint(key.public_key()), "use": "sig"}
