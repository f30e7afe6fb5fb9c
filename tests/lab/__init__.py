"""A small site on one machine: isolated nodes, object storage, a tracker, and ways to break each of them.

`python -m tests.lab` runs the whole scenario and prints a transcript; `test_lab.py` holds the tests on top.

| module | what |
|---|---|
| `hosts.py` | where servers run: this machine's loopback, or anything else with the same few methods |
| `machines.py` | machines of their own: namespaces of network, processes, files and names |
| `s3.py`, `swift.py`, `stored.py` | an S3 server, how it is configured, and what lies in it |
| `servers.py`, `redis.py`, `recorded.py` | MLflow's tracking server, PostgreSQL, Redis; what MLflow has recorded |
| `lab.py`, `nodes.py`, `jobs.py` | all together: the site, its Ray nodes, and jobs that are submitted to it |
| `project.py` | what a person brings: videos, weights, a configuration |
| `leaks.py` | where a secret must not be found |
| `scenario.py` | everything in a row, with a node that is lost on the way |
"""
