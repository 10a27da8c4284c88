"""Every error that Evenkeel raises on purpose, and the exit code that each becomes on the command line.

    EvenkeelError            1   something went wrong; the message says what to do next
    ├── UsageError           2   an argument is not allowed
    │   └── RecipeError      2   a training setting is out of range
    ├── GateSaidNo           3   the candidate was refused or held
    ├── TooLittleData        4   not enough lessons to train or to judge
    ├── Busy                 5   a run is active, or the ledger is locked
    │   └── LostLease        5   somebody else took over this work
    └── ConfigurationError   6   a setting, a token or a file is missing or wrong
        ├── LedgerError      6   the ledger file is foreign, damaged, newer or not writable
        └── WeightsError     6   a base or an adapter is missing, damaged or foreign

A message names the thing, the value seen, what is allowed and the next step. None of them carries a secret.
"""


class EvenkeelError(Exception):
    """The root: caught once, at the door (command line, Slack listener, HTTP handler)."""

    exit_code = 1


class UsageError(EvenkeelError):
    exit_code = 2


class RecipeError(UsageError):
    """A recipe value that cannot work; the message names the value and the safe range."""


class GateSaidNo(EvenkeelError):
    exit_code = 3


class TooLittleData(EvenkeelError):
    exit_code = 4


class Busy(EvenkeelError):
    exit_code = 5


class LostLease(Busy):
    """This worker's lease ran out and another worker holds the row: stop, write nothing more."""


class ConfigurationError(EvenkeelError):
    exit_code = 6


class LedgerError(ConfigurationError):
    """The ledger file cannot be used as it is; nothing was changed in it."""


class WeightsError(ConfigurationError):
    """A base folder or an adapter is missing, damaged or made for another base."""
