"""Every error the service raises on purpose, as one tree.

    KarborError                       code                  HTTP  exit  retry
    ├── InvalidInput                  invalid_input          400    2    no
    │   └── UnsupportedOperation      unsupported_operation  400    2    no
    ├── NotAuthenticated              not_authenticated      401    3    no
    ├── Forbidden                     forbidden              403    3    no
    ├── NotFound                      not_found              404    4    no
    ├── Conflict                      conflict               409    5    no
    │   ├── Refused                   refused                409    5    no
    │   └── InUse                     in_use                 424    5    no
    ├── NotOffered                    not_offered            501    2    no
    ├── OverLimit                     over_limit             413    6    no
    ├── Unavailable                   unavailable            503    7    yes
    │   └── Timeout                   timeout                503    7    yes
    ├── BankError                     bank_error             503    8    yes
    │   ├── BankFull                  bank_full              503    8    no
    │   ├── BankForeign               bank_foreign           409    8    no
    │   ├── ObjectMissing             object_missing         500    9    no
    │   └── ObjectExists              object_exists          409    8    no
    ├── Damaged                       damaged                500    9    no
    ├── ResourceFailed                resource_failed        500   10    no
    ├── Cancelled                     cancelled              409   11    no
    ├── LeaseLost                     lease_lost             503    7    yes
    └── PluginError                   plugin_error           500   12    no

`code` is stable: clients may compare it, messages are for people. `retryable` tells the flow engine whether
trying again can help. `hint` says what the reader can do about it.
"""

from __future__ import annotations

from typing import ClassVar


class KarborError(Exception):
    """The root: something the service can explain."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field


class InvalidInput(KarborError):
    """What the caller sent is wrong; `field` names the part."""

    code, status, exit_code = "invalid_input", 400, 2


class UnsupportedOperation(InvalidInput):
    """The plugin of a resource does not offer the operation asked for."""

    code = "unsupported_operation"


class NotAuthenticated(KarborError):
    """No token, or one that is not valid."""

    code, status, exit_code = "not_authenticated", 401, 3


class Forbidden(KarborError):
    """The policy does not allow the caller to do this."""

    code, status, exit_code = "forbidden", 403, 3


class NotFound(KarborError):
    """No such thing, or it belongs to another project."""

    code, status, exit_code = "not_found", 404, 4


class Conflict(KarborError):
    """The thing is in a state that does not allow this."""

    code, status, exit_code = "conflict", 409, 5


class Refused(Conflict):
    """The pre-flight of an operation found a reason not to begin."""

    code = "refused"


class InUse(Conflict):
    """Something else still needs the thing; v1 answers so."""

    code, status = "in_use", 424


class NotOffered(KarborError):
    """The service cannot do this, whoever asks."""

    code, status, exit_code = "not_offered", 501, 2


class OverLimit(KarborError):
    """A quota or a size limit is exceeded."""

    code, status, exit_code = "over_limit", 413, 6


class Unavailable(KarborError):
    """Something that is needed does not answer now."""

    code, status, exit_code, retryable = "unavailable", 503, 7, True


class Timeout(Unavailable):
    """A deadline has passed."""

    code = "timeout"


class BankError(KarborError):
    """The bank failed for a reason that may pass."""

    code, status, exit_code, retryable = "bank_error", 503, 8, True


class BankFull(BankError):
    """The bank has no room; waiting does not help, an administrator does."""

    code, retryable = "bank_full", False


class BankForeign(BankError):
    """What lies at the bank's place is not ours, or its key is not."""

    code, status, retryable = "bank_foreign", 409, False


class ObjectMissing(BankError):
    """A bank object that must exist does not; `key` names it."""

    code, status, exit_code, retryable = "object_missing", 500, 9, False

    def __init__(self, key: str, *, hint: str = "") -> None:
        super().__init__(f"bank object {key} is missing", hint=hint)
        self.key = key


class ObjectExists(BankError):
    """A bank object that must be new exists with other content; `key` names it."""

    code, status, retryable = "object_exists", 409, False

    def __init__(self, key: str, *, hint: str = "") -> None:
        super().__init__(f"bank object {key} exists with other content", hint=hint)
        self.key = key


class Damaged(KarborError):
    """Bytes that were read back are not the bytes that were written; `key` names the bank object."""

    code, exit_code = "damaged", 9

    def __init__(self, key: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"bank object {key} is damaged: {reason}", hint=hint)
        self.key = key
        self.reason = reason


class ResourceFailed(KarborError):
    """A resource could not be protected, restored, verified or deleted, and trying again does not help."""

    code, exit_code = "resource_failed", 10


class Cancelled(KarborError):
    """The user cancelled the operation."""

    code, status, exit_code = "cancelled", 409, 11


class LeaseLost(KarborError):
    """This worker's claim has ended: whoever holds the step now goes on with it."""

    code, status, exit_code, retryable = "lease_lost", 503, 7, True


class PluginError(KarborError):
    """A plugin broke its contract: it raised something else, returned garbage or repeated a name."""

    code, exit_code = "plugin_error", 12
