"""The v1 API on the wire: what clients send and what the service answers, shared by API, command line and tests.

`requests` and `answers` hold the values of the protection service, `schedules` and `administration` the others,
`fields` the lenient field types, `envelope` what v1 wraps them in, `faults` the shape of errors.
"""
