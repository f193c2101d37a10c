"""A real Kubernetes for tests, on one machine, without Docker.

Two levels. `api`: etcd, API server, controllers and scheduler on loopback, for anybody. `node`
(Linux, root): the same and a node with containerd, kubelet, kube-proxy, volumes and network
policies, in network, mount and process namespaces of its own. What is built, from what, and what
stays behind is told in ``docs/testing-cluster.md``.

Tests take the fixtures ``api_cluster`` and ``node_cluster`` of `tests.cluster.fixtures` and get a
`tests.cluster.cluster.Cluster`. People use ``python -m tests.cluster``.
"""
