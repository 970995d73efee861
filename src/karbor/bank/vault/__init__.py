"""The vault: a repository of the restic format v2 in a bank, written and read by this package.

From the bottom up: `crypto` and `codec` turn bytes into sealed bytes, `wireformat` and `nodes` are the documents,
`pack`, `index`, `snapshot` and `locks` the objects, `repository` and `writer` what the rest of the service calls.
The format is described in restic's own design document (doc/design.rst of restic); what it leaves open is said
in the modules.
"""
