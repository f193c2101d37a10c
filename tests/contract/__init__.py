"""What our code and KubeSpawner rely on in Kubernetes, each statement a test.

Every test runs on the real API server first and then on the embedded one. Its docstring is the
statement. `embedded_excused` marks what the embedded cluster does not keep; docs/embedded.md is
made of these marks (``python -m tests.contract.docs``).
"""
